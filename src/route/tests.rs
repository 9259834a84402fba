//! Reloads of files: the published snapshots, errors and metrics.

use super::*;
use crate::{
    config::LoadContext,
    telemetry::{Metrics, MetricsFormat},
};
use sconce_filters::{Attributes, Code, EnvironmentName, Refusal, Revoked, TeamName};
use std::{fs, rc::Rc, sync::Arc, time::Duration};
use tempfile::TempDir;

const MAIN: &str = "teams: { directory: teams }\n";
const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 'ads:15002' }\n";
const ML: &str = "team: ml\nenvironments:\n  lab: { driver: 'ml:15002' }\n";

struct Fixture {
    home: TempDir,
    metrics: Metrics,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let fixture = Self { home, metrics: Metrics::new("test") };
        fixture.write("sconce.yaml", MAIN);
        fixture.write("teams/ads.yaml", ADS);
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.home.path().join(name), text).unwrap();
    }

    fn start(&self) -> (Reloader, SnapshotHandle) {
        let file = self.home.path().join("sconce.yaml");
        Reloader::start(&file, &LoadContext::default(), self.metrics.control()).unwrap()
    }
}

const TLS: &str = "teams: { directory: teams }\nlisten:\n  tls:\n    certificates:\n      - { \
                   certificate: a.crt, key: a.key }\n";

/// A certificate from the first day of one year to that of another, and its key.
fn certify(fixture: &Fixture, from: i32, to: i32) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fixture.write("a.crt", &params.self_signed(&key).unwrap().pem());
    fixture.write("a.key", &key.serialize_pem());
}

/// The expiry of the certificate in the metrics.
fn end(fixture: &Fixture) -> String {
    let page = fixture.metrics.encode(MetricsFormat::Classic);
    let line = page.lines().find(|line| line.starts_with("sconce_certificate_expiry"));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
}

fn clusters(live: &SnapshotHandle) -> Vec<String> {
    let snapshot = live.load();
    let mut names: Vec<_> = snapshot.table.clusters().map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn a_valid_edit_is_published_and_a_call_keeps_its_snapshot() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    let mut reader = live.reader();
    let kept = Arc::clone(reader.latest());
    fixture.write("teams/ml.yaml", ML);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
    assert_eq!(reader.latest().generation, 2);
    assert_eq!((kept.generation, kept.table.clusters().count()), (1, 1));
}

/// The config errors by team in the metrics.
fn error_metrics(fixture: &Fixture) -> Vec<String> {
    let page = fixture.metrics.encode(MetricsFormat::Classic);
    let lines = page.lines().filter_map(|line| line.strip_prefix("sconce_config_errors{team="));
    lines.map(|line| line.replace(['"', '}'], "")).collect()
}

#[test]
fn an_error_in_the_main_file_keeps_the_last_good_config() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    fixture.write("sconce.yaml", &format!("{MAIN}x: 1\ny: 2\n"));
    fixture.write("teams/ml.yaml", ML);
    let ReloadOutcome::Rejected(rejected) = reloader.reload() else { panic!("must be rejected") };
    assert_eq!(rejected.len(), 2);
    assert_eq!((live.load().generation, clusters(&live)), (1, vec!["ads/prod".to_owned()]));
    assert!(matches!(&live.reload_status().outcome, ReloadOutcome::Rejected(it) if it.len() == 2));
    assert_eq!(error_metrics(&fixture), ["- 2"]);
}

#[test]
fn an_error_in_a_team_file_keeps_the_last_good_config_of_the_team() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    fixture.write("teams/ads.yaml", "team: ads\n");
    fixture.write("teams/ml.yaml", ML);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
    assert_eq!(error_metrics(&fixture), ["- 0", "ads 1"]);
    fs::remove_file(fixture.home.path().join("teams/ads.yaml")).unwrap();
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(3));
    assert_eq!(
        (clusters(&live), error_metrics(&fixture)),
        (vec!["ml/lab".to_owned()], vec!["- 0".to_owned()])
    );
}

