//! The filters in their order.
//!
//! [`FilterChain::new`] checks the contract between filters, so that no filter finds a required
//! attribute unset. A call passes with [`FilterChain::admit`], and after a pending decision with
//! [`FilterChain::resume`]. [`FilterChain::complete`] reports the outcome to the filters that
//! admitted the call, in reverse order, once.
//!
//! Must not happen here: an allocation for a call without a pending decision.

use crate::{
    Attribute, Attributes, Call, Code, Decision, Filter, Outcome, PendingDecision, PendingResult,
    Refusal, Revoked,
};
use std::{fmt, rc::Rc, sync::Arc, time::SystemTime};

/// The filters in the order in which a call passes them. A clone shares the filters.
#[derive(Clone)]
pub struct FilterChain {
    filters: Arc<[Arc<dyn Filter>]>,
}

/// The result of the chain so far.
#[derive(Debug)]
pub enum ChainStep {
    /// All filters have admitted the call.
    Admitted,
    /// A filter refused it. The filters before it expect [`FilterChain::complete`].
    Refused(Refusal),
    /// A filter has not decided yet: poll this future, then call [`FilterChain::resume`]. To
    /// cancel, drop it and complete the call.
    Pending(PendingDecision),
}

/// The decision of one filter, for `sconce explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The filter.
    pub filter: &'static str,
    /// The result of [`Filter::explain`].
    pub summary: Option<String>,
    /// The result of [`Filter::details`].
    pub details: Vec<String>,
    /// `Ok` if it admitted the call, or if its decision is pending.
    pub result: Result<(), Refusal>,
}

/// Why a list of filters is not a valid chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// The same filter is listed twice.
    Duplicate {
        /// The filter.
        filter: &'static str,
    },
    /// A filter requires an attribute that no earlier filter provides.
    MissingAttribute {
        /// The filter that requires it.
        filter: &'static str,
        /// The attribute.
        attribute: Attribute,
        /// A later filter that provides it.
        later: Option<&'static str>,
    },
    /// Two filters provide the same attribute.
    ConflictingProviders {
        /// The second of the two.
        filter: &'static str,
        /// The attribute.
        attribute: Attribute,
        /// The first of the two.
        earlier: &'static str,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { filter } => write!(f, "{filter} is listed twice"),
            Self::MissingAttribute { filter, attribute, later: Some(later) } => {
                write!(f, "{filter} requires the {}: put {later} before {filter}", attribute.name())
            }
            Self::MissingAttribute { filter, attribute, later: None } => {
                write!(
                    f,
                    "{filter} requires the {}, and no filter of the chain provides it",
                    attribute.name()
                )
            }
            Self::ConflictingProviders { filter, attribute, earlier } => {
                write!(f, "{filter} and {earlier} both provide the {}: keep one", attribute.name())
            }
        }
    }
}

impl std::error::Error for ChainError {}

impl FilterChain {
    /// Builds a chain.
    ///
    /// # Errors
    /// The first breach of the contract: a filter listed twice, a required attribute that no
    /// earlier filter provides, an attribute with two providers.
    pub fn new(filters: Vec<Arc<dyn Filter>>) -> Result<Self, ChainError> {
        for (index, filter) in filters.iter().enumerate() {
            let (before, after) = (filters.iter().take(index), filters.iter().skip(index + 1));
            let name = filter.name();
            if before.clone().any(|other| other.name() == name) {
                return Err(ChainError::Duplicate { filter: name });
            }
            for &attribute in filter.requires() {
                if !before.clone().any(|other| other.provides().contains(&attribute)) {
                    let later = after.clone().find(|other| other.provides().contains(&attribute));
                    let later = later.map(|other| other.name());
                    return Err(ChainError::MissingAttribute { filter: name, attribute, later });
                }
            }
            for &attribute in filter.provides() {
                if let Some(earlier) =
                    before.clone().find(|other| other.provides().contains(&attribute))
                {
                    let earlier = earlier.name();
                    return Err(ChainError::ConflictingProviders {
                        filter: name,
                        attribute,
                        earlier,
                    });
                }
            }
        }
        Ok(Self { filters: filters.into() })
    }

