//! Parked: what waits for drivers that do not take it, over all connections of the process.
//!
//! A stream parks no more than its window, and windows are small; but whoever opens many streams on
//! many connections to a driver that does not read parks many windows. So there is a bound on all
//! of them together, of which each user has an equal share. What stands still is not refused below
//! that: a driver may think for a while.

pub(super) mod gauge;
pub(super) mod user_share;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sconce_filters::Identity;
use tokio::sync::watch;

use crate::proxy::budget::gauge::GaugeShare;
use crate::proxy::budget::user_share::{UserShare, UserShares, replace_part};
use crate::proxy::convert::usize_from;

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

/// What all connections of all workers have parked.
#[derive(Clone, Default)]
pub(crate) struct BufferBudget {
    buffered: Arc<AtomicUsize>,
    /// Octets of windows that all uploads have earned: what they can park beyond their first ones.
    earned: Arc<AtomicUsize>,
    users: Arc<UserShares>,
    /// Says that a connection may buffer more of its answers than before.
    memory_freed: Arc<watch::Sender<()>>,
}

impl BufferBudget {
    /// Sets the octets of window growth that a connection has earned.
    pub(crate) fn set_earned(&self, share: &mut GaugeShare, now: usize) {
        replace_part(&self.earned, share.replace(now), now);
    }

    /// The share of a connection's user.
    pub(crate) fn join(&self, caller: Option<&Identity>, source: IpAddr) -> UserShare {
        self.users.join(caller, source)
    }

    /// Says when [`Self::download_max`] has grown.
    pub(crate) fn memory_freed(&self) -> watch::Receiver<()> {
        self.memory_freed.subscribe()
    }

    /// A connection has parked so much from now on.
    pub(crate) fn set_buffered(&self, share: &mut GaugeShare, now: usize) {
        let (before, after) = replace_part(&self.buffered, share.replace(now), now);
        if DOWNLOAD_LIMITS.iter().any(|limit| before >= *limit && after < *limit) {
            self.memory_freed.send_replace(());
        }
    }

    /// Whether windows of uploads of a connection may grow: what all have earned could still be
    /// parked at one time. Some may grow whatever others have earned and do not use, and those of a
    /// user who has less than an equal share may whatever others do.
    pub(crate) fn may_grow_window(&self, share: &GaugeShare, user: Option<&UserShare>) -> bool {
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
    pub(crate) fn download_max(&self) -> usize {
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
    pub(crate) fn is_exceeded(
        &self,
        call: usize,
        connection: usize,
        user: Option<&UserShare>,
    ) -> bool {
        let Some(user) = user else { return false };
        if self.buffered.load(Ordering::Relaxed) <= TOTAL_MAX {
            return false;
        }
        let (of_user, most) = (user.buffered(), self.user_max());
        let is_large = call >= STREAM_MIN && connection > CONNECTION_GUARANTEE;
        (is_large && of_user > most) || of_user > most.saturating_mul(2)
    }
}

/// Octets of one leg that may be parked.
pub(crate) const DOWNLOAD_BUFFER_MAX: u32 = 64 * 1024;

/// Octets that are read from a driver at one time while its client is behind.
pub(crate) const SMALL_READ: usize = 16 * 1024;
