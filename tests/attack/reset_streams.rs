//! Frames on streams that sconce has reset: free of charge up to the granted window (RFC 9113,
//! 5.1),
//! a flood beyond it.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::Request;
use crate::support::frame::{self, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR};
use crate::support::proof;
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("reset_streams");
    crossing(cases);
    refused(cases);
    floods_of_clients(cases);
    floods_of_drivers(cases);
}

/// A client with windows of 1 MiB for each stream and 4 MiB for all.
fn wide(world: &World) -> Client {
    world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 1 << 20)],
        connection_bump: 4 << 20,
        ..Manners::default()
    })
}

/// A call whose response has begun: its streams at the client and at the driver.
fn begin(client: &mut Client, driver: &mut Upstream) -> (u32, u32) {
    let id = client.start(&client.request(), true);
    let stream = driver.await_stream();
    driver.answer(stream);
    assert!(client.pump(|c| c.streams.contains_key(&id), SOON), "no HEADERS");
    (id, stream)
}

/// The client cancels streams; sconce has read that, and the driver has not.
fn cancel(client: &mut Client, ids: &[u32]) {
    let resets: Vec<u8> = ids.iter().flat_map(|id| frame::rst(*id, frame::CANCEL)).collect();
    client.send(&resets);
    assert!(client.round_trip());
}

/// A call on the same upstream connection gets a megabyte and its end.
fn assert_goes_on(client: &mut Client, driver: &mut Upstream, (id, stream): (u32, u32)) {
    let message = frame::message(1 << 20);
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while sent < message.len() {
        sent += driver.speak(stream, &message[sent..]);
        client.poll();
        driver.poll();
        let reply = &client.streams[&id];
        assert!(!reply.is_over() && !driver.is_closed, "the other call has ended: {reply:?}");
        assert!(Instant::now() < deadline, "no credit is left after {sent} octets");
    }
    driver.finish(stream, 0);
    let reply = client.finish(id);
    assert_eq!(reply.status(), Some(0), "{reply:?}");
    assert_eq!(reply.body.len(), message.len());
}

fn crossing(cases: &mut Cases) {
    for (frames, octets) in [(2_500, 100), (8_000, 30)] {
        let name =
            format!("a_call_outlives_another_that_was_cancelled_with_{frames}_frames_coming");
        cases.own(name, Spec::default(), move |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let mut client = wide(world);
            driver.meet(&mut client);
            let (one, its_stream) = begin(&mut client, &mut driver);
            let other = begin(&mut client, &mut driver);
            cancel(&mut client, &[one]);
            let data = frame::data(its_stream, false, &vec![7; octets]);
            for _ in 0..frames / 100 {
                assert!(driver.room(its_stream) >= 100 * octets, "no window to send that much");
                driver.spend(its_stream, 100 * octets);
                driver.send(&data.repeat(100));
            }
            assert!(driver.round_trip(), "the connection is closed: {:?}", driver.goaway);
            assert_goes_on(&mut client, &mut driver, other);
        });
    }
    let name = "a_call_outlives_many_that_were_cancelled_with_whole_responses_coming";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = wide(world);
        driver.meet(&mut client);
        let other = begin(&mut client, &mut driver);
        for _ in 0..5 {
            let ids: Vec<u32> = (0..95).map(|_| client.start(&client.request(), true)).collect();
            let streams: Vec<u32> = ids.iter().map(|_| driver.await_stream()).collect();
            cancel(&mut client, &ids);
            for stream in streams {
                driver.answer(stream);
                for _ in 0..5 {
                    assert_eq!(driver.speak(stream, &frame::message(20)), 25);
                }
                driver.finish(stream, 0);
            }
            assert!(driver.round_trip(), "the connection is closed: {:?}", driver.goaway);
        }
        assert_goes_on(&mut client, &mut driver, other);
    });
}

