//! Team: to which team, and to which of its environments, a call belongs.
//!
//! Metadata wins over the host that the client dialled, and that host over the defaults. Each half
//! is decided for itself, so that a call may take its team from the host and name another
//! environment.
//!
//! Where teams have members, a call goes to no team but its caller's own; a caller who has but one
//! need not name it.
//!
//! Must never lead a call to a team that nobody named: a host that is not listed says nothing, and
//! an unknown name is a refusal and never a reason to fall back on a default.

mod authority;
mod denial;
mod find;
mod membership;
mod said;
mod settings;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityFault, HOST_MAX, host_of};
pub use denial::{ENVIRONMENT, TEAM};
pub use find::Team;
pub use settings::{Members, Reveal, Settings};

use crate::{Admission, Call, Filter, Identity, Refusal, Slot, Slots, TeamName};

/// The name of this room in config.
pub const NAME: &str = "team";

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
        let slots = Slots::from(self.find(call, self.caller(call)?).map_err(Refusal::from)?);
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
        self.recheck_place(call, self.caller(call)?).map_err(Refusal::from)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let caller = self.caller(call).ok()?;
        self.find(call, caller).ok().map(|found| found.to_string())
    }
}
