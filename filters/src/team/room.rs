//! The room itself: it finds a call's place, and asks about it again.

use super::{NAME, Team};
use crate::{Admission, Call, Filter, Identity, Refusal, Slot, Slots, TeamName};
use std::time::SystemTime;

impl Team {
    /// Who calls, if that counts here.
    fn caller<'c>(&self, call: &'c Call) -> Result<Option<&'c Identity>, Refusal> {
        self.members.as_ref().map(|_| call.identity().map(|caller| &**caller)).transpose()
    }

    /// The team of a call that has no environment, if its caller may go there.
    fn team_alone(&self, call: &Call) -> Option<TeamName> {
        self.find_team(call, self.caller(call).ok()?).ok()
    }

    /// What it fills in: decided by metadata, and by who calls, which they prove. So once for all
    /// calls that share them.
    fn slots(&self, call: &Call) -> Result<Slots, Refusal> {
        let notes = call.metadata().notes();
        if let Some(noted) = notes.and_then(|notes| notes.read::<Slots>(&self.author)) {
            return Ok(Slots::clone(&noted));
        }
        let caller = self.caller(call)?;
        let slots = match self.find(call, caller) {
            Ok(found) => Slots::from(found),
            // Not noted: it depends on time.
            Err(denial) => return self.former_place(call, caller, denial.into()),
        };
        if let Some(notes) = notes {
            notes.write(&self.author, slots.clone());
        }
        Ok(slots)
    }
}

impl Filter for Team {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [Slot] {
        if self.members.is_some() { &[Slot::Identity] } else { &[] }
    }

    fn fills(&self) -> &'static [Slot] {
        &[Slot::Team, Slot::Environment]
    }

    fn admit(&self, call: &mut Call) -> Admission {
        match self.slots(call) {
            Ok(slots) => {
                call.fill(slots);
                Admission::Admitted
            }
            Err(refusal) => {
                // So that the log and the metrics know whose call it was.
                call.fill(Slots { team: self.team_alone(call), ..Slots::default() });
                Admission::Refused(refusal)
            }
        }
    }

    fn recheck(&self, call: &mut Call) -> Result<(), Refusal> {
        let caller = self.caller(call)?;
        let revoked = match self.recheck_place(call, caller) {
            Ok(()) => None,
            Err(denial) => Some(self.recheck_former_place(call, caller, denial.into())?),
        };
        call.set_revoked(revoked);
        Ok(())
    }

    fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        self.recheck_revoked(call, wall)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let caller = self.caller(call).ok()?;
        self.find(call, caller).ok().map(|found| found.to_string())
    }
}
