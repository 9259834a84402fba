//! Which file speaks for a team, and which environment a host stands for, where several claim it.

use super::{conflict, file::TeamFile};
use crate::config::{Config, Team};
use sconce_filters::{EnvironmentName, TeamName, team::Authority};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The file of each team, by its place among the files; without one, the team is disputed.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owner_of: BTreeMap<TeamName, Option<usize>>,
    /// The teams that each file had and keeps, since it has an error or gets no other.
    retained: BTreeMap<usize, TeamName>,
    /// Whether there was a live file to win.
    live: BTreeSet<TeamName>,
    /// The teams that are live.
    known: BTreeSet<TeamName>,
}

impl TeamFile {
    /// Whether the file says that it is about this team.
    pub(super) fn is_about(&self, team: &TeamName) -> bool {
        self.name.as_ref().is_some_and(|(name, _)| name == team)
    }

    fn base_name(&self) -> Option<&OsStr> {
        self.diagnostics.file().file_name()
    }
}

impl Owners {
    pub(super) fn new(files: &[TeamFile], live: Option<&Config>) -> Self {
        let known = live.iter().flat_map(|live| live.teams.keys().cloned()).collect();
        let mut owners = Self { known, ..Self::default() };
        let live = live.iter().flat_map(|live| &live.teams);
        let had: HashMap<_, _> =
            live.filter_map(|(name, team)| Some((team.file.file_name()?, name))).collect();
        let had = |file: &TeamFile| file.base_name().and_then(|name| had.get(name).copied());
        for (at, file) in files.iter().enumerate() {
            if let Some(team) = had(file).filter(|it| file.team.is_none() || file.is_about(it)) {
                owners.keep(team, at, file);
            }
        }
        let mut lost = Vec::new();
        for (team, mut claimants) in owners.claimants(files) {
            // A file that keeps the team it had gets no other, nor keeps that one alive.
            let keeps_other = |at: &usize| owners.retained(*at).is_some_and(|held| held != team);
            claimants.retain(|at| !keeps_other(at));
            match (owners.owner(team), claimants.as_slice()) {
                (None, []) => {}
                (Some(owner), _) => lost.extend(claimants.iter().filter(|at| **at != owner)),
                (None, [only]) => drop(owners.owner_of.insert(team.clone(), Some(*only))),
                (None, _) => {
                    owners.owner_of.insert(team.clone(), None);
                    lost.extend(&claimants);
                }
            }
        }
        // A file that gets no other team keeps the one that it had.
        while let Some(at) = lost.pop() {
            let Some(file) = files.get(at) else { continue };
            let Some(team) = had(file).filter(|team| owners.owner(team) != Some(at)) else {
                continue;
            };
            lost.extend(owners.keep(team, at, file));
        }
        owners
    }

    /// Leaves its team to a file that had it. Says who had got it instead.
    fn keep(&mut self, team: &TeamName, at: usize, file: &TeamFile) -> Option<usize> {
        self.live.insert(team.clone());
        if !file.is_about(team) {
            self.retained.insert(at, team.clone());
        }
        self.owner_of.insert(team.clone(), Some(at)).flatten()
    }

    /// Every team that a file is about, or was.
    pub(super) fn teams(&self) -> impl Iterator<Item = (&TeamName, Option<usize>)> {
        self.owner_of.iter().map(|(team, owner)| (team, *owner))
    }

    /// The file of a team.
    pub(super) fn owner(&self, team: &TeamName) -> Option<usize> {
        self.owner_of.get(team).copied().flatten()
    }

    /// The team that a file had and keeps, though it says so no more.
    pub(super) fn retained(&self, at: usize) -> Option<&TeamName> {
        self.retained.get(&at)
    }

