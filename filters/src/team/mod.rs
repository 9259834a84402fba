//! Team: to which team, and to which of its environments, a call belongs.
//!
//! Metadata wins over the host that the client dialled, and that host over the defaults. Each half
//! is decided for itself, so that a call may take its team from the host and name another
//! environment.
//!
//! Must never lead a call to a team that nobody named: a host that is not listed says nothing, and
//! an unknown name is a refusal and never a reason to fall back on a default.

mod authority;
mod denial;
mod find;
mod said;
mod settings;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityFault, HOST_MAX, host_of};
pub use denial::{ENVIRONMENT, TEAM};
pub use find::Team;
pub use settings::{Reveal, Settings};

use crate::{Admission, Call, Filter, Refusal, Slot};

/// The name of this room in config.
pub const NAME: &str = "team";

impl Filter for Team {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fills(&self) -> &'static [Slot] {
        &[Slot::Team, Slot::Environment]
    }

    fn admit(&self, call: &mut Call) -> Admission {
        let found = self.find(call).map_err(Refusal::from);
        Admission::from(found.map(|found| call.fill(found.into())))
    }

    fn explain(&self, call: &Call) -> Option<String> {
        self.find(call).ok().map(|found| found.to_string())
    }
}
