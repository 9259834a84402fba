//! Drivers that crash, restart, hang or send GOAWAY.

use std::time::{Duration, Instant};

use crate::support::client::SOON;
use crate::support::fields::literal;
use crate::support::frame;
use crate::support::runner::{Cases, quick};
use crate::support::script::{answer_block, hex};
use crate::support::world::{CLUSTER, Spec};

pub fn cases(cases: &mut Cases) {
    cases.suite("driver_failures");
    cases.own("a_killed_driver_is_told_to_all_its_streams_at_once", Spec::default(), |world| {
        let mut client = world.client();
        let held = client.request().script("end;hold");
        let begun = client.request().script("end;h;d10;hold");
        let silent: Vec<u32> = (0..20).map(|_| client.call(&held)).collect();
        let speaking: Vec<u32> = (0..20).map(|_| client.call(&begun)).collect();
        let last = speaking[19];
        assert!(client.pump(|c| c.streams.get(&last).is_some_and(|r| r.body.len() == 15), SOON));
        let address = world.driver.lock().unwrap().address.to_string();
        world.driver.lock().unwrap().kill();
        let killed = Instant::now();
        for id in silent {
            client.finish(id).assert_driver_failure(CLUSTER, &address);
        }
        for id in speaking {
            client.finish(id).assert_no_success();
        }
        assert!(killed.elapsed() < Duration::from_secs(1), "only after {:?}", killed.elapsed());
        let reply = {
            let id = client.call(&client.request());
            client.finish(id)
        };
        reply.assert_driver_failure(CLUSTER, &address);
        world.driver.lock().unwrap().revive();
        client.must_work();
    });
    cases.own(
        "a_driver_that_comes_and_goes_is_used_whenever_it_is_there",
        Spec::default(),
        |world| {
            let mut client = world.client();
            for _ in 0..5 {
                client.must_work();
                world.driver.lock().unwrap().kill();
                let id = client.call(&client.request());
                client.finish(id).assert_no_success();
                world.driver.lock().unwrap().revive();
            }
            client.must_work();
        },
    );
    let spec = Spec { config: quick(), ..Spec::default() };
    cases.own("a_driver_that_stops_reading_and_answering_is_found_dead", spec.clone(), |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;deaf;hold"));
        let reply = client.finish_within(id, Duration::from_secs(5));
        let address = world.driver.lock().unwrap().address.to_string();
        reply.assert_driver_failure(CLUSTER, &address);
        client.must_work();
    });
    pauses(cases);
    drips(cases, &spec);
    cases.own("a_long_quiet_query_of_a_driver_that_answers_pings_lives_on", spec, |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;z3500;h;d2;t0"));
        let reply = client.finish_within(id, Duration::from_secs(8));
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        let pings =
            world.driver.lock().unwrap().log.pings.load(std::sync::atomic::Ordering::SeqCst);
        assert!(pings > 0, "the silent driver was never asked");
    });
    cases.add("a_goaway_moves_later_calls_to_another_connection", |world| {
        let mut client = world.client();
        let running =
            client.call(&client.request().script("end;F7.0.0.7fffffff00000000;z400;h;d2;t0"));
        client.pump(|_| false, Duration::from_millis(100));
        (0..3).for_each(|_| client.must_work());
        assert_eq!(client.finish(running).status(), Some(0));
    });
    cases.add("a_driver_connection_lost_between_calls_is_not_noticed", |world| {
        let mut client = world.client();
        for _ in 0..5 {
            let id = client.call(&client.request().script("end;h;d2;t0;z30;close"));
            assert_eq!(client.finish(id).status(), Some(0));
            client.pump(|_| false, Duration::from_millis(120));
            client.must_work();
        }
    });
}

/// A driver that stands still for a while, as a JVM does in a garbage collection, or for good.
fn pauses(cases: &mut Cases) {
    cases.own("a_driver_that_stands_still_for_12_s_loses_no_call", Spec::default(), |world| {
        let mut client = world.client();
        let stands = client.call(&client.request().script("end;nap12000;h;d2;t0"));
        let waits = client.call(&client.request().script("end;z13000;h;d2;t0"));
        for id in [stands, waits] {
            let reply = client.finish_within(id, Duration::from_secs(18));
            assert_eq!(reply.status(), Some(0), "{reply:?}");
        }
    });
    let mut config = quick();
    config.timeouts.retain(|(key, _)| !key.starts_with("driver_"));
    config.timeouts.extend([("driver_keepalive", "300ms"), ("driver_keepalive_ack", "2s")]);
    let spec = Spec { config, ..Spec::default() };
    cases.own("a_driver_may_stand_still_for_nearly_driver_keepalive_ack", spec.clone(), |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;nap1700;h;d2;t0"));
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.own(
        "a_driver_is_found_dead_after_one_driver_keepalive_ack_however_long",
        spec,
        |world| {
            let mut client = world.client();
            let began = Instant::now();
            let id = client.call(&client.request().script("end;deaf;hold"));
            client.finish_within(id, Duration::from_secs(8)).assert_no_success();
            let took = began.elapsed();
            assert!(took < Duration::from_millis(3500), "only after {took:?}");
        },
    );
}

/// A driver that says a little all the time, and never a whole head.
fn drips(cases: &mut Cases, spec: &Spec) {
    let trailers = literal(b"grpc-status", b"0");
    let octets = frame::headers(1, true, &[answer_block(), trailers].concat());
    let drop = |octet: &u8| format!(";z200;X{:02x}", octet);
    let in_octets: String = octets.iter().take(25).map(drop).collect();
    let empty = ";z200;F9.0.s.".repeat(25);
    let begun = "end;h;d2";
    for (what, script) in [
        ("in_octets", format!("end;deaf{in_octets};hold")),
        ("in_continuations", format!("end;deaf;F1.0.s.88{empty};hold")),
        ("in_octets_behind_a_message", format!("{begun};deaf{in_octets};hold")),
        ("in_continuations_behind_a_message", format!("{begun};deaf;F1.1.s.{empty};hold")),
    ] {
        let name = format!("a_driver_whose_head_drips_{what}_is_given_up");
        cases.own(name, spec.clone(), move |world| {
            let mut client = world.client();
            let id = client.call(&client.request().script(&script));
            let reply = client.finish_within(id, Duration::from_millis(2500));
            reply.assert_no_success();
            client.must_work();
        });
    }
    let (front, rest) = octets.split_at(20);
    let slow = format!("end;X{};z250;X{}", hex(front), hex(rest));
    cases.own("a_head_that_comes_in_two_parts_in_time_is_fine", spec.clone(), move |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script(&slow));
        assert_eq!(client.finish(id).status(), Some(0));
    });
}
