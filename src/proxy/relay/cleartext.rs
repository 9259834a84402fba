//! Cleartext: clients that speak HTTP/2 without TLS where TLS is required, and the other way round.
//!
//! A gRPC client that finds no HTTP/2 retries for minutes and never reports the cause. So a client
//! without TLS gets an answer in clear text to each call, with the change to make; and a client
//! that speaks TLS on a clear-text address gets a TLS alert.
//!
//! Must never happen here: octets that came in clear text are forwarded, logged, or used to
//! authenticate. A token that was sent in clear text is exposed to the network.

use std::time::{Duration, Instant};

use sconce_filters::{Code, Refusal};

use crate::grpc::status;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::relay::{PREFACE_WAIT, Relay};
use crate::telemetry::log_limit::LineKind;
use crate::wire::connection::{Connection, LocalConfig, Role};
use crate::wire::error;
use crate::wire::frame::StreamId;
use crate::wire::settings::DEFAULT_INITIAL_WINDOW_SIZE;

/// Label of clients without TLS where TLS is required.
const MISSING: &str = "tls.missing";
/// Label of clients with TLS on a clear-text address.
const UNEXPECTED: &str = "tls.unexpected";
/// The message of the answer to each call.
const HINT: &str = "this address requires TLS: add ;use_ssl=true to the sc:// URL";
/// Octets that a client without TLS may send on one connection.
const OCTETS_MAX: usize = 256 * 1024;
/// The first octet of a TLS record with a handshake message (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// A TLS record with the fatal alert `handshake_failure` (RFC 8446, 6.2), which is valid before the
/// version is negotiated.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

impl Relay {
    /// Whether nothing may be written yet: the client's first octets may be TLS, and a TLS client
    /// understands an alert only as the first octets of the server.
    pub(super) fn awaits_first_bytes(&self) -> bool {
        self.downstream.awaits_preface()
            && self.state == DownstreamState::Open
            && self.now < self.accepted_at + PREFACE_WAIT
    }

    /// Checks octets that were read in clear text: all octets where TLS is required, and the first
    /// octets elsewhere. Returns true if they are to be parsed.
    pub(super) fn check_cleartext(&mut self, octets: &[u8]) -> bool {
        if !self.downstream.lacks_tls() {
            let is_tls = octets.first() == Some(&HANDSHAKE);
            if is_tls {
                self.refuse_tls();
            }
            return !is_tls;
        }
        let begun = self
            .unauthenticated
            .as_ref()
            .and_then(|unauthenticated| unauthenticated.cleartext_left);
        if begun.is_none() && !self.begin_cleartext() {
            return false;
        }
        let left = begun.unwrap_or(OCTETS_MAX).checked_sub(octets.len());
        match (left, &mut self.unauthenticated) {
            (Some(_), Some(unauthenticated)) => unauthenticated.cleartext_left = left,
            (None, _) | (_, None) => self.abort_downstream(),
        }
        self.state != DownstreamState::Closed
    }

    /// Begins the answer to a client without TLS. Returns false if the connection is closed
    /// instead.
    fn begin_cleartext(&mut self) -> bool {
        self.ctx.metrics.call_refused(MISSING);
        if self.may_log(LineKind::TlsMissing) {
            tracing::info!(peer = %self.peer, "client without TLS");
        }
        let snapshot = self.ctx.snapshot();
        if !snapshot.cleartext_hint {
            self.abort_downstream();
            return false;
        }
        // Nothing but the smallest windows of HTTP/2 is needed.
        let offer = LocalConfig { window: DEFAULT_INITIAL_WINDOW_SIZE, ..self.ctx.local_config() };
        let memory = self.downstream.wire.memory();
        self.downstream.wire = Connection::with_memory(Role::Server, offer, memory, self.now);
        self.schedule(self.accepted_at + snapshot.timeouts.handshake / 2);
        true
    }

    /// Refuses a call of a client without TLS, whatever it requests.
    pub(super) fn refuse_cleartext_call(&mut self, id: StreamId) {
        // Clients do not retry this status.
        let refusal = Refusal::new(Code::Unauthenticated, MISSING, HINT);
        self.write_refusal(id, &status::trailers_only(&refusal), refusal.cost);
        self.downstream.wire.reset_stream(id, error::ErrorCode::NoError);
        self.close_if_drained();
    }

    /// Closes the connection of a client without TLS: sends GOAWAY after half of the handshake
    /// timeout, and aborts at its end. Returns the time of the next check.
    pub(super) fn check_cleartext_timeout(&mut self, handshake: Duration) -> Option<Instant> {
        if !self.downstream.lacks_tls() {
            return None;
        }
        let (goaway_at, end) = (self.accepted_at + handshake / 2, self.accepted_at + handshake);
        if self.now >= end {
            self.abort_downstream();
        } else if self.now >= goaway_at
            && matches!(self.state, DownstreamState::Open | DownstreamState::Draining(_))
        {
            self.final_goaway();
        }
        Some(if self.now < goaway_at { goaway_at } else { end })
    }

    /// Answers a client that speaks TLS on a clear-text address with an alert.
    fn refuse_tls(&mut self) {
        self.ctx.metrics.call_refused(UNEXPECTED);
        if self.may_log(LineKind::TlsUnexpected) {
            tracing::info!(peer = %self.peer, "TLS on a clear-text address");
        }
        let out = &mut self.downstream.wire.write_buffer;
        out.advance(usize::MAX);
        out.push_copy(&ALERT);
        self.close_downstream();
    }
}
