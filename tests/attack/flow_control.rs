//! RFC 9113, section 6.9: whatever opens a window resumes what was waiting for it, and nothing that
//! closes one stops other streams.

use std::time::Duration;

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::{SERVICE, literal};
use crate::support::frame;
use crate::support::proof::{self, ANN};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

const A_WHILE: Duration = Duration::from_millis(200);

pub fn cases(cases: &mut Cases) {
    cases.suite("flow_control");
    settings_of_the_driver(cases);
    settings_of_the_client(cases);
    credit_of_responses(cases);
    another_connection(cases);
    two_drivers(cases);
    ends(cases);
    many_that_shrink(cases);
    many_at_once(cases);
}

/// The driver raises INITIAL_WINDOW_SIZE and sends no WINDOW_UPDATE for the stream.
fn settings_of_the_driver(cases: &mut Cases) {
    for (name, closed, raises) in [
        (
            "an_upload_resumes_when_the_driver_raises_initial_window_size_from_0",
            0,
            &[1_048_576][..],
        ),
        (
            "an_upload_resumes_when_the_driver_raises_initial_window_size_from_1000",
            1000,
            &[1_048_576],
        ),
        (
            "an_upload_resumes_each_time_the_driver_raises_initial_window_size",
            1000,
            &[1001, 2000, 20_000, 30_000, 65_535],
        ),
        (
            "an_upload_resumes_when_a_window_that_became_negative_is_raised",
            1000,
            &[10, 900, 1200, 1_048_576],
        ),
    ] {
        cases.own(name, Spec::default(), move |world| {
            let offer = Offer { initial: Some(closed), ..Offer::default() };
            let mut driver = Upstream::replace(world, offer);
            let mut client = world.client();
            driver.meet(&mut client);
            let ids = [(); 2].map(|()| client.start(&client.request(), false));
            for id in ids {
                assert!(client.upload(id, 32_000, true));
            }
            let streams = ids.map(|_| driver.await_stream());
            let mut most = usize::try_from(closed).unwrap();
            for window in [closed].iter().chain(raises) {
                if *window != closed {
                    driver.change(*window);
                }
                most = most.max(usize::try_from(*window).unwrap()).min(32_000);
                for id in streams {
                    driver.pump(|u| u.received(id) >= most, SOON);
                    driver.round_trip();
                    let received = driver.received(id);
                    assert_eq!(received, most, "of stream {id}, with windows of {window} octets");
                }
            }
            for (id, stream) in ids.into_iter().zip(streams) {
                driver.pump(|u| u.streams[&stream].ended, SOON);
                assert!(driver.streams[&stream].ended, "the end of the request did not come");
                driver.answer(stream);
                driver.finish(stream, 0);
                assert_eq!(client.finish(id).status(), Some(0));
            }
        });
    }
}

/// Octets that are on their way while the client shrinks its windows.
const UNDER_WAY: usize = 400_000;

/// A client that grants no credit by itself, and a stream on which more was sent than the windows
/// of this size now let through: they were 1 MiB when the driver sent it.
pub fn shrink(
    world: &World,
    driver: &mut Upstream,
    window: u32,
    under_way: usize,
) -> (Client, u32, u32) {
    let mut client = world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 1 << 20)],
        connection_bump: 4 << 20,
        credit: false,
        ..Manners::default()
    });
    driver.meet(&mut client);
    let id = client.start(&client.request(), true);
    let stream = driver.await_stream();
    driver.answer(stream);
    assert!(client.pump(|c| c.streams.contains_key(&id), SOON), "no HEADERS");
    client.change(&[(frame::INITIAL_WINDOW_SIZE, window)]);
    assert!(client.round_trip());
    // sconce knows the smaller window, and the driver does not.
    assert_eq!(driver.speak(stream, &frame::message(under_way - 5)), under_way);
    let window = usize::try_from(window).unwrap();
    client.pump(|c| c.streams[&id].body.len() >= window, SOON);
    assert_eq!(client.streams[&id].body.len(), window, "of what the new window lets through");
    (client, id, stream)
}

/// A call on the same connection is answered; it needs no window.
fn assert_interrupts(client: &mut Client, driver: &mut Upstream) {
    let request = client.request().set(":path", format!("{SERVICE}Interrupt"));
    let id = client.start(&request, true);
    let stream = driver.await_stream();
    driver.answer(stream);
    driver.finish(stream, 0);
    let reply = client.finish(id);
    assert_eq!(reply.status(), Some(0), "the call waits behind the other: {reply:?}");
}

