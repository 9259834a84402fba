//! Drivers that break the protocol: the client gets a gRPC status at once, and no other call
//! suffers.

use std::time::{Duration, Instant};

use crate::support::client::SOON;
use crate::support::driver::{self, Greeting};
use crate::support::fields::{indexed, literal, table_size};
use crate::support::frame::{self, frame as raw};
use crate::support::probe::eventually;
use crate::support::runner::{Cases, quick};
use crate::support::script::{answer_block, headers_op, hex};
use crate::support::world::{CLUSTER, Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("driver_violations");
    greetings(cases);
    before_headers(cases);
    after_headers(cases);
    tolerated(cases);
}

/// One call to the driver of `ads`, and its failure, which names the cluster and no address.
fn assert_fails_promptly(world: &World, patience: Duration) {
    let mut client = world.client();
    let began = Instant::now();
    let id = client.call(&client.request());
    let reply = client.finish_within(id, patience + SOON);
    let address = world.driver.lock().unwrap().address.to_string();
    reply.assert_driver_failure(CLUSTER, &address);
    assert!(began.elapsed() < patience, "only after {:?}", began.elapsed());
    if world.is_sconce() {
        let calm = client.request().team("calm");
        client.must_succeed(&calm);
    }
}

fn greeting(cases: &mut Cases, name: &str, greeting: Greeting) {
    let driver = driver::Spec { greeting, ..driver::Spec::default() };
    let spec = Spec { config: quick(), driver };
    cases.own(name, spec, |world| assert_fails_promptly(world, Duration::from_millis(2500)));
}

fn greetings(cases: &mut Cases) {
    greeting(cases, "a_driver_that_never_says_a_word_is_given_up", Greeting::BlackHole);
    greeting(cases, "a_driver_that_closes_at_once_is_unavailable", Greeting::CloseAtOnce);
    let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for (name, octets) in [
        ("a_driver_that_speaks_http1_is_unavailable", answer.to_vec()),
        ("a_driver_that_speaks_garbage_is_unavailable", vec![0x5a; 300]),
        ("a_driver_that_speaks_tls_is_unavailable", vec![0x15, 3, 1, 0, 2, 2, 70]),
        ("a_driver_that_begins_with_a_ping_is_unavailable", frame::ping([0; 8])),
        ("a_driver_that_begins_with_an_ack_is_unavailable", frame::settings_ack()),
        ("a_driver_that_sends_half_a_frame_is_given_up", vec![0, 0, 6, 4]),
        ("a_driver_with_broken_settings_is_unavailable", raw(frame::SETTINGS, 0, 0, &[0; 5])),
        ("a_driver_with_a_frame_size_of_1_is_unavailable", frame::settings(&[(5, 1)])),
        ("a_driver_with_a_window_too_large_is_unavailable", frame::settings(&[(4, u32::MAX)])),
        ("a_driver_that_enables_push_is_unavailable", frame::settings(&[(2, 1)])),
    ] {
        greeting(cases, name, Greeting::Octets(octets));
    }
    for (name, octets) in [
        ("a_driver_that_says_goaway_at_once_is_unavailable", frame::goaway(0, 0)),
        ("a_driver_that_says_goaway_with_an_error_is_unavailable", frame::goaway(0, 11)),
        (
            "a_driver_whose_window_overflows_is_unavailable",
            frame::window_update(0, 0x7fff_ffff).repeat(2),
        ),
        ("a_driver_that_returns_no_credit_but_0_is_unavailable", frame::window_update(0, 0)),
        ("a_driver_that_answers_an_idle_stream_is_unavailable", frame::data(99, false, b"x")),
        ("a_driver_that_opens_a_stream_is_unavailable", frame::headers(2, false, &answer_block())),
        (
            "a_driver_that_pushes_unasked_is_unavailable",
            raw(frame::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]),
        ),
        ("a_driver_that_sends_data_on_stream_0_is_unavailable", frame::data(0, false, b"x")),
        ("a_driver_that_sends_a_huge_frame_is_unavailable", raw(frame::PING, 0, 0, &[0; 40_000])),
    ] {
        greeting(cases, name, Greeting::After(octets));
    }
    cases.own(
        "a_driver_that_refuses_connections_is_unavailable_at_once",
        Spec::default(),
        |world| {
            world.driver.lock().unwrap().kill();
            assert_fails_promptly(world, Duration::from_secs(1));
        },
    );
    let driver = driver::Spec { greeting: Greeting::Deaf, ..driver::Spec::default() };
    cases.own("a_driver_that_never_reads_is_given_up", Spec { config: quick(), driver }, |world| {
        let mut client = world.client();
        let id = client.call(&client.request());
        let reply = client.finish_within(id, Duration::from_secs(5));
        let address = world.driver.lock().unwrap().address.to_string();
        reply.assert_driver_failure(CLUSTER, &address);
    });
    flood(cases, "a_driver_that_floods_pings", frame::ping([7; 8]).repeat(100_000));
    flood(cases, "a_driver_that_floods_settings", frame::settings(&[(3, 100)]).repeat(100_000));
    flood(cases, "a_driver_that_floods_unknown_frames", raw(0xee, 0, 0, b"x").repeat(100_000));
    flood(cases, "a_driver_that_floods_priority", frame::priority(1, 3).repeat(100_000));
}

