//! The team files of a directory, compared with each other and with the live config.
//!
//! An error in one file affects its team only: a live team keeps its last good configuration, and
//! the calls of a new team are refused. Where two files define one team or one host, the live file
//! keeps it; without a live file, neither gets it.
//!
//! Must never happen here: a team or a host that is lost or gained because of an error in another
//! team's file.

mod file;
mod owners;
#[cfg(test)]
mod tests;

pub(super) use file::Rules;

use crate::config::{
    Config, Team,
    diagnostics::{ConfigError, Diagnostics, Problem},
    files,
    secrets::SecretUses,
};
use file::TeamFile;
use owners::{HostClaims, Owners};
use sconce_filters::{
    EnvironmentName, TeamName,
    team::{Authority, Members, Unserved, UnservedReason},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Maximum number of errors in all files. Above it, one error of each further file.
const ERRORS_MAX: usize = 1000;
/// Maximum number of warnings in all files. Above it, one warning of each further file.
const WARNINGS_MAX: usize = 1000;
/// Maximum number of removed teams, and of removed hosts, that are remembered.
const REMOVED_MAX: usize = 1000;

/// Errors by team. If the team name is unreadable, the key is the file name, which unlike a team
/// name contains a dot.
pub type ErrorsByTeam = BTreeMap<String, TeamErrors>;

/// The errors of one team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamErrors {
    /// The errors, by file and line.
    pub errors: Vec<ConfigError>,
    /// How the team is served meanwhile.
    pub served: Served,
}

/// How a team is served while its file has an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The valid parts of its file.
    ValidParts,
    /// Its last good configuration.
    LastGood,
    /// Its calls are refused.
    Nothing,
}

/// The result of all team files.
#[derive(Debug, Default)]
pub(super) struct TeamFiles {
    pub(super) teams: BTreeMap<TeamName, Team>,
    pub(super) authorities: BTreeMap<Authority, (TeamName, EnvironmentName)>,
    pub(super) unserved: BTreeMap<TeamName, Unserved>,
    pub(super) unserved_authorities: BTreeMap<Authority, UnservedReason>,
    pub(super) errors: ErrorsByTeam,
    /// Warnings.
    pub(super) warnings: Vec<ConfigError>,
    /// Secrets used by team files.
    pub(super) uses: SecretUses,
    /// Teams that keep their last good configuration.
    last_good: BTreeSet<TeamName>,
    /// Number of errors.
    error_count: usize,
}

/// Reads all team files of a directory. A problem of the directory itself is an `Err`.
pub(super) fn read_all(
    directory: &Path,
    rules: &Rules,
    live: Option<&Config>,
) -> Result<TeamFiles, Problem> {
    let listing = files::list_team_files(directory)?;
    if listing.files.is_empty() && listing.misnamed.is_empty() {
        let help = "add a team file, for example ads.yaml";
        return Err(Problem::new("contains no team files", help));
    }
    let mut team_files = TeamFiles::default();
    let uses = &mut team_files.uses;
    let mut files: Vec<_> =
        listing.files.iter().map(|path| file::read(path, rules, uses)).collect();
    // They define the same team and hosts as with the right name.
    files.extend(listing.misnamed.iter().map(|path| {
        let file = file::read(path, rules, uses);
        let help = "rename it to end in .yaml, or move it away";
        file.diagnostics.report(0, "", Problem::new("would be ignored", help));
        TeamFile { team: None, is_misnamed: true, ..file }
    }));
    let owners = Owners::new(&files, live);
    team_files.assign_teams(&mut files, &owners, live);
    team_files.assign_hosts(&files, &owners, live);
    if let Some(live) = live {
        team_files.remember_removed(live);
    }
    for (at, file) in files.into_iter().enumerate() {
        team_files.collect_diagnostics(file, owners.retained(at));
    }
    Ok(team_files)
}

impl TeamFiles {
    /// The names of all environments, by team.
    pub(super) fn environments(&self) -> BTreeMap<TeamName, BTreeSet<EnvironmentName>> {
        let names = |team: &Team| team.environments.keys().cloned().collect();
        self.teams.iter().map(|(name, team)| (name.clone(), names(team))).collect()
    }

    /// The members of each team.
    pub(super) fn members(&self) -> BTreeMap<TeamName, Members> {
        self.teams.iter().map(|(name, team)| (name.clone(), team.members.clone())).collect()
    }

    /// Adds an error that affects one team only.
    pub(super) fn add_error(&mut self, team: &TeamName, error: ConfigError) {
        if !self.teams.contains_key(team) && !self.unserved.contains_key(team) {
            self.unserved.insert(team.clone(), misconfigured());
        }
        let served = self.served(team);
        let found = self.errors.entry(team.to_string());
        let errors = found.or_insert(TeamErrors { errors: Vec::new(), served });
        errors.errors.push(error);
        errors.errors.sort();
    }

    /// How a team is served while its file has an error.
    fn served(&self, team: &TeamName) -> Served {
        if self.last_good.contains(team) {
            Served::LastGood
        } else if self.teams.contains_key(team) {
            Served::ValidParts
        } else {
            Served::Nothing
        }
    }

