//! The rig tried on itself: it must be content with a right answer, and with no other.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it as the test may")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use sconce_benches::call::{Ask, Call};
use sconce_benches::caller::Caller;
use sconce_benches::envelope::{Method, Stamp};
use sconce_benches::fault::Fault;
use sconce_benches::line::Line;
use sconce_benches::message::Messages;
use sconce_benches::target::SERVER_NAME;
use sconce_benches::workload::{Parallel, Scale, Workload};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const STUB: &str = env!("CARGO_BIN_EXE_stub_driver");
const RELAY: &str = env!("CARGO_BIN_EXE_relay");
const FLOOD: &str = env!("CARGO_BIN_EXE_flood");
const DELAY: &str = env!("CARGO_BIN_EXE_delay");
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
    load_with(target, workload, &[])
}

fn load_with(target: SocketAddr, workload: &str, more: &[&str]) -> Output {
    let target = target.to_string();
    let arguments = ["--target", &target, "--workload", workload, "--warm", "0.1"];
    let scale = ["--measure", "0.1", "--idle", "20"];
    Command::new(LOAD).args(arguments).args(scale).args(more).output().unwrap()
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
    serve(to, Some(wrong), None)
}

/// A server's certificate that has signed itself, and the file that says so to the load.
struct Paper {
    acceptor: TlsAcceptor,
    file: NamedTempFile,
}

impl Paper {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(made.cert.pem().as_bytes()).unwrap();
        Self { acceptor: Arc::new(config).into(), file }
    }

    fn load(&self, target: SocketAddr, workload: &str) -> Output {
        let authority = self.file.path().to_str().unwrap();
        load_with(target, workload, &["--authority", authority])
    }
}

/// Relays to `to`, by TLS if told so, and changes one octet in one way if told so.
fn serve(to: SocketAddr, wrong: Option<Way>, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let listener = net::TcpListener::from_std(listener).unwrap();
            let mut relays = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                relays.spawn(relay(client, to, wrong, tls.clone()));
            }
        });
    });
    address
}

async fn relay(
    client: net::TcpStream,
    to: SocketAddr,
    wrong: Option<Way>,
    tls: Option<TlsAcceptor>,
) {
    let driver = net::TcpStream::connect(to).await.unwrap();
    match tls {
        None => pass(client, driver, wrong).await,
        Some(tls) => {
            // A client that breaks off the handshake says why.
            if let Ok(client) = tls.accept(client).await {
                pass(client, driver, wrong).await;
            }
        }
    }
}

async fn pass<C: AsyncRead + AsyncWrite>(client: C, driver: net::TcpStream, wrong: Option<Way>) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_driver, to_driver) = driver.into_split();
    tokio::join!(
        copy(from_client, to_driver, wrong == Some(Way::Up)),
        copy(from_driver, to_client, wrong == Some(Way::Down)),
    );
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wrong: bool) {
    const PLACE: usize = 1_000_000;
    let (mut buf, mut passed) = (vec![0; 1 << 16], 0);
    while let Ok(got @ 1..) = from.read(&mut buf).await {
        if wrong && (passed..passed + got).contains(&PLACE) {
            buf[PLACE - passed] ^= 1;
        }
        passed += got;
        if to.write_all(&buf[..got]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    // The other way may be done already.
    to.shutdown().await.unwrap_or_default();
}

/// Makes one call straight to a driver that wants the stamp of Ann, with messages that have this
/// one.
fn call_stamped(stamp: Option<&Stamp>) -> Result<(), Fault> {
    let driver = Server::start(STUB, &["--stamp", "ann,Ann"]);
    let target = driver.address.into();
    let scale = Scale { idle: 0, measure: Duration::ZERO, parallel: Parallel::default() };
    let ask = Ask {
        upload: Messages::requests(Method::AddArtifacts, 1 << 15, stamp),
        upload_count: 3,
        ..Workload::Upload.ask(scale)
    };
    let call = Call::new(&target, &Caller::naming("ads", "prod"), ask)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let line = Line::open(&target).await?;
        call.make(line.sender()).await.map(drop)
    })
}

