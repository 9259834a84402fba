//! The rooms in their order: who is asked first, and who hears the end.
//!
//! Building a chain checks its contract, so that no room ever misses a slot at run time. A call
//! goes through with [`Chain::admit`], and after a wait with [`Chain::resume`]; when it has ended,
//! [`Chain::settle`] tells exactly the rooms that admitted it, last one first, once.
//!
//! Must never happen here: an allocation for a call that no room lets wait.

use crate::{Admission, Answer, Call, Code, Filter, Outcome, Refusal, Revoked, Slot, Slots, Wait};
use std::{fmt, rc::Rc, sync::Arc, time::SystemTime};

/// The rooms in the order in which a call passes them. A clone shares the rooms.
#[derive(Clone)]
pub struct Chain {
    rooms: Arc<[Arc<dyn Filter>]>,
}

/// How far a call has come.
#[derive(Debug)]
pub enum Step {
    /// Every room has admitted the call.
    Admitted,
    /// A room refused it. The rooms before still expect [`Chain::settle`].
    Refused(Refusal),
    /// A room needs time: poll this to its answer, then [`Chain::resume`]. Whoever does not want to
    /// wait any longer drops it and settles the call.
    Waiting(Wait),
}

/// What one room made of a call, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The room.
    pub room: &'static str,
    /// Its own sentence, if it has one.
    pub sentence: Option<String>,
    /// What it found in the call, and what it expects.
    pub details: Vec<String>,
    /// `Ok` when it admitted the call or would have let it wait.
    pub verdict: Result<(), Refusal>,
}

/// Why a list of rooms is no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The same room stands twice.
    Twice {
        /// The room.
        room: &'static str,
    },
    /// A room needs a slot that no room before it fills.
    Unfilled {
        /// The room that needs it.
        room: &'static str,
        /// What it needs.
        slot: Slot,
        /// A room further down that would fill it.
        later: Option<&'static str>,
    },
    /// Two rooms fill the same slot.
    FilledTwice {
        /// The room that comes second.
        room: &'static str,
        /// The slot.
        slot: Slot,
        /// The room that fills it already.
        earlier: &'static str,
    },
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { room } => write!(f, "{room} stands in the chain twice"),
            Self::Unfilled { room, slot, later: Some(later) } => {
                write!(f, "{room} needs the {}: put {later} before {room}", slot.name())
            }
            Self::Unfilled { room, slot, later: None } => {
                write!(f, "{room} needs the {}, and no filter of the chain finds it", slot.name())
            }
            Self::FilledTwice { room, slot, earlier } => {
                write!(f, "{room} and {earlier} both decide the {}: keep one", slot.name())
            }
        }
    }
}

impl std::error::Error for ChainFault {}

impl Chain {
    /// Builds a chain from rooms in their order.
    ///
    /// # Errors
    /// The first breach of the contract: a room twice, a slot needed too early, a slot filled
    /// twice.
    pub fn new(rooms: Vec<Arc<dyn Filter>>) -> Result<Self, ChainFault> {
        for (index, room) in rooms.iter().enumerate() {
            let (before, after) = (rooms.iter().take(index), rooms.iter().skip(index + 1));
            let name = room.name();
            if before.clone().any(|other| other.name() == name) {
                return Err(ChainFault::Twice { room: name });
            }
            for &slot in room.needs() {
                if !before.clone().any(|other| other.fills().contains(&slot)) {
                    let later = after.clone().find(|other| other.fills().contains(&slot));
                    let later = later.map(|other| other.name());
                    return Err(ChainFault::Unfilled { room: name, slot, later });
                }
            }
            for &slot in room.fills() {
                if let Some(earlier) = before.clone().find(|other| other.fills().contains(&slot)) {
                    let earlier = earlier.name();
                    return Err(ChainFault::FilledTwice { room: name, slot, earlier });
                }
            }
        }
        Ok(Self { rooms: rooms.into() })
    }

