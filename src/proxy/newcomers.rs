//! Newcomers: client connections that had no admitted call yet, in the order of their acceptance.
//!
//! When there is no place for a new connection, the oldest of these makes room: who has proved
//! nothing must not keep out who may. Each worker knows its own; the acceptor sees how old the
//! oldest one of each worker is, and asks that worker to end it. A connection leaves the list with
//! its first admitted call: no later call touches it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::proxy::handshakes::Ticket;
use crate::proxy::places;
use crate::proxy::relay::{Phase, Relay};
use crate::telemetry::log_limit::{self, Kind};

/// There is none.
const NONE: u64 = u64::MAX;

/// What the acceptor sees of a worker's newcomers.
pub(super) struct Oldest {
    /// The place of the oldest one in the order of acceptance.
    order: AtomicU64,
    /// How many there are.
    count: AtomicUsize,
    /// How many are to be ended.
    asked: AtomicUsize,
    wake: Notify,
}

impl Default for Oldest {
    fn default() -> Self {
        let order = AtomicU64::new(NONE);
        let (count, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { order, count, asked, wake: Notify::new() }
    }
}

impl Oldest {
    /// The place of the oldest one in the order of acceptance, if there is any that is not asked
    /// for already: one makes room for one.
    pub(super) fn order(&self) -> Option<u64> {
        let is_left = self.asked.load(Ordering::Relaxed) < self.count.load(Ordering::Relaxed);
        Some(self.order.load(Ordering::Relaxed)).filter(|order| is_left && *order != NONE)
    }

    /// Asks for the oldest one to be ended.
    pub(super) fn evict(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits until some are to be ended; how many.
    pub(super) async fn asked(&self) -> usize {
        self.wake.notified().await;
        self.asked.swap(0, Ordering::Relaxed)
    }
}

/// The newcomers of one worker.
pub(super) struct Newcomers {
    waiting: RefCell<BTreeMap<u64, Rc<State>>>,
    oldest: Arc<Oldest>,
}

/// What a worker does to a newcomer.
#[derive(Default)]
struct State {
    is_evicted: Cell<bool>,
    /// Where its task's waker is kept.
    waker: Cell<Option<usize>>,
}

impl Newcomers {
    /// None yet.
    pub(super) fn new(oldest: Arc<Oldest>) -> Rc<Self> {
        Rc::new(Self { waiting: RefCell::default(), oldest })
    }

    /// One more, with its place in the order of acceptance.
    pub(super) fn enter(self: &Rc<Self>, order: u64, peer: SocketAddr) -> Newcomer {
        let state = Rc::new(State::default());
        self.waiting.borrow_mut().insert(order, Rc::clone(&state));
        self.publish();
        let (all, turn) = (Rc::clone(self), Ticket::default());
        Newcomer { all, order, peer, state, turn, cleartext: None }
    }

    /// Ends the oldest one, if there is any. The key of its task's waker, if it has one.
    pub(super) fn evict(&self) -> Option<Option<usize>> {
        let (_, state) = self.waiting.borrow_mut().pop_first()?;
        self.publish();
        state.is_evicted.set(true);
        Some(state.waker.get())
    }

    /// Waits until the acceptor wants some to be ended; how many.
    pub(super) async fn asked(&self) -> usize {
        self.oldest.asked().await
    }

    fn publish(&self) {
        let waiting = self.waiting.borrow();
        let oldest = waiting.first_key_value().map_or(NONE, |(order, _)| *order);
        self.oldest.order.store(oldest, Ordering::Relaxed);
        self.oldest.count.store(waiting.len(), Ordering::Relaxed);
    }
}

/// A connection that had no admitted call yet.
pub(super) struct Newcomer {
    all: Rc<Newcomers>,
    order: u64,
    pub(super) peer: SocketAddr,
    state: Rc<State>,
    /// Its turn to go on with the handshake of TLS.
    pub(super) turn: Ticket,
    /// Octets that it may still send in clear text where TLS is due, once it has begun to.
    pub(super) cleartext: Option<usize>,
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.all.waiting.borrow_mut().remove(&self.order);
        self.all.publish();
    }
}

impl Relay {
    /// Whether a line about this connection is to be logged: its client may cause many.
    pub(super) fn may_log(&self, kind: Kind) -> bool {
        log_limit::admits(kind, &places::source(self.peer.ip()))
    }

    /// A call was admitted: whoever sends it is no stranger.
    pub(super) fn be_known(&mut self) {
        self.newcomer = None;
    }

    /// Ends the connection if it has to make room for another one.
    pub(super) fn make_room_if_asked(&mut self) {
        let Some(newcomer) = &self.newcomer else { return };
        newcomer.state.waker.set(self.waker);
        if newcomer.state.is_evicted.get() && self.phase != Phase::Over {
            self.worker.metrics.refused("connections.evicted");
            self.cancel_all();
            self.client.wire.goodbye(false);
            // Its place is wanted now: what the socket does not take at once is not said.
            self.phase = Phase::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_to_be_accepted_that_is_still_there() {
        let oldest = Arc::new(Oldest::default());
        let newcomers = Newcomers::new(Arc::clone(&oldest));
        assert_eq!(oldest.order(), None);
        let peer = ([192, 0, 2, 1], 1).into();
        let [second, first, third] = [5, 3, 9].map(|order| newcomers.enter(order, peer));
        assert_eq!(oldest.order(), Some(3));
        drop(first);
        assert_eq!(oldest.order(), Some(5));
        second.state.waker.set(Some(7));
        assert_eq!(newcomers.evict(), Some(Some(7)));
        assert!(second.state.is_evicted.get());
        assert_eq!(oldest.order(), Some(9));
        drop(second);
        assert_eq!(oldest.order(), Some(9));
        drop(third);
        assert_eq!(oldest.order(), None);
        assert_eq!(newcomers.evict(), None);
    }

    #[tokio::test]
    async fn what_the_acceptor_asks_for_is_counted_until_the_worker_looks() {
        let oldest = Arc::new(Oldest::default());
        oldest.evict();
        oldest.evict();
        assert_eq!(oldest.asked().await, 2);
    }
}
