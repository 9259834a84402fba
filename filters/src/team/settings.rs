//! The settings of the filter: the teams, their hosts and members, and the defaults.

use crate::{
    EnvironmentName, TeamName,
    team::{Authority, Removed, Unserved, UnservedReason},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The teams, and the rules for calls that do not name one.
///
/// The caller has checked that hosts and defaults name existing environments; the filter refuses
/// calls to environments that do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The environments of each team.
    pub teams: BTreeMap<TeamName, BTreeSet<EnvironmentName>>,
    /// The environment of each host.
    pub authorities: BTreeMap<Authority, (TeamName, EnvironmentName)>,
    /// The team of a call without one in metadata or host.
    pub default_team: Option<TeamName>,
    /// The environment of a call without one in metadata or host.
    pub default_environment: Option<EnvironmentName>,
    /// Whether refusals list the existing teams.
    pub list_teams: ListTeams,
    /// The members of each team; `None` if every caller belongs to every team, and callers are not
    /// authenticated.
    pub members: Option<BTreeMap<TeamName, Members>>,
    /// Teams, environments and members that recent reloads have removed, the latest last.
    pub removed: Vec<Arc<Removed>>,
    /// Teams that are known but not served.
    pub unserved: BTreeMap<TeamName, Unserved>,
    /// Hosts that are known but not served: a call that depends on one is refused instead of
    /// falling back to a default.
    pub unserved_authorities: BTreeMap<Authority, UnservedReason>,
}

/// The members of a team, in addition to callers whose credential names the team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// User names.
    pub users: BTreeSet<String>,
    /// Groups: all their users are members.
    pub groups: BTreeSet<String>,
}

/// Whether refusals list the existing teams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListTeams {
    /// Refusals contain only the requested team.
    #[default]
    Never,
    /// Refusals list all teams.
    Always,
}
