//! Removals: calls of a team or member that a reload has removed, for sessions that go on a while.
//!
//! The connection that has an open execution knows its session, so that each connection notes its
//! own: when it is woken for the new snapshot, before a new call is judged, and before an execution
//! ends. A call of such a session is admitted by its caller, and held until its message has named
//! the session. Where nobody proves who calls, a connection is taken for a session.

use sconce_filters::{Method, Refusal};

use crate::grpc::stamp::Stamper;
use crate::proxy::exchange::Exchange;
use crate::proxy::relay::Relay;

impl Relay {
    /// Notes the sessions with an open execution, of teams that the latest snapshot has taken
    /// something away from. Costs a comparison while there is no new snapshot.
    pub(super) fn note_removals(&mut self) {
        if self.worker.generation() == self.noted {
            return;
        }
        let latest = self.worker.latest();
        let before = std::mem::replace(&mut self.noted, latest.generation);
        for removal in latest.removals.iter().filter(|removal| removal.number() > before) {
            for (_, exchange) in self.exchanges.iter().filter(|(_, it)| is_execution(it)) {
                let team = exchange.call.slots().team.as_ref();
                if team.is_some_and(|team| removal.concerns(team)) {
                    removal.note(&exchange.call, session(exchange));
                }
            }
        }
    }

    /// Whether a call whose place was removed may go on: of one that has not named its session yet,
    /// whether it may do so.
    pub(super) fn check_revoked(&self, tag: usize, is_complete: bool) -> Result<(), Refusal> {
        let Some(exchange) = self.exchanges.get(tag) else { return Ok(()) };
        let Some(revoked) = &exchange.call.slots().revoked else { return Ok(()) };
        let (latest, session) = (self.worker.latest(), session(exchange));
        let must_name = is_complete && exchange.call.slots().identity.is_some();
        let is_known = latest
            .removal(revoked.number)
            .is_some_and(|removal| removal.knows(&exchange.call, session));
        if is_known && (session.is_some() || !must_name) {
            return Ok(());
        }
        Err(revoked.refusal.clone())
    }
}

/// The session that the last message of a call has named.
fn session(exchange: &Exchange) -> Option<&[u8]> {
    exchange.stamper.as_ref().and_then(Stamper::session)
}

fn is_execution(exchange: &Exchange) -> bool {
    matches!(exchange.call.method(), Method::ExecutePlan | Method::ReattachExecute)
}
