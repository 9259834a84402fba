//! The team files: one team each, checked alone and then against one another.

use crate::config::{
    DriverAddress, Environment, Team,
    complaint::{Complaint, Desk, Fault, shown},
    credential, draft, folder,
    members::{self, Names},
    secrets::{Scope, Secrets, Uses},
    section::{Section, Word},
    words,
};
use crate::grpc::redact::{Hidden, KEY_MAX};
use sconce_filters::{
    EnvironmentName, TeamName,
    team::{Authority, Members},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// After so many complaints no further file is read.
const COMPLAINTS_MAX: usize = 1000;
/// The most warnings about all team files.
const WARNINGS_MAX: usize = 1000;
/// The most keys that one team hides.
const HIDDEN_MAX: usize = 1000;
/// Where a driver keeps its own token (Spark 4.0 and later).
const TOKEN_KEY: &str = "spark.connect.authenticate.token";

/// The teams of a directory, and where each thing that must be unique was said first.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) teams: BTreeMap<TeamName, Team>,
    pub(super) authorities: BTreeMap<Authority, (TeamName, EnvironmentName)>,
    said: BTreeMap<String, (PathBuf, u64)>,
    drivers: Vec<(DriverAddress, PathBuf, u64, String)>,
    /// The secrets that team files name.
    pub(super) uses: Uses,
    /// What to know about team files that are taken all the same.
    pub(super) warnings: Vec<Complaint>,
    /// The files that list members, and the lines where they do.
    listed: Vec<(PathBuf, u64)>,
}

/// What the main file says that team files are held against.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) secrets: Secrets,
    /// The names that callers can have, where somebody is asked for his.
    pub(super) names: Option<Names>,
}

/// Reads every team file of a directory. The complaints are those about the files in it; what is
/// wrong with the directory itself is an `Err`.
pub(super) fn gather(directory: &Path, rules: &Rules) -> Result<(Gathered, Vec<Complaint>), Fault> {
    let listing = folder::list(directory)?;
    let mut complaints = Vec::new();
    for file in &listing.misnamed {
        let desk = Desk::new(file);
        let remedy = "rename it so that it ends in .yaml, or move it away";
        desk.complain(0, "", Fault::new("would be passed over", remedy));
        complaints.extend(desk.clear());
    }
    if listing.files.is_empty() && listing.misnamed.is_empty() {
        let remedy = "write a file for a team into it, as ads.yaml";
        return Err(Fault::new("holds no team files", remedy));
    }
    let mut gathered = Gathered::default();
    for file in &listing.files {
        let desk = Desk::new(file);
        gathered.read(&desk, rules);
        gathered.warnings.extend(desk.warnings());
        gathered.warnings.truncate(WARNINGS_MAX);
        complaints.extend(desk.clear());
        if complaints.len() > COMPLAINTS_MAX {
            break;
        }
    }
    Ok((gathered, complaints))
}

impl Gathered {
    /// The names of all environments, by team.
    pub(super) fn environments(&self) -> BTreeMap<TeamName, BTreeSet<EnvironmentName>> {
        let names = |team: &Team| team.environments.keys().cloned().collect();
        self.teams.iter().map(|(name, team)| (name.clone(), names(team))).collect()
    }

    /// Who belongs to each team.
    pub(super) fn members(&self) -> BTreeMap<TeamName, Members> {
        self.teams.iter().map(|(name, team)| (name.clone(), team.members.clone())).collect()
    }

    /// Complaints about members where nobody is asked who he is.
    pub(super) fn members_for_nothing(&self) -> Vec<Complaint> {
        let complaints = self.listed.iter().flat_map(|(file, line)| {
            let desk = Desk::new(file);
            let what = "mean nothing while authenticate is not in the chain";
            let remedy = "add it to the chain, or remove the members";
            desk.complain(*line, "members", Fault::new(what, remedy));
            desk.clear()
        });
        complaints.collect()
    }

    fn read(&mut self, desk: &Desk, rules: &Rules) {
        let text = match folder::read(desk.file()) {
            Ok(text) => text,
            Err((line, fault)) => return desk.complain(line, "", fault),
        };
        match draft::read(&text) {
            Ok(node) => self.team(desk, Section::of(desk, "", node), rules),
            Err(draft::Garbled { line, what, remedy }) => {
                desk.complain(line, "", Fault::new(what, remedy));
            }
        }
    }

    fn team(&mut self, desk: &Desk, mut top: Section<'_>, rules: &Rules) {
        let known = top.has("team");
        let name = top.word_at("team", words::team);
        if !known {
            top.miss("team", "name the team, as team: ads");
        }
        let file = desk.file().to_owned();
        let hidden = hidden(desk, &mut top);
        let scope = rules.secrets.of(name.as_ref().map(|(name, _)| name));
        let credential = credential::read(desk, &mut top, scope, &mut self.uses);
        let mut environments = self.read_environments(desk, &mut top, scope);
        for environment in environments.values_mut() {
            let own = environment.credential.take();
            environment.credential = own.or_else(|| credential.clone());
            let key = environment.credential.as_ref().map(|_| TOKEN_KEY.to_owned());
            environment.hidden = Hidden::of(hidden.iter().cloned().chain(key));
        }
        let members = top.section_if_there("members").map(|section| {
            self.listed.push((desk.file().to_owned(), section.line()));
            members::read(desk, section, rules.names.as_ref())
        });
        top.close();
        let Some((name, line)) = name else { return };
        if self.unique(desk, line, "team", &format!("the team '{name}'")) {
            let members = members.unwrap_or_default();
            self.teams.insert(name, Team { file, environments, members });
        }
    }

