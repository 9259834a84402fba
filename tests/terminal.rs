//! What others write never steers a terminal, and never makes a line of its own: in the log of
//! `serve` in every format, and in what `check`, `explain` and `token` print.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A new line, a carriage return, a colour, a title of the window, DEL, a control of C1, separators
/// of lines and of paragraphs, and marks that turn the direction of a text.
const STEERS: &str = "a\n2026 FORGED\r\u{1b}[31m\u{1b}]0;t\u{7}\u{7f}\u{9b}31m\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{61c}z";

/// Whether a letter steers whoever shows it.
fn steers(letter: char) -> bool {
    letter != '\n' && STEERS.contains(letter) && !letter.is_ascii_graphic() && letter != ' '
}

/// What was printed holds nothing of that, and no line that somebody else has written.
fn assert_plain(what: &str, printed: &[u8]) {
    let text = String::from_utf8(printed.to_vec()).unwrap();
    assert!(text.contains("FORGED"), "{what} does not show it: {text}");
    assert_harmless(what, &text);
}

fn assert_harmless(what: &str, text: &str) {
    assert!(!text.contains(steers), "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("2026 FORGED")), "{what}: {text}");
}

struct Home(tempfile::TempDir);

impl Home {
    /// With these sections besides those that are needed, and this team's file.
    fn new(more: &str, team: (&OsStr, &str)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let main = format!(
            "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\nteams: {{ \
             directory: teams, default_team: ads, default_environment: prod }}\n{more}"
        );
        fs::write(home.path().join("sconce.yaml"), main).unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        fs::write(home.path().join("teams").join(team.0), team.1).unwrap();
        Self(home)
    }

    fn sconce(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        let main = self.0.path().join("sconce.yaml");
        command.args(words).env("SCONCE_CONFIG", main).stdin(Stdio::null());
        command.env_remove("RUST_LOG");
        command
    }

    /// What it prints on both ways out, once it has ended.
    fn prints(&self, words: &[&str]) -> Vec<u8> {
        let printed = self.sconce(words).output().unwrap();
        [printed.stdout, printed.stderr].concat()
    }
}

const ADS: &str = "team: ads\nenvironments: { prod: { driver: '127.0.0.1:9' } }\n";

/// A provider that says this in its discovery document; its address.
fn provider(discovery: impl Fn(SocketAddr) -> Value + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let _ = socket.read(&mut [0; 4096]);
            let text = discovery(address).to_string();
            let length = text.len();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let _ = write!(socket, "{head}\r\ncontent-length: {length}\r\n\r\n{text}");
        }
    });
    address
}

/// A home whose identity provider writes controls into its document.
fn with_provider(more: &str) -> Home {
    let address = provider(|address| {
        let keys = format!("http://{address}/{STEERS}");
        json!({"issuer": format!("http://{address}"), "jwks_uri": keys})
    });
    let issuer = format!("{{ issuer: 'http://{address}', audiences: [a] }}");
    let more =
        format!("authenticate: {{ allow_insecure_loopback: true, issuers: [{issuer}] }}\n{more}");
    Home::new(&more, (OsStr::new("ads.yaml"), ADS))
}

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it logs until a line with these words is there; meanwhile this is done.
fn logs(home: &Home, words: &str, meanwhile: impl Fn(&str)) -> Vec<u8> {
    let log = home.0.path().join("log");
    let mut command = home.sconce(&["serve"]);
    let _served = Served(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    for _ in 0..1_000 {
        let text = fs::read(&log).unwrap();
        let told = String::from_utf8_lossy(&text);
        if told.contains(words) {
            return text;
        }
        meanwhile(&told);
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not logged: {}", String::from_utf8_lossy(&fs::read(&log).unwrap()));
}

#[test]
fn a_provider_writes_no_line_into_the_log_of_either_format() {
    for format in ["json", "pretty"] {
        let home = with_provider(&format!("log: {{ format: {format} }}\n"));
        let log = logs(&home, "FORGED", |_| ());
        assert_plain(format, &log);
        if format == "json" {
            // It is escaped as JSON has it: who reads the object finds what was written.
            let text = String::from_utf8(log).unwrap();
            let line = text.lines().find(|line| line.contains("FORGED")).unwrap();
            let object: Value = serde_json::from_str(line).unwrap();
            assert!(object["error"].as_str().unwrap().contains(STEERS), "{object}");
        }
    }
}

#[test]
fn a_file_of_any_name_writes_no_line_at_a_start_or_a_reload() {
    for format in ["json", "pretty"] {
        let more = format!("log: {{ format: {format} }}\n");
        let home = Home::new(&more, (OsStr::new("ads.yaml"), ADS));
        let odd = home.0.path().join("teams").join(format!("{STEERS}.yaml"));
        let log = logs(&home, "FORGED", |log| {
            if log.contains("listening") && !odd.exists() {
                fs::write(&odd, "team: A\n").unwrap();
            }
        });
        assert_plain(format, &log);
        // A start that serves no team says it on the terminal, before there is a log.
        fs::remove_file(home.0.path().join("teams/ads.yaml")).unwrap();
        assert_plain("serve", &home.prints(&["serve"]));
    }
}

#[test]
fn a_file_of_any_name_steers_no_terminal_by_check_and_explain() {
    let name = format!("{STEERS}.yaml");
    let bad = Home::new("", (OsStr::from_bytes(name.as_bytes()), "team: A\n"));
    assert_plain("check", &bad.prints(&["check"]));
    assert_plain("explain", &bad.prints(&["explain", "sc://h"]));
    let good = Home::new("", (OsStr::from_bytes(name.as_bytes()), ADS));
    assert_plain("explain", &good.prints(&["explain", "sc://h"]));
}

#[test]
fn a_provider_and_a_call_steer_no_terminal_by_explain() {
    let home = with_provider("");
    assert_plain("explain", &home.prints(&["explain", "sc://h"]));
    let home = Home::new("", (OsStr::new("ads.yaml"), ADS));
    // It could be a token, and is not shown.
    let refused = String::from_utf8(home.prints(&["explain", "--authority", STEERS])).unwrap();
    assert!(refused.contains("an invalid character") && !refused.contains("FORGED"), "{refused}");
    assert_harmless("explain", &refused);
    let path = format!("/a/{STEERS}");
    assert_plain("explain", &home.prints(&["explain", "--method", &path]));
}

#[test]
fn a_key_of_any_name_steers_no_terminal_by_token() {
    let home = Home::new("", (OsStr::new("ads.yaml"), ADS));
    let key: PathBuf = home.0.path().join(STEERS.replace('/', ""));
    let key = key.to_str().unwrap().to_owned();
    assert_plain("token", &home.prints(&["token", "--user", "ann", "--key", &key]));
    fs::write(&key, "no key").unwrap();
    assert_plain("token", &home.prints(&["token", "--user", "ann", "--key", &key]));
}
