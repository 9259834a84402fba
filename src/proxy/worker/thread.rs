//! The thread of a worker: its runtime, and the loop that takes sockets and hears what changes.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::yield_now;

use crate::proxy::acceptor::{Acceptor, HandedOff};
use crate::proxy::convert::usize_from;
use crate::proxy::gauge::Gauge;
use crate::proxy::grace::GraceSessions;
use crate::proxy::handshakes::HandshakeLimiter;
use crate::proxy::poll_budget::{PollBudget, READ_MAX};
use crate::proxy::pool::{IdlePool, SWEEP_INTERVAL};
use crate::proxy::shutdown::Shutdown;
use crate::proxy::tls::TlsBuffer;
use crate::proxy::unauthenticated::UnauthenticatedConnections;
use crate::proxy::worker::{WorkerArgs, WorkerContext};

/// Threads of a worker for what blocks: look-ups of drivers' names.
const BLOCKING_THREADS_MAX: usize = 8;
/// Tasks that run between two looks at the sockets: few, since each may be a bulk transfer.
const TASKS_PER_EVENT: u32 = 4;

/// Starts a worker's thread.
#[expect(clippy::disallowed_methods, reason = "the first turn begins here")]
pub(in crate::proxy) fn start(index: usize, start: WorkerArgs) -> io::Result<JoinHandle<()>> {
    let (tell, failed) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // It belongs to the thread that makes it.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(BLOCKING_THREADS_MAX);
        let runtime = match builder
            .enable_all()
            .event_interval(TASKS_PER_EVENT)
            .build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime,
            Err(fault) => {
                tell.try_send(fault).ok();
                return;
            }
        };
        drop(tell);
        let WorkerArgs {
            snapshots: live,
            metrics,
            shutdown_rx: told,
            handle: hand,
            handoff_rx: handed,
            acceptor: door,
            shared,
        } = start;
        let published = live.subscribe();
        let worker = Rc::new(WorkerContext {
            epoch: Cell::default(),
            poll_budget: Cell::new(PollBudget::new(Instant::now())),
            snapshots: RefCell::new(live.reader()),
            idle_pool: IdlePool::new(metrics.clone()),
            grace_sessions: GraceSessions::new(shared.shared_sessions),
            metrics,
            scratch: RefCell::new(vec![0; usize_from(READ_MAX)].into_boxed_slice()),
            tls_buffer: TlsBuffer::default(),
            shutdown: Cell::new(Shutdown::Run),
            inflated: Gauge::default(),
            buffer_budget: shared.buffer_budget,
            unauthenticated: UnauthenticatedConnections::new(hand.eviction),
            handshakes: HandshakeLimiter::default(),
            resolver: Rc::default(),
            wakers: RefCell::default(),
            memory_waiters: RefCell::default(),
            load: hand.load,
            all_closed: Notify::new(),
        });
        // The hand's sender ends here, so that there is an end to what is handed over.
        drop(hand.handoff_tx);
        runtime.block_on(run(worker, handed, told, door, published));
    })?;
    failed.recv().map_or(Ok(thread), Err)
}

/// Takes sockets until there are no more, then waits for the connections to end.
async fn run(
    worker: Rc<WorkerContext>,
    mut handed: mpsc::Receiver<HandedOff>,
    mut told: watch::Receiver<Shutdown>,
    door: Option<Acceptor>,
    mut published: watch::Receiver<u64>,
) {
    if let Some(door) = door {
        tokio::task::spawn_local(door.run(Rc::clone(&worker), told.clone()));
    }
    tokio::task::spawn_local(sweep_idle_pool(Rc::clone(&worker)));
    tokio::task::spawn_local(refill_loop(Rc::clone(&worker)));
    let mut open = true;
    let mut freed = worker.buffer_budget.memory_freed();
    let mut trusted = worker.snapshot().client_authorities.clone();
    let mut seen = worker.generation();
    while (open && worker.shutdown.get() == Shutdown::Run)
        || worker.load.load(Ordering::Relaxed) > 0
    {
        tokio::select! {
            accepted = handed.recv(), if open => match accepted {
                Some((socket, peer, place)) => match TcpStream::from_std(socket) {
                    Ok(socket) => worker.spawn_connection((socket, peer, place)),
                    Err(_) => worker.connection_closed(),
                },
                None => open = false,
            },
            Ok(()) = published.changed() => {
                let latest = worker.snapshot();
                let now = latest.client_authorities.clone();
                if now.as_ref().map(Arc::as_ptr) != trusted.as_ref().map(Arc::as_ptr)
                    || latest.removals.iter().any(|removal| removal.generation() > seen)
                {
                    worker.wake_all();
                }
                (trusted, seen) = (now, latest.generation);
            }
            Ok(()) = freed.changed() => worker.wake_memory_waiters(),
            Ok(()) = told.changed() => worker.apply_shutdown(*told.borrow_and_update()),
            count = worker.unauthenticated.eviction_requested() => worker.evict_oldest(count),
            () = worker.all_closed.notified() => {}
        }
    }
}

/// Lets go of legs that nobody takes.
#[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
async fn sweep_idle_pool(worker: Rc<WorkerContext>) {
    loop {
        worker.idle_pool.wait_filled().await;
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if !worker.idle_pool.sweep(Instant::now()) {
                break;
            }
        }
    }
}

/// Lets handshakes go on for as long as the worker runs.
pub(super) async fn refill_loop(worker: Rc<WorkerContext>) {
    let most = || usize_from(worker.snapshot().handshakes_per_worker);
    worker.handshakes.refill(most());
    loop {
        worker.handshakes.wait_queued().await;
        loop {
            // All that is ready now runs first, and the sockets are looked at.
            yield_now().await;
            if !worker.handshakes.refill(most()) {
                break;
            }
        }
    }
}