    /// The names of the rooms, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rooms.iter().map(|room| room.name())
    }

    /// The first slot of these that no room of this chain fills.
    pub fn lacks(&self, slots: &[Slot]) -> Option<Slot> {
        let filled = |slot: &&Slot| self.rooms.iter().any(|room| room.fills().contains(slot));
        slots.iter().find(|slot| !filled(slot)).copied()
    }

    /// Leads a call through the rooms, from the one where it stands.
    pub fn admit(&self, call: &mut Call) -> Step {
        while let Some(room) = self.rooms.get(call.admitted) {
            match room.admit(call) {
                Admission::Admitted => {}
                Admission::Refused(refusal) => return Step::Refused(refusal),
                Admission::Wait(wait) => return Step::Waiting(wait),
            }
            if let Err(refusal) = pass(&**room, call) {
                return Step::Refused(refusal);
            }
        }
        Step::Admitted
    }

    /// Decides again about a call that this chain, or an earlier one, has admitted.
    ///
    /// # Errors
    /// The refusal that a new call would get.
    pub fn recheck(&self, call: &Call, wall: SystemTime) -> Result<Option<Rc<Revoked>>, Refusal> {
        let mut again = call.again(wall);
        self.rooms.iter().try_for_each(|room| room.recheck(&mut again))?;
        Ok(again.slots().revoked.clone())
    }

    /// The same for a call that this very chain has admitted or rechecked: only what depends on
    /// time or on keys.
    ///
    /// # Errors
    /// As for [`Chain::recheck`].
    pub fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        self.rooms.iter().try_for_each(|room| room.recheck_time(call, wall))
    }

    /// Goes on with the answer of the room that let the call wait.
    pub fn resume(&self, call: &mut Call, answer: Answer) -> Step {
        let Some(room) = self.rooms.get(call.admitted) else {
            return Step::Admitted;
        };
        let verdict = answer.and_then(|found: Slots| {
            call.fill(found);
            pass(&**room, call)
        });
        match verdict {
            Ok(()) => self.admit(call),
            Err(refusal) => Step::Refused(refusal),
        }
    }

    /// Tells the rooms that admitted the call how it ended, last one first. A second time it tells
    /// nobody.
    pub fn settle(&self, call: &mut Call, outcome: &Outcome) {
        let admitted = std::mem::take(&mut call.admitted);
        self.rooms.iter().take(admitted).rev().for_each(|room| room.settle(call, outcome));
    }

    /// What each room makes of a call, up to the first that refuses or would have to wait.
    pub fn explain(&self, call: &mut Call) -> Vec<Account> {
        let mut accounts = Vec::new();
        while let Some(room) = self.rooms.get(call.admitted) {
            let (sentence, details) = (room.explain(call), room.details(call));
            let (verdict, ended) = match room.admit(call) {
                Admission::Admitted => match pass(&**room, call) {
                    Ok(()) => (Ok(()), false),
                    Err(refusal) => (Err(refusal), true),
                },
                Admission::Refused(refusal) => (Err(refusal), true),
                Admission::Wait(_) => (Ok(()), true),
            };
            accounts.push(Account { room: room.name(), sentence, details, verdict });
            if ended {
                break;
            }
        }
        accounts
    }
}

