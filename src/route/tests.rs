//! A steward and its files: what is published of them, and when.

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

struct House {
    home: TempDir,
    metrics: Metrics,
}

impl House {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let house = Self { home, metrics: Metrics::new("test") };
        house.write("sconce.yaml", MAIN);
        house.write("teams/ads.yaml", ADS);
        house
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
fn certify(house: &House, from: i32, to: i32) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    house.write("a.crt", &params.self_signed(&key).unwrap().pem());
    house.write("a.key", &key.serialize_pem());
}

/// When the certificate ends, as the metrics tell it.
fn end(house: &House) -> String {
    let page = house.metrics.encode(MetricsFormat::Classic);
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
fn a_good_edit_is_published_and_a_call_keeps_the_snapshot_it_began_with() {
    let house = House::new();
    let (mut steward, live) = house.start();
    let mut reader = live.reader();
    let kept = Arc::clone(reader.latest());
    house.write("teams/ml.yaml", ML);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
    assert_eq!(reader.latest().generation, 2);
    assert_eq!((kept.generation, kept.table.clusters().count()), (1, 1));
}

/// The errors of the configuration by team, as the metrics tell them.
fn errors(house: &House) -> Vec<String> {
    let page = house.metrics.encode(MetricsFormat::Classic);
    let lines = page.lines().filter_map(|line| line.strip_prefix("sconce_config_errors{team="));
    lines.map(|line| line.replace(['"', '}'], "")).collect()
}

#[test]
fn a_bad_edit_of_the_main_file_keeps_the_last_good_plan_and_is_told() {
    let house = House::new();
    let (mut steward, live) = house.start();
    house.write("sconce.yaml", &format!("{MAIN}x: 1\ny: 2\n"));
    house.write("teams/ml.yaml", ML);
    let ReloadOutcome::Rejected(complaints) = steward.reload() else { panic!("must be rejected") };
    assert_eq!(complaints.len(), 2);
    assert_eq!((live.load().generation, clusters(&live)), (1, vec!["ads/prod".to_owned()]));
    assert!(
        matches!(&live.reload_status().outcome, ReloadOutcome::Rejected(told) if told.len() == 2)
    );
    assert_eq!(errors(&house), ["- 2"]);
}

#[test]
fn a_bad_edit_of_a_team_s_file_keeps_what_the_plan_says_of_that_team_and_is_told() {
    let house = House::new();
    let (mut steward, live) = house.start();
    house.write("teams/ads.yaml", "team: ads\n");
    house.write("teams/ml.yaml", ML);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
    assert_eq!(errors(&house), ["- 0", "ads 1"]);
    fs::remove_file(house.home.path().join("teams/ads.yaml")).unwrap();
    assert_eq!(steward.reload(), ReloadOutcome::Applied(3));
    assert_eq!(
        (clusters(&live), errors(&house)),
        (vec!["ml/lab".to_owned()], vec!["- 0".to_owned()])
    );
}

#[test]
fn a_team_whose_file_is_wrong_at_the_start_is_the_only_one_that_is_not_served() {
    let house = House::new();
    house.write("teams/ml.yaml", "team: ml\n");
    let (mut steward, live) = house.start();
    assert_eq!(
        (clusters(&live), errors(&house)),
        (vec!["ads/prod".to_owned()], vec!["- 0".to_owned(), "ml 1".to_owned()])
    );
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
    house.write("teams/ml.yaml", ML);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    assert_eq!((clusters(&live).len(), errors(&house)), (2, vec!["- 0".to_owned()]));
}

#[test]
fn a_revocation_in_the_main_file_applies_though_a_team_s_file_has_an_error() {
    let house = House::new();
    let line = |name: &str, digit: &str| {
        format!(
            "    - {{ name: {name}, user: {name}, teams: [ads], sha256: {} }}\n",
            digit.repeat(64)
        )
    };
    let main = format!("{MAIN}authenticate:\n  tokens:\n{}", line("ann", "1"));
    house.write("sconce.yaml", &format!("{main}{}", line("bob", "2")));
    let (mut steward, live) = house.start();
    let before = live.load();
    house.write("sconce.yaml", &main);
    house.write("teams/ads.yaml", "team: ads\n");
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    assert!(!Arc::ptr_eq(&before, &live.load()));
    assert_eq!(
        (clusters(&live), errors(&house)),
        (vec!["ads/prod".to_owned()], vec!["- 0".to_owned(), "ads 1".to_owned()])
    );
}

#[test]
fn an_edit_that_is_taken_back_is_good_again_without_a_new_generation() {
    let house = House::new();
    let (mut steward, live) = house.start();
    house.write("sconce.yaml", "nonsense");
    assert!(matches!(steward.reload(), ReloadOutcome::Rejected(_)));
    house.write("sconce.yaml", MAIN);
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
    house.write("teams/ads.yaml", "nonsense");
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
    assert_eq!(errors(&house), ["- 0", "ads.yaml 1"]);
    house.write("teams/ads.yaml", ADS);
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
    assert_eq!(live.reload_status().outcome, ReloadOutcome::Unchanged);
    assert_eq!((live.load().generation, errors(&house)), (1, vec!["- 0".to_owned()]));
}

#[test]
fn a_directory_that_is_gone_empties_no_routes() {
    let house = House::new();
    let (mut steward, live) = house.start();
    fs::remove_dir_all(house.home.path().join("teams")).unwrap();
    assert!(matches!(steward.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(clusters(&live), ["ads/prod"]);
    fs::remove_file(house.home.path().join("sconce.yaml")).unwrap();
    assert!(matches!(steward.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(clusters(&live), ["ads/prod"]);
}

#[test]
fn what_needs_a_restart_is_told_and_the_rest_is_applied() {
    let house = House::new();
    let (mut steward, live) = house.start();
    house.write(
        "sconce.yaml",
        "teams: { directory: teams }\nlisten: { address: 127.0.0.1:1, connections: 5 }\n\
         admin: { address: 127.0.0.1:2 }\nworkers: 9\nlog: { format: pretty, level: debug }\n",
    );
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    let restart: Vec<_> =
        live.reload_status().restart_required.iter().map(ToString::to_string).collect();
    assert_eq!(restart, ["listen.address", "admin.address", "workers", "log.format"]);
    assert_eq!(live.load().connections, 5);
    house.write("sconce.yaml", MAIN);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(3));
    assert!(live.reload_status().restart_required.is_empty());
}

#[test]
fn without_a_plan_there_is_no_start() {
    let house = House::new();
    house.write("teams/ads.yaml", "team: ads\n");
    let file = house.home.path().join("sconce.yaml");
    let complaints =
        Reloader::start(&file, &LoadContext::default(), house.metrics.control()).unwrap_err();
    let keys: Vec<_> = complaints.iter().map(|complaint| &*complaint.key).collect();
    assert_eq!(keys, ["environments"], "no team can be served");
}

#[test]
fn an_expired_certificate_takes_no_place_of_a_good_one() {
    let house = House::new();
    house.write("sconce.yaml", TLS);
    certify(&house, 2001, 3001);
    let (mut steward, live) = house.start();
    assert_eq!(end(&house), "32535216000");
    certify(&house, 2001, 2002);
    let ReloadOutcome::Rejected(complaints) = steward.reload() else { panic!("must be rejected") };
    let said = complaints[0].to_string();
    let expected = "a.crt has expired on 2002-01-01 00:00:00 UTC; put a certificate in its place \
                    that is good, with its key";
    assert!(complaints.len() == 1 && said.ends_with(expected), "{complaints:?}");
    assert!(said.contains("sconce.yaml:5: listen.tls.certificates.certificate: "), "{said}");
    assert_eq!((live.load().generation, end(&house)), (1, "32535216000".to_owned()));
    certify(&house, 2001, 3002);
    assert_eq!(
        (steward.reload(), end(&house)),
        (ReloadOutcome::Applied(2), "32566752000".to_owned())
    );
}

#[test]
fn an_expired_certificate_serves_where_there_is_no_better_one() {
    let house = House::new();
    house.write("sconce.yaml", TLS);
    certify(&house, 2001, 2002);
    let (mut steward, _live) = house.start();
    house.write("teams/ml.yaml", ML);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    certify(&house, 2001, 2003);
    assert_eq!(
        (steward.reload(), end(&house)),
        (ReloadOutcome::Applied(3), "1041379200".to_owned())
    );
}

#[test]
fn files_that_change_while_it_runs_are_published() {
    let house = House::new();
    let (steward, live) = house.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let published = async {
        // After the first round only the watch can tell.
        while live.reload_status().outcome != ReloadOutcome::Unchanged {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        house.write("teams/ml.yaml", ML);
        while live.load().generation < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = steward.run() => {}
            done = tokio::time::timeout(Duration::from_secs(10), published) => done.unwrap(),
        }
    });
    assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
}

#[test]
fn no_part_of_a_file_opens_a_door_that_the_whole_of_it_keeps_shut() {
    let house = House::new();
    certify(&house, 2000, 4000);
    let token = "    - { name: a, user: ann, teams: [ads], sha256: ";
    let whole = format!("{TLS}authenticate:\n  tokens:\n{token}{} }}\n", "0a".repeat(32));
    house.write("sconce.yaml", &whole);
    let (mut steward, live) = house.start();
    for end in 0..whole.len() {
        house.write("sconce.yaml", &whole[..end]);
        let verdict = steward.reload();
        let snapshot = live.load();
        assert!(snapshot.tls.is_some(), "{verdict:?} of {:?}", &whole[..end]);
        assert!(snapshot.chain.names().any(|name| name == "authenticate"), "{verdict:?}");
    }
    house.write("sconce.yaml", MAIN);
    let ReloadOutcome::Rejected(complaints) = steward.reload() else { panic!("must be rejected") };
    let keys: Vec<_> = complaints.iter().map(|complaint| &*complaint.key).collect();
    assert_eq!(keys, ["authenticate", "listen.tls"]);
    house.write("sconce.yaml", &whole);
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
}

#[test]
fn what_reloads_take_away_is_kept_for_a_while_and_in_bounded_number() {
    let house = House::new();
    house.write("sconce.yaml", "teams: { directory: teams, removal_delay: 1h }\n");
    let (mut steward, live) = house.start();
    let ml = TeamName::parse("ml").unwrap();
    let lab = EnvironmentName::parse("lab").unwrap();
    for _ in 0..260 {
        house.write("teams/ml.yaml", ML);
        steward.reload();
        let cluster = Arc::clone(live.load().table.cluster(&ml, &lab).unwrap());
        fs::remove_file(house.home.path().join("teams/ml.yaml")).unwrap();
        steward.reload();
        let snapshot = live.load();
        let last = snapshot.removals.last().unwrap();
        assert_eq!(last.generation(), snapshot.generation);
        assert!(last.affects(&ml) && !last.affects(&TeamName::parse("ads").unwrap()));
        assert!(snapshot.table.cluster(&ml, &lab).is_none());
        assert!(Arc::ptr_eq(last.cluster(&ml, &lab).unwrap(), &cluster), "it is the same one");
    }
    let kept = live.load().removals.len();
    assert_eq!(kept, 256, "the oldest have gone");
    house.write("sconce.yaml", "teams: { directory: teams, removal_delay: 0s }\n");
    house.write("teams/ml.yaml", ML);
    steward.reload();
    assert_eq!(live.load().removals.len(), kept, "what was promised stays");
    fs::remove_file(house.home.path().join("teams/ml.yaml")).unwrap();
    steward.reload();
    assert_eq!(live.load().removals.len(), kept, "and nothing more is");
}

#[test]
fn an_error_of_the_main_file_hides_no_error_of_a_team() {
    let house = House::new();
    let (mut steward, _live) = house.start();
    let wrong = || {
        let errors = house.metrics.control().config_errors();
        errors.iter().map(|it| it.team.clone()).collect::<Vec<_>>()
    };
    house.write("teams/ml.yaml", "tea: ml\n");
    assert_eq!(steward.reload(), ReloadOutcome::Unchanged);
    assert_eq!(wrong(), ["ml.yaml"]);
    // Which team files there are cannot be known any more.
    house.write("sconce.yaml", "teams: 'x");
    assert!(matches!(steward.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(wrong(), ["-", "ml.yaml"]);
    // Nothing of it takes effect yet.
    house.write("teams/ml.yaml", ML);
    house.write("sconce.yaml", &format!("{MAIN}nonsense: 1\n"));
    assert!(matches!(steward.reload(), ReloadOutcome::Rejected(_)));
    assert_eq!(wrong(), ["-", "ml.yaml"]);
    house.write("sconce.yaml", MAIN);
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
    assert_eq!(wrong(), [""; 0]);
}

#[test]
fn calls_of_a_removed_member_reach_no_driver_but_the_one_that_their_session_is_on() {
    let house = House::new();
    let main = format!(
        "{MAIN}authenticate:\n  tokens:\n    - {{ name: a, user: ann, sha256: {} }}\n",
        "a".repeat(64)
    );
    house.write("sconce.yaml", &main);
    let ads = |user: &str| format!("{ADS}members: {{ users: [{user}] }}\n");
    house.write("teams/ads.yaml", &ads("ann"));
    let (mut steward, live) = house.start();
    let before = live.load();
    house.write("teams/ads.yaml", &ads("bob").replace("ads:15002", "new:15002"));
    assert_eq!(steward.reload(), ReloadOutcome::Applied(2));
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
