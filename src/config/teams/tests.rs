//! Team files with errors, read as at a start and as at a reload: whom they affect.

use crate::config::{self, Config, LoadContext, LoadResult, Served};
use sconce_filters::{Call, ChainStep, Method, Refusal, call::StaticMetadata};
use std::{collections::BTreeMap, fs, rc::Rc, time::Instant};
use tempfile::TempDir;

const MAIN: &str = "teams: { directory: teams }\n";
const DEFAULTS: &str =
    "teams: { directory: teams, default_team: ads, default_environment: prod }\n";
const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 'ads:1', authorities: [ads.x] }\n";
const ML: &str = "team: ml\nenvironments:\n  lab: { driver: 'ml:1', authorities: [ml.x] }\n";

/// A directory of files, and the plan that is live.
struct Home {
    home: TempDir,
    live: Option<Config>,
}

impl Home {
    fn new(teams: &[(&str, &str)]) -> Self {
        let home = Self { home: tempfile::tempdir().unwrap(), live: None };
        fs::create_dir(home.home.path().join("teams")).unwrap();
        home.main(MAIN);
        teams.iter().for_each(|(name, text)| home.write(name, text));
        home
    }

    /// One that is live.
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

    /// Reads the files and makes them live. What is wrong, by team.
    fn apply(&mut self) -> BTreeMap<String, (Served, Vec<String>)> {
        let LoadResult { config: plan, team_errors: errors, .. } = self.read();
        self.live = Some(plan.unwrap());
        let place = format!("{}/teams/", self.home.path().display());
        let said = |it: &config::ConfigError| format!("{it}").replace(&place, "");
        let errors = errors.into_iter();
        errors.map(|(team, it)| (team, (it.served, it.errors.iter().map(said).collect()))).collect()
    }

    /// What is wrong, by team: what is served of it and how much is wrong.
    fn errors(&mut self) -> Vec<(String, Served, usize)> {
        self.apply().into_iter().map(|(team, (served, all))| (team, served, all.len())).collect()
    }

    /// Where a call of this team, or by this host, goes; or the label of its refusal.
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
fn an_error_at_a_start_refuses_its_team_alone() {
    for broken in ["tea", "team: [", "team: ml\n", &ML.replace("driver", "drivr"), ""] {
        let mut home = Home::new(&[("ads.yaml", ADS), ("ml.yaml", broken)]);
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
fn the_refusal_of_a_team_whose_file_has_an_error_points_to_the_operators() {
    let mut home = Home::new(&[("ads.yaml", ADS), ("ml.yaml", "team: ml\n")]);
    home.apply();
    let refusal = home.ask("ml/lab").unwrap_err();
    assert_eq!(refusal.code.number(), 9, "FAILED_PRECONDITION, which clients do not try again");
    let expected = "team 'ml' cannot be served: its configuration here has an error; your URL may \
                    be right: ask the operators of this service to correct the team's file";
    assert_eq!(refusal.message, expected);
}

#[test]
fn an_error_at_a_reload_leaves_the_team_its_last_good_configuration_and_others_their_changes() {
    for broken in ["tea", "team: [", "team: ml\n", "team: ML\n", &ML.replace("driver", "drivr"), ""]
    {
        let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
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
fn a_secret_that_cannot_be_read_is_an_error_of_the_team_that_names_it() {
    let secret = format!("{ML}driver_token_file: token\n");
    let mut home = Home::new(&[("ads.yaml", ADS), ("ml.yaml", &secret)]);
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)]);
    home.write("token", "secret");
    assert_eq!(home.errors(), []);
    home.remove("token");
    assert_eq!(home.errors(), [of("ml", Served::LastGood, 1)]);
    assert_eq!([home.goes("ml/lab"), home.goes("ads/prod")], ["ml:1", "ads:1"]);
}

#[test]
fn a_removed_file_is_a_removed_team_and_no_error() {
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
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
fn a_host_of_a_team_that_is_not_served_leads_to_no_default() {
    for broken in [ML.replace("driver", "drivr"), format!("{ML}]"), ML.replace("team: ml\n", "")] {
        let mut home = Home::new(&[("ads.yaml", ADS), ("ml.yaml", &broken)]);
        home.main(DEFAULTS);
        home.apply();
        assert_eq!(home.goes("ml.x"), "team.misconfigured", "{broken}");
        assert_eq!(home.goes("ads/prod"), "ads:1");
    }
}

#[test]
fn a_file_that_is_not_yaml_takes_no_host_but_those_it_lists() {
    for broken in [
        format!("# dial all.x, see authorities: [all.x]\n{ML}]"),
        format!("{ML}driver_token_file: all.x\n]"),
        format!("{ML}members: {{ users: [ann@all.x, all.x] }}\n]"),
        ML.replace("[ml.x] }", "\n      - ml.x # not all.x\n  all.x: {}\n  ["),
        ML.replace("[ml.x] }", "['ml.x'\n  ], all.x, "),
    ] {
        let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
        home.main(DEFAULTS);
        home.apply();
        home.write("ml.yaml", &broken);
        assert_eq!(home.errors(), [of("ml.yaml", Served::LastGood, 1)], "{broken}");
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "ml:1"], "{broken}");
        let mut home = Home { live: None, ..home };
        home.apply();
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "team.misconfigured"]);
    }
}

