//! Poll epoch: an identity for each poll of a connection's task.

/// One poll of one connection's task. No two of a thread are equal, and none is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PollEpoch(u64);

impl PollEpoch {
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
