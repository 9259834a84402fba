//! Permission that is withdrawn while a request is incomplete: the request is refused.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, SOON};
use crate::support::driver;
use crate::support::fields::{Request, SERVICE};
use crate::support::frame;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, PERMISSION_DENIED, UNAUTHENTICATED, ZOE, add, of};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::signer::{ISSUER, Signer, claims, claims_but, jwks, now, sha256};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("recheck");
    tokens(cases);
    ends(cases);
    keys(cases);
    members(cases);
    time(cases);
    queued(cases);
    untouched(cases);
    age(cases);
}

const METHODS: [&str; 5] = ["ExecutePlan", "AnalyzePlan", "Config", "AddArtifacts", "Interrupt"];
const NOT_FOUND: u32 = 5;
const DEADLINE_EXCEEDED: u32 = 4;

fn home(world: &World) -> std::path::PathBuf {
    world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned()
}

/// Puts one text in the place of another in a file of the configuration.
fn edit(world: &World, file: &str, from: &str, to: &str) {
    let home = home(world);
    let text = std::fs::read_to_string(home.join(file)).unwrap();
    assert!(text.contains(from), "{from:?} is not there: {text}");
    std::fs::write(home.join("new"), text.replacen(from, to, 1)).unwrap();
    std::fs::rename(home.join("new"), home.join(file)).unwrap();
}

/// Waits until a new call of this kind ends so.
fn new_calls_end_with(world: &World, request: &Request, code: u32) {
    let mut client = world.client();
    eventually("the edit is live", SOON, || {
        let id = client.call(request);
        client.finish(id).status() == Some(code)
    });
}

/// A message that is sent in two parts, with `change` in between: how it ends, and whether the
/// driver has got the whole of it.
fn in_two_parts(world: &World, request: &Request, change: impl FnOnce()) -> (Option<u32>, bool) {
    let mut client = world.client();
    let request = request.clone().set("x-case", client.case.clone());
    let id = client.start(&request, false);
    let body = framed(&[field(1, "ids"), field(3, vec![b'p'; 2_000])].concat());
    let (front, rest) = body.split_at(1_100);
    assert!(client.speak(id, front, 16_384, false));
    assert!(client.round_trip());
    change();
    client.speak(id, rest, 16_384, true);
    let reply = client.finish(id);
    let entries = world.driver.lock().unwrap().log.entries(&client.case);
    let is_whole = entries.iter().any(|entry| entry.0.lock().unwrap().ended);
    (reply.status(), is_whole)
}

/// A call of a method, by somebody who shows this.
fn asks(world: &World, bearer: String, method: &str) -> Request {
    let request = proof::bare(&world.client()).with("authorization", bearer);
    request.set(":path", format!("{SERVICE}{method}"))
}

/// The line of the configuration by which a person's token counts.
fn listed(person: &proof::Person) -> String {
    sha256(person.token)
}

fn tokens(cases: &mut Cases) {
    for method in METHODS {
        let name = format!("a_listed_token_that_is_taken_out_begins_no_{method}");
        add(cases, name, proof::spec(""), move |world| {
            let request = asks(world, ANN.bearer(), method);
            let end = in_two_parts(world, &request, || {
                edit(world, "sconce.yaml", &listed(&ANN), &sha256("another"));
                new_calls_end_with(world, &request, UNAUTHENTICATED);
            });
            assert_eq!(end, (Some(UNAUTHENTICATED), false));
        });
    }
    let name = "a_token_that_becomes_somebody_else_s_does_not_finish_a_message_as_its_former_owner";
    add(cases, name, proof::spec(""), |world| {
        let request = asks(world, ANN.bearer(), "Config");
        let (status, is_whole) = in_two_parts(world, &request, || {
            edit(world, "sconce.yaml", "user: ann,", "user: ina,");
            let log = || world.sconce.as_ref().unwrap().lock().unwrap().log();
            eventually("it is live", SOON, || {
                log().iter().any(|line| line.contains("configuration applied"))
            });
        });
        assert!(status.is_some_and(|status| status != 0) && !is_whole, "{status:?}");
    });
}