    /// The names of the filters, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.filters.iter().map(|filter| filter.name())
    }

    /// The first of these attributes that no filter of the chain provides.
    pub fn first_unprovided(&self, attributes: &[Attribute]) -> Option<Attribute> {
        let is_provided = |attribute: &&Attribute| {
            self.filters.iter().any(|filter| filter.provides().contains(attribute))
        };
        attributes.iter().find(|attribute| !is_provided(attribute)).copied()
    }

    /// Passes a call through the filters that have not admitted it yet.
    pub fn admit(&self, call: &mut Call) -> ChainStep {
        while let Some(filter) = self.filters.get(call.admitted) {
            match filter.admit(call) {
                Decision::Admitted => {}
                Decision::Refused(refusal) => return ChainStep::Refused(refusal),
                Decision::Pending(pending) => return ChainStep::Pending(pending),
            }
            if let Err(refusal) = record_admission(&**filter, call) {
                return ChainStep::Refused(refusal);
            }
        }
        ChainStep::Admitted
    }

    /// Decides copy about a call that this chain, or an earlier one, has admitted.
    ///
    /// # Errors
    /// The refusal that a new call would receive.
    pub fn recheck(
        &self,
        call: &Call,
        wall_time: SystemTime,
    ) -> Result<Option<Rc<Revoked>>, Refusal> {
        let mut copy = call.copy_for_recheck(wall_time);
        self.filters.iter().try_for_each(|filter| filter.recheck(&mut copy))?;
        Ok(copy.attributes().revoked.clone())
    }

    /// Decides copy about a call that this chain has admitted or rechecked, as far as the result
    /// depends on time or on keys.
    ///
    /// # Errors
    /// As for [`FilterChain::recheck`].
    pub fn recheck_time(&self, call: &Call, wall_time: SystemTime) -> Result<(), Refusal> {
        self.filters.iter().try_for_each(|filter| filter.recheck_time(call, wall_time))
    }

    /// Continues with the result of the pending decision.
    pub fn resume(&self, call: &mut Call, result: PendingResult) -> ChainStep {
        let Some(filter) = self.filters.get(call.admitted) else {
            return ChainStep::Admitted;
        };
        let result = result.and_then(|found: Attributes| {
            call.set_attributes(found);
            record_admission(&**filter, call)
        });
        match result {
            Ok(()) => self.admit(call),
            Err(refusal) => ChainStep::Refused(refusal),
        }
    }

    /// Reports the outcome to the filters that admitted the call, in reverse order. A second call
    /// reports nothing.
    pub fn complete(&self, call: &mut Call, outcome: &Outcome) {
        let admitted = std::mem::take(&mut call.admitted);
        self.filters
            .iter()
            .take(admitted)
            .rev()
            .for_each(|filter| filter.on_complete(call, outcome));
    }

    /// The decisions of the filters, up to the first one that refuses or is pending.
    pub fn explain(&self, call: &mut Call) -> Vec<Explanation> {
        let mut explanations = Vec::new();
        while let Some(filter) = self.filters.get(call.admitted) {
            let (summary, details) = (filter.explain(call), filter.details(call));
            let (result, ended) = match filter.admit(call) {
                Decision::Admitted => match record_admission(&**filter, call) {
                    Ok(()) => (Ok(()), false),
                    Err(refusal) => (Err(refusal), true),
                },
                Decision::Refused(refusal) => (Err(refusal), true),
                Decision::Pending(_) => (Ok(()), true),
            };
            explanations.push(Explanation { filter: filter.name(), summary, details, result });
            if ended {
                break;
            }
        }
        explanations
    }
}

