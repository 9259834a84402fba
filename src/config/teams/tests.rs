//! Team files with errors at a start and at a reload.

use crate::config::{self, Config, LoadContext, LoadResult, Served};
use sconce_filters::{Call, ChainStep, Method, Refusal, call::StaticMetadata};
use std::{collections::BTreeMap, fs, rc::Rc, time::Instant};
use tempfile::TempDir;

const MAIN: &str = "teams: { directory: teams }\n";
const DEFAULTS: &str =
    "teams: { directory: teams, default_team: ads, default_environment: prod }\n";
const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 'ads:1', authorities: [ads.x] }\n";
const ML: &str = "team: ml\nenvironments:\n  lab: { driver: 'ml:1', authorities: [ml.x] }\n";

/// A directory of files and the live config.
struct Fixture {
    home: TempDir,
    live: Option<Config>,
}

impl Fixture {
    fn new(teams: &[(&str, &str)]) -> Self {
        let home = Self { home: tempfile::tempdir().unwrap(), live: None };
        fs::create_dir(home.home.path().join("teams")).unwrap();
        home.main(MAIN);
        teams.iter().for_each(|(name, text)| home.write(name, text));
        home
    }

    /// A configuration that is live.
    fn live(teams: &[(&str, &str)]) -> Self {
        let mut home = Self::new(teams);
        assert_eq!(home.apply(), BTreeMap::new());
        home
    }

