//! Exchange: one RPC on its way, from the client's stream to the driver's and back.
//!
//! What cannot be passed on yet is parked here, bounded by the windows that were granted for it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use sconce_filters::{Call, Code, Ending, EnvironmentName, Outcome, TeamName, Wait};

use crate::grpc::boundary::Boundary;
use crate::grpc::redact::Redactor;
use crate::grpc::stamp::Stamper;
use crate::proxy::admit::Asked;
use crate::proxy::buffer::Buffer;
use crate::proxy::lease::Lease;
use crate::proxy::recheck::Checked;
use crate::proxy::tenure::Tenure;
use crate::route::Held;
use crate::telemetry::{AnsweredBy, Ended, MethodLabel, TenantId, WorkerMetrics};
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// Octets of memory that a parked body costs beyond its buffers.
const PARKED_COST: usize = 1024;

/// One RPC.
pub(super) struct Exchange {
    /// The client's stream.
    pub(super) stream: StreamId,
    /// Which driver leg it goes to, once that is known.
    pub(super) driver: Option<usize>,
    /// The stream there, once it is open.
    pub(super) driver_stream: Option<StreamId>,
    /// Where its head ends in the outbox of the leg.
    pub(super) head_ends: u64,
    /// How often it was taken off a leg that ended before its head had left.
    pub(super) redirects: u8,
    pub(super) call: Call,
    pub(super) method: MethodLabel,
    /// What it is counted under, once it has a driver.
    pub(super) tenant: Option<TenantId>,
    /// The snapshot that the call began with, and keeps to the end.
    pub(super) snapshot: Held,
    /// What is asked for.
    pub(super) asked: Option<Rc<Asked>>,
    /// A room's answer that is still to come.
    pub(super) wait: Option<Wait>,
    /// Who writes the verified caller into what goes up.
    pub(super) stamper: Option<Stamper>,
    /// What waits for that, since what is before it waits for the driver.
    pub(super) unstamped: Unstamped,
    /// When its permission was last asked about.
    pub(super) checked: Checked,
    /// How long the answer may go on.
    pub(super) lease: Option<Lease>,
    /// How its proof stands, where one that has ended may count still.
    pub(super) tenure: Option<Tenure>,
    /// Who hides values in the answer.
    pub(super) redactor: Option<Box<Redactor>>,
    /// Whether the client has ended its side, and nothing more will be added to it.
    pub(super) uploaded: bool,
    pub(super) up: Way,
    pub(super) down: Way,
    /// Where the messages of the answer end.
    pub(super) boundary: Boundary,
    /// Whether the client has got the head of an answer.
    pub(super) answered: bool,
    /// How the answer ends behind its parked octets. The exchange has no driver then.
    pub(super) end: Option<Box<AnswerEnd>>,
    /// How the request's body moves on.
    pub(super) sent: Progress,
    /// How the client takes the answer.
    pub(super) taken: Progress,
}

/// How an answer ends once all that is parked of it has left.
pub(super) struct AnswerEnd {
    pub(super) trailers: Rc<Fields>,
    pub(super) code: Code,
    pub(super) how: Ending,
}

/// What came of a request and is to be stamped when the driver takes more. It waits as it came: a
/// stamp can be a hundred times longer than its message.
#[derive(Default)]
pub(super) struct Unstamped {
    pub(super) octets: Buffer,
    /// Whether the client has ended its side behind them.
    pub(super) end: bool,
}

/// One direction of an exchange.
#[derive(Default)]
pub(super) struct Way {
    /// Octets that came and could not be passed on yet.
    pub(super) parked: Buffer,
    /// Octets of DATA that came.
    pub(super) octets: u64,
    /// Octets that were added and have not left yet: they give no credit back.
    pub(super) surplus: usize,
}

impl Way {
    /// Octets that came and were passed on.
    pub(super) fn passed(&self) -> u64 {
        let parked = u64::try_from(self.parked.len()).unwrap_or(u64::MAX);
        self.octets.saturating_sub(parked)
    }

