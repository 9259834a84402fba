//! The rooms in their order: who is asked first, and who hears the end.
//!
//! Building a chain checks its contract, so that no room ever misses a slot at run time. A call
//! goes through with [`Chain::admit`], and after a wait with [`Chain::resume`]; when it has ended,
//! [`Chain::settle`] tells exactly the rooms that admitted it, last one first, once.
//!
//! Must never happen here: an allocation for a call that no room lets wait.

use crate::{
    Attribute, Attributes, Call, Code, Decision, Filter, Outcome, PendingDecision, PendingResult,
    Refusal, Revoked,
};
use std::{fmt, rc::Rc, sync::Arc, time::SystemTime};

/// The rooms in the order in which a call passes them. A clone shares the rooms.
#[derive(Clone)]
pub struct FilterChain {
    filters: Arc<[Arc<dyn Filter>]>,
}

/// How far a call has come.
#[derive(Debug)]
pub enum ChainStep {
    /// Every room has admitted the call.
    Admitted,
    /// A room refused it. The rooms before still expect [`Chain::settle`].
    Refused(Refusal),
    /// A room needs time: poll this to its answer, then [`Chain::resume`]. Whoever does not want to
    /// wait any longer drops it and settles the call.
    Pending(PendingDecision),
}

/// What one room made of a call, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The room.
    pub filter: &'static str,
    /// Its own sentence, if it has one.
    pub summary: Option<String>,
    /// What it found in the call, and what it expects.
    pub details: Vec<String>,
    /// `Ok` when it admitted the call or would have let it wait.
    pub result: Result<(), Refusal>,
}

/// Why a list of rooms is no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// The same room stands twice.
    Duplicate {
        /// The room.
        filter: &'static str,
    },
    /// A room needs a slot that no room before it fills.
    MissingAttribute {
        /// The room that needs it.
        filter: &'static str,
        /// What it needs.
        attribute: Attribute,
        /// A room further down that would fill it.
        later: Option<&'static str>,
    },
    /// Two rooms fill the same slot.
    ConflictingProviders {
        /// The room that comes second.
        filter: &'static str,
        /// The slot.
        attribute: Attribute,
        /// The room that fills it already.
        earlier: &'static str,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { filter: room } => write!(f, "{room} stands in the chain twice"),
            Self::MissingAttribute { filter: room, attribute: slot, later: Some(later) } => {
                write!(f, "{room} needs the {}: put {later} before {room}", slot.name())
            }
            Self::MissingAttribute { filter: room, attribute: slot, later: None } => {
                write!(f, "{room} needs the {}, and no filter of the chain finds it", slot.name())
            }
            Self::ConflictingProviders { filter: room, attribute: slot, earlier } => {
                write!(f, "{room} and {earlier} both decide the {}: keep one", slot.name())
            }
        }
    }
}

impl std::error::Error for ChainError {}

impl FilterChain {
    /// Builds a chain from rooms in their order.
    ///
    /// # Errors
    /// The first breach of the contract: a room twice, a slot needed too early, a slot filled
    /// twice.
    pub fn new(rooms: Vec<Arc<dyn Filter>>) -> Result<Self, ChainError> {
        for (index, room) in rooms.iter().enumerate() {
            let (before, after) = (rooms.iter().take(index), rooms.iter().skip(index + 1));
            let name = room.name();
            if before.clone().any(|other| other.name() == name) {
                return Err(ChainError::Duplicate { filter: name });
            }
            for &slot in room.requires() {
                if !before.clone().any(|other| other.provides().contains(&slot)) {
                    let later = after.clone().find(|other| other.provides().contains(&slot));
                    let later = later.map(|other| other.name());
                    return Err(ChainError::MissingAttribute {
                        filter: name,
                        attribute: slot,
                        later,
                    });
                }
            }
            for &slot in room.provides() {
                if let Some(earlier) = before.clone().find(|other| other.provides().contains(&slot))
                {
                    let earlier = earlier.name();
                    return Err(ChainError::ConflictingProviders {
                        filter: name,
                        attribute: slot,
                        earlier,
                    });
                }
            }
        }
        Ok(Self { filters: rooms.into() })
    }

