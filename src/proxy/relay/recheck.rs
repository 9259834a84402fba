//! Recheck: a call is authorized again when a message of its request is complete, when the request
//! ends, and when a complete one leaves for its driver.
//!
//! The client decides how long its request takes to arrive, so the check of the head says little
//! about the end. The recheck uses the latest snapshot and the time of day. Without a reload since
//! the last check it compares only time and keys, and within one poll it does nothing. A call
//! without an identity is not rechecked.

use std::time::{Duration, SystemTime};

use sconce_filters::{EndReason, Refusal, authenticate};

use crate::config::TokenLeeway;
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::stream::{ActiveStream, LastCheck};

impl Relay {
    /// Checks a complete message, or the end of a request, before it is forwarded.
    pub(super) fn check_complete_message(&mut self, key: StreamKey) -> Result<(), Refusal> {
        self.recheck(key)?;
        self.check_revoked(key, true)?;
        let now = self.now;
        let wall = self.wall_clock();
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if let Some(expiry) = &mut stream.token_expiry {
            expiry.complete_request(now)?;
        }
        if let (Some(standing), Some(writer)) = (&mut stream.token_standing, &stream.user_context) {
            self.ctx.grace_sessions.check(standing, wall, &stream.call, writer.session())?;
        }
        Ok(())
    }

    /// Checks whether the call would still be admitted.
    pub(super) fn recheck(&mut self, key: StreamKey) -> Result<(), Refusal> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if stream.last_check.at == self.now || stream.user_context.is_none() {
            return Ok(());
        }
        let (wall, latest) = (self.wall_clock(), self.ctx.snapshot());
        let is_reloaded = stream.last_check.generation != latest.generation;
        let mut revoked = None;
        if is_reloaded {
            revoked = latest.chain.recheck(&stream.call, wall)?;
            check_leeway(stream, wall, latest.token_leeway)?;
        } else {
            latest.chain.recheck_time(&stream.call, wall)?;
        }
        let checked = LastCheck { at: self.now, generation: latest.generation };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.last_check = checked;
            if is_reloaded {
                stream.call.set_revoked(revoked);
            }
        }
        self.check_revoked(key, false)
    }

    /// The same for a call that is forwarded now. Refuses the call and returns false if the check
    /// fails.
    pub(super) fn recheck_or_refuse(&mut self, key: StreamKey) -> bool {
        match self.recheck(key) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(key, &refusal, EndReason::Refused);
                false
            }
        }
    }

    /// Whether a pending call may open its stream. One that fails the recheck is detached before it
    /// is refused, so that one loop alone reads the queue.
    pub(super) fn may_open(&mut self, up: UpstreamKey, key: StreamKey) -> bool {
        let (refusal, reason) = match self.deadline_exceeded(key) {
            Some(late) => late,
            None => match self.recheck(key) {
                Ok(()) => return true,
                Err(refusal) => (refusal, EndReason::Refused),
            },
        };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.upstream = None;
        }
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.stream_ended(self.now);
        }
        self.refuse(key, &refusal, reason);
        self.close_upstream_if_drained(up);
        false
    }

    /// The time of day, extrapolated from the last read of the client.
    pub(super) fn wall_clock(&self) -> SystemTime {
        let since = self.now.saturating_duration_since(self.last_read_at);
        self.last_read_wall.checked_add(since).unwrap_or(self.last_read_wall)
    }
}

/// A grace period that a reload has added is for known sessions, and the session of this call is
/// not known.
fn check_leeway(
    stream: &ActiveStream,
    wall: SystemTime,
    leeway: TokenLeeway,
) -> Result<(), Refusal> {
    if stream.token_standing.is_some() {
        return Ok(());
    }
    let identity = stream.call.attributes().identity.as_ref();
    let Some(end) = identity.and_then(|identity| identity.expires_at()) else { return Ok(()) };
    let leeway = leeway.for_any_session(stream.call.method());
    let end = Duration::from_secs(end).saturating_add(leeway);
    let is_over = wall.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now >= end);
    if is_over { Err(authenticate::token_expired()) } else { Ok(()) }
}

impl Relay {
    /// Drains the connection if the latest authorities no longer trust the client's certificate.
    /// Open calls may finish; the certificate authenticates no new ones.
    pub(super) fn drain_if_certificate_withdrawn(&mut self) {
        if self.downstream.certificate().is_none() {
            return;
        }
        let (latest, now) = (self.ctx.snapshot(), self.wall_clock());
        let authorities = latest.client_authorities.as_ref();
        if self.downstream.withdraw_certificate_unless_trusted(authorities, now) {
            let what = "client certificate withdrawn: its authority is not trusted any more";
            tracing::debug!(peer = %self.peer, what);
            self.graceful_goaway();
        }
    }
}
