//! Malformed: header lists that break a rule of HTTP/2, and what becomes of their calls.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sconce_filters::{Code, Ending};

use crate::grpc::{malformed, status};
use crate::proxy::driver::Driver;
use crate::proxy::exchange::AnswerEnd;
use crate::proxy::relay::{Phase, Relay};
use crate::telemetry::log_limit::{self, Kind};
use crate::wire::frame::StreamId;
use crate::wire::head::Malformed;

/// How long a client may take to end a request that was rejected before it was whole. It gives up
/// by itself, as clients of gRPC do, within a round trip.
const REJECTED: Duration = Duration::from_millis(500);
/// Streams of one connection that may wait for that.
const REJECTED_MAX: usize = 256;

/// Streams that were answered and are to be reset by then, in this order.
pub(super) type Rejected = VecDeque<(StreamId, Instant)>;

impl Relay {
    /// A request's head breaks a rule. Nothing of it is forwarded: the client is told which field
    /// and which rule, and then gets the error that RFC 9113 asks for.
    pub(super) fn reject_request(&mut self, stream: StreamId, fault: Malformed) {
        let fields = self.client.wire.fields();
        let refusal = malformed::refusal(&fields, fault);
        let field = malformed::name(&fields, fault);
        self.note_turned_away(stream, refusal.label, field.as_deref());
        self.write_refusal(stream, &status::trailers_only(&refusal), refusal.cost);
        self.reject(stream);
        self.close_if_done();
    }

    /// Resets a stream that was answered, when its client has ended it or after a while.
    fn reject(&mut self, stream: StreamId) {
        if !self.client.wire.reject(stream) {
            return;
        }
        let rejected = self.rejected.get_or_insert_default();
        if self.phase != Phase::Open || rejected.len() >= REJECTED_MAX {
            return self.client.wire.reset_rejected(stream);
        }
        let due = self.now + REJECTED;
        rejected.push_back((stream, due));
        self.wake_by(due);
    }

    /// Resets rejected streams that have waited for long enough. When to look again, if others
    /// wait.
    pub(super) fn reset_rejected(&mut self) -> Option<Instant> {
        let rejected = self.rejected.as_mut()?;
        while let Some((stream, _)) = rejected.pop_front_if(|(_, due)| *due <= self.now) {
            self.client.wire.reset_rejected(stream);
        }
        let next = rejected.front().map(|(_, due)| *due);
        if next.is_none() {
            self.rejected = None;
        }
        next
    }

    /// A request never became a call: by which rule, and at which field of its head. Counted, and
    /// logged as refused, as [`Relay::refuse`] does for calls.
    pub(super) fn note_turned_away(
        &self,
        stream: StreamId,
        rule: &'static str,
        field: Option<&str>,
    ) {
        self.note_rejected(rule, field);
        self.log_turned_away(stream, rule);
    }

    /// A request has broken a rule. Where it became a call before, this is counted beside how that
    /// call ends, and nothing is logged as refused: its client has reset it, or broken it.
    pub(super) fn note_rejected(&self, rule: &'static str, field: Option<&str>) {
        self.worker.metrics.refused(rule);
        tracing::debug!(peer = %self.peer, rule, field, "request rejected");
    }

    /// A driver's answer cannot be passed on. If it says by itself how the call ended, the client
    /// hears that; else the call fails with a status that no client tries again, since the same
    /// answer would come.
    pub(super) fn reject_answer(&mut self, driver: usize, tag: usize, fault: Malformed, end: bool) {
        let Some(exchange) = self.exchanges.get(tag) else { return };
        let Some(from) = self.drivers.get_mut(driver) else { return };
        from.asked = 0;
        let Some(leg) = from.leg() else { return };
        let (fields, size_max) = (leg.wire.fields(), leg.wire.ours().header_list_octets());
        let what = malformed::describe(&fields, fault);
        log_malformed(from, &what);
        if end && !exchange.answered && status::refuses_credential(&fields) {
            return self.fail_credential(tag);
        }
        let own = end.then(|| malformed::own_status(&fields, exchange.answered, size_max));
        let Some((code, own)) = own.flatten() else {
            return self.fail_exchange(tag, Code::Internal, "driver.malformed", &what);
        };
        self.worker.metrics.refused("driver.malformed");
        if exchange.down.parked.is_empty() {
            self.client.wire.head(exchange.stream, own.iter(), true);
            self.finish(tag, code, Ending::Answered);
        } else {
            let end = AnswerEnd { trailers: Rc::new(own), code, how: Ending::Answered };
            self.end_behind_parked(tag, end);
        }
    }
}

fn log_malformed(driver: &Driver, what: &str) {
    let cluster = &driver.cluster;
    if log_limit::admits(Kind::DriverMalformed, &(cluster.team(), cluster.environment())) {
        tracing::warn!(%cluster, what, "driver malformed");
    }
}