/// The client lowers INITIAL_WINDOW_SIZE, and does not read the stream that had the larger window.
fn settings_of_the_client(cases: &mut Cases) {
    for window in [65_536, 1, 0] {
        let name = format!("calls_are_answered_after_the_client_shrank_its_windows_to_{window}");
        cases.own(name, Spec::default(), move |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let (mut client, id, stream) = shrink(world, &mut driver, window, UNDER_WAY);
            for _ in 0..3 {
                assert_interrupts(&mut client, &mut driver);
            }
            // What was held back comes when the window opens.
            driver.finish(stream, 0);
            client.grant(id, u32::try_from(UNDER_WAY).unwrap());
            let reply = client.finish(id);
            assert_eq!(reply.status(), Some(0), "{reply:?}");
            assert_eq!(reply.body.len(), UNDER_WAY);
        });
    }
    let name = "an_upload_goes_on_after_the_client_shrank_its_windows";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer { credit: true, ..Offer::default() });
        let (mut client, _, _) = shrink(world, &mut driver, 65_536, UNDER_WAY);
        let id = client.start(&client.request(), false);
        let stream = driver.await_stream();
        for sent in 1..=40 {
            assert!(client.upload(id, 10_000, sent == 40), "it stops after {sent} x 10,000");
            driver.pump(|u| u.received(stream) >= sent * 10_000, SOON);
            assert_eq!(driver.received(stream), sent * 10_000, "octets at the driver");
        }
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    let name = "calls_are_answered_after_a_driver_shrank_its_windows";
    cases.own(name, Spec::default(), |world| {
        let offer = Offer { initial: Some(1 << 20), connection_bump: 4 << 20, ..Offer::default() };
        let mut driver = Upstream::replace(world, offer);
        let mut client = world.client();
        driver.meet(&mut client);
        let id = client.start(&client.request(), false);
        let stream = driver.await_stream();
        driver.change(0);
        driver.pump(Upstream::is_settled, SOON);
        while client.upload_now(id, 10_000) {
            client.poll();
        }
        for _ in 0..3 {
            assert_interrupts(&mut client, &mut driver);
        }
        assert_eq!(driver.received(stream), 0, "octets beyond the window");
        client.send(&frame::rst(id, frame::CANCEL));
        assert_interrupts(&mut client, &mut driver);
    });
}

/// A client that grants no credit by itself, and a call whose response has begun: its streams at the
/// client and at the driver.
fn begin(world: &World, driver: &mut Upstream, window: u32) -> (Client, u32, u32) {
    let mut client = world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, window)],
        connection_bump: 100_000,
        credit: false,
        ..Manners::default()
    });
    driver.meet(&mut client);
    let id = client.start(&client.request(), true);
    let stream = driver.await_stream();
    driver.answer(stream);
    assert!(client.pump(|c| c.streams.contains_key(&id), SOON), "no HEADERS");
    (client, id, stream)
}

