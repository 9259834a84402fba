//! RFC 9113, section 6.9: whatever opens a window resumes what was waiting for it, and nothing that
//! closes one stops other streams.

use crate::support::client::SOON;
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::Spec;

pub fn cases(cases: &mut Cases) {
    cases.room("flow_control");
    settings_of_the_driver(cases);
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
