//! TLS: who is let in, what is shown to whom, and what a hostile handshake costs.
//!
//! All other cases run through TLS as well, with `ATTACK_TLS=1`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, StreamOwned};

use crate::support::bridge::{self, How, Paper};
use crate::support::client::{Client, Manners, SOON};
use crate::support::frame::PREFACE;
use crate::support::runner::Cases;
use crate::support::sconce::Config;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("tls");
    versions(cases);
    strangers(cases);
    rudeness(cases);
    deadlines(cases);
    certificates(cases);
    clients(cases);
}

pub fn with(lines: Vec<(&'static str, &'static str)>) -> Spec {
    Spec { config: Config { tls: Some(lines), ..Config::default() }, ..Spec::default() }
}

/// With a handshake that must be done within a second.
fn hasty() -> Spec {
    let mut spec = with(Vec::new());
    spec.config.timeouts = vec![("handshake", "1s")];
    spec
}

pub fn paper<T>(world: &World, work: impl FnOnce(&Paper) -> T) -> T {
    work(&world.sconce.as_ref().unwrap().lock().unwrap().paper)
}

/// A client of HTTP/2 that comes by TLS.
pub fn client(world: &World, config: Arc<ClientConfig>) -> Client {
    let bridge = bridge::start(world.target, config);
    Client::open_with(bridge, &world.mark(), Manners::default())
}

pub type Line = StreamOwned<ClientConnection, TcpStream>;

/// The bare end of a TLS connection, its handshake still to come.
pub fn line(world: &World, config: Arc<ClientConfig>, host: &str) -> Line {
    let socket = TcpStream::connect(world.target).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket)
}

/// Whether the server takes the handshake and says anything of HTTP/2 after it.
pub fn is_let_in(line: &mut Line) -> bool {
    let mut first = [0; 9];
    line.write_all(PREFACE).and_then(|()| line.read_exact(&mut first)).is_ok()
}

fn versions(cases: &mut Cases) {
    for (name, version) in
        [("tls_1_3_is_spoken", &TLS13), ("tls_1_2_is_spoken_unless_config_forbids_it", &TLS12)]
    {
        cases.own(name, with(Vec::new()), move |world| {
            let how = How { versions: &[version], ..How::default() };
            client(world, paper(world, |paper| paper.client(&how))).must_work();
        });
    }
    cases.own(
        "tls_1_2_is_refused_where_config_says_so",
        with(vec![("min_version", "\"1.3\"")]),
        |world| {
            let how = How { versions: &[&TLS12], ..How::default() };
            let mut old = line(world, paper(world, |paper| paper.client(&how)), "localhost");
            assert!(!is_let_in(&mut old));
            client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
        },
    );
}

/// What a browser of old offers.
const HTTP1: &[&[u8]] = &[b"http/1.1"];

