//! What a real process logs of itself: reloads, levels, and nothing of the libraries it is made of.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test owns its clock")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

struct Sconce {
    child: Child,
    home: tempfile::TempDir,
}

impl Sconce {
    /// Starts one whose main file is at `main` below its home.
    fn start(home: tempfile::TempDir, main: &str, environment: &[(&str, &str)]) -> Self {
        let log = fs::File::create(home.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(["serve", "--config"])
            .arg(home.path().join(main))
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, home }
    }

    fn at(level: &str, environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        write_config(home.path(), level);
        let sconce = Self::start(home, "sconce.yaml", environment);
        sconce.waits_until_ready();
        sconce
    }

    /// It has taken over its signals by then, whatever it logs.
    fn waits_until_ready(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        self.eventually("SIGHUP is handled", || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            caught.is_some_and(|mask| mask & 1 == 1)
        });
    }

    fn lines(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    fn count(&self, message: &str) -> usize {
        self.lines().iter().filter(|line| line["message"] == message).count()
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "never so: {what}; {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until so many lines have this message.
    fn says(&self, message: &str, times: usize) {
        self.eventually(message, || self.count(message) >= times);
        assert_eq!(self.count(message), times, "{message}: {:#?}", self.lines());
    }

    fn hang_up(&self) {
        let kill = format!("kill -HUP {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Sconce {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main_file(level: &str) -> String {
    format!(
        "listen: {{ address: 127.0.0.1:0 }}\nadmin: {{ address: 127.0.0.1:0 }}\nworkers: 1\n\
         log: {{ format: json, level: {level} }}\nteams: {{ directory: teams }}\n"
    )
}

const ADS: &str = "team: ads\nenvironments: { prod: { driver: '127.0.0.1:1' } }\n";

fn write_config(home: &Path, level: &str) {
    fs::write(home.join("sconce.yaml"), main_file(level)).unwrap();
    fs::create_dir(home.join("teams")).unwrap();
    fs::write(home.join("teams/ads.yaml"), ADS).unwrap();
}

#[test]
fn every_hangup_has_an_outcome() {
    let sconce = Sconce::at("info", &[]);
    for times in [1, 2] {
        sconce.hang_up();
        sconce.says("SIGHUP: configuration unchanged", times);
    }
    fs::write(sconce.path("teams/ml.yaml"), "tea: ml\n").unwrap();
    sconce.says("team file has errors", 1);
    for times in [1, 2] {
        sconce.hang_up();
        sconce.says("SIGHUP: configuration unchanged, with errors in team files", times);
        // What is wrong is said again.
        sconce.says("team file has errors", times + 1);
    }
    let last = sconce.lines().pop().unwrap();
    assert_eq!((&last["level"], &last["teams"]), (&"WARN".into(), &1.into()), "{last}");
    assert!(last["errors"].as_u64() > Some(0), "{last}");
    fs::write(sconce.path("sconce.yaml"), main_file("info") + "nonsense: 1\n").unwrap();
    sconce.says("configuration rejected; keeping the last good configuration", 1);
    for times in [1, 2] {
        sconce.hang_up();
        sconce.says("SIGHUP: configuration rejected", times);
        // What is wrong is said again.
        sconce.says("configuration rejected; keeping the last good configuration", times + 1);
    }
    let last = sconce.lines().pop().unwrap();
    assert_eq!(last["level"], "WARN");
    assert!(last["errors"].as_u64() > Some(0), "{last}");
    fs::write(sconce.path("teams/ml.yaml"), ADS.replace("ads", "ml")).unwrap();
    fs::write(sconce.path("sconce.yaml"), main_file("info")).unwrap();
    sconce.hang_up();
    sconce.eventually("an outcome", || {
        sconce.count("SIGHUP: configuration applied")
            + sconce.count("SIGHUP: configuration unchanged")
            == 3
    });
}

#[test]
fn the_level_of_the_log_follows_the_file() {
    let sconce = Sconce::at("error", &[]);
    assert_eq!(sconce.lines(), Vec::<Value>::new());
    fs::write(sconce.path("sconce.yaml"), main_file("info")).unwrap();
    sconce.says("log level changed", 1);
    sconce.says("configuration applied", 1);
    fs::write(sconce.path("sconce.yaml"), main_file("warn")).unwrap();
    sconce.says("log level changed", 2);
    sconce.hang_up();
    fs::write(sconce.path("sconce.yaml"), main_file("debug")).unwrap();
    sconce.says("log level changed", 3);
    let outcome = "SIGHUP: configuration unchanged";
    assert_eq!(sconce.count(outcome), 0, "below the level: {:#?}", sconce.lines());
    let restart = "key changed; takes effect at the next start";
    assert_eq!(sconce.count(restart), 0, "{:#?}", sconce.lines());
}

#[test]
fn a_level_of_the_environment_stays_and_that_is_said() {
    let sconce = Sconce::at("info", &[("RUST_LOG", "warn")]);
    fs::write(sconce.path("sconce.yaml"), main_file("debug")).unwrap();
    sconce.says("log.level changed, but RUST_LOG overrides it", 1);
    assert_eq!(sconce.count("configuration applied"), 0);
}

/// The files as Kubernetes mounts a ConfigMap: links into a folder that a second link names.
fn mounted(home: &Path, version: &str, level: &str) {
    let folder = home.join("mount").join(version);
    fs::create_dir_all(folder.join("teams")).unwrap();
    fs::write(folder.join("sconce.yaml"), main_file(level)).unwrap();
    fs::write(folder.join("teams/ads.yaml"), ADS).unwrap();
    let (data, next) = (home.join("mount/..data"), home.join("mount/..data_tmp"));
    symlink(version, &next).unwrap();
    fs::rename(&next, &data).unwrap();
}

#[test]
fn a_mount_that_is_swapped_is_logged_in_words_of_sconce_alone() {
    let home = tempfile::tempdir().unwrap();
    mounted(home.path(), "..v1", "info");
    for name in ["sconce.yaml", "teams"] {
        symlink(format!("..data/{name}"), home.path().join("mount").join(name)).unwrap();
    }
    let sconce = Sconce::start(home, "mount/sconce.yaml", &[]);
    sconce.says("listening", 1);
    for (version, before, level) in [("..v2", "..v1", "debug"), ("..v3", "..v2", "trace")] {
        std::thread::sleep(Duration::from_millis(300));
        mounted(sconce.home.path(), version, level);
        fs::remove_dir_all(sconce.path("mount").join(before)).unwrap();
        sconce.eventually("the level follows", || {
            sconce.lines().iter().any(|line| line["to"] == level)
        });
    }
    // It hears of the folders that are gone a while later.
    std::thread::sleep(Duration::from_millis(1_000));
    for line in sconce.lines() {
        let target = line["target"].as_str().unwrap_or_default();
        assert!(target.starts_with("sconce"), "a library's: {line}");
        let text = line.to_string();
        assert!(!text.contains(".cargo") && !text.contains("registry"), "{line}");
        let level = line["level"].as_str();
        assert!(!matches!(level, Some("WARN" | "ERROR")), "nothing is wrong: {line}");
    }
}
