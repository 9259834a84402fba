//! One team file, parsed and validated alone.
//!
//! Must never happen here: a use of another team's file, or a team from a file with an error.

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

/// Maximum number of hidden keys of one team.
const HIDDEN_MAX: usize = 1000;
/// Maximum number of host names extracted from a file that is not YAML.
const HOSTS_MAX: usize = 1000;
/// The driver's own token (Spark 4.0 and later).
const TOKEN_KEY: &str = "spark.connect.authenticate.token";

/// Values of the main file that team files are checked against.
#[derive(Debug)]
pub(in crate::config) struct Rules {
    pub(in crate::config) secrets: Secrets,
    /// The possible names of callers, with authentication.
    pub(in crate::config) names: Option<CallerNames>,
    /// Whether `authenticate` is in the chain.
    pub(in crate::config) is_authenticated: bool,
    /// The listen address.
    pub(in crate::config) listen_address: Option<SocketAddr>,
}

/// The content of one file.
#[derive(Debug)]
pub(super) struct TeamFile {
    pub(super) diagnostics: Diagnostics,
    /// The team name and its line, if readable.
    pub(super) name: Option<(TeamName, u64)>,
    /// The team, if the file has no error.
    pub(super) team: Option<Team>,
    /// Its host names, even if the file has errors.
    pub(super) hosts: BTreeMap<Authority, ListedHost>,
    /// Possible host names in a file that is not YAML.
    pub(super) guessed_hosts: BTreeSet<Authority>,
    /// Whether the file name does not end in `.yaml`.
    pub(super) is_misnamed: bool,
}

/// Location of a host name.
#[derive(Debug)]
pub(super) struct ListedHost {
    pub(super) line: u64,
    /// The path of the key, shared by all hosts of an environment.
    pub(super) key: Rc<str>,
}

/// Reads a file. Records its secrets in `uses`.
pub(super) fn read(file: &Path, rules: &Rules, uses: &mut SecretUses) -> TeamFile {
    let diagnostics = Diagnostics::new(file);
    let text = files::read_yaml(file);
    let node = text.as_ref().map_err(Clone::clone).and_then(|text| {
        yaml::parse(text).map_err(|error| (error.line, Problem::new(error.what, error.help)))
    });
    let mut reader =
        TeamFileReader { diagnostics: &diagnostics, rules, uses, hosts: BTreeMap::new() };
    let found = node.and_then(|node| match node.value {
        Value::Nothing => {
            let help = "write 'team: ads' and 'environments:' with at least one environment";
            Err((node.line, Problem::new("is empty", help)))
        }
        Value::Text(_) | Value::List(_) | Value::Mapping(_) => {
            Ok(reader.team(Section::new(&diagnostics, "", node)))
        }
    });
    let hosts = reader.hosts;
    let mut guessed = BTreeSet::new();
    let (name, team) = found.unwrap_or_else(|(line, problem)| {
        diagnostics.report(line, "", problem);
        guessed = guess_hosts(text.as_deref().unwrap_or_default());
        (None, None)
    });
    let team = team.filter(|_| diagnostics.error_count() == 0);
    TeamFile { diagnostics, name, team, hosts, guessed_hosts: guessed, is_misnamed: false }
}

/// Extracts possible host names from invalid YAML: words after the key `authorities`, with a dot
/// and without a port. Skips comments, which may contain a host shared by all teams that would then
/// be refused.
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

/// Whether a character separates words.
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
        let diagnostics = self.diagnostics;
        if !top.has("team") {
            top.report_missing("team", "write the team name, for example team: ads");
        }
        let name = top.scalar_at("team", parse::team_name);
        let hidden = hidden_keys(diagnostics, &mut top);
        let rules = self.rules;
        let scope = rules.secrets.scope(name.as_ref().map(|(name, _)| name));
        let credential = credential::read(diagnostics, &mut top, scope, self.uses);
        let mut environments = self.environments(&mut top, scope);
        // Shared by all environments, so that memory is proportional to the file size.
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
                let what = "has no effect: authenticate is not in chain";
                let help = "add authenticate to chain, or remove members";
                diagnostics.report(section.line(), "members", Problem::new(what, help));
            }
            members::read(diagnostics, section, rules.names.as_ref())
        });
        top.finish();
        let (file, members) = (diagnostics.file().to_owned(), members.unwrap_or_default());
        let names = rules
            .names
            .as_ref()
            .filter(|_| rules.is_authenticated && diagnostics.error_count() == 0);
        if let Some((names, (team, line))) = names.zip(name.as_ref()) {
            names.check_team(diagnostics, (team, *line), &members);
        }
        let team = name.is_some().then_some(Team { file, environments, members });
        (name, team)
    }

    fn environments(
        &mut self,
        top: &mut Section<'_>,
        scope: SecretScope<'_>,
    ) -> BTreeMap<EnvironmentName, Environment> {
        let diagnostics = self.diagnostics;
        let mut section = top.section("environments");
        let mut environments = BTreeMap::new();
        let entries = section.take_rest();
        if entries.is_empty() && !section.is_malformed() {
            let help = "add at least one environment, for example prod, with its driver";
            let problem = Problem::new("is empty", help);
            diagnostics.report(section.line(), "environments", problem);
        }
        for (key, node) in entries {
            let path = section.path_of(&key.text);
            let mut below = Section::new(diagnostics, &path, node);
            let name = parse::environment_name(&key.text);
            let name = name.map_err(|problem| diagnostics.report(key.line, &path, problem)).ok();
            let driver = self.driver(&mut below, key.line);
            let authorities = self.authorities(&mut below);
            let credential = credential::read(diagnostics, &mut below, scope, self.uses);
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
                Err(problem) => self.diagnostics.report(line, &key, problem),
                Ok((Some(first), host)) => {
                    let what = format!("duplicate host '{host}', first in line {}", first.line);
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
            let help = "write the address of the driver, for example driver: host:15002";
            self.diagnostics.report(line, &key, Problem::new("is missing", help));
        }
        let (driver, line) = section.scalar_at("driver", parse::driver_address)?;
        // Otherwise calls would loop.
        if self.rules.listen_address.is_some_and(|own| driver.is_served_by(own)) {
            let what = format!("{driver} is sconce's own address");
            let help = "write the address of the Spark driver";
            self.diagnostics.report(line, &key, Problem::new(what, help));
        }
        Some(driver)
    }
}

/// Reads `hidden_configurations`.
fn hidden_keys(diagnostics: &Diagnostics, top: &mut Section<'_>) -> Vec<String> {
    let path = top.path_of("hidden_configurations");
    let values = top.scalars("hidden_configurations").unwrap_or_default();
    if values.len() > HIDDEN_MAX {
        let what = format!("has more than {HIDDEN_MAX} keys");
        diagnostics.report(top.line(), &path, Problem::new(what, "hide fewer"));
    }
    let mut keys = Vec::new();
    for Scalar { line, text } in values {
        let sound = (1..=KEY_MAX).contains(&text.len());
        if sound && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            keys.push(text);
        } else {
            let what = format!("{} is not a Spark configuration key", quote(&text));
            let help = "write a complete key, for example spark.hadoop.fs.s3a.secret.key";
            diagnostics.report(line, &path, Problem::new(what, help));
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
    fn time_and_memory_are_proportional_to_the_file_size() {
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
            let LoadResult { config, team_errors: errors, .. } =
                config::read(&main, &LoadContext::default(), None);
            assert!(config.is_ok() && errors["ml"].served == Served::Nothing);
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
    }
}
