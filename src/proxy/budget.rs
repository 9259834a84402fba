//! Parked: what waits for drivers that do not take it, over all connections of the process.
//!
//! A stream parks no more than its window, and windows are small; but whoever opens many streams on
//! many connections to a driver that does not read parks many windows. So there is a bound on all
//! of them together, of which each user has an equal share. What stands still is not refused below
//! that: a driver may think for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sconce_filters::{Code, EndReason, Refusal};
use tokio::sync::watch;

use crate::proxy::admit::usize_from;
use crate::proxy::connection_limits;
use crate::proxy::read::SMALL_READ;
use crate::proxy::relay::Relay;
use crate::proxy::upstream::DOWNLOAD_BUFFER_MAX;
use crate::proxy::user_share::{UserShare, UserShares, replace_part};
use crate::proxy::worker::GaugeShare;
use crate::telemetry::PeerSide;

/// Octets that may be parked in all before calls are turned away, of users who park more than their
/// share.
const TOTAL_MAX: usize = 26 << 20;
/// What a connection may park whatever others do, up to twice the share of its user.
const CONNECTION_GUARANTEE: usize = 256 << 10;
/// The same for answers: what is under way when a client with windows of half a megabyte shrinks
/// them.
const DOWNLOAD_CONNECTION_MAX: usize = 512 << 10;
/// Octets that are parked in all from which on a connection may park that much of its answers, and
/// from which on only little.
const DOWNLOAD_LIMITS: [usize; 2] = [TOTAL_MAX / 2, TOTAL_MAX * 2];
/// A connection whose uploads have earned less may earn more whatever others have: one step, to a
/// window of 1 MiB.
const EARNED_GUARANTEE: usize = 256 << 10;
/// A call that parks less than that is turned away only above twice the share of its user.
const STREAM_MIN: usize = 16 << 10;
/// When it may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What all connections of all workers have parked.
#[derive(Clone, Default)]
pub(super) struct BufferBudget {
    buffered: Arc<AtomicUsize>,
    /// Octets of windows that all uploads have earned: what they can park beyond their first ones.
    earned: Arc<AtomicUsize>,
    users: Arc<UserShares>,
    /// Says that a connection may buffer more of its answers than before.
    memory_freed: Arc<watch::Sender<()>>,
}

impl BufferBudget {
    /// Says when [`Self::download_max`] has grown.
    pub(super) fn memory_freed(&self) -> watch::Receiver<()> {
        self.memory_freed.subscribe()
    }

    /// A connection has parked so much from now on.
    fn set_buffered(&self, share: &mut GaugeShare, now: usize) {
        let (before, after) = replace_part(&self.buffered, share.replace(now), now);
        if DOWNLOAD_LIMITS.iter().any(|limit| before >= *limit && after < *limit) {
            self.memory_freed.send_replace(());
        }
    }

    /// Whether windows of uploads of a connection may grow: what all have earned could still be
    /// parked at one time. Some may grow whatever others have earned and do not use, and those of a
    /// user who has less than an equal share may whatever others do.
    pub(super) fn may_grow_window(&self, share: &GaugeShare, user: Option<&UserShare>) -> bool {
        let is_within = |all: &AtomicUsize, of_user: fn(&UserShare) -> usize| {
            all.load(Ordering::Relaxed) < TOTAL_MAX / 2
                || user.map_or(0, of_user) < self.user_max() / 2
        };
        let is_small = share.get() < EARNED_GUARANTEE;
        is_within(&self.buffered, UserShare::buffered)
            && (is_small || is_within(&self.earned, UserShare::earned))
    }

    /// Octets of answers that one client connection may park of a driver that is still read from.
    /// More than [`PARKED_MAX`] is parked where a client took back what its driver was granted.
    pub(super) fn download_max(&self) -> usize {
        match self.buffered.load(Ordering::Relaxed) {
            all if all < DOWNLOAD_LIMITS[0] => usize::MAX,
            all if all < DOWNLOAD_LIMITS[1] => DOWNLOAD_CONNECTION_MAX,
            // A frame that is there in part is granted again before it is parked.
            _ => usize_from(DOWNLOAD_BUFFER_MAX).saturating_add(SMALL_READ),
        }
    }

