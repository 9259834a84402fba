//! Whole directories read as people would write them: what becomes of them, and what is said.

use super::*;
use crate::grpc::redact::HiddenKeys;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sconce_filters::{Call, ChainStep, EnvironmentName, Method, TeamName, call::StaticMetadata};
use std::{
    fs,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;

/// A directory with a `sconce.yaml` and team files.
struct Home(TempDir);

impl Home {
    fn new(main: &str, teams: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("sconce.yaml"), main).unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        for (name, text) in teams {
            fs::write(home.path().join("teams").join(name), text).unwrap();
        }
        Self(home)
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("sconce.yaml")
    }

    fn load(&self) -> Result<Config, Vec<ConfigError>> {
        load(&self.main())
    }

    /// The complaints as people see them, with the directory itself left out.
    fn said(&self) -> Vec<String> {
        let home = format!("{}/", self.0.path().display());
        let complaints = self.load().expect_err("must not be a plan");
        complaints.iter().map(|complaint| complaint.to_string().replace(&home, "")).collect()
    }
}

const LEAST: &str = "teams: { directory: teams }\n";
const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 127.0.0.1:15002 }\n";

fn main_says(main: &str) -> Vec<String> {
    Home::new(main, &[("ads.yaml", ADS)]).said()
}

fn team_says(text: &str) -> Vec<String> {
    Home::new(LEAST, &[("a.yaml", text)]).said()
}

#[test]
fn the_least_that_can_be_written_is_a_plan_with_usual_values() {
    let plan = Home::new(LEAST, &[("ads.yaml", ADS)]).load().unwrap();
    assert_eq!(plan.listen.address.to_string(), "0.0.0.0:15009");
    assert_eq!(plan.admin.to_string(), "127.0.0.1:15090");
    assert_eq!((plan.listen.connections, plan.listen.streams_per_connection), (10_000, 100));
    assert_eq!(plan.workers, Workers::OnePerCore);
    assert_eq!(plan.log, Log { format: Format::Json, level: Level::Info });
    assert_eq!(plan.filters.chain().names().collect::<Vec<_>>(), ["team"]);
    assert_eq!(plan.timeouts.idle, Duration::from_mins(30));
    assert_eq!(plan.drain.grace, Duration::from_secs(30));
    assert_eq!(plan.limits.driver_header_list, 8192);
    assert_eq!(plan.limits.upload_window, 4 << 20);
}

#[test]
fn every_key_is_read_into_its_place() {
    let main = "
listen: { address: 127.0.0.1:0, connections: 7, streams_per_connection: 8 }
admin: { address: '[::1]:0' }
workers: 3
log: { format: pretty, level: debug }
chain: [team]
teams: { directory: teams, default_team: ads, default_environment: prod, list_teams: true }
timeouts:
  { handshake: 1s, settings_ack: 2s, body_progress: 3s, body_age: 13s, window_closed: 4s,
    idle: 5s, unauthenticated: 4500ms,
    keepalive: 6s, keepalive_ack: 7s, connect: 8s, driver_keepalive: 9s, driver_keepalive_ack: 10s }
drain: { delay: 11s, grace: 12s }
limits: { header_list: 2001, header_count: 2002, driver_header_list: 2003, upload_window: 70000 }
";
    let ads = "
team: ads
environments:
  prod: { driver: '[::1]:15002', authorities: [Ads.Example.com, ads2.example.com:443] }
";
    let plan = Home::new(main, &[("x.yaml", ads)]).load().unwrap();
    assert_eq!((plan.listen.connections, plan.listen.streams_per_connection), (7, 8));
    assert_eq!(plan.workers.count(), 3);
    assert_eq!(plan.log, Log { format: Format::Pretty, level: Level::Debug });
    let Timeouts {
        handshake,
        settings_ack,
        body_progress,
        body_age,
        window_closed,
        unauthenticated,
        idle,
        keepalive,
        keepalive_ack,
        connect,
        driver_keepalive: driver_silence,
        driver_keepalive_ack: driver_ack,
    } = plan.timeouts;
    assert_eq!(unauthenticated, Duration::from_millis(4500));
    let client = [handshake, settings_ack, body_progress, window_closed, idle];
    let rest = [keepalive, keepalive_ack, connect, driver_silence, driver_ack];
    let drain = [plan.drain.delay, plan.drain.grace, body_age];
    let read: Vec<_> = client.iter().chain(&rest).chain(&drain).map(Duration::as_secs).collect();
    assert_eq!(read, (1..=13).collect::<Vec<_>>());
    let Limits { header_list, header_count, driver_header_list, upload_window } = plan.limits;
    assert_eq!([header_list, header_count, driver_header_list], [2001, 2002, 2003]);
    assert_eq!(upload_window, 70_000);
    let team = &plan.teams[&TeamName::parse("ads").unwrap()];
    let prod = &team.environments[&EnvironmentName::parse("prod").unwrap()];
    assert_eq!(prod.driver.to_string(), "[::1]:15002");
    let hosts: Vec<_> = prod.authorities.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["ads.example.com", "ads2.example.com"]);
}

