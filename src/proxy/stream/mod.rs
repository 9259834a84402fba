//! Stream: one call, from the client's stream to the upstream's and back.
//!
//! Octets that cannot be forwarded are buffered here, up to the windows that were granted for them.

pub(super) mod body;
pub(super) mod buffer;
pub(super) mod expiry;
pub(super) mod grace;
pub(super) mod request;
pub(super) mod request_id;

use std::rc::Rc;
use std::time::Instant;

use sconce_filters::{
    Call, Code, EndReason, EnvironmentName, Method, Outcome, PendingDecision, TeamName,
};

use crate::grpc::boundary::MessageBoundary;
use crate::grpc::redact::Redactor;
use crate::grpc::user_context::UserContextWriter;
use crate::proxy::keys::UpstreamKey;
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::stream::body::{BodyState, Progress};
use crate::proxy::stream::buffer::Buffer;
use crate::proxy::stream::expiry::TokenExpiry;
use crate::proxy::stream::grace::TokenStanding;
use crate::proxy::stream::request::ParsedRequest;
use crate::proxy::stream::request_id::request_id_of;
use crate::route::SnapshotRef;
use crate::telemetry::{AnsweredBy, CallEnd, TenantId, WorkerMetrics};
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// Memory in octets of a buffered body, besides its buffers.
const BUFFER_OVERHEAD: usize = 1024;

/// One call.
pub(crate) struct ActiveStream {
    /// The client's stream.
    pub(crate) id: StreamId,
    /// The upstream connection, once it is selected.
    pub(crate) upstream: Option<UpstreamKey>,
    /// The stream on the upstream connection, once it is open.
    pub(crate) upstream_id: Option<StreamId>,
    /// The end of its head in the upstream's write buffer.
    pub(crate) head_end: u64,
    /// Times that it was reassigned because its upstream connection ended before its head had left.
    pub(crate) reassignments: u8,
    pub(crate) call: Call,
    pub(crate) method: Method,
    /// The counters of its team and environment, once it has an upstream.
    pub(crate) tenant: Option<TenantId>,
    /// The snapshot at its beginning, which it keeps to the end.
    pub(crate) snapshot: SnapshotRef,
    /// The parsed request.
    pub(crate) request: Option<Rc<ParsedRequest>>,
    /// A filter's decision that is pending.
    pub(crate) pending_filter: Option<PendingDecision>,
    /// Writes the authenticated user into the request's messages.
    pub(crate) user_context: Option<UserContextWriter>,
    /// Octets that wait to be rewritten, since earlier ones wait for the upstream.
    pub(crate) pending_rewrite: PendingRewrite,
    /// The last authorization check.
    pub(crate) last_check: LastCheck,
    /// When its token expires, for calls that clients can reattach.
    pub(crate) token_expiry: Option<TokenExpiry>,
    /// Whether its token is valid, or expired within its grace period.
    pub(crate) token_standing: Option<TokenStanding>,
    /// Removes hidden values from the response.
    pub(crate) redactor: Option<Box<Redactor>>,
    /// Whether the client's END_STREAM has arrived.
    pub(crate) is_upload_ended: bool,
    pub(crate) upload: BodyState,
    pub(crate) download: BodyState,
    /// The message boundaries of the response.
    pub(crate) boundary: MessageBoundary,
    /// Whether the response head was sent to the client.
    pub(crate) is_response_started: bool,
    /// The end of the response behind its buffered octets. The stream has no upstream then.
    pub(crate) pending_end: Option<Box<DownloadEnd>>,
    /// Progress of the request body.
    pub(crate) upload_progress: Progress,
    /// Progress of the client in reading the response.
    pub(crate) download_progress: Progress,
}

/// The end of a response, which follows its buffered octets.
pub(crate) struct DownloadEnd {
    pub(crate) trailers: Rc<Fields>,
    pub(crate) code: Code,
    pub(crate) reason: EndReason,
}

/// Request octets that wait to be rewritten until the upstream accepts more. They are buffered as
/// they came: the rewritten message can be a hundred times longer.
#[derive(Default)]
pub(crate) struct PendingRewrite {
    pub(crate) octets: Buffer,
    /// Whether the client's END_STREAM follows them.
    pub(crate) end: bool,
}

impl ActiveStream {
    /// Whether new octets must wait behind buffered ones.
    pub(crate) fn has_buffered_upload(&self) -> bool {
        self.upload.has_buffered()
            || !self.pending_rewrite.octets.is_empty()
            || self.pending_rewrite.end
    }