/// Spark takes artifacts over when their stream ends, and not with each message.
fn ends(cases: &mut Cases) {
    let name = "a_stream_of_whole_messages_is_asked_about_again_when_it_ends";
    add(cases, name, proof::spec(""), |world| {
        let mut client = world.client();
        let request = asks(world, ANN.bearer(), "AddArtifacts");
        let id = client.start(&request.clone().set("x-case", client.case.clone()), false);
        assert!(client.speak(id, &framed(&field(1, "ids")), 16_384, false));
        world.driver_sees(&client.case, SOON, |served| served.received > 0);
        edit(world, "sconce.yaml", &listed(&ANN), &sha256("another"));
        new_calls_end_with(world, &request, UNAUTHENTICATED);
        client.send(&frame::data(id, true, &[]));
        assert_eq!(client.finish(id).status(), Some(UNAUTHENTICATED));
        let served = world.driver_sees(&client.case, SOON, |served| served.is_dropped());
        assert!(!served.ended, "the driver takes the artifacts over");
    });
}

fn keys(cases: &mut Cases) {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let spec = proof::spec_with_keys(jwks(&[one.jwk(), two.jwk()]));
    add(cases, "a_key_that_is_taken_out_begins_nothing", spec, move |world| {
        let request = asks(world, format!("Bearer {}", one.sign(&claims())), "AnalyzePlan");
        let end = in_two_parts(world, &request, || {
            std::fs::write(home(world).join("new"), jwks(&[two.jwk()])).unwrap();
            std::fs::rename(home(world).join("new"), home(world).join("keys.json")).unwrap();
            new_calls_end_with(world, &request, UNAUTHENTICATED);
        });
        assert_eq!(end, (Some(UNAUTHENTICATED), false));
    });
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "an_issuer_that_is_taken_out_begins_nothing", spec, move |world| {
        let request = asks(world, format!("Bearer {}", one.sign(&claims())), "Config");
        let end = in_two_parts(world, &request, || {
            let other = ISSUER.replace("sconce", "other");
            edit(world, "sconce.yaml", &format!("issuer: {ISSUER}"), &format!("issuer: {other}"));
            new_calls_end_with(world, &request, UNAUTHENTICATED);
        });
        assert_eq!(end, (Some(UNAUTHENTICATED), false));
    });
}

fn members(cases: &mut Cases) {
    for method in METHODS {
        let name = format!("a_member_who_is_taken_out_begins_no_{method}");
        add(cases, name, proof::spec(""), move |world| {
            let request = asks(world, ZOE.bearer(), method);
            let end = in_two_parts(world, &request, || {
                edit(world, "teams/ads.yaml", "users: [zoe]", "users: [zoe-b]");
                new_calls_end_with(world, &request, PERMISSION_DENIED);
            });
            assert_eq!(end, (Some(PERMISSION_DENIED), false));
        });
    }
    add(cases, "a_team_that_is_taken_out_gets_nothing_more", proof::spec(""), |world| {
        let request = asks(world, ANN.bearer(), "Config");
        let end = in_two_parts(world, &request, || {
            std::fs::remove_file(home(world).join("teams/ads.yaml")).unwrap();
            new_calls_end_with(world, &request, NOT_FOUND);
        });
        assert_eq!(end, (Some(NOT_FOUND), false));
    });
    add(cases, "an_environment_that_is_taken_out_gets_nothing_more", proof::spec(""), |world| {
        let request = asks(world, ANN.bearer(), "Config");
        let end = in_two_parts(world, &request, || {
            edit(world, "teams/ads.yaml", "prod:", "lab:");
            new_calls_end_with(world, &request, NOT_FOUND);
        });
        assert_eq!(end, (Some(NOT_FOUND), false));
    });
}

fn time(cases: &mut Cases) {
    // Interrupt goes on: it releases something, for which a token is good longer.
    for method in ["AnalyzePlan", "Config", "AddArtifacts", "ArtifactStatus"] {
        let one = Signer::new("one");
        let name = format!("a_token_that_expires_meanwhile_begins_no_{method}");
        add(cases, name, proof::spec_with_keys(jwks(&[one.jwk()])), move |world| {
            let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
            let request = asks(world, format!("Bearer {token}"), method);
            let end = in_two_parts(world, &request, || {
                new_calls_end_with(world, &request, UNAUTHENTICATED);
            });
            assert_eq!(end, (Some(UNAUTHENTICATED), false));
        });
    }
}

