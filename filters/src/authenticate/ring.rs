//! The keys of one identity provider, replaced from outside while calls run.
//!
//! A call that meets a key it does not know may ask for a refresh and wait for its result. How
//! often that may be is decided by whoever fetches: after each attempt the ring is closed, and only
//! [`KeyRing::open`] lets a call ask again. So a storm of unknown keys costs one attempt, and all
//! calls that come while it runs share its result.
//!
//! That a key does not exist is known only from an attempt that began after the call came:
//! strangers who use up the attempts with keys of their own invention must not have an honest token
//! refused.
//!
//! Must never read a clock or a socket: whoever fetches has both.

use super::{
    KeySet,
    key::Key,
    seats::{Seat, Seats},
};
use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The keys of one identity provider. Two rings are equal when they are the same one.
pub struct KeyRing {
    state: watch::Sender<State>,
    /// The state's own number of its keys, to be read without a lock at each call.
    generation: AtomicU64,
    seats: Seats,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    generation: u64,
    attempts: u64,
    has_failed: bool,
    /// Whether an attempt is under way.
    is_fetching: bool,
    /// `None` where no attempt will follow the last one.
    rest: Option<Rest>,
    gate: Gate,
}

/// How long nobody may ask for other keys after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When the attempt ended.
    pub since: Instant,
    /// How long it is from then to the next [`KeyRing::open`].
    pub lasts: Duration,
}

/// Whether a call may ask for other keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    /// Not now.
    #[default]
    Closed,
    /// The next one may.
    Open,
    /// One has: an attempt is under way, or about to be.
    Asked,
}

/// What a ring holds at one moment.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// `None` while there were never any.
    pub(super) keys: Option<Arc<KeySet>>,
    pub(super) generation: u64,
    pub(super) attempts: u64,
    /// Whether the last attempt to fetch others has failed.
    pub(super) has_failed: bool,
    /// How long nobody may ask for others; `None` where nobody fetches any.
    pub(super) rest: Option<Rest>,
}

/// Why a call cannot wait for other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskFault {
    /// The last attempt is too short a while ago.
    Closed,
    /// Too many calls wait already.
    Busy,
}

/// An attempt to fetch keys, as a call waits for it.
pub(super) struct Attempt {
    state: watch::Receiver<State>,
    seen: u64,
    /// Whether it was under way when the call came, or over.
    is_late: bool,
    _seat: Seat,
}

impl KeyRing {
    /// A ring without keys, and closed. Keys that nobody fetches, such as those of a file, are put
    /// in with [`KeyRing::replace`], and the ring stays closed.
    pub fn new() -> Self {
        let (state, _) = watch::channel(State::default());
        Self { state, generation: AtomicU64::new(0), seats: Seats::default() }
    }

    /// Puts other keys in the place of those there are: what a lost key has verified counts for
    /// nothing from now on. Ends the attempt that is under way, and closes the ring for good.
    pub fn replace(&self, keys: KeySet) {
        self.end(Some(keys), None);
    }

    /// Nobody fetches any more: the keys stay as they are. Ends the attempt that is under way, and
    /// closes the ring for good.
    pub fn settled(&self) {
        self.end(None, None);
    }

    /// An attempt begins.
    pub fn begin(&self) {
        self.state.send_if_modified(|state| {
            state.is_fetching = true;
            false
        });
    }

    /// An attempt has ended, with other keys or in vain. Closes the ring; the next attempt may be
    /// asked for after this rest.
    ///
    /// Whoever fetches promises this after [`KeyRing::wanted`], within a bound of its own, and
    /// [`KeyRing::settled`] when it stops for good: until then calls wait.
    pub fn ended(&self, keys: Option<KeySet>, rest: Rest) {
        self.end(keys, Some(rest));
    }

    fn end(&self, keys: Option<KeySet>, rest: Option<Rest>) {
        self.state.send_modify(|state| {
            state.has_failed = keys.is_none();
            if let Some(keys) = keys {
                state.keys = Some(Arc::new(keys));
                state.generation = state.generation.wrapping_add(1);
                self.generation.store(state.generation, Ordering::Release);
            }
            state.attempts = state.attempts.wrapping_add(1);
            state.is_fetching = false;
            state.rest = rest;
            state.gate = Gate::Closed;
        });
    }

    /// The next call with an unknown key may ask for a refresh, since the floor between two
    /// attempts has passed.
    pub fn open(&self) {
        self.state.send_if_modified(|state| {
            if state.gate == Gate::Closed {
                state.gate = Gate::Open;
            }
            false
        });
    }

    /// Ends when a call has asked for a refresh; at once, if one has already.
    pub async fn wanted(&self) {
        let mut state = self.state.subscribe();
        // The sender is `self`: the channel cannot be closed meanwhile.
        let _ = state.wait_for(|state| state.gate == Gate::Asked).await;
    }

