//! Assignment of teams to files and of hosts to environments, if several claim them.

use super::{conflict, file::TeamFile};
use crate::config::{Config, Team};
use sconce_filters::{EnvironmentName, TeamName, team::Authority};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The file of each team, by index; `None`: several files define the team and none is live.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owner_of: BTreeMap<TeamName, Option<usize>>,
    /// The live teams that files keep, because of an error or because their new team has another
    /// file.
    retained: BTreeMap<usize, TeamName>,
    /// Teams with a live file.
    live: BTreeSet<TeamName>,
    /// All live teams.
    known: BTreeSet<TeamName>,
}

impl TeamFile {
    /// Whether the file defines this team.
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
            // A file that keeps its live team cannot get another one.
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
        // A file whose new team belongs to another file keeps its live team.
        while let Some(at) = lost.pop() {
            let Some(file) = files.get(at) else { continue };
            let Some(team) = had(file).filter(|team| owners.owner(team) != Some(at)) else {
                continue;
            };
            lost.extend(owners.keep(team, at, file));
        }
        owners
    }

    /// Assigns a live team to its file. Returns the file that had it before.
    fn keep(&mut self, team: &TeamName, at: usize, file: &TeamFile) -> Option<usize> {
        self.live.insert(team.clone());
        if !file.is_about(team) {
            self.retained.insert(at, team.clone());
        }
        self.owner_of.insert(team.clone(), Some(at)).flatten()
    }

    /// All teams of files, new and live.
    pub(super) fn teams(&self) -> impl Iterator<Item = (&TeamName, Option<usize>)> {
        self.owner_of.iter().map(|(team, owner)| (team, *owner))
    }

    /// The file of a team.
    pub(super) fn owner(&self, team: &TeamName) -> Option<usize> {
        self.owner_of.get(team).copied().flatten()
    }

    /// The live team that a file keeps although it now defines another one.
    pub(super) fn retained(&self, at: usize) -> Option<&TeamName> {
        self.retained.get(&at)
    }

    /// Files that define a team of another file, each with that other file.
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
                // A wrong file name is already reported.
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

    /// The files that define each team. A file with a wrong name counts only without another file.
    /// For a live team it always counts, because it may be the team's own file, whose team no other
    /// file may take.
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

/// The environments that claim each host.
#[derive(Debug, Default)]
pub(super) struct HostClaims<'f>(BTreeMap<Authority, Vec<HostClaim<'f>>>);

#[derive(Debug)]
struct HostClaim<'f> {
    /// The environment; `None` for an unserved team.
    place: Option<Place>,
    path: PathBuf,
    /// The file; `None` for a last good configuration.
    file: Option<&'f TeamFile>,
}

impl<'f> HostClaims<'f> {
    /// Adds the hosts of a team. `file` is `None` for a last good configuration.
    pub(super) fn add_team(&mut self, name: &TeamName, team: &Team, file: Option<&'f TeamFile>) {
        for (environment, found) in &team.environments {
            for host in &found.authorities {
                let place = Some((name.clone(), environment.clone()));
                let claim = HostClaim { place, path: team.file.clone(), file };
                self.0.entry(host.clone()).or_default().push(claim);
            }
        }
    }

    /// Adds the hosts of a file whose team is not served.
    pub(super) fn add_unserved(&mut self, file: &'f TeamFile) {
        for host in file.hosts.keys() {
            let path = file.diagnostics.file().to_owned();
            let claim = HostClaim { place: None, path, file: Some(file) };
            self.0.entry(host.clone()).or_default().push(claim);
        }
    }

    /// Assigns each host to its live environment, or to the only one that claims it. Reports the
    /// others.
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
                // Several files for one team are already reported.
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
    /// The team, if known.
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
