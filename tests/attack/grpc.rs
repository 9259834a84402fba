//! gRPC: deadlines, cancellation, half-close in both orders, early responses.

use std::time::{Duration, Instant};

use crate::support::client::SOON;
use crate::support::fields::literal;
use crate::support::frame;
use crate::support::runner::Cases;
use crate::support::script::{answer_block, headers_op, hex};
use crate::support::world::Spec;

const DEADLINE_EXCEEDED: u32 = 4;
const INTERNAL: u32 = 13;
/// "At once", on a machine that is busy.
const AT_ONCE: Duration = Duration::from_millis(1000);

pub fn cases(cases: &mut Cases) {
    cases.suite("grpc");
    deadlines(cases);
    cancellation(cases);
    half_close(cases);
    statuses(cases);
    cut_short(cases);
}

fn deadlines(cases: &mut Cases) {
    for (value, millis) in
        [("300m", 300), ("1S", 1000), ("400000u", 400), ("99000000n", 99), ("00000300m", 300)]
    {
        let unit = value.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        cases.add(format!("a_deadline_of_{unit}_is_kept"), move |world| {
            let mut client = world.client();
            let began = Instant::now();
            let id = client.call(&client.request().with("grpc-timeout", value).script("end;hold"));
            let reply = client.finish(id);
            let took = began.elapsed();
            reply.assert_trailers_only();
            assert_eq!(reply.status(), Some(DEADLINE_EXCEEDED), "{reply:?}");
            assert!(
                took >= Duration::from_millis(millis).saturating_sub(AT_ONCE / 10),
                "too early: {took:?}"
            );
            assert!(took < Duration::from_millis(millis) + AT_ONCE, "too late: {took:?}");
            world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
            client.must_work();
        });
    }
    cases.add("a_deadline_passes_while_an_answer_is_under_way", |world| {
        let mut client = world.client();
        let id =
            client.call(&client.request().with("grpc-timeout", "300m").script("end;h;d10;hold"));
        let reply = client.finish(id);
        reply.assert_no_success();
        assert!(reply.status().is_none_or(|status| status == DEADLINE_EXCEEDED), "{reply:?}");
        world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
        client.must_work();
    });
    cases.add("a_deadline_passes_while_the_request_is_under_way", |world| {
        let mut client = world.client();
        let id = client.start(&client.request().with("grpc-timeout", "300m").script("hold"), false);
        let reply = client.finish(id);
        reply.assert_trailers_only();
        assert_eq!(reply.status(), Some(DEADLINE_EXCEEDED));
        world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
    });
    for value in ["99999999H", "99999999S", "1H", "100M"] {
        cases.add(format!("a_deadline_of_{value}_lets_the_call_be"), move |world| {
            let mut client = world.client();
            let request = client.request().with("grpc-timeout", value).script("end;z300;h;d2;t0");
            let id = client.call(&request);
            assert_eq!(client.finish(id).status(), Some(0));
            let served = world.driver_sees(&client.case, SOON, |_| true);
            let sent = served.headers.iter().find(|(name, _)| name == "grpc-timeout");
            assert!(sent.is_some(), "the driver was not told of the deadline");
        });
    }
    for (what, value) in [
        ("without_a_unit", "100"),
        ("of_nothing", ""),
        ("of_a_unit_alone", "m"),
        ("of_nine_digits", "999999999S"),
        ("below_zero", "-1S"),
        ("with_a_sign", "+1S"),
        ("of_an_unknown_unit", "10x"),
        ("with_a_fraction", "1.5S"),
        ("with_a_blank", "1 S"),
        ("of_words", "soon"),
        ("of_high_octets", "1\u{e9}"),
    ] {
        cases.add(format!("a_deadline_{what}_is_answered_in_the_shape_of_grpc"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().with("grpc-timeout", value));
            let reply = client.finish(id);
            assert!(reply.reset.is_none() && reply.status().is_some(), "{reply:?}");
            assert_ne!(reply.status(), Some(DEADLINE_EXCEEDED), "{reply:?}");
            client.must_work();
        });
    }
    for value in ["0m", "0S", "1n"] {
        cases.add(format!("a_deadline_of_{value}_has_passed"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().with("grpc-timeout", value).script("end;hold"));
            let reply = client.finish_within(id, AT_ONCE);
            assert_eq!(reply.status(), Some(DEADLINE_EXCEEDED), "{reply:?}");
            client.must_work();
        });
    }
}

