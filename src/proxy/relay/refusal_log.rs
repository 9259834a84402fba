//! Refusal log: the log line of a call that sconce refuses.
//!
//! Clients can cause these lines in any number: they are limited to one for each label, source and
//! user in a window, and in total; see [`log_limit`].
//!
//! Must never be logged here: octets from a client, except for its request id; and any line for a
//! call that succeeds.

use sconce_filters::{EnvironmentName, Refusal, TeamName};

use crate::proxy::connection_limits;
use crate::proxy::keys::StreamKey;
use crate::proxy::relay::Relay;
use crate::proxy::stream::request_id::generated_id;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::frame::StreamId;

impl Relay {
    /// Logs a call that sconce refuses.
    pub(super) fn log_refused(&self, key: StreamKey, refusal: &Refusal) {
        let Some(stream) = self.streams.get(key) else { return };
        let attributes = stream.call.attributes();
        let user = attributes.identity.as_ref().map(|identity| identity.user());
        if !self.may_log_refused(refusal.label, user) {
            return;
        }
        tracing::info!(
            user,
            peer = %self.peer,
            team = attributes.team.as_ref().map(TeamName::as_str),
            environment = attributes.environment.as_ref().map(EnvironmentName::as_str),
            method = stream.call.method().label(),
            code = refusal.code.name(),
            label = refusal.label,
            request_id = stream.request_id(),
            "call refused"
        );
    }

    /// The same for a request that never became a call.
    pub(super) fn log_refused_request(&self, id: StreamId, label: &'static str) {
        if self.may_log_refused(label, None) {
            let request_id = generated_id(&(self.peer, self.now, id));
            tracing::info!(peer = %self.peer, label, request_id, "call refused");
        }
    }

    fn may_log_refused(&self, label: &'static str, user: Option<&str>) -> bool {
        let source = connection_limits::source(self.peer.ip());
        tracing::enabled!(tracing::Level::INFO)
            && log_limit::try_allow(LineKind::CallRefused, &(label, source, user))
    }
}
