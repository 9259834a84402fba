//! Removals: calls of a team or member that a reload has removed, for sessions that may continue
//! for a while.
//!
//! A connection with an open execution knows its session. So each connection records its sessions:
//! when it is woken for the new snapshot, before a new call is checked, and before an execution
//! ends. A call of such a session is admitted by its caller, and held until its message names the
//! session. Without authentication, a connection counts as a session.

use sconce_filters::{Method, Refusal};

use crate::grpc::user_context::UserContextWriter;
use crate::proxy::keys::StreamKey;
use crate::proxy::relay::Relay;
use crate::proxy::stream::ActiveStream;

impl Relay {
    /// Records the sessions with an open execution, of teams that the latest snapshot has reduced.
    /// Costs a comparison while the snapshot is the same.
    pub(super) fn record_removal_sessions(&mut self) {
        if self.ctx.generation() == self.removals_generation {
            return;
        }
        let latest = self.ctx.snapshot();
        let before = std::mem::replace(&mut self.removals_generation, latest.generation);
        for removal in latest.removals.iter().filter(|removal| removal.generation() > before) {
            for (_, stream) in self.streams.iter().filter(|(_, it)| is_execution(it)) {
                let team = stream.call.attributes().team.as_ref();
                if team.is_some_and(|team| removal.affects(team)) {
                    removal.record_session(&stream.call, session_id(stream));
                }
            }
        }
    }

    /// Whether a call of a removed team or member may continue; before its session is known,
    /// whether it may wait for the session.
    pub(super) fn check_revoked(&self, key: StreamKey, is_complete: bool) -> Result<(), Refusal> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let Some(revoked) = &stream.call.attributes().revoked else { return Ok(()) };
        let (latest, session) = (self.ctx.snapshot(), session_id(stream));
        let must_name = is_complete && stream.call.attributes().identity.is_some();
        let is_known = latest
            .removal(revoked.generation)
            .is_some_and(|removal| removal.contains_session(&stream.call, session));
        if is_known && (session.is_some() || !must_name) {
            return Ok(());
        }
        Err(revoked.refusal.clone())
    }
}

/// The session id in the last message of a call.
fn session_id(stream: &ActiveStream) -> Option<&[u8]> {
    stream.user_context.as_ref().and_then(UserContextWriter::session)
}

fn is_execution(stream: &ActiveStream) -> bool {
    matches!(stream.call.method(), Method::ExecutePlan | Method::ReattachExecute)
}
