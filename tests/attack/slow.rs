//! Slow clients: a total deadline for every phase, and minimum progress instead of mere activity.
//!
//! The timeouts are those of `runner::quick`; bounds here leave a busy machine two seconds of grace.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame::{self, PREFACE, frame as raw};
use crate::support::runner::Cases;
use crate::support::world::World;

const GRACE: Duration = Duration::from_millis(3200);

pub fn cases(cases: &mut Cases) {
    cases.suite("slow");
    greetings(cases);
    header_blocks(cases);
    bodies(cases);
    windows(cases);
    idle(cases);
}

/// Sends an octet every `pause` until closed; how long that took.
fn dribble(client: &mut Client, octets: &[u8], pause: Duration) -> Duration {
    let began = Instant::now();
    for octet in octets {
        client.send(&[*octet]);
        if client.pump(|c| c.closed, pause) || began.elapsed() > GRACE {
            break;
        }
    }
    client.pump(|c| c.closed, GRACE.saturating_sub(began.elapsed()));
    began.elapsed()
}

fn assert_closed(client: &Client, took: Duration) {
    assert!(client.closed, "still open after {took:?}, goaway {:?}", client.goaway);
}

fn greetings(cases: &mut Cases) {
    cases.quick("a_client_that_says_nothing_is_closed", |world| {
        let mut client = world.stranger();
        let took = dribble(&mut client, &[], GRACE);
        assert_closed(&client, took);
    });
    cases.quick("a_preface_that_dribbles_is_closed", |world| {
        let mut client = world.stranger();
        let took = dribble(&mut client, PREFACE, Duration::from_millis(150));
        assert_closed(&client, took);
    });
    cases.quick("a_preface_without_settings_is_closed", |world| {
        let mut client = world.stranger();
        let took = dribble(&mut client, PREFACE, Duration::ZERO);
        assert_closed(&client, took);
    });
    cases.quick("first_settings_that_dribble_are_closed", |world| {
        let mut client = world.stranger();
        client.send(PREFACE);
        let settings = frame::settings(&[(3, 100), (4, 65_535), (5, 16_384)]);
        let took = dribble(&mut client, &settings, Duration::from_millis(150));
        assert_closed(&client, took);
    });
    cases.quick("a_client_that_never_acknowledges_settings_is_told_so", |world| {
        let manners = Manners { ack_settings: false, ..Manners::default() };
        let mut client = world.client_with(manners);
        client.must_work();
        let gone = client.pump(|c| c.goaway.is_some() || c.closed, GRACE);
        assert!(gone, "still open");
        assert_eq!(client.goaway.map(|(_, code)| code), Some(frame::SETTINGS_TIMEOUT));
        assert!(client.pump(|c| c.closed, SOON));
    });
    cases.quick("a_client_that_calls_and_never_acknowledges_settings_is_closed", |world| {
        let manners = Manners { ack_settings: false, ..Manners::default() };
        let mut client = world.client_with(manners);
        let began = Instant::now();
        while !client.closed && client.goaway.is_none() && began.elapsed() < GRACE {
            let id = client.call(&client.request());
            client.finish_within(id, Duration::from_millis(300));
            client.pump(|_| false, Duration::from_millis(50));
        }
        assert!(client.closed || client.goaway.is_some(), "still served");
    });
}

fn header_blocks(cases: &mut Cases) {
    cases.quick("a_header_block_that_never_ends_is_closed", |world| {
        let mut client = world.client();
        client.send(&raw(frame::HEADERS, 0, 1, &[0x82]));
        let gone = client.pump(|c| c.closed || c.goaway.is_some(), GRACE);
        assert!(gone, "still open");
    });
    cases.quick("a_header_block_that_dribbles_in_continuations_is_closed", |world| {
        let mut client = world.client();
        client.send(&raw(frame::HEADERS, 0, 1, &[0x82]));
        let began = Instant::now();
        while !client.closed && client.goaway.is_none() && began.elapsed() < GRACE {
            client.send(&raw(frame::CONTINUATION, 0, 1, &[0x86]));
            client.pump(|c| c.closed || c.goaway.is_some(), Duration::from_millis(150));
        }
        assert!(client.closed || client.goaway.is_some(), "still open");
    });
    cases.quick("a_headers_frame_that_dribbles_is_closed", |world| {
        let mut client = world.client();
        let octets = frame::headers(1, true, &client.request().block());
        let took = dribble(&mut client, &octets, Duration::from_millis(100));
        assert!(client.closed || client.goaway.is_some(), "still open after {took:?}");
    });
    cases.quick("a_frame_header_that_dribbles_is_closed", |world| {
        let mut client = world.client();
        let took = dribble(&mut client, &[0, 0, 8, 6], Duration::from_millis(250));
        assert!(client.closed || client.goaway.is_some(), "still open after {took:?}");
    });
}

