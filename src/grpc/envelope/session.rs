//! The session id of a message, assembled from parts without an allocation.

/// Maximum length of an id, in octets: a UUID as text, the format that Spark requires.
const ID_MAX: usize = 36;

/// The received part of a session id.
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
    /// Starts a new id: the last one of a message counts.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.is_too_long = false;
    }

    /// Appends octets.
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

    /// The id, unless it is empty or too long.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        let id = self.octets.get(..usize::from(self.len))?;
        (!self.is_too_long && !id.is_empty()).then_some(id)
    }
}
