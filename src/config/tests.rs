//! Whole configurations: the resulting config, or the errors.

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

/// A directory with a main file and team files.
struct Fixture(TempDir);

impl Fixture {
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

    /// The messages of all errors, without the temporary directory.
    fn messages(&self) -> Vec<String> {
        let home = format!("{}/", self.0.path().display());
        let errors = self.load().expect_err("must not be a config");
        errors.iter().map(|error| error.to_string().replace(&home, "")).collect()
    }
}

const LEAST: &str = "teams: { directory: teams }\n";
const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 127.0.0.1:15002 }\n";

fn main_says(main: &str) -> Vec<String> {
    Fixture::new(main, &[("ads.yaml", ADS)]).messages()
}

fn team_says(text: &str) -> Vec<String> {
    Fixture::new(LEAST, &[("a.yaml", text)]).messages()
}

#[test]
fn a_minimal_main_file_has_the_defaults() {
    let config = Fixture::new(LEAST, &[("ads.yaml", ADS)]).load().unwrap();
    assert_eq!(config.listen.address.to_string(), "0.0.0.0:15009");
    assert_eq!(config.admin.to_string(), "127.0.0.1:15090");
    assert_eq!((config.listen.connections, config.listen.streams_per_connection), (10_000, 100));
    assert_eq!(config.workers, Workers::OnePerCore);
    assert_eq!(config.log, Log { format: Format::Json, level: Level::Info });
    assert_eq!(config.filters.chain().names().collect::<Vec<_>>(), ["team"]);
    assert_eq!(config.timeouts.idle, Duration::from_mins(30));
    assert_eq!(config.drain.grace, Duration::from_secs(30));
    assert_eq!(config.limits.driver_header_list, 8192);
    assert_eq!(config.limits.upload_window, 4 << 20);
}

#[test]
fn every_key_sets_its_field() {
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
    let config = Fixture::new(main, &[("x.yaml", ads)]).load().unwrap();
    assert_eq!((config.listen.connections, config.listen.streams_per_connection), (7, 8));
    assert_eq!(config.workers.count(), 3);
    assert_eq!(config.log, Log { format: Format::Pretty, level: Level::Debug });
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
    } = config.timeouts;
    assert_eq!(unauthenticated, Duration::from_millis(4500));
    let client = [handshake, settings_ack, body_progress, window_closed, idle];
    let rest = [keepalive, keepalive_ack, connect, driver_silence, driver_ack];
    let drain = [config.drain.delay, config.drain.grace, body_age];
    let read: Vec<_> = client.iter().chain(&rest).chain(&drain).map(Duration::as_secs).collect();
    assert_eq!(read, (1..=13).collect::<Vec<_>>());
    let Limits { header_list, header_count, driver_header_list, upload_window } = config.limits;
    assert_eq!([header_list, header_count, driver_header_list], [2001, 2002, 2003]);
    assert_eq!(upload_window, 70_000);
    let team = &config.teams[&TeamName::parse("ads").unwrap()];
    let prod = &team.environments[&EnvironmentName::parse("prod").unwrap()];
    assert_eq!(prod.driver.to_string(), "[::1]:15002");
    let hosts: Vec<_> = prod.authorities.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["ads.example.com", "ads2.example.com"]);
}

#[test]
fn all_errors_of_all_files_are_reported_by_file_and_line() {
    let main = "admin:\n  adress: x:1\nlisten: { connections: 0 }\ntimeouts:\n  idle: 30\nx: 1\n\
                teams:\n  directory: teams\n";
    let a = "team: Ads\nenvironments:\n  prod:\n    drivr: x\n";
    let b = "team: ml\nteam: ml\nenvironments:\n  lab: { driver: 'http://lab:1' }\n  2x: {}\n";
    let messages = Fixture::new(main, &[("a.yaml", a), ("b.yaml", b)]).messages();
    assert_eq!(
        messages,
        [
            "sconce.yaml:2: admin.adress: unknown key 'adress'; valid keys are address",
            "sconce.yaml:3: listen.connections: 0 is out of range; write a whole number from 1 \
             to 1000000 (default 10000)",
            "sconce.yaml:5: timeouts.idle: '30' is not a duration; write a whole number and a \
             unit, for example 500ms, 5s, 2m or 1h",
            "sconce.yaml:6: x: unknown key 'x'; valid keys are listen, admin, workers, log, \
             chain, authenticate, user_context, timeouts, drain, limits, teams",
            "teams/a.yaml:1: team: 'Ads' is not a valid name: a name has only a to z, 0 to 9 and \
             '-'; use a-z, 0-9 and '-', for example ads-2",
            "teams/a.yaml:3: environments.prod.driver: is missing; write the address of the \
             driver, for example driver: host:15002",
            "teams/a.yaml:4: environments.prod.drivr: unknown key 'drivr'; valid keys are \
             driver, authorities, driver_token_file, driver_token_variable",
            "teams/b.yaml:2: team: duplicate key, first in line 1; keep one of the two",
            "teams/b.yaml:4: environments.lab.driver: 'http://lab:1' has a scheme; write \
             host:port, for example lab:1",
            "teams/b.yaml:5: environments.2x: '2x' is not a valid name: a name begins with a \
             letter a to z; use a-z, 0-9 and '-', for example ads-2",
            "teams/b.yaml:5: environments.2x.driver: is missing; write the address of the \
             driver, for example driver: host:15002",
        ]
    );
}

