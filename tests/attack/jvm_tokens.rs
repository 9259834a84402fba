//! Tokens of Spark's JVM clients up to 4.0.x: in `authentication`, on TLS channels.

use crate::support::client::{Client, SOON};
use crate::support::fields::{Request, SERVICE};
use crate::support::proof::{self, ANN, BOB, UNAUTHENTICATED, add};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    accepted(cases);
    refused(cases);
    withheld(cases);
}

type Bend = fn(Request) -> Request;

/// Headers as the driver saw them, one a line.
fn seen(world: &World, client: &Client) -> String {
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    served.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

fn accepted(cases: &mut Cases) {
    let table: [(&str, Bend); 4] = [
        ("in_authentication", |r| r.with("authentication", ANN.bearer())),
        ("in_authentication_in_lower_case", |r| {
            r.with("authentication", ANN.bearer().replace("Bearer", "bearer"))
        }),
        ("in_both_headers", |r| {
            r.with("authentication", ANN.bearer()).with("authorization", ANN.bearer())
        }),
        ("in_both_headers_the_other_way_round", |r| {
            r.with("authorization", ANN.bearer()).with("authentication", ANN.bearer())
        }),
    ];
    for (what, bend) in table {
        let name = format!("a_token_{what}_proves_its_owner_and_goes_no_further");
        add(cases, name, proof::spec(""), move |world| {
            let mut client = world.client();
            let message = [field(1, "ids"), context("eve", "Eve")].concat();
            for _ in 0..2 {
                client.case = world.mark();
                let block = bend(proof::bare(&client)).block();
                let id = proof::ask(&mut client, &block, &framed(&message));
                assert_eq!(proof::answerer(&client.finish(id)), "ads");
                let served = world.driver_sees(&client.case, SOON, |served| served.ended);
                let arrived = &protobuf::messages(&served.body)[0];
                protobuf::assert_stamped(&message, arrived, (ANN.user, ANN.display));
                let seen = seen(world, &client);
                let names = ["authenti", "authoriz", ANN.token];
                assert!(names.iter().all(|name| !seen.contains(name)), "{seen}");
            }
        });
    }
}

fn refused(cases: &mut Cases) {
    const DUPLICATE: &str = "authenticate.duplicate";
    const MALFORMED: &str = "authenticate.malformed";
    const CONTRADICTION: &str = "authenticate.conflicting_headers";
    let table: [(&str, &str, Bend); 7] = [
        ("another_token_in_authorization", CONTRADICTION, |r| {
            r.with("authentication", ANN.bearer()).with("authorization", BOB.bearer())
        }),
        ("another_token_in_authorization_before_it", CONTRADICTION, |r| {
            r.with("authorization", BOB.bearer()).with("authentication", ANN.bearer())
        }),
        ("another_scheme_in_authorization", CONTRADICTION, |r| {
            r.with("authentication", ANN.bearer()).with("authorization", "Basic YW5uOmFubg==")
        }),
        ("an_empty_authorization", CONTRADICTION, |r| {
            r.with("authentication", ANN.bearer()).with("authorization", "")
        }),
        ("a_second_authentication", DUPLICATE, |r| {
            r.with("authentication", ANN.bearer()).with("authentication", BOB.bearer())
        }),
        ("two_equal_fields_of_authorization", DUPLICATE, |r| {
            let r = r.with("authentication", ANN.bearer());
            r.with("authorization", ANN.bearer()).with("authorization", ANN.bearer())
        }),
        ("no_scheme", MALFORMED, |r| r.with("authentication", ANN.token)),
    ];
    for (what, label, bend) in table {
        let name = format!("a_token_in_authentication_with_{what}_is_refused");
        add(cases, name, proof::spec(""), move |world| {
            let mut client = world.client();
            let bend = if label == MALFORMED {
                bend(proof::bare(&client))
            } else {
                // The good token is known by itself: what stands beside it counts all the same.
                client.must_succeed(&proof::of(&client, &ANN));
                client.must_succeed(&proof::bare(&client).with("authentication", ANN.bearer()));
                client.case = world.mark();
                bend(proof::bare(&client))
            };
            let id = client.call(&bend);
            let reply = client.finish(id);
            proof::assert_refused(world, &reply, UNAUTHENTICATED, label);
            proof::assert_unasked(world, &client.case);
        });
    }
}

/// Names of credentials that must not reach a driver, whoever asks for them.
const WITHHELD: [&str; 17] = [
    "authorization",
    "authentication",
    "proxy-authorization",
    "proxy_authorization",
    "proxy-authentication",
    "proxy_authentication",
    "x-authorization",
    "x_authorization",
    "x-authentication",
    "x_authentication",
    "x-forwarded-authorization",
    "x_forwarded-authorization",
    "authorization_x",
    "authentication-x",
    "_authorization_",
    "cookie",
    "cookie2",
];

/// Names that only resemble them.
const PASSED: [&str; 4] = ["x-author", "x-authorized-by", "authorizations", "x-cookies"];

fn open_spec() -> Spec {
    let mut spec = proof::spec("");
    spec.config.extra = String::new();
    spec.config.members = Vec::new();
    spec.config.proof = None;
    spec
}

fn withheld(cases: &mut Cases) {
    let run = |world: &World, request: fn(&Client) -> Request| {
        for name in WITHHELD {
            let mut client = world.client();
            let request = request(&client).set(":path", format!("{SERVICE}ExecutePlan"));
            if request.0.iter().any(|(known, _)| known == name.as_bytes()) {
                continue;
            }
            client.must_succeed(&request.with(name, ANN.bearer()));
            let seen = seen(world, &client);
            assert!(!seen.contains(ANN.token), "{name} has reached the driver: {seen}");
        }
        for name in PASSED {
            let mut client = world.client();
            client.must_succeed(&request(&client).with(name, "a value"));
            let seen = seen(world, &client);
            assert!(seen.contains(&format!("{name}: a value")), "{name} is not there: {seen}");
        }
    };
    let name = "no_spelling_of_a_credential_reaches_a_driver_where_callers_are_authenticated";
    add(cases, name, proof::spec(""), move |world| {
        run(world, |client| {
            let request = proof::bare(client).with("authorization", ANN.bearer());
            request.with("authentication", ANN.bearer())
        });
    });
    let name = "no_spelling_of_a_credential_reaches_a_driver_where_nobody_is_authenticated";
    add(cases, name, open_spec(), move |world| run(world, Client::request));
}