/// A driver that floods on connect: answered or given up, within a second, and cheap.
fn flood(cases: &mut Cases, name: &str, octets: Vec<u8>) {
    let greeting = Greeting::After(octets);
    let driver = driver::Spec { greeting, ..driver::Spec::default() };
    let name = format!("{name}_is_outlived");
    cases.own(name, Spec { config: quick(), driver }, |world| {
        let mut client = world.client();
        let id = client.call(&client.request());
        let reply = client.finish(id);
        if reply.status() != Some(0) {
            let address = world.driver.lock().unwrap().address.to_string();
            reply.assert_driver_failure(CLUSTER, &address);
        }
        if let Some(process) = world.process() {
            let resident = process.resident();
            assert!(resident < 64 << 20, "{resident} octets resident");
        }
    });
}

/// Scripts that break an answer before it has begun: a refusal with a status, at once.
fn before_headers(cases: &mut Cases) {
    let html = [indexed(8), literal(b"content-type", b"text/html")].concat();
    let status = |value: &[u8]| {
        [literal(b":status", value), literal(b"content-type", b"text/html")].concat()
    };
    let grpc = |extra: Vec<u8>| [answer_block(), extra].concat();
    let tail = literal(b"grpc-status", b"0");
    let mut scripts = vec![
        ("data_before_headers", "end;F0.0.s.0000000000".to_string()),
        ("data_that_ends_before_headers", "end;F0.1.s.0000000000".to_string()),
        (
            "an_answer_of_502_in_html",
            format!("end;{};F0.1.s.3c68746d6c3e", headers_op(false, &status(b"502"))),
        ),
        ("an_answer_of_503_without_a_body", format!("end;{}", headers_op(true, &status(b"503")))),
        ("an_answer_of_431", format!("end;{}", headers_op(true, &status(b"431")))),
        ("an_answer_of_404", format!("end;{}", headers_op(true, &status(b"404")))),
        (
            "an_answer_of_200_in_html",
            format!("end;{};F0.1.s.3c68746d6c3e", headers_op(false, &html)),
        ),
        ("headers_that_end_without_a_status", format!("end;{}", headers_op(true, &answer_block()))),
        (
            "headers_without_a_status",
            format!("end;{}", headers_op(false, &literal(b"content-type", b"application/grpc"))),
        ),
        ("a_status_that_is_no_number", format!("end;{}", headers_op(false, &status(b"2xx")))),
        ("a_status_of_four_digits", format!("end;{}", headers_op(false, &status(b"2000")))),
        ("a_status_twice", format!("end;{}", headers_op(false, &grpc(vec![0x88])))),
        (
            "a_status_after_a_field",
            format!("end;{}", headers_op(false, &[literal(b"a", b"b"), indexed(8)].concat())),
        ),
        (
            "a_request_pseudo_header_in_an_answer",
            format!("end;{}", headers_op(false, &[answer_block(), vec![0x82]].concat())),
        ),
        (
            "an_upper_case_name_in_an_answer",
            format!("end;{}", headers_op(false, &grpc(literal(b"X-Up", b"1")))),
        ),
        (
            "a_line_break_in_an_answer",
            format!("end;{}", headers_op(false, &grpc(literal(b"x-a", b"1\r\nx: y")))),
        ),
        (
            "a_connection_header_in_an_answer",
            format!("end;{}", headers_op(false, &grpc(literal(b"connection", b"close")))),
        ),
        (
            "a_transfer_encoding_in_an_answer",
            format!("end;{}", headers_op(false, &grpc(literal(b"transfer-encoding", b"chunked")))),
        ),
        ("a_broken_header_block", format!("end;{}", headers_op(false, &indexed(0)))),
        (
            "a_table_size_that_was_not_allowed",
            format!("end;{}", headers_op(false, &table_size(1 << 20))),
        ),
        ("continuation_without_headers", "end;F9.4.s.88".to_string()),
        ("a_push_promise", "end;F5.4.s.0000000288".to_string()),
        ("an_empty_header_block_that_ends", "end;F1.5.s.".to_string()),
        ("a_1xx_answer_that_ends", format!("end;{}", headers_op(true, &status(b"103")))),
        ("an_answer_of_101", format!("end;{};z50;close", headers_op(false, &status(b"101")))),
        ("a_goaway_below_the_stream", "end;F7.0.0.0000000000000000;hold".to_string()),
        (
            "a_goaway_with_an_error_below_the_stream",
            "end;F7.0.0.000000000000000b;close".to_string(),
        ),
        ("a_ping_of_7_octets", "end;F6.0.0.00000000000000".to_string()),
        ("a_window_update_of_0", "end;F8.0.s.00000000;hold".to_string()),
        ("a_window_that_overflows", "end;F8.0.s.7fffffff;hold".to_string()),
        ("a_closed_connection", "end;close".to_string()),
        ("a_reset_connection", "end;slam".to_string()),
        ("a_closed_connection_before_the_request_was_whole", "close".to_string()),
        ("octets_that_are_no_frames", format!("end;X{}", hex(&[0xa5; 64]))),
        ("a_header_list_of_megabytes", "end;bomb12000;hold".to_string()),
        ("trailers_in_place_of_headers", format!("end;{}", headers_op(true, &tail))),
    ];
    let code = |code: u32| format!("end;r{code}");
    scripts.extend([
        ("a_reset_without_an_error", code(0)),
        ("a_reset_for_protocol_error", code(1)),
        ("a_reset_for_internal_error", code(2)),
        ("a_reset_for_flow_control", code(3)),
        ("a_reset_for_a_closed_stream", code(5)),
        ("a_reset_for_frame_size", code(6)),
        ("a_reset_that_refuses_the_stream", code(7)),
        ("a_reset_that_cancels", code(8)),
        ("a_reset_for_compression", code(9)),
        ("a_reset_that_asks_for_calm", code(11)),
        ("a_reset_that_wants_http1", code(13)),
        ("a_reset_of_an_unknown_code", code(0xffff)),
    ]);
    for (what, script) in scripts {
        cases.add(format!("{what}_is_a_prompt_refusal"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&script));
            let reply = client.finish_within(id, Duration::from_secs(2));
            assert!(reply.is_over(), "no answer in two seconds: {reply:?}");
            reply.assert_no_success();
            let address = world.driver.lock().unwrap().address.to_string();
            reply.assert_driver_failure(CLUSTER, &address);
            client.must_work();
        });
    }
}