#[test]
fn a_missing_or_empty_file_is_an_error() {
    let missing = load(std::path::Path::new("no/such/sconce.yaml")).unwrap_err();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        ["no/such/sconce.yaml: cannot be read: No such file or directory (os error 2); create \
             it, or correct the path"]
    );
    let help = "write the directory of the team files, for example directory: teams";
    assert_eq!(main_says(""), [format!("sconce.yaml:1: teams.directory: is missing; {help}")]);
    assert_eq!(
        main_says("teams:\n"),
        [format!("sconce.yaml:1: teams.directory: is missing; {help}")]
    );
    assert_eq!(
        main_says("- a\n")[0],
        "sconce.yaml:1: must be a mapping; write 'key: value' lines under it"
    );
}

#[test]
fn an_empty_team_directory_is_an_error_of_its_key() {
    let no_files = "teams contains no team files; add a team file, for example ads.yaml";
    assert_eq!(
        Fixture::new(LEAST, &[(".hidden.yaml", ADS), ("ads.yaml~", ADS)]).messages(),
        [format!("sconce.yaml:1: teams.directory: {no_files}")]
    );
    let none = main_says("teams:\n  directory: none\n");
    assert_eq!(
        none,
        ["sconce.yaml:2: teams.directory: none cannot be read: No such file or directory (os \
          error 2); create it, or correct the path"]
    );
    let file = main_says("teams:\n  directory: sconce.yaml\n");
    assert_eq!(
        file,
        ["sconce.yaml:2: teams.directory: sconce.yaml is not a directory; write the directory of \
          the team files"]
    );
}

#[test]
fn the_error_for_a_duplicate_team_or_host_names_the_other_file() {
    let a = "team: ads\nenvironments:\n  prod: { driver: 'a:1', authorities: [h.example] }\n";
    let b = "team: ml\nenvironments:\n  lab: { driver: 'b:1', authorities: ['H.example:80'] }\n";
    let messages = Fixture::new(LEAST, &[("a.yaml", a), ("b.yaml", b), ("c.yaml", ADS)]).messages();
    let home = |message: &String| message.split(" is also in ").next().unwrap().to_owned();
    assert_eq!(
        messages.iter().map(home).collect::<Vec<_>>(),
        [
            "teams/a.yaml:1: team: the team 'ads'",
            "teams/a.yaml:3: environments.prod.authorities: the host 'h.example'",
            "teams/b.yaml:3: environments.lab.authorities: the host 'h.example'",
            "teams/c.yaml:1: team: the team 'ads'",
        ]
    );
    let others = ["c.yaml:1", "b.yaml:3", "a.yaml:3", "a.yaml:1"];
    for (message, other) in messages.iter().zip(others) {
        assert!(message.ends_with(&format!("{other}; keep one of the two")), "{message}");
    }
}

#[test]
fn a_team_file_with_a_wrong_extension_is_an_error() {
    let messages = Fixture::new(LEAST, &[("ads.yaml", ADS), ("ml.yml", ADS)]).messages();
    let help = "rename it to end in .yaml, or move it away";
    assert_eq!(messages, [format!("teams/ml.yml: would be ignored; {help}")]);
}

#[test]
fn defaults_must_exist() {
    let main = "teams:\n  directory: teams\n  default_team: ml\n  default_environment: test\n";
    assert_eq!(
        main_says(main),
        ["sconce.yaml:3: teams.default_team: no file defines the team 'ml'; write a team that \
             has a file, or remove the key",]
    );
    assert_eq!(
        main_says(&main.replace("ml", "ads")),
        ["sconce.yaml:4: teams.default_environment: the default team 'ads' has no environment \
          'test'; write an existing environment, or add it to the team's file"]
    );
}

