//! Log lines of refused calls.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::SOON;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, BOB, PERMISSION_DENIED, TOM, UNAUTHENTICATED, add};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("refusal_log");
    add(cases, "a_refused_call_says_whose_it_was", proof::spec(""), |world| {
        let mut client = world.client();
        let other = proof::of(&client, &BOB).with("x-sconce-team", "ads");
        let id = client.call(&other.with("x-request-id", "req-1"));
        assert_eq!(client.finish(id).status(), Some(PERMISSION_DENIED));
        let id = client.call(&proof::of(&client, &ANN).set("x-sconce-env", "test"));
        assert_eq!(client.finish(id).status(), Some(5));
        let lines = after(world, 2);
        let [bob, ann] = [&lines[0], &lines[1]];
        assert_eq!((&bob["level"], &bob["user"]), (&"INFO".into(), &"bob".into()));
        assert_eq!(bob["label"], "team.not_member");
        assert_eq!(bob["code"], "PERMISSION_DENIED");
        assert_eq!(bob["method"], "Config");
        assert_eq!(bob["request_id"], "req-1");
        assert_eq!(bob.get("team"), None, "he is not in it: {bob}");
        assert!(bob["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{bob}");
        assert_eq!((&ann["user"], &ann["team"]), (&"ann".into(), &"ads".into()));
        assert_eq!(ann["label"], "team.environment_unknown");
        assert_eq!(ann["request_id"].as_str().map(str::len), Some(16), "{ann}");
    });
    add(cases, "a_call_that_proves_nobody_is_logged_without_its_token", proof::spec(""), |world| {
        let mut client = world.client();
        let secret = "wrong-0a1b2c3d4e5f";
        let wrong = proof::bare(&client).with("authorization", format!("Bearer {secret}"));
        let odd = wrong.with("x-request-id", "\u{1b}[2J");
        let id = client.call(&odd);
        assert_eq!(client.finish(id).status(), Some(UNAUTHENTICATED));
        let lines = after(world, 1);
        assert_eq!(lines[0]["label"], "authenticate.malformed");
        assert_eq!(lines[0].get("user"), None);
        assert_eq!(lines[0]["request_id"].as_str().map(str::len), Some(16));
        let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
        assert!(!log.iter().any(|line| line.contains(secret)), "{log:?}");
    });
    add(cases, "a_flood_of_refused_calls_is_a_line_and_a_count", proof::spec(""), |world| {
        for _ in 0..3 {
            let mut client = world.client();
            for _ in 0..50 {
                let id = client.call(&proof::of(&client, &TOM));
                assert_eq!(client.finish(id).status(), Some(PERMISSION_DENIED));
            }
        }
        assert!(refused(world).len() <= 3, "{:?}", refused(world));
        eventually("what was left out is counted", Duration::from_secs(25), || {
            let sconce = world.sconce.as_ref().unwrap().lock().unwrap();
            let left_out = sconce.lines("log lines suppressed by the rate limit");
            let of = left_out.iter().filter(|line| line["line"] == "call refused");
            of.filter_map(|line| line["suppressed"].as_u64()).sum::<u64>() >= 140
        });
    });
    add(cases, "a_call_whose_driver_is_gone_says_whose_it_was", proof::spec(""), |world| {
        world.driver.lock().unwrap().kill();
        let mut client = world.client();
        let id = client.call(&proof::of(&client, &ANN));
        client.finish(id).assert_no_success();
        let lines = after(world, 1);
        let of = ["user", "team", "environment", "label"].map(|key| lines[0][key].clone());
        assert_eq!(of, ["ann", "ads", "prod", "driver.unreachable"].map(Value::from));
    });
    cases.own("a_request_that_is_no_call_is_logged_too", Spec::default(), |world| {
        let mut client = world.client();
        let id = client.call(&client.request().set("content-type", "text/plain"));
        client.finish(id);
        let id = client.call(&client.request().set(":path", "/a/B"));
        client.finish(id);
        let labels: Vec<_> = after(world, 2).iter().map(|line| line["label"].clone()).collect();
        assert_eq!(labels, ["request.not_grpc", "request.unimplemented"]);
    });
    cases.own("a_call_that_succeeds_is_not_logged", Spec::default(), |world| {
        let before = world.sconce.as_ref().unwrap().lock().unwrap().log().len();
        let mut client = world.client();
        (0..20).for_each(|_| client.must_work());
        let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
        assert_eq!(log.len(), before, "{log:?}");
    });
}

fn refused(world: &World) -> Vec<Value> {
    world.sconce.as_ref().unwrap().lock().unwrap().lines("call refused")
}

/// The lines, once there are so many.
fn after(world: &World, count: usize) -> Vec<Value> {
    eventually("the lines are there", SOON, || refused(world).len() >= count);
    let lines = refused(world);
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}
