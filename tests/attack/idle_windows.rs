//! Grown windows of uploads that stand still do not keep the windows of others small.

use crate::support::client::{Client, SOON};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("idle_windows");
    for (what, end) in [("have_ended", true), ("stand_still", false)] {
        let name = format!("an_upload_earns_its_window_beside_many_that_{what}");
        cases.own(name, Spec::default(), move |world| {
            if !world.is_sconce() {
                return;
            }
            let mut hoarder = world.client();
            let ids: Vec<u32> = (0..40).map(|_| upload(world, &mut hoarder, end)).collect();
            let mut client = world.client();
            let id = upload(world, &mut client, false);
            // What has left of it has mostly come back.
            assert!(client.window(id) > 200_000, "the window is {}", client.window(id));
            assert!(ids.iter().all(|id| !hoarder.streams.get(id).is_some_and(|it| it.is_over())));
        });
    }
}

const OCTETS: usize = 400_000;

/// An upload whose call goes on: its driver has got it all, and its credit has come back.
fn upload(world: &World, client: &mut Client, end: bool) -> u32 {
    let case = client.case.clone();
    let before = world.driver.lock().unwrap().log.entries(&case).len();
    let id = client.start(&client.request().script("h;end;hold"), false);
    assert!(client.upload(id, OCTETS, end), "the upload stands still");
    let has_come = || {
        let entries = world.driver.lock().unwrap().log.entries(&case);
        entries.get(before).is_some_and(|it| it.0.lock().unwrap().received >= OCTETS)
    };
    crate::support::probe::eventually("it has come", SOON, has_come);
    assert!(client.round_trip());
    id
}
