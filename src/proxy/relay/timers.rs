//! Timers: all timeouts of a connection, checked by one timer.

use std::time::{Duration, Instant};

use sconce_filters::{Code, EndReason, Refusal};

use crate::config::Timeouts;
use crate::config::bounds::format_duration;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::upstream::timeouts::UpstreamCheck;
use crate::telemetry::log_limit::LineKind;
use crate::wire::error::{self, ConnectionError};

/// Longest interval between two checks of open streams.
const TICK_MAX: Duration = Duration::from_secs(2);
/// A connection without streams releases its buffers after this time: the next call soon needs them
/// again, and thousands of connections in a row should not hold them at one time.
const SHRINK_DELAY: Duration = Duration::from_millis(10);

impl Relay {
    /// When open streams must be checked next.
    pub(super) fn next_tick(&self, timeouts: &Timeouts) -> Instant {
        let shortest = timeouts
            .body_progress
            .min(timeouts.window_closed)
            .min(timeouts.driver_keepalive)
            .min(timeouts.driver_keepalive_ack);
        self.now + (shortest / 4).clamp(Duration::from_millis(10), TICK_MAX)
    }

    /// Enforces all timeouts. Returns the time of the next check.
    pub(super) fn check_timeouts(&mut self) -> Instant {
        let timeouts = self.ctx.snapshot().timeouts;
        match self.state {
            DownstreamState::Lingering(until) | DownstreamState::Closing(until)
                if self.now >= until =>
            {
                self.abort_downstream();
            }
            DownstreamState::Draining(Some(at)) if self.now >= at => self.final_goaway(),
            DownstreamState::Open
            | DownstreamState::Draining(_)
            | DownstreamState::Closing(_)
            | DownstreamState::Lingering(_)
            | DownstreamState::Closed => {}
        }
        let mut due = self.check_downstream(&timeouts).min(self.check_shrink());
        due = due.min(self.pause_deadline().unwrap_or(due));
        due = due.min(self.reset_expired_rejected().unwrap_or(due));
        due = due.min(self.check_cleartext_timeout(timeouts.handshake).unwrap_or(due));
        due = due.min(self.check_streams(&timeouts));
        due = due.min(self.check_upstreams(&timeouts));
        match self.state {
            DownstreamState::Lingering(until)
            | DownstreamState::Draining(Some(until))
            | DownstreamState::Closing(until) => due.min(until),
            DownstreamState::Open | DownstreamState::Draining(None) | DownstreamState::Closed => {
                due
            }
        }
    }

    /// Schedules the release of buffers, which happens unless a stream opens before.
    pub(super) fn schedule_shrink(&mut self) {
        self.holds_buffers = true;
        self.schedule(self.now + SHRINK_DELAY);
    }

    fn check_shrink(&mut self) -> Instant {
        let pause = self.idle_since + SHRINK_DELAY;
        if self.holds_buffers && self.streams.is_empty() {
            if self.now < pause {
                return pause;
            }
            self.holds_buffers = false;
            self.shrink();
        }
        self.now + Duration::from_secs(600)
    }

