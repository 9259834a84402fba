//! RFC 9113, sections 4 and 6: rules for each type of frame.

use crate::support::client::Verdict::{Fine, Goaway, Reset};
use crate::support::fields::Request;
use crate::support::frame::{self, frame as raw};
use crate::support::frame::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};
use crate::support::probe::Setup::{Done, HalfClosed, Idle, Open};
use crate::support::probe::probe;
use crate::support::runner::Cases;

const BAD: &[crate::support::client::Verdict] = &[Goaway(PROTOCOL_ERROR)];
const SIZE: &[crate::support::client::Verdict] = &[Goaway(FRAME_SIZE_ERROR)];
/// A size error that touches one stream only may stay on it.
const STREAM_SIZE: &[crate::support::client::Verdict] =
    &[Reset(FRAME_SIZE_ERROR), Goaway(FRAME_SIZE_ERROR)];
const FINE: &[crate::support::client::Verdict] = &[Fine];

pub fn cases(cases: &mut Cases) {
    cases.suite("frames");
    data(cases);
    headers(cases);
    priority_and_reset(cases);
    settings(cases);
    ping_and_goaway(cases);
    window_update(cases);
    continuation(cases);
    unknown(cases);
}

fn data(cases: &mut Cases) {
    let padded = |pad: u8, rest: usize| {
        let mut payload = vec![pad];
        payload.resize(1 + rest, 0);
        raw(frame::DATA, frame::PADDED, 1, &payload)
    };
    probe(cases, "data_on_stream_0", Idle, frame::data(0, true, b"a"), BAD);
    probe(cases, "data_with_padding_as_long_as_the_payload", Open, padded(5, 4), BAD);
    probe(cases, "data_with_padding_of_the_payload_less_one_is_fine", Open, padded(4, 4), FINE);
    probe(cases, "data_with_padding_255_in_one_octet", Open, padded(255, 0), BAD);
    let allowed = [Reset(FRAME_SIZE_ERROR), Goaway(FRAME_SIZE_ERROR), Goaway(PROTOCOL_ERROR)];
    let empty = raw(frame::DATA, frame::PADDED, 1, &[]);
    probe(cases, "padded_data_without_a_pad_length", Open, empty, &allowed);
    let large = frame::data(1, false, &[0; 16_385]);
    probe(cases, "data_of_16385_octets", Open, large, STREAM_SIZE);
    let whole = frame::data(1, false, &[0; 16_384]);
    probe(cases, "data_of_16384_octets_is_fine", Open, whole, FINE);
    probe(cases, "empty_data_is_fine", Open, frame::data(1, false, &[]), FINE);
    let nonzero = raw(frame::DATA, frame::PADDED, 1, &[2, b'a', 7, 7]);
    let allowed = [Fine, Goaway(PROTOCOL_ERROR)];
    probe(cases, "padding_that_is_not_zero_may_be_ignored", Open, nonzero, &allowed);
    let flags = raw(frame::DATA, 0xf6, 1, b"abc");
    probe(cases, "undefined_flags_of_data_are_ignored", Open, flags, FINE);
}

