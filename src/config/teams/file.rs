//! One team's file: read and checked alone.
//!
//! Must never happen here: a look at another team's file, or a team of a file that has an error.

use crate::config::{
    DriverAddress, Environment, Team, credential,
    diagnostics::{Diagnostics, Problem, quote},
    files,
    members::{self, CallerNames},
    parse,
    secrets::{SecretScope, SecretUses, Secrets},
    section::{Scalar, Section},
    yaml::{self, Value},
};
use crate::grpc::redact::{HiddenKeys, KEY_MAX};
use sconce_filters::{EnvironmentName, TeamName, team::Authority};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    rc::Rc,
};

/// The most keys that one team hides.
const HIDDEN_MAX: usize = 1000;
/// The most hosts that are looked for in a file that is not YAML.
const HOSTS_MAX: usize = 1000;
/// Where a driver keeps its own token (Spark 4.0 and later).
const TOKEN_KEY: &str = "spark.connect.authenticate.token";

/// What the main file says that team files are held against.
#[derive(Debug)]
pub(in crate::config) struct Rules {
    pub(in crate::config) secrets: Secrets,
    /// The names that callers can have, where somebody is asked for his.
    pub(in crate::config) names: Option<CallerNames>,
    /// Whether `authenticate` is in the chain.
    pub(in crate::config) is_authenticated: bool,
    /// sconce's own address.
    pub(in crate::config) listen_address: Option<SocketAddr>,
}

/// What one file says.
#[derive(Debug)]
pub(super) struct TeamFile {
    pub(super) diagnostics: Diagnostics,
    /// The team that it is about, and the line that says so, if that can be read.
    pub(super) name: Option<(TeamName, u64)>,
    /// The team, if nothing is wrong with the file.
    pub(super) team: Option<Team>,
    /// The hosts that it lists, whether or not something is wrong with it.
    pub(super) hosts: BTreeMap<Authority, ListedHost>,
    /// What looks like a host in a file that is not YAML.
    pub(super) guessed_hosts: BTreeSet<Authority>,
    /// Whether its name does not end in `.yaml`.
    pub(super) is_misnamed: bool,
}

/// Where a file lists a host.
#[derive(Debug)]
pub(super) struct ListedHost {
    pub(super) line: u64,
    /// The key, which all hosts of an environment share.
    pub(super) key: Rc<str>,
}

/// Reads a file. What it names as secrets is noted in `uses`.
pub(super) fn read(file: &Path, rules: &Rules, uses: &mut SecretUses) -> TeamFile {
    let desk = Diagnostics::new(file);
    let text = files::read_yaml(file);
    let node = text.as_ref().map_err(Clone::clone).and_then(|text| {
        yaml::parse(text)
            .map_err(|garbled| (garbled.line, Problem::new(garbled.what, garbled.help)))
    });
    let mut reader = TeamFileReader { diagnostics: &desk, rules, uses, hosts: BTreeMap::new() };
    let found = node.and_then(|node| match node.value {
        Value::Nothing => {
            let remedy = "write 'team: ads' and 'environments:' with at least one";
            Err((node.line, Problem::new("says nothing", remedy)))
        }
        Value::Text(_) | Value::List(_) | Value::Mapping(_) => {
            Ok(reader.team(Section::new(&desk, "", node)))
        }
    });
    let hosts = reader.hosts;
    let mut guessed = BTreeSet::new();
    let (name, team) = found.unwrap_or_else(|(line, fault)| {
        desk.report(line, "", fault);
        guessed = guess_hosts(text.as_deref().unwrap_or_default());
        (None, None)
    });
    let team = team.filter(|_| desk.error_count() == 0);
    TeamFile { diagnostics: desk, name, team, hosts, guessed_hosts: guessed, is_misnamed: false }
}

