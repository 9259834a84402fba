//! Handshakes: how many of TLS a worker goes on with before its other connections have their turn.
//!
//! A step of a handshake costs more than anything else that a stranger can ask for. Beyond the
//! bound a connection waits in a queue, in the order in which its octets came, and is not read;
//! handshakes that have begun are ended before others begin. A turn is for what has come: who sends
//! half of a handshake and stops holds up nobody.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::Notify;

/// The handshakes of one worker. There are as many that wait as connections at most.
#[derive(Default)]
pub(crate) struct HandshakeLimiter {
    /// How many may still go on before the others have their turn.
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

/// A connection's turn to go on with its handshake, as far as it waits for one.
#[derive(Default)]
pub(crate) struct HandshakeTicket {
    waiting: Option<Rc<Waiter>>,
    /// Whether it had a turn before.
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

    /// Whether a handshake may go on now. If not, its task is woken when it may.
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

    /// The others had their turn: so many may go on, and one that is new among them. Says whether
    /// any still wait.
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

/// Lets so many of a queue go on, as far as they are there; how many.
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
    fn handshakes_go_on_so_many_at_a_time_and_those_that_have_begun_before_all_but_one() {
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
        // All that went on have asked again meanwhile.
        assert!(handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [0, 4]);
        assert!(handshakes.refill(2));
        assert_eq!(go_on(&handshakes), [1, 2]);
    }

    #[test]
    fn who_is_gone_takes_no_turn() {
        let (handshakes, waker) = (HandshakeLimiter::default(), Waker::noop());
        let [mut gone, mut waits] = [HandshakeTicket::default(), HandshakeTicket::default()];
        assert!(!handshakes.take(&mut gone, waker));
        assert!(!handshakes.take(&mut waits, waker));
        drop(gone);
        assert!(!handshakes.refill(1));
        assert!(handshakes.take(&mut waits, waker));
    }
}
