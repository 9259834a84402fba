//! Responses that are buffered while the client's window is closed: they are delivered whole,
//! whatever the driver does afterwards, and data comes before an error.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame;
use crate::support::proof;
use crate::support::reply::Reply;
use crate::support::runner::{Cases, note, quick};
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("buffered_responses");
    complete(cases);
    incomplete(cases);
    several(cases);
    bounded(cases);
    unread(cases);
    found(cases);
    little(cases);
}

/// Octets of a connection window that the client never opened any further.
const WINDOW: usize = 65_535;
/// Octets of a response of which the rest is buffered.
const RESPONSE: usize = WINDOW + 20_000;
const A_WHILE: Duration = Duration::from_millis(300);

/// A client that grants a stream much, and the connection what HTTP/2 does by itself.
fn stingy(world: &World) -> Client {
    world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 1 << 20)],
        credit: false,
        ..Manners::default()
    })
}

/// One message with octets that tell where they belong.
fn message(octets: usize) -> Vec<u8> {
    let body = (0..octets - 5).map(|at| u8::try_from(at % 251).unwrap());
    [&[0][..], &u32::try_from(octets - 5).unwrap().to_be_bytes()]
        .concat()
        .into_iter()
        .chain(body)
        .collect()
}

fn body(client: &Client, id: u32) -> usize {
    client.streams.get(&id).map_or(0, |reply| reply.body.len())
}

/// A call whose response is one message, more than the client takes: its streams at the client and
/// at the driver.
fn begin(client: &mut Client, driver: &mut Upstream, is_request_whole: bool) -> (u32, u32) {
    let id = client.start(&client.request(), is_request_whole);
    let stream = driver.await_stream();
    driver.answer(stream);
    let sent = driver.speak(stream, &message(RESPONSE));
    assert_eq!(sent, RESPONSE, "the driver may not send what is to be buffered");
    assert!(client.pump(|c| body(c, id) == WINDOW, SOON), "of the first window");
    (id, stream)
}

/// Opens the window, and takes what comes to the end of the stream.
fn take_rest(client: &mut Client, id: u32) -> Reply {
    let early = client.streams[&id].clone();
    assert!(!early.is_over(), "the stream ended before its buffered data: {early:?}");
    assert_eq!(early.body.len(), WINDOW);
    client.grant(0, 1 << 20);
    let reply = client.finish(id);
    assert_eq!(reply.body.len(), RESPONSE, "octets of the response: {reply:?}");
    assert_eq!(reply.body, message(RESPONSE), "other octets than the driver's");
    reply
}

type Act = fn(&mut Upstream, u32);

/// What a driver may do after a response. All that it sent before has been read by then.
fn acts() -> Vec<(&'static str, Act)> {
    vec![
        ("resets_the_stream_without_an_error", |driver, stream| {
            driver.send(&frame::rst(stream, frame::NO_ERROR));
        }),
        ("cancels_the_stream", |driver, stream| driver.send(&frame::rst(stream, frame::CANCEL))),
        ("closes_the_connection", |driver, _| driver.close()),
        ("aborts_the_connection", |driver, _| driver.abort()),
        ("sends_goaway_and_closes_the_connection", |driver, stream| {
            driver.send(&frame::goaway(stream, frame::NO_ERROR));
            driver.close();
        }),
        ("sends_a_malformed_frame", |driver, _| driver.send(&frame::window_update(0, 0))),
    ]
}

fn complete(cases: &mut Cases) {
    for (request, is_whole) in [("", true), ("_with_the_request_unfinished", false)] {
        for (what, act) in acts() {
            let name = format!("a_complete_response_is_delivered_if_the_driver_{what}{request}");
            cases.own(name, Spec::default(), move |world| {
                let mut driver = Upstream::replace(world, Offer::default());
                let mut client = stingy(world);
                driver.meet(&mut client);
                let (id, stream) = begin(&mut client, &mut driver, is_whole);
                driver.finish(stream, 0);
                assert!(driver.round_trip());
                act(&mut driver, stream);
                client.pump(|_| false, A_WHILE);
                let reply = take_rest(&mut client, id);
                assert_eq!(reply.status(), Some(0), "{reply:?}");
                let calm = client.request().team("calm");
                client.must_succeed(&calm);
            });
        }
    }
}

