//! The binary under test: started with a config of its own, watched through /proc.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bridge::Paper;
use super::signer::now;

/// What of the config differs from the defaults.
#[derive(Clone, Default)]
pub struct Config {
    /// Lines below `timeouts:`.
    pub timeouts: Vec<(&'static str, &'static str)>,
    /// Lines below `limits:`.
    pub limits: Vec<(&'static str, &'static str)>,
    /// Lines below `listen:`.
    pub listen: Vec<(&'static str, &'static str)>,
    /// Lines below `listen.tls:` if there is to be TLS; the certificate stands in them already.
    pub tls: Option<Vec<(&'static str, &'static str)>>,
    /// How long its certificate is good from the start; for ever, if nobody says.
    pub life: Option<Duration>,
    /// Further sections, as they are written.
    pub extra: String,
    /// Who belongs to a team: the value of `members` in its file.
    pub members: Vec<(&'static str, &'static str)>,
    /// Further lines of a team's file.
    pub lines: Vec<(&'static str, String)>,
    /// Further files beside the config.
    pub files: Vec<(&'static str, String)>,
    /// Whether lines of level debug are logged as well.
    pub debug: bool,
    /// What the canary says in `authorization`, where proof is asked for.
    pub proof: Option<String>,
}

pub struct Sconce {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    stderr: Arc<Mutex<Vec<String>>>,
    pub home: tempfile::TempDir,
    /// What it shows to those who come by TLS.
    pub paper: Paper,
}

impl Sconce {
    /// Starts it with these teams: name and driver.
    pub fn start(config: &Config, teams: &[(&str, SocketAddr)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let paper = match config.life {
            None => Paper::new("localhost"),
            Some(life) => Paper::lasting("localhost", now()..now() + life.as_secs()),
        };
        std::fs::write(home.path().join("server.crt"), &paper.certificate).unwrap();
        std::fs::write(home.path().join("server.key"), &paper.key).unwrap();
        write_config(home.path(), config, teams);
        let binary = std::env::var("ATTACK_BIN");
        let binary = binary.unwrap_or_else(|_| env!("CARGO_BIN_EXE_sconce").to_string());
        let mut child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(home.path().join("sconce.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (lines, pipe) = (stderr.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut held = lines.lock().unwrap();
                if held.len() < 2_000 || line.contains("panicked") {
                    held.push(line);
                }
            }
        });
        match await_ready(&mut child, &stderr) {
            Some((address, admin)) => Self { child, address, admin, stderr, home, paper },
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("sconce did not start: {:?}", stderr.lock().unwrap());
            }
        }
    }

    /// Alive, and nothing in it has panicked.
    pub fn assert_sound(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let lines = self.stderr.lock().unwrap();
        let panics: Vec<&String> = lines.iter().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "sconce panicked: {panics:?}");
        assert!(ended.is_none(), "sconce is gone: {ended:?}, {:?}", lines.last());
    }

    /// Which budgets were overrun, and how often, as the metrics tell it.
    pub fn guards(&self) -> Vec<String> {
        let page = self.metrics();
        let lines =
            page.lines().filter_map(|line| line.strip_prefix("sconce_abuse_limit_exceeded_total{"));
        lines.map(|line| line.replace('}', "")).filter(|line| !line.ends_with(" 0")).collect()
    }

    /// How many answers of its own have this label.
    pub fn refusals(&self, label: &str) -> usize {
        let head = format!("sconce_refusals_total{{label=\"{label}\"}} ");
        let page = self.metrics();
        page.lines().find_map(|line| line.strip_prefix(&head)?.parse().ok()).unwrap_or(0)
    }

    pub fn metrics(&self) -> String {
        self.page("/metrics")
    }

    /// A page of the admin port, with its head.
    pub fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// The value of a line of the metrics that begins so, with all its labels.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let page = self.metrics();
        let value = page.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok())
    }

    pub fn process(&self) -> Process {
        Process { id: self.child.id() }
    }

    /// The lines with this message that it has logged so far.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }
}