/// The stream is ended by sconce in time, with an answer or a reset, and the driver hears of it.
fn assert_ended(world: &World, client: &mut Client, id: u32, began: Instant) {
    let reply = client.finish_within(id, GRACE.saturating_sub(began.elapsed()));
    let took = began.elapsed();
    assert!(reply.is_over() || client.goaway.is_some(), "still open after {took:?}");
    assert_ne!(reply.status(), Some(0));
    world.driver_sees(&client.case, SOON, |served| served.is_dropped());
}

fn bodies(cases: &mut Cases) {
    let script = "end;h;d2;t0";
    cases.quick("a_body_that_never_comes_is_ended", move |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script(script), false);
        assert_ended(world, &mut client, id, Instant::now());
    });
    type Drop = fn(u32) -> Vec<u8>;
    let table: [(&str, Drop); 5] = [
        ("in_octets", |id| frame::data(id, false, b"x")),
        ("in_empty_frames", |id| frame::data(id, false, &[])),
        ("in_padding", |id| frame::padded_data(id, false, &[], 200)),
        ("beside_pings", |_| frame::ping([0; 8])),
        ("beside_window_updates", |id| frame::window_update(id, 1)),
    ];
    for (what, drop) in table {
        cases.quick(format!("a_body_that_dribbles_{what}_is_ended"), move |world| {
            let mut client = world.client();
            let id = client.start(&client.request().script(script), false);
            let began = Instant::now();
            let over = |c: &Client| {
                c.streams.get(&id).is_some_and(|r| r.is_over()) || c.goaway.is_some() || c.closed
            };
            while !over(&client) && began.elapsed() < GRACE {
                client.send(&drop(id));
                client.pump(over, Duration::from_millis(100));
            }
            assert_ended(world, &mut client, id, began);
        });
    }
    cases.quick("a_data_frame_that_dribbles_is_ended", move |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script(script), false);
        let octets = frame::data(id, true, &[b'x'; 2000]);
        let took = dribble(&mut client, &octets[..200], Duration::from_millis(100));
        let reply = client.streams.get(&id).cloned().unwrap_or_default();
        let ended = reply.is_over() || client.goaway.is_some() || client.closed;
        assert!(ended, "still open after {took:?}");
        world.driver_sees(&client.case, SOON, |served| served.is_dropped());
    });
    cases.quick("a_slow_body_that_makes_progress_is_no_offence", move |world| {
        let mut client = world.client();
        let id = client.start(&client.request().script(script), false);
        for _ in 0..10 {
            client.send(&frame::data(id, false, &[b'x'; 2048]));
            client.pump(|_| false, Duration::from_millis(300));
        }
        client.send(&frame::data(id, true, &[]));
        assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
    });
    cases.quick("an_upload_that_waits_for_its_driver_is_no_offence", |world| {
        let mut client = world.client();
        let request = client.request().script("nocredit;got60000;z2500;credit;end;h;d2;t0");
        let id = client.start(&request, false);
        assert!(client.upload(id, 2_000_000, true), "ended: {:?}", client.streams.get(&id));
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}, goaway {:?}", client.goaway);
    });
}