    /// The names of the rooms, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.filters.iter().map(|room| room.name())
    }

    /// The first slot of these that no room of this chain fills.
    pub fn first_unprovided(&self, slots: &[Attribute]) -> Option<Attribute> {
        let filled =
            |slot: &&Attribute| self.filters.iter().any(|room| room.provides().contains(slot));
        slots.iter().find(|slot| !filled(slot)).copied()
    }

    /// Leads a call through the rooms, from the one where it stands.
    pub fn admit(&self, call: &mut Call) -> ChainStep {
        while let Some(room) = self.filters.get(call.admitted) {
            match room.admit(call) {
                Decision::Admitted => {}
                Decision::Refused(refusal) => return ChainStep::Refused(refusal),
                Decision::Pending(wait) => return ChainStep::Pending(wait),
            }
            if let Err(refusal) = record_admission(&**room, call) {
                return ChainStep::Refused(refusal);
            }
        }
        ChainStep::Admitted
    }

    /// Decides again about a call that this chain, or an earlier one, has admitted.
    ///
    /// # Errors
    /// The refusal that a new call would get.
    pub fn recheck(&self, call: &Call, wall: SystemTime) -> Result<Option<Rc<Revoked>>, Refusal> {
        let mut again = call.copy_for_recheck(wall);
        self.filters.iter().try_for_each(|room| room.recheck(&mut again))?;
        Ok(again.attributes().revoked.clone())
    }

    /// The same for a call that this very chain has admitted or rechecked: only what depends on
    /// time or on keys.
    ///
    /// # Errors
    /// As for [`Chain::recheck`].
    pub fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        self.filters.iter().try_for_each(|room| room.recheck_time(call, wall))
    }

    /// Goes on with the answer of the room that let the call wait.
    pub fn resume(&self, call: &mut Call, answer: PendingResult) -> ChainStep {
        let Some(room) = self.filters.get(call.admitted) else {
            return ChainStep::Admitted;
        };
        let verdict = answer.and_then(|found: Attributes| {
            call.set_attributes(found);
            record_admission(&**room, call)
        });
        match verdict {
            Ok(()) => self.admit(call),
            Err(refusal) => ChainStep::Refused(refusal),
        }
    }

    /// Tells the rooms that admitted the call how it ended, last one first. A second time it tells
    /// nobody.
    pub fn complete(&self, call: &mut Call, outcome: &Outcome) {
        let admitted = std::mem::take(&mut call.admitted);
        self.filters.iter().take(admitted).rev().for_each(|room| room.on_complete(call, outcome));
    }

    /// What each room makes of a call, up to the first that refuses or would have to wait.
    pub fn explain(&self, call: &mut Call) -> Vec<Explanation> {
        let mut accounts = Vec::new();
        while let Some(room) = self.filters.get(call.admitted) {
            let (sentence, details) = (room.explain(call), room.details(call));
            let (verdict, ended) = match room.admit(call) {
                Decision::Admitted => match record_admission(&**room, call) {
                    Ok(()) => (Ok(()), false),
                    Err(refusal) => (Err(refusal), true),
                },
                Decision::Refused(refusal) => (Err(refusal), true),
                Decision::Pending(_) => (Ok(()), true),
            };
            accounts.push(Explanation {
                filter: room.name(),
                summary: sentence,
                details,
                result: verdict,
            });
            if ended {
                break;
            }
        }
        accounts
    }
}

/// Counts a room's admission, once the room has kept its promise about slots.
fn record_admission(room: &dyn Filter, call: &mut Call) -> Result<(), Refusal> {
    call.admitted = call.admitted.saturating_add(1);
    match room.provides().iter().find(|slot| !call.attributes().is_set(**slot)) {
        None => Ok(()),
        Some(slot) => {
            let message = format!("{} admitted the call without its {}", room.name(), slot.name());
            Err(Refusal::new(Code::Internal, "chain.unfilled", message))
        }
    }
}

