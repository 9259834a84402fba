//! Outbox: what is to be written to one peer, in order.
//!
//! Small things (control frames, header blocks, short DATA) are copied next to each other. Long
//! DATA is *lent*: it stays in the read buffer it came in, and only its place is remembered, so
//! that one vectored write sends it from there. What the socket does not take is kept by copying
//! before the read buffer is used again.
//!
//! Must never do I/O: the proxy writes, and says how far it came.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use crate::wire::frame::HEADER_LEN;

/// Slices that one write takes at most.
pub const SLICES_MAX: usize = 32;

/// Octets of memory that an outbox begins with, if no other one has left any.
const CAPACITY_MIN: usize = 4 * 1024;
/// Octets of memory, at most, that an outbox leaves to others when it is empty.
const RECYCLED_CAPACITY_MAX: usize = 32 * 1024;
/// How many such pieces of memory a thread keeps.
const RECYCLED_MAX: usize = 4;

thread_local! {
    /// Memory of outboxes that are empty. The one that was left last is in the processor's cache.
    static RECYCLED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Owned(Range<usize>),
    Borrowed(Range<usize>),
}

impl Segment {
    fn octets<'a>(&self, own: &'a [u8], lent: &'a [u8]) -> &'a [u8] {
        let octets = match self {
            Self::Owned(range) => own.get(range.clone()),
            Self::Borrowed(range) => lent.get(range.clone()),
        };
        octets.unwrap_or_default()
    }
}

/// What is to be written to one peer.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    owned: Vec<u8>,
    /// What comes before the tail.
    segments: VecDeque<Segment>,
    /// Where in `own` that begins which comes last.
    tail_start: usize,
    len: usize,
    /// Octets that were written so far.
    written: u64,
}

impl WriteBuffer {
    /// Octets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where in all that ever goes out the next octet will stand. What was added before has left
    /// once [`Outbox::written`] reaches it.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.written.saturating_add(u64::try_from(self.len).unwrap_or(u64::MAX))
    }

    /// Octets that were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether anything that waits still lies in the read buffer.
    #[must_use]
    pub fn has_borrowed(&self) -> bool {
        self.segments.iter().any(|part| matches!(part, Segment::Borrowed(_)))
    }

    /// Adds octets by copying.
    pub fn push_copy(&mut self, octets: &[u8]) {
        self.owned_mut().extend_from_slice(octets);
        self.len = self.len.saturating_add(octets.len());
    }

    /// Adds a frame by copying: its head, and a payload in two pieces, of which either may be
    /// empty.
    pub fn push_frame(&mut self, head: [u8; HEADER_LEN], [front, behind]: [&[u8]; 2]) {
        let all = HEADER_LEN.saturating_add(front.len()).saturating_add(behind.len());
        let own = self.owned_mut();
        own.extend_from_slice(&head);
        own.extend_from_slice(front);
        if !behind.is_empty() {
            own.extend_from_slice(behind);
        }
        self.len = self.len.saturating_add(all);
    }

    /// Where octets are copied to.
    #[inline]
    fn owned_mut(&mut self) -> &mut Vec<u8> {
        if self.owned.capacity() == 0 {
            self.allocate();
        }
        &mut self.owned
    }

    #[cold]
    fn allocate(&mut self) {
        let spare = RECYCLED.with_borrow_mut(Vec::pop);
        self.owned = spare.unwrap_or_else(|| Vec::with_capacity(CAPACITY_MIN));
    }

    /// Adds a range of the read buffer without copying it.
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

    /// What follows does not come right behind the tail.
    fn close_tail(&mut self) {
        let end = self.owned.len();
        if end > self.tail_start {
            self.segments.push_back(Segment::Owned(self.tail_start..end));
            self.tail_start = end;
        }
    }

    /// The slices that wait, in order; `lent` is the read buffer.
    fn segment_slices<'a>(&'a self, lent: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let tail = self.owned.get(self.tail_start..).filter(|tail| !tail.is_empty());
        self.segments.iter().map(|part| part.octets(&self.owned, lent)).chain(tail)
    }

    /// Everything that waits, if it lies in one place of our own and not in the read buffer.
    #[must_use]
    pub fn single_slice(&self) -> Option<&[u8]> {
        if self.segments.is_empty() { self.owned.get(self.tail_start..) } else { None }
    }

    /// The first slices that wait; `lent` is the read buffer. Returns how many were filled in.
    pub fn io_slices<'a>(&'a self, lent: &'a [u8], into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut filled = 0_usize;
        for (octets, slot) in self.segment_slices(lent).zip(into.iter_mut()) {
            *slot = IoSlice::new(octets);
            filled = filled.saturating_add(1);
        }
        filled
    }

    /// So many octets were written.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.min(self.len);
        self.written = self.written.saturating_add(u64::try_from(left).unwrap_or(0));
        self.len = self.len.saturating_sub(left);
        if self.len == 0 {
            self.tail_start = 0;
            self.segments.clear();
            return recycle(mem::take(&mut self.owned));
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

    /// Copies what still lies in the read buffer, which may then be used again.
    pub fn copy_borrowed(&mut self, lent: &[u8]) {
        if !self.has_borrowed() {
            return;
        }
        let own = self.to_vec(lent);
        recycle(mem::replace(&mut self.owned, own));
        self.segments.clear();
        self.tail_start = 0;
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.segments = VecDeque::new();
        } else if !self.has_borrowed() && self.owned.len().saturating_sub(self.len) > 65_536 {
            self.owned = self.to_vec(&[]);
            self.segments = VecDeque::new();
            self.tail_start = 0;
        }
    }

    /// Everything that waits, in order.
    #[must_use]
    pub fn to_vec(&self, lent: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        self.segment_slices(lent).for_each(|octets| all.extend_from_slice(octets));
        all
    }
}

/// Leaves memory to the next outbox of this thread that needs some.
fn recycle(mut own: Vec<u8>) {
    own.clear();
    if own.capacity() == 0 || own.capacity() > RECYCLED_CAPACITY_MAX {
        return;
    }
    RECYCLED.with_borrow_mut(|spares| {
        if spares.len() < RECYCLED_MAX {
            spares.push(own);
        }
    });
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
    fn order_is_kept_and_neighbours_are_one_slice() {
        let out = filled();
        let mut slices = [IoSlice::new(b""); SLICES_MAX];
        assert_eq!(out.io_slices(b"12345", &mut slices), 3);
        assert_eq!(out.single_slice(), None);
        assert_eq!(out.to_vec(b"12345"), b"ab12345cd");
    }

    #[test]
    fn memory_goes_from_an_empty_outbox_to_the_next_one_and_takes_nothing_along() {
        let (mut one, mut other) = (filled(), WriteBuffer::default());
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
    fn what_waits_for_long_gives_back_what_was_written_of_it() {
        let mut out = WriteBuffer::default();
        out.push_copy(&[1; 200_000]);
        out.advance(150_000);
        out.shrink();
        assert!(out.owned.capacity() < 60_000);
        out.push_copy(b"z");
        assert_eq!(out.to_vec(b""), [&[1; 50_000][..], b"z"].concat());
    }

    #[test]
    fn what_was_written_is_gone_wherever_the_write_ended() {
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
