//! Tenure: a proof that has ended counts for a while longer, for sessions that began before.
//!
//! PySpark cannot put a fresh token into a session that runs. So the sessions are remembered that
//! somebody came with while the proof was good: in its grace it is good for those, and a stolen
//! token begins nothing. All this is asked only where the configuration has a grace.
//!
//! A session is remembered by this process alone, once its driver has begun to answer; one for each
//! stream. Each user has a share of the memory: what one does pushes out no session of another.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::{Call, Lately, Refusal, authenticate, identity::Source};

use crate::config::Slack;

/// The most sessions of one user that are remembered: those that came last.
const SESSIONS_MAX: usize = 256;
/// The most users whose sessions are remembered. At least half of them are those who came last, and
/// only who has a good proof is one.
const USERS_MAX: usize = 8_192;
/// The most sessions that one worker knows without asking, of all users.
const OWN_MAX: usize = 16_384;
/// A session that a worker meets again is told to all no more often than this.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// The sessions that began with a good proof.
pub(super) struct Tenures {
    /// As all workers know them.
    all: Begun,
    /// As this one has met them, and when it told the others.
    own: RefCell<Lately<Instant>>,
}

/// What workers share: for each user, the marks of sessions, the latest last.
#[derive(Clone)]
pub(super) struct Begun {
    users: Arc<Mutex<Lately<Vec<u128>>>>,
    hashes: Arc<[RandomState; 2]>,
}

/// A call's proof, where one that has ended may count still.
pub(super) struct Tenure {
    /// When it ends for sessions that did not begin before, in time since the Unix epoch; clocks
    /// may be apart, which is in it.
    ends: Duration,
    /// The session that the first message has named, until it is noted.
    session: Option<Box<Session>>,
    has_begun: bool,
}

/// A session by all that tells it from others: one of the same id on another driver, or of another
/// user, is another one.
struct Session {
    user: Box<[u8]>,
    mark: u128,
}

impl Tenure {
    /// Of a call that was admitted just now. `None` where proofs have no grace or no end.
    pub(super) fn of(call: &Call, slack: Slack) -> Option<Self> {
        let identity = call.slots().identity.as_ref()?;
        if slack.grace.is_zero() || *identity.source() == Source::Certificate {
            return None;
        }
        let leeway = slack.for_any_session(call.method());
        let ends = Duration::from_secs(identity.expires_at()?).saturating_add(leeway);
        // A call that releases something begins no session.
        Some(Self { ends, session: None, has_begun: call.method().is_release() })
    }

    fn is_over(&self, wall: SystemTime) -> bool {
        // A clock before the epoch is no clock: nothing is in time by it.
        wall.duration_since(SystemTime::UNIX_EPOCH).map_or(true, |now| now >= self.ends)
    }
}

impl Default for Begun {
    fn default() -> Self {
        let users = Arc::new(Mutex::new(Lately::new(USERS_MAX)));
        Self { users, hashes: Arc::new([RandomState::new(), RandomState::new()]) }
    }
}

impl Begun {
    /// The session of a call that has this id. No name has the octet that parts them.
    fn session(&self, call: &Call, id: &[u8]) -> Option<Session> {
        let slots = call.slots();
        let identity = slots.identity.as_ref()?;
        let source = identity.source().to_string();
        let user = [source.as_bytes(), identity.user().as_bytes()].join(&0);
        let (team, environment) = (slots.team.as_ref()?, slots.environment.as_ref()?);
        let place = [team.as_str().as_bytes(), environment.as_str().as_bytes()];
        let [one, other] = &*self.hashes;
        let half = |hash: &RandomState| u128::from(hash.hash_one((&user, place, id)));
        let mark = (half(one) << 64) | half(other);
        Some(Session { user: user.into(), mark })
    }

    fn note(&self, session: &Session) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = users.entry(&session.user);
        marks.retain(|mark| *mark != session.mark);
        if marks.len() >= SESSIONS_MAX {
            marks.remove(0);
        }
        marks.push(session.mark);
    }

    fn knows(&self, session: &Session) -> bool {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.find(&session.user).is_some_and(|marks| marks.contains(&session.mark))
    }
}

impl Tenures {
    pub(super) fn new(all: Begun) -> Self {
        Self { all, own: RefCell::new(Lately::new(OWN_MAX)) }
    }

    /// A message of this call is whole but for its stamp, and names this session: whether the proof
    /// is good for it.
    pub(super) fn hold(
        &self,
        tenure: &mut Tenure,
        wall: SystemTime,
        call: &Call,
        session: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let is_first = !std::mem::replace(&mut tenure.has_begun, true);
        if !tenure.is_over(wall) {
            if let (true, Some(id)) = (is_first, session) {
                tenure.session = self.all.session(call, id).map(Box::new);
            }
            return Ok(());
        }
        let session = session.and_then(|id| self.all.session(call, id));
        match session {
            Some(session) if self.knows(&session) => Ok(()),
            Some(_) | None => Err(authenticate::expired()),
        }
    }

    /// The driver has begun to answer a call, or has answered it, and not with an error: its
    /// session has come with a good proof.
    pub(super) fn note(&self, tenure: Option<&mut Tenure>, now: Instant) {
        let Some(session) = tenure.and_then(|tenure| tenure.session.take()) else { return };
        let (mut own, key) = (self.own.borrow_mut(), session.mark.to_ne_bytes());
        let is_fresh = |told: &Instant| now.saturating_duration_since(*told) < TOLD_AGAIN;
        if own.recall(&key, is_fresh).is_none() {
            own.remember(&key, now);
            self.all.note(&session);
        }
    }

    /// Whether it has, to whichever worker.
    fn knows(&self, session: &Session) -> bool {
        let own = self.own.borrow_mut().recall(&session.mark.to_ne_bytes(), |_| true);
        own.is_some() || self.all.knows(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, mark: u128) -> Session {
        Session { user: user.as_bytes().into(), mark }
    }

    fn good(session: Session) -> Tenure {
        Tenure { ends: Duration::MAX, session: Some(Box::new(session)), has_begun: true }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test begins at some moment")]
    fn a_session_that_one_worker_has_noted_is_known_to_all_and_no_other_is() {
        let (begun, now) = (Begun::default(), Instant::now());
        let (one, other) = (Tenures::new(begun.clone()), Tenures::new(begun));
        one.note(Some(&mut good(session("ann", 1))), now);
        let known = |at: &Tenures, mark| at.knows(&session("ann", mark));
        assert!(known(&one, 1) && known(&other, 1));
        assert!(!known(&one, 2) && !known(&other, 2));
        other.note(Some(&mut good(session("ann", 2))), now);
        assert!(known(&one, 2));
    }

    #[test]
    fn a_user_with_many_sessions_forgets_the_oldest_of_them_and_nobody_else_s() {
        let begun = Begun::default();
        begun.note(&session("ann", 0));
        for mark in 0..=2 * SESSIONS_MAX as u128 {
            begun.note(&session("bob", mark));
            begun.note(&session("bob", 0));
        }
        assert!(begun.knows(&session("ann", 0)));
        assert!(begun.knows(&session("bob", 0)), "it came with every second call");
        assert!(!begun.knows(&session("bob", 1)));
        assert!(begun.knows(&session("bob", 2 * SESSIONS_MAX as u128)));
        let mut users = begun.users.lock().unwrap();
        assert_eq!(users.find(b"bob").unwrap().len(), SESSIONS_MAX);
    }
}
