//! Resolves the team and the environment: by metadata, by host, by default, in this order.

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

/// Resolves the team and the environment of calls.
#[derive(Debug)]
pub struct Team {
    pub(super) cache_key: CacheKey,
    /// Only the configuration adds names, so that an unkeyed hash is safe.
    teams: FxHashMap<TeamName, BTreeSet<EnvironmentName>>,
    authorities: FxHashMap<Authority, (TeamName, EnvironmentName)>,
    default_team: Option<TeamName>,
    default_environment: Option<EnvironmentName>,
    list_teams: ListTeams,
    pub(super) members: Option<Memberships>,
    pub(super) removed: Vec<Arc<Removed>>,
    unserved: UnservedIndex,
}

/// An existing team and environment, and the rules that selected them.
pub(super) struct Resolved {
    team: TeamName,
    team_by: ResolvedBy,
    environment: EnvironmentName,
    environment_by: ResolvedBy,
}

/// An existing team, its environments, and the rule that selected it.
type KnownTeam<'t> = (&'t TeamName, &'t BTreeSet<EnvironmentName>, ResolvedBy);

impl Team {
    /// A filter with these teams.
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

    /// The route of a call. `caller` must be given if the teams have members.
    pub(super) fn resolve(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<Resolved, TeamError> {
        let ((team, environments, team_by), host) = self.resolve_team_and_host(call, caller)?;
        let (environment, environment_by) =
            self.resolve_environment(call.metadata(), host, (team, environments))?;
        let (team, environment) = (team.clone(), environment.clone());
        Ok(Resolved { team, team_by, environment, environment_by })
    }

    /// The team of a call, with or without a valid environment.
    pub(super) fn resolve_team(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<TeamName, TeamError> {
        self.resolve_team_and_host(call, caller).map(|((team, ..), _)| team.clone())
    }

    /// The team of a call, and the environment of the dialled host.
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
        let own_teams = caller.map(|caller| self.teams_of(caller));
        let (requested, by) =
            self.requested_team(call.metadata(), host.map(|(team, _)| team), own_teams.as_deref())?;
        let Some(requested) = requested else { return Err(self.unserved.no_team(caller)) };
        let (team, environments, by) =
            self.lookup_team(&requested, by, (caller, own_teams.as_deref()))?;
        let host = host.filter(|(owner, _)| owner == team).map(|(_, environment)| environment);
        Ok(((team, environments, by), host))
    }

    /// Whether the route of an admitted call still exists, and its caller still belongs to the
    /// team. A call keeps its route if new calls would take another one.
    pub(super) fn recheck_route(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<(), TeamError> {
        let Attributes { team: Some(team), environment: Some(environment), .. } = call.attributes()
        else {
            return Err(TeamError::RouteChanged);
        };
        let exists =
            self.teams.get(team).is_some_and(|environments| environments.contains(environment));
        if exists && caller.is_none_or(|caller| self.teams_of(caller).contains(team)) {
            return Ok(());
        }
        self.resolve(call, caller)?;
        Err(TeamError::RouteChanged)
    }

    /// The teams of a caller, by name.
    fn teams_of(&self, caller: &Identity) -> Vec<TeamName> {
        let listed = self.members.iter().flat_map(|members| members.teams_listing(caller));
        let named = caller.teams().iter().filter_map(|name| self.teams.get_key_value(&**name));
        let mut own_teams: Vec<_> = listed.chain(named.map(|(team, _)| team)).collect();
        own_teams.sort();
        own_teams.dedup();
        own_teams.into_iter().cloned().collect()
    }

    /// The requested team and the rule that names it; `None` if the caller belongs to no team.
    fn requested_team(
        &self,
        metadata: &dyn Metadata,
        host: Option<&TeamName>,
        own_teams: Option<&[TeamName]>,
    ) -> Result<(Option<HeaderValue>, ResolvedBy), TeamError> {
        let of = |team: &TeamName| HeaderValue::from_bytes(team.as_str().as_bytes());
        let default_team = self.default_team.as_ref();
        let default_team =
            default_team.filter(|team| own_teams.is_none_or(|own_teams| own_teams.contains(team)));
        match (read_header(metadata, TEAM)?, host, own_teams, default_team) {
            (Some(requested), ..) => Ok((Some(requested), ResolvedBy::Metadata)),
            (None, Some(team), ..) => Ok((Some(of(team)), ResolvedBy::Authority)),
            (None, None, Some([only]), _) => Ok((Some(of(only)), ResolvedBy::Membership)),
            (None, None, _, Some(team)) => Ok((Some(of(team)), ResolvedBy::Default)),
            (None, None, None, None) => Err(TeamError::TeamMissing { teams: self.teams_to_list() }),
            (None, None, Some([]), None) => Ok((None, ResolvedBy::Membership)),
            (None, None, Some(own_teams), None) => {
                Err(TeamError::TeamAmbiguous { teams: own_teams.to_vec() })
            }
        }
    }

    fn lookup_team(
        &self,
        requested: &HeaderValue,
        by: ResolvedBy,
        (caller, own_teams): (Option<&Identity>, Option<&[TeamName]>),
    ) -> Result<KnownTeam<'_>, TeamError> {
        let known = requested.text().and_then(|requested| self.teams.get_key_value(requested));
        let allowed =
            known.filter(|(team, _)| own_teams.is_none_or(|own_teams| own_teams.contains(team)));
        if let Some((team, environments)) = allowed {
            return Ok((team, environments, by));
        }
        requested.text().map_or(Ok(()), |requested| self.unserved.check(requested, caller))?;
        check_name(TEAM, requested, |text| TeamName::parse(text).err())?;
        let requested = requested.escaped();
        Err(match own_teams {
            None => TeamError::TeamUnknown { requested, by, teams: self.teams_to_list() },
            // Whether the team exists must not be revealed to callers outside of it.
            Some([]) => self.unserved.no_team(caller),
            Some(own_teams) => TeamError::NotMember { requested, by, teams: own_teams.to_vec() },
        })
    }

    fn resolve_environment<'s>(
        &'s self,
        metadata: &dyn Metadata,
        host: Option<&EnvironmentName>,
        (team, known): (&TeamName, &'s BTreeSet<EnvironmentName>),
    ) -> Result<(&'s EnvironmentName, ResolvedBy), TeamError> {
        let environments = || known.iter().cloned().collect();
        let of = |name: &EnvironmentName| HeaderValue::from_bytes(name.as_str().as_bytes());
        let only = known.first().filter(|_| known.len() == 1);
        let (requested, by) =
            match (read_header(metadata, ENVIRONMENT)?, host, &self.default_environment) {
                (Some(requested), _, _) => (requested, ResolvedBy::Metadata),
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
        match requested.text().and_then(|requested| known.get(requested)) {
            Some(environment) => Ok((environment, by)),
            None => {
                check_name(ENVIRONMENT, &requested, |text| EnvironmentName::parse(text).err())?;
                let (team, requested, environments) =
                    (team.clone(), requested.escaped(), environments());
                Err(TeamError::EnvironmentUnknown { team, requested, by, environments })
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

/// Checks an unknown name: is it a valid name at all?
fn check_name(
    header: &'static str,
    requested: &HeaderValue,
    error: impl Fn(&str) -> Option<NameError>,
) -> Result<(), TeamError> {
    let error = requested.text().map_or(Some(NameError::InvalidCharacter), error);
    error.map_or(Ok(()), |error| {
        Err(TeamError::Malformed { header, value: requested.escaped(), error })
    })
}

impl From<Resolved> for Attributes {
    fn from(resolved: Resolved) -> Self {
        let Resolved { team, environment, .. } = resolved;
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