fn windows(cases: &mut Cases) {
    type Drip = fn(&mut Client, u32);
    let table: [(&str, u32, Drip); 3] = [
        ("a_stream_window_that_stays_closed_ends_the_stream", 0, |_, _| {}),
        ("a_window_of_one_octet_that_stays_used_up_ends_the_stream", 1, |_, _| {}),
        ("pings_do_not_keep_a_closed_window_alive", 0, |c, _| c.send(&frame::ping([1; 8]))),
    ];
    for (name, window, drip) in table {
        cases.quick(name, move |world| {
            let mut client = world.client_with(Manners {
                settings: vec![(frame::INITIAL_WINDOW_SIZE, window)],
                credit: false,
                ..Manners::default()
            });
            let id = client.call(&client.request().script("end;h;d5000;t0"));
            let began = Instant::now();
            let over = |c: &Client| {
                c.streams.get(&id).is_some_and(|r| r.is_over()) || c.goaway.is_some() || c.closed
            };
            while !over(&client) && began.elapsed() < GRACE {
                drip(&mut client, id);
                client.pump(over, Duration::from_millis(100));
            }
            assert_ended(world, &mut client, id, began);
        });
    }
    cases.quick("a_stream_window_that_is_sipped_through_ends_the_stream", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 0)],
            credit: false,
            ..Manners::default()
        });
        let id = client.call(&client.request().script("end;h;d5000;t0"));
        let began = Instant::now();
        let over = |c: &Client| c.streams.get(&id).is_some_and(|r| r.is_over()) || c.closed;
        while !over(&client) && began.elapsed() < GRACE {
            client.grant(id, 1);
            client.pump(over, Duration::from_millis(100));
        }
        assert_ended(world, &mut client, id, began);
    });
    cases.quick("a_window_that_is_open_may_stay_so", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 100)],
            credit: false,
            ..Manners::default()
        });
        let id = client.call(&client.request().script("end;h;d2;z2800;d2;t0"));
        let reply = client.finish_within(id, Duration::from_secs(6));
        assert_eq!(reply.status(), Some(0), "{reply:?}, goaway {:?}", client.goaway);
    });
    cases.quick("a_connection_window_that_stays_closed_ends_its_streams", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 1_000_000)],
            credit: false,
            ..Manners::default()
        });
        let id = client.call(&client.request().script("end;h;d500000;t0"));
        assert_ended(world, &mut client, id, Instant::now());
    });
    cases.quick("a_socket_that_is_never_read_is_given_up", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 64 << 20)],
            connection_bump: 64 << 20,
            receive_buffer: Some(32_768),
            ..Manners::default()
        });
        client.call(&client.request().script("end;h;d50000000;t0"));
        world.driver_sees(&client.case, GRACE + SOON, |served| served.is_dropped());
    });
    cases.quick("a_window_that_opens_slowly_but_steadily_is_no_offence", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 1000)],
            credit: false,
            ..Manners::default()
        });
        let id = client.call(&client.request().script("end;h;d9995;t0"));
        for _ in 0..9 {
            client.pump(|_| false, Duration::from_millis(300));
            client.grant(id, 1000);
        }
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}, goaway {:?}", client.goaway);
    });
}

fn idle(cases: &mut Cases) {
    cases.quick("an_idle_connection_gets_a_goaway_without_an_error", |world| {
        let mut client = world.client();
        client.must_work();
        assert!(client.pump(|c| c.goaway.is_some(), GRACE), "no GOAWAY, closed {}", client.closed);
        assert_eq!(client.goaway.map(|(_, code)| code), Some(frame::NO_ERROR));
        assert!(client.pump(|c| c.closed, GRACE), "never closed");
    });
    cases.quick("pings_do_not_keep_an_idle_connection_alive", |world| {
        let mut client = world.client();
        let began = Instant::now();
        while client.goaway.is_none() && !client.closed && began.elapsed() < GRACE {
            client.send(&frame::ping([2; 8]));
            client.pump(|c| c.goaway.is_some() || c.closed, Duration::from_millis(100));
        }
        assert!(client.goaway.is_some(), "no GOAWAY, closed {}", client.closed);
    });
    cases.quick("a_client_that_answers_no_ping_is_given_up", |world| {
        let manners = Manners { ack_pings: false, ..Manners::default() };
        let mut client = world.client_with(manners);
        let id = client.call(&client.request().script("end;hold"));
        assert!(client.pump(|c| c.closed, GRACE), "still open, pings {}", client.pings);
        assert!(client.pings > 0, "was never asked");
        assert!(client.streams.get(&id).is_none_or(|reply| reply.status() != Some(0)));
        world.driver_sees(&client.case, SOON, |served| served.is_dropped());
    });
    cases.quick("a_client_that_answers_pings_may_wait_for_its_query", |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;z2800;h;d2;t0"));
        let reply = client.finish_within(id, Duration::from_secs(6));
        assert_eq!(reply.status(), Some(0), "goaway {:?}", client.goaway);
        assert!(client.pings > 0, "keepalive never asked");
    });
}
