//! Connection limits: many connections at once, from one source address or without authentication.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bridge::How;
use crate::support::client::SOON;
use crate::support::frame::{self, PREFACE};
use crate::support::probe::eventually;
use crate::support::runner::{Cases, note};
use crate::support::sconce::Config;
use crate::support::world::{Spec, World};
use crate::tls;

/// A host that is not the canary's.
pub const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

pub fn cases(cases: &mut Cases) {
    cases.suite("connection_limits");
    accepting(cases);
    sources(cases);
    strangers(cases);
    handshakes(cases);
    log_lines(cases);
}

/// A connection from some address of this host; `None` if the accept queue is full.
pub fn connect(at: SocketAddr, from: [u8; 4]) -> Option<TcpStream> {
    let domain = socket2::Domain::for_address(at);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::from(from), 0).into()).unwrap();
    socket.connect_timeout(&at.into(), Duration::from_millis(500)).ok()?;
    Some(socket.into())
}

fn greet(at: SocketAddr, from: [u8; 4]) -> TcpStream {
    let mut socket = connect(at, from).unwrap();
    let _ = socket.write_all(&[PREFACE, &frame::settings(&[])].concat());
    socket
}

/// Whether the server has greeted on this connection, and not closed it at once.
fn is_greeted(mut socket: &TcpStream) -> bool {
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.read_exact(&mut [0; 9]).is_ok()
}

/// Whether the connection ends within this time.
fn ends_within(mut socket: &TcpStream, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        match socket.read(&mut [0; 4096]) {
            Ok(1..) => {}
            Ok(0) => return true,
            Err(fault) => return fault.kind() == std::io::ErrorKind::ConnectionReset,
        }
        if left.is_zero() {
            return false;
        }
    }
}

