//! Refusals for teams and hosts that are known but not served.
//!
//! Must never tell a former member of a removed team that the caller does not belong to it.

#[cfg(test)]
mod tests;

use super::{
    Authority, Members,
    error::{ENVIRONMENT, OPERATORS, TEAM, TeamError},
    header_value::read_header,
    membership::Memberships,
};
use crate::{Identity, Metadata, TeamName};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A team that is known but not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The reason.
    pub reason: UnservedReason,
    /// Its members, as far as they are known.
    pub members: Members,
}

/// Why a team or a host is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnservedReason {
    /// Its configuration has an error, and there is no earlier valid one.
    Misconfigured,
    /// A reload has removed it.
    Removed,
}

impl UnservedReason {
    /// The message to a caller of the team.
    pub(super) fn team_message(self, team: &TeamName) -> String {
        match self {
            Self::Misconfigured => format!(
                "team '{team}' cannot be served: its configuration here has an error; your URL may \
                 be right: ask {OPERATORS} to correct the team's file"
            ),
            Self::Removed => format!(
                "team '{team}' is not served here any more: it was removed from the configuration; \
                 ask {OPERATORS}"
            ),
        }
    }

    /// The message to a caller who dialled the host.
    pub(super) fn authority_message(self) -> String {
        let why = match self {
            Self::Misconfigured => "cannot be served: the configuration has an error there",
            Self::Removed => "stood for a team that was removed from the configuration",
        };
        format!(
            "the host of this address {why}; ask {OPERATORS}, or name a team of yours: add \
             ;{TEAM}=<team>;{ENVIRONMENT}=<environment> to the sc:// URL"
        )
    }
}

/// All teams and hosts that are not served. Only the configuration adds names, so that an unkeyed
/// hash is safe.
#[derive(Debug)]
pub(super) struct UnservedIndex {
    teams: FxHashMap<TeamName, UnservedReason>,
    authorities: FxHashMap<Authority, UnservedReason>,
    /// The former members of the teams.
    former_members: Memberships,
}

impl UnservedIndex {
    pub(super) fn new(
        teams: BTreeMap<TeamName, Unserved>,
        authorities: BTreeMap<Authority, UnservedReason>,
    ) -> Self {
        let reasons = teams.iter().map(|(team, it)| (team.clone(), it.reason)).collect();
        let former =
            Memberships::from_teams(teams.into_iter().map(|(team, it)| (team, it.members)));
        Self {
            teams: reasons,
            authorities: BTreeMap::into_iter(authorities).collect(),
            former_members: former,
        }
    }

    /// Refuses a call to a team that is not served, if the caller may know that it existed. If the
    /// team's configuration has an error, its members are unknown, so that every caller may.
    pub(super) fn check(
        &self,
        requested: &str,
        caller: Option<&Identity>,
    ) -> Result<(), TeamError> {
        let Some((team, reason)) = self.teams.get_key_value(requested) else { return Ok(()) };
        let was_member = |caller: &Identity| {
            let is_named = caller.teams().iter().any(|name| name == team.as_str());
            is_named || self.former_members.teams_listing(caller).any(|it| it == team)
        };
        match reason {
            UnservedReason::Removed if !caller.is_none_or(was_member) => Ok(()),
            UnservedReason::Removed | UnservedReason::Misconfigured => {
                Err(unserved_error((team, reason)))
            }
        }
    }

    /// Refuses a call that depends on a host that is not served.
    pub(super) fn check_authority(
        &self,
        host: &str,
        metadata: &dyn Metadata,
    ) -> Result<(), TeamError> {
        let Some(reason) = self.authorities.get(host) else { return Ok(()) };
        let is_given = |header| read_header(metadata, header).map(|value| value.is_some());
        match is_given(TEAM)? && is_given(ENVIRONMENT)? {
            true => Ok(()),
            false => Err(TeamError::AuthorityUnserved { reason: *reason }),
        }
    }

    /// The error for a caller who belongs to no served team.
    pub(super) fn no_team(&self, caller: Option<&Identity>) -> TeamError {
        let named = |caller: &Identity| {
            caller.teams().iter().find_map(|name| self.teams.get_key_value(&**name))
        };
        let listed = |caller: &Identity| {
            self.former_members
                .teams_listing(caller)
                .find_map(|team| self.teams.get_key_value(team))
        };
        if let Some(found) = caller.and_then(|caller| listed(caller).or_else(|| named(caller))) {
            return unserved_error(found);
        }
        let members_unknown =
            self.teams.values().any(|reason| *reason == UnservedReason::Misconfigured);
        TeamError::NoTeam { members_unknown }
    }
}

fn unserved_error((team, reason): (&TeamName, &UnservedReason)) -> TeamError {
    TeamError::TeamUnserved { team: team.clone(), reason: *reason }
}
