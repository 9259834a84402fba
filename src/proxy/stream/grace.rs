//! Grace sessions: within `authenticate.grace`, an expired token stays valid for sessions that
//! began before it expired.
//!
//! PySpark cannot replace the token of a running session. So the sessions that began with a valid
//! token are recorded: within its grace period the token is valid for them, and a stolen token
//! begins no session. Nothing is recorded unless a grace period is configured.
//!
//! A session is recorded by this process alone, once its driver has begun to answer, and once for
//! each stream. Each user has a share of the memory: no user displaces the sessions of another.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::identity::IdentitySource;
use sconce_filters::{BoundedCache, Call, Refusal, authenticate};

use crate::config::TokenLeeway;

/// Recorded sessions of one user: the latest ones.
const SESSIONS_MAX: usize = 256;
/// Users whose sessions are recorded, at least half of them the latest ones. Only authenticated
/// users count.
const USERS_MAX: usize = 8_192;
/// Sessions of all users in the cache of one worker.
const WORKER_SESSIONS_MAX: usize = 16_384;
/// Shortest interval in which a worker records the same session again in the shared list.
const SHARE_INTERVAL: Duration = Duration::from_secs(60);

/// The sessions that began with a valid token.
pub(crate) struct GraceSessions {
    /// The list of all workers.
    shared: SharedSessions,
    /// The cache of this worker, with the time of the last record in the shared list.
    local: RefCell<BoundedCache<Instant>>,
}

/// The list that workers share: for each user the fingerprints of sessions, the latest last.
#[derive(Clone)]
pub(crate) struct SharedSessions {
    users: Arc<Mutex<BoundedCache<Vec<u128>>>>,
    hashes: Arc<[RandomState; 2]>,
}

/// The state of a call's token where a grace period is configured.
pub(crate) struct TokenStanding {
    /// When the token expires for new sessions, as time since the Unix epoch, with the leeway for
    /// clock skew.
    expires_at: Duration,
    /// The session that the first message named, until it is recorded.
    session: Option<Box<SessionKey>>,
    is_session_named: bool,
}

/// The identity of a session: its id, its user and its cluster.
struct SessionKey {
    user: Box<[u8]>,
    fingerprint: u128,
}

impl TokenStanding {
    /// The state of an admitted call's token. `None` without a grace period, or for tokens without
    /// expiry.
    pub(crate) fn of(call: &Call, leeway: TokenLeeway) -> Option<Self> {
        let identity = call.attributes().identity.as_ref()?;
        if leeway.grace.is_zero() || *identity.source() == IdentitySource::Certificate {
            return None;
        }
        let leeway = leeway.for_any_session(call.method());
        let ends = Duration::from_secs(identity.expires_at()?).saturating_add(leeway);
        // A release begins no session.
        Some(Self { expires_at: ends, session: None, is_session_named: call.method().is_release() })
    }

    fn has_expired(&self, wall: SystemTime) -> bool {
        // With a clock before the epoch no token is valid.
        wall.duration_since(SystemTime::UNIX_EPOCH).map_or(true, |now| now >= self.expires_at)
    }
}

impl Default for SharedSessions {
    fn default() -> Self {
        let users = Arc::new(Mutex::new(BoundedCache::new(USERS_MAX)));
        Self { users, hashes: Arc::new([RandomState::new(), RandomState::new()]) }
    }
}

impl SharedSessions {
    /// The session of a call with this session id. Names contain no zero octet, which separates
    /// them.
    fn session(&self, call: &Call, id: &[u8]) -> Option<SessionKey> {
        let attributes = call.attributes();
        let identity = attributes.identity.as_ref()?;
        let source = identity.source().to_string();
        let user = [source.as_bytes(), identity.user().as_bytes()].join(&0);
        let (team, environment) = (attributes.team.as_ref()?, attributes.environment.as_ref()?);
        let place = [team.as_str().as_bytes(), environment.as_str().as_bytes()];
        let [one, other] = &*self.hashes;
        let half = |hash: &RandomState| u128::from(hash.hash_one((&user, place, id)));
        let mark = (half(one) << 64) | half(other);
        Some(SessionKey { user: user.into(), fingerprint: mark })
    }

