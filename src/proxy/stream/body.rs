//! Body: one direction of a call, with its buffered octets, its counts and its progress.

use std::time::{Duration, Instant};

use crate::proxy::convert::u64_from;
use crate::proxy::stream::buffer::Buffer;

/// One direction of a call.
#[derive(Default)]
pub(crate) struct BodyState {
    /// Octets that could not be forwarded yet.
    buffered: Buffer,
    /// DATA octets received.
    received: u64,
    /// Octets that sconce has inserted and that have not left yet: nothing is released to the
    /// client for them.
    surplus: usize,
}

impl BodyState {
    /// DATA octets received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// DATA octets received and forwarded.
    pub(crate) fn forwarded(&self) -> u64 {
        self.received.saturating_sub(u64_from(self.buffered.len()))
    }

    /// Counts DATA octets that were received.
    pub(crate) fn count_received(&mut self, octets: usize) {
        self.received = self.received.saturating_add(u64_from(octets));
    }

    /// Buffers octets that cannot be forwarded now, behind the others.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.buffered.push(octets);
    }

    /// The buffered octets.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffered
    }

    pub(crate) fn has_buffered(&self) -> bool {
        !self.buffered.is_empty()
    }

    /// Memory of the buffered octets.
    pub(crate) fn memory(&self) -> usize {
        self.buffered.memory()
    }

    /// Removes buffered octets that were forwarded.
    pub(crate) fn advance(&mut self, octets: usize) {
        self.buffered.advance(octets);
    }

    /// Takes all buffered octets.
    pub(crate) fn take_buffered(&mut self) -> Buffer {
        std::mem::take(&mut self.buffered)
    }

    /// Accounts for `came` received octets that became `goes` octets to forward. Returns the octets
    /// to release at once, since they will not leave as they came. Nothing is released for inserted
    /// octets.
    pub(crate) fn rewritten(&mut self, came: usize, goes: usize) -> usize {
        let goes = self.surplus.saturating_add(goes);
        self.surplus = goes.saturating_sub(came);
        came.saturating_sub(goes)
    }

    /// Accounts for octets that have left. Returns the number to release to the client.
    pub(crate) fn released(&mut self, left: usize) -> usize {
        let inserted = left.min(self.surplus);
        self.surplus = self.surplus.saturating_sub(inserted);
        left.saturating_sub(inserted)
    }
}

/// The progress of one direction: the count of octets at the last progress.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    at: Instant,
    octets: u64,
}

impl Progress {
    /// Octets that count as progress. Fewer at a time could keep a call open for ever.
    const STEP: u64 = 1_024;

    pub(crate) fn new(at: Instant) -> Self {
        Self { at, octets: 0 }
    }

    /// Whether there was no progress for this time.
    pub(crate) fn is_stuck(&mut self, octets: u64, now: Instant, patience: Duration) -> bool {
        if octets >= self.octets.saturating_add(Self::STEP) {
            *self = Self { at: now, octets };
        }
        now.saturating_duration_since(self.at) >= patience
    }

    /// Restarts the time without progress: the peer is not the cause.
    pub(crate) fn reset(&mut self, octets: u64, now: Instant) {
        *self = Self { at: now, octets };
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;

    #[test]
    fn as_many_octets_are_released_as_were_received_whatever_is_inserted() {
        let mut body = BodyState::default();
        let mut released = body.rewritten(10, 35);
        released += body.rewritten(20, 5);
        released += body.rewritten(7, 0);
        assert_eq!(body.released(35 + 5), 10 + 20 + 7 - released);
        assert_eq!(body.released(0), 0);
    }

    #[test]
    fn octets_that_are_held_back_are_released_at_once() {
        let mut body = BodyState::default();
        assert_eq!(body.rewritten(100, 0), 100);
        assert_eq!(body.rewritten(0, 60), 0);
        assert_eq!(body.released(60), 0);
    }

    #[test]
    fn buffered_octets_are_not_forwarded() {
        let mut body = BodyState::default();
        body.count_received(10);
        body.push(&[0; 4]);
        assert_eq!((body.received(), body.forwarded()), (10, 6));
        body.advance(4);
        assert_eq!((body.forwarded(), body.has_buffered()), (10, false));
    }

    #[test]
    fn a_direction_is_stuck_unless_it_moves_by_a_whole_step() {
        let (start, patience) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(start);
        assert!(!progress.is_stuck(Progress::STEP - 1, at(9), patience));
        assert!(progress.is_stuck(Progress::STEP - 1, at(10), patience));
        assert!(!progress.is_stuck(Progress::STEP, at(10), patience));
        assert!(progress.is_stuck(Progress::STEP, at(20), patience));
        progress.reset(Progress::STEP, at(20));
        assert!(!progress.is_stuck(Progress::STEP, at(29), patience));
    }
}