    fn main(&self, text: &str) {
        fs::write(self.home.path().join("sconce.yaml"), text).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.home.path().join("teams").join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.home.path().join("teams").join(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        let place = |name| self.home.path().join("teams").join(name);
        fs::rename(place(from), place(to)).unwrap();
    }

    fn read(&self) -> LoadResult {
        let main = self.home.path().join("sconce.yaml");
        config::read(&main, &LoadContext::default(), self.live.as_ref())
    }

    /// Reads the files and makes them live. Returns the errors by team.
    fn apply(&mut self) -> BTreeMap<String, (Served, Vec<String>)> {
        let LoadResult { config, team_errors: errors, .. } = self.read();
        self.live = Some(config.unwrap());
        let place = format!("{}/teams/", self.home.path().display());
        let messages = |it: &config::ConfigError| format!("{it}").replace(&place, "");
        let errors = errors.into_iter();
        errors
            .map(|(team, it)| (team, (it.served, it.errors.iter().map(messages).collect())))
            .collect()
    }

    /// The errors by team: how it is served, and the number of errors.
    fn errors(&mut self) -> Vec<(String, Served, usize)> {
        self.apply().into_iter().map(|(team, (served, all))| (team, served, all.len())).collect()
    }

    /// The driver of a call to this team or host, or the label of its refusal.
    fn goes(&self, url: &str) -> String {
        self.ask(url).unwrap_or_else(|refusal| refusal.label.to_owned())
    }

    fn ask(&self, url: &str) -> Result<String, Refusal> {
        let metadata = match url.split_once('/') {
            Some((team, environment)) => StaticMetadata::new("")
                .with("x-sconce-team", team)
                .with("x-sconce-env", environment),
            None => StaticMetadata::new(url),
        };
        let peer = ([127, 0, 0, 1], 1).into();
        let mut call = Call::new(Method::Config, Rc::new(metadata), peer, now());
        let live = self.live.as_ref().unwrap();
        match live.filters.chain().admit(&mut call) {
            ChainStep::Admitted => {
                let team = &live.teams[call.team()?];
                Ok(team.environments[call.environment()?].driver.to_string())
            }
            ChainStep::Refused(refusal) => Err(refusal),
            ChainStep::Pending(_) => panic!("nobody is asked for"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
fn now() -> Instant {
    Instant::now()
}

fn of(team: &str, served: Served, count: usize) -> (String, Served, usize) {
    (team.to_owned(), served, count)
}

#[test]
fn an_error_at_a_start_affects_its_team_only() {
    for broken in ["tea", "team: [", "team: ml\n", &ML.replace("driver", "drivr"), ""] {
        let mut home = Fixture::new(&[("ads.yaml", ADS), ("ml.yaml", broken)]);
        let errors = home.errors();
        let is_read = broken.starts_with("team: ml");
        let label = if is_read { "ml" } else { "ml.yaml" };
        assert_eq!(
            errors.iter().map(|it| (&*it.0, it.1)).collect::<Vec<_>>(),
            [(label, Served::Nothing)]
        );
        assert_eq!(home.goes("ads/prod"), "ads:1");
        assert_eq!(home.goes("ads.x"), "ads:1");
        let ml = if is_read { "team.misconfigured" } else { "team.unknown" };
        assert_eq!(home.goes("ml/lab"), ml, "{broken}");
    }
}

#[test]
fn the_refusal_for_a_team_file_error_names_the_operators() {
    let mut home = Fixture::new(&[("ads.yaml", ADS), ("ml.yaml", "team: ml\n")]);
    home.apply();
    let refusal = home.ask("ml/lab").unwrap_err();
    assert_eq!(refusal.code.number(), 9, "FAILED_PRECONDITION, which clients do not try again");
    let expected = "team 'ml' cannot be served: its configuration here has an error; your URL may \
                    be right: ask the operators of this service to correct the team's file";
    assert_eq!(refusal.message, expected);
}

#[test]
fn after_an_error_at_a_reload_the_team_keeps_its_config_and_other_changes_apply() {
    for broken in ["tea", "team: [", "team: ml\n", "team: ML\n", &ML.replace("driver", "drivr"), ""]
    {
        let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
        home.write("ml.yaml", broken);
        home.write("ads.yaml", &ADS.replace("ads:1", "ads:2"));
        let errors = home.apply();
        let label = if broken.starts_with("team: ml") { "ml" } else { "ml.yaml" };
        let errors: Vec<_> = errors.iter().map(|(team, it)| (&**team, it.0)).collect();
        assert_eq!(errors, [(label, Served::LastGood)]);
        assert_eq!(
            ["ads/prod", "ads.x", "ml/lab", "ml.x"].map(|it| home.goes(it)),
            ["ads:2", "ads:2", "ml:1", "ml:1"]
        );
        home.write("ml.yaml", &ML.replace("ml:1", "ml:2"));
        assert_eq!((home.errors(), home.goes("ml/lab")), (vec![], "ml:2".to_owned()));
    }
}

#[test]
fn an_unreadable_secret_is_an_error_of_its_team() {
    let secret = format!("{ML}driver_token_file: token\n");
    let mut home = Fixture::new(&[("ads.yaml", ADS), ("ml.yaml", &secret)]);
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)]);
    home.write("token", "secret");
    assert_eq!(home.errors(), []);
    home.remove("token");
    assert_eq!(home.errors(), [of("ml", Served::LastGood, 1)]);
    assert_eq!([home.goes("ml/lab"), home.goes("ads/prod")], ["ml:1", "ads:1"]);
}

#[test]
fn a_removed_file_removes_the_team_without_an_error() {
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.main(DEFAULTS);
    home.remove("ml.yaml");
    assert_eq!(home.errors(), []);
    assert_eq!(home.goes("ml/lab"), "team.removed");
    assert_eq!(home.goes("sales/lab"), "team.unknown");
    assert_eq!(home.goes("ml.x"), "team.removed", "and is not led to the default team");
    assert_eq!(home.goes("other.x"), "ads:1");
    assert_eq!(home.errors(), []);
    assert_eq!(home.goes("ml/lab"), "team.removed", "after another reading");
    home.write("sales.yaml", &ML.replace("ml", "sales").replace("sales.x", "ml.x"));
    assert_eq!(home.errors(), []);
    assert_eq!(home.goes("ml.x"), "sales:1");
    home.write("ml.yaml", &ML.replace("ml.x", "new.x"));
    assert_eq!((home.errors(), home.goes("ml/lab")), (vec![], "ml:1".to_owned()));
    home.write("ml.yaml", ML);
    assert_eq!(
        home.errors(),
        [of("ml", Served::ValidParts, 1)],
        "the host is that of another team"
    );
    assert_eq!(["ml.x", "ml/lab"].map(|it| home.goes(it)), ["sales:1", "ml:1"]);
    home.remove("sales.yaml");
    assert_eq!((home.errors(), home.goes("ml.x")), (vec![], "ml:1".to_owned()));
}

#[test]
fn a_host_of_an_unserved_team_is_not_routed_to_the_default() {
    for broken in [ML.replace("driver", "drivr"), format!("{ML}]"), ML.replace("team: ml\n", "")] {
        let mut home = Fixture::new(&[("ads.yaml", ADS), ("ml.yaml", &broken)]);
        home.main(DEFAULTS);
        home.apply();
        assert_eq!(home.goes("ml.x"), "team.misconfigured", "{broken}");
        assert_eq!(home.goes("ads/prod"), "ads:1");
    }
}

#[test]
fn an_invalid_yaml_file_affects_only_its_own_hosts() {
    for broken in [
        format!("# dial all.x, see authorities: [all.x]\n{ML}]"),
        format!("{ML}driver_token_file: all.x\n]"),
        format!("{ML}members: {{ users: [ann@all.x, all.x] }}\n]"),
        ML.replace("[ml.x] }", "\n      - ml.x # not all.x\n  all.x: {}\n  ["),
        ML.replace("[ml.x] }", "['ml.x'\n  ], all.x, "),
    ] {
        let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
        home.main(DEFAULTS);
        home.apply();
        home.write("ml.yaml", &broken);
        assert_eq!(home.errors(), [of("ml.yaml", Served::LastGood, 1)], "{broken}");
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "ml:1"], "{broken}");
        let mut home = Fixture { live: None, ..home };
        home.apply();
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "team.misconfigured"]);
    }
}

