//! Message boundaries in a stream of gRPC messages.

use crate::grpc::prefix::{self, MessagePrefix, PREFIX_LEN};

/// The position in a stream of messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageBoundary {
    /// The received part of an incomplete prefix.
    prefix: MessagePrefix,
    /// Octets of the message still to come.
    left: u32,
}

impl MessageBoundary {
    /// Whether the last message is complete, and no octet of the next one has arrived.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.prefix.is_empty() && self.left == 0
    }

    /// Advances over all octets.
    pub fn skip(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let taken = self.skip_message(octets);
            octets = octets.get(taken..).unwrap_or_default();
        }
    }

    /// Advances to the end of the current message at most. Returns the number of octets.
    pub fn skip_message(&mut self, octets: &[u8]) -> usize {
        let mut rest = octets;
        if self.left == 0 {
            let Some(whole) = self.whole_prefix(&mut rest) else { return octets.len() };
            self.left = prefix::length(whole);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken = rest.len().min(left);
        self.left = self.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        octets.len().saturating_sub(rest.len()).saturating_add(taken)
    }

    /// Reads a prefix, or the rest of one, from the front. `None`: it is incomplete.
    fn whole_prefix(&mut self, rest: &mut &[u8]) -> Option<[u8; PREFIX_LEN]> {
        if let (true, Some((whole, behind))) = (self.prefix.is_empty(), rest.split_first_chunk()) {
            // The common case.
            *rest = behind;
            return Some(*whole);
        }
        let filled = self.prefix.fill(rest);
        *rest = rest.get(filled..).unwrap_or_default();
        let whole = self.prefix.whole()?;
        self.prefix = MessagePrefix::default();
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(lengths: &[u16]) -> Vec<u8> {
        let message = |length: &u16| {
            let mut message = vec![0];
            message.extend(u32::from(*length).to_be_bytes());
            message.resize(message.len() + usize::from(*length), 7);
            message
        };
        lengths.iter().flat_map(message).collect()
    }

    proptest! {
        #[test]
        fn message_boundaries_are_found_in_any_split(
            lengths in proptest::collection::vec(0_u16..40, 0..20),
            piece in 1_usize..50,
        ) {
            let whole = stream(&lengths);
            let mut ends = vec![0];
            for length in &lengths {
                ends.push(ends.last().unwrap() + 5 + usize::from(*length));
            }
            let (mut boundary, mut at) = (MessageBoundary::default(), 0);
            for chunk in whole.chunks(piece) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let taken = boundary.skip_message(rest);
                    rest = &rest[taken..];
                    at += taken;
                    prop_assert_eq!(boundary.is_at_boundary(), ends.contains(&at), "at {}", at);
                }
            }
            let mut passed = MessageBoundary::default();
            passed.skip(&whole);
            prop_assert!(passed.is_at_boundary());
        }
    }
}