/// Scripts that break an answer under way: RST_STREAM or a status, at once; never a clean end.
fn after_headers(cases: &mut Cases) {
    let pseudo = [literal(b"grpc-status", b"0"), vec![0x88]].concat();
    let length = [answer_block(), literal(b"content-length", b"100")].concat();
    let short = [answer_block(), literal(b"content-length", b"3")].concat();
    let fat = literal(b"grpc-message", &[b'm'; 200]);
    let scripts = [
        ("a_connection_closed_mid_message", "end;h;F0.0.s.00000003e86d6d;close".to_string()),
        ("a_connection_reset_mid_message", "end;h;F0.0.s.00000003e86d6d;slam".to_string()),
        ("a_connection_closed_after_headers", "end;h;close".to_string()),
        ("a_connection_closed_after_a_message", "end;h;d10;close".to_string()),
        ("an_end_without_trailers", "end;h;F0.1.s.0000000000".to_string()),
        ("an_empty_end_without_trailers", "end;h;d10;F0.1.s.".to_string()),
        (
            "trailers_without_a_status",
            format!("end;h;d10;{}", headers_op(true, &literal(b"x-a", b"b"))),
        ),
        (
            "trailers_that_do_not_end",
            format!("end;h;d10;{}", headers_op(false, &literal(b"grpc-status", b"0"))),
        ),
        ("a_pseudo_header_in_trailers", format!("end;h;d10;{}", headers_op(true, &pseudo))),
        (
            "an_upper_case_name_in_trailers",
            format!("end;h;{}", headers_op(true, &literal(b"Grpc-Status", b"0"))),
        ),
        ("a_broken_block_in_trailers", format!("end;h;d10;{}", headers_op(true, &indexed(0)))),
        ("a_second_answer", "end;h;h;hold".to_string()),
        (
            "a_status_that_is_no_number",
            format!("end;h;d10;{}", headers_op(true, &literal(b"grpc-status", b"fine"))),
        ),
        ("a_length_longer_than_the_body", format!("end;{};d10;t0", headers_op(false, &length))),
        ("a_length_shorter_than_the_body", format!("end;{};d10;t0", headers_op(false, &short))),
        ("data_with_too_much_padding", "end;h;F0.8.s.ff00".to_string()),
        (
            "a_frame_of_an_impossible_size",
            format!("end;h;X{}", hex(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        ),
        ("a_goaway_below_the_stream", "end;h;d10;F7.0.0.0000000000000002;close".to_string()),
        ("a_push_promise", "end;h;d10;F5.4.s.0000000288;hold".to_string()),
        ("settings_on_a_stream", "end;h;d10;F4.0.s.;hold".to_string()),
        ("a_ping_on_a_stream", "end;h;d10;F6.0.s.0000000000000000;hold".to_string()),
        ("a_window_update_of_0", "end;h;d10;F8.0.s.00000000;hold".to_string()),
        ("a_settings_window_too_large", "end;h;d10;F4.0.0.0004ffffffff;hold".to_string()),
        (
            "an_interrupted_trailer_block",
            format!("end;h;F1.1.s.{};F6.0.0.0000000000000000;hold", hex(&fat)),
        ),
        ("a_reset_without_an_error", "end;h;d10;r0".to_string()),
        ("a_reset_for_internal_error", "end;h;d10;r2".to_string()),
        ("a_reset_that_refuses_the_stream", "end;h;d10;r7".to_string()),
        ("a_reset_that_cancels", "end;h;d10;r8".to_string()),
        ("a_reset_that_asks_for_calm", "end;h;d10;r11".to_string()),
    ];
    for (what, script) in scripts {
        cases.add(format!("{what}_after_headers_is_no_success"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&script));
            let reply = client.finish_within(id, Duration::from_secs(2));
            assert!(reply.is_over(), "no end in two seconds: {reply:?}");
            reply.assert_no_success();
            client.must_work();
        });
    }
    cases.add("data_beyond_the_window_is_an_error_of_the_driver_alone", |world| {
        let mut client = world
            .client_with(crate::support::client::Manners { credit: false, ..Default::default() });
        let flood = format!("end;h;300*F0.0.s.{};hold", "6d".repeat(1900));
        let id = client.call(&client.request().script(&flood));
        let reply = client.finish(id);
        reply.assert_no_success();
        client.must_work();
    });
}

