//! Late frames: frames in flight when their stream was reset locally.
//!
//! They are ignored (RFC 9113, 5.1), and free up to the receive window of the stream plus a few
//! control frames. Further ones draw on [`Budget::UnexpectedFrames`]. The allowance is one sum for
//! the connection, so that no list of streams is necessary.

use std::time::Instant;

use crate::wire::connection::Connection;
use crate::wire::error::ConnectionError;
use crate::wire::guard::Budget;

/// Frames other than DATA in flight on one stream: two header blocks, RST_STREAM, and one more.
const FRAMES_PER_STREAM: u32 = 4;

/// Frames that may still arrive on streams after a local RST_STREAM.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct LateFrames {
    octets: u64,
    frames: u32,
}

impl LateFrames {
    /// Adds the allowance of a stream that was reset with this receive window.
    pub(in crate::wire) fn expect_from(&mut self, window: i64) {
        let octets = u64::try_from(window).unwrap_or(0);
        self.octets = self.octets.saturating_add(octets);
        self.frames = self.frames.saturating_add(FRAMES_PER_STREAM);
    }

    /// Subtracts a DATA frame. `false`: the allowance is exhausted.
    fn take_data(&mut self, octets: u32) -> bool {
        // An empty frame costs one octet, so that their number is limited.
        match self.octets.checked_sub(u64::from(octets.max(1))) {
            Some(left) => self.octets = left,
            None => return false,
        }
        true
    }

    /// Subtracts another frame. `false`: the allowance is exhausted.
    fn take_frame(&mut self) -> bool {
        match self.frames.checked_sub(1) {
            Some(left) => self.frames = left,
            None => return false,
        }
        true
    }
}

impl Connection {
    /// Accounts for DATA on a closed stream.
    pub(in crate::wire) fn unexpected_data(
        &mut self,
        octets: u32,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if self.late_frames.take_data(octets) {
            Ok(())
        } else {
            self.spend(Budget::UnexpectedFrames, now)
        }
    }

    /// Accounts for a frame other than DATA on a closed stream; beyond the allowance it costs one
    /// event of `budget`.
    pub(in crate::wire) fn unexpected_frame(
        &mut self,
        budget: Budget,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if self.late_frames.take_frame() { Ok(()) } else { self.spend(budget, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_frames_are_free_up_to_the_window_and_four_frames_per_stream() {
        let mut crossing = LateFrames::default();
        assert!(!crossing.take_data(1));
        crossing.expect_from(100);
        crossing.expect_from(-5);
        assert!(crossing.take_data(60) && !crossing.take_data(41) && crossing.take_data(39));
        assert!(crossing.take_data(0), "an empty frame counts as one octet");
        assert!(!crossing.take_data(0));
        assert_eq!((0..20).filter(|_| crossing.take_frame()).count(), 8);
    }
}
