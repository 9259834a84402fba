//! Every alert of `docs/alerts.yaml` fires when the system is broken in its way, and none does while
//! all is well: a real Prometheus scrapes sconce and evaluates the very file.
//!
//! `SCONCE_PROMETHEUS` names the Prometheus: without it there are no cases here. `tests/alerts/run`
//! finds one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::connection_limits::{ELSEWHERE, connect};
use crate::driver_credentials::refusing;
use crate::support::frame;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN};
use crate::support::runner::Cases;
use crate::support::sconce::Config;
use crate::support::signer::{Signer, claims, jwks};
use crate::support::world::{Spec, World};
use crate::tls;

/// For a scrape, an evaluation and a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yaml");

type Break = fn(&World);

pub fn cases(cases: &mut Cases) {
    let Ok(binary) = std::env::var("SCONCE_PROMETHEUS") else { return };
    cases.suite("alerts");
    let mut tried = BTreeSet::new();
    for (alert, spec, broken, times) in all() {
        tried.insert(alert.to_string());
        let binary = binary.clone();
        cases.own(format!("{alert}_fires"), spec, move |world| {
            let prometheus = Prometheus::start(&binary, world);
            fires(&prometheus, alert, times, || broken(world));
        });
    }
    cases.own("every_alert_has_a_case", Spec::default(), move |_| {
        assert_eq!(names(), tried, "break the system in tests/attack/alerts.rs for each alert");
    });
    cases.own("nothing_fires_while_all_is_well", proof::spec(""), move |world| {
        let prometheus = Prometheus::start(&binary, world);
        let until = Instant::now() + Duration::from_secs(5);
        let mut client = world.client();
        while Instant::now() < until {
            let id = client.call(&proof::of(&client, &ANN));
            assert_eq!(client.finish(id).status(), Some(0));
            client.pump(|_| false, Duration::from_millis(50));
        }
        assert_eq!(prometheus.firing(), BTreeSet::new());
        assert!(prometheus.has("sconce_driver_up == 1"), "the calls are not among it");
    });
}

/// How often the system is broken until the alert fires.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    /// One event is worth the alert.
    Once,
    /// Again and again, as by a client that tries again.
    Many,
}

/// Each alert, a world, and how that is broken.
fn all() -> Vec<(&'static str, Spec, Break, Times)> {
    use Times::{Many, Once};
    let signer = Signer::new("one");
    // Nobody listens there.
    let away = || proof::spec_with_keys_at("keys_url: http://127.0.0.1:1/keys");
    let mut rejecting = Spec::default();
    rejecting.config.lines = vec![("ads", "driver_token_file: ../ads.token\n".to_string())];
    rejecting.config.files = vec![("ads.token", "driver-0a1b2c3d\n".to_string())];
    let mut ending = tls::with(Vec::new());
    ending.config.life = Some(Duration::from_secs(7 * 86_400));
    let config = Config { listen: vec![("connections_per_source", "4")], ..Config::default() };
    let narrow = Spec { config, ..Spec::default() };
    vec![
        ("SconceDriverUnreachable", Spec::default(), dead_driver, Once),
        ("SconceConnectionsToDriverFail", Spec::default(), dead_driver, Many),
        ("SconceCallsUnavailable", Spec::default(), dead_driver, Many),
        ("SconceDriverRejectsToken", rejecting, rejected_token, Once),
        ("SconceConfigurationRejected", Spec::default(), bad_edit, Once),
        ("SconceNotReady", away(), |_| (), Once),
        ("SconceClientExceedsLimit", Spec::default(), pings, Once),
        ("SconceKeysDoNotFit", proof::spec_with_keys(jwks(&[signer.jwk()])), unknown_key, Once),
        ("SconceKeysOld", away(), |_| (), Once),
        ("SconceConnectionsTurnedAway", narrow, crowd, Once),
        ("SconceCertificateExpires", ending, |_| (), Once),
        ("SconceFewDescriptors", Spec::default(), few_descriptors, Once),
    ]
}

fn dead_driver(world: &World) {
    world.driver.lock().unwrap().kill();
    let mut client = world.client();
    let id = client.call(&client.request());
    client.finish(id).assert_no_success();
}

