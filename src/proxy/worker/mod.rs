//! Worker: one thread with its own runtime, its read buffer and its client connections.

mod thread;

pub(super) use thread::start;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};

use crate::proxy::admit::whole;
use crate::proxy::dial::Resolver;
use crate::proxy::handshakes::Handshakes;
use crate::proxy::leg::Leg;
use crate::proxy::listen::Door;
use crate::proxy::newcomers::{Newcomers, Oldest};
use crate::proxy::parked::Pool;
use crate::proxy::places::Place;
use crate::proxy::relay::Relay;
use crate::proxy::shelf::Shelf;
pub(super) use crate::proxy::sum::{Share, Sum};
use crate::proxy::tenure::{Begun, Tenures};
use crate::proxy::tls::{Room, Session};
use crate::proxy::turn::TurnBudget;
use crate::route::{Held, Live, Reader};
use crate::telemetry::WorkerMetrics;
use crate::telemetry::log_limit::{self, Kind};
use crate::wire::connection::{Connection, Offer, Role};
use crate::wire::hpack::Limits;
use crate::wire::settings::Settings;

/// Credit of a client's whole connection, in octets: enough for four streams with the largest
/// windows by default. It goes back on receipt, so that it bounds no memory: windows of streams do.
const WINDOW: u32 = 16 << 20;
/// Sockets that may wait for their worker.
const HANDED_MAX: usize = 256;

/// What every connection of a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Serve.
    Serve,
    /// Take nothing new, finish what is under way.
    Leave,
    /// End now.
    End,
}

/// A socket that was accepted, and its client's address.
pub(super) type Accepted = (TcpStream, SocketAddr, Place);
/// The same on its way to another thread.
pub(super) type Handed = (std::net::TcpStream, SocketAddr, Place);

/// One turn of one connection's task. No two of a thread are equal, and none is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn(u64);

impl Turn {
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// What the connections of one thread share.
pub(super) struct Worker {
    turn: Cell<Turn>,
    /// What is left of the turn of the connection that runs now.
    budget: Cell<TurnBudget>,
    pub(super) metrics: WorkerMetrics,
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Where TLS is opened and sealed.
    room: Room,
    pub(super) told: Cell<Told>,
    /// Octets that connections with compressed messages keep for drivers that are slow.
    pub(super) inflated: Sum,
    /// Octets that all connections of all workers have parked for drivers.
    pub(super) pool: Pool,
    /// Legs that no connection uses.
    pub(super) shelf: Shelf,
    /// Sessions that began with a good proof.
    pub(super) tenures: Tenures,
    /// Connections that had no admitted call yet.
    newcomers: Rc<Newcomers>,
    pub(super) handshakes: Handshakes,
    pub(super) resolver: Rc<Resolver>,
    reader: RefCell<Reader>,
    wakers: RefCell<Slab<Waker>>,
    /// The keys of those whose drivers are not read while memory is short.
    held_back: RefCell<BTreeSet<usize>>,
    /// Connections of this thread, as the acceptor sees them too.
    load: Arc<AtomicUsize>,
    /// Says that the last connection has ended.
    idle: Notify,
}

impl Worker {
    /// Keeps a connection's waker, so that it hears what the worker is told.
    pub(super) fn remember(&self, key: Option<usize>, waker: &Waker) -> usize {
        let mut wakers = self.wakers.borrow_mut();
        match key.and_then(|key| wakers.get_mut(key).map(|known| (key, known))) {
            Some((key, known)) => {
                known.clone_from(waker);
                key
            }
            None => wakers.insert(waker.clone()),
        }
    }

    pub(super) fn forget(&self, key: Option<usize>) {
        if let Some(key) = key {
            self.wakers.borrow_mut().try_remove(key);
        }
    }

    /// A connection is to look again when memory was given back.
    pub(super) fn wake_when_freed(&self, key: Option<usize>) {
        self.held_back.borrow_mut().extend(key);
    }

    fn wake_held_back(&self) {
        let wakers = self.wakers.borrow();
        let held_back = self.held_back.take();
        held_back.iter().filter_map(|key| wakers.get(*key)).for_each(Waker::wake_by_ref);
    }

    /// A new turn begins.
    pub(super) fn begin_turn(&self, now: Instant) -> Turn {
        self.budget.set(TurnBudget::new(now));
        self.turn.set(self.turn.get().next());
        self.turn.get()
    }

    /// Octets were read in this turn.
    pub(super) fn spend_octets(&self, octets: usize) {
        let mut budget = self.budget.get();
        budget.spend_octets(octets);
        self.budget.set(budget);
    }