/// Calls that are refused at their HEADERS, while the client has sent their bodies behind them.
fn refused(cases: &mut Cases) {
    type Bend = fn(Request) -> Request;
    let table: [(&str, Spec, Bend); 2] = [
        ("of_an_unknown_team", Spec::default(), |request| request.team("nobody")),
        ("without_a_token", proof::spec(""), |request| request.without("authorization")),
    ];
    for (what, spec, bend) in table {
        let name = format!("a_long_call_outlives_3400_refused_calls_{what}");
        cases.own(name, spec, move |world| {
            if !world.is_sconce() {
                return;
            }
            let mut client = world.client();
            let request = client.request().with("authorization", proof::ANN.bearer());
            let long = client.start(&request.clone().script("end;h;hold"), true);
            assert!(client.pump(|c| c.streams.contains_key(&long), SOON), "no HEADERS");
            let block = bend(request).block();
            let began = Instant::now();
            for round in 1..=68 {
                let ids: Vec<u32> = (0..50).map(|_| client.take_id()).collect();
                let calls = ids.iter().flat_map(|id| {
                    let body = frame::data(*id, false, &frame::message(30));
                    let end = frame::data(*id, true, &[]);
                    [frame::headers(*id, false, &block), body, end].concat()
                });
                let calls: Vec<u8> = calls.collect();
                client.send(&calls);
                for id in &ids {
                    let reply = client.finish(*id);
                    assert!(
                        reply.status().is_some_and(|status| status != 0),
                        "not refused in round {round}: {reply:?}, goaway {:?}",
                        client.goaway
                    );
                    client.streams.remove(id);
                }
                // Ten rounds, or 500 calls, a second.
                let due = began + Duration::from_millis(100 * round);
                client.pump(|_| false, due.saturating_duration_since(Instant::now()));
            }
            assert!(client.round_trip());
            assert_eq!(client.goaway, None, "the connection was ended");
            assert!(!client.streams[&long].is_over(), "{:?}", client.streams[&long]);
        });
    }
}

/// Sends DATA on a stream that sconce has reset until the connection is ended.
fn floods_of_clients(cases: &mut Cases) {
    type Octets = &'static [u8];
    let table: [(&str, Octets); 3] =
        [("small_frames", &[7; 100]), ("large_frames", &[7; 16_000]), ("empty_frames", &[])];
    for (what, octets) in table {
        let name = format!("{what}_beyond_the_window_of_a_refused_call_end_the_client_connection");
        cases.own(name, Spec::default(), move |world| {
            if !world.is_sconce() {
                return;
            }
            let mut client = world.client();
            let id = client.start(&client.request().team("nobody"), false);
            assert!(client.finish(id).status().is_some_and(|status| status != 0));
            let data = frame::data(id, false, octets);
            let mut sent = 0;
            while sent < 50_000 && client.goaway.is_none() && !client.closed {
                client.send(&data.repeat(50));
                client.poll();
                sent += 50;
            }
            client.pump(|c| c.closed, SOON);
            let code = client.goaway.map(|(_, code)| code);
            let fits = [Some(ENHANCE_YOUR_CALM), Some(FLOW_CONTROL_ERROR)];
            assert!(fits.contains(&code), "{code:?} after {sent} frames");
            world.client().must_work();
        });
    }
}

fn floods_of_drivers(cases: &mut Cases) {
    for (what, octets) in [("small_frames", 100), ("large_frames", 16_000)] {
        let name =
            format!("{what}_beyond_the_window_of_a_cancelled_call_end_the_driver_connection");
        cases.own(name, Spec::default(), move |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let mut client =
                world.client_with(Manners { connection_bump: 4 << 20, ..Manners::default() });
            driver.meet(&mut client);
            let (one, its_stream) = begin(&mut client, &mut driver);
            let (other, _) = begin(&mut client, &mut driver);
            cancel(&mut client, &[one]);
            let data = frame::data(its_stream, false, &vec![7; octets]);
            let mut sent = 0;
            while sent < 50_000 && driver.goaway.is_none() && !driver.is_closed {
                driver.send(&data.repeat(10));
                driver.poll();
                sent += 10;
            }
            driver.pump(|u| u.is_closed, SOON);
            assert!(driver.is_closed, "the connection is open after {sent} frames");
            let reply = client.finish(other);
            reply.assert_no_success();
            let calm = client.request().team("calm");
            client.must_succeed(&calm);
        });
    }
}