#[test]
fn a_file_with_an_error_takes_no_new_host_while_its_last_good_configuration_is_served() {
    let hosts = ML.replace("[ml.x]", "[ml.x, all.x]");
    for broken in [hosts.replace("driver", "drivr"), format!("{hosts}]")] {
        let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
        home.main(DEFAULTS);
        home.write("ml.yaml", &broken);
        assert_eq!(home.errors().len(), 1);
        assert_eq!(["all.x", "ml.x"].map(|it| home.goes(it)), ["ads:1", "ml:1"], "{broken}");
    }
}

#[test]
fn a_team_whose_file_is_gone_is_not_kept_by_an_error_in_another_team_s_file() {
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.remove("ads.yaml");
    home.write("ml.yaml", "team: ads\n");
    home.apply();
    assert_eq!(["ads/prod", "ads.x"].map(|it| home.goes(it)), ["team.removed"; 2]);
    assert_eq!(home.goes("ml/lab"), "ml:1");
}

#[test]
fn of_two_files_about_one_team_neither_is_served_at_a_start_and_the_live_one_at_a_reload() {
    let other = ADS.replace("ads:1", "evil:1");
    let teams = [("ads.yaml", ADS), ("ml.yaml", ML), ("b.yaml", &*other)];
    let mut home = Home::new(&teams);
    let errors = home.apply();
    let said = |team: &str| errors[team].clone();
    let both = vec![
        "ads.yaml:1: team: the team 'ads' stands in b.yaml:1 as well; keep one of the two"
            .to_owned(),
        "b.yaml:1: team: the team 'ads' stands in ads.yaml:1 as well; keep one of the two"
            .to_owned(),
    ];
    assert_eq!((errors.len(), said("ads")), (1, (Served::Nothing, both)));
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["team.misconfigured", "ml:1"]);
    assert_eq!(home.goes("ads.x"), "team.misconfigured");

    let mut home = Home::live(&teams[..2]);
    home.write("b.yaml", &other);
    let errors = home.apply();
    let theirs =
        "b.yaml:1: team: the team 'ads' is that of ads.yaml, which is live; keep one of the two";
    assert_eq!(errors["ads"], (Served::ValidParts, vec![theirs.to_owned()]));
    assert_eq!(["ads/prod", "ads.x"].map(|it| home.goes(it)), ["ads:1", "ads:1"]);
    home.write("ads.yaml", "team: [");
    home.apply();
    assert_eq!(home.goes("ads/prod"), "ads:1", "nobody takes a team over while its file is broken");
    home.remove("ads.yaml");
    assert_eq!((home.errors(), home.goes("ads/prod")), (vec![], "evil:1".to_owned()));
}

#[test]
fn a_file_that_names_another_team_by_mistake_keeps_its_own() {
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.write("ml.yaml", ADS);
    home.write("sales.yaml", &ML.replace("ml:1", "sales:1"));
    let errors = home.errors();
    assert_eq!(errors, [of("ads", Served::ValidParts, 1), of("ml", Served::LastGood, 1)]);
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
}