/// Records that a filter has admitted the call, and refuses the call if a provided attribute is not
/// set.
fn record_admission(filter: &dyn Filter, call: &mut Call) -> Result<(), Refusal> {
    call.admitted = call.admitted.saturating_add(1);
    match filter.provides().iter().find(|attribute| !call.attributes().is_set(**attribute)) {
        None => Ok(()),
        Some(attribute) => {
            let message = format!(
                "internal error: {} admitted the call without its {}; report this to the operators",
                filter.name(),
                attribute.name()
            );
            Err(Refusal::new(Code::Internal, "chain.attribute_missing", message))
        }
    }
}

impl fmt::Debug for FilterChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand requires some moment")]
mod tests {
    use super::*;
    use crate::{EndReason, EnvironmentName, Method, TeamName, call::StaticMetadata};
    use std::{
        pin::pin,
        rc::Rc,
        sync::Mutex,
        task::{Context, Poll, Waker},
        time::{Duration, Instant},
    };

    type EventLog = Arc<Mutex<Vec<String>>>;

    struct RecordingFilter {
        name: &'static str,
        requires: &'static [Attribute],
        provides: &'static [Attribute],
        decide: fn() -> Decision,
        events: EventLog,
    }

    impl Filter for RecordingFilter {
        fn name(&self) -> &'static str {
            self.name
        }
        fn requires(&self) -> &'static [Attribute] {
            self.requires
        }
        fn provides(&self) -> &'static [Attribute] {
            self.provides
        }
        fn admit(&self, _call: &mut Call) -> Decision {
            self.events.lock().unwrap().push(format!("admit {}", self.name));
            (self.decide)()
        }
        fn on_complete(&self, _call: &Call, outcome: &Outcome) {
            let ending = outcome.reason.label();
            self.events.lock().unwrap().push(format!("settle {} {ending}", self.name));
        }
    }

    const BOTH: &[Attribute] = &[Attribute::Team, Attribute::Environment];

    fn filter(name: &'static str, decide: fn() -> Decision, events: &EventLog) -> Arc<dyn Filter> {
        Arc::new(RecordingFilter {
            name,
            requires: &[],
            provides: &[],
            decide,
            events: events.clone(),
        })
    }

    fn idle(
        name: &'static str,
        requires: &'static [Attribute],
        provides: &'static [Attribute],
    ) -> Arc<dyn Filter> {
        let events = EventLog::default();
        Arc::new(RecordingFilter {
            name,
            requires,
            provides,
            decide: || Decision::Admitted,
            events,
        })
    }

    fn call() -> Call {
        let metadata = Rc::new(StaticMetadata::new("h:1"));
        Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now())
    }

    fn outcome(reason: EndReason) -> Outcome {
        Outcome {
            code: Code::Ok,
            duration: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
            reason,
        }
    }

    fn pages(events: &EventLog) -> Vec<String> {
        std::mem::take(&mut *events.lock().unwrap())
    }

    fn no() -> Refusal {
        Refusal::new(Code::PermissionDenied, "b.no", "no")
    }

    fn attributes() -> Attributes {
        let (team, environment) = (TeamName::parse("ads"), EnvironmentName::parse("prod"));
        Attributes { team: team.ok(), environment: environment.ok(), ..Attributes::default() }
    }

    #[test]
    fn a_call_that_all_filters_admit_is_completed_once_in_reverse_order() {
        let events = EventLog::default();
        let filters = ["a", "b"].map(|name| filter(name, || Decision::Admitted, &events));
        let chain = FilterChain::new(filters.to_vec()).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), ChainStep::Admitted));
        chain.complete(&mut call, &outcome(EndReason::Answered));
        chain.complete(&mut call, &outcome(EndReason::Answered));
        assert_eq!(
            pages(&events),
            ["admit a", "admit b", "settle b answered", "settle a answered"]
        );
    }

    #[test]
    fn a_refused_call_is_completed_for_earlier_filters_only() {
        let events = EventLog::default();
        let chain = FilterChain::new(vec![
            filter("a", || Decision::Admitted, &events),
            filter("b", || Decision::Refused(no()), &events),
            filter("c", || Decision::Admitted, &events),
        ]);
        let (chain, mut call) = (chain.unwrap(), call());
        assert!(matches!(chain.admit(&mut call), ChainStep::Refused(refusal) if refusal == no()));
        chain.complete(&mut call, &outcome(EndReason::Refused));
        assert_eq!(pages(&events), ["admit a", "admit b", "settle a refused"]);
    }

    #[test]
    fn a_pending_decision_sets_attributes_and_continues_with_the_next_filter() {
        let events = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::ready(Ok(attributes()))));
        let next = filter("b", || Decision::Admitted, &events);
        let chain = FilterChain::new(vec![filter("a", slow, &events), next]).unwrap();
        let mut call = call();
        let ChainStep::Pending(pending) = chain.admit(&mut call) else {
            panic!("a lets it pending")
        };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(result) = pin!(pending).poll(&mut context) else { panic!("it is ready") };
        assert!(matches!(chain.resume(&mut call, result), ChainStep::Admitted));
        assert_eq!(call.team().unwrap().as_str(), "ads");
        chain.complete(&mut call, &outcome(EndReason::Answered));
        let expected = ["admit a", "admit b", "settle b answered", "settle a answered"];
        assert_eq!(pages(&events), expected);
    }

    #[test]
    fn a_cancelled_pending_call_is_completed_for_earlier_filters_only() {
        let events = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::pending()));
        let first = filter("a", || Decision::Admitted, &events);
        let chain = FilterChain::new(vec![first, filter("b", slow, &events)]).unwrap();
        let mut call = call();
        let ChainStep::Pending(pending) = chain.admit(&mut call) else {
            panic!("b lets it pending")
        };
        drop(pending);
        chain.complete(&mut call, &outcome(EndReason::Cancelled));
        assert_eq!(pages(&events), ["admit a", "admit b", "settle a cancelled"]);
    }

    #[test]
    fn a_pending_decision_may_end_in_a_refusal() {
        let events = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::ready(Err(no()))));
        let chain = FilterChain::new(vec![filter("a", slow, &events)]).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), ChainStep::Pending(_)));
        let step = chain.resume(&mut call, Err(no()));
        assert!(matches!(step, ChainStep::Refused(refusal) if refusal == no()));
        chain.complete(&mut call, &outcome(EndReason::Refused));
        assert_eq!(pages(&events), ["admit a"]);
    }

    #[test]
    fn a_missing_provided_attribute_is_an_internal_error() {
        let chain = FilterChain::new(vec![idle("liar", &[], BOTH)]).unwrap();
        let ChainStep::Refused(refusal) = chain.admit(&mut call()) else { panic!("must refuse") };
        assert_eq!((refusal.code, refusal.label), (Code::Internal, "chain.attribute_missing"));
    }

    #[test]
    fn the_contract_is_checked_when_the_chain_is_built() {
        let error = |filters| FilterChain::new(filters).unwrap_err().to_string();
        let team = || idle("team", &[], BOTH);
        let limit = || idle("limit", &[Attribute::Team], &[]);
        assert_eq!(error(vec![team(), team()]), "team is listed twice");
        assert_eq!(error(vec![limit(), team()]), "limit requires the team: put team before limit");
        assert_eq!(
            error(vec![limit()]),
            "limit requires the team, and no filter of the chain provides it"
        );
        assert_eq!(
            error(vec![team(), idle("claims", &[], &[Attribute::Team])]),
            "claims and team both provide the team: keep one"
        );
        assert!(FilterChain::new(vec![team(), limit()]).is_ok());
        assert_eq!(FilterChain::new(vec![]).unwrap().first_unprovided(BOTH), Some(Attribute::Team));
        assert_eq!(FilterChain::new(vec![team()]).unwrap().first_unprovided(BOTH), None);
    }
}
