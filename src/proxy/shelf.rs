//! Shelf: legs that their client connections left in good order, for the next ones of a worker.
//!
//! A leg is lent to one client connection at a time. Lent again is only one on which every call
//! had its whole answer: what a driver still makes of an earlier client's calls cannot end a later
//! one's. The next client's header blocks begin with an empty table, as on a new leg.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::proxy::leg::Leg;
use crate::route::Cluster;
use crate::telemetry::WorkerMetrics;

/// Legs that one worker keeps at most. The oldest one goes for the next.
const SPARES_MAX: usize = 32;
/// How long after its last call a leg may still go to another client connection. Short: a driver
/// that goes away without a word must not be found out by somebody's query.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How old a leg may be that is lent again.
const AGE_MAX: Duration = Duration::from_secs(600);
/// How often the shelf is to be swept while something lies there.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// A leg that nobody uses.
pub(super) struct Spare {
    pub(super) cluster: Arc<Cluster>,
    pub(super) leg: Box<Leg>,
    pub(super) dialled: Instant,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

impl Spare {
    fn is_good(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) < WAIT_MAX
            && now.saturating_duration_since(self.dialled) < AGE_MAX
            && self.leg.is_good_after_reading(now)
    }
}

/// The legs of a worker that nobody uses.
pub(super) struct Shelf {
    spares: RefCell<Vec<Spare>>,
    filled: Notify,
    metrics: WorkerMetrics,
}

impl Shelf {
    /// An empty one.
    pub(super) fn new(metrics: WorkerMetrics) -> Self {
        Self { spares: RefCell::default(), filled: Notify::new(), metrics }
    }

    /// Keeps a leg for a while.
    pub(super) fn put(&self, spare: Spare) {
        let mut spares = self.spares.borrow_mut();
        if spares.is_empty() {
            self.filled.notify_one();
        }
        if spares.len() >= SPARES_MAX {
            self.close(spares.remove(0));
        }
        spares.push(spare);
    }

    /// The latest leg to this cluster that offers its driver what a new one would, but for the
    /// window of its streams, and no more credit than `allowance`.
    pub(super) fn take(
        &self,
        cluster: &Arc<Cluster>,
        (header_list, allowance): (u32, i64),
        now: Instant,
    ) -> Option<Spare> {
        let mut spares = self.spares.borrow_mut();
        let fits = |spare: &Spare| {
            spare.cluster == *cluster
                && spare.leg.wire.ours().header_list == header_list
                && spare.leg.wire.granted_connection() <= allowance
        };
        loop {
            let mut spare = spares.iter().rposition(fits).map(|at| spares.remove(at))?;
            if spare.is_good(now) {
                self.metrics.leg_reused();
                return Some(spare);
            }
            self.close(spare);
        }
    }

    /// Lets go of all legs.
    pub(super) fn clear(&self) {
        self.spares.borrow_mut().drain(..).for_each(|spare| self.close(spare));
    }

    /// Lets go of legs that waited for too long, or whose drivers did something of consequence.
    /// Says whether any are left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut spares = self.spares.borrow_mut();
        spares.extract_if(.., |spare| !spare.is_good(now)).for_each(|spare| self.close(spare));
        !spares.is_empty()
    }

    /// Waits until there is something to sweep.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn close(&self, spare: Spare) {
        drop(spare);
        self.metrics.leg_closed("idle");
    }
}
