//! Token expiry: a stream ends with its caller's token, and a request completed later is refused.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, SOON};
use crate::support::fields::{Request, SERVICE};
use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::signer::{Signer, claims_but, jwks, now};
use crate::support::world::Spec;

pub fn cases(cases: &mut Cases) {
    cases.suite("token_expiry");
    late(cases);
    early(cases);
    running(cases);
}

const LONG: Duration = Duration::from_secs(5);

fn world(signer: &Signer) -> Spec {
    proof::spec_with_keys(jwks(&[signer.jwk()]))
}

fn ask(client: &Client, token: &str, method: &str) -> Request {
    let request = proof::bare(client).with("authorization", format!("Bearer {token}"));
    request.set(":path", format!("{SERVICE}{method}")).script("end;h;hold")
}

/// An `ExecutePlanRequest` that says whether its stream may be taken up again.
fn plan(is_reattachable: u8) -> Vec<u8> {
    let options = field(5, [0x0a, 2, 8, is_reattachable]);
    framed(&[field(1, "ids"), field(3, "plan"), options].concat())
}

fn late(cases: &mut Cases) {
    for (what, option) in [("can", 1), ("cannot", 0)] {
        let one = Signer::new("one");
        let name = format!("a_plan_that_{what}_be_taken_up_again_comes_too_late_for_its_token");
        add(cases, name, world(&one), move |world| {
            let mut client = world.client();
            let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
            let id = client.start(&ask(&client, &token, "ExecutePlan"), false);
            let body = plan(option);
            let (front, rest) = body.split_at(12);
            assert!(client.speak(id, front, 16_384, false));
            client.pump(|_| false, Duration::from_millis(3_100));
            // It may be told before it has sent the rest.
            client.speak(id, rest, 16_384, true);
            let reply = client.finish_within(id, LONG);
            assert_eq!(reply.status(), Some(UNAUTHENTICATED), "{reply:?}");
            assert_eq!(reply.message(), proof::EXPIRED);
            let served = world
                .driver_sees(&client.case, SOON, |served| served.ended || served.reset.is_some());
            assert!(!served.ended, "the driver has the plan");
        });
    }
}

/// The driver answers before it has the request, and goes on or not when the token has ended.
fn early(cases: &mut Cases) {
    for (what, script) in [
        ("does_not_answer", "hold"),
        ("has_answered", "h;d5;hold"),
        ("goes_on_with_its_answer", "h;d5;z3100;d5;hold"),
        ("answers_later", "z3100;h;d5;hold"),
    ] {
        let one = Signer::new("one");
        let name = format!("a_plan_that_is_not_whole_ends_with_its_token_if_the_driver_{what}");
        add(cases, name, world(&one), move |world| {
            let mut client = world.client();
            let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
            let request = ask(&client, &token, "ExecutePlan").without("x-script").script(script);
            let id = client.start(&request, false);
            assert!(client.speak(id, &plan(1)[..12], 16_384, false));
            let reply = client.finish_within(id, LONG);
            assert_eq!(reply.status(), Some(UNAUTHENTICATED), "{reply:?}");
            assert_eq!(reply.message(), proof::EXPIRED);
            client.must_succeed(&proof::of(&client, &proof::ANN));
        });
    }
}

fn running(cases: &mut Cases) {
    let one = Signer::new("one");
    let name = "a_stream_that_can_be_taken_up_again_ends_with_its_token";
    add(cases, name, world(&one), move |world| {
        let mut client = world.client();
        let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
        let id = client.start(&ask(&client, &token, "ExecutePlan"), false);
        assert!(client.speak(id, &plan(1), 16_384, true));
        assert_eq!(client.finish_within(id, LONG).status(), Some(0));
    });
    let one = Signer::new("one");
    let name = "a_stream_that_cannot_be_taken_up_again_outlives_its_token";
    add(cases, name, world(&one), move |world| {
        let mut client = world.client();
        let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
        let id = client.start(&ask(&client, &token, "ExecutePlan"), false);
        assert!(client.speak(id, &plan(0), 16_384, true));
        let is_over =
            |client: &Client| client.streams.get(&id).is_some_and(|reply| reply.is_over());
        let is_cut = client.pump(is_over, Duration::from_millis(3_500));
        assert!(!is_cut, "{:?} {:?}", client.streams.get(&id), client.closed);
    });
    let one = Signer::new("one");
    let name = "a_stream_that_ended_with_its_token_is_not_admitted_again_to_end_at_once";
    add(cases, name, world(&one), move |world| {
        let mut client = world.client();
        let token = one.sign(&claims_but(&json!({"exp": now() as f64 + 2.9})));
        let id = client.start(&ask(&client, &token, "ExecutePlan"), false);
        assert!(client.speak(id, &plan(1), 16_384, true));
        assert_eq!(client.finish_within(id, LONG).status(), Some(0));
        let id = client.start(&ask(&client, &token, "ReattachExecute"), false);
        assert!(client.speak(id, &framed(&field(1, "ids")), 16_384, true));
        assert_eq!(client.finish(id).status(), Some(UNAUTHENTICATED));
    });
}
