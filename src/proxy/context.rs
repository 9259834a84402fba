//! Worker context: the state that all connections of one thread share.
//!
//! Must never happen here: a `RefCell` borrow that lasts beyond one method, but for the scratch
//! buffer, which a poll of one connection borrows from its beginning to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tokio::sync::Notify;

use crate::proxy::budget::BufferBudget;
use crate::proxy::budget::gauge::Gauge;
use crate::proxy::convert::usize_from;
use crate::proxy::downstream::handshakes::HandshakeLimiter;
use crate::proxy::downstream::unauthenticated::{
    EvictionState, Unauthenticated, UnauthenticatedConnections,
};
use crate::proxy::net::poll_budget::{PollBudget, READ_MAX};
use crate::proxy::net::poll_epoch::PollEpoch;
use crate::proxy::net::tls::{TlsBuffer, TlsStream};
use crate::proxy::shutdown::Shutdown;
use crate::proxy::stream::grace::{GraceSessions, SharedSessions};
use crate::proxy::upstream::connect::Resolver;
use crate::proxy::upstream::pool::IdlePool;
use crate::route::{SnapshotReader, SnapshotRef};
use crate::telemetry::WorkerMetrics;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::connection::LocalConfig;
use crate::wire::hpack::Limits;
use crate::wire::memory::ThreadMemory;
use crate::wire::settings::Settings;

/// Receive window of a client's whole connection, in octets: enough for four streams with the
/// largest default windows. It is released on receipt, so that it bounds no memory: the windows of
/// streams do.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The state that all workers share.
#[derive(Clone, Default)]
pub(super) struct SharedState {
    shared_sessions: SharedSessions,
    buffer_budget: BufferBudget,
}

/// The state that all connections of one thread share.
pub(super) struct WorkerContext {
    epoch: Cell<PollEpoch>,
    /// The rest of the budget of the poll that runs now.
    poll_budget: Cell<PollBudget>,
    pub(super) metrics: WorkerMetrics,
    /// The read buffer. Frames are parsed in it and forwarded out of it.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// The buffer in which TLS records are decrypted and encrypted.
    tls_buffer: TlsBuffer,
    pub(super) connection_memory: Rc<ThreadMemory>,
    pub(super) shutdown: Cell<Shutdown>,
    /// Octets of inflated messages that connections hold until they are complete.
    pub(super) inflated: Gauge,
    /// The memory for buffered octets, of all workers.
    pub(super) buffer_budget: BufferBudget,
    pub(super) idle_pool: IdlePool,
    pub(super) grace_sessions: GraceSessions,
    /// Connections without an admitted call.
    unauthenticated: Rc<UnauthenticatedConnections>,
    pub(super) handshakes: HandshakeLimiter,
    pub(super) resolver: Rc<Resolver>,
    snapshots: RefCell<SnapshotReader>,
    wakers: RefCell<Slab<Waker>>,
    /// Keys of the wakers of connections that stopped reading from upstreams for lack of memory.
    memory_waiters: RefCell<BTreeSet<usize>>,
    /// The number of connections of this thread. The acceptor reads it, too.
    load: Arc<AtomicUsize>,
    /// Notified when the last connection has closed during a shutdown.
    all_closed: Notify,
}

impl WorkerContext {
    pub(super) fn new(
        snapshots: SnapshotReader,
        metrics: WorkerMetrics,
        shared: SharedState,
        (eviction, load): (Arc<EvictionState>, Arc<AtomicUsize>),
        now: Instant,
    ) -> Self {
        Self {
            epoch: Cell::default(),
            poll_budget: Cell::new(PollBudget::new(now)),
            snapshots: RefCell::new(snapshots),
            idle_pool: IdlePool::new(metrics.clone()),
            grace_sessions: GraceSessions::new(shared.shared_sessions),
            metrics,
            scratch: RefCell::new(vec![0; usize_from(READ_MAX)].into_boxed_slice()),
            tls_buffer: TlsBuffer::default(),
            connection_memory: Rc::default(),
            shutdown: Cell::new(Shutdown::Run),
            inflated: Gauge::default(),
            buffer_budget: shared.buffer_budget,
            unauthenticated: UnauthenticatedConnections::new(eviction),
            handshakes: HandshakeLimiter::default(),
            resolver: Rc::default(),
            wakers: RefCell::default(),
            memory_waiters: RefCell::default(),
            load,
            all_closed: Notify::new(),
        }
    }

    /// Reports a state that must be impossible: a bug of sconce, which ends at most the call that
    /// has met it. `reason` names the state, in snake_case. Panics in debug builds.
    #[cold]
    pub(super) fn internal_error(&self, reason: &'static str) {
        debug_assert!(false, "{reason}");
        self.metrics.internal_error(reason);
    }

    /// Stores a connection's waker under its key, or under a new one.
    pub(super) fn register_waker(&self, key: Option<usize>, waker: &Waker) -> usize {
        let mut wakers = self.wakers.borrow_mut();
        match key.and_then(|key| wakers.get_mut(key).map(|known| (key, known))) {
            Some((key, known)) => {
                known.clone_from(waker);
                key
            }
            None => wakers.insert(waker.clone()),
        }
    }