fn headers(cases: &mut Cases) {
    let block = Request::new("stray").block();
    let with = |flags: u8, payload: &[u8]| {
        raw(frame::HEADERS, flags | frame::END_HEADERS | frame::END_STREAM, 1, payload)
    };
    probe(cases, "headers_on_stream_0", Idle, frame::headers(0, true, &block), BAD);
    let long = with(frame::PADDED, &[200, 0x82, 0x86]);
    probe(cases, "headers_with_padding_longer_than_the_payload", Idle, long, BAD);
    let priority = frame::PADDED | frame::WITH_PRIORITY;
    let over = with(priority, &[1, 0, 0, 0, 0, 1]);
    probe(cases, "headers_with_padding_over_the_priority", Idle, over, &[BAD, SIZE].concat());
    let short = with(frame::WITH_PRIORITY, &[0, 0, 0, 0]);
    probe(cases, "headers_too_short_for_their_priority", Idle, short, SIZE);
    let empty = with(frame::PADDED, &[]);
    probe(cases, "padded_headers_without_a_pad_length", Idle, empty, &[BAD, SIZE].concat());
    let large = raw(frame::HEADERS, frame::END_HEADERS, 1, &[0x82; 16_385]);
    probe(cases, "headers_of_16385_octets", Idle, large, SIZE);
    let own = with(frame::WITH_PRIORITY, &[&frame::priority_of(1)[..], &block[..]].concat());
    let allowed = [Reset(PROTOCOL_ERROR), Goaway(PROTOCOL_ERROR)];
    probe(cases, "headers_that_depend_on_themselves", Idle, own, &allowed);
    let other = with(frame::WITH_PRIORITY, &[&frame::priority_of(9)[..], &block[..]].concat());
    probe(cases, "headers_with_a_priority_are_fine", Idle, other, FINE);
    let padded = with(frame::PADDED, &frame::padded(&block, 100));
    probe(cases, "padded_headers_are_fine", Idle, padded, FINE);
    let flags = with(0xd2 & !frame::PADDED, &block);
    probe(cases, "undefined_flags_of_headers_are_ignored", Idle, flags, FINE);
    probe(cases, "headers_on_an_even_stream", Idle, frame::headers(2, true, &block), BAD);
    let push =
        raw(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[&[0, 0, 0, 2], &block[..]].concat());
    probe(cases, "a_push_promise_from_a_client", Open, push.clone(), BAD);
    probe(cases, "a_push_promise_on_an_idle_stream", Idle, push, BAD);
}

fn priority_and_reset(cases: &mut Cases) {
    probe(cases, "priority_on_stream_0", Idle, frame::priority(0, 3), BAD);
    probe(cases, "priority_on_an_idle_stream_is_fine", Idle, frame::priority(1, 3), FINE);
    probe(cases, "priority_on_an_open_stream_is_fine", Open, frame::priority(1, 3), FINE);
    probe(cases, "priority_on_a_closed_stream_is_fine", Done, frame::priority(1, 3), FINE);
    let four = raw(frame::PRIORITY, 0, 1, &[0; 4]);
    probe(cases, "priority_of_4_octets", Open, four, STREAM_SIZE);
    let six = raw(frame::PRIORITY, 0, 1, &[0; 6]);
    probe(cases, "priority_of_6_octets", Open, six, STREAM_SIZE);
    let allowed = [Reset(PROTOCOL_ERROR), Goaway(PROTOCOL_ERROR)];
    probe(cases, "priority_that_depends_on_itself", Open, frame::priority(1, 1), &allowed);
    probe(cases, "rst_stream_on_stream_0", Idle, frame::rst(0, 8), BAD);
    probe(cases, "rst_stream_on_an_idle_stream", Idle, frame::rst(1, 8), BAD);
    let three = raw(frame::RST_STREAM, 0, 1, &[0; 3]);
    probe(cases, "rst_stream_of_3_octets", Open, three, SIZE);
    let five = raw(frame::RST_STREAM, 0, 1, &[0; 5]);
    probe(cases, "rst_stream_of_5_octets", Open, five, SIZE);
    probe(cases, "rst_stream_with_an_unknown_code_is_fine", Open, frame::rst(1, 0xdead_beef), FINE);
    probe(cases, "rst_stream_on_a_finished_stream_is_fine", Done, frame::rst(1, 8), FINE);
}