fn cancellation(cases: &mut Cases) {
    for (what, script) in [
        ("before_an_answer", "end;hold"),
        ("during_an_answer", "end;h;d100;hold"),
        ("of_a_large_answer", "end;h;d100000000;t0"),
    ] {
        cases.add(format!("a_cancellation_{what}_reaches_the_driver"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(script));
            world.driver_sees(&client.case, SOON, |served| served.ended);
            client.pump(|c| c.streams.contains_key(&id), Duration::from_millis(100));
            let cancelled = Instant::now();
            client.send(&frame::rst(id, frame::CANCEL));
            let served = world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
            assert!(!served.cut, "its connection was cut instead");
            assert_eq!(served.reset, Some(frame::CANCEL));
            let took = served.over_at.map(|at| at.duration_since(cancelled));
            assert!(took.is_some_and(|took| took < AT_ONCE), "{took:?}");
            client.must_work();
        });
    }
    cases.add("a_cancelled_upload_reaches_the_driver", |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script("hold"), false);
        client.upload(id, 100_000, false);
        world.driver_sees(&client.case, SOON, |served| served.received > 50_000);
        client.send(&frame::rst(id, frame::CANCEL));
        let served = world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
        assert!(!served.ended, "the driver was told that the upload was whole");
        client.must_work();
    });
    cases.add("a_client_that_vanishes_cancels_all_it_had", |world| {
        let mut client = world.client();
        let request = client.request().script("end;hold");
        for _ in 0..50 {
            client.call(&request);
        }
        let mark = client.case.clone();
        crate::support::probe::eventually("all were opened", SOON, || world.asked(&mark) == 50);
        drop(client);
        world.driver_sees(&mark, AT_ONCE, |served| served.is_dropped());
        let entries = world.driver.lock().unwrap().log.entries(&mark);
        crate::support::probe::eventually("all are dropped", AT_ONCE, || {
            entries.iter().all(|entry| entry.0.lock().unwrap().is_dropped())
        });
    });
    cases.add("a_client_that_closes_in_the_middle_of_a_message_sends_no_end", |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script("end;h;d2;t0"), false);
        client.send(&frame::data(id, false, &frame::message(100)[..50]));
        let mark = client.case.clone();
        world.driver_sees(&mark, SOON, |served| served.received == 50);
        drop(client);
        let served = world.driver_sees(&mark, AT_ONCE, |served| served.is_dropped());
        assert!(!served.ended, "half a request was ended as if it were whole");
    });
    for code in
        [frame::NO_ERROR, frame::CANCEL, frame::INTERNAL_ERROR, frame::REFUSED_STREAM, 0xffff]
    {
        cases.add(
            format!("a_reset_by_the_client_with_code_{code}_frees_the_driver"),
            move |world| {
                let mut client = world.client();
                let id = client.call(&client.request().script("end;hold"));
                world.driver_sees(&client.case, SOON, |served| served.ended);
                client.send(&frame::rst(id, code));
                world.driver_sees(&client.case, AT_ONCE, |served| served.is_dropped());
                client.must_work();
            },
        );
    }
}

fn half_close(cases: &mut Cases) {
    cases.add("a_request_that_ends_with_its_headers_is_served", |world| {
        let mut client = world.client();
        let id = client.start(&client.request(), true);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("an_answer_that_ends_first_ends_the_call", |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script("h;d2;t0"), false);
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        client.must_work();
    });
    cases.add("an_early_refusal_by_the_driver_stops_the_upload", |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script("got1000;o8"), false);
        client.upload(id, 3_000_000, false);
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(8), "{reply:?}");
        client.must_work();
    });
    cases.add("a_conversation_goes_both_ways_at_once", |world| {
        let mut client = world.client();
        let script = "h;got7;d10;got14;d10;got21;d10;end;t0";
        let id = client.start(&client.request().script(script), false);
        for n in 1..=3 {
            client.send(&frame::data(id, false, &frame::message(2)));
            let body = n * 15;
            assert!(
                client.pump(|c| c.streams.get(&id).is_some_and(|r| r.body.len() == body), SOON)
            );
        }
        client.send(&frame::data(id, true, &[]));
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("answers_in_another_order_than_requests_are_not_mixed", |world| {
        let mut client = world.client();
        let scripts = ["end;z300;h;d10;t0", "end;z150;h;d20;t0", "end;h;d30;t0"];
        let ids: Vec<u32> =
            scripts.iter().map(|s| client.call(&client.request().script(s))).collect();
        for (n, id) in ids.iter().enumerate() {
            let reply = client.finish(*id);
            assert_eq!(reply.status(), Some(0));
            assert_eq!(reply.body.len(), 15 + 10 * n);
        }
    });
    cases.add("metadata_of_the_answer_comes_with_its_headers", |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;h;z1500;d2;t0"));
        assert!(client.pump(|c| c.streams.contains_key(&id), AT_ONCE), "HEADERS were held back");
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_message_is_not_held_back", |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;h;d2;z1500;d2;t0"));
        let first = |c: &crate::support::client::Client| {
            c.streams.get(&id).is_some_and(|r| r.body.len() == 7)
        };
        assert!(client.pump(first, AT_ONCE), "a message was held back");
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.own("calls_outlive_a_hundred_connections_that_break", Spec::default(), |world| {
        for n in 0..100 {
            let mut client = world.client();
            let id = client.start(&client.request().script("end;h;d2;t0"), false);
            client.send(&frame::data(id, false, &frame::message(100)[..n]));
        }
        let log = world.driver.lock().unwrap().log.clone();
        log.wait_for_live(0, SOON);
        world.client().must_work();
    });
}