    fn check_downstream(&mut self, timeouts: &Timeouts) -> Instant {
        let now = self.now;
        let open = matches!(self.state, DownstreamState::Open | DownstreamState::Draining(_));
        let mut due = now + Duration::from_secs(600);
        let mut is_due = |at: Instant| {
            due = due.min(at);
            at <= now
        };
        let settings_received = self.downstream.wire.settings_received();
        let late_preface = !settings_received && is_due(self.accepted_at + timeouts.handshake);
        let block_since = self.downstream.wire.partial_frame_since();
        let late_block = block_since.is_some_and(|since| is_due(since + timeouts.handshake));
        let unacknowledged =
            self.downstream.wire.settings_unacked_since().filter(|_| settings_received);
        let late_ack = unacknowledged.is_some_and(|since| is_due(since + timeouts.settings_ack));
        let is_write_stuck = self
            .downstream
            .write_blocked_since()
            .is_some_and(|since| is_due(since + timeouts.window_closed));
        let ping_sent_at = self.downstream.unanswered_ping_sent_at();
        let is_ping_overdue =
            ping_sent_at.is_some_and(|ping_sent_at| is_due(ping_sent_at + timeouts.keepalive_ack));
        let silent =
            ping_sent_at.is_none() && is_due(self.downstream.last_read() + timeouts.keepalive);
        let is_unauthenticated = self.unauthenticated.is_some();
        let idle = self.streams.is_empty()
            && ((is_unauthenticated && is_due(self.accepted_at + timeouts.unauthenticated))
                || is_due(self.idle_since + timeouts.idle));
        if is_write_stuck || is_ping_overdue {
            self.abort_downstream();
        } else if open && (late_preface || late_block) {
            let what = "the client did not send a complete request head in time";
            self.fail_slow_downstream(error::ErrorCode::ProtocolError, what);
        } else if open && late_ack {
            let what = "SETTINGS were not acknowledged in time";
            self.fail_slow_downstream(error::ErrorCode::SettingsTimeout, what);
        } else if open && idle {
            if is_unauthenticated {
                self.ctx.metrics.call_refused("client.unauthenticated");
            }
            self.final_goaway();
        } else if open && silent && settings_received {
            self.downstream.send_ping(now);
            due = due.min(now + timeouts.keepalive_ack);
        }
        if self.downstream.write_blocked_since().is_some() { due.min(now + TICK_MAX) } else { due }
    }

    fn fail_slow_downstream(&mut self, code: error::ErrorCode, what: &'static str) {
        if self.may_log(LineKind::ClientEnded) {
            tracing::info!(peer = %self.peer, what, "client connection ended");
        }
        self.ctx.metrics.call_refused("client.slow");
        self.downstream.wire.fail(ConnectionError::new(code, what));
        self.cancel_streams();
        self.close_downstream();
    }

    fn check_streams(&mut self, timeouts: &Timeouts) -> Instant {
        let mut due = self.now + Duration::from_secs(600);
        self.is_tick_scheduled = !self.streams.is_empty();
        if !self.is_tick_scheduled {
            return due;
        }
        let (mut late, mut expired) = (Vec::new(), Vec::new());
        let connection_open = self.downstream.wire.connection_send_window() > 0;
        for (key, stream) in self.streams.iter_mut() {
            if let Some(deadline) = stream.call.deadline() {
                due = due.min(deadline);
                if deadline <= self.now {
                    late.push((key, StreamTimeout::Deadline));
                    continue;
                }
            }
            if let Some(expiry) =
                stream.token_expiry.as_ref().filter(|expiry| !expiry.has_expired())
            {
                due = due.min(expiry.expires_at());
                if expiry.expires_at() <= self.now {
                    expired.push(key);
                }
            }
            if !stream.is_upload_received() {
                let aged = stream.call.opened_at() + timeouts.body_age;
                due = due.min(aged);
                if aged <= self.now {
                    late.push((key, StreamTimeout::BodyAge(timeouts.body_age)));
                    continue;
                }
            }
            let octets = stream.upload.received();
            if stream.is_upload_received() || self.downstream.wire.recv_window(stream.id) <= 0 {
                stream.upload_progress.reset(octets, self.now);
            } else if stream.upload_progress.is_stuck(octets, self.now, timeouts.body_progress) {
                late.push((key, StreamTimeout::BodyProgress));
                continue;
            }
            let open = connection_open && self.downstream.wire.stream_send_window(stream.id) > 0;
            let octets = stream.download.forwarded();
            if open || !stream.is_response_started {
                stream.download_progress.reset(octets, self.now);
            } else if stream.download_progress.is_stuck(octets, self.now, timeouts.window_closed) {
                late.push((key, StreamTimeout::WindowClosed));
            }
        }
        for (key, late) in late {
            let (refusal, reason) = late.refusal();
            self.refuse(key, &refusal, reason);
        }
        for key in expired {
            self.on_token_expired(key);
        }
        self.enforce_buffer_limits();
        due.min(self.next_tick(timeouts))
    }

