//! Metrics and log lines about unreachable drivers: which one, since when, why, and whose calls
//! fail.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::SOON;
use crate::support::driver::{self, Greeting};
use crate::support::probe::eventually;
use crate::support::runner::{Cases, quick};
use crate::support::world::{Spec, World};

const ADS: &str = "team=\"ads\",environment=\"prod\"";

pub fn cases(cases: &mut Cases) {
    cases.suite("driver_health");
    cases.own(
        "a_driver_that_dies_is_logged_once_and_so_is_its_return",
        Spec::default(),
        dies_and_returns,
    );
    cases.own(
        "a_driver_that_returns_while_nobody_calls_is_reachable_again",
        Spec::default(),
        |world| {
            world.driver.lock().unwrap().kill();
            fail(world, 1);
            assert_eq!(up(world), Some(0.0));
            world.driver.lock().unwrap().revive();
            let patience = Duration::from_secs(15);
            eventually("it is reachable again", patience, || up(world) == Some(1.0));
            once(world, "driver reachable again");
        },
    );
    for (what, greeting, reason) in [
        ("says_nothing", Greeting::BlackHole, "no_http2"),
        ("closes_at_once", Greeting::CloseAtOnce, "no_http2"),
        ("speaks_something_else", Greeting::Octets(b"HTTP/1.1 400\r\n\r\n".to_vec()), "no_http2"),
    ] {
        let driver = driver::Spec { greeting, ..driver::Spec::default() };
        let spec = Spec { config: quick(), driver };
        cases.own(format!("a_driver_that_{what}_is_unreachable"), spec, move |world| {
            fail(world, 2);
            assert_unreachable(world, reason);
        });
    }
    let spec = Spec { config: quick(), ..Spec::default() };
    cases.own("a_driver_that_stands_still_is_unreachable", spec, |world| {
        let mut client = world.client();
        let id = client.call(&client.request().script("end;deaf;hold"));
        client.finish_within(id, Duration::from_secs(5)).assert_no_success();
        assert_unreachable(world, "silent");
        client.must_work();
        once(world, "driver reachable again");
    });
    cases.own(
        "open_calls_and_their_times_are_counted_by_team_and_environment",
        Spec::default(),
        counted_by_team,
    );
}

/// What was logged with this message of the team `ads`.
fn told(world: &World, message: &str) -> Vec<Value> {
    let lines = world.sconce.as_ref().unwrap().lock().unwrap().lines(message);
    lines.into_iter().filter(|line| line["team"] == "ads").collect()
}

/// The same, which is one line, once it is there.
fn once(world: &World, message: &str) -> Vec<Value> {
    eventually(message, SOON, || !told(world, message).is_empty());
    let lines = told(world, message);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines
}

fn metric(world: &World, line: &str) -> Option<f64> {
    world.sconce.as_ref().unwrap().lock().unwrap().metric(line)
}

fn up(world: &World) -> Option<f64> {
    metric(world, &format!("sconce_driver_up{{{ADS}}}"))
}

/// Makes calls, all of which fail.
fn fail(world: &World, times: usize) {
    for _ in 0..times {
        let mut client = world.client();
        let id = client.call(&client.request());
        client.finish_within(id, Duration::from_secs(5)).assert_no_success();
    }
}

fn assert_unreachable(world: &World, reason: &str) {
    let lines = once(world, "driver unreachable");
    let address = world.driver.lock().unwrap().address.to_string();
    let line = &lines[0];
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["environment"], "prod");
    assert_eq!(line["address"], address);
    assert_eq!(line["reason"], reason);
    assert_eq!(up(world), Some(0.0));
}

fn dies_and_returns(world: &World) {
    let mut client = world.client();
    client.must_work();
    assert_eq!(up(world), Some(1.0));
    world.driver.lock().unwrap().kill();
    fail(world, 5);
    assert_unreachable(world, "refused");
    let failures = metric(
        world,
        &format!("sconce_upstream_connect_failures_total{{{ADS},reason=\"refused\"}}"),
    );
    assert_eq!(failures, Some(5.0));
    world.driver.lock().unwrap().revive();
    for _ in 0..3 {
        world.client().must_work();
    }
    let lines = once(world, "driver reachable again");
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["environment"], "prod");
    assert!(lines[0]["duration"].as_str().is_some_and(|it| it.ends_with('s')), "{lines:?}");
    assert_eq!(up(world), Some(1.0));
}

fn counted_by_team(world: &World) {
    let mut client = world.client();
    let held = client.call(&client.request().script("end;h;d2;hold"));
    assert!(client.pump(|c| c.streams.get(&held).is_some_and(|it| it.body.len() == 7), SOON));
    let of = format!("{{method=\"Config\",{ADS}");
    assert_eq!(metric(world, &format!("sconce_calls_active{of}}}")), Some(1.0));
    assert_eq!(metric(world, &format!("sconce_call_first_byte_seconds_count{of}}}")), Some(1.0));
    let ended = || {
        let duration = metric(world, &format!("sconce_call_duration_seconds_count{of}}}"));
        let calls = |code: &str, by: &str| {
            metric(world, &format!("sconce_calls_total{of},code=\"{code}\",answered_by=\"{by}\"}}"))
        };
        (
            duration,
            calls("OK", "driver"),
            calls("INTERNAL", "driver"),
            calls("UNAVAILABLE", "sconce"),
        )
    };
    client.must_work();
    let id = client.call(&client.request().script("end;h;t13"));
    assert_eq!(client.finish(id).status(), Some(13));
    assert_eq!(ended(), (Some(2.0), Some(1.0), Some(1.0), None));
    world.driver.lock().unwrap().kill();
    client.finish(held).assert_no_success();
    assert_eq!(ended(), (Some(3.0), Some(1.0), Some(1.0), Some(1.0)));
    assert_eq!(metric(world, &format!("sconce_calls_active{of}}}")), Some(0.0));
    let id = client.call(&client.request().set("x-sconce-env", "test"));
    assert_eq!(client.finish(id).status(), Some(5));
    let of = "method=\"Config\",team=\"ads\",environment=\"-\"";
    let refused = format!("sconce_calls_total{{{of},code=\"NOT_FOUND\",answered_by=\"sconce\"}}");
    assert_eq!(metric(world, &refused), Some(1.0));
}