impl Drop for Sconce {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it listens, to clients and on its admin port.
fn await_ready(child: &mut Child, stderr: &Mutex<Vec<String>>) -> Option<(SocketAddr, SocketAddr)> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        let lines = stderr.lock().unwrap();
        let ready = lines.iter().find(|line| line.contains("listening"));
        let told = |key| ready.and_then(|line| address_after(line, key));
        if let (Some(address), Some(admin)) = (told("address"), told("admin")) {
            return Some((address, admin));
        }
        drop(lines);
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            std::thread::sleep(Duration::from_millis(50));
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The address that follows `key`, in JSON and in pretty lines alike.
fn address_after(line: &str, key: &str) -> Option<SocketAddr> {
    let plain = strip_colours(line);
    let after =
        &plain[plain.find(&format!("{key}=")).or_else(|| plain.find(&format!("\"{key}\"")))?..];
    let from = after.find(|letter: char| letter.is_ascii_digit() || letter == '[')?;
    let text: String = after[from..]
        .chars()
        .take_while(|letter| letter.is_ascii_hexdigit() || "[]:.".contains(*letter))
        .collect();
    let address: SocketAddr = text.parse().ok()?;
    Some(if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    })
}

fn strip_colours(line: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for letter in line.chars() {
        match letter {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            letter => out.push(letter),
        }
    }
    out
}

fn write_config(home: &Path, config: &Config, teams: &[(&str, SocketAddr)]) {
    let section = |name: &str, fixed: &[(&str, &str)], lines: &[(&str, &str)]| {
        let mut out = format!("{name}:\n");
        for (key, value) in fixed.iter().chain(lines) {
            out.push_str(&format!("  {key}: {value}\n"));
        }
        if fixed.is_empty() && lines.is_empty() { String::new() } else { out }
    };
    let level = if config.debug { "debug" } else { "info" };
    let mut tls = String::new();
    if let Some(lines) = &config.tls {
        tls.push_str("  tls:\n    certificates:\n");
        tls.push_str("      - { certificate: server.crt, key: server.key }\n");
        for (key, value) in lines {
            tls.push_str(&format!("    {key}: {value}\n"));
        }
    }
    let text = [
        section("listen", &[("address", "127.0.0.1:0")], &config.listen),
        tls,
        section("admin", &[("address", "127.0.0.1:0")], &[]),
        format!("workers: 2\nlog: {{ format: json, level: {level} }}\n"),
        "teams:\n  directory: teams\n".to_string(),
        section("timeouts", &[], &config.timeouts),
        section("limits", &[], &config.limits),
        config.extra.clone(),
    ];
    for (name, text) in &config.files {
        std::fs::write(home.join(name), text).unwrap();
    }
    std::fs::write(home.join("sconce.yaml"), text.concat()).unwrap();
    std::fs::create_dir(home.join("teams")).unwrap();
    for (team, driver) in teams {
        let members = config.members.iter().filter(|(of, _)| of == team);
        let members: String = members.map(|(_, who)| format!("members: {who}\n")).collect();
        let lines = config.lines.iter().filter(|(of, _)| of == team);
        let lines: String = lines.map(|(_, lines)| lines.as_str()).collect();
        let text =
            format!("team: {team}\n{members}{lines}environments:\n  prod:\n    driver: {driver}\n");
        std::fs::write(home.join("teams").join(format!("{team}.yaml")), text).unwrap();
    }
}

/// A process as /proc shows it.
#[derive(Clone, Copy)]
pub struct Process {
    pub id: u32,
}

impl Process {
    /// Resident memory in octets.
    pub fn resident(self) -> i64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.id)).unwrap_or_default();
        let pages: i64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * 4096
    }

    pub fn descriptors(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id)).map_or(0, Iterator::count)
    }

    /// CPU spent by all threads, user and system.
    pub fn cpu(self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        let after = text.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}