#[test]
fn a_file_with_an_error_gets_no_new_host() {
    let hosts = ML.replace("[ml.x]", "[ml.x, all.x]");
    for broken in [hosts.replace("driver", "drivr"), format!("{hosts}]")] {
        let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
        home.main(DEFAULTS);
        home.write("ml.yaml", &broken);
        assert_eq!(home.errors().len(), 1);
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "ml:1"], "{broken}");
    }
}

#[test]
fn an_error_in_another_file_does_not_keep_a_removed_team() {
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.remove("ads.yaml");
    home.write("ml.yaml", "team: ads\n");
    home.apply();
    assert_eq!(["ads/prod", "ads.x"].map(|it| home.goes(it)), ["team.removed"; 2]);
    assert_eq!(home.goes("ml/lab"), "ml:1");
}

#[test]
fn of_two_files_for_one_team_only_a_live_one_is_served() {
    let other = ADS.replace("ads:1", "evil:1");
    let teams = [("ads.yaml", ADS), ("ml.yaml", ML), ("b.yaml", &*other)];
    let mut home = Fixture::new(&teams);
    let errors = home.apply();
    let messages = |team: &str| errors[team].clone();
    let both = vec![
        "ads.yaml:1: team: the team 'ads' is also in b.yaml:1; keep one of the two".to_owned(),
        "b.yaml:1: team: the team 'ads' is also in ads.yaml:1; keep one of the two".to_owned(),
    ];
    assert_eq!((errors.len(), messages("ads")), (1, (Served::Nothing, both)));
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["team.misconfigured", "ml:1"]);
    assert_eq!(home.goes("ads.x"), "team.misconfigured");

    let mut home = Fixture::live(&teams[..2]);
    home.write("b.yaml", &other);
    let errors = home.apply();
    let theirs =
        "b.yaml:1: team: the team 'ads' belongs to ads.yaml, which is live; keep one of the two";
    assert_eq!(errors["ads"], (Served::ValidParts, vec![theirs.to_owned()]));
    assert_eq!(["ads/prod", "ads.x"].map(|it| home.goes(it)), ["ads:1", "ads:1"]);
    home.write("ads.yaml", "team: [");
    home.apply();
    assert_eq!(home.goes("ads/prod"), "ads:1", "nobody takes a team over while its file is broken");
    home.remove("ads.yaml");
    assert_eq!((home.errors(), home.goes("ads/prod")), (vec![], "evil:1".to_owned()));
}

#[test]
fn a_file_that_defines_the_team_of_another_file_keeps_its_own() {
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.write("ml.yaml", ADS);
    home.write("sales.yaml", &ML.replace("ml:1", "sales:1"));
    let errors = home.errors();
    assert_eq!(errors, [of("ads", Served::ValidParts, 1), of("ml", Served::LastGood, 1)]);
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
}

#[test]
fn a_file_with_a_wrong_extension_keeps_its_team() {
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.rename("ads.yaml", "ads.yml");
    home.write("ml.yaml", &ADS.replace("ads:1", "evil:1"));
    assert_eq!(home.errors(), [of("ads", Served::LastGood, 2)]);
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
    home.rename("ads.yml", "ads.yaml");
    home.write("ml.yaml", ML);
    home.write("ads.yml", ADS);
    assert_eq!(
        home.errors(),
        [of("ads", Served::ValidParts, 1)],
        "a copied file does not remove the team"
    );
}

