//! Tenure: a proof that has ended counts for a while longer, for sessions that began before.
//!
//! PySpark cannot put a fresh token into a session that runs. So the sessions are remembered that
//! somebody came with while the proof was good: in its grace it is good for those, and a stolen
//! token begins nothing. All this is asked only where the configuration has a grace.
//!
//! A session is remembered by this process alone, and only so many are.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sconce_filters::{Call, Lately, Refusal, authenticate};

use crate::config::Slack;

/// The most sessions that are remembered, and the most that one worker knows without asking.
const SESSIONS_MAX: usize = 16_384;

/// The sessions that began with a good proof.
pub(super) struct Tenures {
    /// As all workers know them; asked for once by each.
    all: Begun,
    own: RefCell<Lately<()>>,
}

/// What workers share.
#[derive(Clone)]
pub(super) struct Begun(Arc<Mutex<Lately<()>>>);

/// How a call's proof stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    /// It is good: what begins with it may go on.
    Good,
    /// It has ended: what began before may go on.
    Over,
}

impl Tenure {
    /// Of a call that was admitted just now. `None` where proofs have no grace or no end.
    pub(super) fn of(call: &Call, slack: Slack) -> Option<Self> {
        if slack.grace.is_zero() {
            return None;
        }
        let end = Duration::from_secs(call.slots().identity.as_ref()?.expires_at()?);
        let wall = call.wall()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let is_over = wall >= end.saturating_add(slack.skew);
        Some(if is_over { Self::Over } else { Self::Good })
    }
}

impl Default for Begun {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Lately::new(SESSIONS_MAX))))
    }
}

impl Tenures {
    pub(super) fn new(all: Begun) -> Self {
        Self { all, own: RefCell::new(Lately::new(SESSIONS_MAX)) }
    }

    /// A message of this call is whole but for its stamp, and names this session: whether the proof
    /// is good for it.
    pub(super) fn hold(
        &self,
        tenure: Tenure,
        call: &Call,
        session: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let session = session.and_then(|id| name(call, id));
        match (tenure, session) {
            (Tenure::Good, Some(session)) => self.note(&session),
            (Tenure::Good, None) => {}
            (Tenure::Over, Some(session)) if self.knows(&session) => {}
            (Tenure::Over, Some(_) | None) => return Err(authenticate::expired()),
        }
        Ok(())
    }

    /// This session has come with a good proof.
    fn note(&self, session: &[u8]) {
        let mut own = self.own.borrow_mut();
        if own.recall(session, |()| true).is_none() {
            own.remember(session, ());
            self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remember(session, ());
        }
    }

    /// Whether it has, to whichever worker.
    fn knows(&self, session: &[u8]) -> bool {
        let mut own = self.own.borrow_mut();
        if own.recall(session, |()| true).is_some() {
            return true;
        }
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = all.recall(session, |()| true).is_some();
        if is_known {
            own.remember(session, ());
        }
        is_known
    }
}

/// A session by all that tells it from others: one of the same id on another driver, or of another
/// user, is another one. No name has the octet that parts them.
fn name(call: &Call, id: &[u8]) -> Option<Vec<u8>> {
    let slots = call.slots();
    let identity = slots.identity.as_ref()?;
    let source = identity.source().to_string();
    let parts = [
        slots.team.as_ref()?.as_str().as_bytes(),
        slots.environment.as_ref()?.as_str().as_bytes(),
        source.as_bytes(),
        identity.user().as_bytes(),
        id,
    ];
    Some(parts.join(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_one_worker_has_seen_is_known_to_all_and_no_other_is() {
        let begun = Begun::default();
        let (one, other) = (Tenures::new(begun.clone()), Tenures::new(begun));
        one.note(b"a");
        assert!(one.knows(b"a") && other.knows(b"a") && other.knows(b"a"));
        assert!(!one.knows(b"b") && !other.knows(b"b"));
        other.note(b"b");
        assert!(one.knows(b"b"));
    }
}
