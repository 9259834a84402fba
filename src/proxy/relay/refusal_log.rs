//! What is logged of calls that sconce answers itself: whose they were, and why.
//!
//! Clients can cause these lines in any number: one for each label, peer and user in a window, and
//! a bound for all of them; see [`log_limit`].
//!
//! Must never be logged here: what a client has sent, but for an id that it gave the call; and
//! anything at all about a call that succeeds.

use sconce_filters::{EnvironmentName, Refusal, TeamName};

use crate::proxy::connection_limits;
use crate::proxy::relay::Relay;
use crate::proxy::stream::request_id::generated_id;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::frame::StreamId;

impl Relay {
    /// sconce answers this call itself.
    pub(super) fn log_refused(&self, tag: usize, refusal: &Refusal) {
        let Some(exchange) = self.streams.get(tag) else { return };
        let slots = exchange.call.attributes();
        let user = slots.identity.as_ref().map(|identity| identity.user());
        if !self.may_log_refused(refusal.label, user) {
            return;
        }
        tracing::info!(
            user,
            peer = %self.peer,
            team = slots.team.as_ref().map(TeamName::as_str),
            environment = slots.environment.as_ref().map(EnvironmentName::as_str),
            method = exchange.call.method().label(),
            code = refusal.code.name(),
            label = refusal.label,
            request_id = exchange.request_id(),
            "call refused"
        );
    }

    /// The same of a request that never became a call.
    pub(super) fn log_refused_request(&self, stream: StreamId, label: &'static str) {
        if self.may_log_refused(label, None) {
            let request_id = generated_id(&(self.peer, self.now, stream));
            tracing::info!(peer = %self.peer, label, request_id, "call refused");
        }
    }

    fn may_log_refused(&self, label: &'static str, user: Option<&str>) -> bool {
        let source = connection_limits::source(self.peer.ip());
        tracing::enabled!(tracing::Level::INFO)
            && log_limit::try_allow(LineKind::CallRefused, &(label, source, user))
    }
}
