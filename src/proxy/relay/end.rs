//! End: every way in which a stream, an upstream connection or the client connection ends.
//!
//! A stream ends once, for the client, the upstream, the filters and the metrics.
//!
//! Must never happen here: an invented success, or REFUSED_STREAM for a request that a driver may
//! have begun.

use std::time::Duration;

use sconce_filters::{Code, EndReason, Refusal};

use crate::grpc::status;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::shutdown::Shutdown;
use crate::proxy::upstream::connect::NO_HTTP2;
use crate::proxy::upstream::connection::Upstream;
use crate::telemetry::PeerSide;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::error::{self, ConnectionError};

/// Timeout for the client's acknowledgement of the PING after the first GOAWAY. Streams that were
/// in flight arrive before it.
const PING_BARRIER_TIMEOUT: Duration = Duration::from_secs(1);
/// Times that a call may be reassigned because its upstream connection ended before its head had
/// left.
const REASSIGNMENTS_MAX: u8 = 3;

impl Relay {
    /// Ends a stream with a status of sconce: as Trailers-Only, or as trailers if the response has
    /// started.
    pub(super) fn refuse(&mut self, key: StreamKey, refusal: &Refusal, reason: EndReason) {
        let Some(stream) = self.streams.get(key) else { return };
        self.ctx.metrics.call_refused(refusal.label);
        self.log_refused(key, refusal);
        let fields = if stream.is_response_started {
            status::trailers(refusal)
        } else {
            status::trailers_only(refusal)
        };
        let stream = stream.id;
        if reason == EndReason::Refused {
            self.write_refusal(stream, &fields, refusal.cost);
        } else {
            self.downstream.wire.send_headers(stream, fields.iter(), true);
        }
        self.end_stream(key, refusal.code, reason);
    }

    /// Ends a stream after its last frame to the client.
    pub(super) fn end_stream(&mut self, key: StreamKey, code: Code, reason: EndReason) {
        if let Some(stream) = self.streams.get(key) {
            self.downstream.wire.reset_stream(stream.id, error::ErrorCode::NoError);
        }
        self.detach_upstream(key, error::ErrorCode::Cancel);
        self.complete_stream(key, code, reason);
    }

    /// Detaches a stream from its upstream; a stream that is still open there is reset.
    pub(super) fn detach_upstream(&mut self, key: StreamKey, code: error::ErrorCode) {
        let Self { streams, upstreams, now, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return };
        let Some(up) = stream.upstream.take() else { return };
        let Some(upstream) = upstreams.get_mut(up) else {
            return self.ctx.internal_error("upstream_missing");
        };
        upstream.download_buffer_shrunk(stream.download.buffered().len());
        upstream.detach(key, stream.upstream_id.take(), code, *now);
        if upstream.has_pending() {
            self.open_pending(up);
        }
        self.close_upstream_if_drained(up);
    }

    /// Reports the end of a stream to the filters and the metrics, and removes it.
    pub(super) fn complete_stream(&mut self, key: StreamKey, code: Code, reason: EndReason) {
        self.record_removal_sessions();
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.pending_filter.is_some() {
            self.pending_filters = self.pending_filters.saturating_sub(1);
        }
        stream.complete(code, reason, self.now, &self.ctx.metrics);
        if stream.pending_end.is_some() {
            self.detached = self.detached.saturating_sub(stream.download.buffered().len());
        }
        self.streams.try_remove(key);
        if self.streams.is_empty() {
            self.idle_since = self.now;
            self.schedule_shrink();
            self.close_if_drained();
        }
    }

    /// The client is gone: ends all streams, and closes the connection without a word.
    pub(super) fn abort_downstream(&mut self) {
        self.state = DownstreamState::Closed;
        self.cancel_streams();
    }

    /// Clears the pending queues: no pending stream may take the place of one that ends first.
    fn clear_pending(&mut self) {
        self.upstreams.iter_mut().for_each(|(_, upstream)| upstream.clear_pending());
    }

