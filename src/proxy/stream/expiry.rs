//! Lease: a stream that its client can take up again goes on for no longer than its caller's proof.
//!
//! It ends between two messages, with OK and without the mark of a complete result: Spark's clients
//! then send ReattachExecute at once, at no cost to the query, and that call must prove itself
//! anew. Any other stream goes on to its end: ending it would lose an answer.

use std::time::{Duration, Instant, SystemTime};

use sconce_filters::{Call, Method, Refusal, authenticate};

use crate::config::TokenLeeway;

/// How long a stream may go on.
pub(crate) struct TokenExpiry {
    /// When the caller's proof ends.
    pub(crate) expires_at: Instant,
    /// The proof has ended, and a message has not.
    pub(crate) has_expired: bool,
    /// Whether the driver has the request as a whole.
    is_request_complete: bool,
}

impl TokenExpiry {
    pub(crate) fn is_request_complete(&self) -> bool {
        self.is_request_complete
    }

    /// The lease of a call that was opened just now. `None` for calls that are not taken up again,
    /// and for proofs without an end.
    pub(crate) fn of(call: &Call, slack: TokenLeeway) -> Option<Self> {
        if !matches!(call.method(), Method::ExecutePlan | Method::ReattachExecute) {
            return None;
        }
        let identity = call.attributes().identity.as_ref()?;
        let end = identity.expires_at()?;
        let wall = call.wall_time()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let left = Duration::from_secs(end)
            .saturating_add(slack.for_source(identity.source()))
            .saturating_sub(wall);
        let until = call.opened_at().checked_add(left)?;
        Some(Self { expires_at: until, has_expired: false, is_request_complete: false })
    }

    /// The request is whole but for its stamp: whether the driver may have it. One that took longer
    /// to come than its caller's proof was good is as one that came after that.
    pub(crate) fn complete_request(&mut self, now: Instant) -> Result<(), Refusal> {
        if now >= self.expires_at {
            return Err(authenticate::token_expired());
        }
        self.is_request_complete = true;
        Ok(())
    }
}
