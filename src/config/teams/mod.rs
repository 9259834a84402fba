//! The team files of a directory, held against one another and against what is live.
//!
//! An error in one file affects the team of that file only: where the team is live, its last good
//! configuration stays; where it is not, it is known and not served. Where two files claim one team
//! or one host, the file that is live keeps it; without one, nobody gets it.
//!
//! Must never happen here: a team or a host that is lost, or won, because another team's file has
//! an error.

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

/// Beyond so many errors in all files, only the first one of each further file is kept.
const ERRORS_MAX: usize = 1000;
/// Beyond so many warnings in all files, likewise.
const WARNINGS_MAX: usize = 1000;
/// The most teams, and the most hosts, that are remembered as removed.
const REMOVED_MAX: usize = 1000;

/// The errors in the files of each team. A file whose team cannot be read stands under its own
/// name, which has a dot as no team's has.
pub type ErrorsByTeam = BTreeMap<String, TeamErrors>;

/// What is wrong with the file of one team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamErrors {
    /// The errors, by file and line.
    pub errors: Vec<ConfigError>,
    /// What is served of the team meanwhile.
    pub served: Served,
}

/// What is served of a team whose file has an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// All that is right.
    ValidParts,
    /// Its last good configuration.
    LastGood,
    /// Nothing: its calls are refused.
    Nothing,
}

/// What the team files come to.
#[derive(Debug, Default)]
pub(super) struct TeamFiles {
    pub(super) teams: BTreeMap<TeamName, Team>,
    pub(super) authorities: BTreeMap<Authority, (TeamName, EnvironmentName)>,
    pub(super) unserved: BTreeMap<TeamName, Unserved>,
    pub(super) unserved_authorities: BTreeMap<Authority, UnservedReason>,
    pub(super) errors: ErrorsByTeam,
    /// What to know about files that are taken all the same.
    pub(super) warnings: Vec<ConfigError>,
    /// The secrets that team files name.
    pub(super) uses: SecretUses,
    /// The teams whose last good configuration stays.
    last_good: BTreeSet<TeamName>,
    /// How many errors there are.
    error_count: usize,
}

/// Reads every team file of a directory. What is wrong with the directory itself is an `Err`.
pub(super) fn read_all(
    directory: &Path,
    rules: &Rules,
    live: Option<&Config>,
) -> Result<TeamFiles, Problem> {
    let listing = files::list_team_files(directory)?;
    if listing.files.is_empty() && listing.misnamed.is_empty() {
        let remedy = "write a file for a team into it, as ads.yaml";
        return Err(Problem::new("holds no team files", remedy));
    }
    let mut roster = TeamFiles::default();
    let uses = &mut roster.uses;
    let mut files: Vec<_> =
        listing.files.iter().map(|path| file::read(path, rules, uses)).collect();
    // They claim what they would if they had the right name.
    files.extend(listing.misnamed.iter().map(|path| {
        let file = file::read(path, rules, uses);
        let remedy = "rename it so that it ends in .yaml, or move it away";
        file.diagnostics.report(0, "", Problem::new("would be passed over", remedy));
        TeamFile { team: None, is_misnamed: true, ..file }
    }));
    let owners = Owners::new(&files, live);
    roster.assign_teams(&mut files, &owners, live);
    roster.assign_hosts(&files, &owners, live);
    if let Some(live) = live {
        roster.remember_removed(live);
    }
    for (at, file) in files.into_iter().enumerate() {
        roster.collect_diagnostics(file, owners.retained(at));
    }
    Ok(roster)
}

impl TeamFiles {
    /// The names of all environments, by team.
    pub(super) fn environments(&self) -> BTreeMap<TeamName, BTreeSet<EnvironmentName>> {
        let names = |team: &Team| team.environments.keys().cloned().collect();
        self.teams.iter().map(|(name, team)| (name.clone(), names(team))).collect()
    }

    /// Who belongs to each team.
    pub(super) fn members(&self) -> BTreeMap<TeamName, Members> {
        self.teams.iter().map(|(name, team)| (name.clone(), team.members.clone())).collect()
    }

    /// Notes an error that concerns one team alone.
    pub(super) fn add_error(&mut self, team: &TeamName, complaint: ConfigError) {
        if !self.teams.contains_key(team) && !self.unserved.contains_key(team) {
            self.unserved.insert(team.clone(), misconfigured());
        }
        let served = self.served(team);
        let found = self.errors.entry(team.to_string());
        let errors = found.or_insert(TeamErrors { errors: Vec::new(), served });
        errors.errors.push(complaint);
        errors.errors.sort();
    }

    /// What is served of a team whose file has an error.
    fn served(&self, team: &TeamName) -> Served {
        if self.last_good.contains(team) {
            Served::LastGood
        } else if self.teams.contains_key(team) {
            Served::ValidParts
        } else {
            Served::Nothing
        }
    }

    /// Puts each team into its place: as its file says, as it is live, or among those that are not
    /// served.
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

    /// Gives each host to the one environment that claims it.
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
        // Where the last good configuration stays, nothing of the file counts.
        let unheld = files.iter().enumerate().filter(|(at, _)| owners.retained(*at).is_none());
        for host in unheld.flat_map(|(_, file)| &file.guessed_hosts) {
            self.add_unserved_host(host, UnservedReason::Misconfigured);
        }
    }

    /// Refuses a host that nobody has.
    fn add_unserved_host(&mut self, host: &Authority, reason: UnservedReason) {
        if !self.authorities.contains_key(host) {
            self.unserved_authorities.entry(host.clone()).or_insert(reason);
        }
    }

    /// Remembers the teams that are live and have no file any more, and those before them.
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

    /// Gathers what is wrong with a file. `held` is the team that it had and keeps.
    fn collect_diagnostics(&mut self, file: TeamFile, held: Option<&TeamName>) {
        let mut warnings = file.diagnostics.take_warnings();
        warnings.truncate(WARNINGS_MAX.saturating_sub(self.warnings.len()).max(1));
        self.warnings.append(&mut warnings);
        let name = file.name.map(|(name, _)| name);
        let about = name.as_ref().or(held);
        let served = about.map_or(Served::Nothing, |team| self.served(team));
        let label = name.map_or_else(|| base_name(&file.diagnostics), |name| name.to_string());
        let mut complaints = file.diagnostics.into_errors();
        if complaints.is_empty() {
            return;
        }
        complaints.truncate(ERRORS_MAX.saturating_sub(self.error_count).max(1));
        self.error_count = self.error_count.saturating_add(complaints.len());
        let found = self.errors.entry(label);
        let errors = found.or_insert(TeamErrors { errors: Vec::new(), served });
        errors.errors.append(&mut complaints);
        errors.errors.sort();
    }
}

fn misconfigured() -> Unserved {
    Unserved { reason: UnservedReason::Misconfigured, members: Members::default() }
}

/// The name of a file without its directory.
fn base_name(desk: &Diagnostics) -> String {
    desk.file().file_name().map_or_else(String::new, |name| name.display().to_string())
}

/// What is wrong where two files claim one thing.
fn conflict(what: &str, (path, line, is_live): (&Path, u64, bool)) -> Problem {
    let path = path.display();
    let what = match (is_live, line) {
        (true, _) => format!("{what} is that of {path}, which is live"),
        (false, 0) => format!("{what} stands in {path} as well"),
        (false, _) => format!("{what} stands in {path}:{line} as well"),
    };
    Problem::new(what, "keep one of the two")
}