fn settings(cases: &mut Cases) {
    let on = |key: u16, value: u32| frame::settings(&[(key, value)]);
    let flow: &[_] = &[Goaway(FLOW_CONTROL_ERROR)];
    probe(cases, "settings_on_a_stream", Open, raw(frame::SETTINGS, 0, 1, &[]), BAD);
    probe(cases, "settings_of_5_octets", Idle, raw(frame::SETTINGS, 0, 0, &[0; 5]), SIZE);
    probe(cases, "settings_of_7_octets", Idle, raw(frame::SETTINGS, 0, 0, &[0; 7]), SIZE);
    let ack = raw(frame::SETTINGS, frame::ACK, 0, &[0; 6]);
    probe(cases, "a_settings_ack_with_a_payload", Idle, ack, SIZE);
    probe(cases, "enable_push_of_2", Idle, on(frame::ENABLE_PUSH, 2), BAD);
    probe(cases, "an_initial_window_of_2_to_the_31", Idle, on(4, 0x8000_0000), flow);
    probe(cases, "an_initial_window_of_all_ones", Idle, on(4, u32::MAX), flow);
    probe(cases, "a_frame_size_of_16383", Idle, on(frame::MAX_FRAME_SIZE, 16_383), BAD);
    probe(cases, "a_frame_size_of_0", Idle, on(frame::MAX_FRAME_SIZE, 0), BAD);
    probe(cases, "a_frame_size_of_2_to_the_24", Idle, on(frame::MAX_FRAME_SIZE, 16_777_216), BAD);
    let on_ack = [Fine, Goaway(PROTOCOL_ERROR)];
    probe(cases, "a_settings_ack_for_nothing", Idle, frame::settings_ack(), &on_ack);
    for (name, values) in [
        ("an_unknown_setting_is_ignored", vec![(0xf000, 7), (0, 1), (0xffff, u32::MAX)]),
        ("settings_that_repeat_themselves_are_fine", vec![(4, 1), (4, 70_000), (4, 65_535)]),
        (
            "the_settings_of_grpc_core_are_fine",
            vec![(2, 0), (3, 0), (4, 4_194_304), (5, 4_194_304), (6, 16_384), (65_027, 1)],
        ),
        ("the_largest_frame_size_is_fine", vec![(5, 16_777_215)]),
        ("the_smallest_frame_size_is_fine", vec![(5, 16_384)]),
        ("the_largest_window_is_fine", vec![(4, 0x7fff_ffff)]),
        ("a_header_table_of_4_gigabytes_is_fine", vec![(1, u32::MAX)]),
        ("no_header_table_is_fine", vec![(1, 0)]),
        ("a_tiny_header_list_is_no_crash", vec![(6, 16_384), (6, u32::MAX)]),
    ] {
        cases.add(name, move |world| {
            let mut client = world.client();
            let before = client.acks;
            client.change(&values);
            assert!(client.pump(|c| c.acks > before, crate::support::client::SOON), "no ACK");
            client.must_work();
        });
    }
    cases.add("every_settings_frame_is_acknowledged_once", |world| {
        let mut client = world.client();
        client.round_trip();
        let before = client.acks;
        (0..10).for_each(|n| client.change(&[(frame::INITIAL_WINDOW_SIZE, 65_535 + n)]));
        client.round_trip();
        assert_eq!(client.acks, before + 10);
        client.must_work();
    });
}

fn ping_and_goaway(cases: &mut Cases) {
    probe(cases, "ping_on_a_stream", Open, raw(frame::PING, 0, 1, &[0; 8]), BAD);
    probe(cases, "ping_of_7_octets", Idle, raw(frame::PING, 0, 0, &[0; 7]), SIZE);
    probe(cases, "ping_of_9_octets", Idle, raw(frame::PING, 0, 0, &[0; 9]), SIZE);
    probe(cases, "ping_of_nothing", Idle, raw(frame::PING, 0, 0, &[]), SIZE);
    let ack = raw(frame::PING, frame::ACK, 0, b"nobody!!");
    probe(cases, "a_ping_ack_for_nothing_is_fine", Idle, ack, FINE);
    cases.add("a_ping_comes_back_octet_for_octet", |world| {
        let mut client = world.client();
        let mark = [0xff, 0, 1, 2, 3, 4, 0x80, 0x7f];
        client.send(&frame::ping(mark));
        assert!(client.pump(|c| c.pongs.contains(&mark), crate::support::client::SOON));
    });
    let stray = raw(frame::GOAWAY, 0, 1, &[0; 8]);
    probe(cases, "goaway_on_a_stream", Open, stray, BAD);
    let short = raw(frame::GOAWAY, 0, 0, &[0; 7]);
    probe(cases, "goaway_of_7_octets", Idle, short, SIZE);
    cases.add("a_call_ends_well_after_the_goaway_of_its_client", |world| {
        let mut client = world.client();
        let request = client.request().script("end;z100;h;d2;t0");
        let id = client.call(&request);
        client.round_trip();
        client.send(&frame::goaway(0, frame::NO_ERROR));
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_goaway_with_debug_data_and_an_unknown_code_is_no_crash", |world| {
        let mut client = world.client();
        let payload = [&[0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef], &[b'x'; 500][..]].concat();
        client.send(&raw(frame::GOAWAY, 0, 0, &payload));
        client.round_trip();
    });
}

