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
    waiters::{WaiterLimit, WaiterPermit},
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
pub struct JwksCache {
    state: watch::Sender<State>,
    /// The state's own number of its keys, to be read without a lock at each call.
    generation: AtomicU64,
    waiters: WaiterLimit,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    generation: u64,
    attempts: u64,
    last_fetch_failed: bool,
    /// Whether an attempt is under way.
    is_fetching: bool,
    /// `None` where no attempt will follow the last one.
    cooldown: Option<RefreshCooldown>,
    gate: RefreshGate,
}

/// How long nobody may ask for other keys after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshCooldown {
    /// When the attempt ended.
    pub started_at: Instant,
    /// How long it is from then to the next [`KeyRing::open`].
    pub duration: Duration,
}

/// Whether a call may ask for other keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RefreshGate {
    /// Not now.
    #[default]
    Closed,
    /// The next one may.
    Open,
    /// One has: an attempt is under way, or about to be.
    Requested,
}

/// What a ring holds at one moment.
#[derive(Clone, Debug)]
pub(super) struct KeySnapshot {
    /// `None` while there were never any.
    pub(super) keys: Option<Arc<KeySet>>,
    pub(super) generation: u64,
    pub(super) attempts: u64,
    /// Whether the last attempt to fetch others has failed.
    pub(super) last_fetch_failed: bool,
    /// How long nobody may ask for others; `None` where nobody fetches any.
    pub(super) cooldown: Option<RefreshCooldown>,
}

/// Why a call cannot wait for other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshError {
    /// The last attempt is too short a while ago.
    CoolingDown,
    /// Too many calls wait already.
    TooManyWaiters,
}

/// An attempt to fetch keys, as a call waits for it.
pub(super) struct PendingRefresh {
    state: watch::Receiver<State>,
    attempts_seen: u64,
    /// Whether it was under way when the call came, or over.
    began_before_call: bool,
    _permit: WaiterPermit,
}

impl JwksCache {
    /// A ring without keys, and closed. Keys that nobody fetches, such as those of a file, are put
    /// in with [`KeyRing::replace`], and the ring stays closed.
    pub fn new() -> Self {
        let (state, _) = watch::channel(State::default());
        Self { state, generation: AtomicU64::new(0), waiters: WaiterLimit::default() }
    }

    /// Puts other keys in the place of those there are: what a lost key has verified counts for
    /// nothing from now on. Ends the attempt that is under way, and closes the ring for good.
    pub fn replace(&self, keys: KeySet) {
        self.finish(Some(keys), None);
    }

    /// Nobody fetches any more: the keys stay as they are. Ends the attempt that is under way, and
    /// closes the ring for good.
    pub fn close(&self) {
        self.finish(None, None);
    }

    /// An attempt begins.
    pub fn fetch_started(&self) {
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
    pub fn fetch_finished(&self, keys: Option<KeySet>, rest: RefreshCooldown) {
        self.finish(keys, Some(rest));
    }

    fn finish(&self, keys: Option<KeySet>, rest: Option<RefreshCooldown>) {
        self.state.send_modify(|state| {
            state.last_fetch_failed = keys.is_none();
            if let Some(keys) = keys {
                state.keys = Some(Arc::new(keys));
                state.generation = state.generation.wrapping_add(1);
                self.generation.store(state.generation, Ordering::Release);
            }
            state.attempts = state.attempts.wrapping_add(1);
            state.is_fetching = false;
            state.cooldown = rest;
            state.gate = RefreshGate::Closed;
        });
    }

    /// The next call with an unknown key may ask for a refresh, since the floor between two
    /// attempts has passed.
    pub fn allow_refresh(&self) {
        self.state.send_if_modified(|state| {
            if state.gate == RefreshGate::Closed {
                state.gate = RefreshGate::Open;
            }
            false
        });
    }

    /// Ends when a call has asked for a refresh; at once, if one has already.
    pub async fn refresh_requested(&self) {
        let mut state = self.state.subscribe();
        // The sender is `self`: the channel cannot be closed meanwhile.
        let _ = state.wait_for(|state| state.gate == RefreshGate::Requested).await;
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
    pub(super) fn snapshot(&self) -> KeySnapshot {
        let State {
            keys, generation, attempts, last_fetch_failed: has_failed, cooldown: rest, ..
        } = self.state.borrow().clone();
        KeySnapshot { keys, generation, attempts, last_fetch_failed: has_failed, cooldown: rest }
    }

    /// Asks for other keys than those which a call from this address has seen. An attempt that has
    /// ended since then is an answer too.
    pub(super) fn request_refresh(
        &self,
        seen: &KeySnapshot,
        peer: IpAddr,
    ) -> Result<PendingRefresh, RefreshError> {
        let seat = self.waiters.try_acquire(peer).ok_or(RefreshError::TooManyWaiters)?;
        let state = self.state.subscribe();
        let (mut is_closed, mut is_late) = (false, false);
        self.state.send_if_modified(|state| {
            is_late = state.is_fetching || state.attempts != seen.attempts;
            match state.gate {
                RefreshGate::Open if state.attempts == seen.attempts => {
                    state.gate = RefreshGate::Requested;
                    true
                }
                RefreshGate::Closed => {
                    is_closed = state.attempts == seen.attempts;
                    false
                }
                RefreshGate::Open | RefreshGate::Requested => false,
            }
        });
        if is_closed {
            return Err(RefreshError::CoolingDown);
        }
        Ok(PendingRefresh {
            state,
            attempts_seen: seen.attempts,
            began_before_call: is_late,
            _permit: seat,
        })
    }
}

impl PendingRefresh {
    /// Whether the attempt may have asked the provider before the call came.
    pub(super) fn began_before_call(&self) -> bool {
        self.began_before_call
    }

    /// Ends with the attempt, whatever came of it, or with the ring.
    pub(super) async fn finished(mut self) {
        let seen = self.attempts_seen;
        // A channel that is closed is an end too.
        let _ = self.state.wait_for(|state| state.attempts != seen).await;
    }
}

impl KeySnapshot {
    /// Whether a key is one of these.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.contains(key))
    }
}

impl Default for JwksCache {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for JwksCache {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for JwksCache {}

impl fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeySnapshot { keys, generation, .. } = self.snapshot();
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
        let ring = Arc::new(JwksCache::new());
        let seen = ring.snapshot();
        assert_eq!(ring.request_refresh(&seen, PEER).err(), Some(RefreshError::CoolingDown));
        let mut wanted = pin!(ring.refresh_requested());
        assert_eq!(poll(wanted.as_mut()), Poll::Pending);
        ring.allow_refresh();
        let mut asked: Vec<_> = (0..9)
            .map(|_| Box::pin(ring.request_refresh(&seen, PEER).unwrap().finished()))
            .collect();
        assert_eq!(poll(wanted.as_mut()), Poll::Ready(()));
        ring.close();
        assert!(asked.iter_mut().all(|attempt| poll(attempt.as_mut()).is_ready()));
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Pending);
        assert_eq!(
            ring.request_refresh(&ring.snapshot(), PEER).err(),
            Some(RefreshError::CoolingDown)
        );
    }

