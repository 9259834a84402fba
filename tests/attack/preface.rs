//! RFC 9113, section 3.4: the start of a connection.

use std::time::Duration;

use crate::support::client::{Client, SOON, Verdict};
use crate::support::frame::{self, PREFACE};
use crate::support::runner::Cases;

pub fn cases(cases: &mut Cases) {
    cases.suite("preface");
    for (name, octets) in [
        ("an_http1_request_is_no_preface", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("an_h2c_upgrade_is_not_taken_up", upgrade()),
        (
            "a_tls_client_hello_is_no_preface",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(),
        ),
        ("a_preface_with_one_wrong_octet_is_refused", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec()),
        ("a_preface_in_lower_case_is_refused", PREFACE.to_ascii_lowercase()),
        ("zeros_are_no_preface", vec![0; 64]),
        ("settings_without_a_preface_are_refused", frame::settings(&[])),
    ] {
        cases.add(name, move |world| {
            let mut client = world.stranger();
            client.send(&octets);
            assert_refused(&mut client);
        });
    }
    for (name, first) in [
        ("a_ping_in_place_of_the_first_settings_is_refused", frame::ping([1; 8])),
        ("headers_in_place_of_the_first_settings_are_refused", frame::headers(1, true, &[0x82])),
        ("an_ack_in_place_of_the_first_settings_is_refused", frame::settings_ack()),
        ("a_window_update_in_place_of_the_first_settings_is_refused", frame::window_update(0, 1)),
    ] {
        cases.add(name, move |world| {
            let mut client = world.stranger();
            client.send(&[PREFACE, &first].concat());
            assert_refused(&mut client);
        });
    }
    cases.add("settings_of_the_server_come_first_and_are_sound", |world| {
        let client = world.client();
        assert!(client.faults.is_empty(), "{:?}", client.faults);
        assert!(client.peer.get(&frame::ENABLE_PUSH).is_none_or(|push| *push == 0));
        assert!(client.peer.get(&frame::INITIAL_WINDOW_SIZE).is_none_or(|w| *w <= 0x7fff_ffff));
        let sizes = 16_384..=16_777_215;
        assert!(client.peer.get(&frame::MAX_FRAME_SIZE).is_none_or(|size| sizes.contains(size)));
    });
    cases.add("a_preface_may_come_octet_by_octet", |world| {
        let mut client = world.stranger();
        for octet in [PREFACE, &frame::settings(&[])].concat() {
            client.send(&[octet]);
        }
        assert!(client.pump(|c| c.settings_seen > 0, SOON));
        client.must_work();
    });
    cases.add("everything_may_come_in_one_segment_with_the_preface", |world| {
        let mut client = world.stranger();
        let mut out = [PREFACE, &frame::settings(&[])].concat();
        out.extend(frame::headers(1, false, &client.request().block()));
        out.extend(frame::data(1, true, &frame::message(2)));
        client.send(&out);
        client.next_id = 3;
        assert_eq!(client.finish(1).status(), Some(0));
    });
    cases.add("frames_may_come_octet_by_octet", |world| {
        let mut client = world.client();
        let mut out = frame::headers(1, false, &client.request().block());
        out.extend(frame::data(1, true, &frame::message(2)));
        for octet in out {
            client.send(&[octet]);
        }
        client.next_id = 3;
        assert_eq!(client.finish(1).status(), Some(0));
    });
    cases.add("a_second_preface_is_a_connection_error", |world| {
        let mut client = world.client();
        client.send(PREFACE);
        // Read as a frame it is one of 5,263,945 octets.
        let codes = [frame::FRAME_SIZE_ERROR, frame::PROTOCOL_ERROR];
        client.expect(0, &codes.map(Verdict::Goaway));
    });
    cases.add("a_client_that_closes_at_once_hurts_nobody", |world| {
        for _ in 0..50 {
            drop(world.stranger());
        }
        world.client().must_work();
    });
}

fn upgrade() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
      HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        .to_vec()
}

/// The connection ends at once; a GOAWAY before that is allowed and must not say that all is well.
fn assert_refused(client: &mut Client) {
    let gone = client.pump(|c| c.closed, Duration::from_secs(2));
    assert!(gone, "still open, goaway {:?}", client.goaway);
    let code = client.goaway.map(|(_, code)| code);
    let fits = code.is_none_or(|c| [frame::PROTOCOL_ERROR, frame::FRAME_SIZE_ERROR].contains(&c));
    assert!(fits, "GOAWAY with {code:?}");
}
