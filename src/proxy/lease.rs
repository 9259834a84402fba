//! Lease: a stream that its client can take up again goes on for no longer than its caller's proof.
//!
//! It ends between two messages, with OK and without the mark of a complete result: Spark's clients
//! then send ReattachExecute at once, at no cost to the query, and that call must prove itself
//! anew. Any other stream goes on to its end: ending it would lose an answer.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::{Call, Code, Ending, Method, Refusal, authenticate};

use crate::config::Slack;
use crate::grpc::stamp::Stamper;
use crate::grpc::status;
use crate::proxy::exchange::AnswerEnd;
use crate::proxy::relay::Relay;

/// How long a stream may go on.
pub(super) struct Lease {
    /// When the caller's proof ends.
    pub(super) until: Instant,
    /// The proof has ended, and a message has not.
    pub(super) is_over: bool,
    /// Whether the driver has the request as a whole.
    has_begun: bool,
}

impl Lease {
    /// The lease of a call that was opened just now. `None` for calls that are not taken up again,
    /// and for proofs without an end.
    pub(super) fn of(call: &Call, slack: Slack) -> Option<Self> {
        if !matches!(call.method(), Method::ExecutePlan | Method::ReattachExecute) {
            return None;
        }
        let identity = call.slots().identity.as_ref()?;
        let end = identity.expires_at()?;
        let wall = call.wall()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let left = Duration::from_secs(end)
            .saturating_add(slack.of(identity.source()))
            .saturating_sub(wall);
        let until = call.opened_at().checked_add(left)?;
        Some(Self { until, is_over: false, has_begun: false })
    }

    /// The request is whole but for its stamp: whether the driver may have it. One that took longer
    /// to come than its caller's proof was good is as one that came after that.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), Refusal> {
        if now >= self.until {
            return Err(authenticate::expired());
        }
        self.has_begun = true;
        Ok(())
    }
}

/// Whether the client has said that it takes the stream up again.
fn is_reattachable(call: &Call, stamper: Option<&Stamper>) -> bool {
    *call.method() == Method::ReattachExecute || stamper.is_some_and(Stamper::is_reattachable)
}

impl Relay {
    /// The proof of a call's caller has ended.
    pub(super) fn end_lease(&mut self, tag: usize) {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        if exchange.end.is_some() {
            // The answer is complete, and waits for its client alone.
            exchange.lease = None;
            return;
        }
        let Some(lease) = &mut exchange.lease else { return };
        if !lease.has_begun {
            // Nothing that comes of the request now can begin.
            return self.refuse(tag, &authenticate::expired(), Ending::Refused);
        }
        lease.is_over = true;
        if !is_reattachable(&exchange.call, exchange.stamper.as_ref()) {
            exchange.lease = None;
            return;
        }
        if exchange.boundary.is_between() {
            self.suspend(tag);
        }
    }

    /// Ends a stream between two messages. The driver keeps the operation, as it does when a
    /// connection is lost.
    pub(super) fn suspend(&mut self, tag: usize) {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        let trailers = status::ok(exchange.answered);
        if exchange.down.parked.is_empty() {
            self.client.wire.head(exchange.stream, trailers.iter(), true);
            return self.finish(tag, Code::Ok, Ending::Expired);
        }
        let (trailers, code, how) = (Rc::new(trailers), Code::Ok, Ending::Expired);
        self.end_behind_parked(tag, AnswerEnd { trailers, code, how });
    }
}
