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
mod cert_key;
mod cert_validity;
mod credential;
mod defaults;
mod diagnostics;
mod files;
mod filter_section;
pub mod keys;
mod main_file;
mod members;
mod model;
mod network;
mod parse;
mod pem;
mod renamed;
mod secrets;
mod section;
mod sections;
mod server_certificate;
mod teams;
#[cfg(test)]
mod tests;
mod tls;
mod user_prefixes;
mod watch;
mod yaml;

pub use address::{DriverAddress, Host};
pub use authorities::ClientAuthorities;
pub use cert_validity::{CertUse, CertValidity, CertWarning, ValidityState};
pub use diagnostics::ConfigError;
pub use files::{FILE_MAX, TEAM_FILES_MAX};
pub use main_file::{LoadContext, LoadResult, read};
pub use model::{
    Config, Drain, Environment, Filters, Format, Level, Limits, Listen, Log, Team, Timeouts,
    TokenLeeway, Workers,
};
pub use network::Network;
pub use teams::{ErrorsByTeam, Served, TeamErrors};
pub use tls::Tls;
pub use watch::{FileWatcher, WatchedFiles};

use std::path::Path;

/// Reads `sconce.yaml` and the team files that it leads to.
///
/// # Errors
/// All that is wrong in all files, by file and line.
pub fn load(file: &Path) -> Result<Config, Vec<ConfigError>> {
    read(file, &LoadContext::default(), None).into_result()
}

/// A whole number and its unit, as in the files: `500ms`, `5s`, `2m`, `1h`.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse::duration(text).map_err(|fault| fault.help)
}
