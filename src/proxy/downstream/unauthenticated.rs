//! Unauthenticated connections: client connections without an admitted call, in order of
//! acceptance.
//!
//! At the connection limit the oldest of them is evicted: unauthenticated clients must not keep out
//! others. Each worker has its own list; the acceptor reads the age of the oldest entry of each
//! worker, and requests evictions. A connection leaves the list with its first admitted call: later
//! calls do not touch it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::proxy::downstream::handshakes::HandshakeTicket;

/// No connection.
const NONE: u64 = u64::MAX;

/// The acceptor's view of a worker's unauthenticated connections.
pub(crate) struct EvictionState {
    /// The sequence number of the oldest one.
    oldest: AtomicU64,
    /// The number of connections.
    count: AtomicUsize,
    /// The number of requested evictions.
    requested: AtomicUsize,
    wake: Notify,
}

impl Default for EvictionState {
    fn default() -> Self {
        let order = AtomicU64::new(NONE);
        let (count, request) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { oldest: order, count, requested: request, wake: Notify::new() }
    }
}

impl EvictionState {
    /// The sequence number of the oldest connection; `None` if an eviction is already requested for
    /// each.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let is_left = self.requested.load(Ordering::Relaxed) < self.count.load(Ordering::Relaxed);
        Some(self.oldest.load(Ordering::Relaxed)).filter(|order| is_left && *order != NONE)
    }

    /// Requests the eviction of the oldest connection.
    pub(crate) fn request_eviction(&self) {
        self.requested.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits for eviction requests. Returns their number.
    pub(crate) async fn eviction_requested(&self) -> usize {
        self.wake.notified().await;
        self.requested.swap(0, Ordering::Relaxed)
    }
}

/// The unauthenticated connections of one worker.
pub(crate) struct UnauthenticatedConnections {
    connections: RefCell<BTreeMap<u64, Rc<State>>>,
    eviction: Arc<EvictionState>,
}

/// The state that a connection shares with the list.
#[derive(Default)]
struct State {
    is_evicted: Cell<bool>,
    /// The key of its task's waker.
    waker: Cell<Option<usize>>,
}

impl UnauthenticatedConnections {
    /// An empty list.
    pub(crate) fn new(oldest: Arc<EvictionState>) -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), eviction: oldest })
    }

    /// Adds a connection, with its sequence number in order of acceptance.
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

    /// Evicts the oldest connection, if there is any. Returns the key of its task's waker, if it
    /// has one.
    pub(crate) fn evict_oldest(&self) -> Option<Option<usize>> {
        let (_, state) = self.connections.borrow_mut().pop_first()?;
        self.publish();
        state.is_evicted.set(true);
        Some(state.waker.get())
    }

    /// Waits for eviction requests of the acceptor. Returns their number.
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

/// An unauthenticated connection. It leaves the list when this is dropped.
pub(crate) struct Unauthenticated {
    registry: Rc<UnauthenticatedConnections>,
    sequence: u64,
    pub(crate) peer: SocketAddr,
    state: Rc<State>,
    /// Its place in the queue of TLS handshakes.
    pub(crate) handshake: HandshakeTicket,
    /// Octets that it may still send in clear text where TLS is required; `None` before the first.
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
    fn the_oldest_connection_is_the_first_accepted_that_is_still_open() {
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
    async fn eviction_requests_are_counted_until_the_worker_reads_them() {
        let oldest = Arc::new(EvictionState::default());
        oldest.request_eviction();
        oldest.request_eviction();
        assert_eq!(oldest.eviction_requested().await, 2);
    }
}