    pub(super) fn unregister_waker(&self, key: Option<usize>) {
        if let Some(key) = key {
            self.wakers.borrow_mut().try_remove(key);
        }
    }

    /// Wakes this connection when buffer memory is released.
    pub(super) fn wake_when_memory_freed(&self, key: Option<usize>) {
        self.memory_waiters.borrow_mut().extend(key);
    }

    pub(super) fn wake_memory_waiters(&self) {
        let wakers = self.wakers.borrow();
        let waiters = self.memory_waiters.take();
        waiters.iter().filter_map(|key| wakers.get(*key)).for_each(Waker::wake_by_ref);
    }

    /// Begins a poll of one connection, with a whole budget.
    pub(super) fn begin_poll(&self, now: Instant) -> PollEpoch {
        self.poll_budget.set(PollBudget::new(now));
        self.epoch.set(self.epoch.get().next());
        self.epoch.get()
    }

    /// Charges octets that were read to the poll.
    pub(super) fn spend_octets(&self, octets: usize) {
        let mut budget = self.poll_budget.get();
        budget.spend_octets(octets);
        self.poll_budget.set(budget);
    }

    /// Charges an event to the poll. Returns true if the clock is to be read now.
    pub(super) fn spend_event(&self, is_head: bool) -> bool {
        let mut budget = self.poll_budget.get();
        let is_due = budget.spend_event(is_head);
        self.poll_budget.set(budget);
        is_due
    }

    /// Whether the poll must end before all octets that were read are parsed.
    pub(super) fn must_stop_parsing(&self, now: Instant) -> bool {
        self.poll_budget.get().must_stop_parsing(now)
    }

    /// Whether the poll must end before the next read.
    pub(super) fn must_yield(&self, now: Instant) -> bool {
        self.poll_budget.get().is_spent(now)
    }

    /// The latest snapshot.
    pub(super) fn snapshot(&self) -> SnapshotRef {
        Rc::clone(self.snapshots.borrow_mut().latest())
    }

    /// The generation of the latest snapshot.
    pub(super) fn generation(&self) -> u64 {
        self.snapshots.borrow_mut().latest().generation
    }

    /// Adds a connection to those without an admitted call.
    pub(super) fn register_unauthenticated(
        &self,
        sequence: u64,
        peer: SocketAddr,
    ) -> Unauthenticated {
        self.unauthenticated.register(sequence, peer)
    }

    /// Waits for eviction requests of the acceptor. Returns their number.
    pub(super) async fn eviction_requested(&self) -> usize {
        self.unauthenticated.eviction_requested().await
    }

    /// Evicts the `count` oldest connections without an admitted call.
    pub(super) fn evict_oldest(&self, count: usize) {
        for key in (0..count).map_while(|_| self.unauthenticated.evict_oldest()).flatten() {
            if let Some(waker) = self.wakers.borrow().get(key) {
                waker.wake_by_ref();
            }
        }
    }

    pub(super) fn has_connections(&self) -> bool {
        self.load.load(Ordering::Relaxed) > 0
    }

    /// Subtracts one connection from the load.
    pub(super) fn connection_closed(&self) {
        let before = self.load.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.shutdown.get() != Shutdown::Run {
            self.all_closed.notify_one();
        }
    }

    /// Waits until the last connection has closed during a shutdown.
    pub(super) async fn all_closed(&self) {
        self.all_closed.notified().await;
    }

    pub(super) fn apply_shutdown(&self, shutdown: Shutdown) {
        self.shutdown.set(shutdown);
        if shutdown != Shutdown::Run {
            self.idle_pool.clear();
        }
        self.wake_all();
    }

    /// Wakes every connection, which then reads the latest snapshot and the shutdown phase.
    pub(super) fn wake_all(&self) {
        for (_, waker) in self.wakers.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// The TLS stream of a new connection; `None` on a clear-text address.
    pub(super) fn new_tls_stream(&self) -> Result<Option<Box<TlsStream>>, rustls::Error> {
        let snapshot = self.snapshot();
        let Some(config) = snapshot.tls.clone() else { return Ok(None) };
        let stream = TlsStream::new(config, self.tls_buffer.clone())
            .map(|stream| stream.with_authorities(snapshot.client_authorities.clone()));
        let stream = stream.inspect_err(|error| {
            if log_limit::allow(LineKind::NotAccepted, &"TLS") {
                tracing::error!(%error, "cannot create a TLS session; closing the connection");
            }
        });
        stream.map(|stream| Some(Box::new(stream)))
    }

    /// The SETTINGS and limits of client connections.
    pub(super) fn local_config(&self) -> LocalConfig {
        let snapshot = self.snapshot();
        let limits = &snapshot.limits;
        let settings = Settings {
            max_concurrent_streams: snapshot.streams_per_connection,
            max_header_list_size: limits.header_list,
            ..Settings::INITIAL
        };
        let headers = Limits {
            octets: usize_from(limits.header_list),
            count: usize_from(limits.header_count),
        };
        LocalConfig { settings, window: CONNECTION_WINDOW, headers }
    }
}
