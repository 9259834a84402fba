//! Worker: one thread with its own runtime, its read buffer and its client connections.

mod thread;

pub(super) use thread::start;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tokio::sync::{Notify, mpsc, watch};

use crate::proxy::acceptor::{AcceptedSocket, Acceptor, HandedOff, WorkerHandle};
use crate::proxy::budget::BufferBudget;
use crate::proxy::connect::Resolver;
use crate::proxy::convert::usize_from;
use crate::proxy::gauge::Gauge;
use crate::proxy::grace::{GraceSessions, SharedSessions};
use crate::proxy::h2_connection::H2Connection;
use crate::proxy::handshakes::HandshakeLimiter;
use crate::proxy::poll_budget::PollBudget;
use crate::proxy::poll_epoch::PollEpoch;
use crate::proxy::pool::IdlePool;
use crate::proxy::relay::Relay;
use crate::proxy::shutdown::Shutdown;
use crate::proxy::tls::{TlsBuffer, TlsStream};
use crate::proxy::unauthenticated::UnauthenticatedConnections;
use crate::route::{SnapshotHandle, SnapshotReader, SnapshotRef};
use crate::telemetry::WorkerMetrics;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::connection::{Connection, LocalConfig, Role};
use crate::wire::hpack::Limits;
use crate::wire::settings::Settings;

/// Credit of a client's whole connection, in octets: enough for four streams with the largest
/// windows by default. It goes back on receipt, so that it bounds no memory: windows of streams do.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What the connections of one thread share.
pub(super) struct WorkerContext {
    epoch: Cell<PollEpoch>,
    /// What is left of the turn of the connection that runs now.
    poll_budget: Cell<PollBudget>,
    pub(super) metrics: WorkerMetrics,
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Where TLS is opened and sealed.
    tls_buffer: TlsBuffer,
    pub(super) shutdown: Cell<Shutdown>,
    /// Octets that connections with compressed messages keep for drivers that are slow.
    pub(super) inflated: Gauge,
    /// Octets that all connections of all workers have parked for drivers.
    pub(super) buffer_budget: BufferBudget,
    /// Legs that no connection uses.
    pub(super) idle_pool: IdlePool,
    /// Sessions that began with a good proof.
    pub(super) grace_sessions: GraceSessions,
    /// Connections that had no admitted call yet.
    unauthenticated: Rc<UnauthenticatedConnections>,
    pub(super) handshakes: HandshakeLimiter,
    pub(super) resolver: Rc<Resolver>,
    snapshots: RefCell<SnapshotReader>,
    wakers: RefCell<Slab<Waker>>,
    /// The keys of those whose drivers are not read while memory is short.
    memory_waiters: RefCell<BTreeSet<usize>>,
    /// Connections of this thread, as the acceptor sees them too.
    load: Arc<AtomicUsize>,
    /// Says that the last connection has ended.
    all_closed: Notify,
}

impl WorkerContext {
    /// Keeps a connection's waker, so that it hears what the worker is told.
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

    /// A connection is to look again when memory was given back.
    pub(super) fn wake_when_memory_freed(&self, key: Option<usize>) {
        self.memory_waiters.borrow_mut().extend(key);
    }

    fn wake_memory_waiters(&self) {
        let wakers = self.wakers.borrow();
        let held_back = self.memory_waiters.take();
        held_back.iter().filter_map(|key| wakers.get(*key)).for_each(Waker::wake_by_ref);
    }

    /// A new turn begins.
    pub(super) fn begin_poll(&self, now: Instant) -> PollEpoch {
        self.poll_budget.set(PollBudget::new(now));
        self.epoch.set(self.epoch.get().next());
        self.epoch.get()
    }

    /// Octets were read in this turn.
    pub(super) fn spend_octets(&self, octets: usize) {
        let mut budget = self.poll_budget.get();
        budget.spend_octets(octets);
        self.poll_budget.set(budget);
    }

    /// An event was handled in this turn. Says whether the clock is to be read now.
    pub(super) fn spend_event(&self, is_head: bool) -> bool {
        let mut budget = self.poll_budget.get();
        let is_due = budget.spend_event(is_head);
        self.poll_budget.set(budget);
        is_due
    }