impl fmt::Debug for FilterChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
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

    fn filter(name: &'static str, says: fn() -> Decision, diary: &EventLog) -> Arc<dyn Filter> {
        Arc::new(RecordingFilter {
            name,
            requires: &[],
            provides: &[],
            decide: says,
            events: diary.clone(),
        })
    }

    fn idle(
        name: &'static str,
        needs: &'static [Attribute],
        fills: &'static [Attribute],
    ) -> Arc<dyn Filter> {
        let diary = EventLog::default();
        Arc::new(RecordingFilter {
            name,
            requires: needs,
            provides: fills,
            decide: || Decision::Admitted,
            events: diary,
        })
    }

    fn call() -> Call {
        let metadata = Rc::new(StaticMetadata::new("h:1"));
        Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now())
    }

    fn outcome(how: EndReason) -> Outcome {
        Outcome {
            code: Code::Ok,
            duration: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
            reason: how,
        }
    }

    fn pages(diary: &EventLog) -> Vec<String> {
        std::mem::take(&mut *diary.lock().unwrap())
    }

    fn no() -> Refusal {
        Refusal::new(Code::PermissionDenied, "b.no", "no")
    }

    fn slots() -> Attributes {
        let (team, environment) = (TeamName::parse("ads"), EnvironmentName::parse("prod"));
        Attributes { team: team.ok(), environment: environment.ok(), ..Attributes::default() }
    }

    #[test]
    fn a_call_that_all_admit_is_settled_once_last_room_first() {
        let diary = EventLog::default();
        let rooms = ["a", "b"].map(|name| filter(name, || Decision::Admitted, &diary));
        let chain = FilterChain::new(rooms.to_vec()).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), ChainStep::Admitted));
        chain.complete(&mut call, &outcome(EndReason::Answered));
        chain.complete(&mut call, &outcome(EndReason::Answered));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle b answered", "settle a answered"]);
    }

    #[test]
    fn a_refusal_stops_the_call_and_settles_only_the_rooms_before() {
        let diary = EventLog::default();
        let chain = FilterChain::new(vec![
            filter("a", || Decision::Admitted, &diary),
            filter("b", || Decision::Refused(no()), &diary),
            filter("c", || Decision::Admitted, &diary),
        ]);
        let (chain, mut call) = (chain.unwrap(), call());
        assert!(matches!(chain.admit(&mut call), ChainStep::Refused(refusal) if refusal == no()));
        chain.complete(&mut call, &outcome(EndReason::Refused));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle a refused"]);
    }

    #[test]
    fn a_wait_that_ends_well_fills_slots_and_goes_on_with_the_next_room() {
        let diary = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::ready(Ok(slots()))));
        let next = filter("b", || Decision::Admitted, &diary);
        let chain = FilterChain::new(vec![filter("a", slow, &diary), next]).unwrap();
        let mut call = call();
        let ChainStep::Pending(wait) = chain.admit(&mut call) else { panic!("a lets it wait") };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = pin!(wait).poll(&mut context) else { panic!("it is ready") };
        assert!(matches!(chain.resume(&mut call, answer), ChainStep::Admitted));
        assert_eq!(call.team().unwrap().as_str(), "ads");
        chain.complete(&mut call, &outcome(EndReason::Answered));
        let expected = ["admit a", "admit b", "settle b answered", "settle a answered"];
        assert_eq!(pages(&diary), expected);
    }

    #[test]
    fn a_client_that_leaves_during_a_wait_settles_only_the_rooms_that_had_admitted() {
        let diary = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::pending()));
        let first = filter("a", || Decision::Admitted, &diary);
        let chain = FilterChain::new(vec![first, filter("b", slow, &diary)]).unwrap();
        let mut call = call();
        let ChainStep::Pending(wait) = chain.admit(&mut call) else { panic!("b lets it wait") };
        drop(wait);
        chain.complete(&mut call, &outcome(EndReason::Cancelled));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle a cancelled"]);
    }

    #[test]
    fn a_wait_that_ends_in_a_refusal_counts_as_one() {
        let diary = EventLog::default();
        let slow = || Decision::Pending(PendingDecision::new(std::future::ready(Err(no()))));
        let chain = FilterChain::new(vec![filter("a", slow, &diary)]).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), ChainStep::Pending(_)));
        let step = chain.resume(&mut call, Err(no()));
        assert!(matches!(step, ChainStep::Refused(refusal) if refusal == no()));
        chain.complete(&mut call, &outcome(EndReason::Refused));
        assert_eq!(pages(&diary), ["admit a"]);
    }

    #[test]
    fn a_room_that_breaks_its_promise_is_an_internal_refusal_and_not_a_call_gone_astray() {
        let chain = FilterChain::new(vec![idle("liar", &[], BOTH)]).unwrap();
        let ChainStep::Refused(refusal) = chain.admit(&mut call()) else { panic!("must refuse") };
        assert_eq!((refusal.code, refusal.label), (Code::Internal, "chain.unfilled"));
    }

    #[test]
    fn the_contract_is_checked_when_the_chain_is_built() {
        let fault = |rooms| FilterChain::new(rooms).unwrap_err().to_string();
        let team = || idle("team", &[], BOTH);
        let limit = || idle("limit", &[Attribute::Team], &[]);
        assert_eq!(fault(vec![team(), team()]), "team stands in the chain twice");
        assert_eq!(fault(vec![limit(), team()]), "limit needs the team: put team before limit");
        assert_eq!(
            fault(vec![limit()]),
            "limit needs the team, and no filter of the chain finds it"
        );
        assert_eq!(
            fault(vec![team(), idle("claims", &[], &[Attribute::Team])]),
            "claims and team both decide the team: keep one"
        );
        assert!(FilterChain::new(vec![team(), limit()]).is_ok());
        assert_eq!(FilterChain::new(vec![]).unwrap().first_unprovided(BOTH), Some(Attribute::Team));
        assert_eq!(FilterChain::new(vec![team()]).unwrap().first_unprovided(BOTH), None);
    }
}