    #[test]
    fn an_attempt_that_ended_since_the_keys_were_seen_is_an_answer() {
        let ring = Arc::new(JwksCache::new());
        let seen = ring.snapshot();
        ring.replace(keys());
        assert_eq!(
            poll(pin!(ring.request_refresh(&seen, PEER).unwrap().finished())),
            Poll::Ready(())
        );
        ring.allow_refresh();
        assert_eq!(
            poll(pin!(ring.request_refresh(&seen, PEER).unwrap().finished())),
            Poll::Ready(())
        );
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Pending);
    }

    #[test]
    fn a_ring_that_is_opened_while_an_attempt_runs_does_not_lose_it() {
        let ring = Arc::new(JwksCache::new());
        ring.allow_refresh();
        let seen = ring.snapshot();
        let mut attempt = pin!(ring.request_refresh(&seen, PEER).unwrap().finished());
        ring.allow_refresh();
        assert_eq!(poll(attempt.as_mut()), Poll::Pending);
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Ready(()));
    }

    #[test]
    fn an_attempt_that_was_under_way_when_a_call_came_is_late_for_it() {
        let ring = Arc::new(JwksCache::new());
        ring.allow_refresh();
        let seen = ring.snapshot();
        let first = ring.request_refresh(&seen, PEER).unwrap();
        ring.fetch_started();
        let second = ring.request_refresh(&seen, PEER).unwrap();
        assert_eq!((first.began_before_call(), second.began_before_call()), (false, true));
        ring.close();
        assert!(ring.request_refresh(&seen, PEER).unwrap().began_before_call(), "it is over");
        ring.allow_refresh();
        assert!(!ring.request_refresh(&ring.snapshot(), PEER).unwrap().began_before_call());
    }

    #[test]
    fn the_calls_that_wait_are_counted_and_those_that_leave_make_room() {
        let ring = Arc::new(JwksCache::new());
        ring.allow_refresh();
        let seen = ring.snapshot();
        let mut waiting: Vec<_> =
            (0..128).map(|_| ring.request_refresh(&seen, PEER).unwrap()).collect();
        assert_eq!(ring.request_refresh(&seen, PEER).err(), Some(RefreshError::TooManyWaiters));
        waiting.pop();
        assert!(ring.request_refresh(&seen, PEER).is_ok());
    }

    #[test]
    fn a_ring_is_equal_to_itself_alone() {
        let (ring, other) = (JwksCache::default(), JwksCache::default());
        let same = &ring;
        assert!(ring == *same && ring != other);
    }

    #[test]
    fn a_ring_tells_whether_there_were_ever_keys_and_shows_their_names() {
        let ring = JwksCache::new();
        assert!(!ring.has_keys());
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: None, generation: 0 }");
        ring.replace(keys());
        ring.close();
        assert!(ring.has_keys());
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: Some([Some(\"a\")]), generation: 1 }");
    }

    #[test]
    fn each_set_of_keys_has_its_number() {
        let ring = JwksCache::new();
        assert!(ring.snapshot().keys.is_none());
        ring.replace(keys());
        let first = ring.generation();
        ring.close();
        assert_eq!(ring.generation(), first);
        ring.replace(keys());
        assert_ne!(ring.generation(), first);
        assert_eq!(ring.generation(), ring.snapshot().generation);
    }
}
