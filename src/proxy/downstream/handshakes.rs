//! Handshakes: limits the TLS handshake steps of a worker between two polls of its other
//! connections.
//!
//! A step costs more than anything else that an unauthenticated client can cause. Beyond the limit
//! a connection waits in a queue, in order of arrival, and is not read; handshakes that have begun
//! go before new ones. A permit is for octets that have arrived: a client that stops in the middle
//! of a handshake delays no other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::Notify;

/// The TLS handshakes of one worker. At most as many wait as there are connections.
#[derive(Default)]
pub(crate) struct HandshakeLimiter {
    /// Steps left until the other connections are polled.
    permits: Cell<usize>,
    queues: RefCell<Queues>,
    queued: Notify,
}

#[derive(Default)]
struct Queues {
    begun: VecDeque<Rc<Waiter>>,
    new: VecDeque<Rc<Waiter>>,
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.new.is_empty()
    }
}

struct Waiter {
    state: Cell<State>,
    waker: Waker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Granted,
    Cancelled,
}

/// A connection's place in the queue of handshakes.
#[derive(Default)]
pub(crate) struct HandshakeTicket {
    waiting: Option<Rc<Waiter>>,
    /// Whether it had a permit before.
    has_begun: bool,
}

impl Drop for HandshakeTicket {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.state.set(State::Cancelled);
        }
    }
}

impl HandshakeLimiter {
    /// Waits until a connection waits for a permit.
    pub(crate) async fn wait_queued(&self) {
        self.queued.notified().await;
    }

    /// Takes a permit for one handshake step. If there is none, the task is woken when there is.
    pub(crate) fn take(&self, ticket: &mut HandshakeTicket, waker: &Waker) -> bool {
        if let Some(waiting) = &ticket.waiting {
            let is_granted = waiting.state.get() == State::Granted;
            if is_granted {
                *ticket = HandshakeTicket { waiting: None, has_begun: true };
            }
            return is_granted;
        }
        let mut queues = self.queues.borrow_mut();
        if queues.is_empty()
            && let Some(left) = self.permits.get().checked_sub(1)
        {
            self.permits.set(left);
            ticket.has_begun = true;
            return true;
        }
        let waiting = Rc::new(Waiter { state: Cell::new(State::Queued), waker: waker.clone() });
        ticket.waiting = Some(Rc::clone(&waiting));
        let queue = if ticket.has_begun { &mut queues.begun } else { &mut queues.new };
        queue.push_back(waiting);
        self.queued.notify_one();
        false
    }

    /// Grants new permits, at least one of them to a new handshake. Returns true if further ones
    /// wait.
    pub(crate) fn refill(&self, most: usize) -> bool {
        let mut queues = self.queues.borrow_mut();
        let Queues { begun, new } = &mut *queues;
        let mut left = most.saturating_sub(grant(new, 1));
        left = left.saturating_sub(grant(begun, left));
        left = left.saturating_sub(grant(new, left));
        self.permits.set(left);
        !queues.is_empty()
    }
}

/// Grants permits to at most `most` entries of a queue. Returns their number.
fn grant(queue: &mut VecDeque<Rc<Waiter>>, most: usize) -> usize {
    let mut granted = 0;
    while granted < most
        && let Some(waiting) = queue.pop_front()
    {
        if waiting.state.get() == State::Queued {
            waiting.state.set(State::Granted);
            waiting.waker.wake_by_ref();
            granted = granted.saturating_add(1);
        }
    }
    granted
}

impl HandshakeTicket {
    /// Whether the connection waits for a permit.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_that_have_begun_get_all_permits_but_one() {
        let (handshakes, waker) = (HandshakeLimiter::default(), Waker::noop());
        let mut tickets: Vec<_> = (0..5).map(|_| HandshakeTicket::default()).collect();
        let mut go_on = |handshakes: &HandshakeLimiter| -> Vec<usize> {
            let all = tickets.iter_mut().enumerate();
            all.filter_map(|(at, it)| handshakes.take(it, waker).then_some(at)).collect()
        };
        assert!(!handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [0, 1]);
        assert!(handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [2, 3]);
        // Those that were granted have requested a permit again meanwhile.
        assert!(handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [0, 4]);
        assert!(handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [1, 2]);
    }

    #[test]
    fn a_dropped_ticket_takes_no_permit() {
        let (handshakes, waker) = (HandshakeLimiter::default(), Waker::noop());
        let [mut gone, mut waits] = [HandshakeTicket::default(), HandshakeTicket::default()];
        assert!(!handshakes.take(&mut gone, waker));
        assert!(!handshakes.take(&mut waits, waker));
        drop(gone);
        assert!(!handshakes.refill(1));
        assert!(handshakes.take(&mut waits, waker));
    }
}
