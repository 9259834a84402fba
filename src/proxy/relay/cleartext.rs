//! Clear text where TLS is due, and TLS where clear text is.
//!
//! A client of gRPC that finds no HTTP/2 where it looks for it tries again for minutes and never
//! says why. So who speaks HTTP/2 without TLS gets an answer to each call, in clear text, that says
//! what to change; and who speaks TLS without need gets an alert.
//!
//! Must never happen here: that what came in clear text is forwarded, logged, or taken for a proof.
//! Whoever has sent a token so has shown it to the network.

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

/// The label of clients without TLS.
const MISSING: &str = "tls.missing";
/// The label of clients with TLS where clear text is due.
const UNEXPECTED: &str = "tls.unexpected";
/// What the answer to each call says.
const HINT: &str = "this address requires TLS: add ;use_ssl=true to the sc:// URL";
/// Octets that a client without TLS may send on one connection.
const OCTETS_MAX: usize = 256 * 1024;
/// The first octet of a TLS record with a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// A TLS record with the fatal alert `handshake_failure` (RFC 8446, 6.2), which both sides
/// understand before they have agreed on a version.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

impl Relay {
    /// Whether it is too early to say anything: what the client sends first may be TLS, and an
    /// alert is understood only as the first thing that comes.
    pub(super) fn awaits_first_bytes(&self) -> bool {
        self.downstream.awaits_preface()
            && self.state == DownstreamState::Open
            && self.now < self.accepted_at + PREFACE_WAIT
    }

    /// Looks at what was read in clear text: at all that comes without TLS where that is due, and
    /// else at the first octets alone. Says whether to go on with them.
    pub(super) fn check_cleartext(&mut self, octets: &[u8]) -> bool {
        if !self.downstream.lacks_tls() {
            let is_tls = octets.first() == Some(&HANDSHAKE);
            if is_tls {
                self.refuse_tls();
            }
            return !is_tls;
        }
        let begun = self.unauthenticated.as_ref().and_then(|newcomer| newcomer.cleartext_left);
        if begun.is_none() && !self.begin_cleartext() {
            return false;
        }
        let left = begun.unwrap_or(OCTETS_MAX).checked_sub(octets.len());
        match (left, &mut self.unauthenticated) {
            (Some(_), Some(newcomer)) => newcomer.cleartext_left = left,
            (None, _) | (_, None) => self.abort_downstream(),
        }
        self.state != DownstreamState::Closed
    }

    /// A client speaks HTTP/2 without TLS. Says whether it is to be answered.
    fn begin_cleartext(&mut self) -> bool {
        self.ctx.metrics.call_refused(MISSING);
        if self.may_log(LineKind::TlsMissing) {
            tracing::info!(peer = %self.peer, "client without TLS");
        }
        let latest = self.ctx.snapshot();
        if !latest.cleartext_hint {
            self.abort_downstream();
            return false;
        }
        // No more than the least that HTTP/2 allows is to come.
        let offer = LocalConfig { window: DEFAULT_INITIAL_WINDOW_SIZE, ..self.ctx.local_config() };
        self.downstream.wire = Connection::new(Role::Server, offer, self.now);
        self.schedule(self.accepted_at + latest.timeouts.handshake / 2);
        true
    }

    /// Answers a call of a client without TLS, whatever it asks for.
    pub(super) fn refuse_cleartext_call(&mut self, stream: StreamId) {
        // A status that no client tries again.
        let refusal = Refusal::new(Code::Unauthenticated, MISSING, HINT);
        self.write_refusal(stream, &status::trailers_only(&refusal), refusal.cost);
        self.downstream.wire.reset_stream(stream, error::ErrorCode::NoError);
        self.close_if_drained();
    }

    /// Ends the connection of a client without TLS: by GOAWAY in the middle of the time that a
    /// handshake may take, and for good at its end. When to look again, if it is one.
    pub(super) fn check_cleartext_timeout(&mut self, handshake: Duration) -> Option<Instant> {
        if !self.downstream.lacks_tls() {
            return None;
        }
        let (asked, end) = (self.accepted_at + handshake / 2, self.accepted_at + handshake);
        if self.now >= end {
            self.abort_downstream();
        } else if self.now >= asked
            && matches!(self.state, DownstreamState::Open | DownstreamState::Draining(_))
        {
            self.final_goaway();
        }
        Some(if self.now < asked { asked } else { end })
    }

    /// A client speaks TLS where clear text is due.
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
