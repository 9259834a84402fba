//! What the room is built from: which teams there are, and what a call may leave unsaid.

use crate::{
    EnvironmentName, TeamName,
    team::{Authority, Removed, Unserved, UnservedReason},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Every team, and how a call that does not name one finds its own.
///
/// Whoever fills this in has checked that authorities and defaults name environments that exist:
/// the room asks again, and refuses calls that are led nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Each team with its environments.
    pub teams: BTreeMap<TeamName, BTreeSet<EnvironmentName>>,
    /// The environment that a host stands for.
    pub authorities: BTreeMap<Authority, (TeamName, EnvironmentName)>,
    /// The team of a call that names none, by metadata or by host.
    pub default_team: Option<TeamName>,
    /// The environment of a call that names none, by metadata or by host.
    pub default_environment: Option<EnvironmentName>,
    /// Whether a refusal lists the teams there are.
    pub list_teams: ListTeams,
    /// Who belongs to each team; without it nobody is asked who he is, and every team is
    /// everybody's.
    pub members: Option<BTreeMap<TeamName, Members>>,
    /// What reloads have taken away a short while ago, the latest last.
    pub removed: Vec<Arc<Removed>>,
    /// Teams that are known and not served.
    pub unserved: BTreeMap<TeamName, Unserved>,
    /// Hosts that stand for no environment now, and why: a call that one of them would lead
    /// anywhere is refused, and not led to the defaults.
    pub unserved_authorities: BTreeMap<Authority, UnservedReason>,
}

/// Who belongs to a team, apart from those whose proof itself names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Users by their names.
    pub users: BTreeSet<String>,
    /// Everybody in these groups.
    pub groups: BTreeSet<String>,
}

/// Whether callers may learn which teams there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListTeams {
    /// Refusals name no team but the one that the caller asked for.
    #[default]
    Never,
    /// Refusals list all teams.
    Always,
}