/// What a driver says of success counts if every client reads the same in it.
fn statuses(cases: &mut Cases) {
    for (what, values) in [
        ("0_and_13", &["0", "13"][..]),
        ("13_and_0", &["13", "0"]),
        ("0_twice", &["0", "0"]),
        ("0_of_two_digits", &["00"]),
        ("a_list", &["0, 13"]),
        ("a_number_beyond_32_bits", &["4294967296"]),
    ] {
        let block: Vec<u8> =
            values.iter().flat_map(|value| literal(b"grpc-status", value.as_bytes())).collect();
        let alone = [answer_block(), block.clone()].concat();
        for (place, script) in [
            ("in_trailers", format!("end;h;d10;{}", headers_op(true, &block))),
            ("alone", format!("end;{}", headers_op(true, &alone))),
        ] {
            cases.add(format!("a_status_of_{what}_{place}_is_no_success"), move |world| {
                let mut client = world.client();
                let id = client.call(&client.request().script(&script));
                let reply = client.finish(id);
                reply.assert_no_success();
                let last = reply.heads.last().unwrap();
                let said = last.iter().filter(|(name, _)| name == "grpc-status").count();
                assert_eq!(said, 1, "{reply:?}");
                client.must_work();
            });
        }
    }
    let ok = literal(b"grpc-status", b"0");
    let html = literal(b"content-type", b"text/html");
    let grpc = literal(b"content-type", b"application/grpc");
    for (what, status, kind) in [("no_http_200", &b"503"[..], grpc), ("no_grpc", b"200", html)] {
        let block = [literal(b":status", status), kind, ok.clone()].concat();
        for (how, end) in [("alone", true), ("before_more", false)] {
            let script = format!("end;{};hold", headers_op(end, &block));
            let name = format!("a_status_of_0_{how}_in_what_is_{what}_is_no_success");
            cases.add(name, move |world| {
                let mut client = world.client();
                let id = client.call(&client.request().script(&script));
                client.finish(id).assert_no_success();
            });
        }
    }
    cases.add("a_status_that_grpc_does_not_know_comes_through", |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;h;d10;t99"));
        assert_eq!(client.finish(id).status(), Some(99));
    });
}

/// A message that is not whole is none, whatever its driver says at the end.
fn cut_short(cases: &mut Cases) {
    let half = hex(&frame::message(100)[..55]);
    let (first, second) = half.split_at(4);
    for (what, script) in [
        ("half_a_message", format!("end;h;B{half}")),
        ("half_a_message_after_a_whole_one", format!("end;h;d10;B{half}")),
        ("half_a_message_in_parts", format!("end;h;B{first};B{second}")),
        ("a_prefix_alone", "end;h;B0000000064".to_string()),
        ("half_a_prefix", "end;h;d0;B0000".to_string()),
        ("half_a_message_behind_two_in_one_frame", format!("end;h;B{}{half}", "00".repeat(10))),
    ] {
        let ends = format!("{script};t0");
        cases.add(format!("{what}_does_not_end_with_success"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&ends));
            let reply = client.finish(id);
            reply.assert_no_success();
            assert_eq!(reply.status(), Some(INTERNAL), "{reply:?}");
            client.must_work();
        });
        let fails = format!("{script};t7");
        cases.add(format!("{what}_may_end_with_an_error_of_the_driver"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&fails));
            assert_eq!(client.finish(id).status(), Some(7));
        });
    }
}