#[test]
fn an_error_in_a_team_file_at_the_start_affects_that_team_only() {
    let fixture = Fixture::new();
    fixture.write("teams/ml.yaml", "team: ml\n");
    let (mut reloader, live) = fixture.start();
    assert_eq!(
        (clusters(&live), error_metrics(&fixture)),
        (vec!["ads/prod".to_owned()], vec!["- 0".to_owned(), "ml 1".to_owned()])
    );
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
    fixture.write("teams/ml.yaml", ML);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    assert_eq!((clusters(&live).len(), error_metrics(&fixture)), (2, vec!["- 0".to_owned()]));
}

#[test]
fn a_revocation_applies_despite_an_error_in_a_team_file() {
    let fixture = Fixture::new();
    let line = |name: &str, digit: &str| {
        format!(
            "    - {{ name: {name}, user: {name}, teams: [ads], sha256: {} }}\n",
            digit.repeat(64)
        )
    };
    let main = format!("{MAIN}authenticate:\n  tokens:\n{}", line("ann", "1"));
    fixture.write("sconce.yaml", &format!("{main}{}", line("bob", "2")));
    let (mut reloader, live) = fixture.start();
    let before = live.load();
    fixture.write("sconce.yaml", &main);
    fixture.write("teams/ads.yaml", "team: ads\n");
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    assert!(!Arc::ptr_eq(&before, &live.load()));
    assert_eq!(
        (clusters(&live), error_metrics(&fixture)),
        (vec!["ads/prod".to_owned()], vec!["- 0".to_owned(), "ads 1".to_owned()])
    );
}

#[test]
fn a_reverted_edit_clears_the_error_without_a_new_generation() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    fixture.write("sconce.yaml", "nonsense");
    assert!(matches!(reloader.reload(), ReloadOutcome::Rejected(_)));
    fixture.write("sconce.yaml", MAIN);
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
    fixture.write("teams/ads.yaml", "nonsense");
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
    assert_eq!(error_metrics(&fixture), ["- 0", "ads.yaml 1"]);
    fixture.write("teams/ads.yaml", ADS);
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
    assert_eq!(live.reload_status().outcome, ReloadOutcome::Unchanged);
    assert_eq!((live.load().generation, error_metrics(&fixture)), (1, vec!["- 0".to_owned()]));
}