    /// An event was handled in this turn. Says whether the clock is to be read now.
    pub(super) fn spend_event(&self, is_head: bool) -> bool {
        let mut budget = self.budget.get();
        let is_due = budget.spend_event(is_head);
        self.budget.set(budget);
        is_due
    }

    /// Whether the connection that runs must stop in the middle of what it has read.
    pub(super) fn is_turn_costly(&self, now: Instant) -> bool {
        self.budget.get().is_costly(now)
    }

    /// Whether the connection that runs must let others run.
    pub(super) fn is_turn_over(&self, now: Instant) -> bool {
        self.budget.get().is_spent(now)
    }

    /// The latest snapshot.
    pub(super) fn latest(&self) -> Held {
        Rc::clone(self.reader.borrow_mut().latest())
    }

    /// The how-manieth snapshot the latest one is.
    pub(super) fn generation(&self) -> u64 {
        self.reader.borrow_mut().latest().generation
    }

    /// Begins a connection, which was counted as load when it was given to this worker.
    pub(super) fn adopt(self: &Rc<Self>, accepted: Accepted) {
        tokio::task::spawn_local(converse(Rc::clone(self), accepted));
    }

    /// Counts one connection less.
    fn dismiss(&self) {
        let before = self.load.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.told.get() != Told::Serve {
            self.idle.notify_one();
        }
    }

    /// Ends so many of the oldest connections that had no admitted call.
    fn evict(&self, count: usize) {
        for key in (0..count).map_while(|_| self.newcomers.evict()).flatten() {
            if let Some(waker) = self.wakers.borrow().get(key) {
                waker.wake_by_ref();
            }
        }
    }

    fn tell(&self, told: Told) {
        self.told.set(told);
        if told != Told::Serve {
            self.shelf.clear();
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
    fn tls(&self) -> Result<Option<Box<Session>>, rustls::Error> {
        let latest = self.latest();
        let Some(config) = latest.tls.clone() else { return Ok(None) };
        let session = Session::new(config, self.room.clone())
            .map(|session| session.vouched_by(latest.authorities.clone()));
        let session = session.inspect_err(|fault| {
            if log_limit::admits(Kind::NotAccepted, &"TLS") {
                tracing::error!(%fault, "no TLS can be spoken");
            }
        });
        session.map(|session| Some(Box::new(session)))
    }

    /// What clients are offered.
    pub(super) fn offer(&self) -> Offer {
        let snapshot = self.latest();
        let limits = &snapshot.limits;
        let settings = Settings {
            streams: snapshot.streams_per_connection,
            header_list: limits.header_list,
            ..Settings::INITIAL
        };
        let headers =
            Limits { octets: whole(limits.header_list), count: whole(limits.header_count) };
        Offer { settings, window: WINDOW, headers }
    }
}

/// A worker as others see it.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) sockets: mpsc::Sender<Handed>,
    pub(super) load: Arc<AtomicUsize>,
    /// The oldest of its connections that had no admitted call.
    pub(super) oldest: Arc<Oldest>,
}

/// What all workers share.
#[derive(Clone, Default)]
pub(super) struct Shared {
    begun: Begun,
    pool: Pool,
}

/// What a worker is started with.
pub(super) struct Start {
    pub(super) live: Live,
    pub(super) metrics: WorkerMetrics,
    pub(super) told: watch::Receiver<Told>,
    pub(super) hand: Hand,
    pub(super) handed: mpsc::Receiver<Handed>,
    /// The door to mind, which one worker does.
    pub(super) door: Option<Door>,
    pub(super) shared: Shared,
}

impl Hand {
    /// A hand, and what the worker takes from it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Handed>) {
        let (sockets, handed) = mpsc::channel(HANDED_MAX);
        (Self { sockets, load: Arc::default(), oldest: Arc::default() }, handed)
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection's life begins here")]
async fn converse(worker: Rc<Worker>, (socket, peer, place): Accepted) {
    let _counted = Counted(Rc::clone(&worker));
    let newcomer = worker.newcomers.enter(place.order, peer);
    let _place = place;
    let now = Instant::now();
    let wire = Connection::new(Role::Server, worker.offer(), now);
    let Ok(tls) = worker.tls() else { return };
    // In a box: an async function has room for what it awaits, and again for what it moves.
    let client = Leg::new(socket, tls, wire, now);
    Box::new(Relay::new(worker, client, newcomer, now)).await;
}

/// A connection that counts as load until it has ended, in whichever way.
struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}
