//! Traffic of legitimate clients at ten times its usual rate is never cut.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame::{self, frame as raw};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

/// A client with the manners of grpc-core.
fn grpc_core(world: &World) -> Client {
    world.client_with(Manners {
        settings: vec![(2, 0), (3, 0), (4, 4_194_304), (5, 4_194_304), (6, 16_384), (65_027, 1)],
        connection_bump: 4_128_769,
        ..Manners::default()
    })
}

fn assert_uncut(client: &mut Client) {
    client.pump(|_| false, Duration::from_millis(50));
    assert_eq!(client.goaway, None, "honest traffic was cut");
    client.must_work();
}

/// So many calls, some at once, with an empty DATA that ends each as grpc-core sends it.
fn many_calls(client: &mut Client, count: usize, at_once: usize) {
    let block = client.request().block();
    for _ in 0..count / at_once {
        let mut out = Vec::new();
        let ids: Vec<u32> = (0..at_once).map(|_| client.take_id()).collect();
        for id in &ids {
            out.extend(frame::headers(*id, false, &block));
            out.extend(frame::data(*id, false, &frame::message(30)));
            out.extend(frame::data(*id, true, &[]));
        }
        client.send(&out);
        for id in &ids {
            let reply = client.finish(*id);
            assert_eq!(reply.status(), Some(0), "{reply:?}, goaway {:?}", client.goaway);
        }
        client.streams.clear();
    }
}