#[test]
fn every_workload_is_content_with_the_stub_driver_behind_the_relay() {
    let stub = Server::start(STUB, &[]);
    let relay = Server::start(RELAY, &["--to", &stub.address.to_string()]);
    for workload in ["W1", "W1t", "W1b", "W2", "W2x4", "W2b", "W3", "W3m", "W5", "W6", "probe"] {
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
fn the_delay_relay_makes_every_call_a_round_trip_longer_and_harms_no_octet() {
    let stub = Server::start(STUB, &["--grow"]);
    let to = stub.address.to_string();
    let delay = Server::start(DELAY, &["--to", &to, "--rtt-ms", "40"]);
    let upload = ["--streams", "4", "--times", "2", "--upload", "3000000"];
    let counts = counts(&load_with(delay.address, "W9", &upload));
    assert_eq!(counts["calls"], 8);
    for time in counts["times"].as_array().unwrap() {
        assert!(time["first"].as_f64().unwrap() > 0.04, "{counts}");
    }
}

/// Takes two connections: answers on the first and ends it, and tells of the second.
fn cut_off_once() -> (SocketAddr, mpsc::Receiver<()>) {
    // SETTINGS; and HEADERS of stream 1 with `:status 200`, which end it.
    const ANSWER: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(ANSWER).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // It ends as it likes.
        std::io::copy(&mut client, &mut std::io::sink()).unwrap_or_default();
        let _second = listener.accept().unwrap();
        tell.send(()).unwrap();
    });
    (address, told)
}

#[test]
fn a_flood_comes_back_when_it_is_cut_off_and_tells_what_was_answered() {
    let (target, back) = cut_off_once();
    let mut token = NamedTempFile::new().unwrap();
    token.write_all(b"no.token.at-all").unwrap();
    let mut flood = Command::new(FLOOD);
    flood.args(["--target", &target.to_string()]).arg("--token").arg(token.path());
    let mut flood = flood.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    back.recv().unwrap();
    drop(flood.stdin.take());
    let told = String::from_utf8(flood.wait_with_output().unwrap().stdout).unwrap();
    let counts: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(counts["answers"], 1, "{counts}");
    assert!(counts["connections"].as_u64().unwrap() >= 2, "{counts}");
}

#[test]
fn peers_that_read_as_h2_does_by_itself_are_content_too() {
    let stub = Server::start(STUB, &["--plain", "--window", "4194304"]);
    for workload in ["W1", "W2", "W3m"] {
        let counts = counts(&load_with(stub.address, workload, &["--plain"]));
        assert!(counts["calls"].as_u64().unwrap() > 0, "{workload}: {counts}");
    }
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
fn the_load_is_content_over_tls() {
    let (stub, paper) = (Server::start(STUB, &[]), Paper::new());
    let address = serve(stub.address, None, Some(paper.acceptor.clone()));
    for workload in ["W1", "W2", "W3", "W4", "W5"] {
        let counts = counts(&paper.load(address, workload));
        assert!(counts["calls"].as_u64().unwrap() > 0, "{workload}: {counts}");
    }
}

#[test]
fn an_octet_changed_in_either_way_over_tls_fails_the_run() {
    let (stub, paper) = (Server::start(STUB, &[]), Paper::new());
    for (way, workload, told) in [
        (Way::Down, "W2", "wrong content in message 0"),
        (Way::Up, "W3", "grpc-status 3, wrong content in message"),
    ] {
        let address = serve(stub.address, Some(way), Some(paper.acceptor.clone()));
        let complaint = complaint(&paper.load(address, workload));
        assert!(complaint.contains(told), "{complaint}");
    }
}

#[test]
fn a_server_whom_nobody_vouches_for_fails_the_run() {
    let (stub, paper, other) = (Server::start(STUB, &[]), Paper::new(), Paper::new());
    let address = serve(stub.address, None, Some(other.acceptor));
    assert!(complaint(&paper.load(address, "W1")).contains("TLS: invalid peer certificate"));
}

#[test]
fn a_message_without_its_stamp_fails_the_run() {
    let stub = Server::start(STUB, &["--stamp", "ann,Ann"]);
    let complaint = complaint(&load(stub.address, "W1"));
    assert!(complaint.contains("grpc-status 3, wrong content in message 0"), "{complaint}");
}

#[test]
fn a_driver_takes_messages_with_the_right_stamp_and_with_no_other() {
    let right = Stamp::of("ann", "Ann");
    let octets = 3 * right.octets().len() as u64;
    // Stamps are not of the client's making, and are not told with what came of it.
    let ended = call_stamped(Some(&right));
    let is_taken = matches!(ended, Err(Fault::Count { wanted, got, .. }) if wanted - got == octets);
    assert!(is_taken, "{ended:?}");
    for wrong in [None, Some(&Stamp::of("bob", "Bob")), Some(&Stamp::of("ann", "Anm"))] {
        let ended = call_stamped(wrong);
        assert!(matches!(ended, Err(Fault::Refused { code: 3, .. })), "{wrong:?}: {ended:?}");
    }
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
