//! The rig tried on itself: it must be content with a right answer, and with no other.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it as the test may")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

const STUB: &str = env!("CARGO_BIN_EXE_stub_driver");
const RELAY: &str = env!("CARGO_BIN_EXE_relay");
const LOAD: &str = env!("CARGO_BIN_EXE_load");
const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// A server of the rig, ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child =
            Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn load(target: SocketAddr, workload: &str) -> Output {
    let target = target.to_string();
    let arguments = ["--target", &target, "--workload", workload, "--warm", "0.1"];
    let more = ["--measure", "0.1", "--idle", "20"];
    Command::new(LOAD).args(arguments).args(more).output().unwrap()
}

fn counts(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Which way of a connection is tampered with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Relays to `to`, and changes one octet far into one way.
fn tamper(to: SocketAddr, wrong: Way) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(up, server, wrong == Way::Up));
            thread::spawn(move || copy(down, client, wrong == Way::Down));
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream, wrong: bool) {
    const PLACE: usize = 1_000_000;
    let (mut buf, mut passed) = (vec![0; 1 << 16], 0);
    while let Ok(got @ 1..) = from.read(&mut buf) {
        if wrong && (passed..passed + got).contains(&PLACE) {
            buf[PLACE - passed] ^= 1;
        }
        passed += got;
        if to.write_all(&buf[..got]).is_err() {
            break;
        }
    }
    // The other way may be done already.
    to.shutdown(Shutdown::Write).unwrap_or_default();
}

#[test]
fn every_workload_is_content_with_the_stub_driver_behind_the_relay() {
    let stub = Server::start(STUB, &[]);
    let relay = Server::start(RELAY, &["--to", &stub.address.to_string()]);
    for workload in ["W1", "W1b", "W2", "W2x4", "W2b", "W3", "W5", "W6"] {
        let counts = counts(&load(relay.address, workload));
        assert!(counts["calls"].as_u64().unwrap() > 0, "{workload}: {counts}");
    }
}

#[test]
fn idle_connections_have_made_one_call_each() {
    let stub = Server::start(STUB, &[]);
    assert_eq!(counts(&load(stub.address, "W4"))["calls"], 20);
}

#[test]
fn the_open_loop_makes_the_calls_that_are_due() {
    let stub = Server::start(STUB, &[]);
    assert_eq!(counts(&load(stub.address, "W6"))["calls"], 50);
}

#[test]
fn an_octet_changed_in_an_answer_fails_the_run() {
    let stub = Server::start(STUB, &[]);
    let output = load(tamper(stub.address, Way::Down), "W2");
    assert!(complaint(&output).contains("wrong content in message 0"));
}

#[test]
fn an_octet_changed_in_a_request_fails_the_run() {
    let stub = Server::start(STUB, &[]);
    let output = load(tamper(stub.address, Way::Up), "W3");
    assert!(complaint(&output).contains("grpc-status 3, wrong content in message"));
}

#[test]
fn a_server_that_speaks_no_http2_fails_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            client.unwrap().write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        }
    });
    assert!(!load(address, "W1").status.success());
}

/// The client of the soak, with one connection and one cluster; it does only as it is told.
struct Soak {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Soak {
    fn start(target: SocketAddr) -> Self {
        let target = target.to_string();
        let arguments = ["--target", &target, "--cluster", "ads/prod", "--connections", "1"];
        let mut command = Command::new(SOAK);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        Self { child, told }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "1 {order}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_soak_is_content_with_answers_of_the_driver_that_was_named() {
    let stub = Server::start(STUB, &["--name", "mine"]);
    let mut soak = Soak::start(stub.address);
    for order in ["allow ads/prod driver=mine", "open", "fill 3 0 ads/prod"] {
        soak.order(order);
        assert_eq!(soak.line().trim(), "done 1");
    }
    soak.order("count");
    assert_eq!(soak.line().trim(), r#"done 1 {"answered":3,"failed":{},"wrong":0}"#);
}

#[test]
fn the_soak_notices_an_answer_of_another_driver() {
    let stub = Server::start(STUB, &["--name", "yours"]);
    let mut soak = Soak::start(stub.address);
    for order in ["allow ads/prod driver=mine", "open", "fill 1 0 ads/prod"] {
        soak.order(order);
    }
    let told = [soak.line(), soak.line(), soak.line()].concat();
    assert!(told.contains("driver=yours; expected driver=mine"), "{told}");
}

#[test]
fn the_soak_notices_that_its_connection_is_lost() {
    let stub = Server::start(STUB, &["--name", "mine"]);
    let mut soak = Soak::start(stub.address);
    soak.order("open");
    assert_eq!(soak.line().trim(), "done 1");
    drop(stub);
    assert!(soak.line().starts_with(r#"wrong {"claim":"connections""#));
}

#[test]
fn a_stub_driver_that_is_asked_to_leave_answers_its_calls_first() {
    let mut stub = Server::start(STUB, &["--name", "mine"]);
    let mut soak = Soak::start(stub.address);
    for order in ["allow ads/prod driver=mine", "open"] {
        soak.order(order);
        assert_eq!(soak.line().trim(), "done 1");
    }
    soak.order("farewell 500 ads/prod");
    thread::sleep(Duration::from_millis(200));
    let pid = stub.child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(soak.line().trim(), "done 1");
    assert!(stub.child.wait().unwrap().success());
}
