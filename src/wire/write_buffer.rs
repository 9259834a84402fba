//! The write buffer of one connection.
//!
//! Control frames, header blocks and short DATA are copied into one owned buffer. Long DATA is
//! *borrowed*: it stays in the read buffer, and the write buffer keeps its range for a vectored
//! write. Octets that the socket does not accept are copied before the read buffer is reused.
//!
//! No I/O: the proxy writes, and reports the number of written octets.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;
use std::rc::Rc;

use crate::wire::frame::HEADER_LEN;
use crate::wire::memory::ThreadMemory;

/// Maximum number of slices of one vectored write.
pub const SLICES_MAX: usize = 32;

/// [`WriteBuffer::shrink`] frees the written octets in front of unwritten ones above this number.
const WRITTEN_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Owned(Range<usize>),
    Borrowed(Range<usize>),
}

impl Segment {
    fn octets<'a>(&self, owned: &'a [u8], read_buffer: &'a [u8]) -> &'a [u8] {
        let octets = match self {
            Self::Owned(range) => owned.get(range.clone()),
            Self::Borrowed(range) => read_buffer.get(range.clone()),
        };
        octets.unwrap_or_default()
    }
}

/// Unwritten octets of one connection, in order.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    memory: Rc<ThreadMemory>,
    owned: Vec<u8>,
    /// The octets in front of the tail.
    segments: VecDeque<Segment>,
    /// Start of the tail in `owned`: the octets behind all segments.
    tail_start: usize,
    len: usize,
    /// Octets written so far.
    written: u64,
}

impl WriteBuffer {
    /// An empty write buffer, which allocates from `memory`.
    #[must_use]
    pub fn new(memory: Rc<ThreadMemory>) -> Self {
        let (owned, segments) = (Vec::new(), VecDeque::new());
        Self { memory, owned, segments, tail_start: 0, len: 0, written: 0 }
    }

    pub(in crate::wire) fn memory(&self) -> &Rc<ThreadMemory> {
        &self.memory
    }

