//! Streams that end for reauthentication while part of the response is buffered: the client gets
//! that
//! part and OK, whatever happens to the upstream connection.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::SERVICE;
use crate::support::frame;
use crate::support::proof::{self, ANN, add};
use crate::support::protobuf::{field, framed};
use crate::support::runner::{Cases, quick};
use crate::support::signer::{Signer, claims_but, jwks, now};
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("reauthentication");
    type Act = fn(&mut Upstream, u32);
    let acts: [(&str, Act); 4] = [
        ("does_nothing", |_, _| {}),
        ("sends_goaway", |driver, last| driver.send(&frame::goaway(last, frame::NO_ERROR))),
        ("closes_its_connection", |driver, _| driver.close()),
        ("aborts_its_connection", |driver, _| driver.abort()),
    ];
    for (what, act) in acts {
        let one = Signer::new("one");
        let name = format!("a_suspended_stream_gives_what_is_buffered_if_the_driver_{what}");
        add(cases, name, spec(&one), move |world| {
            let (mut client, mut driver, id, stream) = suspended(world, &one);
            act(&mut driver, stream);
            client.pump(|_| false, Duration::from_millis(300));
            take_rest(&mut client, id);
        });
    }
    let one = Signer::new("one");
    let name = "a_complete_response_that_is_buffered_keeps_its_status_when_its_token_expires";
    add(cases, name, spec(&one), move |world| {
        let (mut client, mut driver, id, stream) = begun(world, &one);
        driver.finish(stream, 5);
        client.pump(|_| false, Duration::from_millis(3_300));
        client.grant(0, 1 << 20);
        let reply = client.finish(id);
        assert_eq!(reply.body.len(), RESPONSE, "octets of the response: {reply:?}");
        assert_eq!(reply.status(), Some(5), "{reply:?}");
    });
    let one = Signer::new("one");
    let name = "a_stream_that_its_driver_ends_with_the_message_that_suspends_it_ends_once";
    add(cases, name, spec(&one), move |world| {
        let (mut client, mut driver, id, stream) = asked(world, &one);
        driver.answer(stream);
        let message = frame::message(RESPONSE - 5);
        let (front, last) = message.split_at(RESPONSE - 100);
        assert_eq!(driver.speak(stream, front), front.len());
        assert!(
            client.pump(|c| c.streams.get(&id).is_some_and(|it| it.body.len() == WINDOW), SOON)
        );
        for _ in 0..66 {
            client.pump(|_| false, Duration::from_millis(50));
            driver.poll();
        }
        driver.spend(stream, last.len());
        driver.send(&frame::data(stream, true, last));
        driver.round_trip();
        take_rest(&mut client, id);
        // What the client takes, and what may be buffered: nothing counts as buffered any more.
        let granted = |u: &Upstream| u.window >= (1 << 20) + 45_000;
        assert!(driver.pump(granted, SOON), "the driver may send {} octets", driver.window);
    });
    let one = Signer::new("one");
    let name = "a_driver_that_stands_still_is_found_after_a_suspended_stream_and_goaway";
    add(cases, name, spec(&one), move |world| {
        let (mut client, mut driver, id, _) = suspended(world, &one);
        let other = client.start(&plan_of_ann(&client), true);
        let stream = driver.await_stream();
        driver.answer(stream);
        assert!(client.pump(|c| c.streams.contains_key(&other), SOON), "no HEADERS");
        driver.send(&frame::goaway(stream, frame::NO_ERROR));
        assert!(driver.round_trip());
        take_rest(&mut client, id);
        // From now on it answers no PING.
        let reply = client.finish_within(other, Duration::from_secs(8));
        reply.assert_no_success();
    });
    let one = Signer::new("one");
    let name = "other_streams_end_well_after_a_suspended_stream_and_goaway";
    add(cases, name, spec(&one), move |world| {
        let (mut client, mut driver, id, _) = suspended(world, &one);
        let other = client.start(&plan_of_ann(&client), true);
        let stream = driver.await_stream();
        driver.answer(stream);
        driver.send(&frame::goaway(stream, frame::NO_ERROR));
        assert!(driver.round_trip());
        // The next call goes to another connection, and the suspended one does not.
        let next = client.start(&plan_of_ann(&client), true);
        take_rest(&mut client, id);
        let message = frame::message(500_000);
        let mut sent = 0;
        while sent < message.len() {
            let more = driver.speak(stream, &message[sent..]);
            sent += more;
            let grown = |u: &Upstream| u.room(stream) > 0;
            assert!(more > 0 || driver.pump(grown, SOON), "no credit after {sent} octets");
            client.poll();
        }
        driver.finish(stream, 0);
        let reply = client.finish(other);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        assert_eq!(reply.body.len(), message.len());
        driver.accept_again();
        let stream = driver.await_stream();
        assert_eq!(driver.streams.len(), 1, "the suspended call was sent again");
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(next).status(), Some(0));
    });
}

