//! Refusal budget: charges refused calls to their client by their cost, so that unauthenticated
//! clients cannot consume CPU time or memory with calls that never reach a driver.

use sconce_filters::Cost;

use crate::proxy::downstream::DownstreamState;
use crate::proxy::relay::Relay;
use crate::telemetry::PeerSide;
use crate::telemetry::log_limit::LineKind;
use crate::wire::frame::StreamId;
use crate::wire::guard::Budget;
use crate::wire::hpack::Fields;

/// Octets of refusals that may wait for a client that does not read.
const UNREAD_MAX: usize = 32 * 1024;

/// The price of a refusal in [`Budget::RefusedCalls`]: about one for each 4 µs of CPU time, so that
/// the budget allows a burst of tens of milliseconds.
const fn price(cost: Cost) -> u32 {
    match cost {
        Cost::Cheap => 1,
        Cost::Parsed => 5,
        Cost::Verified => 20,
    }
}

impl Relay {
    /// Answers a stream with a refusal, and charges the refusal to the client.
    pub(super) fn write_refusal(&mut self, id: StreamId, fields: &Fields, cost: Cost) {
        let before = self.downstream.pending_bytes();
        self.downstream.wire.send_headers(id, fields.iter(), true);
        let written = self.downstream.pending_bytes().saturating_sub(before);
        self.unread_refusals = self.unread_refusals.saturating_add(written);
        if !self.downstream.wire.charge(Budget::RefusedCalls, price(cost), self.now) {
            self.stop_accepting(Budget::RefusedCalls);
        }
    }

    /// Limits the octets of refusals that wait after a flush.
    pub(super) fn limit_unread_refusals(&mut self) {
        if self.downstream.pending_bytes() == 0 {
            self.unread_refusals = 0;
        } else if self.unread_refusals > UNREAD_MAX {
            self.stop_accepting(Budget::UnreadRefusals);
            self.close_if_drained();
        }
    }

    /// The client exceeded a budget: it may open no more streams on this connection. Open calls
    /// continue.
    fn stop_accepting(&mut self, budget: Budget) {
        if matches!(self.state, DownstreamState::Open | DownstreamState::Draining(Some(_))) {
            if self.may_log(LineKind::ClientEnded) {
                tracing::info!(peer = %self.peer, limit = budget.name(), "client connection ended");
            }
            self.ctx.metrics.abuse_limit_exceeded(budget.name(), PeerSide::Downstream);
            self.downstream.wire.send_goaway_for(budget);
            self.state = DownstreamState::Draining(None);
        }
    }

    /// Closes a draining connection without streams.
    pub(super) fn close_if_drained(&mut self) {
        if self.state == DownstreamState::Draining(None) && self.streams.is_empty() {
            self.close_downstream();
        }
    }
}
