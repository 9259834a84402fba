//! Session: the id of the session that a message names, put together from its pieces.

/// The most octets of an id that is kept: those of a UUID as text, which is what Spark asks for.
const ID_MAX: usize = 36;

/// What a message has said so far of its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    octets: Vec<u8>,
    is_too_long: bool,
}

impl Session {
    /// The message names its session, once more perhaps: the last one counts.
    pub(super) fn begin(&mut self) {
        self.octets.clear();
        self.is_too_long = false;
    }

    /// Octets of the id.
    pub(super) fn push(&mut self, octets: &[u8]) {
        if self.octets.len().saturating_add(octets.len()) > ID_MAX {
            self.is_too_long = true;
        } else {
            self.octets.extend_from_slice(octets);
        }
    }

    /// The id, if there is one that can be a session's.
    pub(super) fn id(&self) -> Option<&[u8]> {
        (!self.is_too_long && !self.octets.is_empty()).then_some(&self.octets)
    }
}
