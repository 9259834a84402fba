//! Requests whose head breaks a rule: the client gets the field and the rule, the operator a metric
//! and a log line, and the driver nothing.

use std::time::Duration;

use crate::support::client::{Client, SOON};
use crate::support::fields::{Request, literal};
use crate::support::frame::{self, PROTOCOL_ERROR};
use crate::support::probe::eventually;
use crate::support::runner::Cases;
use crate::support::sconce::Config;
use crate::support::world::{Spec, World};

const INVALID_ARGUMENT: u32 = 3;
const UNAUTHENTICATED: u32 = 16;

pub fn cases(cases: &mut Cases) {
    cases.suite("rejected_requests");
    told(cases);
    logged(cases);
    streams(cases);
}

fn verbose() -> Spec {
    Spec { config: Config { debug: true, ..Config::default() }, ..Spec::default() }
}

/// Sends a request, whole or with a body to come, and waits for both the answer and the reset.
fn rejected(client: &mut Client, request: &Request, end: bool) -> crate::support::reply::Reply {
    let id = client.start(request, end);
    if !end {
        client.send(&frame::data(id, true, &frame::message(2)));
    }
    let is_reset = |c: &Client| c.streams.get(&id).is_some_and(|reply| reply.reset.is_some());
    assert!(client.pump(is_reset, SOON), "no reset: {:?}", client.streams.get(&id));
    let mut reply = client.streams[&id].clone();
    assert_eq!(reply.reset.take(), Some(PROTOCOL_ERROR), "{reply:?}");
    reply.assert_trailers_only();
    reply
}

fn refusals(world: &World, label: &str) -> usize {
    let sconce = world.sconce.as_ref().unwrap().lock().unwrap();
    sconce.refusals(&format!("malformed.{label}"))
}

type Bend = fn(Request) -> Request;

fn told(cases: &mut Cases) {
    let table: [(&str, &str, &str, Bend); 19] = [
        ("space", "a_team_that_ends_with_a_space", "x-sconce-team ends with a space", |r| {
            r.set("x-sconce-team", "ads ")
        }),
        ("space", "a_value_that_begins_with_a_tab", "x-odd begins with a tab", |r| {
            r.with("x-odd", "\ta")
        }),
        ("space", "a_content_type_with_a_space", "content-type ends with a space", |r| {
            r.set("content-type", "application/grpc ")
        }),
        ("octet", "a_value_with_a_nul", "x-odd contains NUL", |r| r.with("x-odd", "a\0b")),
        ("name", "a_name_in_upper_case", "'X-Odd' has an upper-case letter", |r| {
            r.with("X-Odd", "a")
        }),
        ("name", "a_name_with_a_line_break", "'x\\r\\nodd' has an invalid", |r| {
            r.with("x\r\nodd", "a")
        }),
        ("connection", "a_connection_field", "connection is a connection field", |r| {
            r.with("connection", "close")
        }),
        ("te", "te_in_upper_case", "te must be 'trailers'", |r| r.set("te", "Trailers")),
        ("content_length", "a_length_with_a_sign", "content-length is not one", |r| {
            r.with("content-length", "+7")
        }),
        ("pseudo", "an_unknown_pseudo_header", ":odd is undefined", |r| r.first(":odd", "1")),
        ("pseudo_order", "a_path_twice", ":path is repeated", |r| r.first(":path", "/")),
        ("pseudo_empty", "an_empty_path", ":path is empty", |r| r.set(":path", "")),
        ("pseudo_missing", "a_missing_path", ":path is missing", |r| r.without(":path")),
        ("pseudo_missing", "a_missing_method", ":method is missing", |r| r.without(":method")),
        ("connect", "a_tunnel", ":method is CONNECT", |r| {
            r.set(":method", "CONNECT").without(":scheme").without(":path")
        }),
        ("authority", "a_path_in_the_authority", ":authority is not a host", |r| {
            r.set(":authority", "a/b")
        }),
        ("authority_missing", "no_authority", ":authority and host are missing", |r| {
            r.without(":authority")
        }),
        ("host", "a_host_that_differs", "host differs from :authority", |r| {
            r.with("host", "other.example.com")
        }),
        ("scheme", "a_scheme_that_is_none", ":scheme is not", |r| r.set(":scheme", "4ttp")),
    ];
    for (rule, name, message, bend) in table {
        let title = format!("{name}_is_told_to_the_client_and_counted");
        cases.own(title, Spec::default(), move |world| {
            let mut client = world.client();
            let request = bend(client.request());
            for end in [true, false] {
                let reply = rejected(&mut client, &request, end);
                assert_eq!(reply.status(), Some(INVALID_ARGUMENT), "{reply:?}");
                assert!(reply.message().contains(message), "{reply:?}");
                assert!(reply.last("grpc-status-details-bin").is_some(), "{reply:?}");
            }
            assert_eq!(refusals(world, rule), 2);
            assert_eq!(world.asked(&client.case), 0, "it reached the driver");
            client.case = world.mark();
            client.must_work();
        });
    }
    cases.own("a_token_that_ends_with_a_space_is_unauthenticated", verbose(), |world| {
        let mut client = world.client();
        let request = client.request().with("authorization", "Bearer s3cr3t ");
        let reply = rejected(&mut client, &request, false);
        assert_eq!(reply.status(), Some(UNAUTHENTICATED), "{reply:?}");
        assert_eq!(reply.message(), "the token ends with a space: remove it");
        let line = awaited(world, "\"field\":\"authorization\"");
        assert!(!line.contains("s3cr3t"), "{line}");
    });
    cases.own("a_length_of_a_body_that_does_not_come_is_told", Spec::default(), |world| {
        let mut client = world.client();
        let request = client.request().with("content-length", "7");
        let reply = rejected(&mut client, &request, true);
        assert_eq!(reply.status(), Some(INVALID_ARGUMENT), "{reply:?}");
        assert_eq!(refusals(world, "body_length"), 1);
    });
    cases.own("a_name_of_many_octets_is_cut_in_what_is_told", Spec::default(), |world| {
        let mut client = world.client();
        let request = client.request().with("X".repeat(9_000), "a");
        let reply = rejected(&mut client, &request, true);
        assert!(reply.message().len() < 200, "{reply:?}");
    });
}

