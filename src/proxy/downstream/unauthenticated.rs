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

use crate::proxy::downstream::handshakes::HandshakeTicket;

/// There is none.
const NONE: u64 = u64::MAX;

/// What the acceptor sees of a worker's newcomers.
pub(crate) struct EvictionState {
    /// The place of the oldest one in the order of acceptance.
    oldest: AtomicU64,
    /// How many there are.
    count: AtomicUsize,
    /// How many are to be ended.
    requested: AtomicUsize,
    wake: Notify,
}

impl Default for EvictionState {
    fn default() -> Self {
        let order = AtomicU64::new(NONE);
        let (count, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { oldest: order, count, requested: asked, wake: Notify::new() }
    }
}

impl EvictionState {
    /// The place of the oldest one in the order of acceptance, if there is any that is not asked
    /// for already: one makes room for one.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let is_left = self.requested.load(Ordering::Relaxed) < self.count.load(Ordering::Relaxed);
        Some(self.oldest.load(Ordering::Relaxed)).filter(|order| is_left && *order != NONE)
    }

    /// Asks for the oldest one to be ended.
    pub(crate) fn request_eviction(&self) {
        self.requested.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits until some are to be ended; how many.
    pub(crate) async fn eviction_requested(&self) -> usize {
        self.wake.notified().await;
        self.requested.swap(0, Ordering::Relaxed)
    }
}

/// The newcomers of one worker.
pub(crate) struct UnauthenticatedConnections {
    connections: RefCell<BTreeMap<u64, Rc<State>>>,
    eviction: Arc<EvictionState>,
}

/// What a worker does to a newcomer.
#[derive(Default)]
struct State {
    is_evicted: Cell<bool>,
    /// Where its task's waker is kept.
    waker: Cell<Option<usize>>,
}

impl UnauthenticatedConnections {
    /// None yet.
    pub(crate) fn new(oldest: Arc<EvictionState>) -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), eviction: oldest })
    }

    /// One more, with its place in the order of acceptance.
    pub(crate) fn register(self: &Rc<Self>, order: u64, peer: SocketAddr) -> Unauthenticated {
        let state = Rc::new(State::default());
        self.connections.borrow_mut().insert(order, Rc::clone(&state));
        self.publish();
        let (all, turn) = (Rc::clone(self), HandshakeTicket::default());
        Unauthenticated {
            registry: all,
            sequence: order,
            peer,
            state,
            handshake: turn,
            cleartext_left: None,
        }
    }

    /// Ends the oldest one, if there is any. The key of its task's waker, if it has one.
    pub(crate) fn evict_oldest(&self) -> Option<Option<usize>> {
        let (_, state) = self.connections.borrow_mut().pop_first()?;
        self.publish();
        state.is_evicted.set(true);
        Some(state.waker.get())
    }

    /// Waits until the acceptor wants some to be ended; how many.
    pub(crate) async fn eviction_requested(&self) -> usize {
        self.eviction.eviction_requested().await
    }

    fn publish(&self) {
        let waiting = self.connections.borrow();
        let oldest = waiting.first_key_value().map_or(NONE, |(order, _)| *order);
        self.eviction.oldest.store(oldest, Ordering::Relaxed);
        self.eviction.count.store(waiting.len(), Ordering::Relaxed);
    }
}

/// A connection that had no admitted call yet.
pub(crate) struct Unauthenticated {
    registry: Rc<UnauthenticatedConnections>,
    sequence: u64,
    pub(crate) peer: SocketAddr,
    state: Rc<State>,
    /// Its turn to go on with the handshake of TLS.
    pub(crate) handshake: HandshakeTicket,
    /// Octets that it may still send in clear text where TLS is due, once it has begun to.
    pub(crate) cleartext_left: Option<usize>,
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        self.registry.connections.borrow_mut().remove(&self.sequence);
        self.registry.publish();
    }
}

impl Unauthenticated {
    /// Whether the connection was evicted. Stores the key of its task's waker for an eviction.
    pub(crate) fn is_evicted(&self, waker_key: Option<usize>) -> bool {
        self.state.waker.set(waker_key);
        self.state.is_evicted.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_to_be_accepted_that_is_still_there() {
        let oldest = Arc::new(EvictionState::default());
        let newcomers = UnauthenticatedConnections::new(Arc::clone(&oldest));
        assert_eq!(oldest.oldest(), None);
        let peer = ([192, 0, 2, 1], 1).into();
        let [second, first, third] = [5, 3, 9].map(|order| newcomers.register(order, peer));
        assert_eq!(oldest.oldest(), Some(3));
        drop(first);
        assert_eq!(oldest.oldest(), Some(5));
        second.state.waker.set(Some(7));
        assert_eq!(newcomers.evict_oldest(), Some(Some(7)));
        assert!(second.state.is_evicted.get());
        assert_eq!(oldest.oldest(), Some(9));
        drop(second);
        assert_eq!(oldest.oldest(), Some(9));
        drop(third);
        assert_eq!(oldest.oldest(), None);
        assert_eq!(newcomers.evict_oldest(), None);
    }

    #[tokio::test]
    async fn what_the_acceptor_asks_for_is_counted_until_the_worker_looks() {
        let oldest = Arc::new(EvictionState::default());
        oldest.request_eviction();
        oldest.request_eviction();
        assert_eq!(oldest.eviction_requested().await, 2);
    }
}