    /// Ends all streams without an answer to the client.
    pub(super) fn cancel_streams(&mut self) {
        self.clear_pending();
        for key in self.streams_where(|_| true) {
            self.cancel_stream(key, Code::Cancelled, EndReason::ClientLost);
        }
    }

    /// The socket of an upstream connection ended.
    pub(super) fn on_upstream_closed(&mut self, up: UpstreamKey, what: &str) {
        self.report_unless_settings_received(up);
        self.reassign_unsent(up);
        self.fail_upstream_streams(up, "driver.lost", what);
        self.close_upstream(up, "lost");
    }

    /// Connection error by the client (RFC 9113, 5.4.1).
    pub(super) fn on_downstream_error(&mut self, error: ConnectionError) {
        if self.may_log(LineKind::ClientMalformed) {
            tracing::info!(peer = %self.peer, what = error.reason, "client connection refused");
        }
        if let Some(budget) = error.budget {
            self.ctx.metrics.abuse_limit_exceeded(budget.name(), PeerSide::Downstream);
        }
        self.downstream.wire.fail(error);
        self.cancel_streams();
        self.close_downstream();
    }

    /// Connection error by a driver: fails its streams, and closes the connection after GOAWAY.
    pub(super) fn on_upstream_error(&mut self, up: UpstreamKey, error: ConnectionError) {
        if let Some(budget) = error.budget {
            self.ctx.metrics.abuse_limit_exceeded(budget.name(), PeerSide::Upstream);
        }
        self.report_unless_settings_received(up);
        if let Some(upstream) = self.upstreams.get_mut(up) {
            let cluster = upstream.cluster();
            if log_limit::allow(LineKind::DriverMalformed, &(cluster.team(), cluster.environment()))
            {
                tracing::warn!(%cluster, what = error.reason, "driver malformed");
            }
            if let Some(h2) = upstream.h2_mut() {
                h2.wire.fail(error);
            }
        }
        self.fail_upstream_streams(up, "driver.malformed", error.reason);
    }

    /// Reports a driver as unreachable if its connection fails before its SETTINGS.
    fn report_unless_settings_received(&self, up: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(up) else { return };
        if upstream.h2().is_some_and(|h2| !h2.wire.settings_received()) {
            upstream.cluster().driver_unreachable(NO_HTTP2, self.now);
        }
    }

    /// An upstream connection ended: calls whose heads have not left are reassigned, unless octets
    /// of their bodies are in flight.
    fn reassign_unsent(&mut self, up: UpstreamKey) {
        let Self { upstreams, streams, .. } = self;
        let Some(upstream) = upstreams.get_mut(up) else { return };
        upstream.mark_lost();
        let unsent = streams.iter_mut().filter(|(_, stream)| {
            stream.upstream == Some(up)
                && stream.upstream_id.is_some()
                && upstream.may_reassign(stream.id, stream.head_end)
                && !stream.is_response_started
                && stream.reassignments < REASSIGNMENTS_MAX
        });
        let unsent = unsent.map(|(key, stream)| {
            stream.upstream_id = None;
            stream.reassignments = stream.reassignments.saturating_add(1);
            key
        });
        for key in unsent.collect::<Vec<_>>() {
            self.reassign(key);
        }
    }

    /// Fails every stream on an upstream connection, which accepts no further ones. Those that were
    /// pending on an established connection are reassigned: their driver has not received them.
    pub(super) fn fail_upstream_streams(
        &mut self,
        up: UpstreamKey,
        label: &'static str,
        what: &str,
    ) {
        let Some(upstream) = self.upstreams.get_mut(up) else { return };
        upstream.mark_lost();
        if upstream.h2().is_some() {
            self.reassign_pending(up);
        }
        for key in self.streams_where(|stream| stream.upstream == Some(up)) {
            // It may have ended with another one.
            if self.streams.get(key).is_some_and(|stream| stream.upstream == Some(up)) {
                self.fail_stream(key, Code::Unavailable, label, what);
            }
        }
    }

