//! Refused calls: each client connection has a budget of them.

use std::time::Duration;

use crate::support::client::{Client, SOON};
use crate::support::frame::{self, ENHANCE_YOUR_CALM};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

/// Calls that no honest connection has refused in so short a time.
const FLOOD: usize = 20_000;

pub fn cases(cases: &mut Cases) {
    cases.suite("refusal_budget");
    cases.own("a_flood_of_refused_calls_ends_with_goaway", Spec::default(), |world| {
        let mut client = world.client();
        flood(&mut client);
        assert_calmed(world, &mut client);
        assert!(client.pump(|c| c.closed, SOON), "the connection is still open after GOAWAY");
        world.client().must_work();
    });
    cases.own("a_call_under_way_survives_a_flood_of_refused_calls", Spec::default(), |world| {
        let mut client = world.client();
        let own = client.request().script("end;h;d100;t0");
        let id = client.start(&own, false);
        client.pump(|_| false, Duration::from_millis(100));
        flood(&mut client);
        assert_calmed(world, &mut client);
        client.send(&frame::data(id, true, &frame::message(100)));
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        assert_eq!(reply.body.len(), 105);
    });
    cases.own("two_thousand_refused_calls_that_are_read_end_nothing", Spec::default(), |world| {
        let mut client = world.client();
        for _ in 0..2_000 {
            let id = client.call(&stranger(&client));
            assert_eq!(client.finish(id).status(), Some(5), "goaway {:?}", client.goaway);
        }
        client.must_work();
    });
}

/// A request for a team that does not exist.
fn stranger(client: &Client) -> crate::support::fields::Request {
    client.request().team("nobody")
}

fn flood(client: &mut Client) {
    let block = stranger(client).block();
    let mut sent = 0;
    while sent < FLOOD && !client.closed && client.goaway.is_none() {
        let batch: Vec<u8> =
            (0..100).flat_map(|_| frame::headers(client.take_id(), true, &block)).collect();
        client.send(&batch);
        client.poll();
        sent += 100;
        // Calls that cross GOAWAY have a budget of their own, which ends the connection.
        if sent % 1_000 == 0 {
            client.round_trip();
        }
    }
}

fn assert_calmed(world: &World, client: &mut Client) {
    client.pump(|c| c.goaway.is_some() || c.closed, SOON);
    assert_eq!(client.goaway.map(|(_, code)| code), Some(ENHANCE_YOUR_CALM));
    if let Some(sconce) = &world.sconce {
        let fired = sconce.lock().unwrap().guards();
        assert_eq!(fired, ["limit=\"refused_calls\",side=\"downstream\" 1"]);
    }
}