    /// Memory of buffered request octets. Inflated ones have a limit of their own.
    pub(crate) fn buffered_bytes(&self) -> usize {
        if self.user_context.as_ref().is_some_and(UserContextWriter::may_inflate) {
            return 0;
        }
        if !self.upload.has_buffered() && self.pending_rewrite.octets.is_empty() {
            return 0;
        }
        let buffers = [self.upload.memory(), self.pending_rewrite.octets.memory()];
        buffers.into_iter().fold(BUFFER_OVERHEAD, usize::saturating_add)
    }

    /// Whether nothing more will come from the client.
    pub(crate) fn is_upload_received(&self) -> bool {
        self.is_upload_ended || self.pending_rewrite.end || self.pending_end.is_some()
    }

    /// Octets of an inflated message that is not complete.
    pub(crate) fn inflated_bytes(&self) -> usize {
        self.user_context.as_ref().map_or(0, UserContextWriter::buffered)
    }

    /// Reports the end of the call to the filters and the metrics. Must be called once.
    pub(crate) fn complete(
        &mut self,
        code: Code,
        reason: EndReason,
        now: Instant,
        metrics: &WorkerMetrics,
    ) {
        let duration = now.saturating_duration_since(self.call.opened_at());
        let (octets_up, octets_down) = (self.upload.received(), self.download.received());
        let outcome = Outcome {
            code,
            duration,
            request_bytes: octets_up,
            response_bytes: octets_down,
            reason,
        };
        let tenant = self.tenant.or_else(|| self.tenant_by_name(metrics));
        let attributes = self.call.attributes();
        metrics.call_ended(&CallEnd {
            method: self.method,
            tenant,
            answered_by: answered_by(reason),
            code: code.number(),
            duration,
            request_bytes: octets_up,
            response_bytes: octets_down,
        });
        tracing::debug!(
            user = attributes.identity.as_ref().map(|identity| identity.user()),
            peer = %self.call.peer(),
            method = self.call.method().label(),
            team = attributes.team.as_ref().map(TeamName::as_str),
            environment = attributes.environment.as_ref().map(EnvironmentName::as_str),
            request_id = self.request_id(),
            code = code.name(),
            reason = reason.label(),
            ?duration,
            octets_up,
            octets_down,
            "call ended"
        );
        self.snapshot.chain.complete(&mut self.call, &outcome);
    }

    /// Counts a call without an upstream under its team, if the team is known.
    fn tenant_by_name(&self, metrics: &WorkerMetrics) -> Option<TenantId> {
        let attributes = self.call.attributes();
        let team = attributes.team.as_ref().map(TeamName::as_str)?;
        let environment = attributes.environment.as_ref().map(EnvironmentName::as_str);
        let tenant = metrics.tenant(Some(team), environment);
        metrics.call_routed(self.method, tenant);
        Some(tenant)
    }
}

/// The origin of the status that the client received.
fn answered_by(reason: EndReason) -> AnsweredBy {
    match reason {
        EndReason::Answered => AnsweredBy::Driver,
        EndReason::Refused
        | EndReason::Cancelled
        | EndReason::ClientLost
        | EndReason::DriverLost
        | EndReason::DeadlinePassed
        | EndReason::Expired
        | EndReason::Drained => AnsweredBy::Sconce,
    }
}

/// The time and the snapshot generation of the last authorization check.
#[derive(Clone, Copy)]
pub(crate) struct LastCheck {
    pub(crate) at: Instant,
    pub(crate) generation: u64,
}

/// Grants an upstream the stream window that the client grants, less the buffered octets.
pub(crate) fn pass_stream_window(
    downstream: &H2Connection,
    h2: &mut H2Connection,
    stream: &ActiveStream,
) {
    let Some(id) = stream.upstream_id else { return };
    let buffered = i64::try_from(stream.download.buffered().len()).unwrap_or(i64::MAX);
    let wanted = downstream.wire.stream_send_window(stream.id).saturating_sub(buffered);
    let more = wanted.saturating_sub(h2.wire.recv_window(id));
    if more > 0 {
        h2.wire.grow_recv_window(id, u32::try_from(more).unwrap_or(0));
    }
}

impl ActiveStream {
    pub(crate) fn request_id(&self) -> String {
        request_id_of(&self.call, self.id)
    }
}
