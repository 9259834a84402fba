//! Refusals that their client does not read: few are buffered for a connection, then it is closed.

use std::time::Duration;

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame::{self, ENHANCE_YOUR_CALM};
use crate::support::probe::eventually;
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("unread_refusals");
    cases.own("refusals_that_nobody_reads_end_the_connection", Spec::default(), |world| {
        let Some(sconce) = &world.sconce else { return };
        let mut client = deaf(world);
        pipeline(&mut client, CALLS);
        eventually("the guard fires", SOON, || !sconce.lock().unwrap().guards().is_empty());
        let guards = sconce.lock().unwrap().guards();
        assert_eq!(guards, ["limit=\"unread_refusals\",side=\"downstream\" 1"]);
        assert!(client.pump(|c| c.closed, SOON), "the connection is open");
        assert_eq!(client.goaway.map(|(_, code)| code), Some(ENHANCE_YOUR_CALM));
        let answered = client.streams.values().filter(|reply| reply.is_over()).count();
        assert!(answered < CALLS, "all {answered} calls were answered");
        world.client().must_work();
    });
    cases.own("a_call_under_way_outlives_refusals_that_were_not_read", Spec::default(), |world| {
        let Some(sconce) = &world.sconce else { return };
        let mut client = deaf(world);
        let id = client.start(&client.request().script("end;h;d100;t0"), false);
        world.driver_sees(&client.case, SOON, |_| true);
        let mut made = 0;
        while made < CALLS && sconce.lock().unwrap().guards().is_empty() {
            pipeline(&mut client, 100);
            made += 100;
        }
        eventually("the guard fires", SOON, || !sconce.lock().unwrap().guards().is_empty());
        client.pump(|c| c.goaway.is_some() || c.closed, SOON);
        assert_eq!(client.goaway.map(|(_, code)| code), Some(ENHANCE_YOUR_CALM));
        client.send(&frame::data(id, true, &frame::message(100)));
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        assert!(client.pump(|c| c.closed, SOON), "the connection is open");
    });
    cases.own("a_thousand_refusals_that_are_read_end_nothing", Spec::default(), |world| {
        let Some(sconce) = &world.sconce else { return };
        let mut client = world.client();
        for at_once in [1, 100] {
            for _ in 0..1000 / at_once {
                let from = client.next_id;
                pipeline(&mut client, at_once);
                let ids: Vec<u32> = (from..client.next_id).step_by(2).collect();
                for id in ids {
                    let reply = client.finish(id);
                    reply.assert_trailers_only();
                    client.streams.remove(&id);
                }
            }
        }
        assert_eq!(client.goaway, None);
        client.must_work();
        assert_eq!(sconce.lock().unwrap().guards(), [""; 0]);
    });
    cases.own("a_client_that_reads_refusals_late_is_served", Spec::default(), |world| {
        let Some(sconce) = &world.sconce else { return };
        let mut client = deaf(world);
        for _ in 0..10 {
            let from = client.next_id;
            pipeline(&mut client, 50);
            std::thread::sleep(Duration::from_millis(50));
            for id in (from..client.next_id).step_by(2) {
                client.finish(id).assert_trailers_only();
            }
        }
        client.must_work();
        assert_eq!(sconce.lock().unwrap().guards(), [""; 0]);
    });
}

/// Refused calls that a connection may make in a short time, if it reads their answers.
const CALLS: usize = 3500;

/// A client whose socket takes little before it reads.
fn deaf(world: &World) -> Client {
    world.client_with(Manners { receive_buffer: Some(4096), ..Manners::default() })
}

/// Makes calls of an unknown team, and reads nothing.
fn pipeline(client: &mut Client, calls: usize) {
    let block = client.request().team("nobody").block();
    let requests: Vec<Vec<u8>> =
        (0..calls).map(|_| frame::headers(client.take_id(), true, &block)).collect();
    for batch in requests.chunks(50) {
        client.send(&batch.concat());
    }
}
