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

use super::{Handed, Start, Told, Worker};
use crate::proxy::admit::whole;
use crate::proxy::handshakes::{self, Handshakes};
use crate::proxy::listen::Door;
use crate::proxy::newcomers::Newcomers;
use crate::proxy::shelf::{SWEEP, Shelf};
use crate::proxy::sum::Sum;
use crate::proxy::tenure::Tenures;
use crate::proxy::tls::Room;
use crate::proxy::turn::{READ_MAX, TurnBudget};

/// Threads of a worker for what blocks: look-ups of drivers' names.
const BLOCKING_MAX: usize = 8;
/// Tasks that run between two looks at the sockets: few, since each may be a bulk transfer.
const TASKS_PER_EVENT: u32 = 4;

/// Starts a worker's thread.
#[expect(clippy::disallowed_methods, reason = "the first turn begins here")]
pub(in crate::proxy) fn start(index: usize, start: Start) -> io::Result<JoinHandle<()>> {
    let (tell, failed) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // It belongs to the thread that makes it.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(BLOCKING_MAX);
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
        let Start { live, metrics, told, hand, handed, door, shared } = start;
        let published = live.published();
        let worker = Rc::new(Worker {
            turn: Cell::default(),
            budget: Cell::new(TurnBudget::new(Instant::now())),
            reader: RefCell::new(live.reader()),
            shelf: Shelf::new(metrics.clone()),
            tenures: Tenures::new(shared.begun),
            metrics,
            scratch: RefCell::new(vec![0; whole(READ_MAX)].into_boxed_slice()),
            room: Room::default(),
            told: Cell::new(Told::Serve),
            inflated: Sum::default(),
            pool: shared.pool,
            newcomers: Newcomers::new(hand.oldest),
            handshakes: Handshakes::default(),
            resolver: Rc::default(),
            wakers: RefCell::default(),
            held_back: RefCell::default(),
            load: hand.load,
            idle: Notify::new(),
        });
        // The hand's sender ends here, so that there is an end to what is handed over.
        drop(hand.sockets);
        runtime.block_on(serve(worker, handed, told, door, published));
    })?;
    failed.recv().map_or(Ok(thread), Err)
}

/// Takes sockets until there are no more, then waits for the connections to end.
async fn serve(
    worker: Rc<Worker>,
    mut handed: mpsc::Receiver<Handed>,
    mut told: watch::Receiver<Told>,
    door: Option<Door>,
    mut published: watch::Receiver<u64>,
) {
    if let Some(door) = door {
        tokio::task::spawn_local(door.accept(Rc::clone(&worker), told.clone()));
    }
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    tokio::task::spawn_local(handshakes::go_on(Rc::clone(&worker)));
    let mut open = true;
    let mut freed = worker.pool.freed();
    let mut trusted = worker.latest().authorities.clone();
    let mut seen = worker.generation();
    while (open && worker.told.get() == Told::Serve) || worker.load.load(Ordering::Relaxed) > 0 {
        tokio::select! {
            accepted = handed.recv(), if open => match accepted {
                Some((socket, peer, place)) => match TcpStream::from_std(socket) {
                    Ok(socket) => worker.adopt((socket, peer, place)),
                    Err(_) => worker.dismiss(),
                },
                None => open = false,
            },
            Ok(()) = published.changed() => {
                let latest = worker.latest();
                let now = latest.authorities.clone();
                if now.as_ref().map(Arc::as_ptr) != trusted.as_ref().map(Arc::as_ptr)
                    || latest.removals.iter().any(|removal| removal.number() > seen)
                {
                    worker.wake_all();
                }
                (trusted, seen) = (now, latest.generation);
            }
            Ok(()) = freed.changed() => worker.wake_held_back(),
            Ok(()) = told.changed() => worker.tell(*told.borrow_and_update()),
            count = worker.newcomers.asked() => worker.evict(count),
            () = worker.idle.notified() => {}
        }
    }
}

/// Lets go of legs that nobody takes.
#[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
async fn sweep(worker: Rc<Worker>) {
    loop {
        worker.shelf.filled().await;
        loop {
            tokio::time::sleep(SWEEP).await;
            if !worker.shelf.sweep(Instant::now()) {
                break;
            }
        }
    }
}