/// The words of a text that may be hosts: behind the key `authorities` and no other one, with a
/// dot, and without a port, as drivers have one. Never from a comment: a host that all teams share
/// may stand there, and would be lost to them.
fn guess_hosts(text: &str) -> BTreeSet<Authority> {
    let mut hosts = BTreeSet::new();
    let mut is_listed = false;
    for piece in
        text.lines().map(without_comment).flat_map(|line| line.split_inclusive(is_separator))
    {
        let word =
            piece.trim_matches(|letter: char| is_separator(letter) || "'\"".contains(letter));
        match word.strip_suffix(':') {
            Some(key) => is_listed = key.trim_matches(['\'', '"']) == "authorities",
            None if is_listed && word.contains('.') && !word.contains([':', '/']) => {
                hosts.extend(Authority::parse(word).ok());
            }
            None => {}
        }
        is_listed &= !piece.ends_with([']', '}']) && hosts.len() < HOSTS_MAX;
    }
    hosts
}

/// Whether a letter stands between the words of a text.
fn is_separator(letter: char) -> bool {
    letter.is_whitespace() || "[]{},".contains(letter)
}

fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| {
        line.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
    };
    let comment = line.match_indices('#').find(begins);
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}

struct TeamFileReader<'r> {
    diagnostics: &'r Diagnostics,
    rules: &'r Rules,
    uses: &'r mut SecretUses,
    hosts: BTreeMap<Authority, ListedHost>,
}

impl TeamFileReader<'_> {
    fn team(&mut self, mut top: Section<'_>) -> (Option<(TeamName, u64)>, Option<Team>) {
        let desk = self.diagnostics;
        if !top.has("team") {
            top.report_missing("team", "name the team, as team: ads");
        }
        let name = top.scalar_at("team", parse::team_name);
        let hidden = hidden_keys(desk, &mut top);
        let rules = self.rules;
        let scope = rules.secrets.scope(name.as_ref().map(|(name, _)| name));
        let credential = credential::read(desk, &mut top, scope, self.uses);
        let mut environments = self.environments(&mut top, scope);
        // One list for all environments: a file costs what its length costs.
        let with_token = HiddenKeys::of(hidden.iter().cloned().chain([TOKEN_KEY.to_owned()]));
        let hidden = HiddenKeys::of(hidden);
        for environment in environments.values_mut() {
            let own = environment.credential.take();
            environment.credential = own.or_else(|| credential.clone());
            let has_token = environment.credential.is_some();
            environment.hidden_keys = if has_token { &with_token } else { &hidden }.clone();
        }
        let members = top.optional_section("members").map(|section| {
            if !rules.is_authenticated {
                let what = "mean nothing while authenticate is not in the chain";
                let remedy = "add it to the chain, or remove the members";
                desk.report(section.line(), "members", Problem::new(what, remedy));
            }
            members::read(desk, section, rules.names.as_ref())
        });
        top.finish();
        let (file, members) = (desk.file().to_owned(), members.unwrap_or_default());
        let names =
            rules.names.as_ref().filter(|_| rules.is_authenticated && desk.error_count() == 0);
        if let Some((names, (team, line))) = names.zip(name.as_ref()) {
            names.check_team(desk, (team, *line), &members);
        }
        let team = name.is_some().then_some(Team { file, environments, members });
        (name, team)
    }

    fn environments(
        &mut self,
        top: &mut Section<'_>,
        scope: SecretScope<'_>,
    ) -> BTreeMap<EnvironmentName, Environment> {
        let desk = self.diagnostics;
        let mut section = top.section("environments");
        let mut environments = BTreeMap::new();
        let entries = section.take_rest();
        if entries.is_empty() && !section.is_malformed() {
            let remedy =
                "write 'environments:' and under it at least one, as prod, with its driver";
            let fault = Problem::new("there is no environment", remedy);
            desk.report(section.line(), "environments", fault);
        }
        for (key, node) in entries {
            let path = section.path_of(&key.text);
            let mut below = Section::new(desk, &path, node);
            let name = parse::environment_name(&key.text);
            let name = name.map_err(|fault| desk.report(key.line, &path, fault)).ok();
            let driver = self.driver(&mut below, key.line);
            let authorities = self.authorities(&mut below);
            let credential = credential::read(desk, &mut below, scope, self.uses);
            below.finish();
            if let (Some(name), Some(driver)) = (name, driver) {
                let hidden = HiddenKeys::default();
                environments.insert(
                    name,
                    Environment { driver, credential, hidden_keys: hidden, authorities },
                );
            }
        }
        environments
    }

    fn authorities(&mut self, section: &mut Section<'_>) -> Vec<Authority> {
        let key: Rc<str> = section.path_of("authorities").into();
        let mut authorities = Vec::new();
        for Scalar { line, text } in section.scalars("authorities").unwrap_or_default() {
            match parse::authority(&text).map(|host| (self.hosts.get(&host), host)) {
                Err(fault) => self.diagnostics.report(line, &key, fault),
                Ok((Some(first), host)) => {
                    let what = format!("the host '{host}' stands in line {} already", first.line);
                    self.diagnostics.report(line, &key, Problem::new(what, "keep one of the two"));
                }
                Ok((None, host)) => {
                    self.hosts.insert(host.clone(), ListedHost { line, key: Rc::clone(&key) });
                    authorities.push(host);
                }
            }
        }
        authorities
    }

    fn driver(&mut self, section: &mut Section<'_>, line: u64) -> Option<DriverAddress> {
        let key = section.path_of("driver");
        if !section.has("driver") && !section.is_malformed() {
            let remedy = "write where the driver listens, as driver: host:15002";
            self.diagnostics.report(line, &key, Problem::new("is missing", remedy));
        }
        let (driver, line) = section.scalar_at("driver", parse::driver_address)?;
        // It would be called without end.
        if self.rules.listen_address.is_some_and(|own| driver.is_served_by(own)) {
            let what = format!("{driver} is sconce's own address");
            let remedy = "write where the Spark driver listens";
            self.diagnostics.report(line, &key, Problem::new(what, remedy));
        }
        Some(driver)
    }
}