#[test]
fn everything_wrong_in_every_file_is_said_at_once_by_file_and_line() {
    let main = "admin:\n  adress: x:1\nlisten: { connections: 0 }\ntimeouts:\n  idle: 30\nx: 1\n\
                teams:\n  directory: teams\n";
    let a = "team: Ads\nenvironments:\n  prod:\n    drivr: x\n";
    let b = "team: ml\nteam: ml\nenvironments:\n  lab: { driver: 'http://lab:1' }\n  2x: {}\n";
    let said = Home::new(main, &[("a.yaml", a), ("b.yaml", b)]).said();
    assert_eq!(
        said,
        [
            "sconce.yaml:2: admin.adress: there is no key 'adress'; the keys here are address",
            "sconce.yaml:3: listen.connections: 0 is out of range; write a whole number from 1 to \
             1000000 (default 10000)",
            "sconce.yaml:5: timeouts.idle: '30' is no duration; write a whole number and a unit, \
             as 500ms, 5s, 2m or 1h",
            "sconce.yaml:6: x: there is no key 'x'; the keys here are listen, admin, workers, log, \
             chain, authenticate, user_context, timeouts, drain, limits, teams",
            "teams/a.yaml:1: team: 'Ads' cannot be a name, since a name has only a to z, 0 to 9 \
             and '-'; write a name of a to z, 0 to 9 and '-', as ads or ads-2",
            "teams/a.yaml:3: environments.prod.driver: is missing; write where the driver listens, \
             as driver: host:15002",
            "teams/a.yaml:4: environments.prod.drivr: there is no key 'drivr'; the keys here are \
             driver, authorities, driver_token_file, driver_token_variable",
            "teams/b.yaml:2: team: this key stands in line 1 already; keep one of the two",
            "teams/b.yaml:4: environments.lab.driver: 'http://lab:1' has a scheme; write \
             host and port alone, as 'lab:1'",
            "teams/b.yaml:5: environments.2x: '2x' cannot be a name, since a name begins with a \
             letter a to z; write a name of a to z, 0 to 9 and '-', as ads or ads-2",
            "teams/b.yaml:5: environments.2x.driver: is missing; write where the driver listens, \
             as driver: host:15002",
        ]
    );
}

#[test]
fn a_file_that_is_not_there_or_says_nothing_is_said() {
    let missing = load(std::path::Path::new("no/such/sconce.yaml")).unwrap_err();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        ["no/such/sconce.yaml: cannot be read: No such file or directory (os error 2); make it, \
          or correct the path"]
    );
    let remedy = "name the directory of the team files, as directory: teams";
    assert_eq!(main_says(""), [format!("sconce.yaml:1: teams.directory: is missing; {remedy}")]);
    assert_eq!(
        main_says("teams:\n"),
        [format!("sconce.yaml:1: teams.directory: is missing; {remedy}")]
    );
    assert_eq!(
        main_says("- a\n")[0],
        "sconce.yaml:1: must hold keys; write 'key: value' lines under it"
    );
}

