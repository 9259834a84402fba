//! RFC 9113, sections 5.1 and 8.1: frames in each state of a stream.

use crate::support::client::SOON;
use crate::support::client::Verdict::{Fine, Goaway, Reset};
use crate::support::fields::{Request, literal};
use crate::support::frame::{self, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED};
use crate::support::probe::Setup::{Cancelled, Done, HalfClosed, Idle};
use crate::support::probe::{assert_malformed, probe};
use crate::support::runner::Cases;

pub fn cases(cases: &mut Cases) {
    cases.suite("stream_states");
    let block = Request::new("stray").block();
    let closed = [Reset(STREAM_CLOSED), Goaway(STREAM_CLOSED)];
    // A late HEADERS is also "an unexpected stream identifier" (5.1.1).
    let reopened = [Reset(STREAM_CLOSED), Goaway(STREAM_CLOSED), Goaway(PROTOCOL_ERROR)];
    probe(
        cases,
        "data_on_an_idle_stream",
        Idle,
        frame::data(1, true, b"a"),
        &[Goaway(PROTOCOL_ERROR)],
    );
    probe(cases, "data_on_a_half_closed_stream", HalfClosed, frame::data(1, true, b"a"), &closed);
    probe(
        cases,
        "empty_data_on_a_half_closed_stream",
        HalfClosed,
        frame::data(1, true, &[]),
        &closed,
    );
    probe(
        cases,
        "headers_on_a_half_closed_stream",
        HalfClosed,
        frame::headers(1, true, &block),
        &closed,
    );
    let trailers = frame::headers(1, true, &literal(b"x-late", b"1"));
    probe(cases, "trailers_on_a_half_closed_stream", HalfClosed, trailers, &closed);
    probe(
        cases,
        "window_update_on_a_half_closed_stream_is_fine",
        HalfClosed,
        frame::window_update(1, 1),
        &[Fine],
    );
    probe(
        cases,
        "priority_on_a_half_closed_stream_is_fine",
        HalfClosed,
        frame::priority(1, 3),
        &[Fine],
    );
    probe(cases, "data_on_a_finished_stream", Done, frame::data(1, true, b"a"), &closed);
    probe(cases, "headers_on_a_finished_stream", Done, frame::headers(1, true, &block), &reopened);
    probe(cases, "data_on_a_stream_we_have_reset", Cancelled, frame::data(1, true, b"a"), &closed);
    probe(
        cases,
        "headers_on_a_stream_we_have_reset",
        Cancelled,
        frame::headers(1, true, &block),
        &reopened,
    );
    let after = [Fine, Reset(STREAM_CLOSED)];
    probe(
        cases,
        "window_update_on_a_stream_we_have_reset_is_no_connection_error",
        Cancelled,
        frame::window_update(1, 1),
        &after,
    );
    let again = frame::rst(1, 8);
    probe(
        cases,
        "a_second_rst_stream_is_no_connection_error",
        Cancelled,
        again,
        &[Fine, Reset(STREAM_CLOSED), Goaway(STREAM_CLOSED)],
    );
    cases.add("a_stream_id_that_goes_down_is_a_connection_error", |world| {
        let mut client = world.client();
        let request = client.request().script("hold");
        client.next_id = 5;
        client.start(&request, true);
        client.send(&frame::headers(3, true, &request.block()));
        client.expect(3, &[Goaway(PROTOCOL_ERROR)]);
    });
    cases.add("data_on_a_stream_that_was_skipped_hurts_nobody", |world| {
        let mut client = world.client();
        let request = client.request().script("hold");
        client.next_id = 5;
        client.start(&request, true);
        client.send(&frame::data(3, true, b"a"));
        let allowed = [Fine, Goaway(PROTOCOL_ERROR), Goaway(STREAM_CLOSED), Reset(STREAM_CLOSED)];
        client.expect(3, &allowed);
    });
    cases.add("stream_ids_may_jump", |world| {
        let mut client = world.client();
        for id in [7, 101, 65_537] {
            client.next_id = id;
            client.must_work();
        }
    });
    cases.add("a_hundred_streams_whose_ids_share_their_last_bits_are_told_apart", |world| {
        let mut client = world.client();
        let request = client.request();
        let mut ids: Vec<u32> = (0..100).map(|step| 1 + (step << 16)).collect();
        for id in &ids {
            client.next_id = *id;
            client.start(&request, false);
        }
        ids.rotate_left(40);
        for id in ids.iter().step_by(2).chain(ids.iter().skip(1).step_by(2)) {
            client.send(&frame::data(*id, true, &frame::message(2)));
            assert_eq!(client.finish(*id).status(), Some(0), "stream {id}");
        }
        client.send(&frame::data(ids[0], true, b"a"));
        client.expect(ids[0], &[Goaway(STREAM_CLOSED), Reset(STREAM_CLOSED)]);
    });
    cases.add("the_highest_stream_id_works", |world| {
        let mut client = world.client();
        client.next_id = 0x7fff_ffff;
        let id = client.next_id;
        let mut out = frame::headers(id, false, &client.request().block());
        out.extend(frame::data(id, true, &frame::message(2)));
        client.send(&out);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    trailers_of_requests(cases);
    limits(cases);
}

fn trailers_of_requests(cases: &mut Cases) {
    cases.add("trailers_of_a_request_end_it", |world| {
        let mut client = world.client();
        let id = client.start(&client.request(), false);
        client.send(&frame::data(id, false, &frame::message(2)));
        client.send(&frame::headers(id, true, &literal(b"x-tail", b"yes")));
        assert_eq!(client.finish(id).status(), Some(0));
        let served = world.driver_sees(&client.case, SOON, |served| served.ended);
        // An intermediary may drop trailers, and must not invent any.
        let fits = [("x-tail".to_string(), "yes".to_string())];
        assert!(served.trailers.is_empty() || served.trailers == fits, "{:?}", served.trailers);
    });
    for (name, end, block) in [
        ("trailers_without_the_end_of_the_stream_are_malformed", false, literal(b"x-tail", b"1")),
        ("a_pseudo_header_in_trailers_is_malformed", true, literal(b":path", b"/")),
        ("an_upper_case_name_in_trailers_is_malformed", true, literal(b"X-Tail", b"1")),
        ("a_connection_header_in_trailers_is_malformed", true, literal(b"connection", b"close")),
        ("a_line_break_in_trailers_is_malformed", true, literal(b"x-tail", b"a\r\nb: c")),
        ("a_nul_in_trailers_is_malformed", true, literal(b"x-tail", b"a\0b")),
    ] {
        cases.add(name, move |world| {
            let mut client = world.client();
            let request = client.request().script("hold");
            let id = client.start(&request, false);
            client.send(&frame::data(id, false, &frame::message(2)));
            world.driver_sees(&client.case, SOON, |served| served.received > 0);
            client.send(&frame::headers(id, end, &block));
            let mark = std::mem::replace(&mut client.case, world.mark());
            client.expect(id, &[Reset(PROTOCOL_ERROR)]);
            let served = world.driver_sees(&mark, SOON, |served| served.is_dropped());
            assert!(!served.ended && served.trailers.is_empty(), "the driver was told {served:?}");
        });
    }
}

fn limits(cases: &mut Cases) {
    cases.add("a_stream_beyond_the_limit_is_refused_alone", |world| {
        let mut client = world.client();
        client.round_trip();
        let limit = client.peer.get(&frame::MAX_CONCURRENT_STREAMS).copied().unwrap_or(100);
        let request = client.request().script("end;hold");
        for _ in 0..limit {
            client.start(&request, true);
        }
        let mark = std::mem::replace(&mut client.case, world.mark());
        let beyond = client.start(&client.request(), true);
        client.pump(|c| c.streams.contains_key(&beyond), SOON);
        let reset = client.streams.get(&beyond).and_then(|reply| reply.reset);
        let allowed = [Some(REFUSED_STREAM), Some(PROTOCOL_ERROR)];
        assert!(allowed.contains(&reset), "{reset:?}, goaway {:?}", client.goaway);
        assert_eq!(world.asked(&client.case), 0, "it was forwarded");
        client.send(&frame::rst(1, frame::CANCEL));
        client.round_trip();
        client.must_work();
        assert_eq!(world.asked(&mark), limit as usize);
    });
    cases.add("as_many_streams_as_allowed_work_at_once", |world| {
        let mut client = world.client();
        client.round_trip();
        let limit = client.peer.get(&frame::MAX_CONCURRENT_STREAMS).copied().unwrap_or(100);
        let request = client.request().script("end;z200;h;d2;t0");
        let ids: Vec<u32> = (0..limit).map(|_| client.call(&request)).collect();
        for id in ids {
            assert_eq!(client.finish(id).status(), Some(0));
        }
    });
    cases.add("a_request_that_is_malformed_frees_its_place", |world| {
        let mut client = world.client();
        for _ in 0..20 {
            client.case = world.mark();
            let request = client.request().with("X-Upper", "1");
            let id = client.start(&request, false);
            assert_malformed(world, &mut client, id);
        }
    });
}
