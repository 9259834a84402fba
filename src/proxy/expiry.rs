//! Lease: a stream that its client can take up again goes on for no longer than its caller's proof.
//!
//! It ends between two messages, with OK and without the mark of a complete result: Spark's clients
//! then send ReattachExecute at once, at no cost to the query, and that call must prove itself
//! anew. Any other stream goes on to its end: ending it would lose an answer.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::{Call, Code, EndReason, Method, Refusal, authenticate};

use crate::config::TokenLeeway;
use crate::grpc::status;
use crate::grpc::user_context::UserContextWriter;
use crate::proxy::relay::Relay;
use crate::proxy::stream::DownloadEnd;

/// How long a stream may go on.
pub(super) struct TokenExpiry {
    /// When the caller's proof ends.
    pub(super) expires_at: Instant,
    /// The proof has ended, and a message has not.
    pub(super) has_expired: bool,
    /// Whether the driver has the request as a whole.
    is_request_complete: bool,
}

impl TokenExpiry {
    /// The lease of a call that was opened just now. `None` for calls that are not taken up again,
    /// and for proofs without an end.
    pub(super) fn of(call: &Call, slack: TokenLeeway) -> Option<Self> {
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
    pub(super) fn complete_request(&mut self, now: Instant) -> Result<(), Refusal> {
        if now >= self.expires_at {
            return Err(authenticate::token_expired());
        }
        self.is_request_complete = true;
        Ok(())
    }
}

/// Whether the client has said that it takes the stream up again.
fn is_reattachable(call: &Call, stamper: Option<&UserContextWriter>) -> bool {
    *call.method() == Method::ReattachExecute
        || stamper.is_some_and(UserContextWriter::is_reattachable)
}

impl Relay {
    /// The proof of a call's caller has ended.
    pub(super) fn on_token_expired(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        if exchange.pending_end.is_some() {
            // The answer is complete, and waits for its client alone.
            exchange.token_expiry = None;
            return;
        }
        let Some(lease) = &mut exchange.token_expiry else { return };
        if !lease.is_request_complete {
            // Nothing that comes of the request now can begin.
            return self.refuse(tag, &authenticate::token_expired(), EndReason::Refused);
        }
        lease.has_expired = true;
        if !is_reattachable(&exchange.call, exchange.user_context.as_ref()) {
            exchange.token_expiry = None;
            return;
        }
        if exchange.boundary.is_at_boundary() {
            self.end_for_reauth(tag);
        }
    }

    /// Ends a stream between two messages. The driver keeps the operation, as it does when a
    /// connection is lost.
    pub(super) fn end_for_reauth(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let trailers = status::ok_status(exchange.is_response_started);
        if exchange.download.buffered.is_empty() {
            self.downstream.wire.send_headers(exchange.id, trailers.iter(), true);
            return self.end_stream(tag, Code::Ok, EndReason::Expired);
        }
        let (trailers, code, how) = (Rc::new(trailers), Code::Ok, EndReason::Expired);
        self.end_after_buffered(tag, DownloadEnd { trailers, code, reason: how });
    }
}