    fn read_environments(
        &mut self,
        desk: &Desk,
        top: &mut Section<'_>,
        scope: Scope<'_>,
    ) -> BTreeMap<EnvironmentName, Environment> {
        let mut section = top.section("environments");
        let mut environments = BTreeMap::new();
        let entries = section.drain();
        if entries.is_empty() {
            let remedy =
                "write 'environments:' and under it at least one, as prod, with its driver";
            let fault = Fault::new("there is no environment", remedy);
            desk.complain(section.line(), "environments", fault);
        }
        for (key, node) in entries {
            let path = section.below(&key.text);
            let mut below = Section::of(desk, &path, node);
            let name = words::environment(&key.text);
            let name = name.map_err(|fault| desk.complain(key.line, &path, fault)).ok();
            let driver = self.driver(desk, &mut below, key.line);
            let owner = scope.team().zip(name.as_ref());
            let authorities = self.authorities(desk, &mut below, owner);
            let credential = credential::read(desk, &mut below, scope, &mut self.uses);
            below.close();
            if let (Some(name), Some(driver)) = (name, driver) {
                let hidden = Hidden::default();
                environments.insert(name, Environment { driver, credential, hidden, authorities });
            }
        }
        environments
    }

    fn authorities(
        &mut self,
        desk: &Desk,
        section: &mut Section<'_>,
        owner: Option<(&TeamName, &EnvironmentName)>,
    ) -> Vec<Authority> {
        let path = section.below("authorities");
        let mut authorities = Vec::new();
        for word in section.words("authorities").unwrap_or_default() {
            match words::authority(&word.text) {
                Err(fault) => desk.complain(word.line, &path, fault),
                Ok(host) => {
                    if self.unique(desk, word.line, &path, &format!("the host '{host}'")) {
                        if let Some((team, environment)) = owner {
                            let owner = (team.clone(), environment.clone());
                            self.authorities.insert(host.clone(), owner);
                        }
                        authorities.push(host);
                    }
                }
            }
        }
        authorities
    }

    fn driver(
        &mut self,
        desk: &Desk,
        section: &mut Section<'_>,
        line: u64,
    ) -> Option<DriverAddress> {
        let key = section.below("driver");
        if !section.has("driver") {
            let remedy = "write where the driver listens, as driver: host:15002";
            desk.complain(line, &key, Fault::new("is missing", remedy));
        }
        let (driver, line) = section.word_at("driver", words::driver)?;
        self.drivers.push((driver.clone(), desk.file().to_owned(), line, key));
        Some(driver)
    }

    /// Complaints about drivers that are sconce itself: they would be called without end.
    pub(super) fn loops(&self, own: SocketAddr) -> Vec<Complaint> {
        let loops = self.drivers.iter().filter(|(driver, ..)| driver.is_served_by(own));
        let complaints = loops.flat_map(|(driver, file, line, key)| {
            let desk = Desk::new(file);
            let what = format!("{driver} is sconce's own address");
            desk.complain(*line, key, Fault::new(what, "write where the Spark driver listens"));
            desk.clear()
        });
        complaints.collect()
    }

    /// Whether this is said for the first time; a complaint that names the first place if not.
    fn unique(&mut self, desk: &Desk, line: u64, key: &str, what: &str) -> bool {
        let here = (desk.file().to_owned(), line);
        match self.said.get(what) {
            None => {
                self.said.insert(what.to_owned(), here);
                true
            }
            Some((file, first)) => {
                let what = format!("{what} stands in {}:{first} already", file.display());
                desk.complain(line, key, Fault::new(what, "keep one of the two"));
                false
            }
        }
    }
}

/// The keys of Spark's configuration that clients do not see.
fn hidden(desk: &Desk, top: &mut Section<'_>) -> Vec<String> {
    let path = top.below("hidden_configurations");
    let words = top.words("hidden_configurations").unwrap_or_default();
    if words.len() > HIDDEN_MAX {
        let what = format!("has more than {HIDDEN_MAX} keys");
        desk.complain(top.line(), &path, Fault::new(what, "hide fewer"));
    }
    let mut keys = Vec::new();
    for Word { line, text } in words {
        let sound = (1..=KEY_MAX).contains(&text.len());
        if sound && text.bytes().all(|octet| octet.is_ascii_graphic()) {
            keys.push(text);
        } else {
            let what = format!("{} cannot be a key of Spark's configuration", shown(&text));
            let remedy = "write a whole key, as spark.hadoop.fs.s3a.secret.key";
            desk.complain(line, &path, Fault::new(what, remedy));
        }
    }
    keys
}
