//! Refused calls: each is charged to its client by what it cost, so that a stranger cannot buy CPU
//! time or memory with calls that never reach a driver.

use sconce_filters::Cost;

use crate::proxy::relay::{Phase, Relay};
use crate::telemetry::Guarded;
use crate::telemetry::log_limit::Kind;
use crate::wire::frame::StreamId;
use crate::wire::guard::Budget;
use crate::wire::hpack::Fields;

/// Octets of refusals that may wait for a client that does not read.
const UNREAD_MAX: usize = 32 * 1024;

/// What a refusal takes from the budget [`Budget::RefusedCalls`]: about one for each four
/// microseconds of CPU time, so that the budget allows a burst of tens of milliseconds.
const fn price(cost: Cost) -> u32 {
    match cost {
        Cost::Cheap => 1,
        Cost::Parsed => 5,
        Cost::Verified => 20,
    }
}

impl Relay {
    /// Answers a stream with a refusal and charges it to the client.
    pub(super) fn write_refusal(&mut self, stream: StreamId, fields: &Fields, cost: Cost) {
        let before = self.client.waiting();
        self.client.wire.head(stream, fields.iter(), true);
        let written = self.client.waiting().saturating_sub(before);
        self.unread_refusals = self.unread_refusals.saturating_add(written);
        if !self.client.wire.charge(Budget::RefusedCalls, price(cost), self.now) {
            self.end_for(Budget::RefusedCalls);
        }
    }

    /// Everything that could be written was: refusals that still wait are bounded.
    pub(super) fn limit_unread_refusals(&mut self) {
        if self.client.waiting() == 0 {
            self.unread_refusals = 0;
        } else if self.unread_refusals > UNREAD_MAX {
            self.end_for(Budget::Unread);
            self.close_if_done();
        }
    }

    /// The client exceeded a budget: it may open no more calls on this connection, and those under
    /// way go on to their end.
    fn end_for(&mut self, budget: Budget) {
        if matches!(self.phase, Phase::Open | Phase::Leaving(Some(_))) {
            if self.may_log(Kind::ClientEnded) {
                tracing::info!(peer = %self.peer, limit = budget.name(), "client connection ended");
            }
            self.worker.metrics.guard_fired(budget.name(), Guarded::Client);
            self.client.wire.end_for(budget);
            self.phase = Phase::Leaving(None);
        }
    }

    /// Closes a connection that takes no new calls and has none.
    pub(super) fn close_if_done(&mut self) {
        if self.phase == Phase::Leaving(None) && self.exchanges.is_empty() {
            self.close();
        }
    }
}
