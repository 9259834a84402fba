//! Token expiry: a stream that its client can reattach ends when the caller's token expires.
//!
//! It ends at a message boundary, with OK and without ResultComplete: Spark's clients then send
//! ReattachExecute at once, at no cost to the query, and that call authenticates again. Other
//! streams continue to their end: to end them would lose the response.

use std::time::{Duration, Instant, SystemTime};

use sconce_filters::{Call, Method, Refusal, authenticate};

use crate::config::TokenLeeway;

/// The expiry of the token that a stream was authenticated with.
pub(crate) struct TokenExpiry {
    /// When the token expires.
    pub(crate) expires_at: Instant,
    /// The token has expired, and the stream ends at the next message boundary.
    pub(crate) has_expired: bool,
    /// Whether the complete request was forwarded.
    is_request_complete: bool,
}

impl TokenExpiry {
    pub(crate) fn is_request_complete(&self) -> bool {
        self.is_request_complete
    }

    /// `None` for calls that clients cannot reattach, and for tokens without expiry.
    pub(crate) fn of(call: &Call, leeway: TokenLeeway) -> Option<Self> {
        if !matches!(call.method(), Method::ExecutePlan | Method::ReattachExecute) {
            return None;
        }
        let identity = call.attributes().identity.as_ref()?;
        let end = identity.expires_at()?;
        let wall = call.wall_time()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let left = Duration::from_secs(end)
            .saturating_add(leeway.for_source(identity.source()))
            .saturating_sub(wall);
        let until = call.opened_at().checked_add(left)?;
        Some(Self { expires_at: until, has_expired: false, is_request_complete: false })
    }

    /// Whether a complete request may be forwarded. A request that completes after its token has
    /// expired is refused as one that begins then.
    pub(crate) fn complete_request(&mut self, now: Instant) -> Result<(), Refusal> {
        if now >= self.expires_at {
            return Err(authenticate::token_expired());
        }
        self.is_request_complete = true;
        Ok(())
    }
}