#[test]
fn two_files_can_swap_teams_and_names() {
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.write("ads.yaml", &ML.replace("ml:1", "ml:2"));
    home.write("ml.yaml", &ADS.replace("ads:1", "ads:2"));
    assert_eq!(home.errors(), []);
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:2", "ml:2"]);
    home.rename("ads.yaml", "z.yaml");
    assert_eq!((home.errors(), home.goes("ml.x")), (vec![], "ml:2".to_owned()));
    home.rename("z.yaml", "z.yml");
    assert_eq!(home.errors(), [of("ml", Served::LastGood, 1)], "a name that is passed over");
    assert_eq!(home.goes("ml/lab"), "ml:2");
}

#[test]
fn of_two_environments_with_one_host_only_a_live_one_has_it() {
    let thief = ML.replace("ml.x", "ads.x");
    let mut home = Fixture::new(&[("ads.yaml", ADS), ("ml.yaml", &thief)]);
    assert_eq!(home.errors(), [of("ads", Served::ValidParts, 1), of("ml", Served::ValidParts, 1)]);
    assert_eq!(home.goes("ads.x"), "team.misconfigured");
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
    assert_eq!(home.errors().len(), 2, "a reload changes nothing about it");
    assert_eq!(home.goes("ads.x"), "team.misconfigured");
    home.write("ads.yaml", &ADS.replace("ads.x", "other.x"));
    assert_eq!((home.errors(), home.goes("ads.x")), (vec![], "ml:1".to_owned()));

    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.write("ml.yaml", &thief.replace("ml:1", "ml:2"));
    let errors = home.apply();
    let theirs = "ml.yaml:3: environments.lab.authorities: the host 'ads.x' belongs to ads.yaml, \
                  which is live; keep one of the two";
    assert_eq!(
        errors.into_iter().collect::<Vec<_>>(),
        [("ml".to_owned(), (Served::ValidParts, vec![theirs.to_owned()]))]
    );
    assert_eq!(["ads.x", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:2"]);
}

#[test]
fn an_error_in_the_main_file_rejects_all_changes() {
    let home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.main(&format!("{MAIN}x: 1\n"));
    home.write("ml.yaml", "team: [");
    let LoadResult { config, team_errors: errors, .. } = home.read();
    assert_eq!(config.unwrap_err().len(), 1);
    assert_eq!(errors.len(), 1, "and all errors are told at once");
}

#[test]
fn a_directory_without_a_valid_team_is_an_error_of_the_main_file() {
    let fills: [fn(&Fixture); 3] = [
        |_| {},
        |home: &Fixture| home.write("a.yaml", "tea"),
        |home: &Fixture| fs::remove_dir(home.home.path().join("teams")).unwrap(),
    ];
    for fill in fills {
        let home = Fixture::new(&[]);
        fill(&home);
        let messages = home.read().config.unwrap_err();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(["teams.directory", ""].contains(&&*messages[0].key), "{messages:?}");
    }
    let home = Fixture::live(&[("ads.yaml", ADS)]);
    home.remove("ads.yaml");
    assert_eq!(home.read().config.unwrap_err()[0].key, "teams.directory");
}

#[test]
fn an_invalid_default_after_a_team_change_does_not_block_other_teams() {
    let main = "teams: { directory: teams, default_team: ml, default_environment: lab }\n";
    let mut home = Fixture::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.main(main);
    assert_eq!(home.errors(), []);
    home.write("ads.yaml", &ADS.replace("ads:1", "ads:2"));
    home.write("ml.yaml", &ML.replace("lab", "moon"));
    assert_eq!(home.errors(), [of("ml", Served::ValidParts, 1)]);
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.environment_unknown"]);
    home.remove("ml.yaml");
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)]);
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.removed"]);
    let mut home = Fixture { live: None, ..home };
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)], "at a start");
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.misconfigured"]);
    home.main(&main.replace("default_team: ml", "default_team: typo"));
    assert_eq!(
        home.read().config.unwrap_err()[0].key,
        "teams.default_team",
        "a change of the main file"
    );
}
