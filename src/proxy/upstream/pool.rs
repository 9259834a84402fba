//! Idle pool: upstream connections that their client connections have left, for reuse by the next
//! ones of the same worker.
//!
//! A connection is used by one client connection at a time, and reused only if every call on it
//! received its complete response: what a driver still sends for an earlier client's calls cannot
//! reach a later one. The HPACK encoder table is cleared for the next client, as on a new
//! connection.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::proxy::net::h2_connection::H2Connection;
use crate::route::Cluster;
use crate::telemetry::WorkerMetrics;

/// Idle connections of one worker. The oldest is closed for the next one.
const IDLE_MAX: usize = 32;
/// Longest idle time before reuse. Short: a query must not be the one to discover that a driver has
/// vanished.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Greatest age of a reused connection.
const AGE_MAX: Duration = Duration::from_secs(600);
/// Interval between two sweeps while the pool is not empty.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// An idle upstream connection.
pub(crate) struct IdleConnection {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) h2: Box<H2Connection>,
    pub(crate) connect_started: Instant,
    /// Since when it has had no streams.
    pub(crate) idle_since: Instant,
}

impl IdleConnection {
    fn is_healthy(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) < IDLE_TIMEOUT
            && now.saturating_duration_since(self.connect_started) < AGE_MAX
            && self.h2.is_healthy_after_read(now)
    }
}

/// The idle upstream connections of a worker.
pub(crate) struct IdlePool {
    connections: RefCell<Vec<IdleConnection>>,
    filled: Notify,
    metrics: WorkerMetrics,
}

impl IdlePool {
    /// An empty pool.
    pub(crate) fn new(metrics: WorkerMetrics) -> Self {
        Self { connections: RefCell::default(), filled: Notify::new(), metrics }
    }

    /// Adds a connection.
    pub(crate) fn put(&self, idle: IdleConnection) {
        let mut spares = self.connections.borrow_mut();
        if spares.is_empty() {
            self.filled.notify_one();
        }
        if spares.len() >= IDLE_MAX {
            self.close(spares.remove(0));
        }
        spares.push(idle);
    }

    /// The latest connection to this cluster with the same SETTINGS as a new one, except for the
    /// initial window, and with at most `allowance` octets of connection window.
    pub(crate) fn take(
        &self,
        cluster: &Arc<Cluster>,
        (header_list, allowance): (u32, i64),
        now: Instant,
    ) -> Option<IdleConnection> {
        let mut spares = self.connections.borrow_mut();
        let fits = |idle: &IdleConnection| {
            idle.cluster == *cluster
                && idle.h2.wire.local_settings().max_header_list_size == header_list
                && idle.h2.wire.connection_recv_window() <= allowance
        };
        loop {
            let mut idle = spares.iter().rposition(fits).map(|at| spares.remove(at))?;
            if idle.is_healthy(now) {
                self.metrics.upstream_reused();
                return Some(idle);
            }
            self.close(idle);
        }
    }

    /// Closes all connections.
    pub(crate) fn clear(&self) {
        self.connections.borrow_mut().drain(..).for_each(|idle| self.close(idle));
    }

    /// Closes connections that are too old, or on which the driver has sent anything of importance.
    /// Returns true if any are left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut spares = self.connections.borrow_mut();
        spares.extract_if(.., |idle| !idle.is_healthy(now)).for_each(|idle| self.close(idle));
        !spares.is_empty()
    }

    /// Waits until the pool is not empty.
    pub(crate) async fn wait_filled(&self) {
        self.filled.notified().await;
    }

    fn close(&self, idle: IdleConnection) {
        drop(idle);
        self.metrics.upstream_closed("idle");
    }
}
