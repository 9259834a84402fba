//! The members of teams, indexed by user and by group.
//!
//! Must not search all teams for a caller: there may be thousands of teams, and hundreds of groups
//! of one caller.

use super::Members;
use crate::{Identity, TeamName};
use rustc_hash::FxHashMap;

/// The teams of each user and of each group. Only the configuration adds names, so that an unkeyed
/// hash is safe.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    users: FxHashMap<String, Vec<TeamName>>,
    groups: FxHashMap<String, Vec<TeamName>>,
}

impl Memberships {
    /// Indexes the members of these teams.
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

    /// The teams that list a caller, with duplicates.
    pub(super) fn teams_listing(&self, caller: &Identity) -> impl Iterator<Item = &TeamName> {
        let groups = caller.groups().iter().filter_map(|group| self.groups.get(group));
        self.users.get(caller.user()).into_iter().chain(groups).flatten()
    }
}
