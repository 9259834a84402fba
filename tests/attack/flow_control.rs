//! RFC 9113, section 6.9: whatever opens a window resumes what was waiting for it, and nothing that
//! closes one stops other streams.

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::SERVICE;
use crate::support::frame;
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.room("flow_control");
    settings_of_the_driver(cases);
    settings_of_the_client(cases);
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
fn shrink(world: &World, driver: &mut Upstream, window: u32) -> (Client, u32, u32) {
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
    assert_eq!(driver.speak(stream, &frame::message(UNDER_WAY - 5)), UNDER_WAY);
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
            let (mut client, id, stream) = shrink(world, &mut driver, window);
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
        let (mut client, _, _) = shrink(world, &mut driver, 65_536);
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
