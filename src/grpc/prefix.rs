//! Prefix: the five octets in front of every message, a flag and a length (gRPC over HTTP/2). They
//! may come in parts.

/// Octets of a prefix.
pub(crate) const PREFIX_LEN: usize = 5;

/// What has come of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessagePrefix {
    octets: [u8; PREFIX_LEN],
    count: usize,
}

impl MessagePrefix {
    /// Whether nothing of it has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes octets from the front, as many as are missing. Says how many.
    pub(crate) fn fill(&mut self, octets: &[u8]) -> usize {
        let places = self.octets.iter_mut().skip(self.count);
        let filled = places.zip(octets).map(|(place, octet)| *place = *octet).count();
        self.count = self.count.saturating_add(filled);
        filled
    }

    /// The compressed flag, once it has come.
    pub(crate) fn flag(&self) -> Option<u8> {
        self.octets.first().copied().filter(|_| self.count > 0)
    }

    /// All of it, once it is whole.
    pub(crate) fn whole(&self) -> Option<[u8; PREFIX_LEN]> {
        (self.count == PREFIX_LEN).then_some(self.octets)
    }
}

/// How many octets the message behind a prefix has.
pub(crate) fn length([_, length @ ..]: [u8; PREFIX_LEN]) -> u32 {
    u32::from_be_bytes(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_same_in_whatever_parts_it_comes() {
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