#[test]
fn a_directory_without_teams_is_said_where_it_is_named() {
    let no_files = "teams holds no team files; write a file for a team into it, as ads.yaml";
    assert_eq!(
        Home::new(LEAST, &[(".hidden.yaml", ADS), ("ads.yaml~", ADS)]).said(),
        [format!("sconce.yaml:1: teams.directory: {no_files}")]
    );
    let none = main_says("teams:\n  directory: none\n");
    assert_eq!(
        none,
        ["sconce.yaml:2: teams.directory: none cannot be read: No such file or directory (os \
          error 2); make it, or correct the path"]
    );
    let file = main_says("teams:\n  directory: sconce.yaml\n");
    assert_eq!(
        file,
        ["sconce.yaml:2: teams.directory: sconce.yaml is not a directory; name the directory in \
          which the team files are"]
    );
}

#[test]
fn a_team_or_a_host_said_twice_names_the_other_place() {
    let a = "team: ads\nenvironments:\n  prod: { driver: 'a:1', authorities: [h.example] }\n";
    let b = "team: ml\nenvironments:\n  lab: { driver: 'b:1', authorities: ['H.example:80'] }\n";
    let said = Home::new(LEAST, &[("a.yaml", a), ("b.yaml", b), ("c.yaml", ADS)]).said();
    let home = |said: &String| said.split(" stands in ").next().unwrap().to_owned();
    assert_eq!(
        said.iter().map(home).collect::<Vec<_>>(),
        [
            "teams/a.yaml:1: team: the team 'ads'",
            "teams/a.yaml:3: environments.prod.authorities: the host 'h.example'",
            "teams/b.yaml:3: environments.lab.authorities: the host 'h.example'",
            "teams/c.yaml:1: team: the team 'ads'",
        ]
    );
    let others = ["c.yaml:1", "b.yaml:3", "a.yaml:3", "a.yaml:1"];
    for (said, other) in said.iter().zip(others) {
        assert!(said.ends_with(&format!("{other} as well; keep one of the two")), "{said}");
    }
}

#[test]
fn a_team_file_that_would_be_passed_over_is_said() {
    let said = Home::new(LEAST, &[("ads.yaml", ADS), ("ml.yml", ADS)]).said();
    let remedy = "rename it so that it ends in .yaml, or move it away";
    assert_eq!(said, [format!("teams/ml.yml: would be passed over; {remedy}")]);
}

#[test]
fn defaults_must_lead_somewhere() {
    let main = "teams:\n  directory: teams\n  default_team: ml\n  default_environment: test\n";
    assert_eq!(
        main_says(main),
        ["sconce.yaml:3: teams.default_team: no file is about the team 'ml'; name a team that \
             has a file, or remove the key",]
    );
    assert_eq!(
        main_says(&main.replace("ml", "ads")),
        ["sconce.yaml:4: teams.default_environment: the default team 'ads' has no environment \
          'test'; name one that exists, or add it to a team's file"]
    );
}

#[test]
fn the_chain_must_exist_and_find_a_team() {
    let said = |chain: &str| main_says(&format!("{LEAST}chain: {chain}\n"));
    let unknown =
        "sconce.yaml:2: chain: there is no filter 'magic'; the filters are authenticate, team";
    assert!(said("[team, magic]")[0].starts_with(unknown));
    assert_eq!(
        said("[team, team]"),
        ["sconce.yaml:2: chain: team is listed twice; correct the order"]
    );
    assert_eq!(
        said("[]"),
        ["sconce.yaml:1: chain: no filter provides the team of a call; add team"]
    );
    assert_eq!(said("team"), ["sconce.yaml:2: chain: must be a list; write [team]"]);
}

#[test]
fn who_trusts_nobody_is_told_so_once_and_not_when_a_name_was_wrong() {
    assert_eq!(
        main_says(&format!("{LEAST}authenticate: {{}}\n")),
        ["sconce.yaml:2: authenticate: trusts nobody; name issuers, tokens or certificates"]
    );
    let said = main_says(&format!("{LEAST}authenticate:\n  issuers:\n    - issuer: 'https://i'\n"));
    assert!(said.iter().all(|said| said.contains("audiences")), "{said:?}");
    let issuer = "authenticate:\n  issuers:\n    - { issuer: 'https://i', audiences: sconce }\n";
    assert_eq!(
        main_says(&format!("{LEAST}{issuer}")),
        ["sconce.yaml:4: authenticate.issuers.audiences: must be a list; write [sconce]"]
    );
}