/// What is odd and allowed: the answer comes through whole.
fn tolerated(cases: &mut Cases) {
    let early = literal(b":status", b"103");
    let informational = headers_op(false, &[early.clone(), literal(b"link", b"x")].concat());
    for (what, script, status) in [
        ("a_1xx_before_the_answer", format!("end;{informational};h;d2;t0"), 0),
        ("ten_1xx_before_the_answer", format!("end;10*{informational};h;d2;t0"), 0),
        (
            "a_goaway_that_lets_streams_finish",
            "F7.0.0.7fffffff00000000;end;z100;h;d2;t0".to_string(),
            0,
        ),
        (
            "a_goaway_that_names_the_stream",
            "F7.0.0.ssssssss00000000;end;z100;h;d2;t0".to_string(),
            0,
        ),
        (
            "unknown_frames_in_an_answer",
            "end;F250.255.s.0102;h;F250.0.0.;d2;F251.0.s.;t0".to_string(),
            0,
        ),
        ("priority_in_an_answer", "end;F2.0.s.0000000010;h;d2;t0".to_string(), 0),
        (
            "settings_in_the_middle_of_an_answer",
            "end;h;F4.0.0.000400000001;d2;F4.0.0.000400100000;t0".to_string(),
            0,
        ),
        ("a_ping_in_the_middle_of_an_answer", "end;h;F6.0.0.0102030405060708;d2;t0".to_string(), 0),
        ("a_few_empty_data_frames", "end;h;20*F0.0.s.;d2;t0".to_string(), 0),
        ("an_answer_before_the_request", "h;d2;end;t0".to_string(), 0),
        ("trailers_only", "end;o5".to_string(), 5),
        ("trailers_only_with_success", "end;o0".to_string(), 0),
        ("trailers_without_a_message", "end;h;t7".to_string(), 7),
        ("a_cancelled_request_after_the_answer", "h;d2;t0;F3.0.s.00000000".to_string(), 0),
        ("a_thousand_tiny_messages", "end;h;m1000x1;t0".to_string(), 0),
        (
            "a_right_content_length",
            format!(
                "end;{};d2;t0",
                headers_op(false, &[answer_block(), literal(b"content-length", b"7")].concat())
            ),
            0,
        ),
    ] {
        cases.add(format!("{what}_is_passed_or_ignored"), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&script));
            let reply = client.finish(id);
            assert_eq!(reply.status(), Some(status), "{reply:?}");
            assert_eq!(reply.http_status(), Some("200"));
            client.must_work();
        });
    }
    let storm = headers_op(false, &early);
    let few = format!("end;1000*{storm};h;d2;t0");
    cases.add("a_storm_of_1xx_ends_in_an_answer", move |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script(&few));
        let reply = client.finish(id);
        assert!(reply.is_over(), "no end: {reply:?}");
        if reply.status() != Some(0) {
            reply.assert_no_success();
        }
        client.must_work();
    });
    // Calls on the same connection end with it, whenever that is: it must have gone before.
    let name = "a_flood_of_1xx_ends_its_connection_and_nothing_else";
    cases.own(name, Spec::default(), move |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script(&format!("end;20000*{storm};h;d2;t0")));
        let reply = client.finish(id);
        assert!(reply.is_over(), "no end: {reply:?}");
        if let Some(sconce) = &world.sconce {
            reply.assert_no_success();
            let unexpected = "limit=\"unexpected_frames\",side=\"upstream\" 1";
            let is_over = || sconce.lock().unwrap().guards() == [unexpected];
            eventually("the connection is ended", SOON, is_over);
            client.must_work();
        }
    });
    cases.add("details_and_messages_come_through_octet_for_octet", |world| {
        let mut client = world.client();
        let tail = [
            literal(b"grpc-status", b"13"),
            literal(b"grpc-message", b"%E2%82%AC of %25 \"x\""),
            literal(b"grpc-status-details-bin", b"CA0SBWhlbGxv"),
            literal(b"x-odd", b"\xc3\xa4"),
        ];
        let id = client
            .call(&client.request().script(&format!("end;h;{}", headers_op(true, &tail.concat()))));
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(13));
        assert_eq!(reply.last("grpc-message"), Some("%E2%82%AC of %25 \"x\""));
        assert_eq!(reply.last("grpc-status-details-bin"), Some("CA0SBWhlbGxv"));
        assert_eq!(reply.last("x-odd"), Some("ä"));
    });
    cases.add("a_fat_trailer_comes_through", |world| {
        let mut client = world.client();
        let tail = [literal(b"grpc-status", b"13"), literal(b"x-fat", &[b'f'; 3000])].concat();
        let id =
            client.call(&client.request().script(&format!("end;h;{}", headers_op(true, &tail))));
        let reply = client.finish(id);
        assert_eq!(reply.last("x-fat").map(str::len), Some(3000), "{reply:?}");
    });
}