#[test]
fn the_chain_needs_known_filters_and_a_team() {
    let messages = |chain: &str| main_says(&format!("{LEAST}chain: {chain}\n"));
    let unknown =
        "sconce.yaml:2: chain: unknown filter 'magic'; valid filters are authenticate, team";
    assert!(messages("[team, magic]")[0].starts_with(unknown));
    assert_eq!(
        messages("[team, team]"),
        ["sconce.yaml:2: chain: team is listed twice; correct the order"]
    );
    assert_eq!(
        messages("[]"),
        ["sconce.yaml:1: chain: no filter provides the team of a call; add team"]
    );
    assert_eq!(messages("team"), ["sconce.yaml:2: chain: must be a list; write [team]"]);
}

#[test]
fn an_authenticate_section_without_entries_is_one_error() {
    assert_eq!(
        main_says(&format!("{LEAST}authenticate: {{}}\n")),
        ["sconce.yaml:2: authenticate: has no issuers, tokens or certificates; add at least one"]
    );
    let messages =
        main_says(&format!("{LEAST}authenticate:\n  issuers:\n    - issuer: 'https://i'\n"));
    assert!(messages.iter().all(|message| message.contains("audiences")), "{messages:?}");
    let issuer = "authenticate:\n  issuers:\n    - { issuer: 'https://i', audiences: sconce }\n";
    assert_eq!(
        main_says(&format!("{LEAST}{issuer}")),
        ["sconce.yaml:4: authenticate.issuers.audiences: must be a list; write [sconce]"]
    );
}

