//! Connections on which every stream waits for a peer: no worker spins.

use std::time::Duration;

use crate::flow_control::shrink;
use crate::support::client::{Client, Manners, SOON};
use crate::support::frame;
use crate::support::proof::{self, ANN};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("idle_cpu");
    type Make = fn(&World) -> (Client, Upstream);
    let mut small = Spec::default();
    small.driver.receive_buffer = Some(64 << 10);
    let table: [(&str, Spec, Make); 6] = [
        ("uploads_wait_for_the_connection_window_of_their_driver", Spec::default(), |world| {
            uploads(world, Offer { initial: Some(1 << 20), ..Offer::default() }, false)
        }),
        ("uploads_wait_for_windows_of_one_octet", Spec::default(), |world| {
            uploads(world, Offer { initial: Some(1), ..Offer::default() }, false)
        }),
        ("uploads_wait_for_the_socket_of_their_driver", small, |world| {
            let full =
                Offer { initial: Some(64 << 20), connection_bump: 64 << 20, ..Offer::default() };
            uploads(world, full, false)
        }),
        ("stamped_uploads_wait_for_their_driver", proof::spec(""), |world| {
            uploads(world, Offer { initial: Some(1 << 20), ..Offer::default() }, true)
        }),
        ("a_response_waits_for_windows_that_its_client_shrank", Spec::default(), |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let (client, ..) = shrink(world, &mut driver, 1, 400_000);
            (client, driver)
        }),
        ("a_response_waits_for_the_socket_of_its_client", Spec::default(), |world| {
            let mut driver = Upstream::replace(world, Offer::default());
            let mut client = world.client_with(Manners {
                settings: vec![(frame::INITIAL_WINDOW_SIZE, 16 << 20)],
                connection_bump: 16 << 20,
                receive_buffer: Some(8192),
                ..Manners::default()
            });
            driver.meet(&mut client);
            client.start(&client.request(), true);
            let stream = driver.await_stream();
            driver.answer(stream);
            for _ in 0..100 {
                driver.speak(stream, &frame::message(16_379));
                driver.poll();
            }
            (client, driver)
        }),
    ];
    for (what, spec, make) in table {
        // Alone: what it spends is measured.
        cases.alone(format!("no_worker_spins_while_{what}"), spec, move |world| {
            let (client, driver) = make(world);
            std::thread::sleep(Duration::from_millis(300));
            let Some(process) = world.process() else { return };
            let before = process.cpu();
            std::thread::sleep(Duration::from_secs(1));
            let spent = process.cpu().saturating_sub(before);
            // The canary's calls are among it.
            assert!(spent < Duration::from_millis(250), "{spent:?} of a second");
            drop((client, driver));
        });
    }
}

/// Uploads of one client that wait for their driver, which reads and grants nothing.
fn uploads(world: &World, offer: Offer, is_stamped: bool) -> (Client, Upstream) {
    let mut driver = Upstream::replace(world, offer);
    let mut client = world.client();
    let request = if is_stamped { proof::of(&client, &ANN) } else { client.request() };
    driver.meet_with(&mut client, &request);
    let message = framed(&field(3, vec![7; 32 << 20]));
    let mut at = [0; 4];
    let ids = [(); 4].map(|()| client.start(&request, false));
    let is_open = |c: &Client| ids.iter().any(|id| c.window_of(*id) > 0);
    while client.pump(is_open, Duration::from_millis(300)) {
        for (id, at) in ids.into_iter().zip(&mut at) {
            let open = usize::try_from(client.window_of(id)).unwrap_or(0).min(16_384);
            if open > 0 && *at < 8 << 20 {
                assert!(client.speak(id, &message[*at..*at + open], open, false));
                *at += open;
            }
        }
        if at.iter().all(|at| *at >= 8 << 20) {
            break;
        }
    }
    assert!(client.pump(|c| c.settings_seen > 0, SOON));
    (client, driver)
}