pub fn cases(cases: &mut Cases) {
    cases.suite("legitimate_traffic");
    cases.alone("six_thousand_small_calls_on_one_connection", Spec::default(), |world| {
        let mut client = grpc_core(world);
        many_calls(&mut client, 6000, 50);
        assert_uncut(&mut client);
    });
    cases.alone("a_thousand_calls_one_after_the_other", Spec::default(), |world| {
        let mut client = grpc_core(world);
        many_calls(&mut client, 1000, 1);
        assert_uncut(&mut client);
    });
    cases.alone("twenty_thousand_tiny_messages_up_one_stream", Spec::default(), |world| {
        let mut client = grpc_core(world);
        let id = client.start(&client.request(), false);
        for _ in 0..200 {
            let batch: Vec<u8> =
                (0..100).flat_map(|_| frame::data(id, false, &frame::message(1))).collect();
            client.pump(|c| c.budget > 600, SOON);
            client.budget -= 600;
            client.send(&batch);
            client.poll();
        }
        client.send(&frame::data(id, true, &[]));
        assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
        let served = world.driver_sees(&client.case, SOON, |served| served.ended);
        assert_eq!(served.received, 20_000 * 6);
        assert_uncut(&mut client);
    });
    cases.alone("twenty_thousand_tiny_messages_down_one_stream", Spec::default(), |world| {
        let mut client = grpc_core(world);
        let id = client.call(&client.request().script("end;h;m20000x1;t0"));
        let reply = client.finish_within(id, Duration::from_secs(15));
        assert_eq!(reply.status(), Some(0), "{reply:?}, goaway {:?}", client.goaway);
        assert_eq!(reply.body.len(), 20_000 * 6);
        assert_uncut(&mut client);
    });
    cases.add("two_hundred_pings_in_a_second", |world| {
        let mut client = grpc_core(world);
        for _ in 0..200 {
            client.round_trip();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_uncut(&mut client);
    });
    cases.add("pings_and_settings_of_a_bandwidth_probe_on_a_download", |world| {
        let mut client = grpc_core(world);
        let id = client.call(&client.request().script("end;h;d20000000;t0"));
        for window in [8_388_608, 8_388_608, 16_777_216, 16_777_216, 16_000_000, 17_000_000] {
            for _ in 0..5 {
                client.send(&frame::ping([3; 8]));
                client.pump(|_| false, Duration::from_millis(4));
            }
            client.change(&[(4, window), (5, window.min(16_777_215))]);
        }
        let reply = client.finish_within(id, Duration::from_secs(20));
        assert_eq!(reply.status(), Some(0));
        assert_eq!(reply.body.len(), 20_000_005);
        assert_uncut(&mut client);
    });
    cases.add("a_window_update_for_each_frame_of_a_download", |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;h;m4000x200;t0"));
        let reply = client.finish_within(id, Duration::from_secs(15));
        assert_eq!(reply.status(), Some(0));
        assert_eq!(reply.body.len(), 4000 * 205);
        assert_uncut(&mut client);
    });
    cases.add("a_notebook_that_cancels_a_hundred_calls_three_times", |world| {
        let mut client = grpc_core(world);
        for _ in 0..3 {
            let request = client.request().script("end;h;d100;hold");
            let ids: Vec<u32> = (0..90).map(|_| client.call(&request)).collect();
            let last = ids[89];
            assert!(
                client.pump(|c| c.streams.get(&last).is_some_and(|r| !r.body.is_empty()), SOON)
            );
            ids.iter().for_each(|id| client.send(&frame::rst(*id, frame::CANCEL)));
            client.pump(|_| false, Duration::from_millis(200));
            client.streams.clear();
        }
        assert_uncut(&mut client);
    });
    cases.add("calls_that_are_cancelled_at_once_now_and_then", |world| {
        let mut client = grpc_core(world);
        for _ in 0..50 {
            many_calls(&mut client, 10, 10);
            let id = client.call(&client.request().script("end;hold"));
            client.send(&frame::rst(id, frame::CANCEL));
        }
        assert_uncut(&mut client);
    });
    cases.add("padded_data_both_ways", |world| {
        let mut client = world.client();
        for _ in 0..200 {
            let id = client.start(&client.request().script("end;h;pad20x200;t0"), false);
            client.send(&frame::padded_data(id, false, &frame::message(20), 200));
            client.send(&frame::padded_data(id, true, &[], 30));
            assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
        }
        assert_uncut(&mut client);
    });
    cases.add("eight_continuations_for_each_of_fifty_calls", |world| {
        let mut client = world.client();
        let base = client.request();
        let block = base.clone().with("x-fill", vec![b'v'; 7500 - base.list_size()]).block();
        for _ in 0..50 {
            let id = client.take_id();
            let parts: Vec<&[u8]> = block.chunks(880).collect();
            let mut out = raw(frame::HEADERS, 0, id, parts[0]);
            for (at, part) in parts.iter().enumerate().skip(1) {
                let flags = if at + 1 == parts.len() { frame::END_HEADERS } else { 0 };
                out.extend(raw(frame::CONTINUATION, flags, id, part));
            }
            out.extend(frame::data(id, true, &frame::message(2)));
            client.send(&out);
            assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
        }
        assert_uncut(&mut client);
    });
    cases.add("empty_data_frames_in_pairs", |world| {
        let mut client = world.client();
        for _ in 0..100 {
            let id = client.start(&client.request(), false);
            let empty = frame::data(id, false, &[]);
            client.send(
                &[
                    empty.clone(),
                    empty.clone(),
                    frame::data(id, false, &frame::message(3)),
                    empty.clone(),
                    empty,
                ]
                .concat(),
            );
            client.send(&frame::data(id, true, &[]));
            assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
        }
        assert_uncut(&mut client);
    });
    cases.add("priority_with_every_request", |world| {
        let mut client = world.client();
        for _ in 0..300 {
            client.send(&frame::priority(client.next_id, 0));
            client.must_work();
            client.streams.clear();
        }
        assert_uncut(&mut client);
    });
    cases.add("fifty_errors_of_the_driver_in_a_row", |world| {
        let mut client = grpc_core(world);
        for _ in 0..50 {
            let id = client.call(&client.request().script("end;o13"));
            assert_eq!(client.finish(id).status(), Some(13));
        }
        assert_uncut(&mut client);
    });
    cases.add("two_hundred_resets_by_the_driver", |world| {
        let mut client = grpc_core(world);
        for _ in 0..200 {
            let id = client.call(&client.request().script("end;r2"));
            client.finish(id).assert_no_success();
        }
        assert_uncut(&mut client);
    });
    cases.quick("a_client_that_is_quiet_for_seconds_on_an_open_stream", |world| {
        let mut client = grpc_core(world);
        let id = client.call(&client.request().script("end;h;d5;z3000;d5;t0"));
        let began = Instant::now();
        let reply = client.finish_within(id, Duration::from_secs(8));
        assert_eq!(reply.status(), Some(0), "{reply:?} after {:?}", began.elapsed());
        assert_uncut(&mut client);
    });
}
