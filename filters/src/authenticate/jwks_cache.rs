//! The JWKS cache of one identity provider.
//!
//! A call with an unknown key may request a refresh and wait for it. The fetcher limits the rate:
//! after each fetch no refresh is allowed until [`JwksCache::allow_refresh`]. A burst of unknown
//! keys therefore costs one fetch, and all calls that arrive during the fetch share its result.
//!
//! Only a fetch that began after a call had arrived proves that the call's key does not exist:
//! attackers who use up the refreshes with invented keys must not get valid tokens refused.
//!
//! Must not read a clock or a socket: the fetcher has both.

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

/// The JWKS cache of one identity provider. Two caches are equal if they are the same instance.
pub struct JwksCache {
    state: watch::Sender<State>,
    /// `State::generation`, readable at each call without a lock.
    generation: AtomicU64,
    waiters: WaiterLimit,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    generation: u64,
    attempts: u64,
    last_fetch_failed: bool,
    /// Whether a fetch is in progress.
    is_fetching: bool,
    /// `None` if no further fetch will follow.
    cooldown: Option<RefreshCooldown>,
    gate: RefreshGate,
}

/// A period after a fetch without refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshCooldown {
    /// The end of the fetch.
    pub started_at: Instant,
    /// Time from the end of the fetch to the next [`JwksCache::allow_refresh`].
    pub duration: Duration,
}

/// Whether a call may request a refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RefreshGate {
    #[default]
    Closed,
    Open,
    /// A call has requested one: a fetch is in progress, or about to begin.
    Requested,
}

/// The state of a cache at one moment.
#[derive(Clone, Debug)]
pub(super) struct KeySnapshot {
    /// `None` before the first successful fetch.
    pub(super) keys: Option<Arc<KeySet>>,
    pub(super) generation: u64,
    pub(super) attempts: u64,
    pub(super) last_fetch_failed: bool,
    /// The current cooldown; `None` if the keys are never fetched.
    pub(super) cooldown: Option<RefreshCooldown>,
}

/// Why a call cannot wait for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshError {
    /// The cooldown of the last fetch has not passed.
    CoolingDown,
    TooManyWaiters,
}

/// A requested refresh, from the view of a waiting call.
pub(super) struct PendingRefresh {
    state: watch::Receiver<State>,
    attempts_seen: u64,
    /// Whether the fetch began before the call arrived.
    began_before_call: bool,
    _permit: WaiterPermit,
}

impl JwksCache {
    /// An empty cache that allows no refresh. [`JwksCache::replace`] alone fills it with the keys
    /// of a file.
    pub fn new() -> Self {
        let (state, _) = watch::channel(State::default());
        Self { state, generation: AtomicU64::new(0), waiters: WaiterLimit::default() }
    }

    /// Replaces the keys: tokens that a removed key has verified are not trusted any more. Ends the
    /// current fetch, and allows no further refresh.
    pub fn replace(&self, keys: KeySet) {
        self.finish(Some(keys), None);
    }

    /// Ends the current fetch, keeps the keys, and allows no further refresh.
    pub fn close(&self) {
        self.finish(None, None);
    }

    /// A fetch has begun.
    pub fn fetch_started(&self) {
        self.state.send_if_modified(|state| {
            state.is_fetching = true;
            false
        });
    }

    /// A fetch has ended with new keys, or has failed. No refresh is allowed during this cooldown.
    ///
    /// The fetcher must call this within a limited time after [`JwksCache::refresh_requested`], and
    /// [`JwksCache::close`] when it stops: calls wait until then.
    pub fn fetch_finished(&self, keys: Option<KeySet>, cooldown: RefreshCooldown) {
        self.finish(keys, Some(cooldown));
    }

