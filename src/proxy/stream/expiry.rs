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
    expires_at: Instant,
    /// The token has expired, and the stream ends at the next message boundary.
    has_expired: bool,
    /// Whether the complete request was forwarded.
    is_request_complete: bool,
}

impl TokenExpiry {
    pub(crate) fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// Whether the token has expired, and the stream ends at the next message boundary.
    pub(crate) fn has_expired(&self) -> bool {
        self.has_expired
    }

    pub(crate) fn expire(&mut self) {
        self.has_expired = true;
    }

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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_completes_after_the_expiry_is_refused() {
        let start = Instant::now();
        let expires_at = start + Duration::from_secs(60);
        let expiry = || TokenExpiry { expires_at, has_expired: false, is_request_complete: false };
        let mut in_time = expiry();
        assert!(in_time.complete_request(expires_at - Duration::from_secs(1)).is_ok());
        assert!(in_time.is_request_complete());
        let mut late = expiry();
        assert!(late.complete_request(expires_at).is_err());
        assert!(!late.is_request_complete());
    }
}