    /// Whether there were ever any keys.
    pub fn has_keys(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// The number of the keys there are: another one after each [`KeyRing::replace`].
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What the ring holds now.
    pub(super) fn standing(&self) -> Standing {
        let State { keys, generation, attempts, has_failed, rest, .. } =
            self.state.borrow().clone();
        Standing { keys, generation, attempts, has_failed, rest }
    }

    /// Asks for other keys than those which a call from this address has seen. An attempt that has
    /// ended since then is an answer too.
    pub(super) fn ask(&self, seen: &Standing, peer: IpAddr) -> Result<Attempt, AskFault> {
        let seat = self.seats.take(peer).ok_or(AskFault::Busy)?;
        let state = self.state.subscribe();
        let (mut is_closed, mut is_late) = (false, false);
        self.state.send_if_modified(|state| {
            is_late = state.is_fetching || state.attempts != seen.attempts;
            match state.gate {
                Gate::Open if state.attempts == seen.attempts => {
                    state.gate = Gate::Asked;
                    true
                }
                Gate::Closed => {
                    is_closed = state.attempts == seen.attempts;
                    false
                }
                Gate::Open | Gate::Asked => false,
            }
        });
        if is_closed {
            return Err(AskFault::Closed);
        }
        Ok(Attempt { state, seen: seen.attempts, is_late, _seat: seat })
    }
}

impl Attempt {
    /// Whether the attempt may have asked the provider before the call came.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Ends with the attempt, whatever came of it, or with the ring.
    pub(super) async fn over(mut self) {
        let seen = self.seen;
        // A channel that is closed is an end too.
        let _ = self.state.wait_for(|state| state.attempts != seen).await;
    }
}

impl Standing {
    /// Whether a key is one of these.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.has(key))
    }
}

impl Default for KeyRing {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for KeyRing {}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { keys, generation, .. } = self.standing();
        f.debug_struct("KeyRing").field("keys", &keys).field("generation", &generation).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::{Signer, jwks, poll};
    use std::{pin::pin, task::Poll};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn keys() -> KeySet {
        jwks(&[Signer::ED25519.jwk("a")])
    }

    #[test]
    fn a_closed_ring_is_not_asked_and_an_open_one_only_once() {
        let ring = Arc::new(KeyRing::new());
        let seen = ring.standing();
        assert_eq!(ring.ask(&seen, PEER).err(), Some(AskFault::Closed));
        let mut wanted = pin!(ring.wanted());
        assert_eq!(poll(wanted.as_mut()), Poll::Pending);
        ring.open();
        let mut asked: Vec<_> =
            (0..9).map(|_| Box::pin(ring.ask(&seen, PEER).unwrap().over())).collect();
        assert_eq!(poll(wanted.as_mut()), Poll::Ready(()));
        ring.settled();
        assert!(asked.iter_mut().all(|attempt| poll(attempt.as_mut()).is_ready()));
        assert_eq!(poll(pin!(ring.wanted())), Poll::Pending);
        assert_eq!(ring.ask(&ring.standing(), PEER).err(), Some(AskFault::Closed));
    }

    #[test]
    fn an_attempt_that_ended_since_the_keys_were_seen_is_an_answer() {
        let ring = Arc::new(KeyRing::new());
        let seen = ring.standing();
        ring.replace(keys());
        assert_eq!(poll(pin!(ring.ask(&seen, PEER).unwrap().over())), Poll::Ready(()));
        ring.open();
        assert_eq!(poll(pin!(ring.ask(&seen, PEER).unwrap().over())), Poll::Ready(()));
        assert_eq!(poll(pin!(ring.wanted())), Poll::Pending);
    }

    #[test]
    fn a_ring_that_is_opened_while_an_attempt_runs_does_not_lose_it() {
        let ring = Arc::new(KeyRing::new());
        ring.open();
        let seen = ring.standing();
        let mut attempt = pin!(ring.ask(&seen, PEER).unwrap().over());
        ring.open();
        assert_eq!(poll(attempt.as_mut()), Poll::Pending);
        assert_eq!(poll(pin!(ring.wanted())), Poll::Ready(()));
    }

    #[test]
    fn an_attempt_that_was_under_way_when_a_call_came_is_late_for_it() {
        let ring = Arc::new(KeyRing::new());
        ring.open();
        let seen = ring.standing();
        let first = ring.ask(&seen, PEER).unwrap();
        ring.begin();
        let second = ring.ask(&seen, PEER).unwrap();
        assert_eq!((first.is_late(), second.is_late()), (false, true));
        ring.settled();
        assert!(ring.ask(&seen, PEER).unwrap().is_late(), "it is over");
        ring.open();
        assert!(!ring.ask(&ring.standing(), PEER).unwrap().is_late());
    }

    #[test]
    fn the_calls_that_wait_are_counted_and_those_that_leave_make_room() {
        let ring = Arc::new(KeyRing::new());
        ring.open();
        let seen = ring.standing();
        let mut waiting: Vec<_> = (0..128).map(|_| ring.ask(&seen, PEER).unwrap()).collect();
        assert_eq!(ring.ask(&seen, PEER).err(), Some(AskFault::Busy));
        waiting.pop();
        assert!(ring.ask(&seen, PEER).is_ok());
    }

    #[test]
    fn a_ring_is_equal_to_itself_alone() {
        let (ring, other) = (KeyRing::default(), KeyRing::default());
        let same = &ring;
        assert!(ring == *same && ring != other);
    }

    #[test]
    fn a_ring_tells_whether_there_were_ever_keys_and_shows_their_names() {
        let ring = KeyRing::new();
        assert!(!ring.has_keys());
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: None, generation: 0 }");
        ring.replace(keys());
        ring.settled();
        assert!(ring.has_keys());
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: Some([Some(\"a\")]), generation: 1 }");
    }

    #[test]
    fn each_set_of_keys_has_its_number() {
        let ring = KeyRing::new();
        assert!(ring.standing().keys.is_none());
        ring.replace(keys());
        let first = ring.generation();
        ring.settled();
        assert_eq!(ring.generation(), first);
        ring.replace(keys());
        assert_ne!(ring.generation(), first);
        assert_eq!(ring.generation(), ring.standing().generation);
    }
}
