//! The team files: one team each, checked alone and then against one another.

use crate::config::{
    DriverAddress, Environment, Team,
    complaint::{Complaint, Desk, Fault, shown},
    credential, draft, folder,
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
    /// The files that team files name, found or not.
    pub(super) others: Vec<PathBuf>,
    /// The files that list members, and the lines where they do.
    listed: Vec<(PathBuf, u64)>,
}

/// Reads every team file of a directory. The complaints are those about the files in it; what is
/// wrong with the directory itself is an `Err`.
pub(super) fn gather(directory: &Path) -> Result<(Gathered, Vec<Complaint>), Fault> {
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
        gathered.read(&desk);
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

    fn read(&mut self, desk: &Desk) {
        let text = match folder::read(desk.file()) {
            Ok(text) => text,
            Err((line, fault)) => return desk.complain(line, "", fault),
        };
        match draft::read(&text) {
            Ok(node) => self.team(desk, Section::of(desk, "", node)),
            Err(draft::Garbled { line, what, remedy }) => {
                desk.complain(line, "", Fault::new(what, remedy));
            }
        }
    }

    fn team(&mut self, desk: &Desk, mut top: Section<'_>) {
        let known = top.has("team");
        let name = top.word_at("team", words::team);
        if !known {
            top.miss("team", "name the team, as team: ads");
        }
        let file = desk.file().to_owned();
        let hidden = hidden(desk, &mut top);
        let credential = credential::read(desk, &mut top, &mut self.others);
        let owner = name.as_ref().map(|(name, _)| name);
        let mut environments = self.read_environments(desk, &mut top, owner);
        for environment in environments.values_mut() {
            let own = environment.credential.take();
            environment.credential = own.or_else(|| credential.clone());
            let key = environment.credential.as_ref().map(|_| TOKEN_KEY.to_owned());
            environment.hidden = Hidden::of(hidden.iter().cloned().chain(key));
        }
        let members = top.section_if_there("members").map(|section| {
            self.listed.push((desk.file().to_owned(), section.line()));
            members(section)
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
        team: Option<&TeamName>,
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
            let authorities = self.authorities(desk, &mut below, team.zip(name.as_ref()));
            let credential = credential::read(desk, &mut below, &mut self.others);
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

fn members(mut section: Section<'_>) -> Members {
    let mut names = |key| {
        let words = section.words(key).unwrap_or_default();
        words.into_iter().map(|word| word.text).collect()
    };
    let members = Members { users: names("users"), groups: names("groups") };
    section.close();
    members
}
