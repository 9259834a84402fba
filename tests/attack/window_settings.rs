//! RFC 9113, sections 5.2 and 6.9: flow-control windows, and SETTINGS that change them.

use std::time::Duration;

use crate::support::client::Verdict::{Goaway, Reset};
use crate::support::client::{Client, Manners, SOON};
use crate::support::frame::{self, FLOW_CONTROL_ERROR, INITIAL_WINDOW_SIZE};
use crate::support::runner::Cases;
use crate::support::world::World;

const A_WHILE: Duration = Duration::from_millis(250);

pub fn cases(cases: &mut Cases) {
    cases.suite("window_settings");
    downloads(cases);
    changes(cases);
    uploads(cases);
}

/// A client that grants nothing by itself, with this first window for each stream.
fn stingy(world: &World, window: u32) -> Client {
    world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, window)],
        credit: false,
        ..Manners::default()
    })
}

fn body(client: &Client, id: u32) -> usize {
    client.streams.get(&id).map_or(0, |reply| reply.body.len())
}

/// Exactly so much arrives, and then no more.
fn assert_body(client: &mut Client, id: u32, expected: usize) {
    client.pump(|c| body(c, id) >= expected, SOON);
    client.pump(|_| false, A_WHILE);
    assert_eq!(body(client, id), expected, "octets of body");
}

fn download(client: &mut Client, octets: usize) -> u32 {
    let request = client.request().script(&format!("end;h;d{octets};t0"));
    client.start(&request, true)
}

fn downloads(cases: &mut Cases) {
    cases.add("a_window_of_0_lets_headers_through_and_no_data", |world| {
        let mut client = stingy(world, 0);
        let id = download(&mut client, 1000);
        assert!(client.pump(|c| c.streams.contains_key(&id), SOON), "no HEADERS");
        assert_body(&mut client, id, 0);
        client.grant(id, 10_000);
        assert_eq!(client.finish(id).status(), Some(0));
        assert_eq!(body(&client, id), 1005);
    });
    cases.add("a_stream_gets_as_much_as_was_granted_to_the_octet", |world| {
        let mut client = stingy(world, 100);
        let id = download(&mut client, 10_000);
        assert_body(&mut client, id, 100);
        client.grant(id, 1);
        assert_body(&mut client, id, 101);
        client.grant(id, 4899);
        assert_body(&mut client, id, 5000);
        client.grant(id, 100_000);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_download_octet_by_octet_is_whole", |world| {
        let mut client = stingy(world, 0);
        let id = download(&mut client, 60);
        for n in 1..=65 {
            client.grant(id, 1);
            client.pump(|c| body(c, id) >= n, SOON);
        }
        assert_eq!(client.finish(id).status(), Some(0));
        assert_eq!(body(&client, id), 65);
    });
    cases.add("the_connection_window_bounds_all_streams_together", |world| {
        let mut client = stingy(world, 1_000_000);
        let ids: Vec<u32> = (0..4).map(|_| download(&mut client, 50_000)).collect();
        let sum = |c: &Client| ids.iter().map(|id| body(c, *id)).sum::<usize>();
        client.pump(|c| sum(c) >= 65_535, SOON);
        client.pump(|_| false, A_WHILE);
        assert_eq!(sum(&client), 65_535);
        client.grant(0, 1_000_000);
        for id in &ids {
            assert_eq!(client.finish(*id).status(), Some(0));
        }
    });
    cases.add("trailers_need_no_window", |world| {
        let mut client = stingy(world, 0);
        let request = client.request().script("end;h;t5");
        let id = client.start(&request, true);
        assert_eq!(client.finish(id).status(), Some(5));
    });
    cases.add("a_closed_stream_window_leaves_siblings_alone", |world| {
        let mut client = stingy(world, 100);
        let stuck = download(&mut client, 500_000);
        assert_body(&mut client, stuck, 100);
        client.must_work();
    });
    cases.add("ten_megabytes_come_whole_in_small_windows", |world| {
        let mut client = world.client();
        let id = download(&mut client, 10_000_000);
        let reply = client.finish_within(id, Duration::from_secs(20));
        assert_eq!(reply.status(), Some(0));
        assert_eq!(reply.body.len(), 10_000_005);
    });
    cases.add("ten_megabytes_come_whole_in_large_windows", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, 4_194_304)],
            connection_bump: 4_128_769,
            ..Manners::default()
        });
        let id = download(&mut client, 10_000_000);
        let reply = client.finish_within(id, Duration::from_secs(20));
        assert_eq!(reply.status(), Some(0));
        assert_eq!(reply.body.len(), 10_000_005);
    });
    cases.add("padded_answers_come_whole", |world| {
        let mut client = world.client();
        let request = client.request().script("end;h;500*pad10x255;t0");
        let id = client.start(&request, true);
        assert_eq!(client.finish(id).status(), Some(0));
        assert_eq!(body(&client, id), 500 * 15);
        client.must_work();
    });
    cases.add("padding_of_a_driver_alone_passes", |world| {
        let mut client = world.client();
        let request = client.request().script("end;h;300*F0.8.s.03000000;d2;t0");
        let id = client.start(&request, true);
        assert_eq!(client.finish(id).status(), Some(0));
        assert_eq!(body(&client, id), 7);
    });
}

