//! What is logged of calls that sconce answers itself: whose they were, and why.
//!
//! Clients can cause these lines in any number: one for each label, peer and user in a window, and
//! a bound for all of them; see [`log_limit`].
//!
//! Must never be logged here: what a client has sent, but for an id that it gave the call; and
//! anything at all about a call that succeeds.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use sconce_filters::{EnvironmentName, Refusal, TeamName};

use crate::proxy::connection_limits;
use crate::proxy::relay::Relay;
use crate::proxy::stream::ActiveStream;
use crate::telemetry::log_limit::{self, LineKind};
use crate::wire::frame::StreamId;

/// The header by which clients and balancers name a call.
const REQUEST_ID: &str = "x-request-id";
/// Octets of such a name.
const REQUEST_ID_MAX: usize = 64;

/// No two processes name calls alike.
static ID_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl ActiveStream {
    /// What the client calls this call; where it says nothing that can be shown, a name of ours.
    pub(super) fn request_id(&self) -> String {
        let said = self.call.metadata().first(REQUEST_ID);
        let said = said.as_deref().filter(|said| is_plain(said));
        let said = said.and_then(|said| std::str::from_utf8(said).ok());
        said.map_or_else(
            || generated_id(&(self.call.peer(), self.call.opened_at(), self.id)),
            str::to_owned,
        )
    }
}

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

/// Whether a name can be shown: short, and of letters that steer nothing.
fn is_plain(name: &[u8]) -> bool {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.:/+=".contains(octet);
    !name.is_empty() && name.len() <= REQUEST_ID_MAX && name.iter().all(plain)
}

fn generated_id(of: &impl Hash) -> String {
    format!("{:016x}", ID_HASHER.hash_one(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_that_is_short_and_plain() {
        for id in ["4d2f", "0af7651916cd43dd8448eb211c80319c", "a:b/c+d=.e_f-g"] {
            assert!(is_plain(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a\nb", "\u{1b}[2J", "ö", &"a".repeat(65)] {
            assert!(!is_plain(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn a_call_has_one_id_and_another_call_another_one() {
        assert_eq!(generated_id(&1), generated_id(&1));
        assert_ne!(generated_id(&1), generated_id(&2));
    }
}
