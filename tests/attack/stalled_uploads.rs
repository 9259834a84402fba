//! Uploads to drivers that read nothing: the buffered data of one user takes no memory from others.

use std::time::{Duration, Instant};

use crate::flow_control::shrink;
use crate::support::client::{Client, SOON};
use crate::support::fields::Request;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, BOB, Person, RESOURCE_EXHAUSTED, add};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("stalled_uploads");
    buffered(cases);
    earned(cases);
    small(cases);
    given_back(cases);
}

/// Calls of one connection.
const CALLS: usize = 99;

/// A whole request of so many octets, to a driver that reads nothing of it.
fn stand_still(client: &mut Client, request: &Request, octets: usize) -> u32 {
    let id = client.start(&request.clone().script("starve;hold"), false);
    client.speak(id, &framed(&field(3, vec![7; octets])), 16_384, true);
    id
}

/// A connection whose requests all stand still.
fn pin(world: &World, person: &Person, octets: usize) -> (Client, Vec<u32>) {
    fill(meet(world, person), person, octets)
}

/// A connection that was served once.
fn meet(world: &World, person: &Person) -> Client {
    let mut client = world.client();
    let request = proof::of(&client, person);
    client.must_succeed(&request);
    client
}

fn fill(mut client: Client, person: &Person, octets: usize) -> (Client, Vec<u32>) {
    let request = proof::of(&client, person);
    let ids = (0..CALLS).map(|_| stand_still(&mut client, &request, octets)).collect();
    assert!(client.round_trip());
    (client, ids)
}

/// How many of these calls were told to come later. None may have ended otherwise.
fn turned_away(client: &mut Client, ids: &[u32]) -> usize {
    client.poll();
    let told = ids.iter().filter_map(|id| client.streams.get(id)?.status());
    told.inspect(|status| assert_eq!(*status, RESOURCE_EXHAUSTED)).count()
}

/// Uploads 400 KB of a request that goes on, to a driver that takes them.
fn upload(client: &mut Client, person: &Person) -> u32 {
    let id = client.start(&proof::of(client, person).script("hold"), false);
    let message = framed(&field(3, vec![7; 4_000_000]));
    assert!(client.speak(id, &message[..400_000], 16_384, false), "the upload stands still");
    id
}

/// The window of an upload comes to so many octets.
fn assert_earns(client: &mut Client, id: u32, octets: i64) {
    client.pump(|c| c.window(id) > octets, SOON);
    assert!(client.window(id) > octets, "the window is {}", client.window(id));
}

fn buffered(cases: &mut Cases) {
    let name = "an_upload_earns_its_window_while_requests_of_another_user_stand_still";
    add(cases, name, proof::spec(""), |world| {
        let _pinned: Vec<_> = (0..3).map(|_| pin(world, &ANN, 60_000)).collect();
        let mut client = world.client();
        let id = upload(&mut client, &BOB);
        assert_earns(&mut client, id, 300_000);
    });
    let name = "who_buffers_most_is_turned_away_and_nobody_else_when_memory_is_short";
    add(cases, name, proof::spec(""), |world| {
        let mut ann: Vec<_> = (0..4).map(|_| pin(world, &ANN, 60_000)).collect();
        let mut away =
            move || ann.iter_mut().map(|(client, ids)| turned_away(client, ids)).sum::<usize>();
        assert_eq!(away(), 0, "there was memory left");
        let mut bob: Vec<_> = (0..2).map(|_| pin(world, &BOB, 60_000)).collect();
        eventually("some of ann's calls are turned away", SOON, || away() > 0);
        std::thread::sleep(Duration::from_millis(2500));
        for (client, ids) in &mut bob {
            assert_eq!(turned_away(client, ids), 0, "bob's calls were turned away");
        }
    });
}

fn earned(cases: &mut Cases) {
    let name = "uploads_earn_their_windows_while_those_of_another_user_are_not_used";
    add(cases, name, proof::spec(""), |world| {
        let hoard = || {
            let mut client = world.client();
            let request = proof::of(&client, &ANN);
            client.must_succeed(&request);
            let ids: Vec<u32> = (0..40).map(|_| upload(&mut client, &ANN)).collect();
            assert!(client.round_trip());
            (client, ids)
        };
        let _hoard = hoard();
        let mut client = world.client();
        for _ in 0..4 {
            let id = upload(&mut client, &BOB);
            assert_earns(&mut client, id, 300_000);
        }
    });
}

fn small(cases: &mut Cases) {
    let name = "small_requests_that_no_driver_takes_are_bounded_all_together";
    let mut spec = proof::spec("");
    spec.driver.connection_bump = 0;
    cases.alone(name, spec, |world| {
        if !world.is_sconce() {
            return;
        }
        // Before memory is short: then a plain call of hers may be turned away too.
        let met: Vec<_> = (0..60).map(|_| meet(world, &ANN)).collect();
        let mut all: Vec<_> = met.into_iter().map(|client| fill(client, &ANN, 9_000)).collect();
        let away: usize = all.iter_mut().map(|(client, ids)| turned_away(client, ids)).sum();
        assert!(away > 0, "all of {} calls are buffered", 60 * CALLS);
        let mut bob = world.client();
        let request = proof::of(&bob, &BOB);
        let id = stand_still(&mut bob, &request, 9_000);
        assert!(bob.round_trip());
        assert_eq!(turned_away(&mut bob, &[id]), 0);
    });
}

/// A driver that is not read while memory is short is read when it is not, and not some time later.
fn given_back(cases: &mut Cases) {
    let name = "a_driver_that_was_not_read_is_read_at_once_when_memory_is_given_back";
    cases.own(name, Spec::default(), |world| {
        if !world.is_sconce() {
            return;
        }
        let mut driver = Upstream::replace(world, Offer::default());
        for _ in 0..3 {
            // More than a connection may buffer of its answers while memory is short.
            let (mut client, ..) = shrink(world, &mut driver, 1, 800_000);
            let web = client.request().team("web");
            let mut pinned: Vec<Client> = (0..3).map(|_| world.client()).collect();
            for other in &mut pinned {
                other.must_succeed(&web);
                for _ in 0..CALLS {
                    stand_still(other, &web, 60_000);
                }
                assert!(other.round_trip());
            }
            let id = client.start(&client.request(), true);
            let stream = driver.await_stream();
            driver.answer(stream);
            driver.finish(stream, 0);
            let is_over = |c: &Client| c.streams.get(&id).is_some_and(|it| it.is_over());
            assert!(!client.pump(is_over, Duration::from_millis(300)), "there is memory");
            drop(pinned);
            let began = Instant::now();
            assert_eq!(client.finish(id).status(), Some(0));
            assert!(began.elapsed() < Duration::from_millis(350), "{:?}", began.elapsed());
            driver.leave();
        }
    });
}
