//! Outbox: what is to be written to one peer, in order.
//!
//! Small things (control frames, header blocks, short DATA) are copied next to each other. Long
//! DATA is *lent*: it stays in the read buffer it came in, and only its place is remembered, so
//! that one vectored write sends it from there. What the socket does not take is kept by copying
//! before the read buffer is used again.
//!
//! Must never do I/O: the proxy writes, and says how far it came.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

/// Slices that one write takes at most.
pub const SLICES_MAX: usize = 32;

/// Octets of memory that an outbox begins with.
const OWN_MIN: usize = 256;
/// Octets of memory that an empty outbox keeps for the next batch.
const OWN_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Own(Range<usize>),
    Lent(Range<usize>),
}

impl Part {
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Own(range) | Self::Lent(range) => range,
        }
    }
}

/// What is to be written to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    own: Vec<u8>,
    parts: VecDeque<Part>,
    len: usize,
}

impl Outbox {
    /// Octets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
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
        self.write_with(|own| own.extend_from_slice(octets));
    }

    /// Adds what `write` appends.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.own.capacity() == 0 {
            self.own.reserve(OWN_MIN);
        }
        let start = self.own.len();
        write(&mut self.own);
        let end = self.own.len();
        self.len = self.len.saturating_add(end.saturating_sub(start));
        match self.parts.back_mut() {
            Some(Part::Own(range)) => range.end = end,
            Some(Part::Lent(_)) | None if end > start => {
                self.parts.push_back(Part::Own(start..end))
            }
            Some(Part::Lent(_)) | None => {}
        }
    }

    /// Adds a range of the read buffer without copying it.
    pub fn lend(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len = self.len.saturating_add(range.len());
        match self.parts.back_mut() {
            Some(Part::Lent(last)) if last.end == range.start => last.end = range.end,
            Some(Part::Lent(_) | Part::Own(_)) | None => self.parts.push_back(Part::Lent(range)),
        }
    }

    /// The first slices that wait; `lent` is the read buffer. Returns how many were filled in.
    pub fn slices<'a>(&'a self, lent: &'a [u8], into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut filled = 0_usize;
        for (part, slot) in self.parts.iter().zip(into.iter_mut()) {
            let octets = match part {
                Part::Own(range) => self.own.get(range.clone()),
                Part::Lent(range) => lent.get(range.clone()),
            };
            *slot = IoSlice::new(octets.unwrap_or_default());
            filled = filled.saturating_add(1);
        }
        filled
    }

    /// So many octets were written.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.min(self.len);
        self.len = self.len.saturating_sub(left);
        while left > 0 {
            let Some(Part::Own(range) | Part::Lent(range)) = self.parts.front_mut() else { break };
            let taken = left.min(range.len());
            range.start = range.start.saturating_add(taken);
            left = left.saturating_sub(taken);
            if range.start >= range.end {
                self.parts.pop_front();
            }
        }
        if self.len == 0 {
            self.own.clear();
            self.own.shrink_to(OWN_MAX);
            self.parts.clear();
        }
    }

    /// Copies what still lies in the read buffer, which may then be used again.
    pub fn keep(&mut self, lent: &[u8]) {
        if !self.has_lent() {
            return;
        }
        let mut own = Vec::with_capacity(self.len);
        for part in &self.parts {
            let octets = match part {
                Part::Own(range) => self.own.get(range.clone()),
                Part::Lent(range) => lent.get(range.clone()),
            };
            own.extend_from_slice(octets.unwrap_or_default());
        }
        self.len = own.len();
        self.own = own;
        self.parts.clear();
        self.parts.push_back(Part::Own(0..self.len));
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.own = Vec::new();
            self.parts = VecDeque::new();
        } else if let Some(Part::Own(range)) = self.parts.front()
            && range.start > 65_536
        {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let start = self.parts.iter().find_map(|part| match part {
            Part::Own(range) => Some(range.start),
            Part::Lent(_) => None,
        });
        let Some(start) = start else { return };
        self.own.drain(..start.min(self.own.len()));
        self.own.shrink_to_fit();
        for part in &mut self.parts {
            if let Part::Own(range) = part {
                range.start = range.start.saturating_sub(start);
                range.end = range.end.saturating_sub(start);
            }
        }
    }

    /// Everything that waits, in order; for tests and for peers in memory.
    #[must_use]
    pub fn to_vec(&self, lent: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        for part in &self.parts {
            let from = if matches!(part, Part::Own(_)) { self.own.as_slice() } else { lent };
            all.extend_from_slice(from.get(part.range().clone()).unwrap_or_default());
        }
        all
    }
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
        assert_eq!(out.to_vec(b"12345"), b"ab12345cd");
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