fn strangers(cases: &mut Cases) {
    for (name, protocols) in [
        ("a_client_that_offers_only_http1_is_refused", HTTP1),
        ("a_client_that_offers_no_protocol_is_refused", &[]),
    ] {
        cases.own(name, with(Vec::new()), move |world| {
            let how = How { protocols, ..How::default() };
            let mut other = line(world, paper(world, |paper| paper.client(&how)), "localhost");
            assert!(!is_let_in(&mut other));
            assert_counted(world);
        });
    }
    for (name, version) in [("1_2", &TLS12), ("1_3", &TLS13)] {
        let title = format!("a_client_that_offers_only_http1_in_tls_{name}_gets_alert_120");
        cases.own(title, with(Vec::new()), move |world| {
            let how = How { protocols: HTTP1, versions: &[version], ..How::default() };
            let mut other = line(world, paper(world, |paper| paper.client(&how)), "localhost");
            let fault = other.read(&mut [0; 9]).unwrap_err();
            let wanted = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
            assert_eq!(fault.to_string(), wanted.to_string());
        });
    }
    cases.own("who_offers_no_protocol_is_told_that_nothing_follows", with(vec![]), |world| {
        let how = How { protocols: &[], ..How::default() };
        let mut other = line(world, paper(world, |paper| paper.client(&how)), "localhost");
        // An end without close_notify would be a fault.
        assert_eq!(other.read(&mut [0; 9]).unwrap(), 0);
    });
    for (name, octets) in [
        ("http1_where_tls_is_due_is_refused", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            "a_record_longer_than_any_may_be_is_refused",
            [&[22, 3, 1, 0xff, 0xff][..], &[1; 99]].concat(),
        ),
        ("records_of_an_unknown_kind_are_refused", [99, 3, 3, 0, 1, 0].repeat(40)),
        ("records_that_are_empty_are_refused", [22, 3, 3, 0, 0].repeat(4_000)),
        ("application_data_before_the_handshake_is_refused", [23, 3, 3, 0, 1, 0].repeat(40)),
        ("an_alert_in_place_of_a_hello_is_refused", vec![21, 3, 3, 0, 2, 2, 40]),
    ] {
        cases.own(name, with(Vec::new()), move |world| {
            let mut socket = TcpStream::connect(world.target).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let _ = socket.write_all(&octets);
            assert!(is_closed(&mut socket), "still open");
            client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
        });
    }
    cases.own("a_flood_of_key_changes_is_cut_off", with(Vec::new()), |world| {
        let how = How { versions: &[&TLS13], ..How::default() };
        let mut hostile = line(world, paper(world, |paper| paper.client(&how)), "localhost");
        assert!(is_let_in(&mut hostile));
        let cut = (0..200_000).any(|_| {
            let changed = hostile.conn.refresh_traffic_keys();
            changed.is_err() || hostile.flush().is_err()
        });
        assert!(cut, "200,000 changes of keys were taken");
        client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
    });
}