fn refused(world: &World, label: &str) -> usize {
    let page = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
    let start = format!("sconce_refusals_total{{label=\"{label}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |count| count.parse().unwrap())
}

/// A process that stands still until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(process: u32) -> Self {
        Self::signal(process, "-STOP");
        eventually("all threads have stopped", SOON, || {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
            let mut states = tasks.map(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit(')').next().unwrap().trim_start().chars().next()
            });
            states.all(|state| state == Some('T'))
        });
        Self(process)
    }

    fn signal(process: u32, name: &str) {
        assert!(
            Command::new("kill").args([name, &process.to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        Self::signal(self.0, "-CONT");
    }
}

/// A case about sconce itself, where it can be seen whence a client comes: a bridge hides that.
fn own(cases: &mut Cases, name: &str, spec: Spec, run: impl Fn(&World) + Send + Sync + 'static) {
    cases.own(name, spec, move |world| {
        if world.is_sconce() && std::env::var("ATTACK_TLS").is_err() {
            run(world);
        }
    });
}

fn accepting(cases: &mut Cases) {
    own(
        cases,
        "a_thousand_clients_at_once_find_room_in_the_accept_queue",
        Spec::default(),
        |world| {
            let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
            let many = 1000.min(allowed.trim().parse::<usize>().unwrap());
            let stopped = Stopped::new(world.process().unwrap().id);
            let crowd: Vec<_> = (0..many).map_while(|_| connect(world.target, ELSEWHERE)).collect();
            drop(stopped);
            assert_eq!(crowd.len(), many, "the others wait for a SYN retransmission");
            let greeted = crowd.iter().filter(|socket| is_greeted(socket)).count();
            assert_eq!(greeted, many);
            world.client().must_work();
        },
    );
    let spec = listen(&[("backlog", "16")]);
    own(cases, "the_accept_queue_is_no_longer_than_it_is_configured", spec, |world| {
        let stopped = Stopped::new(world.process().unwrap().id);
        let crowd: Vec<_> = (0..100).map_while(|_| connect(world.target, ELSEWHERE)).collect();
        drop(stopped);
        assert!(crowd.len() < 30, "{}", crowd.len());
    });
}

fn listen(lines: &[(&'static str, &'static str)]) -> Spec {
    let config = Config { listen: lines.to_vec(), ..Config::default() };
    Spec { config, ..Spec::default() }
}

fn sources(cases: &mut Cases) {
    let spec = listen(&[("connections", "40"), ("connections_per_source", "10")]);
    own(cases, "one_source_gets_its_share_of_connections_and_others_have_theirs", spec, |world| {
        let crowd: Vec<_> = (0..30).map(|_| greet(world.target, ELSEWHERE)).collect();
        let greeted = crowd.iter().filter(|socket| is_greeted(socket)).count();
        assert_eq!(greeted, 10);
        assert_eq!(refused(world, "connections.source"), 20);
        world.client().must_work();
        drop(crowd);
        std::thread::sleep(Duration::from_millis(200));
        assert!(is_greeted(&greet(world.target, ELSEWHERE)), "its places are free again");
    });
    let spec = listen(&[
        ("connections", "40"),
        ("connections_per_source", "10"),
        ("connections_per_source_exempt", "[127.0.0.2/31]"),
    ]);
    own(cases, "a_source_that_is_exempt_has_no_share_of_its_own", spec, |world| {
        let crowd: Vec<_> = (0..30).map(|_| greet(world.target, ELSEWHERE)).collect();
        assert!(crowd.iter().all(is_greeted));
        world.client().must_work();
    });
}

fn strangers(cases: &mut Cases) {
    let config = Config { timeouts: vec![("unauthenticated", "1s")], ..Config::default() };
    let spec = Spec { config, ..Spec::default() };
    own(cases, "who_makes_no_call_that_is_admitted_is_sent_away_soon", spec, |world| {
        let mut known = world.client();
        known.must_work();
        let (mut silent, mut refused_often) = (world.client(), world.client());
        let wrong = refused_often.request().team("nobody");
        let began = Instant::now();
        while refused_often.goaway.is_none() && began.elapsed() < SOON {
            let id = refused_often.call(&wrong);
            assert_ne!(refused_often.finish(id).status(), Some(0));
            refused_often.pump(|c| c.goaway.is_some(), Duration::from_millis(100));
        }
        assert_eq!(refused_often.goaway.map(|(_, code)| code), Some(frame::NO_ERROR));
        assert!(silent.pump(|c| c.goaway.is_some(), SOON));
        assert!(refused(world, "client.unauthenticated") >= 2);
        known.must_work();
        assert_eq!(known.goaway, None);
    });
    let spec = listen(&[("connections", "20"), ("connections_per_source", "20")]);
    own(cases, "a_full_house_makes_room_for_a_client_among_strangers", spec, |world| {
        let mut known = world.client();
        known.must_work();
        // The canary must have made a call of its own.
        std::thread::sleep(Duration::from_millis(300));
        let crowd: Vec<_> = (0..18).map(|_| greet(world.target, ELSEWHERE)).collect();
        assert!(crowd.iter().all(is_greeted));
        for _ in 0..40 {
            world.client().must_work();
        }
        assert!(ends_within(&crowd[0], SOON), "the oldest stranger is still there");
        known.must_work();
        assert!(refused(world, "connections.evicted") > 0);
    });
    let spec = listen(&[("connections", "12"), ("connections_per_source", "12")]);
    own(cases, "a_house_full_of_clients_takes_no_more", spec, |world| {
        std::thread::sleep(Duration::from_millis(300));
        let mut clients: Vec<_> = (0..11).map(|_| world.client()).collect();
        clients.iter_mut().for_each(|client| client.must_work());
        assert!(!is_greeted(&greet(world.target, ELSEWHERE)));
        assert_eq!(refused(world, "connections.full"), 1);
        clients.iter_mut().for_each(|client| client.must_work());
    });
}

/// What begins a handshake of TLS: the header of a record of 500 octets.
const RECORD: [u8; 5] = [0x16, 0x03, 0x01, 0x01, 0xf4];

fn handshakes(cases: &mut Cases) {
    let config = Config {
        listen: vec![("connections", "300"), ("connections_per_source", "300")],
        tls: Some(Vec::new()),
        timeouts: vec![("handshake", "60s")],
        ..Config::default()
    };
    let spec = Spec { config, ..Spec::default() };
    own(cases, "half_open_handshakes_neither_hold_places_nor_delay_others", spec, |world| {
        let crowd: Vec<_> = (0..400)
            .map(|_| {
                let mut socket = connect(world.target, ELSEWHERE).unwrap();
                let _ = socket.write_all(&RECORD);
                socket
            })
            .collect();
        let began = Instant::now();
        for _ in 0..5 {
            let config = tls::paper(world, |paper| paper.client(&How::default()));
            tls::client(world, config).must_work();
        }
        note(format!("5 clients beside 400 half-open handshakes took {:?}", began.elapsed()));
        assert!(began.elapsed() < SOON);
        assert!(ends_within(&crowd[0], SOON), "the oldest one still holds its place");
    });
}

fn log_lines(cases: &mut Cases) {
    let what = "a_crowd_that_speaks_no_tls_costs_a_log_line_for_each_source_and_a_count";
    own(cases, what, tls::with(Vec::new()), |world| {
        for n in 0..300 {
            let mut socket = connect(world.target, [127, 0, 0, 2 + u8::from(n % 3 == 0)]).unwrap();
            let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n");
            assert!(ends_within(&socket, SOON));
        }
        let log = || world.sconce.as_ref().unwrap().lock().unwrap().log();
        let lines = || log().iter().filter(|line| line.contains("\"TLS failed\",\"peer")).count();
        assert!((2..=6).contains(&lines()), "{}", lines());
        let counted = || -> usize {
            let log = log();
            let counts = log.iter().filter_map(|line| line.split_once("\"suppressed\":"));
            let digits = counts.map(|(_, rest)| rest.split(',').next().unwrap_or_default());
            digits.filter_map(|digits| digits.parse::<usize>().ok()).sum()
        };
        let until = Instant::now() + Duration::from_secs(25);
        while lines() + counted() < 300 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(lines() + counted(), 300, "{:?}", log());
    });
}
