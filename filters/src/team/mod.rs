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
mod error;
mod filter;
mod header_value;
mod membership;
mod removed;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod unserved;

pub use authority::{Authority, AuthorityError, HOST_MAX, host_of};
pub use error::{ENVIRONMENT, TEAM};
pub use removed::{RemovalKind, Removed};
pub use resolve::Team;
pub use settings::{ListTeams, Members, Settings};
pub use unserved::{Unserved, UnservedReason};

/// The name of this room in config.
pub const NAME: &str = "team";
