//! Crossing: frames that were under way when we reset their stream.
//!
//! RFC 9113, 5.1: such frames are ignored. They are the consequence of what we did, so they cost
//! the peer nothing, up to the window that it had been granted and a few other frames. What exceeds
//! that draws on the budget of strays. The allowance is one sum for the connection: which stream a
//! late frame belongs to does not matter, and no list of streams has to be kept.

use std::time::Instant;

use crate::wire::connection::Connection;
use crate::wire::error::ConnectionError;
use crate::wire::guard::Budget;

/// Frames other than DATA that may be under way on one stream: two header blocks, RST_STREAM, and
/// one more.
const FRAMES_PER_STREAM: u32 = 4;

/// What may still come on streams that we have reset.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct LateFrames {
    octets: u64,
    frames: u32,
}

impl LateFrames {
    /// A stream was reset whose peer may have sent as much as this window.
    pub(in crate::wire) fn expect_from(&mut self, window: i64) {
        let octets = u64::try_from(window).unwrap_or(0);
        self.octets = self.octets.saturating_add(octets);
        self.frames = self.frames.saturating_add(FRAMES_PER_STREAM);
    }

    /// DATA came on such a stream. Says whether it was granted.
    fn take_data(&mut self, octets: u32) -> bool {
        // Empty frames are not free: there would be no end to them.
        match self.octets.checked_sub(u64::from(octets.max(1))) {
            Some(left) => self.octets = left,
            None => return false,
        }
        true
    }

    /// Another frame came. Says whether it was to be expected.
    fn take_frame(&mut self) -> bool {
        match self.frames.checked_sub(1) {
            Some(left) => self.frames = left,
            None => return false,
        }
        true
    }
}

impl Connection {
    /// DATA of so many octets came on a stream that is gone.
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

    /// A frame other than DATA came on a stream that is gone; unexpected ones draw on a budget.
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
    fn what_was_granted_may_come_and_no_more() {
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
