//! The decision: what a call says, what its host says, what the defaults say, in this order.

use super::{
    Authority, Removed, Reveal, Settings,
    denial::{Denial, ENVIRONMENT, Source, TEAM},
    host_of,
    membership::Memberships,
    said::{Said, said},
    unserved::Unserveds,
};
use crate::{Author, Call, EnvironmentName, Identity, Metadata, Slots, TeamName, name::NameFault};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Finds the team and the environment of a call.
#[derive(Debug)]
pub struct Team {
    pub(super) author: Author,
    /// Nobody but the configuration puts names in here: a quick hash cannot be flooded.
    teams: FxHashMap<TeamName, BTreeSet<EnvironmentName>>,
    authorities: FxHashMap<Authority, (TeamName, EnvironmentName)>,
    default_team: Option<TeamName>,
    default_environment: Option<EnvironmentName>,
    reveal: Reveal,
    pub(super) members: Option<Memberships>,
    pub(super) removed: Vec<Arc<Removed>>,
    unserved: Unserveds,
}

/// A team and an environment that exist, and what said so.
pub(super) struct Found {
    team: TeamName,
    team_by: Source,
    environment: EnvironmentName,
    environment_by: Source,
}

/// A team that exists, its environments, and what said so.
type Known<'t> = (&'t TeamName, &'t BTreeSet<EnvironmentName>, Source);

impl Team {
    /// The room for these teams.
    pub fn new(settings: Settings) -> Self {
        let Settings { teams, members, unserved, removed, .. } = settings;
        let members = members.map(|mut members| {
            members.retain(|team, _| teams.contains_key(team));
            Memberships::of(members)
        });
        Self {
            author: Author::new(),
            teams: BTreeMap::into_iter(teams).collect(),
            authorities: BTreeMap::into_iter(settings.authorities).collect(),
            default_team: settings.default_team,
            default_environment: settings.default_environment,
            reveal: settings.reveal,
            members,
            unserved: Unserveds::new(unserved, settings.unserved_authorities),
            removed,
        }
    }

    /// Where a call goes. `caller` must be there if the teams have members.
    pub(super) fn find(&self, call: &Call, caller: Option<&Identity>) -> Result<Found, Denial> {
        let ((team, theirs, team_by), host) = self.team_of(call, caller)?;
        let (environment, environment_by) =
            self.environment(call.metadata(), host, (team, theirs))?;
        let (team, environment) = (team.clone(), environment.clone());
        Ok(Found { team, team_by, environment, environment_by })
    }

