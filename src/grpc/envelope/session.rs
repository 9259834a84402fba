//! Session: the id of the session that a message names, put together from its pieces.
//!
//! It lies in the walk itself: each message has one, and none costs an allocation.

/// The most octets of an id that is kept: those of a UUID as text, which is what Spark asks for.
const ID_MAX: usize = 36;

/// What a message has said so far of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    octets: [u8; ID_MAX],
    len: u8,
    is_too_long: bool,
}

impl Default for SessionId {
    fn default() -> Self {
        Self { octets: [0; ID_MAX], len: 0, is_too_long: false }
    }
}

impl SessionId {
    /// The message names its session, once more perhaps: the last one counts.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.is_too_long = false;
    }

    /// Octets of the id.
    pub(super) fn push(&mut self, octets: &[u8]) {
        let free = self.octets.get_mut(usize::from(self.len)..).unwrap_or_default();
        match free.get_mut(..octets.len()).zip(u8::try_from(octets.len()).ok()) {
            Some((place, len)) => {
                place.copy_from_slice(octets);
                self.len = self.len.saturating_add(len);
            }
            None => self.is_too_long = true,
        }
    }

    /// The id, if there is one that can be a session's.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        let id = self.octets.get(..usize::from(self.len))?;
        (!self.is_too_long && !id.is_empty()).then_some(id)
    }
}
