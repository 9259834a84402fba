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
//! an unknown name is a refusal and never a reason to fall back on a default. So is the name or the
//! host of a team that is known and not served, since its file has an error or is gone.

mod authority;
mod denial;
mod find;
mod membership;
mod removed;
mod room;
mod said;
mod settings;
#[cfg(test)]
mod tests;
mod unserved;

pub use authority::{Authority, AuthorityFault, HOST_MAX, host_of};
pub use denial::{ENVIRONMENT, TEAM};
pub use find::Team;
pub use removed::{Loss, Removed};
pub use settings::{Members, Reveal, Settings};
pub use unserved::{Reason, Unserved};

/// The name of this room in config.
pub const NAME: &str = "team";
