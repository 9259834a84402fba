//! Buffer budget: limits the octets that wait for slow Spark drivers, over all connections of the
//! process.
//!
//! A stream buffers no more than its window, and windows are small; but many streams on many
//! connections to a driver that does not read buffer many windows. So there is a total limit, of
//! which each user has an equal share. Below it, streams that make no progress are not refused: a
//! driver may compute for a while.

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

/// Total octets of buffered requests above which calls are refused, of users above their share.
const TOTAL_MAX: usize = 26 << 20;
/// Octets that a connection may buffer whatever others do, up to twice the share of its user.
const CONNECTION_GUARANTEE: usize = 256 << 10;
/// The same for responses: the octets in flight when a client with windows of half a megabyte
/// shrinks them.
const DOWNLOAD_CONNECTION_MAX: usize = 512 << 10;
/// Total buffered octets from which on a connection may buffer that many response octets, and from
/// which on only few.
const DOWNLOAD_LIMITS: [usize; 2] = [TOTAL_MAX / 2, TOTAL_MAX * 2];
/// Window growth in octets that a connection may earn whatever others have earned: one step, to a
/// window of 1 MiB.
const EARNED_GUARANTEE: usize = 256 << 10;
/// A call that buffers fewer octets is refused only above twice the share of its user.
const STREAM_MIN: usize = 16 << 10;

/// The buffered octets of all connections of all workers.
#[derive(Clone, Default)]
pub(crate) struct BufferBudget {
    buffered: Arc<AtomicUsize>,
    /// Octets of window growth that all uploads have earned: what they may buffer beyond their
    /// initial windows.
    earned: Arc<AtomicUsize>,
    users: Arc<UserShares>,
    /// Signals that connections may buffer more response octets than before.
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

    /// Signals that [`Self::download_max`] has grown.
    pub(crate) fn memory_freed(&self) -> watch::Receiver<()> {
        self.memory_freed.subscribe()
    }

    /// Sets the buffered octets of a connection.
    pub(crate) fn set_buffered(&self, share: &mut GaugeShare, now: usize) {
        let (before, after) = replace_part(&self.buffered, share.replace(now), now);
        if DOWNLOAD_LIMITS.iter().any(|limit| before >= *limit && after < *limit) {
            self.memory_freed.send_replace(());
        }
    }

    /// Whether the upload windows of a connection may grow: all earned octets could be buffered at
    /// one time. Growth up to `EARNED_GUARANTEE` does not depend on what others have earned, and a
    /// user below an equal share does not depend on others.
    pub(crate) fn may_grow_window(&self, share: &GaugeShare, user: Option<&UserShare>) -> bool {
        let is_within = |all: &AtomicUsize, of_user: fn(&UserShare) -> usize| {
            all.load(Ordering::Relaxed) < TOTAL_MAX / 2
                || user.map_or(0, of_user) < self.user_max() / 2
        };
        let is_small = share.get() < EARNED_GUARANTEE;
        is_within(&self.buffered, UserShare::buffered)
            && (is_small || is_within(&self.earned, UserShare::earned))
    }

    /// Response octets that one client connection may buffer while its upstreams are still read.
    /// More than [`DOWNLOAD_BUFFER_MAX`] is buffered where a client reduced its windows.
    pub(crate) fn download_max(&self) -> usize {
        match self.buffered.load(Ordering::Relaxed) {
            all if all < DOWNLOAD_LIMITS[0] => usize::MAX,
            all if all < DOWNLOAD_LIMITS[1] => DOWNLOAD_CONNECTION_MAX,
            // A partial frame is granted again before it is buffered.
            _ => usize_from(DOWNLOAD_BUFFER_MAX).saturating_add(SMALL_READ),
        }
    }

    /// Octets that each user may buffer when memory is short.
    fn user_max(&self) -> usize {
        TOTAL_MAX.checked_div(self.users.count()).unwrap_or(TOTAL_MAX).max(CONNECTION_GUARANTEE)
    }

    /// Whether a connection buffers too much; `call` octets of it belong to one call.
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

/// Response octets that one upstream connection may buffer.
pub(crate) const DOWNLOAD_BUFFER_MAX: u32 = 64 * 1024;

/// Octets of one read from an upstream while its client is behind.
pub(crate) const SMALL_READ: usize = 16 * 1024;