    fn record(&self, session: &SessionKey) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = users.entry(&session.user);
        marks.retain(|mark| *mark != session.fingerprint);
        if marks.len() >= SESSIONS_MAX {
            marks.remove(0);
        }
        marks.push(session.fingerprint);
    }

    fn contains(&self, session: &SessionKey) -> bool {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.get_mut(&session.user).is_some_and(|marks| marks.contains(&session.fingerprint))
    }
}

impl GraceSessions {
    pub(crate) fn new(all: SharedSessions) -> Self {
        Self { shared: all, local: RefCell::new(BoundedCache::new(WORKER_SESSIONS_MAX)) }
    }

    /// Checks a complete message that names this session: the token must be valid for it.
    pub(crate) fn check(
        &self,
        standing: &mut TokenStanding,
        wall: SystemTime,
        call: &Call,
        session: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let is_first = !std::mem::replace(&mut standing.is_session_named, true);
        if !standing.has_expired(wall) {
            if let (true, Some(id)) = (is_first, session) {
                standing.session = self.shared.session(call, id).map(Box::new);
            }
            return Ok(());
        }
        let session = session.and_then(|id| self.shared.session(call, id));
        match session {
            Some(session) if self.contains(&session) => Ok(()),
            Some(_) | None => Err(authenticate::token_expired()),
        }
    }

    /// Records the session of a call whose driver has begun to answer without an error.
    pub(crate) fn record(&self, standing: Option<&mut TokenStanding>, now: Instant) {
        let Some(session) = standing.and_then(|standing| standing.session.take()) else { return };
        let (mut own, key) = (self.local.borrow_mut(), session.fingerprint.to_ne_bytes());
        let is_fresh = |told: &Instant| now.saturating_duration_since(*told) < SHARE_INTERVAL;
        if own.get_if(&key, is_fresh).is_none() {
            own.insert(&key, now);
            self.shared.record(&session);
        }
    }

    /// Whether the session is recorded, by any worker.
    fn contains(&self, session: &SessionKey) -> bool {
        let own = self.local.borrow_mut().get_if(&session.fingerprint.to_ne_bytes(), |_| true);
        own.is_some() || self.shared.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, mark: u128) -> SessionKey {
        SessionKey { user: user.as_bytes().into(), fingerprint: mark }
    }

    fn good(session: SessionKey) -> TokenStanding {
        TokenStanding {
            expires_at: Duration::MAX,
            session: Some(Box::new(session)),
            is_session_named: true,
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test begins at some moment")]
    fn a_session_that_one_worker_has_noted_is_known_to_all_and_no_other_is() {
        let (begun, now) = (SharedSessions::default(), Instant::now());
        let (one, other) = (GraceSessions::new(begun.clone()), GraceSessions::new(begun));
        one.record(Some(&mut good(session("ann", 1))), now);
        let known = |at: &GraceSessions, mark| at.contains(&session("ann", mark));
        assert!(known(&one, 1) && known(&other, 1));
        assert!(!known(&one, 2) && !known(&other, 2));
        other.record(Some(&mut good(session("ann", 2))), now);
        assert!(known(&one, 2));
    }

    #[test]
    fn a_user_with_many_sessions_loses_the_oldest_and_other_users_lose_none() {
        let begun = SharedSessions::default();
        begun.record(&session("ann", 0));
        for mark in 0..=2 * SESSIONS_MAX as u128 {
            begun.record(&session("bob", mark));
            begun.record(&session("bob", 0));
        }
        assert!(begun.contains(&session("ann", 0)));
        assert!(begun.contains(&session("bob", 0)), "it came with every second call");
        assert!(!begun.contains(&session("bob", 1)));
        assert!(begun.contains(&session("bob", 2 * SESSIONS_MAX as u128)));
        let mut users = begun.users.lock().unwrap();
        assert_eq!(users.get_mut(b"bob").unwrap().len(), SESSIONS_MAX);
    }
}
