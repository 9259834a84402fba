//! Files that people write, checked into a plan that the proxy can trust.
//!
//! One way leads through here: text to a tree that knows its lines (`draft`), the tree to checked
//! values (`section`, `words`, `bounds`), and those, with the team files, to a [`Plan`]. Whatever
//! is wrong is a [`Complaint`], and all of them are told at once. What an operator should know
//! about a plan that is sound all the same is a warning, which stands beside the plan.
//!
//! Must never happen here: a plan that is half right, or a reading that ends at the first mistake.

mod address;
mod authenticate;
mod authorities;
pub mod bounds;
mod check;
mod complaint;
mod credential;
mod defaults;
mod draft;
mod folder;
pub mod keys;
mod members;
mod network;
mod pair;
mod parts;
mod pem;
mod plan;
mod secrets;
mod section;
mod server_certificate;
mod teams;
mod term;
#[cfg(test)]
mod tests;
mod tls;
mod users;
mod watch;
mod words;

pub use address::{DriverAddress, Host};
pub use authorities::Authorities;
pub use check::{Reading, read};
pub use complaint::Complaint;
pub use folder::{FILE_MAX, TEAM_FILES_MAX};
pub use network::Network;
pub use plan::{
    Drain, Environment, Format, Level, Limits, Listen, Log, Plan, Rooms, Slack, Team, Timeouts,
    Workers,
};
pub use teams::{Errors, Served, TeamErrors};
pub use term::{Concern, Standing, Term, Use};
pub use tls::Tls;
pub use watch::{Sources, Watch};

use crate::config::keys::Book;
use std::path::Path;

/// Reads `sconce.yaml` and the team files that it leads to.
///
/// # Errors
/// All that is wrong in all files, by file and line.
pub fn load(file: &Path) -> Result<Plan, Vec<Complaint>> {
    read(file, &Book::default(), None).whole()
}

/// A whole number and its unit, as in the files: `500ms`, `5s`, `2m`, `1h`.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    words::duration(text).map_err(|fault| fault.remedy)
}
