//! Worker: one thread with its own runtime, which runs one task for each client connection.
//!
//! Must never happen here: a call that blocks the thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;

use crate::proxy::acceptor::{AcceptedSocket, Acceptor, HandedOff, WorkerHandle};
use crate::proxy::context::{SharedState, WorkerContext};
use crate::proxy::convert::usize_from;
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::relay::Relay;
use crate::proxy::shutdown::Shutdown;
use crate::proxy::upstream::pool::SWEEP_INTERVAL;
use crate::route::SnapshotHandle;
use crate::telemetry::WorkerMetrics;
use crate::wire::connection::{Connection, Role};

/// Threads of a worker for blocking calls, which look up the names of drivers.
const BLOCKING_THREADS_MAX: usize = 8;
/// Tasks that run between two polls of the sockets: few, since each may be a bulk transfer.
const TASKS_PER_EVENT: u32 = 4;

/// The arguments of a worker's thread.
pub(super) struct WorkerArgs {
    pub(super) snapshots: SnapshotHandle,
    pub(super) metrics: WorkerMetrics,
    pub(super) shutdown_rx: watch::Receiver<Shutdown>,
    pub(super) handle: WorkerHandle,
    pub(super) handoff_rx: mpsc::Receiver<HandedOff>,
    /// The acceptor, which runs on one of the workers.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) shared: SharedState,
}

/// Starts a worker's thread.
#[expect(clippy::disallowed_methods, reason = "the first poll begins here")]
pub(super) fn start(index: usize, args: WorkerArgs) -> io::Result<JoinHandle<()>> {
    let (report, failed) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // A local runtime belongs to the thread that builds it.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(BLOCKING_THREADS_MAX);
        let runtime = match builder
            .enable_all()
            .event_interval(TASKS_PER_EVENT)
            .build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime,
            Err(error) => {
                report.try_send(error).ok();
                return;
            }
        };
        drop(report);
        let WorkerArgs { snapshots, metrics, shutdown_rx, handle, handoff_rx, acceptor, shared } =
            args;
        let WorkerHandle { handoff_tx, load, eviction } = handle;
        // Only the acceptor keeps senders, so that the queue ends with the acceptor.
        drop(handoff_tx);
        let reloads = snapshots.subscribe();
        let reader = snapshots.reader();
        let now = Instant::now();
        let ctx = Rc::new(WorkerContext::new(reader, metrics, shared, (eviction, load), now));
        runtime.block_on(run(ctx, handoff_rx, shutdown_rx, acceptor, reloads));
    })?;
    failed.recv().map_or(Ok(thread), Err)
}

/// Takes sockets until the acceptor ends or shutdown begins, then waits until all connections have
/// closed.
async fn run(
    ctx: Rc<WorkerContext>,
    mut handoff_rx: mpsc::Receiver<HandedOff>,
    mut shutdown_rx: watch::Receiver<Shutdown>,
    acceptor: Option<Acceptor>,
    mut reloads: watch::Receiver<u64>,
) {
    if let Some(acceptor) = acceptor {
        spawn_acceptor(&ctx, acceptor, shutdown_rx.clone());
    }
    tokio::task::spawn_local(sweep_idle_pool(Rc::clone(&ctx)));
    tokio::task::spawn_local(refill_handshakes(Rc::clone(&ctx)));
    let mut is_accepting = true;
    let mut memory_freed = ctx.buffer_budget.memory_freed();
    let mut authorities = ctx.snapshot().client_authorities.clone();
    let mut generation = ctx.generation();
    while (is_accepting && ctx.shutdown.get() == Shutdown::Run) || ctx.has_connections() {
        tokio::select! {
            accepted = handoff_rx.recv(), if is_accepting => match accepted {
                Some((socket, peer, permit)) => match TcpStream::from_std(socket) {
                    Ok(socket) => spawn_connection(&ctx, (socket, peer, permit)),
                    Err(_) => ctx.connection_closed(),
                },
                None => is_accepting = false,
            },
            Ok(()) = reloads.changed() => {
                let snapshot = ctx.snapshot();
                let latest = snapshot.client_authorities.clone();
                if latest.as_ref().map(Arc::as_ptr) != authorities.as_ref().map(Arc::as_ptr)
                    || snapshot.removals.iter().any(|removal| removal.generation() > generation)
                {
                    ctx.wake_all();
                }
                (authorities, generation) = (latest, snapshot.generation);
            }
            Ok(()) = memory_freed.changed() => ctx.wake_memory_waiters(),
            Ok(()) = shutdown_rx.changed() => {
                ctx.apply_shutdown(*shutdown_rx.borrow_and_update());
            }
            count = ctx.eviction_requested() => ctx.evict_oldest(count),
            () = ctx.all_closed() => {}
        }
    }
}

fn spawn_acceptor(
    ctx: &Rc<WorkerContext>,
    acceptor: Acceptor,
    shutdown_rx: watch::Receiver<Shutdown>,
) {
    let (metrics, snapshots, spawner) = (ctx.metrics.clone(), Rc::clone(ctx), Rc::clone(ctx));
    let snapshot = move || snapshots.snapshot();
    let spawn = move |accepted| spawn_connection(&spawner, accepted);
    tokio::task::spawn_local(acceptor.run(snapshot, metrics, shutdown_rx, spawn));
}

/// Spawns the task of a connection, which already counts in the load of this worker.
fn spawn_connection(ctx: &Rc<WorkerContext>, accepted: AcceptedSocket) {
    tokio::task::spawn_local(run_connection(Rc::clone(ctx), accepted));
}

#[expect(clippy::disallowed_methods, reason = "the life of a connection begins here")]
async fn run_connection(ctx: Rc<WorkerContext>, (socket, peer, permit): AcceptedSocket) {
    let _load = LoadGuard(Rc::clone(&ctx));
    let unauthenticated = ctx.register_unauthenticated(permit.sequence, peer);
    let _permit = permit;
    let now = Instant::now();
    let memory = Rc::clone(&ctx.connection_memory);
    let wire = Connection::with_memory(Role::Server, ctx.local_config(), memory, now);
    let Ok(tls) = ctx.new_tls_stream() else { return };
    // Boxed: an async function stores the future it awaits and also the value it moves into it.
    let downstream = H2Connection::new(socket, tls, wire, now);
    Box::new(Relay::new(ctx, downstream, unauthenticated, now)).await;
}

/// Counts a connection in the load until it is dropped.
struct LoadGuard(Rc<WorkerContext>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

/// Closes idle upstream connections that exceed their idle timeout or maximum age.
#[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
async fn sweep_idle_pool(ctx: Rc<WorkerContext>) {
    loop {
        ctx.idle_pool.wait_filled().await;
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if !ctx.idle_pool.sweep(Instant::now()) {
                break;
            }
        }
    }
}

/// Grants TLS handshakes for as long as the worker runs: `listen.handshakes_per_worker` each time
/// that all other ready tasks have run.
async fn refill_handshakes(ctx: Rc<WorkerContext>) {
    let most = || usize_from(ctx.snapshot().handshakes_per_worker);
    ctx.handshakes.refill(most());
    loop {
        ctx.handshakes.wait_queued().await;
        loop {
            // All tasks that are ready run first, and the sockets are polled.
            yield_now().await;
            if !ctx.handshakes.refill(most()) {
                break;
            }
        }
    }
}