/// The response has no trailers: what came of it is delivered, and then an error.
fn incomplete(cases: &mut Cases) {
    let mut acts = acts();
    acts.extend::<[(&str, Act); 4]>([
        ("resets_the_stream_with_an_error", |driver, stream| {
            driver.send(&frame::rst(stream, frame::INTERNAL_ERROR));
        }),
        ("ends_the_response_without_trailers", |driver, stream| {
            driver.send(&frame::data(stream, true, &[]));
        }),
        ("breaks_the_stream", |driver, stream| driver.send(&frame::window_update(stream, 0))),
        ("sends_goaway_below_the_stream", |driver, _| {
            driver.send(&frame::goaway(0, frame::NO_ERROR));
        }),
    ]);
    for (what, act) in acts {
        let name = format!("buffered_data_comes_before_the_error_if_the_driver_{what}");
        cases.own(name, Spec::default(), move |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let mut client = stingy(world);
            driver.meet(&mut client);
            let (id, stream) = begin(&mut client, &mut driver, true);
            assert!(driver.round_trip());
            act(&mut driver, stream);
            client.pump(|_| false, A_WHILE);
            let reply = take_rest(&mut client, id);
            reply.assert_no_success();
            assert!(reply.status().is_some(), "no gRPC status: {reply:?}");
            let calm = client.request().team("calm");
            client.must_succeed(&calm);
        });
    }
}

fn several(cases: &mut Cases) {
    let name = "each_call_of_a_closed_driver_connection_gets_all_that_came_for_it";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = stingy(world);
        driver.meet(&mut client);
        // The first call takes the whole connection window; what comes for the others is buffered.
        let (first, stream) = begin(&mut client, &mut driver, true);
        driver.finish(stream, 0);
        let mut others = Vec::new();
        for status in [Some(0), None, Some(5), None] {
            let id = client.start(&client.request(), true);
            let stream = driver.await_stream();
            driver.answer(stream);
            assert_eq!(driver.speak(stream, &message(3000)), 3000);
            if let Some(status) = status {
                driver.finish(stream, status);
            }
            others.push((id, status));
        }
        let unanswered = client.start(&client.request(), true);
        driver.await_stream();
        assert!(driver.round_trip());
        driver.close();
        let refused = client.finish(unanswered);
        refused.assert_trailers_only();
        refused.assert_no_success();
        let reply = take_rest(&mut client, first);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        for (id, status) in others {
            let reply = client.finish(id);
            assert_eq!(reply.body, message(3000), "stream {id}: {reply:?}");
            match status {
                Some(status) => assert_eq!(reply.status(), Some(status), "{reply:?}"),
                None => reply.assert_no_success(),
            }
        }
    });
}

/// What is buffered for a client that never opens its window does not stay for ever.
fn bounded(cases: &mut Cases) {
    let spec = Spec { config: quick(), ..Spec::default() };
    let name = "a_response_of_a_closed_driver_connection_waits_for_its_client_for_window_closed";
    cases.own(name, spec, |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = stingy(world);
        driver.meet(&mut client);
        let (id, stream) = begin(&mut client, &mut driver, true);
        driver.finish(stream, 0);
        assert!(driver.round_trip());
        let began = Instant::now();
        driver.close();
        let reply = client.finish_within(id, Duration::from_secs(8));
        reply.assert_no_success();
        assert!(began.elapsed() > Duration::from_millis(500), "after {:?}", began.elapsed());
        if world.is_sconce() {
            assert_eq!(proof::refusals(world), [("client.window_closed".to_string(), 1)]);
        }
    });
    let name = "a_response_of_a_closed_driver_connection_can_be_cancelled";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = stingy(world);
        driver.meet(&mut client);
        let (id, stream) = begin(&mut client, &mut driver, true);
        driver.finish(stream, 0);
        assert!(driver.round_trip());
        driver.close();
        client.pump(|_| false, A_WHILE);
        assert!(!client.streams[&id].is_over(), "it ended before: {:?}", client.streams[&id]);
        client.send(&frame::rst(id, frame::CANCEL));
        assert!(client.round_trip());
        client.grant(0, 1 << 20);
        assert!(client.round_trip());
        assert_eq!(body(&client, id), WINDOW, "data after RST_STREAM");
        let calm = client.request().team("calm");
        client.must_succeed(&calm);
    });
}