/// A driver that takes one stream at a time.
fn one_at_a_time() -> Spec {
    let mut spec = proof::spec("");
    let mut settings = driver::Spec::default().settings;
    settings.push((frame::MAX_CONCURRENT_STREAMS, 1));
    spec.driver.settings = settings;
    spec
}

fn queued(cases: &mut Cases) {
    let name = "a_whole_request_that_waits_for_its_driver_is_asked_about_again_when_it_goes";
    add(cases, name, one_at_a_time(), |world| {
        let mut client = world.client();
        // The driver's SETTINGS were read before its answer.
        let met = client.call(&of(&client, &ZOE));
        assert_eq!(client.finish(met).status(), Some(0));
        client.case = world.mark();
        let hold = of(&client, &ZOE).script("h;hold");
        let first = client.call(&hold);
        world.driver_sees(&client.case, SOON, |_| true);
        let waiting = client.call(&of(&client, &ANN));
        assert!(client.round_trip());
        assert_eq!(world.asked(&client.case), 1, "it does not wait");
        edit(world, "sconce.yaml", &listed(&ANN), &sha256("another"));
        new_calls_end_with(world, &of(&world.client(), &ANN), UNAUTHENTICATED);
        client.send(&frame::rst(first, frame::CANCEL));
        let reply = client.finish(waiting);
        assert_eq!(reply.status(), Some(UNAUTHENTICATED), "{reply:?}");
        assert_eq!(world.asked(&client.case), 1, "it reached the driver");
        let id = client.call(&of(&client, &ZOE));
        assert_eq!(client.finish(id).status(), Some(0), "the connection goes on");
    });
}

fn untouched(cases: &mut Cases) {
    add(cases, "a_reload_that_takes_nothing_away_changes_no_request", proof::spec(""), |world| {
        for method in METHODS {
            let request = asks(world, ANN.bearer(), method);
            let (from, to) = match method {
                "ExecutePlan" => ("skew: 0s", "skew: 1s"),
                "AnalyzePlan" => ("skew: 1s", "skew: 2s"),
                "Config" => ("user: tom,", "user: tim,"),
                "AddArtifacts" => ("name: tom,", "name: tim,"),
                _ => ("skew: 2s", "skew: 0s"),
            };
            let applied = || {
                let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
                log.iter().filter(|line| line.contains("configuration applied")).count()
            };
            let end = in_two_parts(world, &request, || {
                let before = applied();
                edit(world, "sconce.yaml", from, to);
                eventually("it is live", SOON, || applied() > before);
            });
            assert_eq!(end, (Some(0), true), "{method}");
        }
    });
    add(cases, "who_joins_another_team_too_goes_on_in_the_first", proof::spec(""), |world| {
        let request = asks(world, ZOE.bearer(), "Config");
        let end = in_two_parts(world, &request, || {
            let file = home(world).join("teams/web.yaml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, format!("{text}members: {{ users: [zoe] }}\n")).unwrap();
            new_calls_end_with(world, &request, proof::INVALID_ARGUMENT);
        });
        assert_eq!(end, (Some(0), true));
    });
}

fn age(cases: &mut Cases) {
    let mut spec = Spec::default();
    spec.config.timeouts = vec![("body_age", "1s")];
    cases.own("a_body_that_moves_on_for_ever_is_ended_at_its_age", spec.clone(), |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client();
        let id = client.start(&client.request(), false);
        let is_over = |client: &Client| client.streams.get(&id).is_some_and(|it| it.is_over());
        for _ in 0..40 {
            client.upload_now(id, 1_024);
            if client.pump(is_over, Duration::from_millis(100)) {
                break;
            }
        }
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(DEADLINE_EXCEEDED), "{reply:?}");
        assert!(reply.message().contains("timeouts.body_age"), "{reply:?}");
        client.must_work();
    });
    cases.own("an_answer_may_be_older_than_a_body", spec, |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client();
        let request = client.request().script("end;h;hold");
        let id = client.call(&request);
        let is_over = |client: &Client| client.streams.get(&id).is_some_and(|it| it.is_over());
        assert!(!client.pump(is_over, Duration::from_millis(2_000)));
    });
}
