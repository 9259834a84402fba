//! The room itself: it finds a call's place, and asks about it again.

use super::{NAME, Team};
use crate::{Attribute, Attributes, Call, Decision, Filter, Identity, Refusal, TeamName};
use std::time::SystemTime;

impl Team {
    /// Who calls, if that counts here.
    fn caller<'c>(&self, call: &'c Call) -> Result<Option<&'c Identity>, Refusal> {
        self.members.as_ref().map(|_| call.identity().map(|caller| &**caller)).transpose()
    }

    /// The team of a call that has no environment, if its caller may go there.
    fn team_of_refused(&self, call: &Call) -> Option<TeamName> {
        self.resolve_team(call, self.caller(call).ok()?).ok()
    }

    /// What it fills in: decided by metadata, and by who calls, which they prove. So once for all
    /// calls that share them.
    fn resolve_attributes(&self, call: &Call) -> Result<Attributes, Refusal> {
        let notes = call.metadata().cache();
        if let Some(noted) = notes.and_then(|notes| notes.get::<Attributes>(&self.cache_key)) {
            return Ok(Attributes::clone(&noted));
        }
        let caller = self.caller(call)?;
        let slots = match self.resolve(call, caller) {
            Ok(found) => Attributes::from(found),
            // Not noted: it depends on time.
            Err(denial) => return self.resolve_removed(call, caller, denial.into()),
        };
        if let Some(notes) = notes {
            notes.insert(&self.cache_key, slots.clone());
        }
        Ok(slots)
    }
}

impl Filter for Team {
    fn name(&self) -> &'static str {
        NAME
    }

    fn requires(&self) -> &'static [Attribute] {
        if self.members.is_some() { &[Attribute::Identity] } else { &[] }
    }

    fn provides(&self) -> &'static [Attribute] {
        &[Attribute::Team, Attribute::Environment]
    }

    fn admit(&self, call: &mut Call) -> Decision {
        match self.resolve_attributes(call) {
            Ok(slots) => {
                call.set_attributes(slots);
                Decision::Admitted
            }
            Err(refusal) => {
                // So that the log and the metrics know whose call it was.
                call.set_attributes(Attributes {
                    team: self.team_of_refused(call),
                    ..Attributes::default()
                });
                Decision::Refused(refusal)
            }
        }
    }

    fn recheck(&self, call: &mut Call) -> Result<(), Refusal> {
        let caller = self.caller(call)?;
        let revoked = match self.recheck_route(call, caller) {
            Ok(()) => None,
            Err(denial) => Some(self.recheck_removed(call, caller, denial.into())?),
        };
        call.set_revoked(revoked);
        Ok(())
    }

    fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        self.recheck_revoked(call, wall)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let caller = self.caller(call).ok()?;
        self.resolve(call, caller).ok().map(|found| found.to_string())
    }
}
