//! Calls queued for a stream of an upstream connection when that connection ends.

use std::time::Duration;

use crate::buffered_responses::signal;
use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::SERVICE;
use crate::support::frame;
use crate::support::proof::{self, ANN, add};
use crate::support::protobuf::framed;
use crate::support::runner::{Cases, quick};
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("queued_calls");
    let name = "a_queued_call_moves_to_a_new_connection_if_goaway_refuses_all_others";
    cases.own(name, Spec::default(), |world| {
        let (mut driver, calls) = queue(world, 1);
        driver.send(&frame::goaway(0, frame::NO_ERROR));
        moves(driver, calls);
    });
    let name = "queued_calls_move_to_a_new_connection_if_goaway_refuses_all_others";
    cases.own(name, Spec::default(), |world| {
        let (mut driver, calls) = queue(world, 5);
        driver.send(&frame::goaway(0, frame::NO_ERROR));
        moves(driver, calls);
    });
    type Act = fn(&mut Upstream);
    let ends: [(&str, Act); 3] = [
        ("the_driver_closes_their_connection", Upstream::close),
        ("the_driver_aborts_their_connection", Upstream::abort),
        ("the_driver_breaks_the_protocol", |driver| driver.send(&frame::window_update(0, 0))),
    ];
    for (what, act) in ends {
        let name = format!("queued_calls_move_to_a_new_connection_if_{what}");
        cases.own(name, Spec::default(), move |world| {
            let (mut driver, calls) = queue(world, 5);
            act(&mut driver);
            moves(driver, calls);
        });
    }
    let spec = Spec { config: quick(), ..Spec::default() };
    let name = "queued_calls_move_to_a_new_connection_if_the_driver_answers_no_ping";
    cases.own(name, spec, |world| {
        let (driver, calls) = queue(world, 5);
        moves(driver, calls);
    });
    let name = "what_came_of_a_queued_request_moves_with_it";
    cases.own(name, Spec::default(), |world| {
        let (mut driver, (mut client, _, _)) = queue(world, 1);
        let id = client.start(&client.request(), false);
        assert!(client.upload(id, 40_000, false));
        assert!(client.round_trip());
        driver.close();
        driver.accept_again();
        driver.await_stream();
        let stream = driver.await_stream();
        assert!(client.upload(id, 10_000, true));
        assert!(driver.pump(|u| u.streams[&stream].ended, SOON), "the request does not end");
        assert_eq!(driver.received(stream), 50_000);
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    let name = "a_call_that_comes_with_the_end_of_its_connection_goes_to_a_new_one";
    cases.own(name, Spec::default(), |world| {
        if !world.is_sconce() {
            return;
        }
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = world.client();
        driver.meet(&mut client);
        signal(world, "STOP");
        driver.close();
        let id = client.start(&client.request(), true);
        std::thread::sleep(Duration::from_millis(50));
        signal(world, "CONT");
        driver.accept_again();
        let stream = driver.await_stream();
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    for (what, act) in [("closes", Upstream::close as Act), ("aborts", Upstream::abort)] {
        let name = format!("calls_whose_headers_wait_for_a_full_socket_move_if_the_driver_{what}");
        let mut spec = Spec::default();
        spec.driver.receive_buffer = Some(64 << 10);
        cases.own(name, spec, move |world| unsent(world, act));
    }
    let name = "a_call_that_was_answered_before_its_headers_left_is_not_sent_again";
    let mut spec = Spec::default();
    spec.driver.receive_buffer = Some(64 << 10);
    cases.own(name, spec, answered_unsent);
    let name = "a_call_moves_that_follows_one_whose_end_was_not_sent";
    let mut spec = Spec::default();
    spec.driver.receive_buffer = Some(64 << 10);
    cases.own(name, spec, follows_unsent);
    let name = "queued_calls_of_a_client_that_breaks_the_protocol_do_not_reach_the_driver";
    cases.own(name, Spec::default(), |world| {
        let (mut driver, (mut client, ..)) = queue(world, 5);
        client.send(&frame::window_update(0, 0));
        assert!(client.pump(|c| c.goaway.is_some(), SOON));
        let count = driver.streams.len();
        driver.pump(|_| false, Duration::from_millis(200));
        assert_eq!(driver.streams.len(), count);
    });
    let name = "a_queued_call_whose_deadline_passes_with_that_of_the_running_one_is_not_sent";
    cases.own(name, Spec::default(), overdue);
    let name = "a_request_whose_connection_cannot_be_written_any_more_comes_whole_or_not_at_all";
    cases.own(name, Spec::default(), unwritten);
    let name = "a_queued_call_moves_if_its_connection_cannot_be_written_any_more";
    cases.own(name, Spec::default(), |world| {
        // An abort may come before all that the driver sent.
        let is_whole = (0..8).any(|_| unwritten_queue(world) == Some(5));
        assert!(is_whole, "what the driver sent was lost each time");
    });
    let name = "a_driver_that_ends_each_connection_at_once_is_dialled_a_few_times_for_a_call";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = world.client();
        let id = client.start(&client.request(), true);
        let is_over = |c: &Client| c.streams.get(&id).is_some_and(|it| it.is_over());
        let mut connections = 0;
        while !client.pump(is_over, Duration::from_millis(20)) {
            if driver.accept_within(Duration::from_millis(100)) {
                connections += 1;
                driver.abort();
            }
            assert!(connections < 10, "it is dialled for ever");
        }
        client.finish(id).assert_no_success();
    });
    let name = "a_queued_call_moves_to_a_new_connection_if_the_driver_takes_no_streams_and_leaves";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = world.client();
        driver.meet(&mut client);
        driver.limit(0);
        assert!(driver.pump(Upstream::is_settled, SOON));
        let id = client.start(&client.request(), true);
        assert!(client.round_trip());
        driver.send(&frame::goaway(0, frame::NO_ERROR));
        driver.accept_again();
        let stream = driver.await_stream();
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    let name = "a_driver_that_breaks_the_protocol_while_a_call_is_queued_is_outlived";
    cases.own(name, Spec::default(), |world| {
        let (mut driver, (mut client, running, queued)) = queue(world, 1);
        driver.send(&frame::window_update(0, 0));
        client.finish(running).assert_no_success();
        assert!(driver.pump(|u| u.goaway.is_some(), SOON), "it is not told");
        let calm = client.request().team("calm");
        client.must_succeed(&calm);
        drop(queued);
    });
    let name = "calls_that_are_refused_when_they_leave_their_queue_are_as_many_as_they_are";
    let mut spec = proof::spec("");
    spec.config.listen.push(("streams_per_connection", "4000"));
    add(cases, name, spec, refused);
}

/// A driver that takes one stream at a time and has it, and calls that wait for theirs.
fn queue(world: &World, count: usize) -> (Upstream, (Client, u32, Vec<u32>)) {
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = world.client();
    driver.meet(&mut client);
    driver.limit(1);
    assert!(driver.pump(Upstream::is_settled, SOON));
    let running = client.start(&client.request(), true);
    driver.await_stream();
    let queued = (0..count).map(|_| client.start(&client.request(), true)).collect();
    assert!(client.round_trip());
    (driver, (client, running, queued))
}

/// The call that was refused has failed, and those that waited are sent anew and answered.
fn moves(mut driver: Upstream, (mut client, running, queued): (Client, u32, Vec<u32>)) {
    client.finish(running).assert_no_success();
    driver.accept_again();
    for id in queued {
        let stream = driver.await_stream();
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    }
    let calm = client.request().team("calm");
    client.must_succeed(&calm);
}

/// Both deadlines pass while sconce stands still, so that it finds them at one time.
fn overdue(world: &World) {
    if !world.is_sconce() {
        return;
    }
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = world.client();
    driver.meet(&mut client);
    driver.limit(1);
    assert!(driver.pump(Upstream::is_settled, SOON));
    let request = client.request().with("grpc-timeout", "500m");
    let running = client.start(&request, true);
    let stream = driver.await_stream();
    let queued = client.start(&request, true);
    assert!(client.round_trip());
    signal(world, "STOP");
    std::thread::sleep(Duration::from_millis(700));
    signal(world, "CONT");
    for id in [running, queued] {
        assert_eq!(client.finish(id).status(), Some(4), "DEADLINE_EXCEEDED");
    }
    assert!(driver.pump(|u| u.streams[&stream].reset.is_some(), SOON));
    assert!(driver.round_trip());
    assert_eq!(driver.streams.keys().next_back(), Some(&stream), "the other one was sent");
}

/// A driver that reads nothing, so that its socket is full, a call whose body fills it, and that
/// one's stream at the driver.
fn full(world: &World) -> (Upstream, (Client, u32, u32)) {
    let offer = Offer { initial: Some(64 << 20), connection_bump: 64 << 20, ..Offer::default() };
    let mut driver = Upstream::replace(world, offer);
    let mut client = world.client();
    driver.meet(&mut client);
    let fills = client.start(&client.request(), false);
    let stream = driver.await_stream();
    let is_open = |c: &Client| c.window_of(fills) >= 8192;
    while client.pump(is_open, Duration::from_millis(400)) {
        assert!(client.upload_now(fills, 8192));
    }
    (driver, (client, fills, stream))
}

/// The driver guesses the number of a stream that it does not know yet.
fn answered_unsent(world: &World) {
    let (mut driver, (mut client, fills, stream)) = full(world);
    let id = client.start(&client.request(), true);
    assert!(client.round_trip());
    driver.answer(stream + 2);
    let is_answered = |c: &Client| c.streams.get(&id).is_some_and(|it| !it.heads.is_empty());
    client.pump(is_answered, SOON);
    driver.close();
    client.finish(fills).assert_no_success();
    client.finish(id).assert_no_success();
    driver.leave();
    assert!(!driver.accept_within(Duration::from_millis(200)), "it is sent again");
}

/// The call that came before was cancelled, and the end of its body waits for the driver still.
fn follows_unsent(world: &World) {
    let (mut driver, (mut client, fills, _)) = full(world);
    let cancelled = client.start(&client.request(), false);
    client.send(&frame::data(cancelled, true, b""));
    client.send(&frame::rst(cancelled, frame::CANCEL));
    let id = client.start(&client.request(), true);
    assert!(client.round_trip());
    driver.close();
    client.finish(fills).assert_no_success();
    driver.accept_again();
    let stream = driver.await_stream();
    driver.answer(stream);
    driver.finish(stream, 0);
    assert_eq!(client.finish(id).status(), Some(0));
}

/// Calls that come when the driver's socket is full.
fn unsent(world: &World, act: fn(&mut Upstream)) {
    let (mut driver, (mut client, fills, _)) = full(world);
    let bare = client.start(&client.request(), true);
    let with_body = client.start(&client.request(), false);
    assert!(client.upload(with_body, 5_000, false));
    assert!(client.round_trip());
    act(&mut driver);
    client.finish(fills).assert_no_success();
    driver.accept_again();
    let first = driver.await_stream();
    let second = driver.await_stream();
    assert!(client.upload(with_body, 5_000, true));
    assert!(driver.pump(|u| u.streams[&second].ended, SOON), "the request does not end");
    assert_eq!([driver.received(first), driver.received(second)], [0, 10_000]);
    for (id, stream) in [(bare, first), (with_body, second)] {
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    }
}

/// A client with open windows, whose socket takes little before it reads.
fn deaf(world: &World) -> Client {
    world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 8 << 20)],
        connection_bump: 8 << 20,
        receive_buffer: Some(4096),
        ..Manners::default()
    })
}

