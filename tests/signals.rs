//! Signals to a real process, sent when they are least convenient.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test owns its clock, and may wait for ever")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Well below the ten seconds for which the first keys are waited for.
const SOON: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

struct Sconce {
    child: Child,
    lines: Receiver<String>,
    admin: SocketAddr,
    _home: tempfile::TempDir,
}

impl Sconce {
    /// Starts one that waits for keys of a provider who takes every call and says nothing.
    fn waiting_for_keys(drain: &str) -> Self {
        let provider = TcpListener::bind("127.0.0.1:0").unwrap();
        let home = tempfile::tempdir().unwrap();
        write_config(home.path(), provider.local_addr().unwrap(), drain);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(["serve", "--config"])
            .arg(home.path().join("sconce.yaml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            for line in lines {
                let _ = tell.send(line);
            }
        });
        let (asked, asking) = channel();
        thread::spawn(move || {
            let mut held = Vec::new();
            for socket in provider.incoming() {
                held.push(socket);
                let _ = asked.send(());
            }
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sconce = Self { child, lines, admin: any, _home: home };
        let line = sconce.hears("listening");
        let told = line.rsplit("admin=").next().unwrap();
        sconce.admin = told.split_whitespace().next().unwrap().parse().unwrap();
        asking.recv_timeout(PATIENCE).expect("the provider was not asked");
        sconce
    }

    /// Waits for a line of the log with this in it.
    fn hears(&self, words: &str) -> String {
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if line.contains(words) {
                return line;
            }
            heard.push(line);
        }
        unreachable!("no line says {words:?}: {heard:#?}");
    }

    fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn readiness(&self) -> String {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {}", &head[9..12], body.split(':').next().unwrap())
    }

    /// Waits for the end, which must come within that time.
    fn ends_within(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(ended) = self.child.try_wait().unwrap() {
                return ended;
            }
            assert!(Instant::now() < until, "it runs on");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sconce {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(home: &Path, provider: SocketAddr, drain: &str) {
    let main = format!(
        "listen: {{ address: 127.0.0.1:0 }}\nadmin: {{ address: 127.0.0.1:0 }}\nworkers: 1\n\
         log: {{ format: pretty }}\nteams: {{ directory: teams }}\ndrain: {drain}\n\
         authenticate:\n  issuers:\n    - issuer: https://sconce.invalid/dev\n      audiences: \
         [a]\n      keys_url: http://{provider}/keys\n"
    );
    std::fs::write(home.join("sconce.yaml"), main).unwrap();
    std::fs::create_dir(home.join("teams")).unwrap();
    let ads = "team: ads\nenvironments: { prod: { driver: '127.0.0.1:1' } }\n";
    std::fs::write(home.join("teams/ads.yaml"), ads).unwrap();
}

#[test]
fn a_signal_while_the_first_keys_are_waited_for_ends_the_process_at_once() {
    let mut sconce = Sconce::waiting_for_keys("{}");
    assert_eq!(sconce.readiness(), "503 starting");
    sconce.terminate();
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
    sconce.hears("draining");
    sconce.hears("ended");
}

#[test]
fn a_drain_that_begins_before_the_first_keys_is_a_drain_like_any_other() {
    let mut sconce = Sconce::waiting_for_keys("{ delay: 10m }");
    let began = Instant::now();
    sconce.terminate();
    sconce.hears("draining");
    assert!(began.elapsed() < SOON, "it drains after {:?}", began.elapsed());
    assert_eq!(sconce.readiness(), "503 draining");
    sconce.terminate();
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
    sconce.hears("a second signal: ending now");
}

#[test]
fn a_hangup_has_the_files_read_and_ends_nothing() {
    let mut sconce = Sconce::waiting_for_keys("{}");
    let hangup = format!("kill -HUP {}", sconce.child.id());
    for _ in 0..2 {
        assert!(Command::new("sh").args(["-c", &hangup]).status().unwrap().success());
        sconce.hears("SIGHUP: reading the configuration");
    }
    assert_eq!(sconce.child.try_wait().unwrap(), None, "it has ended");
    sconce.terminate();
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
}