fn window_update(cases: &mut Cases) {
    let of = |stream: u32, len: usize| raw(frame::WINDOW_UPDATE, 0, stream, &vec![1; len]);
    probe(cases, "window_update_of_3_octets", Idle, of(0, 3), SIZE);
    probe(cases, "window_update_of_5_octets", Idle, of(0, 5), SIZE);
    probe(cases, "window_update_of_3_octets_on_a_stream", Open, of(1, 3), STREAM_SIZE);
    probe(cases, "window_update_of_0_on_the_connection", Idle, frame::window_update(0, 0), BAD);
    let zero = [Reset(PROTOCOL_ERROR)];
    probe(cases, "window_update_of_0_on_a_stream", Open, frame::window_update(1, 0), &zero);
    probe(
        cases,
        "window_update_of_0_on_a_half_closed_stream",
        HalfClosed,
        frame::window_update(1, 0),
        &zero,
    );
    probe(cases, "window_update_on_an_idle_stream", Idle, frame::window_update(1, 1), BAD);
    let over = frame::window_update(0, 0x7fff_ffff);
    probe(cases, "a_connection_window_beyond_the_limit", Idle, over, &[Goaway(FLOW_CONTROL_ERROR)]);
    let over = frame::window_update(1, 0x7fff_ffff);
    probe(cases, "a_stream_window_beyond_the_limit", Open, over, &[Reset(FLOW_CONTROL_ERROR)]);
    let by_steps = [frame::window_update(1, 0x4000_0000), frame::window_update(1, 0x4000_0000)];
    probe(
        cases,
        "a_stream_window_beyond_the_limit_in_two_steps",
        Open,
        by_steps.concat(),
        &[Reset(FLOW_CONTROL_ERROR)],
    );
    let just = frame::window_update(1, 0x7fff_ffff - 65_535);
    probe(cases, "a_stream_window_at_the_limit_is_fine", Open, just.clone(), FINE);
    let then = [just, frame::settings(&[(frame::INITIAL_WINDOW_SIZE, 65_536)])].concat();
    probe(
        cases,
        "an_initial_window_that_lifts_a_stream_beyond_the_limit",
        Open,
        then,
        &[Goaway(FLOW_CONTROL_ERROR)],
    );
    let high = raw(frame::WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 1]);
    probe(cases, "the_reserved_bit_of_a_window_update_is_ignored", Open, high, FINE);
    let late = frame::window_update(1, 1);
    probe(cases, "a_window_update_on_a_finished_stream_is_fine", Done, late, FINE);
}