/// The keys of Spark's configuration that clients do not see.
fn hidden_keys(desk: &Diagnostics, top: &mut Section<'_>) -> Vec<String> {
    let path = top.path_of("hidden_configurations");
    let words = top.scalars("hidden_configurations").unwrap_or_default();
    if words.len() > HIDDEN_MAX {
        let what = format!("has more than {HIDDEN_MAX} keys");
        desk.report(top.line(), &path, Problem::new(what, "hide fewer"));
    }
    let mut keys = Vec::new();
    for Scalar { line, text } in words {
        let sound = (1..=KEY_MAX).contains(&text.len());
        if sound && text.bytes().all(|octet| octet.is_ascii_graphic()) {
            keys.push(text);
        } else {
            let what = format!("{} cannot be a key of Spark's configuration", quote(&text));
            let remedy = "write a whole key, as spark.hadoop.fs.s3a.secret.key";
            desk.report(line, &path, Problem::new(what, remedy));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use crate::config::{self, LoadContext, LoadResult, Served};
    use std::{
        fs,
        time::{Duration, Instant},
    };

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of how long it takes")]
    fn a_file_costs_memory_and_time_by_its_length_alone() {
        let many = |count, of: fn(usize) -> String| (0..count).map(of).collect::<String>();
        let environments = many(12_000, |at| format!("  e{at}: {{ driver: 'a:1' }}\n"));
        let hidden = many(40_000, |at| format!("k{at},"));
        let hosts = many(45_000, |at| format!("h{at}.x,"));
        let keys = many(45_000, |at| format!("k{at}: 1\n"));
        let long = "e".repeat(400_000);
        for text in [
            format!("team: ml\nhidden_configurations: [{hidden}]\nenvironments:\n{environments}"),
            format!("team: ml\nenvironments:\n  ? {long}\n  : {{ authorities: [{hosts}] }}\n"),
            format!("team: ml\n{keys}"),
        ] {
            let home = tempfile::tempdir().unwrap();
            let (main, teams) = (home.path().join("sconce.yaml"), home.path().join("teams"));
            fs::create_dir(&teams).unwrap();
            fs::write(&main, "teams: { directory: teams }\n").unwrap();
            let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
            fs::write(teams.join("ads.yaml"), ads).unwrap();
            fs::write(teams.join("ml.yaml"), text).unwrap();
            let began = Instant::now();
            let LoadResult { config: plan, team_errors: errors, .. } =
                config::read(&main, &LoadContext::default(), None);
            assert!(plan.is_ok() && errors["ml"].served == Served::Nothing);
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
    }
}