/// Octets of a connection window that the client has not opened any further.
const WINDOW: usize = 65_535;
/// Octets of a response of which the rest is buffered.
const RESPONSE: usize = WINDOW + 20_000;

/// A driver that stands still is found in about a second.
fn spec(signer: &Signer) -> Spec {
    let mut spec = proof::spec_with_keys(jwks(&[signer.jwk()]));
    let timeouts = quick().timeouts.into_iter().map(|(key, value)| match key {
        "window_closed" => (key, "30s"),
        key => (key, value),
    });
    spec.config.timeouts = timeouts.collect();
    spec
}

fn plan_of_ann(client: &Client) -> crate::support::fields::Request {
    proof::of(client, &ANN).set(":path", format!("{SERVICE}ExecutePlan"))
}

/// A call that can be reattached and whose token has expired, while a part of its response is
/// buffered: its streams at the client and at the driver.
fn suspended(world: &World, signer: &Signer) -> (Client, Upstream, u32, u32) {
    let (mut client, mut driver, id, stream) = begun(world, signer);
    // The token ends within three seconds.
    let is_reset = |u: &Upstream| u.streams[&stream].reset.is_some();
    for _ in 0..80 {
        client.pump(|_| false, Duration::from_millis(50));
        driver.poll();
        if is_reset(&driver) {
            break;
        }
    }
    assert!(is_reset(&driver), "the call was not suspended: {:?}", client.streams[&id]);
    assert!(!client.streams[&id].is_over(), "nothing was buffered: {:?}", client.streams[&id]);
    (client, driver, id, stream)
}

/// The same while the token is good.
fn begun(world: &World, signer: &Signer) -> (Client, Upstream, u32, u32) {
    let (mut client, mut driver, id, stream) = asked(world, signer);
    driver.answer(stream);
    assert_eq!(driver.speak(stream, &frame::message(RESPONSE - 5)), RESPONSE);
    let body = |c: &Client| c.streams.get(&id).map_or(0, |reply| reply.body.len());
    assert!(client.pump(|c| body(c) == WINDOW, SOON), "of the first window");
    (client, driver, id, stream)
}

/// The same before the driver has answered.
fn asked(world: &World, signer: &Signer) -> (Client, Upstream, u32, u32) {
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 1 << 20)],
        credit: false,
        ..Manners::default()
    });
    let request = proof::of(&client, &ANN);
    driver.meet_with(&mut client, &request);
    let token = signer.sign(&claims_but(&json!({"exp": now() + 2})));
    let request = proof::bare(&client).with("authorization", format!("Bearer {token}"));
    let id = client.start(&request.set(":path", format!("{SERVICE}ExecutePlan")), false);
    let plan = [field(1, "ids"), field(3, "plan"), field(5, [0x0a, 2, 8, 1])].concat();
    assert!(client.speak(id, &framed(&plan), 16_384, true));
    let stream = driver.await_stream();
    assert!(driver.pump(|u| u.streams[&stream].ended, SOON), "the plan did not come");
    (client, driver, id, stream)
}

/// Opens the window: what was buffered comes, and then OK.
fn take_rest(client: &mut Client, id: u32) {
    client.grant(0, 1 << 20);
    let reply = client.finish(id);
    assert_eq!(reply.body.len(), RESPONSE, "octets of the response: {reply:?}");
    assert_eq!(reply.status(), Some(0), "{reply:?}");
}
