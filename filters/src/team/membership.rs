//! Membership: which teams list a caller, found by the names that the caller has.
//!
//! Must never ask every team about a caller: there may be thousands of them, and of groups
//! hundreds.

use super::Members;
use crate::{Identity, TeamName};
use rustc_hash::FxHashMap;

/// The teams of each user and of each group. Nobody but the configuration puts names in here: a
/// quick hash cannot be flooded.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    users: FxHashMap<String, Vec<TeamName>>,
    groups: FxHashMap<String, Vec<TeamName>>,
}

impl Memberships {
    /// Those of teams with their members.
    pub(super) fn from_teams(teams: impl IntoIterator<Item = (TeamName, Members)>) -> Self {
        let mut all = Self::default();
        for (team, Members { users, groups }) in teams {
            for (names, into) in [(users, &mut all.users), (groups, &mut all.groups)] {
                for name in names {
                    into.entry(name).or_default().push(team.clone());
                }
            }
        }
        all
    }

    /// The teams that list a caller; one that does so more than once comes as often.
    pub(super) fn teams_listing(&self, caller: &Identity) -> impl Iterator<Item = &TeamName> {
        let groups = caller.groups().iter().filter_map(|group| self.groups.get(group));
        self.users.get(caller.user()).into_iter().chain(groups).flatten()
    }
}