    pub(super) fn close_upstream(&mut self, up: UpstreamKey, reason: &'static str) {
        if let Some(mut upstream) = self.upstreams.try_remove(up)
            && upstream.h2_mut().is_some()
        {
            self.ctx.metrics.upstream_closed(reason);
        }
    }

    /// Closes lost upstream connections, whose last frames are written.
    pub(super) fn close_lost_upstreams(&mut self) {
        while let Some(up) = self.upstreams.find_key(Upstream::is_lost) {
            self.close_upstream(up, "lost");
        }
    }

    /// Closes an upstream connection that is draining and has no streams.
    pub(super) fn close_upstream_if_drained(&mut self, up: UpstreamKey) {
        let Some(upstream) = self.upstreams.get(up) else { return };
        if upstream.is_drained() {
            self.close_upstream(up, "left");
        }
    }

    /// Those that end anyway are left alone: callers further up may hold their keys.
    pub(super) fn close_idle_upstreams(&mut self) {
        while let Some(up) = self.upstreams.find_key(Upstream::is_idle) {
            self.close_upstream(up, "idle");
        }
    }

    /// Returns reusable upstream connections to the idle pool, and closes the others.
    fn return_upstreams_to_pool(&mut self) {
        let Self { ctx, upstreams, now, .. } = self;
        for upstream in upstreams.drain() {
            if upstream.h2().is_none() {
                continue;
            }
            match upstream.into_idle(*now).filter(|_| ctx.shutdown.get() == Shutdown::Run) {
                Some(idle) => ctx.idle_pool.put(idle),
                None => ctx.metrics.upstream_closed("idle"),
            }
        }
    }

    /// Applies the shutdown phase of the worker.
    pub(super) fn apply_shutdown(&mut self) {
        self.close_if_evicted();
        match (self.ctx.shutdown.get(), self.state) {
            (Shutdown::Run, _)
            | (
                _,
                DownstreamState::Closing(_)
                | DownstreamState::Lingering(_)
                | DownstreamState::Closed,
            )
            | (Shutdown::Drain, DownstreamState::Draining(_)) => {}
            (Shutdown::Drain, DownstreamState::Open) => self.graceful_goaway(),
            (Shutdown::Terminate, DownstreamState::Open | DownstreamState::Draining(_)) => {
                let refusal = Refusal::new(
                    Code::Unavailable,
                    "drain.grace",
                    "sconce is shutting down; retry the call",
                );
                self.clear_pending();
                for key in self.streams_where(|_| true) {
                    self.refuse(key, &refusal, EndReason::Drained);
                }
                self.final_goaway();
            }
        }
    }

    /// Sends the first GOAWAY, with the largest stream identifier: streams in flight are still
    /// accepted (RFC 9113, 6.8).
    pub(super) fn graceful_goaway(&mut self) {
        if self.state != DownstreamState::Open {
            return;
        }
        self.downstream.wire.send_goaway(true);
        self.downstream.wire.send_ping();
        self.state = DownstreamState::Draining(Some(self.now + PING_BARRIER_TIMEOUT));
        self.schedule(self.now + PING_BARRIER_TIMEOUT);
    }

    /// The client acknowledged the PING after the first GOAWAY: no stream is in flight any more.
    pub(super) fn on_ping_ack(&mut self) {
        if matches!(self.state, DownstreamState::Draining(Some(_))) {
            self.final_goaway();
        }
    }

    /// Sends the second GOAWAY, with the last accepted stream identifier.
    pub(super) fn final_goaway(&mut self) {
        self.downstream.wire.send_goaway(false);
        if self.streams.is_empty() {
            self.close_downstream();
        } else {
            self.state = DownstreamState::Draining(None);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cancel_streams();
        self.return_upstreams_to_pool();
        self.ctx.inflated.set(&mut self.inflated, 0);
        self.set_budget_shares([0; 2]);
        self.ctx.metrics.downstream_closed();
        self.ctx.unregister_waker(self.waker_key.take());
    }
}