fn continuation(cases: &mut Cases) {
    let block = Request::new("stray").block();
    let begun = raw(frame::HEADERS, frame::END_STREAM, 1, &block[..20]);
    let more = |flags: u8, stream: u32, part: &[u8]| raw(frame::CONTINUATION, flags, stream, part);
    let last = frame::END_HEADERS;
    probe(cases, "continuation_without_headers", Idle, more(last, 1, &block), BAD);
    probe(
        cases,
        "continuation_on_stream_0",
        Idle,
        [begun.clone(), more(last, 0, &block[20..])].concat(),
        BAD,
    );
    probe(cases, "continuation_on_an_open_stream", Open, more(last, 1, &block), BAD);
    let late = [Goaway(PROTOCOL_ERROR), Goaway(STREAM_CLOSED)];
    probe(cases, "continuation_on_a_half_closed_stream", HalfClosed, more(last, 1, &block), &late);
    probe(cases, "continuation_on_a_closed_stream", Done, more(last, 1, &block), &late);
    probe(
        cases,
        "continuation_of_another_stream",
        Idle,
        [begun.clone(), more(last, 3, &block[20..])].concat(),
        BAD,
    );
    for (name, between) in [
        ("data_inside_a_header_block", frame::data(1, true, b"a")),
        ("ping_inside_a_header_block", frame::ping([0; 8])),
        ("settings_inside_a_header_block", frame::settings(&[])),
        ("window_update_inside_a_header_block", frame::window_update(0, 1)),
        ("priority_inside_a_header_block", frame::priority(3, 1)),
        ("rst_stream_inside_a_header_block", frame::rst(1, 8)),
        ("headers_of_another_stream_inside_a_header_block", frame::headers(3, true, &block)),
        ("headers_of_the_same_stream_inside_a_header_block", frame::headers(1, true, &block)),
        ("an_unknown_frame_inside_a_header_block", raw(0xee, 0, 1, b"x")),
        ("goaway_inside_a_header_block", frame::goaway(0, 0)),
    ] {
        probe(cases, name, Idle, [begun.clone(), between].concat(), BAD);
    }
    let split = |size: usize| {
        let mut out = raw(frame::HEADERS, frame::END_STREAM, 1, &[]);
        let parts: Vec<&[u8]> = block.chunks(size).collect();
        for (at, part) in parts.iter().enumerate() {
            out.extend(more(if at + 1 == parts.len() { last } else { 0 }, 1, part));
        }
        out
    };
    probe(cases, "a_block_in_parts_of_16_octets_is_fine", Idle, split(16), FINE);
    probe(cases, "a_block_in_two_parts_is_fine", Idle, split(block.len() - 1), FINE);
    let empty = [begun, more(0, 1, &[]), more(0, 1, &[]), more(last, 1, &block[20..])].concat();
    probe(cases, "two_empty_continuations_are_fine", Idle, empty, FINE);
    let flags =
        [raw(frame::HEADERS, frame::END_STREAM, 1, &block[..9]), more(0xfb | last, 1, &block[9..])];
    probe(cases, "undefined_flags_of_continuation_are_ignored", Idle, flags.concat(), FINE);
}

fn unknown(cases: &mut Cases) {
    for (name, kind) in
        [("of_type_255", 0xff), ("altsvc", 0x0a), ("origin", 0x0c), ("priority_update", 0x10)]
    {
        let on_zero = format!("an_unknown_frame_{name}_on_stream_0_is_ignored");
        probe(cases, &on_zero, Idle, raw(kind, 0xff, 0, b"what"), FINE);
    }
    probe(
        cases,
        "an_unknown_frame_on_an_idle_stream_is_ignored",
        Idle,
        raw(0xcc, 0, 1, b"x"),
        FINE,
    );
    probe(
        cases,
        "an_unknown_frame_on_an_open_stream_is_ignored",
        Open,
        raw(0xcc, 0xff, 1, b"x"),
        FINE,
    );
    probe(
        cases,
        "an_unknown_frame_on_a_closed_stream_is_ignored",
        Done,
        raw(0xcc, 0, 1, b"x"),
        FINE,
    );
    let large = raw(0xcc, 0, 0, &[0; 16_385]);
    probe(cases, "an_unknown_frame_of_16385_octets", Idle, large, SIZE);
    let block = Request::new("stray").block();
    let mut reserved = frame::headers(1, true, &block);
    reserved[5] |= 0x80;
    probe(cases, "the_reserved_bit_of_a_stream_id_is_ignored", Idle, reserved, FINE);
    let mut reserved = frame::ping(*b"reserved");
    reserved[5] |= 0x80;
    probe(cases, "the_reserved_bit_on_stream_0_is_ignored", Idle, reserved, FINE);
}
