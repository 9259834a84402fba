//! `team`: finds the team and the environment of a call.
//!
//! Metadata takes precedence over the host that the client dialled (`:authority`), and the host
//! over the defaults. Team and environment are resolved separately: a call may take its team from
//! the host and name another environment.
//!
//! If teams have members, a call is routed only to a team of its caller; a caller with one team
//! need not name it.
//!
//! Must never route a call to a team that nothing names: a host that is not listed names no team,
//! and an unknown name is refused instead of falling back to a default. The same applies to the
//! name or host of a team that is known but not served, because its file has an error or was
//! removed.

mod authority;
mod error;
mod factory;
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
pub use factory::Factory;
pub use removed::{RemovalKind, Removed};
pub use resolve::Team;
pub use settings::{ListTeams, Members, Settings};
pub use unserved::{Unserved, UnservedReason};

/// The name in config.
pub const NAME: &str = "team";
