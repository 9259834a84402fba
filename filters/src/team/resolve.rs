//! The decision: what a call says, what its host says, what the defaults say, in this order.

use super::{
    Authority, ListTeams, Removed, Settings,
    error::{ENVIRONMENT, ResolvedBy, TEAM, TeamError},
    header_value::{HeaderValue, read_header},
    host_of,
    membership::Memberships,
    unserved::UnservedIndex,
};
use crate::{
    Attributes, CacheKey, Call, EnvironmentName, Identity, Metadata, TeamName, name::NameError,
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Finds the team and the environment of a call.
#[derive(Debug)]
pub struct Team {
    pub(super) cache_key: CacheKey,
    /// Nobody but the configuration puts names in here: a quick hash cannot be flooded.
    teams: FxHashMap<TeamName, BTreeSet<EnvironmentName>>,
    authorities: FxHashMap<Authority, (TeamName, EnvironmentName)>,
    default_team: Option<TeamName>,
    default_environment: Option<EnvironmentName>,
    list_teams: ListTeams,
    pub(super) members: Option<Memberships>,
    pub(super) removed: Vec<Arc<Removed>>,
    unserved: UnservedIndex,
}

/// A team and an environment that exist, and what said so.
pub(super) struct Resolved {
    team: TeamName,
    team_by: ResolvedBy,
    environment: EnvironmentName,
    environment_by: ResolvedBy,
}

/// A team that exists, its environments, and what said so.
type KnownTeam<'t> = (&'t TeamName, &'t BTreeSet<EnvironmentName>, ResolvedBy);

impl Team {
    /// The room for these teams.
    pub fn new(settings: Settings) -> Self {
        let Settings { teams, members, unserved, removed, .. } = settings;
        let members = members.map(|mut members| {
            members.retain(|team, _| teams.contains_key(team));
            Memberships::from_teams(members)
        });
        Self {
            cache_key: CacheKey::new(),
            teams: BTreeMap::into_iter(teams).collect(),
            authorities: BTreeMap::into_iter(settings.authorities).collect(),
            default_team: settings.default_team,
            default_environment: settings.default_environment,
            list_teams: settings.list_teams,
            members,
            unserved: UnservedIndex::new(unserved, settings.unserved_authorities),
            removed,
        }
    }

    /// Where a call goes. `caller` must be there if the teams have members.
    pub(super) fn resolve(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<Resolved, TeamError> {
        let ((team, theirs, team_by), host) = self.resolve_team_and_host(call, caller)?;
        let (environment, environment_by) =
            self.resolve_environment(call.metadata(), host, (team, theirs))?;
        let (team, environment) = (team.clone(), environment.clone());
        Ok(Resolved { team, team_by, environment, environment_by })
    }

    /// The team of a call, whatever its environment is.
    pub(super) fn resolve_team(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<TeamName, TeamError> {
        self.resolve_team_and_host(call, caller).map(|((team, ..), _)| team.clone())
    }

    /// The team of a call, and the environment that the host which was dialled stands for.
    fn resolve_team_and_host(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<(KnownTeam<'_>, Option<&EnvironmentName>), TeamError> {
        let authority = call.authority();
        let dialled = host_of(&authority);
        let host = self.authorities.get(&*dialled);
        if host.is_none() {
            self.unserved.check_authority(&dialled, call.metadata())?;
        }
        let mine = caller.map(|caller| self.teams_of(caller));
        let (asked, by) =
            self.requested_team(call.metadata(), host.map(|(team, _)| team), mine.as_deref())?;
        let Some(asked) = asked else { return Err(self.unserved.no_team(caller)) };
        let (team, theirs, by) = self.lookup_team(&asked, by, (caller, mine.as_deref()))?;
        let host = host.filter(|(owner, _)| owner == team).map(|(_, environment)| environment);
        Ok(((team, theirs, by), host))
    }

    /// Whether the place that a call was admitted to is there still, and its caller in the team.
    /// That a new call would go elsewhere takes nothing away, unless this one's place is gone.
    pub(super) fn recheck_route(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<(), TeamError> {
        let Attributes { team: Some(team), environment: Some(environment), .. } = call.attributes()
        else {
            return Err(TeamError::RouteChanged);
        };
        let is_there = self.teams.get(team).is_some_and(|theirs| theirs.contains(environment));
        if is_there && caller.is_none_or(|caller| self.teams_of(caller).contains(team)) {
            return Ok(());
        }
        self.resolve(call, caller)?;
        Err(TeamError::RouteChanged)
    }

    /// The teams that a caller belongs to, by name.
    fn teams_of(&self, caller: &Identity) -> Vec<TeamName> {
        let listed = self.members.iter().flat_map(|members| members.teams_listing(caller));
        let named = caller.teams().iter().filter_map(|name| self.teams.get_key_value(&**name));
        let mut mine: Vec<_> = listed.chain(named.map(|(team, _)| team)).collect();
        mine.sort();
        mine.dedup();
        mine.into_iter().cloned().collect()
    }

    /// Which team a call asks for, and what says so; none if its caller belongs to none.
    fn requested_team(
        &self,
        metadata: &dyn Metadata,
        host: Option<&TeamName>,
        mine: Option<&[TeamName]>,
    ) -> Result<(Option<HeaderValue>, ResolvedBy), TeamError> {
        let of = |team: &TeamName| HeaderValue::from_bytes(team.as_str().as_bytes());
        let usual = self.default_team.as_ref();
        let usual = usual.filter(|team| mine.is_none_or(|mine| mine.contains(team)));
        match (read_header(metadata, TEAM)?, host, mine, usual) {
            (Some(asked), ..) => Ok((Some(asked), ResolvedBy::Metadata)),
            (None, Some(team), ..) => Ok((Some(of(team)), ResolvedBy::Authority)),
            (None, None, Some([only]), _) => Ok((Some(of(only)), ResolvedBy::Membership)),
            (None, None, _, Some(team)) => Ok((Some(of(team)), ResolvedBy::Default)),
            (None, None, None, None) => Err(TeamError::TeamMissing { teams: self.teams_to_list() }),
            (None, None, Some([]), None) => Ok((None, ResolvedBy::Membership)),
            (None, None, Some(mine), None) => {
                Err(TeamError::TeamAmbiguous { teams: mine.to_vec() })
            }
        }
    }

    fn lookup_team(
        &self,
        asked: &HeaderValue,
        by: ResolvedBy,
        (caller, mine): (Option<&Identity>, Option<&[TeamName]>),
    ) -> Result<KnownTeam<'_>, TeamError> {
        let known = asked.text().and_then(|asked| self.teams.get_key_value(asked));
        let theirs = known.filter(|(team, _)| mine.is_none_or(|mine| mine.contains(team)));
        if let Some((team, theirs)) = theirs {
            return Ok((team, theirs, by));
        }
        asked.text().map_or(Ok(()), |asked| self.unserved.check(asked, caller))?;
        check_name(TEAM, asked, |text| TeamName::parse(text).err())?;
        let asked = asked.escaped();
        Err(match mine {
            None => TeamError::TeamUnknown { requested: asked, by, teams: self.teams_to_list() },
            // Whether there is such a team is nothing to those who are not in it.
            Some([]) => self.unserved.no_team(caller),
            Some(mine) => TeamError::NotMember { requested: asked, by, teams: mine.to_vec() },
        })
    }

    fn resolve_environment<'s>(
        &'s self,
        metadata: &dyn Metadata,
        host: Option<&EnvironmentName>,
        (team, theirs): (&TeamName, &'s BTreeSet<EnvironmentName>),
    ) -> Result<(&'s EnvironmentName, ResolvedBy), TeamError> {
        let environments = || theirs.iter().cloned().collect();
        let of = |name: &EnvironmentName| HeaderValue::from_bytes(name.as_str().as_bytes());
        let only = theirs.first().filter(|_| theirs.len() == 1);
        let (asked, by) =
            match (read_header(metadata, ENVIRONMENT)?, host, &self.default_environment) {
                (Some(asked), _, _) => (asked, ResolvedBy::Metadata),
                (None, Some(name), _) => (of(name), ResolvedBy::Authority),
                (None, None, Some(name)) => (of(name), ResolvedBy::Default),
                (None, None, None) => match only {
                    Some(only) => return Ok((only, ResolvedBy::OnlyEnvironment)),
                    None => {
                        let (team, environments) = (team.clone(), environments());
                        return Err(TeamError::EnvironmentMissing { team, environments });
                    }
                },
            };
        match asked.text().and_then(|asked| theirs.get(asked)) {
            Some(environment) => Ok((environment, by)),
            None => {
                check_name(ENVIRONMENT, &asked, |text| EnvironmentName::parse(text).err())?;
                let (team, asked, environments) = (team.clone(), asked.escaped(), environments());
                Err(TeamError::EnvironmentUnknown { team, requested: asked, by, environments })
            }
        }
    }

    fn teams_to_list(&self) -> Vec<TeamName> {
        match self.list_teams {
            ListTeams::Never => Vec::new(),
            ListTeams::Always => {
                let mut all: Vec<_> = self.teams.keys().cloned().collect();
                all.sort();
                all
            }
        }
    }
}

/// Whether something that was looked up in vain could have been a name at all.
fn check_name(
    header: &'static str,
    asked: &HeaderValue,
    fault: impl Fn(&str) -> Option<NameError>,
) -> Result<(), TeamError> {
    let fault = asked.text().map_or(Some(NameError::InvalidCharacter), fault);
    fault.map_or(Ok(()), |fault| {
        Err(TeamError::Malformed { header, value: asked.escaped(), error: fault })
    })
}

impl From<Resolved> for Attributes {
    fn from(found: Resolved) -> Self {
        let Resolved { team, environment, .. } = found;
        Self { team: Some(team), environment: Some(environment), ..Self::default() }
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, environment_by) =
            (self.team_by.describe(TEAM), self.environment_by.describe(ENVIRONMENT));
        write!(f, "team '{}' by {by}, ", self.team)?;
        write!(f, "environment '{}' by {environment_by}", self.environment)
    }
}