    /// The files that are not the file of the team which they are about, each with another that is,
    /// or that claims it too.
    pub(super) fn rejected<'f>(
        &self,
        files: &'f [TeamFile],
    ) -> Vec<(&'f TeamFile, (&'f Path, u64, bool))> {
        let mut losers = Vec::new();
        for (team, claimants) in self.claimants(files) {
            let owner = self.owner(team);
            for at in &claimants {
                let other = owner.or_else(|| claimants.iter().copied().find(|other| other != at));
                let pair = files.get(*at).zip(other.and_then(|other| files.get(other)));
                // What is wrong with a file's own name was said.
                let is_told = |(file, _): &(&TeamFile, _)| owner != Some(*at) && !file.is_misnamed;
                if let Some((file, other)) = pair.filter(is_told) {
                    let line = other.name.as_ref().map_or(0, |(_, line)| *line);
                    let is_live = owner.is_some() && self.live.contains(team);
                    losers.push((file, (other.diagnostics.file(), line, is_live)));
                }
            }
        }
        losers
    }

    /// The files that are about each team. One with a wrong name counts where there is no other;
    /// of a live team always, since it may be the team's own, which no other file takes over then.
    fn claimants<'f>(&self, files: &'f [TeamFile]) -> BTreeMap<&'f TeamName, Vec<usize>> {
        let mut all = BTreeMap::<_, Vec<usize>>::new();
        for (at, file) in files.iter().enumerate() {
            let Some((name, _)) = &file.name else { continue };
            if !file.is_misnamed || !all.contains_key(name) || self.known.contains(name) {
                all.entry(name).or_default().push(at);
            }
        }
        all
    }
}

/// An environment, by its names.
type Place = (TeamName, EnvironmentName);

/// Who claims each host.
#[derive(Debug, Default)]
pub(super) struct HostClaims<'f>(BTreeMap<Authority, Vec<HostClaim<'f>>>);

#[derive(Debug)]
struct HostClaim<'f> {
    /// The environment; none of a team that is not served.
    place: Option<Place>,
    path: PathBuf,
    /// The file, unless it is the last good configuration that claims the host.
    file: Option<&'f TeamFile>,
}

impl<'f> HostClaims<'f> {
    /// Those of a team. `file` is where they stand, unless they are the last good ones.
    pub(super) fn add_team(&mut self, name: &TeamName, team: &Team, file: Option<&'f TeamFile>) {
        for (environment, found) in &team.environments {
            for host in &found.authorities {
                let place = Some((name.clone(), environment.clone()));
                let claim = HostClaim { place, path: team.file.clone(), file };
                self.0.entry(host.clone()).or_default().push(claim);
            }
        }
    }

    /// Those of a file whose team is not served.
    pub(super) fn add_unserved(&mut self, file: &'f TeamFile) {
        for host in file.hosts.keys() {
            let path = file.diagnostics.file().to_owned();
            let claim = HostClaim { place: None, path, file: Some(file) };
            self.0.entry(host.clone()).or_default().push(claim);
        }
    }

    /// Who gets each host: whoever has it, or whoever alone claims it. The others are told.
    pub(super) fn decide(
        self,
        live: Option<&BTreeMap<Authority, Place>>,
    ) -> BTreeMap<Authority, Option<Place>> {
        let decide = |(host, claims): (Authority, Vec<HostClaim<'f>>)| {
            let owner = live.and_then(|live| live.get(&host)).map(|(team, _)| team);
            let has_it =
                |claim: &HostClaim<'_>| claim.place.as_ref().map(|(team, _)| team) == owner;
            let live = claims.iter().position(has_it).filter(|_| owner.is_some());
            let winner = live.or((claims.len() == 1).then_some(0));
            let team = claims.first().and_then(HostClaim::team);
            if winner.is_none() && team.is_some() && claims.iter().all(|claim| claim.team() == team)
            {
                // That several files are about this team was said.
                return (host, None);
            }
            for (at, claim) in claims.iter().enumerate().filter(|(at, _)| Some(*at) != winner) {
                let other = winner.unwrap_or(usize::from(at == 0));
                if let Some(other) = claims.get(other) {
                    claim.report_conflict(&host, other, winner.is_some());
                }
            }
            let place = winner.and_then(|at| claims.into_iter().nth(at)).and_then(|it| it.place);
            (host, place)
        };
        self.0.into_iter().map(decide).collect()
    }
}

impl HostClaim<'_> {
    /// The team that claims it, if that is known.
    fn team(&self) -> Option<&TeamName> {
        let place = self.place.as_ref().map(|(team, _)| team);
        let name = || self.file.and_then(|file| file.name.as_ref()).map(|(name, _)| name);
        place.or_else(name)
    }

    fn report_conflict(&self, host: &Authority, other: &Self, is_live: bool) {
        let Some(file) = self.file else { return };
        let Some(own) = file.hosts.get(host) else { return };
        let line = other.file.and_then(|file| file.hosts.get(host)).map_or(0, |it| it.line);
        file.diagnostics.report(
            own.line,
            &own.key,
            conflict(&format!("the host '{host}'"), (&other.path, line, is_live)),
        );
    }
}