fn changes(cases: &mut Cases) {
    cases.add("a_larger_initial_window_lets_running_streams_go_on", |world| {
        let mut client = stingy(world, 100);
        let id = download(&mut client, 1000);
        assert_body(&mut client, id, 100);
        client.change(&[(INITIAL_WINDOW_SIZE, 500)]);
        assert_body(&mut client, id, 500);
        client.change(&[(INITIAL_WINDOW_SIZE, 65_535)]);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_window_that_became_negative_must_be_paid_back_first", |world| {
        let mut client = stingy(world, 1000);
        let id = download(&mut client, 10_000);
        assert_body(&mut client, id, 1000);
        client.change(&[(INITIAL_WINDOW_SIZE, 100)]);
        client.round_trip();
        client.grant(id, 900);
        assert_body(&mut client, id, 1000);
        client.grant(id, 1);
        assert_body(&mut client, id, 1001);
        client.change(&[(INITIAL_WINDOW_SIZE, 0)]);
        client.round_trip();
        client.change(&[(INITIAL_WINDOW_SIZE, 200)]);
        assert_body(&mut client, id, 1101);
        client.grant(id, 20_000);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("windows_that_grow_and_shrink_while_data_flows_break_nothing", |world| {
        let mut client = world.client();
        let id = download(&mut client, 3_000_000);
        for window in [200_000, 65_535, 1, 4_000_000, 0, 100_000, 65_535, 16_384, 1_000_000] {
            client.change(&[(INITIAL_WINDOW_SIZE, window)]);
            client.pump(|_| false, Duration::from_millis(15));
        }
        let reply = client.finish_within(id, Duration::from_secs(15));
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        assert_eq!(reply.body.len(), 3_000_005);
    });
    cases.add("frame_sizes_that_grow_while_data_flows_break_nothing", |world| {
        let mut client = world.client();
        let id = download(&mut client, 3_000_000);
        for size in [4_194_304, 16_384, 8_388_608, 16_777_215, 16_384] {
            client.change(&[(frame::MAX_FRAME_SIZE, size)]);
            client.pump(|_| false, Duration::from_millis(15));
        }
        let reply = client.finish_within(id, Duration::from_secs(15));
        assert_eq!(reply.status(), Some(0), "{reply:?}");
    });
    cases.add("a_stream_opened_right_after_a_change_has_the_new_window", |world| {
        let mut client = stingy(world, 65_535);
        client.change(&[(INITIAL_WINDOW_SIZE, 10)]);
        let id = download(&mut client, 1000);
        assert_body(&mut client, id, 10);
        client.grant(id, 5000);
        assert_eq!(client.finish(id).status(), Some(0));
    });
}

fn uploads(cases: &mut Cases) {
    cases.add("a_megabyte_goes_up_whole", |world| {
        let mut client = world.client();
        let id = client.start(&client.request(), false);
        assert!(client.upload(id, 1_000_000, true), "{:?}", client.streams.get(&id));
        assert_eq!(client.finish(id).status(), Some(0));
        let served = world.driver_sees(&client.case, SOON, |served| served.ended);
        assert_eq!(served.received, 1_000_000);
    });
    cases.add("padding_is_paid_back_to_the_client", |world| {
        let mut client = world.client();
        let id = client.start(&client.request(), false);
        for sent in 0..1500 {
            client.pump(|c| c.budget >= 257, SOON);
            assert!(client.budget >= 257, "no credit for padding after {sent} frames");
            client.budget -= 257;
            client.send(&frame::padded_data(id, false, b"a", 255));
            client.poll();
        }
        client.send(&frame::data(id, true, &[]));
        assert_eq!(client.finish(id).status(), Some(0));
        let served = world.driver_sees(&client.case, SOON, |served| served.ended);
        assert_eq!(served.received, 1500);
    });
    cases.add("a_driver_that_gives_no_credit_stops_the_upload", |world| {
        let mut client = world.client();
        let request = client.request().script("nocredit;end;h;d2;t0");
        let id = client.start(&request, false);
        let mut limit = 0;
        while client.budget > 16_384 && limit < 400 && client.upload(id, 16_384, false) {
            limit += 1;
        }
        assert!(limit < 400, "{} octets were taken that nobody reads", limit * 16_384);
        client.must_work();
    });
    cases.add("an_upload_goes_on_when_the_driver_gives_credit_again", |world| {
        let mut client = world.client();
        let request = client.request().script("nocredit;got60000;z200;credit;end;h;d2;t0");
        let id = client.start(&request, false);
        assert!(client.upload(id, 3_000_000, true), "{:?}", client.streams.get(&id));
        assert_eq!(client.finish(id).status(), Some(0));
    });
    for (name, stream) in [
        ("a_client_beyond_its_stream_window_is_stopped", true),
        ("a_client_beyond_all_windows_is_stopped", false),
    ] {
        cases.add(name, move |world| {
            let mut client = world.client();
            let request = client.request().script("nocredit;hold");
            let ids: Vec<u32> =
                (0..if stream { 1 } else { 8 }).map(|_| client.start(&request, false)).collect();
            let chunk = [b'x'; 16_384];
            for _ in 0..600 {
                for id in &ids {
                    client.send(&frame::data(*id, false, &chunk));
                }
                client.poll();
                if client.goaway.is_some()
                    || client.closed
                    || client.streams.get(&ids[0]).is_some_and(|r| r.reset.is_some())
                {
                    break;
                }
            }
            if client.goaway.is_none()
                && client.streams.get(&ids[0]).is_none_or(|r| r.reset.is_none())
            {
                panic!("ten megabytes beyond the window were swallowed");
            }
            let reset = client.streams.get(&ids[0]).and_then(|reply| reply.reset).map(Reset);
            let verdict = client.goaway.map(|(_, code)| Goaway(code)).or(reset);
            let allowed = [Some(Goaway(FLOW_CONTROL_ERROR)), Some(Reset(FLOW_CONTROL_ERROR))];
            assert!(allowed.contains(&verdict), "{verdict:?}");
        });
    }
}