/// What a client grants reaches the driver once: not less, and not twice.
fn credit_of_responses(cases: &mut Cases) {
    let name = "a_window_that_a_client_shrinks_and_then_opens_is_open_at_the_driver";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let (mut client, id, stream) = begin(world, &mut driver, 1000);
        client.change(&[(frame::INITIAL_WINDOW_SIZE, 0)]);
        assert!(client.round_trip());
        // The driver has not acknowledged the smaller window yet.
        client.grant(id, 500);
        assert!(client.round_trip());
        driver.pump(|u| u.stream_window(stream) == 500, SOON);
        assert!(driver.round_trip());
        driver.pump(|u| u.stream_window(stream) == 500, SOON);
        assert_eq!(driver.stream_window(stream), 500, "octets that the driver may send");
        assert_eq!(driver.speak(stream, &frame::message(495)), 500);
        driver.finish(stream, 0);
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
    });
    let name = "a_window_that_a_client_changes_many_times_is_the_same_at_the_driver";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let (mut client, id, stream) = begin(world, &mut driver, 1000);
        for window in [0, 5000, 10, 70_000, 0, 300, 65_535, 1, 0, 20_000, 7] {
            client.change(&[(frame::INITIAL_WINDOW_SIZE, window)]);
            client.grant(id, 11);
            assert!(client.round_trip());
        }
        let window = client.stream_open(id);
        assert_eq!(window, 7 + 11 * 11);
        driver.pump(|u| u.stream_window(stream) == window, SOON);
        assert_eq!(driver.stream_window(stream), window, "octets that the driver may send");
    });
    // What a client grants while a frame has come in part.
    for (what, is_stream) in [("stream", true), ("connection", false)] {
        let name = format!("a_frame_that_came_in_part_is_not_granted_twice_on_its_{what}");
        cases.own(name, Spec::default(), move |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let (mut client, id, stream) = begin(world, &mut driver, 200_000);
            let data = frame::data(stream, false, &frame::message(16_379));
            let (front, rest) = data.split_at(1000);
            driver.spend(stream, 16_384);
            driver.send(front);
            let body = |c: &Client| c.streams[&id].body.len();
            assert!(client.pump(|c| body(c) == 1000 - 9, SOON), "the front of a frame waits");
            // As much as makes sconce return credit, which it does in pieces.
            client.grant(id, 50_000);
            client.grant(0, 200_000);
            assert!(client.round_trip());
            client.pump(|_| false, A_WHILE);
            driver.send(rest);
            assert!(client.pump(|c| body(c) == 16_384, SOON), "the rest of a frame waits");
            assert!(driver.round_trip());
            driver.pump(|_| false, A_WHILE);
            let [granted, open] = match is_stream {
                true => [driver.stream_window(stream), client.stream_open(id)],
                // What may be buffered comes on top.
                false => [driver.window, client.connection_open() + 65_536],
            };
            assert!(granted <= open, "the driver may send {granted} octets, and {open} fit");
        });
    }
}

/// What is buffered of the responses of a driver connection that has gone is not granted again.
fn another_connection(cases: &mut Cases) {
    let name = "a_new_driver_connection_is_not_granted_what_is_buffered_from_another";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let (mut client, id, stream) = begin(world, &mut driver, 100_000);
        client.change(&[(frame::INITIAL_WINDOW_SIZE, 0)]);
        assert!(client.round_trip());
        assert_eq!(driver.speak(stream, &frame::message(59_995)), 60_000);
        driver.finish(stream, 0);
        assert!(driver.round_trip());
        driver.close();
        client.pump(|_| false, A_WHILE);
        let other = client.start(&client.request(), true);
        driver.accept_again();
        let stream = driver.await_stream();
        assert!(driver.round_trip());
        driver.pump(|_| false, A_WHILE);
        // What may be buffered comes on top of the client's window.
        let open = client.connection_open() + 65_536 - 60_000;
        assert!(driver.window <= open, "the driver may send {}, and {open} fit", driver.window);
        driver.answer(stream);
        driver.finish(stream, 0);
        assert_eq!(client.finish(other).status(), Some(0));
        client.grant(id, 60_000);
        let reply = client.finish(id);
        assert_eq!((reply.status(), reply.body.len()), (Some(0), 60_000), "{reply:?}");
    });
}

/// Each driver of a client connection may send what the connection's window is, so that together
/// they send more than fits.
fn two_drivers(cases: &mut Cases) {
    let name = "calls_of_a_team_are_answered_while_another_team_fills_the_connection_window";
    cases.own(name, Spec::default(), |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client_with(Manners {
            settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 4 << 20)],
            connection_bump: (1 << 20) - 65_535,
            credit: false,
            ..Manners::default()
        });
        let large = client.request().script("end;h;z300;d1000000;hold");
        let ids = ["ads", "web"].map(|team| client.start(&large.clone().team(team), true));
        let all = |c: &Client| {
            let bodies = c.streams.values().map(|reply| reply.body.len());
            bodies.sum::<usize>()
        };
        assert!(client.pump(|c| all(c) == 1 << 20, SOON), "{} octets came", all(&client));
        client.pump(|_| false, A_WHILE);
        for team in ["ads", "web", "ads", "web"] {
            let id = client.start(&client.request().team(team).script("end;o5"), true);
            let reply = client.finish(id);
            assert_eq!(reply.status(), Some(5), "a call of {team} waits: {reply:?}");
        }
        // What was held back comes when the window opens.
        client.grant(0, 2 << 20);
        let rest = |c: &Client| ids.iter().all(|id| c.streams[id].body.len() == 1_000_005);
        assert!(client.pump(rest, SOON), "{} octets came", all(&client));
    });
}

