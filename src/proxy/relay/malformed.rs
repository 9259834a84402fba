//! Malformed: header lists that violate HTTP/2 (RFC 9113, 8.1.1), and the end of their calls.

use std::rc::Rc;
use std::time::{Duration, Instant};

use sconce_filters::{Code, EndReason};

use crate::grpc::{malformed, status};
use crate::proxy::downstream::DownstreamState;
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::stream::DownloadEnd;
use crate::proxy::upstream::connection::Upstream;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::frame::StreamId;
use crate::wire::head::MalformedHead;

/// Time for the client to end a request that was rejected before it was complete. gRPC clients end
/// it within one round trip.
const REJECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Streams of one connection that may wait for that.
const REJECTED_MAX: usize = 256;

impl Relay {
    /// A request head violates a rule. Nothing of it is forwarded: the client gets a status with
    /// the field and the rule, and then the error of RFC 9113.
    pub(super) fn on_malformed_request(&mut self, id: StreamId, error: MalformedHead) {
        let fields = self.downstream.wire.fields();
        let refusal = malformed::refusal(&fields, error);
        let field = malformed::name(&fields, error);
        self.record_refused_request(id, refusal.label, field.as_deref());
        self.write_refusal(id, &status::trailers_only(&refusal), refusal.cost);
        self.reset_after_reply(id);
        self.close_if_drained();
    }

    /// Resets an answered stream when its client has ended it, or after `REJECT_TIMEOUT`.
    fn reset_after_reply(&mut self, id: StreamId) {
        if !self.downstream.wire.reject_request(id) {
            return;
        }
        let rejected = self.rejected.get_or_insert_default();
        if self.state != DownstreamState::Open || rejected.len() >= REJECTED_MAX {
            return self.downstream.wire.send_pending_reset(id);
        }
        let due = self.now + REJECT_TIMEOUT;
        rejected.push_back((id, due));
        self.schedule(due);
    }

    /// Resets rejected streams after `REJECT_TIMEOUT`. Returns the time of the next reset.
    pub(super) fn reset_expired_rejected(&mut self) -> Option<Instant> {
        let rejected = self.rejected.as_mut()?;
        while let Some((id, _)) = rejected.pop_front_if(|(_, due)| *due <= self.now) {
            self.downstream.wire.send_pending_reset(id);
        }
        let next = rejected.front().map(|(_, due)| *due);
        if next.is_none() {
            self.rejected = None;
        }
        next
    }

    /// Counts and logs a request that never became a call, with the rule and the field, as
    /// [`Relay::refuse`] does for calls.
    pub(super) fn record_refused_request(
        &self,
        id: StreamId,
        rule: &'static str,
        field: Option<&str>,
    ) {
        self.record_rejected(rule, field);
        self.log_refused_request(id, rule);
    }

    /// Counts a violation. If the request has become a call, its end is counted as well; nothing is
    /// logged as refused, since its client has reset the stream.
    pub(super) fn record_rejected(&self, rule: &'static str, field: Option<&str>) {
        self.ctx.metrics.call_refused(rule);
        tracing::debug!(peer = %self.peer, rule, field, "request rejected");
    }

    /// A response head violates a rule and cannot be forwarded. If the response contains a clear
    /// final status, the client gets that status; otherwise the call fails with a status that
    /// clients do not retry, since the same response would follow.
    pub(super) fn on_malformed_response(
        &mut self,
        up: UpstreamKey,
        key: StreamKey,
        error: MalformedHead,
        end: bool,
    ) {
        let (Some(stream), Some(from)) = (self.streams.get(key), self.upstreams.get_mut(up)) else {
            return self.ctx.internal_error("stream_or_upstream_missing");
        };
        from.response_received();
        let Some(h2) = from.h2_mut() else { return };
        let (fields, size_max) =
            (h2.wire.fields(), h2.wire.local_settings().max_header_list_octets());
        let what = malformed::describe(&fields, error);
        log_malformed(from, &what);
        if end && !stream.is_response_started && status::refuses_credential(&fields) {
            return self.fail_credential(key);
        }
        let own =
            end.then(|| malformed::recover_status(&fields, stream.is_response_started, size_max));
        let Some((code, own)) = own.flatten() else {
            return self.fail_stream(key, Code::Internal, "driver.malformed", &what);
        };
        self.ctx.metrics.call_refused("driver.malformed");
        if !stream.download.has_buffered() {
            self.downstream.wire.send_headers(stream.id, own.iter(), true);
            self.end_stream(key, code, EndReason::Answered);
        } else {
            let end = DownloadEnd { trailers: Rc::new(own), code, reason: EndReason::Answered };
            self.end_after_buffered(key, end);
        }
    }
}

fn log_malformed(upstream: &Upstream, what: &str) {
    let cluster = upstream.cluster();
    if log_limit::allow(LineKind::DriverMalformed, &(cluster.team(), cluster.environment())) {
        tracing::warn!(%cluster, what, "driver malformed");
    }
}