/// Stops the process or lets it go on, so that it finds two things at one time.
pub fn signal(world: &World, name: &str) {
    let process = world.process().unwrap();
    let command = format!("kill -{name} {}", process.id);
    assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

/// The response has come, nobody has read it yet, and the rest of the request cannot be written.
fn unread(cases: &mut Cases) {
    for (what, act) in [
        ("closes_with_unread_data", (|driver| driver.close()) as fn(&mut Upstream)),
        ("aborts", |driver| driver.abort()),
    ] {
        let name = format!("a_response_is_delivered_if_the_driver_{what}_during_an_upload");
        cases.own(name, Spec::default(), move |world| {
            if !world.is_sconce() {
                return;
            }
            let mut driver = Upstream::replace(world, Offer::default());
            let mut client = world.client();
            driver.meet(&mut client);
            let id = client.start(&client.request(), false);
            let stream = driver.await_stream();
            assert!(client.upload(id, 50_000, false));
            while driver.received(stream) < 20_000 {
                assert!(driver.sip(4096, SOON) > 0, "the upload does not come");
            }
            signal(world, "STOP");
            assert!(client.upload_now(id, 10_000), "the client's window is too small");
            driver.answer(stream);
            assert_eq!(driver.speak(stream, &message(1000)), 1000);
            driver.finish(stream, 0);
            act(&mut driver);
            std::thread::sleep(Duration::from_millis(50));
            signal(world, "CONT");
            let reply = client.finish(id);
            assert_eq!(reply.status(), Some(0), "{reply:?}");
            assert_eq!(reply.body, message(1000));
        });
    }
}

/// A driver that stands still is found, although its client does not take what is buffered.
fn found(cases: &mut Cases) {
    let mut spec = Spec { config: quick(), ..Spec::default() };
    spec.config.timeouts.retain(|(key, _)| *key != "window_closed");
    let name = "a_driver_that_stands_still_is_found_while_its_response_is_buffered";
    cases.own(name, spec.clone(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = stingy(world);
        driver.meet(&mut client);
        begin(&mut client, &mut driver, true);
        let other = client.start(&client.request(), true);
        driver.await_stream();
        // From now on it answers no PING.
        let reply = client.finish_within(other, Duration::from_secs(10));
        reply.assert_no_success();
    });
    let name = "a_driver_that_stands_still_is_found_while_a_response_of_another_is_buffered";
    cases.own(name, spec, |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = stingy(world);
        driver.meet(&mut client);
        let (_, stream) = begin(&mut client, &mut driver, true);
        driver.finish(stream, 0);
        assert!(driver.round_trip());
        driver.close();
        client.pump(|_| false, A_WHILE);
        let other = client.start(&client.request(), true);
        driver.accept_again();
        driver.await_stream();
        let reply = client.finish_within(other, Duration::from_secs(10));
        reply.assert_no_success();
    });
}

/// What is buffered of responses whose driver has gone is bounded over all connections.
fn little(cases: &mut Cases) {
    let name = "responses_of_closed_driver_connections_take_little_memory";
    cases.alone(name, Spec::default(), |world| {
        let Some(process) = world.process() else { return };
        let before = process.resident();
        let hoard = || {
            let mut client = world.client_with(Manners { credit: false, ..Manners::default() });
            let id = client.start(&client.request().script("end;h;d65530;t0"), true);
            assert_eq!(client.finish(id).status(), Some(0), "the window is not what it was");
            // Each has a driver connection of its own, which is closed when it was read.
            for _ in 0..90 {
                let id = client.start(&client.request().script("end;h;d60000;t0;z10;close"), true);
                client.pump(|c| c.streams.contains_key(&id), Duration::from_millis(100));
                client.pump(|_| false, Duration::from_millis(50));
            }
            client
        };
        let clients: Vec<Client> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|_| scope.spawn(hoard)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let grown = process.resident() - before;
        note(format!("buffered behind closed driver connections: {} KiB", grown / 1024));
        assert!(grown < 48 << 20, "memory grew by {grown}");
        drop(clients);
        world.client().must_work();
    });
}
