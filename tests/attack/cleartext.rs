//! Clear text on a TLS port, and TLS on a clear-text port: the client gets the reason at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::bridge::How;
use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::literal;
use crate::support::frame::{self, NO_ERROR, PREFACE};
use crate::support::probe::eventually;
use crate::support::runner::Cases;
use crate::support::sconce::Config;
use crate::support::world::{Spec, World};
use crate::tls;

const UNAUTHENTICATED: u32 = 16;
const HINT: &str = "this address requires TLS: add ;use_ssl=true to the sc:// URL";

pub fn cases(cases: &mut Cases) {
    cases.suite("cleartext");
    answered(cases);
    bounded(cases);
    turned_off(cases);
    if std::env::var("ATTACK_TLS").is_err() {
        unexpected(cases);
    }
}

/// A world that speaks TLS, and logs all that it can.
fn verbose() -> Spec {
    let mut spec = tls::with(Vec::new());
    spec.config.debug = true;
    spec
}

/// The same with a handshake timeout of a second.
fn hasty() -> Spec {
    let mut spec = tls::with(Vec::new());
    spec.config.timeouts = vec![("handshake", "1s")];
    spec
}

/// A client that comes without TLS.
fn plain(world: &World) -> Client {
    Client::open_with(world.target, &world.mark(), Manners::default())
}

fn counted(world: &World, label: &str) -> usize {
    world.sconce.as_ref().unwrap().lock().unwrap().refusals(label)
}

fn log(world: &World) -> Vec<String> {
    world.sconce.as_ref().unwrap().lock().unwrap().log()
}

fn is_closed(client: &mut Client, patience: Duration) -> bool {
    client.pump(|c| c.closed, patience)
}

fn answered(cases: &mut Cases) {
    cases.own("a_client_without_tls_is_told_to_use_it", verbose(), |world| {
        let mut client = plain(world);
        let request = client.request().with("authorization", "Bearer s3cr3t");
        for _ in 0..3 {
            let id = client.call(&request);
            let reply = client.finish(id);
            reply.assert_trailers_only();
            assert_eq!((reply.status(), reply.message().as_str()), (Some(UNAUTHENTICATED), HINT));
        }
        assert_eq!(world.asked(&client.case), 0, "it reached the driver");
        assert_eq!(counted(world, "tls.missing"), 1, "once for the connection");
        assert_eq!(counted(world, "tls.failed"), 0);
        let told = || log(world).into_iter().find(|line| line.contains("client without TLS"));
        eventually("a line of the log", SOON, || told().is_some());
        assert!(told().unwrap().contains("\"peer\":\"127.0.0.1:"), "{:?}", told());
        let all = log(world).concat();
        assert!(!all.contains("s3cr3t") && !all.contains("authorization"), "{all}");
    });
    cases.own("its_malformed_requests_and_its_streams_get_the_same_answer", verbose(), |world| {
        let mut client = plain(world);
        let malformed = client.request().with("x-odd", "s3cr3t ");
        let other = client.request().set("content-type", "text/html");
        for request in [client.request(), malformed, other] {
            let id = client.start(&request, false);
            let reply = client.finish(id);
            assert_eq!((reply.status(), reply.message().as_str()), (Some(UNAUTHENTICATED), HINT));
        }
        assert!(client.round_trip(), "the connection goes on");
        let all = log(world).concat();
        assert!(!all.contains("s3cr3t") && !all.contains("x-odd"), "{all}");
    });
    cases.own("a_preface_in_clear_text_may_come_octet_by_octet", verbose(), |world| {
        let mut client = Client::connect(world.target, &world.mark(), Manners::default());
        for octet in [PREFACE, &frame::settings(&[])].concat() {
            client.send(&[octet]);
        }
        let id = client.call(&client.request());
        assert_eq!(client.finish(id).message(), HINT);
    });
    cases.own("other_clear_text_is_a_handshake_that_failed", verbose(), |world| {
        for octets in [&b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"POST / HTTP/1.1\r\n\r\n"] {
            let mut socket = TcpStream::connect(world.target).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket.write_all(octets).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        }
        eventually("two are counted", SOON, || counted(world, "tls.failed") == 2);
        assert_eq!(counted(world, "tls.missing"), 0);
    });
    cases.own("clients_with_tls_are_served_beside_one_without", verbose(), |world| {
        let mut client = plain(world);
        let id = client.call(&client.request());
        client.finish(id);
        let config = tls::paper(world, |paper| paper.client(&How::default()));
        tls::client(world, config).must_work();
    });
}