    /// Assigns each team to its file, to its last good configuration, or to the unserved teams.
    fn assign_teams(&mut self, files: &mut [TeamFile], owners: &Owners, live: Option<&Config>) {
        for (name, owner) in owners.teams() {
            let file = owner.and_then(|at| files.get_mut(at)).filter(|file| file.is_about(name));
            if let Some(team) = file.and_then(|file| file.team.take()) {
                self.teams.insert(name.clone(), team);
            } else if let Some(team) = live.and_then(|live| live.teams.get(name)) {
                self.teams.insert(name.clone(), team.clone());
                self.last_good.insert(name.clone());
            } else {
                self.unserved.insert(name.clone(), misconfigured());
            }
        }
        for (file, other) in owners.rejected(files) {
            let Some((name, line)) = &file.name else { continue };
            file.diagnostics.report(*line, "team", conflict(&format!("the team '{name}'"), other));
        }
    }

    /// Assigns each host to one environment.
    fn assign_hosts(&mut self, files: &[TeamFile], owners: &Owners, live: Option<&Config>) {
        let mut claims = HostClaims::default();
        for (name, team) in &self.teams {
            let at = owners.owner(name).filter(|_| !self.last_good.contains(name));
            claims.add_team(name, team, at.and_then(|at| files.get(at)));
        }
        for (at, file) in files.iter().enumerate() {
            let is_served = file.name.as_ref().is_some_and(|(it, _)| self.teams.contains_key(it));
            if !is_served && owners.retained(at).is_none() {
                claims.add_unserved(file);
            }
        }
        let live = live.and_then(|live| live.filters.team()).map(|team| &team.authorities);
        for (host, claim) in claims.decide(live) {
            match claim {
                Some(place) => drop(self.authorities.insert(host, place)),
                None => drop(self.unserved_authorities.insert(host, UnservedReason::Misconfigured)),
            }
        }
        // A file has no effect while the last good configuration stays.
        let unheld = files.iter().enumerate().filter(|(at, _)| owners.retained(*at).is_none());
        for host in unheld.flat_map(|(_, file)| &file.guessed_hosts) {
            self.add_unserved_host(host, UnservedReason::Misconfigured);
        }
    }

    /// Adds a host without an environment.
    fn add_unserved_host(&mut self, host: &Authority, reason: UnservedReason) {
        if !self.authorities.contains_key(host) {
            self.unserved_authorities.entry(host.clone()).or_insert(reason);
        }
    }

    /// Remembers live teams without a file, and teams removed earlier.
    fn remember_removed(&mut self, live: &Config) {
        let Some(known) = live.filters.team() else { return };
        let gone = live.teams.iter().filter(|(name, _)| !self.teams.contains_key(*name));
        let gone = gone.map(|(name, team)| {
            let (reason, members) = (UnservedReason::Removed, team.members.clone());
            (name.clone(), Unserved { reason, members })
        });
        let before = known.unserved.iter().filter(|(_, it)| it.reason == UnservedReason::Removed);
        let before = before.map(|(name, it)| (name.clone(), it.clone()));
        let gone: Vec<_> = gone.chain(before).take(REMOVED_MAX).collect();
        for (name, it) in gone {
            if !self.teams.contains_key(&name) {
                self.unserved.entry(name).or_insert(it);
            }
        }
        let lost = known.authorities.iter().filter(|(_, (team, _))| !self.teams.contains_key(team));
        let lost = lost.map(|(host, _)| host);
        let before = known.unserved_authorities.iter();
        let before =
            before.filter(|(_, reason)| **reason == UnservedReason::Removed).map(|(host, _)| host);
        let lost: Vec<_> = lost.chain(before).take(REMOVED_MAX).cloned().collect();
        lost.iter().for_each(|host| self.add_unserved_host(host, UnservedReason::Removed));
    }

    /// Collects the errors and warnings of a file. `retained` is the team that it keeps from the
    /// live config.
    fn collect_diagnostics(&mut self, file: TeamFile, retained: Option<&TeamName>) {
        let mut warnings = file.diagnostics.take_warnings();
        warnings.truncate(WARNINGS_MAX.saturating_sub(self.warnings.len()).max(1));
        self.warnings.append(&mut warnings);
        let name = file.name.map(|(name, _)| name);
        let about = name.as_ref().or(retained);
        let served = about.map_or(Served::Nothing, |team| self.served(team));
        let label = name.map_or_else(|| base_name(&file.diagnostics), |name| name.to_string());
        let mut errors = file.diagnostics.into_errors();
        if errors.is_empty() {
            return;
        }
        errors.truncate(ERRORS_MAX.saturating_sub(self.error_count).max(1));
        self.error_count = self.error_count.saturating_add(errors.len());
        let found = self.errors.entry(label);
        let of_team = found.or_insert(TeamErrors { errors: Vec::new(), served });
        of_team.errors.append(&mut errors);
        of_team.errors.sort();
    }
}

fn misconfigured() -> Unserved {
    Unserved { reason: UnservedReason::Misconfigured, members: Members::default() }
}

/// The name of a file without its directory.
fn base_name(diagnostics: &Diagnostics) -> String {
    diagnostics.file().file_name().map_or_else(String::new, |name| name.display().to_string())
}

/// The problem of two files that define the same thing.
fn conflict(what: &str, (path, line, is_live): (&Path, u64, bool)) -> Problem {
    let path = path.display();
    let what = match (is_live, line) {
        (true, _) => format!("{what} belongs to {path}, which is live"),
        (false, 0) => format!("{what} is also in {path}"),
        (false, _) => format!("{what} is also in {path}:{line}"),
    };
    Problem::new(what, "keep one of the two")
}