#[test]
fn sconce_is_neither_its_own_driver_nor_its_own_admin() {
    let main = format!(
        "{LEAST}listen:\n  address: 127.0.0.1:15002\nadmin: {{ address: 127.0.0.1:15002 }}\n"
    );
    assert_eq!(
        main_says(&main),
        [
            "sconce.yaml:4: admin.address: is the address that clients dial; choose another port",
            "teams/ads.yaml:3: environments.prod.driver: 127.0.0.1:15002 is sconce's own address; \
             write where the Spark driver listens",
        ]
    );
}

#[test]
fn the_error_for_a_renamed_key_names_the_new_key() {
    let expected = "sconce.yaml:1: teams.reveal: 'reveal' was renamed; write list_teams";
    assert_eq!(main_says("teams: { directory: teams, reveal: true }\n"), [expected]);
    let expected = "sconce.yaml:1: stamp: 'stamp' was renamed; write user_context";
    assert_eq!(main_says("stamp: { unknown: pass }\nteams: { directory: teams }\n"), [expected]);
}

#[test]
fn values_of_the_wrong_shape_are_said() {
    assert_eq!(
        team_says("team: [a]\nenvironments:\n  prod: x\n"),
        [
            "teams/a.yaml:1: team: must be one value and is a list; write one value",
            "teams/a.yaml:3: environments.prod: must hold keys; write 'key: value' lines under it",
        ]
    );
    assert_eq!(
        team_says("team:\nenvironments: {}\n"),
        [
            "teams/a.yaml:1: team: has no value; write one, or remove the key",
            "teams/a.yaml:2: environments: there is no environment; write 'environments:' and \
             under it at least one, as prod, with its driver",
        ]
    );
}

#[test]
fn a_call_that_comes_before_anybody_fetches_keys_waits_for_them() {
    let main = format!(
        "{LEAST}authenticate:\n  allow_insecure_loopback: true\n  issuers:\n    - {{ issuer: \
         'https://i', audiences: [a], keys_url: 'http://127.0.0.1:1/' }}\n"
    );
    let plan = Home::new(&main, &[("ads.yaml", ADS)]).load().unwrap();
    let claims = "{\"iss\":\"https://i\",\"aud\":\"a\",\"sub\":\"x\",\"exp\":9999999999}";
    let parts = ["{\"alg\":\"ES256\",\"kid\":\"k\"}", claims, "no signature"];
    let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let metadata = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
    let now = Instant::now();
    let call = Call::new(Method::Config, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), now);
    let mut call = call.with_wall_time(SystemTime::now());
    assert!(matches!(plan.filters.chain().admit(&mut call), ChainStep::Pending(_)));
}

#[test]
fn a_password_in_an_issuer_is_refused_and_not_repeated() {
    let issuer = "{ issuer: 'https://ann:pw@id.example', audiences: [a] }";
    assert_eq!(
        main_says(&format!("{LEAST}authenticate: {{ issuers: [{issuer}] }}\n")),
        ["sconce.yaml:2: authenticate.issuers.issuer: names a user; write the URL without user \
          and password"]
    );
}

#[test]
fn a_team_file_that_is_not_yaml_does_not_hide_the_others() {
    let said = Home::new(LEAST, &[("a.yaml", "team: {\n"), ("b.yaml", "team: b\n")]).said();
    assert!(said[0].starts_with("teams/a.yaml:1: not valid YAML: "), "{}", said[0]);
    assert!(said[1].starts_with("teams/b.yaml:1: environments: there is no"), "{}", said[1]);
}