    /// The refusal of a call whose deadline has passed before the timer has fired.
    pub(super) fn deadline_exceeded(&self, key: StreamKey) -> Option<(Refusal, EndReason)> {
        let deadline = self.streams.get(key)?.call.deadline()?;
        (deadline <= self.now).then(|| StreamTimeout::Deadline.refusal())
    }

    fn check_upstreams(&mut self, timeouts: &Timeouts) -> Instant {
        let now = self.now;
        let mut due = now + Duration::from_secs(600);
        let behind = self.downstream.write_blocked_since().is_some();
        let (buffer_max, detached) = (self.ctx.buffer_budget.download_max(), self.detached);
        let mut dead: Vec<(UpstreamKey, &str)> = Vec::new();
        let mut idle = Vec::new();
        for (up, upstream) in self.upstreams.iter_mut() {
            let buffered = upstream.download_buffered().saturating_add(detached);
            match upstream.check(now, timeouts, behind || buffered > buffer_max) {
                UpstreamCheck::Healthy(at) => due = due.min(at.unwrap_or(due)),
                UpstreamCheck::Idle => idle.push(up),
                UpstreamCheck::Dead(what) => dead.push((up, what)),
            }
        }
        // Before the others: reassigned calls may open a connection under a key that has become
        // free.
        for up in idle {
            self.close_upstream(up, "idle");
        }
        self.fail_unresponsive(&dead);
        due
    }

    fn fail_unresponsive(&mut self, dead: &[(UpstreamKey, &str)]) {
        for (up, _) in dead {
            if let Some(upstream) = self.upstreams.get_mut(*up) {
                upstream.mark_lost();
            }
        }
        for (up, what) in dead {
            self.fail_upstream_streams(*up, "driver.silent", what);
        }
        self.close_lost_upstreams();
    }
}

/// The timeout that a stream has exceeded.
#[derive(Clone, Copy)]
enum StreamTimeout {
    Deadline,
    BodyProgress,
    BodyAge(Duration),
    WindowClosed,
}

impl StreamTimeout {
    fn refusal(self) -> (Refusal, EndReason) {
        match self {
            Self::Deadline => (
                Refusal::new(
                    Code::DeadlineExceeded,
                    "call.deadline",
                    "the client's deadline for this call has passed",
                ),
                EndReason::DeadlinePassed,
            ),
            Self::BodyProgress => (
                Refusal::new(
                    Code::Unavailable,
                    "client.body_slow",
                    "the client sent no request data for too long",
                ),
                EndReason::ClientLost,
            ),
            Self::BodyAge(most) => (
                Refusal::new(
                    Code::DeadlineExceeded,
                    "client.body_age",
                    format!(
                        "the request's body was not complete within {} (timeouts.body_age): send \
                         less in one call, or raise the limit",
                        format_duration(most)
                    ),
                ),
                EndReason::ClientLost,
            ),
            Self::WindowClosed => (
                Refusal::new(
                    Code::Unavailable,
                    "client.window_closed",
                    "the client stopped reading: its flow-control window stayed closed for too \
                     long",
                ),
                EndReason::ClientLost,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bounds::{DRIVER_KEEPALIVE, DRIVER_KEEPALIVE_ACK};

    #[test]
    fn by_default_a_driver_may_pause_for_30_s_and_a_dead_host_is_detected_within_a_minute() {
        assert!(DRIVER_KEEPALIVE_ACK.default >= Duration::from_secs(35));
        let found = DRIVER_KEEPALIVE.default + DRIVER_KEEPALIVE_ACK.default + 2 * TICK_MAX;
        assert!(found < Duration::from_secs(60), "{found:?}");
    }
}
