//! The filters of sconce: they decide about each call before it reaches a driver.
//!
//! A [`Filter`] admits a call, refuses it, or waits. When the call has ended, each filter that
//! admitted it receives the [`Outcome`]. The order of the filters is configuration: see
//! [`FilterChain`]. `README.md` in this folder explains step by step how to add a filter.
//!
//! Must not be here: sockets, routes, a clock, Spark clusters. This is a crate of its own, so that
//! Cargo enforces it. A filter must not import another filter: two filters share attributes of the
//! [`Call`].

pub mod attributes;
pub mod authenticate;
pub mod bounded_cache;
pub mod call;
pub mod certificate;
pub mod chain;
mod factory;
pub mod head_cache;
pub mod identity;
pub mod method;
pub mod name;
pub mod outcome;
pub mod refusal;
pub mod registry;
pub mod revoked;
pub mod section;
pub mod team;

pub use attributes::{Attribute, Attributes, CallAttribute, CustomAttributes};
pub use bounded_cache::BoundedCache;
pub use call::{Call, Metadata, StaticMetadata};
pub use certificate::{Certificate, NameKind};
pub use chain::{ChainStep, Explanation, FilterChain};
pub use factory::{FilterConfig, FilterFactory};
pub use head_cache::{CacheKey, HeadCache};
pub use identity::Identity;
pub use method::Method;
pub use name::{EnvironmentName, TeamName};
pub use outcome::{EndReason, Outcome};
pub use refusal::{Code, Cost, Refusal};
pub use registry::FilterRegistry;
pub use revoked::Revoked;
pub use section::{Located, Section, SectionSource, StaticSection, ValueError};

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

/// One filter of the chain.
///
/// All workers share a filter; a call belongs to one worker.
pub trait Filter: Send + Sync {
    /// The name in config, metrics and messages.
    fn name(&self) -> &'static str;

    /// The attributes that an earlier filter must provide; checked when the chain is built.
    fn requires(&self) -> &'static [Attribute] {
        &[]
    }

    /// The attributes that are set in every call which this filter admits; checked when the chain
    /// is built, and again at each admission.
    fn provides(&self) -> &'static [Attribute] {
        &[]
    }

    /// Decides about one call. Must not allocate if the answer is at hand.
    fn admit(&self, call: &mut Call) -> Decision;

    /// Decides again about a call that this filter, or the filter that a reload has replaced with
    /// it, has admitted: would it be admitted now? The call is a copy of the first one with the
    /// current wall-clock time; an attribute that this filter provides may be set anew. Must not
    /// wait or count anything. [`Filter::on_complete`] does not follow.
    ///
    /// # Errors
    /// The refusal that a new call would receive.
    fn recheck(&self, _call: &mut Call) -> Result<(), Refusal> {
        Ok(())
    }

    /// The part of [`Filter::recheck`] whose result can change without a reload, for a call that
    /// this filter has admitted or rechecked: validity periods and keys.
    ///
    /// # Errors
    /// As for [`Filter::recheck`].
    fn recheck_time(&self, _call: &Call, _wall: SystemTime) -> Result<(), Refusal> {
        Ok(())
    }

    /// Receives the outcome of a call that this filter admitted: exactly once, in reverse order of
    /// the chain.
    fn on_complete(&self, _call: &Call, _outcome: &Outcome) {}

    /// One line for `sconce explain`: the decision, and the rule behind it.
    fn explain(&self, _call: &Call) -> Option<String> {
        None
    }

    /// Further lines for `sconce explain`, for admitted and refused calls: the values of the call
    /// and the expected values. Callers never see them. Must not contain credentials.
    fn details(&self, _call: &Call) -> Vec<String> {
        Vec::new()
    }
}

/// The decision of a filter about a call.
#[derive(Debug)]
pub enum Decision {
    /// The next filter decides.
    Admitted,
    /// The call ends with this refusal.
    Refused(Refusal),
    /// The decision follows when this future completes.
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

/// A decision that is not made yet: a future of the attributes to set, or of a refusal.
///
/// It owns all that it needs and borrows neither the call nor the filter, so that the proxy can
/// complete the call when the client disconnects first. Dropping it cancels the decision.
pub struct PendingDecision(Pin<Box<dyn Future<Output = PendingResult>>>);

/// The result of a [`PendingDecision`].
pub type PendingResult = Result<Attributes, Refusal>;

impl PendingDecision {
    /// Wraps a future. It need not be `Send`: a call stays on one worker.
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