#[test]
fn a_driver_s_token_is_of_its_environment_or_of_the_team_and_hides_its_key() {
    let ads = "team: ads\ndriver_token_file: ../ads.token\nhidden_configurations: [spark.a]\n\
               environments:\n  prod: { driver: 'a:1' }\n  \
               dev: { driver: 'b:1', driver_token_variable: CARGO_PKG_NAME }\n";
    let ml = "team: ml\nenvironments:\n  prod: { driver: 'c:1' }\n";
    let home = Home::new(LEAST, &[("ads.yaml", ads), ("ml.yaml", ml)]);
    fs::write(home.0.path().join("ads.token"), "of-the-team\n").unwrap();
    let read = read(&home.main(), &LoadContext::default(), None);
    let token = home.0.path().join("teams").join("../ads.token");
    assert_eq!(read.files.others, [token]);
    let plan = read.config.unwrap();
    let place = |team, environment| {
        let team = plan.teams.get(&TeamName::parse(team).unwrap()).unwrap();
        let place = &team.environments[&EnvironmentName::parse(environment).unwrap()];
        let value = place.credential.as_ref().map(|it| String::from_utf8_lossy(it.value()));
        (value.unwrap_or_default().into_owned(), place.hidden_keys.clone())
    };
    let hidden = HiddenKeys::of(["spark.a".into(), "spark.connect.authenticate.token".into()]);
    assert_eq!(place("ads", "prod"), ("Bearer of-the-team".into(), hidden.clone()));
    assert_eq!(place("ads", "dev"), (format!("Bearer {}", env!("CARGO_PKG_NAME")), hidden));
    assert_eq!(place("ml", "prod"), (String::new(), HiddenKeys::default()));
}

#[test]
fn a_driver_s_token_that_cannot_be_one_is_said_and_never_shown() {
    let text = "team: ads\ndriver_token_file: ../none\nhidden_configurations: [a b, spark.x]\n\
                environments:\n  \
                one: { driver: 'a:1', driver_token_variable: SCONCE_NO_SUCH }\n  \
                two: { driver: 'b:1', driver_token_file: ../bad, driver_token_variable: HOME }\n  \
                three: { driver: 'c:1', driver_token_file: ../bad }\n  \
                four: { driver: 'd:1', driver_token_variable: hunter2-secret }\n  \
                five: { driver: 'e:1', driver_token_variable: 2secret }\n";
    let home = Home::new(LEAST, &[("a.yaml", text)]);
    fs::write(home.0.path().join("bad"), "secret words\n").unwrap();
    let no_name = "driver_token_variable: is not the name of an environment variable; write its \
                   name, as ADS_TOKEN, and set the variable where sconce is started";
    let said = home.said();
    assert_eq!(
        said,
        [
            "teams/a.yaml:2: driver_token_file: teams/../none cannot be read: No such file or \
             directory (os error 2); make it, or correct the path",
            "teams/a.yaml:3: hidden_configurations: 'a b' cannot be a key of Spark's \
             configuration; write a whole key, as spark.hadoop.fs.s3a.secret.key",
            "teams/a.yaml:5: environments.one.driver_token_variable: the environment variable \
             'SCONCE_NO_SUCH' is not set; set it where sconce is started, or write \
             driver_token_file instead",
            "teams/a.yaml:6: environments.two.driver_token_variable: stands beside \
             driver_token_file; keep one of the two",
            "teams/a.yaml:7: environments.three.driver_token_file: teams/../bad has a space, \
             or another character that no token has; put one line of 1 to 2048 visible ASCII \
             characters into it",
            &format!("teams/a.yaml:8: environments.four.{no_name}"),
            &format!("teams/a.yaml:9: environments.five.{no_name}"),
        ]
    );
}

#[test]
fn a_token_file_that_holds_no_token_is_told_why_not() {
    let ads = "team: ads\ndriver_token_file: ../token\nenvironments: { p: { driver: 'a:1' } }\n";
    let home = Home::new(LEAST, &[("ads.yaml", ads)]);
    for (text, why) in [
        ("one-secret\ntwo-secret\n".to_owned(), "has 2 lines"),
        (String::new(), "is empty"),
        ("\n".to_owned(), "is empty"),
        ("x".repeat(3000), "has 3000 characters"),
    ] {
        fs::write(home.0.path().join("token"), text).unwrap();
        let said = home.said();
        assert!(said.len() == 1 && said[0].contains(&format!("../token {why}; ")), "{said:?}");
        assert!(!said[0].contains("secret"), "{said:?}");
    }
}

#[test]
fn one_cause_is_said_once() {
    for text in ["tea\n", "", "- a\n", "team: ads\nenvironments: pro\n", "team: ads\nenv"] {
        let said = team_says(text);
        assert_eq!(said.len(), 1, "{text:?}: {said:?}");
    }
    assert_eq!(main_says("tea\n").len(), 1);
    assert_eq!(
        team_says(""),
        ["teams/a.yaml:1: says nothing; write 'team: ads' and 'environments:' with at least one"]
    );
}
