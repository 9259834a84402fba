//! Conversions between integer types, and between ranges of one buffer.

use std::ops::Range;

/// A limit as a size in memory.
pub(super) fn usize_from(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// A range of the octets that were read, as a range of the buffer.
pub(super) fn shift(from: usize, octets: &Range<usize>) -> Range<usize> {
    octets.start.saturating_add(from)..octets.end.saturating_add(from)
}

pub(super) fn u64_from(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}
