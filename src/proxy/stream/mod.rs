//! Exchange: one RPC on its way, from the client's stream to the driver's and back.
//!
//! What cannot be passed on yet is parked here, bounded by the windows that were granted for it.

pub(super) mod buffer;
pub(super) mod expiry;
pub(super) mod grace;
pub(super) mod request;
pub(super) mod request_id;

use std::rc::Rc;
use std::time::{Duration, Instant};

use sconce_filters::{Call, Code, EndReason, EnvironmentName, Outcome, PendingDecision, TeamName};

use crate::grpc::boundary::MessageBoundary;
use crate::grpc::redact::Redactor;
use crate::grpc::user_context::UserContextWriter;
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::stream::buffer::Buffer;
use crate::proxy::stream::expiry::TokenExpiry;
use crate::proxy::stream::grace::TokenStanding;
use crate::proxy::stream::request::ParsedRequest;
use crate::proxy::stream::request_id::request_id_of;
use crate::route::SnapshotRef;
use crate::telemetry::{AnsweredBy, CallEnd, MethodLabel, TenantId, WorkerMetrics};
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// Octets of memory that a parked body costs beyond its buffers.
const BUFFER_OVERHEAD: usize = 1024;

/// One RPC.
pub(crate) struct ActiveStream {
    /// The client's stream.
    pub(crate) id: StreamId,
    /// Which driver leg it goes to, once that is known.
    pub(crate) upstream: Option<usize>,
    /// The stream there, once it is open.
    pub(crate) upstream_id: Option<StreamId>,
    /// Where its head ends in the outbox of the leg.
    pub(crate) head_end: u64,
    /// How often it was taken off a leg that ended before its head had left.
    pub(crate) reassignments: u8,
    pub(crate) call: Call,
    pub(crate) method: MethodLabel,
    /// What it is counted under, once it has a driver.
    pub(crate) tenant: Option<TenantId>,
    /// The snapshot that the call began with, and keeps to the end.
    pub(crate) snapshot: SnapshotRef,
    /// What is asked for.
    pub(crate) request: Option<Rc<ParsedRequest>>,
    /// A room's answer that is still to come.
    pub(crate) pending_filter: Option<PendingDecision>,
    /// Who writes the verified caller into what goes up.
    pub(crate) user_context: Option<UserContextWriter>,
    /// What waits for that, since what is before it waits for the driver.
    pub(crate) pending_rewrite: PendingRewrite,
    /// When its permission was last asked about.
    pub(crate) last_check: LastCheck,
    /// How long the answer may go on.
    pub(crate) token_expiry: Option<TokenExpiry>,
    /// How its proof stands, where one that has ended may count still.
    pub(crate) token_standing: Option<TokenStanding>,
    /// Who hides values in the answer.
    pub(crate) redactor: Option<Box<Redactor>>,
    /// Whether the client has ended its side, and nothing more will be added to it.
    pub(crate) is_upload_ended: bool,
    pub(crate) upload: BodyState,
    pub(crate) download: BodyState,
    /// Where the messages of the answer end.
    pub(crate) boundary: MessageBoundary,
    /// Whether the client has got the head of an answer.
    pub(crate) is_response_started: bool,
    /// How the answer ends behind its parked octets. The exchange has no driver then.
    pub(crate) pending_end: Option<Box<DownloadEnd>>,
    /// How the request's body moves on.
    pub(crate) upload_progress: Progress,
    /// How the client takes the answer.
    pub(crate) download_progress: Progress,
}

/// How an answer ends once all that is parked of it has left.
pub(crate) struct DownloadEnd {
    pub(crate) trailers: Rc<Fields>,
    pub(crate) code: Code,
    pub(crate) reason: EndReason,
}

/// What came of a request and is to be stamped when the driver takes more. It waits as it came: a
/// stamp can be a hundred times longer than its message.
#[derive(Default)]
pub(crate) struct PendingRewrite {
    pub(crate) octets: Buffer,
    /// Whether the client has ended its side behind them.
    pub(crate) end: bool,
}

/// One direction of an exchange.
#[derive(Default)]
pub(crate) struct BodyState {
    /// Octets that came and could not be passed on yet.
    pub(crate) buffered: Buffer,
    /// Octets of DATA that came.
    pub(crate) received: u64,
    /// Octets that were added and have not left yet: they give no credit back.
    pub(crate) surplus: usize,
}

impl BodyState {
    /// Octets that came and were passed on.
    pub(crate) fn forwarded(&self) -> u64 {
        let parked = u64::try_from(self.buffered.len()).unwrap_or(u64::MAX);
        self.received.saturating_sub(parked)
    }

    /// Octets have left: for how many of them the peer gets its credit back.
    pub(crate) fn released(&mut self, left: usize) -> usize {
        let added = left.min(self.surplus);
        self.surplus = self.surplus.saturating_sub(added);
        left.saturating_sub(added)
    }
}

/// How far one direction had come, and when.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    at: Instant,
    octets: u64,
}