#[test]
fn a_missing_directory_keeps_the_route_table() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    fs::remove_dir_all(fixture.home.path().join("teams")).unwrap();
    assert!(matches!(reloader.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(clusters(&live), ["ads/prod"]);
    fs::remove_file(fixture.home.path().join("sconce.yaml")).unwrap();
    assert!(matches!(reloader.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(clusters(&live), ["ads/prod"]);
}

#[test]
fn keys_that_need_a_restart_are_reported_and_others_apply() {
    let fixture = Fixture::new();
    let (mut reloader, live) = fixture.start();
    fixture.write(
        "sconce.yaml",
        "teams: { directory: teams }\nlisten: { address: 127.0.0.1:1, connections: 5 }\n\
         admin: { address: 127.0.0.1:2 }\nworkers: 9\nlog: { format: pretty, level: debug }\n",
    );
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    let restart: Vec<_> =
        live.reload_status().restart_required.iter().map(ToString::to_string).collect();
    assert_eq!(restart, ["listen.address", "admin.address", "workers", "log.format"]);
    assert_eq!(live.load().connections, 5);
    fixture.write("sconce.yaml", MAIN);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(3));
    assert!(live.reload_status().restart_required.is_empty());
}

#[test]
fn an_invalid_main_file_prevents_the_start() {
    let fixture = Fixture::new();
    fixture.write("teams/ads.yaml", "team: ads\n");
    let file = fixture.home.path().join("sconce.yaml");
    let errors =
        Reloader::start(&file, &LoadContext::default(), fixture.metrics.control()).unwrap_err();
    let keys: Vec<_> = errors.iter().map(|error| &*error.key).collect();
    assert_eq!(keys, ["environments"], "no team can be served");
}

#[test]
fn a_reload_does_not_replace_a_valid_certificate_with_an_expired_one() {
    let fixture = Fixture::new();
    fixture.write("sconce.yaml", TLS);
    certify(&fixture, 2001, 3001);
    let (mut reloader, live) = fixture.start();
    assert_eq!(end(&fixture), "32535216000");
    certify(&fixture, 2001, 2002);
    let ReloadOutcome::Rejected(rejected) = reloader.reload() else { panic!("must be rejected") };
    let messages = rejected[0].to_string();
    let expected = "a.crt expired on 2002-01-01 00:00:00 UTC; replace it with a valid certificate \
                    and its key";
    assert!(rejected.len() == 1 && messages.ends_with(expected), "{rejected:?}");
    assert!(
        messages.contains("sconce.yaml:5: listen.tls.certificates.certificate: "),
        "{messages}"
    );
    assert_eq!((live.load().generation, end(&fixture)), (1, "32535216000".to_owned()));
    certify(&fixture, 2001, 3002);
    assert_eq!(
        (reloader.reload(), end(&fixture)),
        (ReloadOutcome::Applied(2), "32566752000".to_owned())
    );
}

#[test]
fn an_expired_certificate_is_served_if_there_is_no_valid_one() {
    let fixture = Fixture::new();
    fixture.write("sconce.yaml", TLS);
    certify(&fixture, 2001, 2002);
    let (mut reloader, _live) = fixture.start();
    fixture.write("teams/ml.yaml", ML);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    certify(&fixture, 2001, 2003);
    assert_eq!(
        (reloader.reload(), end(&fixture)),
        (ReloadOutcome::Applied(3), "1041379200".to_owned())
    );
}

#[test]
fn changed_files_are_published_at_run_time() {
    let fixture = Fixture::new();
    let (reloader, live) = fixture.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let published = async {
        // After the first read, only the watch detects changes.
        while live.reload_status().outcome != ReloadOutcome::Unchanged {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.write("teams/ml.yaml", ML);
        while live.load().generation < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = reloader.run() => {}
            done = tokio::time::timeout(Duration::from_secs(10), published) => done.unwrap(),
        }
    });
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
}

#[test]
fn a_truncated_file_does_not_remove_authentication_or_tls() {
    let fixture = Fixture::new();
    certify(&fixture, 2000, 4000);
    let token = "    - { name: a, user: ann, teams: [ads], sha256: ";
    let whole = format!("{TLS}authenticate:\n  tokens:\n{token}{} }}\n", "0a".repeat(32));
    fixture.write("sconce.yaml", &whole);
    let (mut reloader, live) = fixture.start();
    for end in 0..whole.len() {
        fixture.write("sconce.yaml", &whole[..end]);
        let verdict = reloader.reload();
        let snapshot = live.load();
        assert!(snapshot.tls.is_some(), "{verdict:?} of {:?}", &whole[..end]);
        assert!(snapshot.chain.names().any(|name| name == "authenticate"), "{verdict:?}");
    }
    fixture.write("sconce.yaml", MAIN);
    let ReloadOutcome::Rejected(rejected) = reloader.reload() else { panic!("must be rejected") };
    let keys: Vec<_> = rejected.iter().map(|error| &*error.key).collect();
    assert_eq!(keys, ["authenticate", "listen.tls"]);
    fixture.write("sconce.yaml", &whole);
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
}

#[test]
fn removals_last_for_the_removal_delay_and_are_limited() {
    let fixture = Fixture::new();
    fixture.write("sconce.yaml", "teams: { directory: teams, removal_delay: 1h }\n");
    let (mut reloader, live) = fixture.start();
    let ml = TeamName::parse("ml").unwrap();
    let lab = EnvironmentName::parse("lab").unwrap();
    for _ in 0..260 {
        fixture.write("teams/ml.yaml", ML);
        reloader.reload();
        let cluster = Arc::clone(live.load().table.cluster(&ml, &lab).unwrap());
        fs::remove_file(fixture.home.path().join("teams/ml.yaml")).unwrap();
        reloader.reload();
        let snapshot = live.load();
        let last = snapshot.removals.last().unwrap();
        assert_eq!(last.generation(), snapshot.generation);
        assert!(last.affects(&ml) && !last.affects(&TeamName::parse("ads").unwrap()));
        assert!(snapshot.table.cluster(&ml, &lab).is_none());
        assert!(Arc::ptr_eq(last.cluster(&ml, &lab).unwrap(), &cluster), "it is the same one");
    }
    let kept = live.load().removals.len();
    assert_eq!(kept, 256, "the oldest have gone");
    fixture.write("sconce.yaml", "teams: { directory: teams, removal_delay: 0s }\n");
    fixture.write("teams/ml.yaml", ML);
    reloader.reload();
    assert_eq!(live.load().removals.len(), kept, "what was promised stays");
    fs::remove_file(fixture.home.path().join("teams/ml.yaml")).unwrap();
    reloader.reload();
    assert_eq!(live.load().removals.len(), kept, "and nothing more is");
}

#[test]
fn an_error_in_the_main_file_keeps_errors_of_teams_visible() {
    let fixture = Fixture::new();
    let (mut reloader, _live) = fixture.start();
    let wrong = || {
        let errors = fixture.metrics.control().config_errors();
        errors.iter().map(|it| it.team.clone()).collect::<Vec<_>>()
    };
    fixture.write("teams/ml.yaml", "tea: ml\n");
    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);
    assert_eq!(wrong(), ["ml.yaml"]);
    // The set of team files is unknown from now on.
    fixture.write("sconce.yaml", "teams: 'x");
    assert!(matches!(reloader.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(wrong(), ["-", "ml.yaml"]);
    // No effect yet.
    fixture.write("teams/ml.yaml", ML);
    fixture.write("sconce.yaml", &format!("{MAIN}nonsense: 1\n"));
    assert!(matches!(reloader.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(wrong(), ["-", "ml.yaml"]);
    fixture.write("sconce.yaml", MAIN);
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    assert_eq!(wrong(), [""; 0]);
}

#[test]
fn calls_of_a_removed_member_reach_only_the_driver_of_their_session() {
    let fixture = Fixture::new();
    let main = format!(
        "{MAIN}authenticate:\n  tokens:\n    - {{ name: a, user: ann, sha256: {} }}\n",
        "a".repeat(64)
    );
    fixture.write("sconce.yaml", &main);
    let ads = |user: &str| format!("{ADS}members: {{ users: [{user}] }}\n");
    fixture.write("teams/ads.yaml", &ads("ann"));
    let (mut reloader, live) = fixture.start();
    let before = live.load();
    fixture.write("teams/ads.yaml", &ads("bob").replace("ads:15002", "new:15002"));
    assert_eq!(reloader.reload(), ReloadOutcome::Applied(2));
    let later = live.load();
    let place = |snapshot: &Snapshot, number: Option<u64>| {
        let refusal = Refusal::new(Code::PermissionDenied, "team.no_membership", "");
        let revoked = number.map(|number| Rc::new(Revoked { generation: number, refusal }));
        let (team, environment) =
            (TeamName::parse("ads").ok(), EnvironmentName::parse("prod").ok());
        let slots = Attributes { team, environment, revoked, ..Attributes::default() };
        snapshot.cluster(&slots).map(|cluster| cluster.driver().to_string())
    };
    assert_eq!(place(&before, Some(2)).as_deref(), Some("ads:15002"), "it was admitted before");
    let at = |number| place(&later, number);
    assert_eq!(at(None).as_deref(), Some("new:15002"));
    assert_eq!(at(Some(2)).as_deref(), Some("ads:15002"));
    assert_eq!(at(Some(1)), None, "what no removal admits goes nowhere");
}