    /// Octets have left: for how many of them the peer gets its credit back.
    pub(super) fn repay(&mut self, left: usize) -> usize {
        let added = left.min(self.surplus);
        self.surplus = self.surplus.saturating_sub(added);
        left.saturating_sub(added)
    }
}

/// How far one direction had come, and when.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    at: Instant,
    octets: u64,
}

impl Progress {
    /// Octets that count as a move: fewer at a time could keep a call open for ever.
    const STEP: u64 = 1_024;

    pub(super) fn new(at: Instant) -> Self {
        Self { at, octets: 0 }
    }

    /// Whether it has stood still for so long.
    pub(super) fn is_stuck(&mut self, octets: u64, now: Instant, patience: Duration) -> bool {
        if octets >= self.octets.saturating_add(Self::STEP) {
            *self = Self { at: now, octets };
        }
        now.saturating_duration_since(self.at) >= patience
    }

    /// It cannot move now, and that is not its fault.
    pub(super) fn excuse(&mut self, octets: u64, now: Instant) {
        *self = Self { at: now, octets };
    }
}

impl Exchange {
    /// Whether what comes now has to wait behind what came before.
    pub(super) fn is_behind(&self) -> bool {
        !self.up.parked.is_empty() || !self.unstamped.octets.is_empty() || self.unstamped.end
    }

    /// Octets that wait for the driver, as they came. (Inflated ones have a bound of their own.)
    pub(super) fn parked(&self) -> usize {
        if self.stamper.as_ref().is_some_and(Stamper::inflates) {
            return 0;
        }
        if self.up.parked.is_empty() && self.unstamped.octets.is_empty() {
            return 0;
        }
        let buffers = [self.up.parked.memory(), self.unstamped.octets.memory()];
        buffers.into_iter().fold(PARKED_COST, usize::saturating_add)
    }

    /// Whether nothing more will come from the client.
    pub(super) fn has_come(&self) -> bool {
        self.uploaded || self.unstamped.end || self.end.is_some()
    }

    /// Octets of an inflated message that are kept until it is whole.
    pub(super) fn held(&self) -> usize {
        self.stamper.as_ref().map_or(0, Stamper::held)
    }

    /// Tells the rooms and the metrics how it ended: once, and then it goes.
    pub(super) fn settle(
        &mut self,
        code: Code,
        how: Ending,
        now: Instant,
        metrics: &WorkerMetrics,
    ) {
        let duration = now.saturating_duration_since(self.call.opened_at());
        let (octets_up, octets_down) = (self.up.octets, self.down.octets);
        let outcome = Outcome { code, duration, octets_up, octets_down, how };
        let tenant = self.tenant.or_else(|| self.place_by_name(metrics));
        let slots = self.call.slots();
        metrics.call_ended(&Ended {
            method: self.method,
            tenant,
            by: answered_by(how),
            code: code.number(),
            duration,
            octets_up,
            octets_down,
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
        self.snapshot.chain.settle(&mut self.call, &outcome);
    }

    /// Counts a call that never had a driver under its team, as far as that is known.
    fn place_by_name(&self, metrics: &WorkerMetrics) -> Option<TenantId> {
        let slots = self.call.slots();
        let team = slots.team.as_ref().map(TeamName::as_str)?;
        let environment = slots.environment.as_ref().map(EnvironmentName::as_str);
        let tenant = metrics.tenant(Some(team), environment);
        metrics.call_placed(self.method, tenant);
        Some(tenant)
    }
}

/// Whose status a client saw that was told of such an end.
fn answered_by(how: Ending) -> AnsweredBy {
    match how {
        Ending::Answered => AnsweredBy::Driver,
        Ending::Refused
        | Ending::Cancelled
        | Ending::ClientLost
        | Ending::DriverLost
        | Ending::DeadlinePassed
        | Ending::Expired
        | Ending::Drained => AnsweredBy::Sconce,
    }
}