/// The line of the log that has these words.
fn awaited(world: &World, words: &str) -> String {
    let found = || {
        let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
        log.into_iter().find(|line| line.contains(words))
    };
    eventually(words, SOON, || found().is_some());
    found().unwrap()
}

fn logged(cases: &mut Cases) {
    cases.own("a_rejected_head_is_logged_with_peer_and_rule_and_no_value", verbose(), |world| {
        let mut client = world.client();
        let request = client.request().with("x-odd", "s3cr3t ");
        rejected(&mut client, &request, true);
        let line = awaited(world, "\"rule\":\"malformed.space\"");
        assert!(line.contains("\"level\":\"DEBUG\"") && line.contains("\"peer\":\"127.0.0.1:"));
        assert!(line.contains("\"field\":\"x-odd\"") && !line.contains("s3cr3t"), "{line}");
    });
    cases.own("a_request_that_is_not_grpc_is_logged_as_well", verbose(), |world| {
        let mut client = world.client();
        let request = client.request().set("content-type", "text/html");
        let id = client.call(&request);
        client.finish(id);
        awaited(world, "\"rule\":\"request.not_grpc\"");
    });
    cases.own(
        "a_stream_that_is_reset_for_its_trailers_is_counted_and_logged",
        verbose(),
        |world| {
            let mut client = world.client();
            let id = client.start(&client.request().script("hold"), false);
            client.send(&frame::headers(id, true, &literal(b"x-tail", b"a ")));
            let reply = client.finish(id);
            assert_eq!(reply.reset, Some(PROTOCOL_ERROR), "{reply:?}");
            awaited(world, "\"rule\":\"malformed.stream\"");
            assert_eq!(refusals(world, "stream"), 1);
        },
    );
}

fn streams(cases: &mut Cases) {
    cases.own("the_reset_waits_for_the_end_of_the_request_for_a_while", Spec::default(), |world| {
        let mut client = world.client();
        let request = client.request().with("x-odd", "a ");
        for ends in [true, false] {
            let id = client.start(&request, false);
            let reply = client.finish(id);
            assert_eq!(reply.status(), Some(INVALID_ARGUMENT), "{reply:?}");
            assert!(client.round_trip());
            assert_eq!(client.streams[&id].reset, None, "clients of gRPC lose the answer by it");
            if ends {
                client.send(&frame::data(id, true, b""));
                assert!(client.round_trip());
                assert_eq!(client.streams[&id].reset, Some(PROTOCOL_ERROR));
            }
            let is_reset = |c: &Client| c.streams[&id].reset == Some(PROTOCOL_ERROR);
            assert!(client.pump(is_reset, Duration::from_secs(2)), "no reset");
        }
        client.case = world.mark();
        client.must_work();
    });
    cases.own("what_follows_a_rejected_head_is_ignored", Spec::default(), |world| {
        let mut client = world.client();
        let request = client.request().with("x-odd", " a");
        let id = client.start(&request, false);
        for at in 0..50 {
            client.send(&frame::data(id, at == 49, &[0; 1_000]));
        }
        assert!(client.round_trip(), "goaway {:?}", client.goaway);
        assert_eq!(world.asked(&client.case), 0, "it reached the driver");
        client.must_work();
    });
    cases.own(
        "answers_of_rejected_heads_that_nobody_reads_are_bounded",
        Spec::default(),
        |world| {
            let mut client = world.client();
            let block = client.request().with("x-odd", " a").block();
            let all: Vec<u8> =
                (0..5_000).flat_map(|_| frame::headers(client.take_id(), true, &block)).collect();
            client.send(&all);
            client.pump(|c| c.closed, Duration::from_secs(8));
            let code = client.goaway.map(|(_, code)| code);
            assert_eq!(code, Some(frame::ENHANCE_YOUR_CALM));
            assert!(client.received < 200_000, "{} octets of answers", client.received);
            world.client().must_work();
        },
    );
}
