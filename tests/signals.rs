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
        let (asked, asking) = channel();
        thread::spawn(move || {
            let mut held = Vec::new();
            for socket in provider.incoming() {
                held.push(socket);
                let _ = asked.send(());
            }
        });
        let (sconce, _) = Self::start(home);
        asking.recv_timeout(PATIENCE).expect("the provider was not asked");
        sconce
    }

    /// Starts one that relays a call which its driver never answers.
    fn with_a_call(drain: &str) -> (Self, TcpStream) {
        let driver = TcpListener::bind("127.0.0.1:0").unwrap();
        let home = tempfile::tempdir().unwrap();
        write_main(home.path(), driver.local_addr().unwrap(), drain, "");
        let (called, calls) = channel();
        thread::spawn(move || {
            let (mut socket, _) = driver.accept().unwrap();
            socket.write_all(SETTINGS).unwrap();
            socket.read_exact(&mut [0; PREFACE.len()]).unwrap();
            // Frames, until there is HEADERS.
            let mut head = [0; 9];
            while head[3] != 1 {
                socket.read_exact(&mut head).unwrap();
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                socket.read_exact(&mut vec![0; length]).unwrap();
            }
            let _ = called.send(());
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let (sconce, address) = Self::start(home);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&[PREFACE, SETTINGS, &request()].concat()).unwrap();
        calls.recv_timeout(PATIENCE).expect("the driver was not called");
        (sconce, client)
    }

    /// Starts one with the configuration in this folder; the address for its clients.
    fn start(home: tempfile::TempDir) -> (Self, SocketAddr) {
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
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sconce = Self { child, lines, admin: any, _home: home };
        let line = sconce.hears("listening");
        let told = |key: &str| -> SocketAddr {
            let told = line.rsplit(key).next().unwrap();
            told.split_whitespace().next().unwrap().parse().unwrap()
        };
        sconce.admin = told("admin=");
        let address = told("address=");
        (sconce, address)
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
    let authenticate = format!(
        "authenticate:\n  allow_insecure_loopback: true\n  issuers:\n    - issuer: \
         https://sconce.invalid/dev\n      audiences: [a]\n      keys_url: http://{provider}/keys\n"
    );
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    write_main(home, nowhere, drain, &authenticate);
}

fn write_main(home: &Path, driver: SocketAddr, drain: &str, more: &str) {
    let main = format!(
        "listen: {{ address: 127.0.0.1:0 }}\nadmin: {{ address: 127.0.0.1:0 }}\nworkers: 1\n\
         log: {{ format: pretty }}\nteams: {{ directory: teams }}\ndrain: {drain}\n{more}"
    );
    std::fs::write(home.join("sconce.yaml"), main).unwrap();
    std::fs::create_dir(home.join("teams")).unwrap();
    let ads = format!("team: ads\nenvironments: {{ prod: {{ driver: '{driver}' }} }}\n");
    std::fs::write(home.join("teams/ads.yaml"), ads).unwrap();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS that say nothing.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// HEADERS of a call of team `ads` that leave its request open, in literals (RFC 7541, 6.2.2).
fn request() -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/spark.connect.SparkConnectService/ExecutePlan"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-sconce-team", "ads"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).unwrap();
    [&[0, 0, length, 1, 4, 0, 0, 0, 1], &*block].concat()
}

#[test]
fn a_signal_while_the_first_keys_are_waited_for_ends_the_process_at_once() {
    let mut sconce = Sconce::waiting_for_keys("{}");
    assert_eq!(sconce.readiness(), "503 starting");
    sconce.terminate();
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
    sconce.hears("draining");
    sconce.hears("stopped");
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
    sconce.hears("second signal; terminating open calls");
}

#[test]
fn a_grace_that_ends_says_how_many_calls_it_ends_and_whose() {
    let (mut sconce, _client) = Sconce::with_a_call("{ delay: 0s, grace: 300ms }");
    sconce.terminate();
    let line = sconce.hears("drain grace period expired; terminating open calls");
    assert!(line.contains("calls=1") && line.contains("ads/prod 1"), "{line}");
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
}

#[test]
fn a_second_signal_that_cuts_calls_says_so_and_ends_with_another_status() {
    let (mut sconce, _client) = Sconce::with_a_call("{ delay: 0s, grace: 10m }");
    sconce.terminate();
    sconce.hears("draining");
    sconce.terminate();
    let line = sconce.hears("second signal; terminating open calls");
    assert!(line.contains("calls=1") && line.contains("ads/prod 1"), "{line}");
    assert_eq!(sconce.ends_within(SOON).code(), Some(3));
}

#[test]
fn a_hangup_has_the_files_read_and_ends_nothing() {
    let mut sconce = Sconce::waiting_for_keys("{}");
    let hangup = format!("kill -HUP {}", sconce.child.id());
    for _ in 0..2 {
        assert!(Command::new("sh").args(["-c", &hangup]).status().unwrap().success());
        sconce.hears("SIGHUP: reloading the configuration");
    }
    assert_eq!(sconce.child.try_wait().unwrap(), None, "it has ended");
    sconce.terminate();
    assert_eq!(sconce.ends_within(SOON).code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_said_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["listen", "admin"] {
        let home = tempfile::tempdir().unwrap();
        write_config(home.path(), address, "{}");
        let main = home.path().join("sconce.yaml");
        let any = format!("{key}: {{ address: 127.0.0.1:0 }}");
        let ours = format!("{key}: {{ address: '{address}' }}");
        let text = std::fs::read_to_string(&main).unwrap().replace(&any, &ours);
        std::fs::write(&main, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        let output = command.args(["serve", "--config"]).arg(&main).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        let expected = format!("{key}.address: cannot listen on {address}: ");
        assert!(told.contains(&expected), "{told}");
        assert!(
            told.trim_end()
                .ends_with("; stop the process that uses this port, or set another port")
        );
    }
}