/// What a client sends that has been shown the door, or that never shows what it wants.
fn rudeness(cases: &mut Cases) {
    cases.own("records_that_are_spoilt_after_the_last_word_are_let_go", with(vec![]), |world| {
        let mut rude =
            line(world, paper(world, |paper| paper.client(&How::default())), "localhost");
        assert!(is_let_in(&mut rude));
        // DATA of a stream that is none.
        rude.write_all(&[0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let _ = rude.read_to_end(&mut Vec::new());
        for _ in 0..50 {
            let _ = rude.sock.write_all(&[&[23, 3, 3, 0, 99][..], &[7; 99]].concat());
            std::thread::sleep(Duration::from_millis(5));
        }
        client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
    });
    cases.own("a_hello_in_crumbs_is_cut_off", with(vec![]), |world| {
        let mut socket = TcpStream::connect(world.target).unwrap();
        let crumb = |octet: u8| [22, 3, 1, 0, 1, octet];
        // A hello that would have 65,535 octets.
        let hello = [1, 0, 0xff, 0xff].into_iter().chain([0; 40_000]);
        let crumbs: Vec<u8> = hello.flat_map(crumb).collect();
        let (mut sent, mut cut) = (0, false);
        for some in crumbs.chunks(8 * 1024) {
            cut |= socket.write_all(some).is_err();
            sent += if cut { 0 } else { some.len() };
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(cut && sent < 160 * 1024, "{sent} octets of a hello were taken");
        assert_counted(world);
    });
}

/// A handshake that failed is counted.
fn assert_counted(world: &World) {
    let end = Instant::now() + SOON;
    let counted = || {
        let page = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
        page.contains("reason=\"tls.failed\"") || page.contains("\"tls.failed\"")
    };
    while !counted() {
        assert!(Instant::now() < end, "no metric tells of it");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_closed(socket: &mut TcpStream) -> bool {
    let mut octets = [0; 1024];
    loop {
        match socket.read(&mut octets) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(fault) => return fault.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn deadlines(cases: &mut Cases) {
    cases.own("a_client_that_says_no_hello_is_closed", hasty(), |world| {
        let began = Instant::now();
        let mut socket = TcpStream::connect(world.target).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        assert!(is_closed(&mut socket), "open after {:?}", began.elapsed());
        assert!(began.elapsed() > Duration::from_millis(700));
    });
    cases.own("a_hello_that_dribbles_is_closed", hasty(), |world| {
        let config = paper(world, |paper| paper.client(&How::default()));
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let began = Instant::now();
        let mut socket = TcpStream::connect(world.target).unwrap();
        for octet in hello {
            std::thread::sleep(Duration::from_millis(20));
            if socket.write_all(&[octet]).is_err() || began.elapsed() > SOON {
                break;
            }
        }
        assert!(began.elapsed() < SOON, "a hello may take its time");
    });
    cases.own("a_handshake_without_a_preface_is_closed", hasty(), |world| {
        let mut quiet =
            line(world, paper(world, |paper| paper.client(&How::default())), "localhost");
        let began = Instant::now();
        let mut heard = Vec::new();
        let _ = quiet.read_to_end(&mut heard);
        assert!(began.elapsed() < SOON, "still open");
    });
    cases.own("records_may_come_octet_by_octet", with(Vec::new()), |world| {
        let mut slow =
            line(world, paper(world, |paper| paper.client(&How::default())), "localhost");
        let mut plain = PREFACE.to_vec();
        plain.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        while slow.conn.is_handshaking() {
            slow.conn.complete_io(&mut slow.sock).unwrap();
        }
        slow.conn.writer().write_all(&plain).unwrap();
        let mut sealed = Vec::new();
        slow.conn.write_tls(&mut sealed).unwrap();
        for octet in sealed {
            slow.sock.write_all(&[octet]).unwrap();
        }
        let mut first = [0; 9];
        slow.read_exact(&mut first).unwrap();
        assert_eq!(first[3], 4, "SETTINGS come first");
    });
}

fn certificates(cases: &mut Cases) {
    cases.own("a_new_certificate_is_shown_and_open_connections_go_on", with(vec![]), |world| {
        let mut before = client(world, paper(world, |paper| paper.client(&How::default())));
        before.must_work();
        let new = Paper::new("localhost");
        replace(world, &new);
        await_let_in(world, &new);
        before.must_work();
        let old = paper(world, |paper| paper.client(&How::default()));
        assert!(!is_let_in(&mut line(world, old, "localhost")), "the old one is shown still");
    });
    cases.own("a_spoilt_certificate_leaves_the_last_good_one", with(vec![]), |world| {
        let new = Paper::new("localhost");
        let mut spoilt = Paper::new("localhost");
        spoilt.key.clone_from(&new.key);
        replace(world, &spoilt);
        std::thread::sleep(Duration::from_millis(800));
        client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
        replace(world, &new);
        await_let_in(world, &new);
    });
}

pub fn replace(world: &World, new: &Paper) {
    let sconce = world.sconce.as_ref().unwrap().lock().unwrap();
    std::fs::write(sconce.home.path().join("server.crt"), &new.certificate).unwrap();
    std::fs::write(sconce.home.path().join("server.key"), &new.key).unwrap();
}

/// Waits until those are let in who trust this certificate alone.
pub fn await_let_in(world: &World, new: &Paper) {
    let end = Instant::now() + Duration::from_secs(8);
    while !is_let_in(&mut line(world, new.client(&How::default()), "localhost")) {
        assert!(Instant::now() < end, "the new certificate is not shown");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn clients(cases: &mut Cases) {
    let required =
        || with(vec![("client_authorities", "server.crt"), ("client_certificate", "required")]);
    cases.own("who_must_show_a_certificate_and_has_none_is_refused", required(), |world| {
        let mut bare =
            line(world, paper(world, |paper| paper.client(&How::default())), "localhost");
        assert!(!is_let_in(&mut bare));
        assert_counted(world);
    });
    cases.own("a_certificate_of_a_stranger_is_refused", required(), |world| {
        let stranger = Paper::new("localhost");
        let how = How { shows: Some(&stranger), ..How::default() };
        let mut other = line(world, paper(world, |paper| paper.client(&how)), "localhost");
        assert!(!is_let_in(&mut other));
    });
    let optional = with(vec![("client_authorities", "server.crt")]);
    cases.own("who_may_show_a_certificate_need_not", optional, |world| {
        client(world, paper(world, |paper| paper.client(&How::default()))).must_work();
    });
}
