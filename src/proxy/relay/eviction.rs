//! Connections without an admitted call: their TLS handshakes, and their eviction.

use std::task::Context;

use crate::proxy::connection_limits;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::relay::Relay;
use crate::telemetry::log_limit::{self, LineKind};

impl Relay {
    /// Whether to log a line about this connection: its client may cause many.
    pub(super) fn may_log(&self, kind: LineKind) -> bool {
        log_limit::allow(kind, &connection_limits::source(self.peer.ip()))
    }

    /// A call was admitted: the connection leaves the list.
    pub(super) fn mark_authenticated(&mut self) {
        self.unauthenticated = None;
    }

    /// Closes the connection if it was evicted.
    pub(super) fn close_if_evicted(&mut self) {
        let Some(unauthenticated) = &self.unauthenticated else { return };
        if unauthenticated.is_evicted(self.waker_key) && self.state != DownstreamState::Closed {
            self.ctx.metrics.call_refused("connections.evicted");
            self.cancel_streams();
            self.downstream.wire.send_goaway(false);
            // Its permit is needed now: octets that the socket does not accept at once are lost.
            self.state = DownstreamState::Closed;
        }
    }

    /// Whether the client may be read before its handshake has ended.
    pub(super) fn may_handshake(&mut self, context: &mut Context<'_>) -> bool {
        let Self { ctx, downstream, unauthenticated, .. } = self;
        let Some(unauthenticated) = unauthenticated else { return true };
        let waits = unauthenticated.handshake.is_waiting();
        if !waits && downstream.poll_readable(context).is_pending() {
            return false;
        }
        ctx.handshakes.take(&mut unauthenticated.handshake, context.waker())
    }
}
