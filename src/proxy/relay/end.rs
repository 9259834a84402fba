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
use crate::proxy::relay::Relay;
use crate::proxy::shutdown::Shutdown;
use crate::proxy::upstream::connect::NO_HTTP2;
use crate::proxy::upstream::connection::{Upstream, UpstreamState};
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
    pub(super) fn refuse(&mut self, tag: usize, refusal: &Refusal, how: EndReason) {
        let Some(exchange) = self.streams.get(tag) else { return };
        self.ctx.metrics.call_refused(refusal.label);
        self.log_refused(tag, refusal);
        let fields = if exchange.is_response_started {
            status::trailers(refusal)
        } else {
            status::trailers_only(refusal)
        };
        let stream = exchange.id;
        if how == EndReason::Refused {
            self.write_refusal(stream, &fields, refusal.cost);
        } else {
            self.downstream.wire.send_headers(stream, fields.iter(), true);
        }
        self.end_stream(tag, refusal.code, how);
    }

    /// Ends a stream after its last frame to the client.
    pub(super) fn end_stream(&mut self, tag: usize, code: Code, how: EndReason) {
        if let Some(exchange) = self.streams.get(tag) {
            self.downstream.wire.reset_stream(exchange.id, error::ErrorCode::NoError);
        }
        self.detach_upstream(tag, error::ErrorCode::Cancel);
        self.complete_stream(tag, code, how);
    }

    /// Detaches a stream from its upstream; a stream that is still open there is reset.
    pub(super) fn detach_upstream(&mut self, tag: usize, code: error::ErrorCode) {
        let Self { streams: exchanges, upstreams: drivers, now, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some(key) = exchange.upstream.take() else { return };
        let Some(driver) = drivers.get_mut(key) else { return };
        let parked = exchange.download.buffered.len();
        driver.download_buffered = driver.download_buffered.saturating_sub(parked);
        driver.active = driver.active.saturating_sub(1);
        if driver.active == 0 {
            driver.idle_since = *now;
        }
        match (exchange.upstream_id.take(), driver.h2_mut()) {
            (Some(stream), Some(leg)) => leg.wire.reset_stream(stream, code),
            (None, _) => driver.pending.retain(|queued| *queued != tag),
            (Some(_), None) => {}
        }
        if !driver.pending.is_empty() {
            self.open_pending(key);
        }
        self.close_upstream_if_drained(key);
    }

    /// Reports the end of a stream to the filters and the metrics, and removes it.
    pub(super) fn complete_stream(&mut self, tag: usize, code: Code, how: EndReason) {
        self.record_removal_sessions();
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        if exchange.pending_filter.is_some() {
            self.pending_filters = self.pending_filters.saturating_sub(1);
        }
        exchange.complete(code, how, self.now, &self.ctx.metrics);
        if exchange.pending_end.is_some() {
            self.detached = self.detached.saturating_sub(exchange.download.buffered.len());
        }
        self.streams.try_remove(tag);
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
        self.upstreams.iter_mut().for_each(|(_, driver)| driver.pending.clear());
    }

    /// Ends all streams without an answer to the client.
    pub(super) fn cancel_streams(&mut self) {
        self.clear_pending();
        for tag in self.streams_where(|_| true) {
            self.cancel_stream(tag, Code::Cancelled, EndReason::ClientLost);
        }
    }

    /// The socket of an upstream connection ended.
    pub(super) fn on_upstream_closed(&mut self, key: usize, what: &str) {
        self.report_unless_settings_received(key);
        self.reassign_unsent(key);
        self.fail_upstream_streams(key, "driver.lost", what);
        self.close_upstream(key, "lost");
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
    pub(super) fn on_upstream_error(&mut self, key: usize, error: ConnectionError) {
        if let Some(budget) = error.budget {
            self.ctx.metrics.abuse_limit_exceeded(budget.name(), PeerSide::Upstream);
        }
        self.report_unless_settings_received(key);
        if let Some(driver) = self.upstreams.get_mut(key) {
            let cluster = &driver.cluster;
            if log_limit::allow(LineKind::DriverMalformed, &(cluster.team(), cluster.environment()))
            {
                tracing::warn!(%cluster, what = error.reason, "driver malformed");
            }
            if let Some(leg) = driver.h2_mut() {
                leg.wire.fail(error);
            }
        }
        self.fail_upstream_streams(key, "driver.malformed", error.reason);
    }

    /// Reports a driver as unreachable if its connection fails before its SETTINGS.
    fn report_unless_settings_received(&self, key: usize) {
        let Some(driver) = self.upstreams.get(key) else { return };
        if driver.h2().is_some_and(|leg| !leg.wire.settings_received()) {
            driver.cluster.driver_unreachable(NO_HTTP2, self.now);
        }
    }

    /// An upstream connection ended: calls whose heads have not left are reassigned, unless octets
    /// of their bodies are in flight.
    fn reassign_unsent(&mut self, key: usize) {
        let Self { upstreams: drivers, streams: exchanges, .. } = self;
        let Some(driver) = drivers.get_mut(key) else { return };
        driver.is_lost = true;
        let Upstream { in_flight: departing, state: UpstreamState::Connected(leg), .. } = driver
        else {
            return;
        };
        let unsent = exchanges.iter_mut().filter(|(_, exchange)| {
            exchange.upstream == Some(key)
                && exchange.upstream_id.is_some()
                && !leg.has_flushed(exchange.head_end)
                && !exchange.is_response_started
                && exchange.reassignments < REASSIGNMENTS_MAX
                && departing.iter().all(|it| it.stream != exchange.id)
        });
        let unsent = unsent.map(|(tag, exchange)| {
            exchange.upstream_id = None;
            exchange.reassignments = exchange.reassignments.saturating_add(1);
            tag
        });
        for tag in unsent.collect::<Vec<_>>() {
            self.reassign(tag);
        }
    }

    /// Fails every stream on an upstream connection, which accepts no further ones. Those that were
    /// pending on an established connection are reassigned: their driver has not received them.
    pub(super) fn fail_upstream_streams(&mut self, key: usize, label: &'static str, what: &str) {
        let Some(driver) = self.upstreams.get_mut(key) else { return };
        driver.is_lost = true;
        if driver.h2().is_some() {
            self.reassign_pending(key);
        }
        for tag in self.streams_where(|exchange| exchange.upstream == Some(key)) {
            // It may have ended with another one.
            if self.streams.get(tag).is_some_and(|exchange| exchange.upstream == Some(key)) {
                self.fail_stream(tag, Code::Unavailable, label, what);
            }
        }
    }

    pub(super) fn close_upstream(&mut self, key: usize, reason: &'static str) {
        if let Some(mut driver) = self.upstreams.try_remove(key)
            && driver.h2_mut().is_some()
        {
            self.ctx.metrics.upstream_closed(reason);
        }
    }

    /// Closes lost upstream connections, whose last frames are written.
    pub(super) fn close_lost_upstreams(&mut self) {
        let lost = |(key, driver): (usize, &Upstream)| driver.is_lost.then_some(key);
        while let Some(key) = self.upstreams.iter().find_map(lost) {
            self.close_upstream(key, "lost");
        }
    }

    /// Closes an upstream connection that is draining and has no streams.
    pub(super) fn close_upstream_if_drained(&mut self, key: usize) {
        let Some(driver) = self.upstreams.get(key) else { return };
        let is_leaving = driver.h2().is_some_and(|leg| leg.wire.is_going_away());
        if driver.active == 0 && is_leaving && !driver.is_lost {
            self.close_upstream(key, "left");
        }
    }

    /// Those that end anyway are left alone: callers further up may hold their keys.
    pub(super) fn close_idle_upstreams(&mut self) {
        let ends = |driver: &Upstream| {
            let leg = driver.h2();
            driver.is_lost || leg.is_some_and(|leg| leg.wire.is_going_away() || !leg.can_write())
        };
        let idle = |(key, driver): (usize, &Upstream)| {
            (driver.active == 0 && !ends(driver)).then_some(key)
        };
        while let Some(key) = self.upstreams.iter().find_map(idle) {
            self.close_upstream(key, "idle");
        }
    }

    /// Returns reusable upstream connections to the idle pool, and closes the others.
    fn return_upstreams_to_pool(&mut self) {
        let Self { ctx: worker, upstreams: drivers, now, .. } = self;
        for driver in drivers.drain() {
            let UpstreamState::Connected(_) = driver.state else { continue };
            match driver.into_idle(*now).filter(|_| worker.shutdown.get() == Shutdown::Run) {
                Some(spare) => worker.idle_pool.put(spare),
                None => worker.metrics.upstream_closed("idle"),
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
                for tag in self.streams_where(|_| true) {
                    self.refuse(tag, &refusal, EndReason::Drained);
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