fn bounded(cases: &mut Cases) {
    cases.own("the_connection_ends_within_the_handshake_timeout", hasty(), |world| {
        let began = Instant::now();
        let mut client = plain(world);
        let id = client.call(&client.request());
        assert_eq!(client.finish(id).message(), HINT);
        assert!(is_closed(&mut client, SOON));
        assert!(began.elapsed() < Duration::from_millis(1_300), "after {:?}", began.elapsed());
        assert_eq!(client.goaway.map(|(_, code)| code), Some(NO_ERROR));
    });
    cases.own("so_does_one_that_is_never_silent_and_never_hangs_up", hasty(), |world| {
        let began = Instant::now();
        let mut client = plain(world);
        while !client.closed && began.elapsed() < SOON {
            client.send(&frame::ping([7; 8]));
            is_closed(&mut client, Duration::from_millis(20));
        }
        assert!(began.elapsed() < Duration::from_millis(1_500), "after {:?}", began.elapsed());
    });
    cases.own("what_it_may_send_and_what_it_gets_is_bounded", verbose(), |world| {
        let mut client = plain(world);
        let block = [client.request().block(), literal(b"x-fat", &[b'f'; 8_000])].concat();
        for _ in 0..200 {
            let id = client.take_id();
            client.send(&frame::headers(id, true, &block));
            client.poll();
        }
        assert!(is_closed(&mut client, SOON), "1.6 MB of requests were taken");
        assert!(client.received < 64 * 1024, "{} octets of answers", client.received);
        assert_eq!(world.asked(&client.case), 0);
    });
}

fn turned_off(cases: &mut Cases) {
    let off = tls::with(vec![("cleartext_hint", "false")]);
    cases.own("without_the_hint_a_client_without_tls_is_closed_and_counted", off, |world| {
        let mut client = Client::connect(world.target, &world.mark(), Manners::default());
        client.greet();
        assert!(is_closed(&mut client, SOON));
        assert_eq!(client.settings_seen, 0, "it was answered");
        assert_eq!(counted(world, "tls.missing"), 1);
        eventually("it is logged", SOON, || {
            log(world).iter().any(|line| line.contains("client without TLS"))
        });
    });
}

fn unexpected(cases: &mut Cases) {
    let clear = || Spec { config: Config { debug: true, ..Config::default() }, ..Spec::default() };
    cases.own("tls_where_clear_text_is_due_gets_an_alert_and_is_logged", clear(), |world| {
        let config = tls::paper(world, |paper| paper.client(&How::default()));
        let began = Instant::now();
        let fault = tls::line(world, config, "localhost").read(&mut [0; 9]).unwrap_err();
        assert_eq!(fault.to_string(), "received fatal alert: HandshakeFailure");
        assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
        assert_eq!(counted(world, "tls.unexpected"), 1);
        eventually("it is logged", SOON, || {
            log(world).iter().any(|line| line.contains("TLS on a clear-text address"))
        });
        world.client().must_work();
    });
    cases.own("an_alert_is_the_first_and_the_only_thing_that_is_said", clear(), |world| {
        let mut socket = TcpStream::connect(world.target).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        // Octet by octet, and none of it a whole record.
        std::thread::sleep(Duration::from_millis(20));
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        let _ = hello.iter().try_for_each(|octet| socket.write_all(&[*octet]));
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard);
        assert_eq!(heard, [21, 3, 3, 0, 2, 2, 40]);
    });
}
