//! The prefix of a message: a compressed flag and a length (gRPC over HTTP/2). It may arrive in
//! parts.

/// Length of a prefix, in octets.
pub(crate) const PREFIX_LEN: usize = 5;

/// The received part of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessagePrefix {
    octets: [u8; PREFIX_LEN],
    count: usize,
}

impl MessagePrefix {
    /// Whether no octet has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes missing octets from the front. Returns their number.
    pub(crate) fn fill(&mut self, octets: &[u8]) -> usize {
        let places = self.octets.iter_mut().skip(self.count);
        let filled = places.zip(octets).map(|(place, octet)| *place = *octet).count();
        self.count = self.count.saturating_add(filled);
        filled
    }

    /// The compressed flag, once it has arrived.
    pub(crate) fn flag(&self) -> Option<u8> {
        self.octets.first().copied().filter(|_| self.count > 0)
    }

    /// The prefix, once it is complete.
    pub(crate) fn whole(&self) -> Option<[u8; PREFIX_LEN]> {
        (self.count == PREFIX_LEN).then_some(self.octets)
    }
}

/// The length of the message, in octets.
pub(crate) fn length([_, length @ ..]: [u8; PREFIX_LEN]) -> u32 {
    u32::from_be_bytes(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_complete_after_any_split() {
        for split in 0..=PREFIX_LEN {
            let (front, behind) = [1, 0, 0, 2, 3, 9].split_at(split);
            let mut prefix = MessagePrefix::default();
            assert_eq!(prefix.fill(front), split);
            assert_eq!(prefix.is_empty(), split == 0);
            assert_eq!(prefix.flag(), (split > 0).then_some(1));
            assert_eq!(prefix.fill(behind), PREFIX_LEN - split);
            assert_eq!(prefix.whole(), Some([1, 0, 0, 2, 3]));
            assert_eq!(prefix.whole().map(length), Some(515));
        }
    }
}
