//! Parked: what waits for drivers that do not take it, over all connections of the process.
//!
//! A stream parks no more than its window, and windows are small; but whoever opens many streams on
//! many connections to a driver that does not read parks many windows. So there is a bound on all
//! of them together. What stands still is not refused below it: a driver may think for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sconce_filters::{Code, Ending, Refusal};

use crate::proxy::admit::whole;
use crate::proxy::driver::PARKED_MAX;
use crate::proxy::read::SMALL_READ;
use crate::proxy::relay::Relay;
use crate::proxy::worker::Share;
use crate::telemetry::Guarded;

/// Octets that may be parked in all before calls are turned away, of connections that park more
/// than their share.
const ALL_MAX: usize = 26 << 20;
/// What a connection may park whatever others do, up to twice as much in all.
const SHARE_MAX: usize = 256 << 10;
/// The same for answers: what is under way when a client with windows of half a megabyte shrinks
/// them.
const DOWNLOAD_SHARE_MAX: usize = 512 << 10;
/// What the uploads of a connection may earn whatever others have: about one common window.
const EARNED_MIN: usize = 256 << 10;
/// A call that parks less than that is never turned away.
const CALL_MIN: usize = 16 << 10;
/// When it may be tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What all connections of all workers have parked.
#[derive(Clone, Default)]
pub(super) struct Pool {
    parked: Arc<AtomicUsize>,
    /// Octets of windows that all uploads have earned: what they can park beyond their first ones.
    earned: Arc<AtomicUsize>,
}

impl Pool {
    /// Whether windows of uploads of a connection may grow: what all have earned could still be
    /// parked at one time. Some may grow whatever others have earned and do not use.
    pub(super) fn may_grow(&self, share: &Share) -> bool {
        let is_small = share.get() < EARNED_MIN;
        self.has_room() && (is_small || self.earned.load(Ordering::Relaxed) < ALL_MAX / 2)
    }

    /// The uploads of a connection have earned so much from now on.
    pub(super) fn change_earned(&self, share: &mut Share, now: usize) {
        change(&self.earned, share, now);
    }

    /// Whether so little is parked in all that a connection may park more than usual.
    pub(super) fn has_room(&self) -> bool {
        self.parked.load(Ordering::Relaxed) < ALL_MAX / 2
    }

    /// Octets of answers that one client connection may park of a driver that is still read from.
    /// More than [`PARKED_MAX`] is parked where a client took back what its driver was granted.
    pub(super) fn download_max(&self) -> usize {
        match self.parked.load(Ordering::Relaxed) {
            all if all < ALL_MAX / 2 => usize::MAX,
            all if all < ALL_MAX.saturating_mul(2) => DOWNLOAD_SHARE_MAX,
            // A frame that is there in part is granted again before it is parked.
            _ => whole(PARKED_MAX).saturating_add(SMALL_READ),
        }
    }

    /// A connection's share is so large from now on. Says what all have.
    fn change(&self, share: &mut Share, now: usize) -> usize {
        change(&self.parked, share, now)
    }
}

/// A connection's share of a sum is so large from now on. Says what all have.
fn change(sum: &AtomicUsize, share: &mut Share, now: usize) -> usize {
    let before = share.replace(now);
    sum.fetch_add(now, Ordering::Relaxed);
    sum.fetch_sub(before, Ordering::Relaxed).saturating_sub(before)
}

impl Relay {
    /// A call may have parked something: turns it away if that is too much.
    pub(super) fn mind_parked(&mut self, tag: usize) {
        let parked = self.exchanges.get(tag).map_or(0, |exchange| exchange.parked());
        if parked == 0 && !self.parked.is_some() {
            return;
        }
        let all = self.count_parked();
        let is_greedy = self.parked.get() > SHARE_MAX || all > ALL_MAX.saturating_mul(2);
        if all <= ALL_MAX || parked < CALL_MIN || !is_greedy {
            return;
        }
        let message = "too much waits for drivers that take nothing: try again later";
        let refusal = Refusal::new(Code::ResourceExhausted, "request.parked", message);
        self.worker.metrics.guard_fired("parked", Guarded::Client);
        self.refuse(tag, &refusal.retry_after(RETRY), Ending::Refused);
        self.count_parked();
    }

    /// Counts anew what this connection has parked. Says what all have.
    pub(super) fn count_parked(&mut self) -> usize {
        let all = self
            .exchanges
            .iter()
            .map(|(_, exchange)| exchange.parked().saturating_add(exchange.down.parked.len()));
        let mine = all.fold(0, usize::saturating_add);
        self.worker.pool.change(&mut self.parked, mine)
    }
}