/// Clients that shrink their windows when much is under way cannot make others stand still.
fn many_that_shrink(cases: &mut Cases) {
    let name = "a_client_that_shrank_its_windows_is_answered_although_many_others_did_so_too";
    cases.own(name, Spec::default(), |world| {
        if !world.is_sconce() {
            return;
        }
        let hoard = |octets: usize| {
            let mut client = world.client_with(Manners {
                settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 4 << 20)],
                connection_bump: 4 << 20,
                credit: false,
                ..Manners::default()
            });
            // A driver that does not hear of the smaller window.
            let script = format!("end;h;deaf;z400;d{octets};hold");
            let id = client.start(&client.request().script(&script), true);
            assert!(client.pump(|c| c.streams.contains_key(&id), SOON), "no HEADERS");
            client.change(&[(frame::INITIAL_WINDOW_SIZE, 0)]);
            assert!(client.round_trip());
            client
        };
        let mut others: Vec<Client> = (0..12).map(|_| hoard(3_900_000)).collect();
        for client in &mut others {
            client.pump(|_| false, A_WHILE);
        }
        drop(world.driver_sees(&others[11].case, SOON, |served| served.ended));
        let mut driver = Upstream::replace(world, Offer::default());
        let (mut client, _, _) = shrink(world, &mut driver, 65_536, UNDER_WAY);
        for _ in 0..3 {
            assert_interrupts(&mut client, &mut driver);
        }
    });
}

/// Stream windows that open one right after the other let through more than is written at one time.
fn many_at_once(cases: &mut Cases) {
    let name = "uploads_go_on_when_the_windows_of_many_streams_open_at_once";
    cases.own(name, Spec::default(), |world| {
        let offer = Offer { initial: Some(0), connection_bump: 8 << 20, ..Offer::default() };
        let mut driver = Upstream::replace(world, offer);
        let mut client = world.client();
        driver.meet(&mut client);
        let ids: Vec<u32> = (0..12).map(|_| client.start(&client.request(), false)).collect();
        let streams: Vec<u32> = ids.iter().map(|_| driver.await_stream()).collect();
        for id in &ids {
            assert!(client.upload(*id, 60_000, true), "more than the first window");
        }
        assert!(client.round_trip());
        let all: Vec<u8> =
            streams.iter().flat_map(|id| frame::window_update(*id, 1 << 20)).collect();
        for stream in &streams {
            driver.streams.entry(*stream).or_default().allowed += 1 << 20;
        }
        driver.send(&all);
        for stream in streams {
            driver.pump(|u| u.streams[&stream].ended, SOON);
            assert!(driver.streams[&stream].ended, "stream {stream}: {}", driver.received(stream));
        }
    });
}

/// The end of a request has no octets, so that it waits for no window and behind no other request.
fn ends(cases: &mut Cases) {
    for (what, spec, is_stamped) in
        [("plain", Spec::default(), false), ("stamped", proof::spec(""), true)]
    {
        for (how, by_trailers) in [("an_empty_frame", false), ("trailers", true)] {
            let name = format!("the_end_of_a_{what}_request_by_{how}_needs_no_window");
            cases.own(name, spec.clone(), move |world| {
                let offer = Offer { initial: Some(1 << 20), ..Offer::default() };
                let mut driver = Upstream::replace(world, offer);
                let mut client = world.client();
                let request = if is_stamped { proof::of(&client, &ANN) } else { client.request() };
                driver.meet_with(&mut client, &request);
                // One request has come but for its end, another one fills the connection.
                let id = client.start(&request, false);
                let message = framed(&[field(1, "ids"), field(3, "plan")].concat());
                assert!(client.speak(id, &message, 16_384, false));
                let stream = driver.await_stream();
                let came = |u: &Upstream| u.received(stream) >= message.len();
                assert!(driver.pump(came, SOON), "the message did not come");
                let large = client.start(&request, false);
                let message = framed(&[field(1, "ids"), field(3, vec![7; 150_000])].concat());
                assert!(client.speak(large, &message[..100_000], 16_384, false), "no window");
                driver.await_stream();
                assert!(driver.pump(|u| u.allowed == 0, SOON), "{} octets fit", driver.allowed);
                assert!(client.round_trip());
                match by_trailers {
                    true => client.send(&frame::headers(id, true, &literal(b"x-end", b"1"))),
                    false => client.send(&frame::data(id, true, &[])),
                }
                driver.pump(|u| u.streams[&stream].ended, SOON);
                assert!(driver.streams[&stream].ended, "the end waits for a window");
                driver.answer(stream);
                driver.finish(stream, 0);
                assert_eq!(client.finish(id).status(), Some(0));
            });
        }
    }
}