#[test]
fn listen_admin_and_driver_addresses_must_differ() {
    let main = format!(
        "{LEAST}listen:\n  address: 127.0.0.1:15002\nadmin: {{ address: 127.0.0.1:15002 }}\n"
    );
    assert_eq!(
        main_says(&main),
        [
            "sconce.yaml:4: admin.address: conflicts with listen.address; choose another port",
            "teams/ads.yaml:3: environments.prod.driver: 127.0.0.1:15002 is sconce's own \
             address; write the address of the Spark driver",
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
fn values_of_the_wrong_type_are_errors() {
    assert_eq!(
        team_says("team: [a]\nenvironments:\n  prod: x\n"),
        [
            "teams/a.yaml:1: team: must be a single value, not a list; write one value",
            "teams/a.yaml:3: environments.prod: must be a mapping; write 'key: value' lines \
             under it",
        ]
    );
    assert_eq!(
        team_says("team:\nenvironments: {}\n"),
        [
            "teams/a.yaml:1: team: has no value; write a value or remove the key",
            "teams/a.yaml:2: environments: is empty; add at least one environment, for example \
             prod, with its driver",
        ]
    );
}

#[test]
fn a_call_before_the_first_jwks_fetch_waits() {
    let main = format!(
        "{LEAST}authenticate:\n  allow_insecure_loopback: true\n  issuers:\n    - {{ issuer: \
         'https://i', audiences: [a], keys_url: 'http://127.0.0.1:1/' }}\n"
    );
    let config = Fixture::new(&main, &[("ads.yaml", ADS)]).load().unwrap();
    let claims = "{\"iss\":\"https://i\",\"aud\":\"a\",\"sub\":\"x\",\"exp\":9999999999}";
    let parts = ["{\"alg\":\"ES256\",\"kid\":\"k\"}", claims, "no signature"];
    let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let metadata = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
    let now = Instant::now();
    let call = Call::new(Method::Config, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), now);
    let mut call = call.with_wall_time(SystemTime::now());
    assert!(matches!(config.filters.chain().admit(&mut call), ChainStep::Pending(_)));
}

#[test]
fn a_password_in_an_issuer_url_is_an_error_and_not_repeated() {
    let issuer = "{ issuer: 'https://ann:pw@id.example', audiences: [a] }";
    assert_eq!(
        main_says(&format!("{LEAST}authenticate: {{ issuers: [{issuer}] }}\n")),
        ["sconce.yaml:2: authenticate.issuers.issuer: contains a user; write the URL without \
             user and password"]
    );
}

#[test]
fn an_invalid_yaml_team_file_does_not_hide_other_errors() {
    let messages =
        Fixture::new(LEAST, &[("a.yaml", "team: {\n"), ("b.yaml", "team: b\n")]).messages();
    assert!(messages[0].starts_with("teams/a.yaml:1: not valid YAML: "), "{}", messages[0]);
    assert!(messages[1].starts_with("teams/b.yaml:1: environments: is empty; "), "{}", messages[1]);
}

#[test]
fn a_driver_token_of_the_environment_or_the_team_hides_its_key() {
    let ads = "team: ads\ndriver_token_file: ../ads.token\nhidden_configurations: [spark.a]\n\
               environments:\n  prod: { driver: 'a:1' }\n  \
               dev: { driver: 'b:1', driver_token_variable: CARGO_PKG_NAME }\n";
    let ml = "team: ml\nenvironments:\n  prod: { driver: 'c:1' }\n";
    let home = Fixture::new(LEAST, &[("ads.yaml", ads), ("ml.yaml", ml)]);
    fs::write(home.0.path().join("ads.token"), "of-the-team\n").unwrap();
    let read = read(&home.main(), &LoadContext::default(), None);
    let token = home.0.path().join("teams").join("../ads.token");
    assert_eq!(read.files.others, [token]);
    let config = read.config.unwrap();
    let place = |team, environment| {
        let team = config.teams.get(&TeamName::parse(team).unwrap()).unwrap();
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
fn an_invalid_driver_token_is_an_error_and_not_shown() {
    let text = "team: ads\ndriver_token_file: ../none\nhidden_configurations: [a b, spark.x]\n\
                environments:\n  \
                one: { driver: 'a:1', driver_token_variable: SCONCE_NO_SUCH }\n  \
                two: { driver: 'b:1', driver_token_file: ../bad, driver_token_variable: HOME }\n  \
                three: { driver: 'c:1', driver_token_file: ../bad }\n  \
                four: { driver: 'd:1', driver_token_variable: hunter2-secret }\n  \
                five: { driver: 'e:1', driver_token_variable: 2secret }\n";
    let home = Fixture::new(LEAST, &[("a.yaml", text)]);
    fs::write(home.0.path().join("bad"), "secret words\n").unwrap();
    let no_name = "driver_token_variable: is not the name of an environment variable; write a \
                   name such as ADS_TOKEN, and set that variable in sconce's environment";
    let messages = home.messages();
    assert_eq!(
        messages,
        [
            "teams/a.yaml:2: driver_token_file: teams/../none cannot be read: No such file or \
             directory (os error 2); create it, or correct the path",
            "teams/a.yaml:3: hidden_configurations: 'a b' is not a Spark configuration key; \
             write a complete key, for example spark.hadoop.fs.s3a.secret.key",
            "teams/a.yaml:5: environments.one.driver_token_variable: the environment variable \
             'SCONCE_NO_SUCH' is not set; set it in sconce's environment, or use \
             driver_token_file",
            "teams/a.yaml:6: environments.two.driver_token_variable: conflicts with \
             driver_token_file; keep one of the two",
            "teams/a.yaml:7: environments.three.driver_token_file: teams/../bad contains a space \
             or another character that is invalid in a token; write one line of 1 to 2048 \
             visible ASCII characters",
            &format!("teams/a.yaml:8: environments.four.{no_name}"),
            &format!("teams/a.yaml:9: environments.five.{no_name}"),
        ]
    );
}

#[test]
fn the_error_for_an_invalid_token_file_has_the_reason() {
    let ads = "team: ads\ndriver_token_file: ../token\nenvironments: { p: { driver: 'a:1' } }\n";
    let home = Fixture::new(LEAST, &[("ads.yaml", ads)]);
    for (text, why) in [
        ("one-secret\ntwo-secret\n".to_owned(), "has 2 lines"),
        (String::new(), "is empty"),
        ("\n".to_owned(), "is empty"),
        ("x".repeat(3000), "has 3000 characters"),
    ] {
        fs::write(home.0.path().join("token"), text).unwrap();
        let messages = home.messages();
        assert!(
            messages.len() == 1 && messages[0].contains(&format!("../token {why}; ")),
            "{messages:?}"
        );
        assert!(!messages[0].contains("secret"), "{messages:?}");
    }
}

#[test]
fn one_cause_is_one_error() {
    for text in ["tea\n", "", "- a\n", "team: ads\nenvironments: pro\n", "team: ads\nenv"] {
        let messages = team_says(text);
        assert_eq!(messages.len(), 1, "{text:?}: {messages:?}");
    }
    assert_eq!(main_says("tea\n").len(), 1);
    assert_eq!(
        team_says(""),
        ["teams/a.yaml:1: is empty; write 'team: ads' and 'environments:' with at least one \
          environment"]
    );
}