    fn finish(&self, keys: Option<KeySet>, cooldown: Option<RefreshCooldown>) {
        self.state.send_modify(|state| {
            state.last_fetch_failed = keys.is_none();
            if let Some(keys) = keys {
                state.keys = Some(Arc::new(keys));
                state.generation = state.generation.wrapping_add(1);
                self.generation.store(state.generation, Ordering::Release);
            }
            state.attempts = state.attempts.wrapping_add(1);
            state.is_fetching = false;
            state.cooldown = cooldown;
            state.gate = RefreshGate::Closed;
        });
    }

    /// Allows one refresh: the minimum interval between fetches has passed.
    pub fn allow_refresh(&self) {
        self.state.send_if_modified(|state| {
            if state.gate == RefreshGate::Closed {
                state.gate = RefreshGate::Open;
            }
            false
        });
    }

    /// Completes when a call has requested a refresh.
    pub async fn refresh_requested(&self) {
        let mut state = self.state.subscribe();
        // `self` has the sender, so the channel cannot be closed meanwhile.
        let _ = state.wait_for(|state| state.gate == RefreshGate::Requested).await;
    }

    /// Whether a fetch has ever succeeded.
    pub fn has_keys(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// The generation of the keys: it changes with each replacement.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn snapshot(&self) -> KeySnapshot {
        let State { keys, generation, attempts, last_fetch_failed: has_failed, cooldown, .. } =
            self.state.borrow().clone();
        KeySnapshot { keys, generation, attempts, last_fetch_failed: has_failed, cooldown }
    }

    /// Requests a refresh for a call from this address, which has seen this snapshot. A fetch that
    /// has ended since then counts as one.
    pub(super) fn request_refresh(
        &self,
        seen: &KeySnapshot,
        peer: IpAddr,
    ) -> Result<PendingRefresh, RefreshError> {
        let permit = self.waiters.try_acquire(peer).ok_or(RefreshError::TooManyWaiters)?;
        let state = self.state.subscribe();
        let (mut is_cooling_down, mut began_before_call) = (false, false);
        self.state.send_if_modified(|state| {
            began_before_call = state.is_fetching || state.attempts != seen.attempts;
            match state.gate {
                RefreshGate::Open if state.attempts == seen.attempts => {
                    state.gate = RefreshGate::Requested;
                    true
                }
                RefreshGate::Closed => {
                    is_cooling_down = state.attempts == seen.attempts;
                    false
                }
                RefreshGate::Open | RefreshGate::Requested => false,
            }
        });
        if is_cooling_down {
            return Err(RefreshError::CoolingDown);
        }
        Ok(PendingRefresh {
            state,
            attempts_seen: seen.attempts,
            began_before_call,
            _permit: permit,
        })
    }
}

impl PendingRefresh {
    /// Whether the fetch may have read the provider's answer before the call arrived.
    pub(super) fn began_before_call(&self) -> bool {
        self.began_before_call
    }

    /// Completes with the fetch, successful or not, or when the cache is closed.
    pub(super) async fn finished(mut self) {
        let seen = self.attempts_seen;
        // A closed channel is an end as well.
        let _ = self.state.wait_for(|state| state.attempts != seen).await;
    }
}

impl KeySnapshot {
    /// Whether the snapshot contains a key.
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
    use crate::authenticate::tests::{Signer, key_set, poll};
    use std::{pin::pin, task::Poll};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn keys() -> KeySet {
        key_set(&[Signer::ED25519.jwk("a")])
    }