/// The driver is not read, since its client reads nothing, so that its end shows only when a request
/// is written.
fn unwritten(world: &World) {
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = deaf(world);
    driver.meet(&mut client);
    let unread = client.start(&client.request(), true);
    let stream = driver.await_stream();
    driver.answer(stream);
    assert!(driver.speak(stream, &vec![b'd'; 1500 << 10]) > 1 << 20);
    std::thread::sleep(Duration::from_millis(100));
    driver.abort();
    std::thread::sleep(Duration::from_millis(50));
    let id = client.call(&client.request());
    std::thread::sleep(Duration::from_millis(50));
    client.finish(unread).assert_no_success();
    driver.leave();
    if driver.accept_within(Duration::from_millis(500)) {
        let stream = driver.await_stream();
        assert!(driver.pump(|u| u.streams[&stream].ended, SOON), "the request does not end");
        assert_eq!(driver.received(stream), 7, "octets of the request");
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    } else {
        client.finish(id).assert_no_success();
    }
}

/// The call that a queued one waits for ends with what the driver sent before its connection broke,
/// and sconce knows by then that nothing can be written there. How the running call ended.
fn unwritten_queue(world: &World) -> Option<u32> {
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = deaf(world);
    driver.meet(&mut client);
    driver.limit(1);
    assert!(driver.pump(Upstream::is_settled, SOON));
    let running = client.start(&client.request(), false);
    let stream = driver.await_stream();
    let queued = client.start(&client.request(), true);
    assert!(client.round_trip());
    driver.answer(stream);
    assert!(driver.speak(stream, &vec![b'd'; 1100 << 10]) > 1 << 20);
    std::thread::sleep(Duration::from_millis(100));
    driver.finish(stream, 5);
    std::thread::sleep(Duration::from_millis(50));
    driver.abort();
    assert!(client.upload_now(running, 1_000));
    std::thread::sleep(Duration::from_millis(50));
    let status = client.finish(running).status();
    driver.accept_again();
    let stream = driver.await_stream();
    driver.answer(stream);
    driver.finish(stream, 0);
    assert_eq!(client.finish(queued).status(), Some(0));
    status
}

/// Each call that waits is refused as soon as it has its turn.
fn refused(world: &World) {
    let mut driver =
        Upstream::replace(world, Offer { connection_bump: 1 << 20, ..Offer::default() });
    let mut client = world.client();
    let request = proof::of(&client, &ANN);
    driver.meet_with(&mut client, &request);
    driver.limit(1);
    assert!(driver.pump(Upstream::is_settled, SOON));
    let running = client.start(&request, true);
    let stream = driver.await_stream();
    let plan = framed(&[]);
    let body = [&plan[..], &[7, 0, 0, 0, 0]].concat();
    for _ in 0..CALLS {
        let id =
            client.start(&request.clone().set(":path", format!("{SERVICE}ExecutePlan")), false);
        assert!(client.speak(id, &body, 16_384, true));
    }
    assert!(client.round_trip());
    driver.answer(stream);
    driver.finish(stream, 0);
    assert_eq!(client.finish(running).status(), Some(0));
    assert!(driver.pump(|u| u.streams.len() > CALLS, SOON), "the queue stands still");
    assert!(world.client().round_trip());
}

const CALLS: usize = 3500;
