//! The filter chain of sconce: what is asked of a call before it reaches a driver.
//!
//! One folder is one room, that is one [`Filter`]: `authenticate` proves who calls, `team` finds
//! where the call goes. A room may admit a call, refuse it, or wait; once the call has ended, each
//! room that admitted it hears the [`Outcome`].
//! The order of the rooms is data: see [`Chain`].
//!
//! Must never happen here: a socket, a route, a clock, a Spark cluster. This is a crate of its own,
//! so Cargo keeps them out. A room never imports another room: what two rooms share is a slot of
//! the [`Call`]. To add a room: its folder, and one line in `registry.rs`.

pub mod authenticate;
pub mod bounded_cache;
pub mod call;
pub mod certificate;
pub mod chain;
pub mod head_cache;
pub mod identity;
pub mod method;
pub mod name;
pub mod outcome;
pub mod refusal;
pub mod registry;
pub mod revoked;
pub mod team;

pub use bounded_cache::BoundedCache;
pub use call::{Attribute, Attributes, Call, Metadata};
pub use certificate::{Certificate, NameKind};
pub use chain::{ChainStep, Explanation, FilterChain};
pub use head_cache::{CacheKey, HeadCache};
pub use identity::Identity;
pub use method::Method;
pub use name::{EnvironmentName, TeamName};
pub use outcome::{EndReason, Outcome};
pub use refusal::{Code, Cost, Refusal};
pub use revoked::Revoked;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

/// One room of the chain.
///
/// A filter is shared by all workers; a call belongs to one of them.
pub trait Filter: Send + Sync {
    /// The word for this room in config, metrics and messages.
    fn name(&self) -> &'static str;

    /// The slots of a call that must have been filled before this room; checked when the chain is
    /// built.
    fn requires(&self) -> &'static [Attribute] {
        &[]
    }

    /// The slots that are full in every call which this room admits; checked when the chain is
    /// built, and again at each admission.
    fn provides(&self) -> &'static [Attribute] {
        &[]
    }

    /// Decides about one call. A room that has its answer at hand allocates nothing.
    fn admit(&self, call: &mut Call) -> Decision;

    /// Decides again about a call that was admitted a while ago, by this room or by the one that a
    /// reload has replaced with it: would it be admitted now? The call is a copy of the first one,
    /// at the time of day it is now; a slot that this room fills may be filled anew. Never waits,
    /// counts nothing, and is not followed by [`Filter::settle`].
    ///
    /// # Errors
    /// The refusal that a new call would get.
    fn recheck(&self, _call: &mut Call) -> Result<(), Refusal> {
        Ok(())
    }

    /// The part of [`Filter::recheck`] that can change without a reload, for a call that this very
    /// room has admitted or rechecked: what depends on the time of day, or on keys.
    ///
    /// # Errors
    /// As for [`Filter::recheck`].
    fn recheck_time(&self, _call: &Call, _wall: SystemTime) -> Result<(), Refusal> {
        Ok(())
    }

    /// Hears how a call ended that this room admitted: once, rooms that came later first.
    fn on_complete(&self, _call: &Call, _outcome: &Outcome) {}

    /// One sentence for a person: what this room makes of the call, and by which rule.
    fn explain(&self, _call: &Call) -> Option<String> {
        None
    }

    /// What an operator needs to see beside that, whether the call is admitted or not: what it
    /// says, and what would be right. Callers are never shown it. Never a credential.
    fn details(&self, _call: &Call) -> Vec<String> {
        Vec::new()
    }
}

/// What a room says to a call.
#[derive(Debug)]
pub enum Decision {
    /// The call may go on to the next room.
    Admitted,
    /// The call ends here.
    Refused(Refusal),
    /// The room does not know yet.
    Pending(PendingDecision),
}

impl From<Result<(), Refusal>> for Decision {
    fn from(verdict: Result<(), Refusal>) -> Self {
        match verdict {
            Ok(()) => Self::Admitted,
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// A room's answer that is still to come: the slots it fills, or a refusal.
///
/// It owns all that it needs and borrows neither the call nor the room, so the call stays with the
/// proxy, which can still settle it when the client goes away first. Dropping it gives up the wait.
pub struct PendingDecision(Pin<Box<dyn Future<Output = PendingResult>>>);

/// What a wait ends with.
pub type PendingResult = Result<Attributes, Refusal>;

impl PendingDecision {
    /// Wraps the future of a room. It need not be `Send`: a call lives on one worker.
    pub fn new(answer: impl Future<Output = PendingResult> + 'static) -> Self {
        Self(Box::pin(answer))
    }
}

impl Future for PendingDecision {
    type Output = PendingResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PendingResult> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for PendingDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}
