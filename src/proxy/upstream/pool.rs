//! Shelf: legs that their client connections left in good order, for the next ones of a worker.
//!
//! A leg is lent to one client connection at a time. Lent again is only one on which every call
//! had its whole answer: what a driver still makes of an earlier client's calls cannot end a later
//! one's. The next client's header blocks begin with an empty table, as on a new leg.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::proxy::net::h2_connection::H2Connection;
use crate::route::Cluster;
use crate::telemetry::WorkerMetrics;

/// Legs that one worker keeps at most. The oldest one goes for the next.
const IDLE_MAX: usize = 32;
/// How long after its last call a leg may still go to another client connection. Short: a driver
/// that goes away without a word must not be found out by somebody's query.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How old a leg may be that is lent again.
const AGE_MAX: Duration = Duration::from_secs(600);
/// How often the shelf is to be swept while something lies there.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A leg that nobody uses.
pub(crate) struct IdleConnection {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) h2: Box<H2Connection>,
    pub(crate) connect_started: Instant,
    /// Since when nobody uses it.
    pub(crate) idle_since: Instant,
}

impl IdleConnection {
    fn is_healthy(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) < IDLE_TIMEOUT
            && now.saturating_duration_since(self.connect_started) < AGE_MAX
            && self.h2.is_healthy_after_read(now)
    }
}

/// The legs of a worker that nobody uses.
pub(crate) struct IdlePool {
    connections: RefCell<Vec<IdleConnection>>,
    filled: Notify,
    metrics: WorkerMetrics,
}

impl IdlePool {
    /// An empty one.
    pub(crate) fn new(metrics: WorkerMetrics) -> Self {
        Self { connections: RefCell::default(), filled: Notify::new(), metrics }
    }

    /// Keeps a leg for a while.
    pub(crate) fn put(&self, spare: IdleConnection) {
        let mut spares = self.connections.borrow_mut();
        if spares.is_empty() {
            self.filled.notify_one();
        }
        if spares.len() >= IDLE_MAX {
            self.close(spares.remove(0));
        }
        spares.push(spare);
    }

    /// The latest leg to this cluster that offers its driver what a new one would, but for the
    /// window of its streams, and no more credit than `allowance`.
    pub(crate) fn take(
        &self,
        cluster: &Arc<Cluster>,
        (header_list, allowance): (u32, i64),
        now: Instant,
    ) -> Option<IdleConnection> {
        let mut spares = self.connections.borrow_mut();
        let fits = |spare: &IdleConnection| {
            spare.cluster == *cluster
                && spare.h2.wire.local_settings().max_header_list_size == header_list
                && spare.h2.wire.connection_recv_window() <= allowance
        };
        loop {
            let mut spare = spares.iter().rposition(fits).map(|at| spares.remove(at))?;
            if spare.is_healthy(now) {
                self.metrics.upstream_reused();
                return Some(spare);
            }
            self.close(spare);
        }
    }

    /// Lets go of all legs.
    pub(crate) fn clear(&self) {
        self.connections.borrow_mut().drain(..).for_each(|spare| self.close(spare));
    }

    /// Lets go of legs that waited for too long, or whose drivers did something of consequence.
    /// Says whether any are left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut spares = self.connections.borrow_mut();
        spares.extract_if(.., |spare| !spare.is_healthy(now)).for_each(|spare| self.close(spare));
        !spares.is_empty()
    }

    /// Waits until there is something to sweep.
    pub(crate) async fn wait_filled(&self) {
        self.filled.notified().await;
    }

    fn close(&self, spare: IdleConnection) {
        drop(spare);
        self.metrics.upstream_closed("idle");
    }
}
