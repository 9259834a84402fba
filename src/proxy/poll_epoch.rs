/// One turn of one connection's task. No two of a thread are equal, and none is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PollEpoch(u64);

impl PollEpoch {
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
