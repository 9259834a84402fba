//! Configuration files, parsed and validated into a [`Config`].
//!
//! Steps: text to a tree with line numbers (`yaml`), the tree to validated values (`section`,
//! `parse`, `bounds`), and those, with the team files, to a [`Config`]. Each error is a
//! [`ConfigError`], and one read reports all of them. A warning is a problem that does not make the
//! config invalid.
//!
//! Must never happen here: a partly valid config, or a read that stops at the first error.

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

/// Reads the main file and the team files.
///
/// # Errors
/// All errors in all files, by file and line.
pub fn load(file: &Path) -> Result<Config, Vec<ConfigError>> {
    read(file, &LoadContext::default(), None).into_result()
}

/// Parses a duration, a whole number with a unit: `500ms`, `5s`, `2m`, `1h`.
///
/// # Errors
/// The help for the user.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse::duration(text).map_err(|problem| problem.help)
}