    /// Whether the connection that runs must stop in the middle of what it has read.
    pub(super) fn must_stop_parsing(&self, now: Instant) -> bool {
        self.poll_budget.get().must_stop_parsing(now)
    }

    /// Whether the connection that runs must let others run.
    pub(super) fn must_yield(&self, now: Instant) -> bool {
        self.poll_budget.get().is_spent(now)
    }

    /// The latest snapshot.
    pub(super) fn snapshot(&self) -> SnapshotRef {
        Rc::clone(self.snapshots.borrow_mut().latest())
    }

    /// The how-manieth snapshot the latest one is.
    pub(super) fn generation(&self) -> u64 {
        self.snapshots.borrow_mut().latest().generation
    }

    /// Begins a connection, which was counted as load when it was given to this worker.
    pub(super) fn spawn_connection(self: &Rc<Self>, accepted: AcceptedSocket) {
        tokio::task::spawn_local(run_connection(Rc::clone(self), accepted));
    }

    /// Counts one connection less.
    fn connection_closed(&self) {
        let before = self.load.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.shutdown.get() != Shutdown::Run {
            self.all_closed.notify_one();
        }
    }

    /// Ends so many of the oldest connections that had no admitted call.
    fn evict_oldest(&self, count: usize) {
        for key in (0..count).map_while(|_| self.unauthenticated.evict_oldest()).flatten() {
            if let Some(waker) = self.wakers.borrow().get(key) {
                waker.wake_by_ref();
            }
        }
    }

    fn apply_shutdown(&self, told: Shutdown) {
        self.shutdown.set(told);
        if told != Shutdown::Run {
            self.idle_pool.clear();
        }
        self.wake_all();
    }

    /// Each connection looks at what has changed.
    fn wake_all(&self) {
        for (_, waker) in self.wakers.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// The TLS of a new connection, if there is to be any.
    fn new_tls_stream(&self) -> Result<Option<Box<TlsStream>>, rustls::Error> {
        let latest = self.snapshot();
        let Some(config) = latest.tls.clone() else { return Ok(None) };
        let session = TlsStream::new(config, self.tls_buffer.clone())
            .map(|session| session.with_authorities(latest.client_authorities.clone()));
        let session = session.inspect_err(|fault| {
            if log_limit::allow(LineKind::NotAccepted, &"TLS") {
                tracing::error!(%fault, "no TLS can be spoken");
            }
        });
        session.map(|session| Some(Box::new(session)))
    }

    /// What clients are offered.
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

/// What all workers share.
#[derive(Clone, Default)]
pub(super) struct SharedState {
    shared_sessions: SharedSessions,
    buffer_budget: BufferBudget,
}

/// What a worker is started with.
pub(super) struct WorkerArgs {
    pub(super) snapshots: SnapshotHandle,
    pub(super) metrics: WorkerMetrics,
    pub(super) shutdown_rx: watch::Receiver<Shutdown>,
    pub(super) handle: WorkerHandle,
    pub(super) handoff_rx: mpsc::Receiver<HandedOff>,
    /// The door to mind, which one worker does.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) shared: SharedState,
}

#[expect(clippy::disallowed_methods, reason = "a connection's life begins here")]
async fn run_connection(worker: Rc<WorkerContext>, (socket, peer, place): AcceptedSocket) {
    let _counted = LoadGuard(Rc::clone(&worker));
    let newcomer = worker.unauthenticated.register(place.sequence, peer);
    let _place = place;
    let now = Instant::now();
    let wire = Connection::new(Role::Server, worker.local_config(), now);
    let Ok(tls) = worker.new_tls_stream() else { return };
    // In a box: an async function has room for what it awaits, and again for what it moves.
    let client = H2Connection::new(socket, tls, wire, now);
    Box::new(Relay::new(worker, client, newcomer, now)).await;
}

/// A connection that counts as load until it has ended, in whichever way.
struct LoadGuard(Rc<WorkerContext>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