/// Counts a room's admission, once the room has kept its promise about slots.
fn pass(room: &dyn Filter, call: &mut Call) -> Result<(), Refusal> {
    call.admitted = call.admitted.saturating_add(1);
    match room.fills().iter().find(|slot| !call.slots().is_full(**slot)) {
        None => Ok(()),
        Some(slot) => {
            let message = format!("{} admitted the call without its {}", room.name(), slot.name());
            Err(Refusal::new(Code::Internal, "chain.unfilled", message))
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;
    use crate::{Ending, EnvironmentName, Method, TeamName, call::Listed};
    use std::{
        pin::pin,
        rc::Rc,
        sync::Mutex,
        task::{Context, Poll, Waker},
        time::{Duration, Instant},
    };

    type Diary = Arc<Mutex<Vec<String>>>;

    struct Room {
        name: &'static str,
        needs: &'static [Slot],
        fills: &'static [Slot],
        says: fn() -> Admission,
        diary: Diary,
    }

    impl Filter for Room {
        fn name(&self) -> &'static str {
            self.name
        }
        fn needs(&self) -> &'static [Slot] {
            self.needs
        }
        fn fills(&self) -> &'static [Slot] {
            self.fills
        }
        fn admit(&self, _call: &mut Call) -> Admission {
            self.diary.lock().unwrap().push(format!("admit {}", self.name));
            (self.says)()
        }
        fn settle(&self, _call: &Call, outcome: &Outcome) {
            let ending = outcome.how.label();
            self.diary.lock().unwrap().push(format!("settle {} {ending}", self.name));
        }
    }

    const BOTH: &[Slot] = &[Slot::Team, Slot::Environment];

    fn room(name: &'static str, says: fn() -> Admission, diary: &Diary) -> Arc<dyn Filter> {
        Arc::new(Room { name, needs: &[], fills: &[], says, diary: diary.clone() })
    }

    fn idle(name: &'static str, needs: &'static [Slot], fills: &'static [Slot]) -> Arc<dyn Filter> {
        let diary = Diary::default();
        Arc::new(Room { name, needs, fills, says: || Admission::Admitted, diary })
    }

    fn call() -> Call {
        let metadata = Rc::new(Listed::new("h:1"));
        Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now())
    }

    fn outcome(how: Ending) -> Outcome {
        Outcome { code: Code::Ok, duration: Duration::ZERO, octets_up: 0, octets_down: 0, how }
    }

    fn pages(diary: &Diary) -> Vec<String> {
        std::mem::take(&mut *diary.lock().unwrap())
    }

    fn no() -> Refusal {
        Refusal::new(Code::PermissionDenied, "b.no", "no")
    }

    fn slots() -> Slots {
        let (team, environment) = (TeamName::parse("ads"), EnvironmentName::parse("prod"));
        Slots { team: team.ok(), environment: environment.ok(), ..Slots::default() }
    }

    #[test]
    fn a_call_that_all_admit_is_settled_once_last_room_first() {
        let diary = Diary::default();
        let rooms = ["a", "b"].map(|name| room(name, || Admission::Admitted, &diary));
        let chain = Chain::new(rooms.to_vec()).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), Step::Admitted));
        chain.settle(&mut call, &outcome(Ending::Answered));
        chain.settle(&mut call, &outcome(Ending::Answered));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle b answered", "settle a answered"]);
    }

    #[test]
    fn a_refusal_stops_the_call_and_settles_only_the_rooms_before() {
        let diary = Diary::default();
        let chain = Chain::new(vec![
            room("a", || Admission::Admitted, &diary),
            room("b", || Admission::Refused(no()), &diary),
            room("c", || Admission::Admitted, &diary),
        ]);
        let (chain, mut call) = (chain.unwrap(), call());
        assert!(matches!(chain.admit(&mut call), Step::Refused(refusal) if refusal == no()));
        chain.settle(&mut call, &outcome(Ending::Refused));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle a refused"]);
    }

    #[test]
    fn a_wait_that_ends_well_fills_slots_and_goes_on_with_the_next_room() {
        let diary = Diary::default();
        let slow = || Admission::Wait(Wait::new(std::future::ready(Ok(slots()))));
        let next = room("b", || Admission::Admitted, &diary);
        let chain = Chain::new(vec![room("a", slow, &diary), next]).unwrap();
        let mut call = call();
        let Step::Waiting(wait) = chain.admit(&mut call) else { panic!("a lets it wait") };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = pin!(wait).poll(&mut context) else { panic!("it is ready") };
        assert!(matches!(chain.resume(&mut call, answer), Step::Admitted));
        assert_eq!(call.team().unwrap().as_str(), "ads");
        chain.settle(&mut call, &outcome(Ending::Answered));
        let expected = ["admit a", "admit b", "settle b answered", "settle a answered"];
        assert_eq!(pages(&diary), expected);
    }

    #[test]
    fn a_client_that_leaves_during_a_wait_settles_only_the_rooms_that_had_admitted() {
        let diary = Diary::default();
        let slow = || Admission::Wait(Wait::new(std::future::pending()));
        let first = room("a", || Admission::Admitted, &diary);
        let chain = Chain::new(vec![first, room("b", slow, &diary)]).unwrap();
        let mut call = call();
        let Step::Waiting(wait) = chain.admit(&mut call) else { panic!("b lets it wait") };
        drop(wait);
        chain.settle(&mut call, &outcome(Ending::Cancelled));
        assert_eq!(pages(&diary), ["admit a", "admit b", "settle a cancelled"]);
    }

    #[test]
    fn a_wait_that_ends_in_a_refusal_counts_as_one() {
        let diary = Diary::default();
        let slow = || Admission::Wait(Wait::new(std::future::ready(Err(no()))));
        let chain = Chain::new(vec![room("a", slow, &diary)]).unwrap();
        let mut call = call();
        assert!(matches!(chain.admit(&mut call), Step::Waiting(_)));
        let step = chain.resume(&mut call, Err(no()));
        assert!(matches!(step, Step::Refused(refusal) if refusal == no()));
        chain.settle(&mut call, &outcome(Ending::Refused));
        assert_eq!(pages(&diary), ["admit a"]);
    }

    #[test]
    fn a_room_that_breaks_its_promise_is_an_internal_refusal_and_not_a_call_gone_astray() {
        let chain = Chain::new(vec![idle("liar", &[], BOTH)]).unwrap();
        let Step::Refused(refusal) = chain.admit(&mut call()) else { panic!("must refuse") };
        assert_eq!((refusal.code, refusal.label), (Code::Internal, "chain.unfilled"));
    }

    #[test]
    fn the_contract_is_checked_when_the_chain_is_built() {
        let fault = |rooms| Chain::new(rooms).unwrap_err().to_string();
        let team = || idle("team", &[], BOTH);
        let limit = || idle("limit", &[Slot::Team], &[]);
        assert_eq!(fault(vec![team(), team()]), "team stands in the chain twice");
        assert_eq!(fault(vec![limit(), team()]), "limit needs the team: put team before limit");
        assert_eq!(
            fault(vec![limit()]),
            "limit needs the team, and no filter of the chain finds it"
        );
        assert_eq!(
            fault(vec![team(), idle("claims", &[], &[Slot::Team])]),
            "claims and team both decide the team: keep one"
        );
        assert!(Chain::new(vec![team(), limit()]).is_ok());
        assert_eq!(Chain::new(vec![]).unwrap().lacks(BOTH), Some(Slot::Team));
        assert_eq!(Chain::new(vec![team()]).unwrap().lacks(BOTH), None);
    }
}