impl Progress {
    /// Octets that count as a move: fewer at a time could keep a call open for ever.
    const STEP: u64 = 1_024;

    pub(crate) fn new(at: Instant) -> Self {
        Self { at, octets: 0 }
    }

    /// Whether it has stood still for so long.
    pub(crate) fn is_stuck(&mut self, octets: u64, now: Instant, patience: Duration) -> bool {
        if octets >= self.octets.saturating_add(Self::STEP) {
            *self = Self { at: now, octets };
        }
        now.saturating_duration_since(self.at) >= patience
    }

    /// It cannot move now, and that is not its fault.
    pub(crate) fn reset(&mut self, octets: u64, now: Instant) {
        *self = Self { at: now, octets };
    }
}

impl ActiveStream {
    /// Whether what comes now has to wait behind what came before.
    pub(crate) fn has_buffered_upload(&self) -> bool {
        !self.upload.buffered.is_empty()
            || !self.pending_rewrite.octets.is_empty()
            || self.pending_rewrite.end
    }

    /// Octets that wait for the driver, as they came. (Inflated ones have a bound of their own.)
    pub(crate) fn buffered_bytes(&self) -> usize {
        if self.user_context.as_ref().is_some_and(UserContextWriter::may_inflate) {
            return 0;
        }
        if self.upload.buffered.is_empty() && self.pending_rewrite.octets.is_empty() {
            return 0;
        }
        let buffers = [self.upload.buffered.memory(), self.pending_rewrite.octets.memory()];
        buffers.into_iter().fold(BUFFER_OVERHEAD, usize::saturating_add)
    }

    /// Whether nothing more will come from the client.
    pub(crate) fn is_upload_received(&self) -> bool {
        self.is_upload_ended || self.pending_rewrite.end || self.pending_end.is_some()
    }

    /// Octets of an inflated message that are kept until it is whole.
    pub(crate) fn inflated_bytes(&self) -> usize {
        self.user_context.as_ref().map_or(0, UserContextWriter::buffered)
    }

    /// Tells the rooms and the metrics how it ended: once, and then it goes.
    pub(crate) fn complete(
        &mut self,
        code: Code,
        how: EndReason,
        now: Instant,
        metrics: &WorkerMetrics,
    ) {
        let duration = now.saturating_duration_since(self.call.opened_at());
        let (octets_up, octets_down) = (self.upload.received, self.download.received);
        let outcome = Outcome {
            code,
            duration,
            request_bytes: octets_up,
            response_bytes: octets_down,
            reason: how,
        };
        let tenant = self.tenant.or_else(|| self.tenant_by_name(metrics));
        let slots = self.call.attributes();
        metrics.call_ended(&CallEnd {
            method: self.method,
            tenant,
            answered_by: answered_by(how),
            code: code.number(),
            duration,
            request_bytes: octets_up,
            response_bytes: octets_down,
        });
        tracing::debug!(
            user = slots.identity.as_ref().map(|identity| identity.user()),
            peer = %self.call.peer(),
            method = self.call.method().label(),
            team = slots.team.as_ref().map(TeamName::as_str),
            environment = slots.environment.as_ref().map(EnvironmentName::as_str),
            request_id = self.request_id(),
            code = code.name(),
            how = how.label(),
            ?duration,
            octets_up,
            octets_down,
            "call ended"
        );
        self.snapshot.chain.complete(&mut self.call, &outcome);
    }

    /// Counts a call that never had a driver under its team, as far as that is known.
    fn tenant_by_name(&self, metrics: &WorkerMetrics) -> Option<TenantId> {
        let slots = self.call.attributes();
        let team = slots.team.as_ref().map(TeamName::as_str)?;
        let environment = slots.environment.as_ref().map(EnvironmentName::as_str);
        let tenant = metrics.tenant(Some(team), environment);
        metrics.call_routed(self.method, tenant);
        Some(tenant)
    }
}

/// Whose status a client saw that was told of such an end.
fn answered_by(how: EndReason) -> AnsweredBy {
    match how {
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

/// When the permission of a call was last asked about, and of which snapshot.
#[derive(Clone, Copy)]
pub(crate) struct LastCheck {
    pub(crate) at: Instant,
    pub(crate) generation: u64,
}

/// Lets the driver at the end of a leg send what the client allows for an exchange, and no more.
pub(crate) fn pass_stream_window(
    client: &H2Connection,
    leg: &mut H2Connection,
    exchange: &ActiveStream,
) {
    let Some(stream) = exchange.upstream_id else { return };
    let parked = i64::try_from(exchange.download.buffered.len()).unwrap_or(i64::MAX);
    let wanted = client.wire.stream_send_window(exchange.id).saturating_sub(parked);
    let more = wanted.saturating_sub(leg.wire.recv_window(stream));
    if more > 0 {
        leg.wire.grow_recv_window(stream, u32::try_from(more).unwrap_or(0));
    }
}

impl ActiveStream {
    pub(crate) fn request_id(&self) -> String {
        request_id_of(&self.call, self.id)
    }
}
