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

use crate::wire::frame::HEAD;

/// Slices that one write takes at most.
pub const SLICES_MAX: usize = 32;

/// Octets of memory that an outbox begins with, if no other one has left any.
const OWN_MIN: usize = 4 * 1024;
/// Octets of memory, at most, that an outbox leaves to others when it is empty.
const SPARE_MAX: usize = 32 * 1024;
/// How many such pieces of memory a thread keeps.
const SPARES_MAX: usize = 4;

thread_local! {
    /// Memory of outboxes that are empty. The one that was left last is in the processor's cache.
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Own(Range<usize>),
    Lent(Range<usize>),
}

impl Part {
    fn octets<'a>(&self, own: &'a [u8], lent: &'a [u8]) -> &'a [u8] {
        let octets = match self {
            Self::Own(range) => own.get(range.clone()),
            Self::Lent(range) => lent.get(range.clone()),
        };
        octets.unwrap_or_default()
    }
}

/// What is to be written to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    own: Vec<u8>,
    /// What comes before the tail.
    parts: VecDeque<Part>,
    /// Where in `own` that begins which comes last.
    tail: usize,
    len: usize,
    /// Octets that were written so far.
    written: u64,
}

impl Outbox {
    /// Octets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where in all that ever goes out the next octet will stand. What was added before has left
    /// once [`Outbox::written`] reaches it.
    #[must_use]
    pub fn end(&self) -> u64 {
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
    pub fn has_lent(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Lent(_)))
    }

    /// Adds octets by copying.
    pub fn copy(&mut self, octets: &[u8]) {
        self.memory().extend_from_slice(octets);
        self.len = self.len.saturating_add(octets.len());
    }

    /// Adds a frame by copying: its head, and a payload in two pieces, of which either may be
    /// empty.
    pub fn frame(&mut self, head: [u8; HEAD], [front, behind]: [&[u8]; 2]) {
        let all = HEAD.saturating_add(front.len()).saturating_add(behind.len());
        let own = self.memory();
        own.extend_from_slice(&head);
        own.extend_from_slice(front);
        if !behind.is_empty() {
            own.extend_from_slice(behind);
        }
        self.len = self.len.saturating_add(all);
    }

    /// Where octets are copied to.
    #[inline]
    fn memory(&mut self) -> &mut Vec<u8> {
        if self.own.capacity() == 0 {
            self.borrow_memory();
        }
        &mut self.own
    }

    #[cold]
    fn borrow_memory(&mut self) {
        let spare = SPARES.with_borrow_mut(Vec::pop);
        self.own = spare.unwrap_or_else(|| Vec::with_capacity(OWN_MIN));
    }

    /// Adds a range of the read buffer without copying it.
    pub fn lend(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len = self.len.saturating_add(range.len());
        self.end_tail();
        match self.parts.back_mut() {
            Some(Part::Lent(last)) if last.end == range.start => last.end = range.end,
            Some(Part::Lent(_) | Part::Own(_)) | None => self.parts.push_back(Part::Lent(range)),
        }
    }

    /// What follows does not come right behind the tail.
    fn end_tail(&mut self) {
        let end = self.own.len();
        if end > self.tail {
            self.parts.push_back(Part::Own(self.tail..end));
            self.tail = end;
        }
    }

    /// The slices that wait, in order; `lent` is the read buffer.
    fn all<'a>(&'a self, lent: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let tail = self.own.get(self.tail..).filter(|tail| !tail.is_empty());
        self.parts.iter().map(|part| part.octets(&self.own, lent)).chain(tail)
    }

    /// Everything that waits, if it lies in one place of our own and not in the read buffer.
    #[must_use]
    pub fn single(&self) -> Option<&[u8]> {
        if self.parts.is_empty() { self.own.get(self.tail..) } else { None }
    }

    /// The first slices that wait; `lent` is the read buffer. Returns how many were filled in.
    pub fn slices<'a>(&'a self, lent: &'a [u8], into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut filled = 0_usize;
        for (octets, slot) in self.all(lent).zip(into.iter_mut()) {
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
            self.tail = 0;
            self.parts.clear();
            return leave(mem::take(&mut self.own));
        }
        while left > 0 {
            let Some(Part::Own(range) | Part::Lent(range)) = self.parts.front_mut() else { break };
            let taken = left.min(range.len());
            range.start = range.start.saturating_add(taken);
            left = left.saturating_sub(taken);
            if range.start >= range.end {
                self.parts.pop_front();
            }
        }
        self.tail = self.tail.saturating_add(left);
    }

    /// Copies what still lies in the read buffer, which may then be used again.
    pub fn keep(&mut self, lent: &[u8]) {
        if !self.has_lent() {
            return;
        }
        let own = self.to_vec(lent);
        leave(mem::replace(&mut self.own, own));
        self.parts.clear();
        self.tail = 0;
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.parts = VecDeque::new();
        } else if !self.has_lent() && self.own.len().saturating_sub(self.len) > 65_536 {
            self.own = self.to_vec(&[]);
            self.parts = VecDeque::new();
            self.tail = 0;
        }
    }

    /// Everything that waits, in order.
    #[must_use]
    pub fn to_vec(&self, lent: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        self.all(lent).for_each(|octets| all.extend_from_slice(octets));
        all
    }
}

/// Leaves memory to the next outbox of this thread that needs some.
fn leave(mut own: Vec<u8>) {
    own.clear();
    if own.capacity() == 0 || own.capacity() > SPARE_MAX {
        return;
    }
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARES_MAX {
            spares.push(own);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Outbox {
        let mut out = Outbox::default();
        out.copy(b"ab");
        out.lend(0..3);
        out.lend(3..5);
        out.copy(b"cd");
        out
    }

    #[test]
    fn order_is_kept_and_neighbours_are_one_slice() {
        let out = filled();
        let mut slices = [IoSlice::new(b""); SLICES_MAX];
        assert_eq!(out.slices(b"12345", &mut slices), 3);
        assert_eq!(out.single(), None);
        assert_eq!(out.to_vec(b"12345"), b"ab12345cd");
    }

    #[test]
    fn memory_goes_from_an_empty_outbox_to_the_next_one_and_takes_nothing_along() {
        let (mut one, mut other) = (filled(), Outbox::default());
        let memory = one.own.as_ptr();
        one.advance(one.len());
        assert_eq!(one.own.capacity(), 0);
        other.copy(b"x");
        assert_eq!((other.own.as_ptr(), other.to_vec(b"")), (memory, b"x".to_vec()));
        one.copy(b"y");
        assert_eq!((one.to_vec(b""), other.to_vec(b"")), (b"y".to_vec(), b"x".to_vec()));
        assert_eq!((one.single(), other.single()), (Some(&b"y"[..]), Some(&b"x"[..])));
    }

    #[test]
    fn what_waits_for_long_gives_back_what_was_written_of_it() {
        let mut out = Outbox::default();
        out.copy(&[1; 200_000]);
        out.advance(150_000);
        out.shrink();
        assert!(out.own.capacity() < 60_000);
        out.copy(b"z");
        assert_eq!(out.to_vec(b""), [&[1; 50_000][..], b"z"].concat());
    }

    #[test]
    fn what_was_written_is_gone_wherever_the_write_ended() {
        for written in 0..=9 {
            let mut out = filled();
            out.advance(written);
            assert_eq!(out.to_vec(b"12345"), b"ab12345cd"[written..]);
            assert_eq!(out.len(), 9 - written);
            out.keep(b"12345");
            assert_eq!(out.to_vec(b"xxxxx"), b"ab12345cd"[written..]);
        }
    }
}