#[test]
fn a_file_that_gets_a_wrong_name_loses_its_team_to_no_other() {
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.rename("ads.yaml", "ads.yml");
    home.write("ml.yaml", &ADS.replace("ads:1", "evil:1"));
    assert_eq!(home.errors(), [of("ads", Served::LastGood, 2)]);
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
    home.rename("ads.yml", "ads.yaml");
    home.write("ml.yaml", ML);
    home.write("ads.yml", ADS);
    assert_eq!(home.errors(), [of("ads", Served::ValidParts, 1)], "a copy takes nothing away");
}

#[test]
fn two_files_may_change_their_teams_and_their_names() {
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
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
fn of_two_environments_with_one_host_neither_has_it_at_a_start_and_the_live_one_at_a_reload() {
    let thief = ML.replace("ml.x", "ads.x");
    let mut home = Home::new(&[("ads.yaml", ADS), ("ml.yaml", &thief)]);
    assert_eq!(home.errors(), [of("ads", Served::ValidParts, 1), of("ml", Served::ValidParts, 1)]);
    assert_eq!(home.goes("ads.x"), "team.misconfigured");
    assert_eq!(["ads/prod", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:1"]);
    assert_eq!(home.errors().len(), 2, "a reload changes nothing about it");
    assert_eq!(home.goes("ads.x"), "team.misconfigured");
    home.write("ads.yaml", &ADS.replace("ads.x", "other.x"));
    assert_eq!((home.errors(), home.goes("ads.x")), (vec![], "ml:1".to_owned()));

    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.write("ml.yaml", &thief.replace("ml:1", "ml:2"));
    let errors = home.apply();
    let theirs = "ml.yaml:3: environments.lab.authorities: the host 'ads.x' is that of ads.yaml, \
                  which is live; keep one of the two";
    assert_eq!(
        errors.into_iter().collect::<Vec<_>>(),
        [("ml".to_owned(), (Served::ValidParts, vec![theirs.to_owned()]))]
    );
    assert_eq!(["ads.x", "ml/lab"].map(|it| home.goes(it)), ["ads:1", "ml:2"]);
}

#[test]
fn an_error_of_the_main_file_rejects_the_whole_change() {
    let home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.main(&format!("{MAIN}x: 1\n"));
    home.write("ml.yaml", "team: [");
    let LoadResult { config: plan, team_errors: errors, .. } = home.read();
    assert_eq!(plan.unwrap_err().len(), 1);
    assert_eq!(errors.len(), 1, "and all errors are told at once");
}

#[test]
fn a_directory_that_is_empty_or_gone_or_serves_no_team_is_an_error_for_all() {
    let fills: [fn(&Home); 3] = [
        |_| {},
        |home: &Home| home.write("a.yaml", "tea"),
        |home: &Home| fs::remove_dir(home.home.path().join("teams")).unwrap(),
    ];
    for fill in fills {
        let home = Home::new(&[]);
        fill(&home);
        let said = home.read().config.unwrap_err();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(["teams.directory", ""].contains(&&*said[0].key), "{said:?}");
    }
    let home = Home::live(&[("ads.yaml", ADS)]);
    home.remove("ads.yaml");
    assert_eq!(home.read().config.unwrap_err()[0].key, "teams.directory");
}

#[test]
fn a_default_that_a_team_s_change_leads_nowhere_holds_up_nobody() {
    let main = "teams: { directory: teams, default_team: ml, default_environment: lab }\n";
    let mut home = Home::live(&[("ads.yaml", ADS), ("ml.yaml", ML)]);
    home.main(main);
    assert_eq!(home.errors(), []);
    home.write("ads.yaml", &ADS.replace("ads:1", "ads:2"));
    home.write("ml.yaml", &ML.replace("lab", "moon"));
    assert_eq!(home.errors(), [of("ml", Served::ValidParts, 1)]);
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.environment_unknown"]);
    home.remove("ml.yaml");
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)]);
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.removed"]);
    let mut home = Home { live: None, ..home };
    assert_eq!(home.errors(), [of("ml", Served::Nothing, 1)], "at a start");
    assert_eq!([home.goes("ads/prod"), home.goes("any.x")], ["ads:2", "team.misconfigured"]);
    home.main(&main.replace("default_team: ml", "default_team: typo"));
    assert_eq!(
        home.read().config.unwrap_err()[0].key,
        "teams.default_team",
        "a change of the main file"
    );
}
