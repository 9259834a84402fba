//! Buffer: octets that wait to be forwarded. They are appended at the end and taken from the front.
//!
//! It reports the memory that it holds, and releases it: all of it when the buffer is empty, and
//! most of it when the buffer is nearly empty.

use std::ops::{Deref, DerefMut};

/// Memory in octets that is kept regardless of the length.
const KEPT: usize = 32 * 1024;
/// Greatest ratio of memory to length beyond `KEPT`.
const KEPT_TIMES: usize = 4;
/// Memory grows by at least this fraction of itself, and is not doubled: many buffers become full
/// with little more than half of the largest window.
const GROWTH_PART: usize = 4;

/// Octets that wait to be forwarded.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    octets: Vec<u8>,
    /// The offset of the first octet that has not been taken.
    start: usize,
}

impl Buffer {
    /// Appends octets.
    pub(crate) fn push(&mut self, more: &[u8]) {
        if more.len() > self.free() && self.start >= self.len() {
            // At most once each time that as many octets were taken from the front.
            self.octets.drain(..self.start);
            self.start = 0;
        }
        if more.len() > self.free() {
            let wanted = more.len().max(self.memory() / GROWTH_PART);
            self.octets.reserve_exact(wanted);
        }
        self.octets.extend_from_slice(more);
    }

    fn free(&self) -> usize {
        self.octets.capacity().saturating_sub(self.octets.len())
    }

    /// Removes octets from the front.
    pub(crate) fn advance(&mut self, octets: usize) {
        self.start = self.start.saturating_add(octets);
        let left = self.len();
        if left == 0 {
            *self = Self::default();
        } else if self.memory() > KEPT.max(left.saturating_mul(KEPT_TIMES)) {
            *self = Self { octets: self.to_vec(), start: 0 };
        }
    }

    /// Memory in octets, including unused capacity.
    pub(crate) fn memory(&self) -> usize {
        self.octets.capacity()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn octets_come_out_in_order_and_memory_is_limited_by_the_length(
            steps in prop::collection::vec((0_usize..40_000, 0_usize..60_000), 0..20),
        ) {
            let (mut buffer, mut model) = (Buffer::default(), VecDeque::new());
            for (at, (more, taken)) in (0_u8..).zip(steps) {
                let more = vec![at; more];
                buffer.push(&more);
                model.extend(more);
                prop_assert_eq!(&*buffer, &*model.make_contiguous());
                let taken = taken.min(model.len());
                buffer.advance(taken);
                model.drain(..taken);
                prop_assert!(buffer.memory() <= KEPT.max(buffer.len() * KEPT_TIMES));
            }
            prop_assert_eq!(&*buffer, &*model.make_contiguous());
        }
    }

    #[test]
    fn an_empty_buffer_holds_no_memory_and_a_nearly_empty_one_little() {
        let mut buffer = Buffer::default();
        buffer.push(&[7; 1 << 20]);
        buffer.advance((1 << 20) - 1);
        assert!(buffer.memory() <= KEPT, "{}", buffer.memory());
        buffer.advance(1);
        assert_eq!((buffer.len(), buffer.memory()), (0, 0));
    }
}