    /// Unwritten octets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The offset of the next octet in the output of the connection. All octets pushed so far are
    /// written once [`WriteBuffer::written`] reaches it.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.written.saturating_add(u64::try_from(self.len).unwrap_or(u64::MAX))
    }

    /// Octets written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether no octets are unwritten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any unwritten octets are in the read buffer.
    #[must_use]
    pub fn has_borrowed(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Borrowed(_)))
    }

    /// Appends a copy of octets.
    pub fn push_copy(&mut self, octets: &[u8]) {
        self.owned_mut().extend_from_slice(octets);
        self.len = self.len.saturating_add(octets.len());
    }

    /// Appends a copy of a frame: its header, and a payload in two parts, either of which may be
    /// empty.
    pub fn push_frame(&mut self, header: [u8; HEADER_LEN], [first, second]: [&[u8]; 2]) {
        let total = HEADER_LEN.saturating_add(first.len()).saturating_add(second.len());
        let owned = self.owned_mut();
        owned.extend_from_slice(&header);
        owned.extend_from_slice(first);
        if !second.is_empty() {
            owned.extend_from_slice(second);
        }
        self.len = self.len.saturating_add(total);
    }

    /// The owned buffer, allocated on first use.
    #[inline]
    fn owned_mut(&mut self) -> &mut Vec<u8> {
        if self.owned.capacity() == 0 {
            self.allocate();
        }
        &mut self.owned
    }

    #[cold]
    fn allocate(&mut self) {
        self.owned = self.memory.take_buffer();
    }

    /// Appends a range of the read buffer without a copy.
    pub fn push_borrowed(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len = self.len.saturating_add(range.len());
        self.close_tail();
        match self.segments.back_mut() {
            Some(Segment::Borrowed(last)) if last.end == range.start => last.end = range.end,
            Some(Segment::Borrowed(_) | Segment::Owned(_)) | None => {
                self.segments.push_back(Segment::Borrowed(range))
            }
        }
    }

    /// Makes the tail a segment, so that a borrowed segment can follow.
    fn close_tail(&mut self) {
        let end = self.owned.len();
        if end > self.tail_start {
            self.segments.push_back(Segment::Owned(self.tail_start..end));
            self.tail_start = end;
        }
    }

    /// The unwritten slices, in order.
    fn segment_slices<'a>(&'a self, read_buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let tail = self.owned.get(self.tail_start..).filter(|tail| !tail.is_empty());
        self.segments.iter().map(|segment| segment.octets(&self.owned, read_buffer)).chain(tail)
    }

    /// All unwritten octets, if they are one slice of the owned buffer.
    #[must_use]
    pub fn single_slice(&self) -> Option<&[u8]> {
        if self.segments.is_empty() { self.owned.get(self.tail_start..) } else { None }
    }

    /// Fills `into` with the first unwritten slices. Returns the number of slices.
    pub fn io_slices<'a>(
        &'a self,
        read_buffer: &'a [u8],
        into: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> usize {
        let mut filled = 0_usize;
        for (octets, slot) in self.segment_slices(read_buffer).zip(into.iter_mut()) {
            *slot = IoSlice::new(octets);
            filled = filled.saturating_add(1);
        }
        filled
    }

    /// Removes the first `written` octets: the socket has accepted them.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.min(self.len);
        self.written = self.written.saturating_add(u64::try_from(left).unwrap_or(0));
        self.len = self.len.saturating_sub(left);
        if self.len == 0 {
            self.tail_start = 0;
            self.segments.clear();
            return self.memory.recycle(mem::take(&mut self.owned));
        }
        while left > 0 {
            let Some(Segment::Owned(range) | Segment::Borrowed(range)) = self.segments.front_mut()
            else {
                break;
            };
            let taken = left.min(range.len());
            range.start = range.start.saturating_add(taken);
            left = left.saturating_sub(taken);
            if range.start >= range.end {
                self.segments.pop_front();
            }
        }
        self.tail_start = self.tail_start.saturating_add(left);
    }

    /// Copies the borrowed segments. The read buffer may be reused afterwards.
    pub fn copy_borrowed(&mut self, read_buffer: &[u8]) {
        if !self.has_borrowed() {
            return;
        }
        let owned = self.to_vec(read_buffer);
        self.memory.recycle(mem::replace(&mut self.owned, owned));
        self.segments.clear();
        self.tail_start = 0;
    }

    /// Frees memory that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.segments = VecDeque::new();
        } else if !self.has_borrowed() && self.owned.len().saturating_sub(self.len) > WRITTEN_MAX {
            self.owned = self.to_vec(&[]);
            self.segments = VecDeque::new();
            self.tail_start = 0;
        }
    }

    /// A copy of all unwritten octets.
    #[must_use]
    pub fn to_vec(&self, read_buffer: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        self.segment_slices(read_buffer).for_each(|octets| all.extend_from_slice(octets));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> WriteBuffer {
        let mut out = WriteBuffer::default();
        out.push_copy(b"ab");
        out.push_borrowed(0..3);
        out.push_borrowed(3..5);
        out.push_copy(b"cd");
        out
    }

    #[test]
    fn order_is_kept_and_adjacent_ranges_are_one_slice() {
        let out = filled();
        let mut slices = [IoSlice::new(b""); SLICES_MAX];
        assert_eq!(out.io_slices(b"12345", &mut slices), 3);
        assert_eq!(out.single_slice(), None);
        assert_eq!(out.to_vec(b"12345"), b"ab12345cd");
    }

    #[test]
    fn an_empty_write_buffer_passes_its_memory_to_the_next_one_without_its_octets() {
        let mut one = filled();
        let mut other = WriteBuffer::new(Rc::clone(&one.memory));
        let memory = one.owned.as_ptr();
        one.advance(one.len());
        assert_eq!(one.owned.capacity(), 0);
        other.push_copy(b"x");
        assert_eq!((other.owned.as_ptr(), other.to_vec(b"")), (memory, b"x".to_vec()));
        one.push_copy(b"y");
        assert_eq!((one.to_vec(b""), other.to_vec(b"")), (b"y".to_vec(), b"x".to_vec()));
        assert_eq!((one.single_slice(), other.single_slice()), (Some(&b"y"[..]), Some(&b"x"[..])));
    }

    #[test]
    fn shrinking_frees_the_written_octets_in_front_of_unwritten_ones() {
        let mut out = WriteBuffer::default();
        out.push_copy(&[1; 200_000]);
        out.advance(150_000);
        out.shrink();
        assert!(out.owned.capacity() < 60_000);
        out.push_copy(b"z");
        assert_eq!(out.to_vec(b""), [&[1; 50_000][..], b"z"].concat());
    }

    #[test]
    fn written_octets_are_removed_at_any_split() {
        for written in 0..=9 {
            let mut out = filled();
            out.advance(written);
            assert_eq!(out.to_vec(b"12345"), b"ab12345cd"[written..]);
            assert_eq!(out.len(), 9 - written);
            out.copy_borrowed(b"12345");
            assert_eq!(out.to_vec(b"xxxxx"), b"ab12345cd"[written..]);
        }
    }
}