fn rejected_token(world: &World) {
    let mut client = world.client();
    let rejection = refusing(16, "Invalid authentication token");
    let id = client.call(&client.request().script(&rejection));
    assert_eq!(client.finish(id).status(), Some(proof::INTERNAL));
}

fn bad_edit(world: &World) {
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    std::fs::write(home.join("teams/odd.yaml"), "tea: odd\n").unwrap();
}

fn pings(world: &World) {
    let mut client = world.client();
    let mut sent = 0;
    while client.goaway.is_none() && !client.closed && sent < 200_000 {
        client.send(&frame::ping([0; 8]).repeat(100));
        client.poll();
        sent += 100;
    }
}

/// A token of somebody else's key, which nobody can know.
fn unknown_key(world: &World) {
    let mut client = world.client();
    let token = Signer::new("two").sign(&claims());
    let request = proof::bare(&client).with("authorization", format!("Bearer {token}"));
    let id = client.call(&request);
    client.finish(id).assert_no_success();
}

fn crowd(world: &World) {
    let crowd: Vec<_> = (0..8).map(|_| connect(world.target, ELSEWHERE)).collect();
    std::thread::sleep(Duration::from_millis(200));
    drop(crowd);
}

/// Lowers the limit of the process to little more than what it has.
fn few_descriptors(world: &World) {
    let process = world.process().unwrap();
    let limit = process.descriptors() + 4;
    let limited = Command::new("prlimit")
        .args(["--pid", &process.id.to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    assert!(limited.unwrap().success(), "prlimit is a part of util-linux");
}

/// The alerts of the file.
fn names() -> BTreeSet<String> {
    let text = std::fs::read_to_string(RULES).unwrap();
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_string).collect()
}

fn fires(prometheus: &Prometheus, alert: &str, times: Times, break_it: impl Fn()) {
    let what = format!("{alert} fires");
    break_it();
    eventually(&what, PATIENCE, || {
        if times == Times::Many {
            break_it();
        }
        let firing = prometheus.firing();
        std::thread::sleep(Duration::from_millis(300));
        firing.contains(alert)
    });
}

/// One that scrapes a sconce a few times in a second. Its data goes when this is dropped.
struct Prometheus {
    child: Child,
    at: SocketAddr,
    _home: tempfile::TempDir,
}

impl Prometheus {
    fn start(binary: &str, world: &World) -> Self {
        let admin = world.sconce.as_ref().unwrap().lock().unwrap().admin;
        let home = tempfile::tempdir().unwrap();
        // Alerts fire at once: how long to wait first is a matter of taste.
        let rules = std::fs::read_to_string(RULES).unwrap();
        let at_once = rules.lines().filter(|line| !line.trim().starts_with("for: "));
        let rules: String = at_once.map(|line| line.to_string() + "\n").collect();
        std::fs::write(home.path().join("alerts.yaml"), rules).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: \
             300ms }}\nrule_files: [alerts.yaml]\nscrape_configs: [{{ job_name: sconce, \
             static_configs: [{{ targets: ['{admin}'] }}] }}]\n"
        );
        std::fs::write(home.path().join("prometheus.yml"), config).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let child = Command::new(binary)
            .current_dir(home.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { child, at, _home: home };
        eventually("Prometheus is ready", PATIENCE, || prometheus.get("/-/ready").is_some());
        // It looks for what to scrape five seconds after its start.
        eventually("it has scraped", PATIENCE, || prometheus.has("up == 1"));
        prometheus
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(self.at).ok()?;
        write!(socket, "GET {path} HTTP/1.0\r\nhost: a\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_string())
    }

    /// The alerts that fire.
    fn firing(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/rules?type=alert").unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let faults: Vec<_> = rules.clone().filter(|rule| rule["health"] == "err").collect();
        assert!(faults.is_empty(), "{faults:?}");
        let firing = rules.filter(|rule| rule["state"] == "firing");
        firing.map(|rule| rule["name"].as_str().unwrap().to_string()).collect()
    }

    /// Whether a query finds anything.
    fn has(&self, query: &str) -> bool {
        let query = query.replace(' ', "%20").replace('=', "%3D");
        let answer = self.get(&format!("/api/v1/query?query={query}")).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        !answer["data"]["result"].as_array().unwrap().is_empty()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