    /// The team of a call, whatever its environment is.
    pub(super) fn find_team(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<TeamName, Denial> {
        self.team_of(call, caller).map(|((team, ..), _)| team.clone())
    }

    /// The team of a call, and the environment that the host which was dialled stands for.
    fn team_of(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<(Known<'_>, Option<&EnvironmentName>), Denial> {
        let authority = call.authority();
        let dialled = host_of(&authority);
        let host = self.authorities.get(&*dialled);
        if host.is_none() {
            self.unserved.check_authority(&dialled, call.metadata())?;
        }
        let mine = caller.map(|caller| self.teams_of(caller));
        let (asked, by) =
            self.asked(call.metadata(), host.map(|(team, _)| team), mine.as_deref())?;
        let Some(asked) = asked else { return Err(self.unserved.no_team(caller)) };
        let (team, theirs, by) = self.team(&asked, by, (caller, mine.as_deref()))?;
        let host = host.filter(|(owner, _)| owner == team).map(|(_, environment)| environment);
        Ok(((team, theirs, by), host))
    }

    /// Whether the place that a call was admitted to is there still, and its caller in the team.
    /// That a new call would go elsewhere takes nothing away, unless this one's place is gone.
    pub(super) fn recheck_place(
        &self,
        call: &Call,
        caller: Option<&Identity>,
    ) -> Result<(), Denial> {
        let Slots { team: Some(team), environment: Some(environment), .. } = call.slots() else {
            return Err(Denial::Moved);
        };
        let is_there = self.teams.get(team).is_some_and(|theirs| theirs.contains(environment));
        if is_there && caller.is_none_or(|caller| self.teams_of(caller).contains(team)) {
            return Ok(());
        }
        self.find(call, caller)?;
        Err(Denial::Moved)
    }

    /// The teams that a caller belongs to, by name.
    fn teams_of(&self, caller: &Identity) -> Vec<TeamName> {
        let listed = self.members.iter().flat_map(|members| members.listing(caller));
        let named = caller.teams().iter().filter_map(|name| self.teams.get_key_value(&**name));
        let mut mine: Vec<_> = listed.chain(named.map(|(team, _)| team)).collect();
        mine.sort();
        mine.dedup();
        mine.into_iter().cloned().collect()
    }

    /// Which team a call asks for, and what says so; none if its caller belongs to none.
    fn asked(
        &self,
        metadata: &dyn Metadata,
        host: Option<&TeamName>,
        mine: Option<&[TeamName]>,
    ) -> Result<(Option<Said>, Source), Denial> {
        let of = |team: &TeamName| Said::of(team.as_str().as_bytes());
        let usual = self.default_team.as_ref();
        let usual = usual.filter(|team| mine.is_none_or(|mine| mine.contains(team)));
        match (said(metadata, TEAM)?, host, mine, usual) {
            (Some(asked), ..) => Ok((Some(asked), Source::Metadata)),
            (None, Some(team), ..) => Ok((Some(of(team)), Source::Authority)),
            (None, None, Some([only]), _) => Ok((Some(of(only)), Source::Membership)),
            (None, None, _, Some(team)) => Ok((Some(of(team)), Source::Default)),
            (None, None, None, None) => Err(Denial::TeamMissing { teams: self.shown() }),
            (None, None, Some([]), None) => Ok((None, Source::Membership)),
            (None, None, Some(mine), None) => Err(Denial::TeamUnsaid { teams: mine.to_vec() }),
        }
    }

    fn team(
        &self,
        asked: &Said,
        by: Source,
        (caller, mine): (Option<&Identity>, Option<&[TeamName]>),
    ) -> Result<Known<'_>, Denial> {
        let known = asked.text().and_then(|asked| self.teams.get_key_value(asked));
        let theirs = known.filter(|(team, _)| mine.is_none_or(|mine| mine.contains(team)));
        if let Some((team, theirs)) = theirs {
            return Ok((team, theirs, by));
        }
        asked.text().map_or(Ok(()), |asked| self.unserved.check(asked, caller))?;
        check(TEAM, asked, |text| TeamName::parse(text).err())?;
        let asked = asked.shown();
        Err(match mine {
            None => Denial::TeamUnknown { asked, by, teams: self.shown() },
            // Whether there is such a team is nothing to those who are not in it.
            Some([]) => self.unserved.no_team(caller),
            Some(mine) => Denial::NotMember { asked, by, teams: mine.to_vec() },
        })
    }

    fn environment<'s>(
        &'s self,
        metadata: &dyn Metadata,
        host: Option<&EnvironmentName>,
        (team, theirs): (&TeamName, &'s BTreeSet<EnvironmentName>),
    ) -> Result<(&'s EnvironmentName, Source), Denial> {
        let environments = || theirs.iter().cloned().collect();
        let of = |name: &EnvironmentName| Said::of(name.as_str().as_bytes());
        let only = theirs.first().filter(|_| theirs.len() == 1);
        let (asked, by) = match (said(metadata, ENVIRONMENT)?, host, &self.default_environment) {
            (Some(asked), _, _) => (asked, Source::Metadata),
            (None, Some(name), _) => (of(name), Source::Authority),
            (None, None, Some(name)) => (of(name), Source::Default),
            (None, None, None) => match only {
                Some(only) => return Ok((only, Source::OnlyEnvironment)),
                None => {
                    let (team, environments) = (team.clone(), environments());
                    return Err(Denial::EnvironmentMissing { team, environments });
                }
            },
        };
        match asked.text().and_then(|asked| theirs.get(asked)) {
            Some(environment) => Ok((environment, by)),
            None => {
                check(ENVIRONMENT, &asked, |text| EnvironmentName::parse(text).err())?;
                let (team, asked, environments) = (team.clone(), asked.shown(), environments());
                Err(Denial::EnvironmentUnknown { team, asked, by, environments })
            }
        }
    }

    fn shown(&self) -> Vec<TeamName> {
        match self.reveal {
            Reveal::Nothing => Vec::new(),
            Reveal::Teams => {
                let mut all: Vec<_> = self.teams.keys().cloned().collect();
                all.sort();
                all
            }
        }
    }
}

/// Whether something that was looked up in vain could have been a name at all.
fn check(
    header: &'static str,
    asked: &Said,
    fault: impl Fn(&str) -> Option<NameFault>,
) -> Result<(), Denial> {
    let fault = asked.text().map_or(Some(NameFault::Octet), fault);
    fault.map_or(Ok(()), |fault| Err(Denial::Malformed { header, asked: asked.shown(), fault }))
}

impl From<Found> for Slots {
    fn from(found: Found) -> Self {
        let Found { team, environment, .. } = found;
        Self { team: Some(team), environment: Some(environment), ..Self::default() }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, environment_by) = (self.team_by.rule(TEAM), self.environment_by.rule(ENVIRONMENT));
        write!(f, "team '{}' by {by}, ", self.team)?;
        write!(f, "environment '{}' by {environment_by}", self.environment)
    }
}
