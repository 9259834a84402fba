//! Parked: what waits for drivers that do not take it, over all connections of the process.
//!
//! A stream parks no more than its window, and windows are small; but whoever opens many streams on
//! many connections to a driver that does not read parks many windows. So there is a bound on all
//! of them together, of which each user has an equal share. What stands still is not refused below
//! that: a driver may think for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sconce_filters::{Code, Ending, Refusal};
use tokio::sync::watch;

use crate::proxy::admit::whole;
use crate::proxy::driver::PARKED_MAX;
use crate::proxy::places;
use crate::proxy::read::SMALL_READ;
use crate::proxy::relay::Relay;
use crate::proxy::user_share::{User, Users, change};
use crate::proxy::worker::Share;
use crate::telemetry::Guarded;

/// Octets that may be parked in all before calls are turned away, of users who park more than their
/// share.
const ALL_MAX: usize = 26 << 20;
/// What a connection may park whatever others do, up to twice the share of its user.
const SHARE_MAX: usize = 256 << 10;
/// The same for answers: what is under way when a client with windows of half a megabyte shrinks
/// them.
const DOWNLOAD_SHARE_MAX: usize = 512 << 10;
/// Octets that are parked in all from which on a connection may park that much of its answers, and
/// from which on only little.
const DOWNLOAD_LIMITS: [usize; 2] = [ALL_MAX / 2, ALL_MAX * 2];
/// A connection whose uploads have earned less may earn more whatever others have: one step, to a
/// window of 1 MiB.
const EARNED_MIN: usize = 256 << 10;
/// A call that parks less than that is turned away only above twice the share of its user.
const CALL_MIN: usize = 16 << 10;
/// When it may be tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What all connections of all workers have parked.
#[derive(Clone, Default)]
pub(super) struct Pool {
    parked: Arc<AtomicUsize>,
    /// Octets of windows that all uploads have earned: what they can park beyond their first ones.
    earned: Arc<AtomicUsize>,
    users: Arc<Users>,
    /// Says that a connection may buffer more of its answers than before.
    freed: Arc<watch::Sender<()>>,
}

impl Pool {
    /// Says when [`Self::download_max`] has grown.
    pub(super) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    /// A connection has parked so much from now on.
    fn change_parked(&self, share: &mut Share, now: usize) {
        let (before, after) = change(&self.parked, share.replace(now), now);
        if DOWNLOAD_LIMITS.iter().any(|limit| before >= *limit && after < *limit) {
            self.freed.send_replace(());
        }
    }

    /// Whether windows of uploads of a connection may grow: what all have earned could still be
    /// parked at one time. Some may grow whatever others have earned and do not use, and those of a
    /// user who has less than an equal share may whatever others do.
    pub(super) fn may_grow(&self, share: &Share, user: Option<&User>) -> bool {
        let is_within = |all: &AtomicUsize, of_user: fn(&User) -> usize| {
            all.load(Ordering::Relaxed) < ALL_MAX / 2
                || user.map_or(0, of_user) < self.user_max() / 2
        };
        let is_small = share.get() < EARNED_MIN;
        is_within(&self.parked, User::buffered)
            && (is_small || is_within(&self.earned, User::earned))
    }

    /// Octets of answers that one client connection may park of a driver that is still read from.
    /// More than [`PARKED_MAX`] is parked where a client took back what its driver was granted.
    pub(super) fn download_max(&self) -> usize {
        match self.parked.load(Ordering::Relaxed) {
            all if all < DOWNLOAD_LIMITS[0] => usize::MAX,
            all if all < DOWNLOAD_LIMITS[1] => DOWNLOAD_SHARE_MAX,
            // A frame that is there in part is granted again before it is parked.
            _ => whole(PARKED_MAX).saturating_add(SMALL_READ),
        }
    }

    /// Octets that each user may park when memory is short.
    fn user_max(&self) -> usize {
        ALL_MAX.checked_div(self.users.count()).unwrap_or(ALL_MAX).max(SHARE_MAX)
    }

    /// Whether a connection parks too much, of whose calls one parks so much.
    fn is_exceeded(&self, call: usize, connection: usize, user: Option<&User>) -> bool {
        let Some(user) = user else { return false };
        if self.parked.load(Ordering::Relaxed) <= ALL_MAX {
            return false;
        }
        let (of_user, most) = (user.buffered(), self.user_max());
        let is_large = call >= CALL_MIN && connection > SHARE_MAX;
        (is_large && of_user > most) || of_user > most.saturating_mul(2)
    }
}

impl Relay {
    /// A call may have parked something: turns it away if that is too much.
    pub(super) fn mind_parked(&mut self, tag: usize) {
        let parked = self.exchanges.get(tag).map_or(0, |exchange| exchange.parked());
        if parked == 0 && !self.parked.is_some() {
            return;
        }
        self.count_parked();
        if parked > 0 && self.is_exceeded(parked) {
            self.refuse_parked(tag);
        }
    }

    /// Other users may need what the calls of this connection have parked for long: turns away
    /// those that park most.
    pub(super) fn mind_all_parked(&mut self) {
        if !self.parked.is_some() {
            return;
        }
        self.count_parked();
        for _ in 0..self.exchanges.len() {
            let all = self.exchanges.iter().map(|(tag, exchange)| (exchange.parked(), tag));
            match all.max().filter(|(parked, _)| *parked > 0 && self.is_exceeded(*parked)) {
                Some((_, tag)) => self.refuse_parked(tag),
                None => break,
            }
        }
    }

    fn is_exceeded(&self, call: usize) -> bool {
        self.worker.pool.is_exceeded(call, self.parked.get(), self.user.as_deref())
    }

    fn refuse_parked(&mut self, tag: usize) {
        let message = "too much waits for drivers that take nothing: try again later";
        let refusal = Refusal::new(Code::ResourceExhausted, "request.parked", message);
        self.worker.metrics.guard_fired("parked", Guarded::Client);
        self.refuse(tag, &refusal.retry_after(RETRY), Ending::Refused);
        self.count_parked();
    }

    /// Counts anew what this connection has parked.
    pub(super) fn count_parked(&mut self) {
        let all = self
            .exchanges
            .iter()
            .map(|(_, exchange)| exchange.parked().saturating_add(exchange.down.parked.len()));
        let parked = all.fold(0, usize::saturating_add);
        if parked != self.parked.get() {
            self.change_shares([parked, self.earned.get()]);
        }
    }

    /// Sees to it that the process knows what the windows of uploads have grown to.
    pub(super) fn count_earned(&mut self) {
        let earned = whole(self.client.wire.earned());
        if earned != self.earned.get() {
            self.change_shares([self.parked.get(), earned]);
        }
    }

    /// The connection has parked and earned so much from now on, of all and of what its user has.
    pub(super) fn change_shares(&mut self, [parked, earned]: [usize; 2]) {
        let pool = &self.worker.pool;
        pool.change_parked(&mut self.parked, parked);
        change(&pool.earned, self.earned.replace(earned), earned);
        if parked == 0 && earned == 0 {
            self.user = None;
            return;
        }
        let caller = self.last_caller.as_ref().map(|(caller, _)| &**caller);
        let is_right = |user: &User| user.is_known() || caller.is_none();
        if !self.user.as_deref().is_some_and(is_right) {
            let source = places::source(self.peer.ip());
            self.user = Some(Box::new(pool.users.find(caller, source)));
        }
        if let Some(user) = &mut self.user {
            user.change([parked, earned]);
        }
    }
}