    #[test]
    fn one_refresh_is_allowed_at_a_time() {
        let jwks = Arc::new(JwksCache::new());
        let seen = jwks.snapshot();
        assert_eq!(jwks.request_refresh(&seen, PEER).err(), Some(RefreshError::CoolingDown));
        let mut wanted = pin!(jwks.refresh_requested());
        assert_eq!(poll(wanted.as_mut()), Poll::Pending);
        jwks.allow_refresh();
        let mut asked: Vec<_> = (0..9)
            .map(|_| Box::pin(jwks.request_refresh(&seen, PEER).unwrap().finished()))
            .collect();
        assert_eq!(poll(wanted.as_mut()), Poll::Ready(()));
        jwks.close();
        assert!(asked.iter_mut().all(|attempt| poll(attempt.as_mut()).is_ready()));
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Pending);
        assert_eq!(
            jwks.request_refresh(&jwks.snapshot(), PEER).err(),
            Some(RefreshError::CoolingDown)
        );
    }

    #[test]
    fn a_fetch_that_ended_after_the_snapshot_counts_as_refresh() {
        let jwks = Arc::new(JwksCache::new());
        let seen = jwks.snapshot();
        jwks.replace(keys());
        assert_eq!(
            poll(pin!(jwks.request_refresh(&seen, PEER).unwrap().finished())),
            Poll::Ready(())
        );
        jwks.allow_refresh();
        assert_eq!(
            poll(pin!(jwks.request_refresh(&seen, PEER).unwrap().finished())),
            Poll::Ready(())
        );
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Pending);
    }

    #[test]
    fn allowing_a_refresh_during_a_fetch_keeps_the_request() {
        let jwks = Arc::new(JwksCache::new());
        jwks.allow_refresh();
        let seen = jwks.snapshot();
        let mut attempt = pin!(jwks.request_refresh(&seen, PEER).unwrap().finished());
        jwks.allow_refresh();
        assert_eq!(poll(attempt.as_mut()), Poll::Pending);
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Ready(()));
    }

    #[test]
    fn a_fetch_in_progress_began_before_the_call() {
        let jwks = Arc::new(JwksCache::new());
        jwks.allow_refresh();
        let seen = jwks.snapshot();
        let first = jwks.request_refresh(&seen, PEER).unwrap();
        jwks.fetch_started();
        let second = jwks.request_refresh(&seen, PEER).unwrap();
        assert_eq!((first.began_before_call(), second.began_before_call()), (false, true));
        jwks.close();
        assert!(jwks.request_refresh(&seen, PEER).unwrap().began_before_call(), "it is over");
        jwks.allow_refresh();
        assert!(!jwks.request_refresh(&jwks.snapshot(), PEER).unwrap().began_before_call());
    }

    #[test]
    fn waiters_are_counted_until_they_are_dropped() {
        let jwks = Arc::new(JwksCache::new());
        jwks.allow_refresh();
        let seen = jwks.snapshot();
        let mut waiting: Vec<_> =
            (0..128).map(|_| jwks.request_refresh(&seen, PEER).unwrap()).collect();
        assert_eq!(jwks.request_refresh(&seen, PEER).err(), Some(RefreshError::TooManyWaiters));
        waiting.pop();
        assert!(jwks.request_refresh(&seen, PEER).is_ok());
    }

    #[test]
    fn a_cache_is_equal_only_to_itself() {
        let (jwks, other) = (JwksCache::default(), JwksCache::default());
        let same = &jwks;
        assert!(jwks == *same && jwks != other);
    }

    #[test]
    fn a_cache_reports_whether_keys_were_fetched_and_debug_shows_their_ids() {
        let jwks = JwksCache::new();
        assert!(!jwks.has_keys());
        assert_eq!(format!("{jwks:?}"), "KeyRing { keys: None, generation: 0 }");
        jwks.replace(keys());
        jwks.close();
        assert!(jwks.has_keys());
        assert_eq!(format!("{jwks:?}"), "KeyRing { keys: Some([Some(\"a\")]), generation: 1 }");
    }

    #[test]
    fn each_key_set_has_its_generation() {
        let jwks = JwksCache::new();
        assert!(jwks.snapshot().keys.is_none());
        jwks.replace(keys());
        let first = jwks.generation();
        jwks.close();
        assert_eq!(jwks.generation(), first);
        jwks.replace(keys());
        assert_ne!(jwks.generation(), first);
        assert_eq!(jwks.generation(), jwks.snapshot().generation);
    }
}