    /// Octets that each user may park when memory is short.
    fn user_max(&self) -> usize {
        TOTAL_MAX.checked_div(self.users.count()).unwrap_or(TOTAL_MAX).max(CONNECTION_GUARANTEE)
    }

    /// Whether a connection parks too much, of whose calls one parks so much.
    fn is_exceeded(&self, call: usize, connection: usize, user: Option<&UserShare>) -> bool {
        let Some(user) = user else { return false };
        if self.buffered.load(Ordering::Relaxed) <= TOTAL_MAX {
            return false;
        }
        let (of_user, most) = (user.buffered(), self.user_max());
        let is_large = call >= STREAM_MIN && connection > CONNECTION_GUARANTEE;
        (is_large && of_user > most) || of_user > most.saturating_mul(2)
    }
}

impl Relay {
    /// A call may have parked something: turns it away if that is too much.
    pub(super) fn enforce_buffer_limit(&mut self, tag: usize) {
        let parked = self.streams.get(tag).map_or(0, |exchange| exchange.buffered_bytes());
        if parked == 0 && !self.buffered.is_nonzero() {
            return;
        }
        self.update_buffered();
        if parked > 0 && self.is_exceeded(parked) {
            self.refuse_buffered(tag);
        }
    }

    /// Other users may need what the calls of this connection have parked for long: turns away
    /// those that park most.
    pub(super) fn enforce_buffer_limits(&mut self) {
        if !self.buffered.is_nonzero() {
            return;
        }
        self.update_buffered();
        for _ in 0..self.streams.len() {
            let all = self.streams.iter().map(|(tag, exchange)| (exchange.buffered_bytes(), tag));
            match all.max().filter(|(parked, _)| *parked > 0 && self.is_exceeded(*parked)) {
                Some((_, tag)) => self.refuse_buffered(tag),
                None => break,
            }
        }
    }

    fn is_exceeded(&self, call: usize) -> bool {
        self.ctx.buffer_budget.is_exceeded(call, self.buffered.get(), self.user_share.as_deref())
    }

    fn refuse_buffered(&mut self, tag: usize) {
        let message = "too much waits for drivers that take nothing: try again later";
        let refusal = Refusal::new(Code::ResourceExhausted, "request.parked", message);
        self.ctx.metrics.abuse_limit_exceeded("parked", PeerSide::Downstream);
        self.refuse(tag, &refusal.with_retry_after(RETRY_AFTER), EndReason::Refused);
        self.update_buffered();
    }

    /// Counts anew what this connection has parked.
    pub(super) fn update_buffered(&mut self) {
        let all = self.streams.iter().map(|(_, exchange)| {
            exchange.buffered_bytes().saturating_add(exchange.download.buffered.len())
        });
        let parked = all.fold(0, usize::saturating_add);
        if parked != self.buffered.get() {
            self.set_budget_shares([parked, self.earned_window.get()]);
        }
    }

    /// Sees to it that the process knows what the windows of uploads have grown to.
    pub(super) fn update_earned(&mut self) {
        let earned = usize_from(self.downstream.wire.earned_octets());
        if earned != self.earned_window.get() {
            self.set_budget_shares([self.buffered.get(), earned]);
        }
    }

    /// The connection has parked and earned so much from now on, of all and of what its user has.
    pub(super) fn set_budget_shares(&mut self, [parked, earned]: [usize; 2]) {
        let pool = &self.ctx.buffer_budget;
        pool.set_buffered(&mut self.buffered, parked);
        replace_part(&pool.earned, self.earned_window.replace(earned), earned);
        if parked == 0 && earned == 0 {
            self.user_share = None;
            return;
        }
        let caller = self.last_caller.as_ref().map(|(caller, _)| &**caller);
        let is_right = |user: &UserShare| user.is_known() || caller.is_none();
        if !self.user_share.as_deref().is_some_and(is_right) {
            let source = connection_limits::source(self.peer.ip());
            self.user_share = Some(Box::new(pool.users.join(caller, source)));
        }
        if let Some(user) = &mut self.user_share {
            user.set([parked, earned]);
        }
    }
}
