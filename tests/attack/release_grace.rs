//! Expired tokens within `release_grace`: they end what their user began, and do nothing else.

use serde_json::json;

use crate::support::client::{Client, SOON};
use crate::support::fields::SERVICE;
use crate::support::probe::eventually;
use crate::support::proof::{self, EXPIRED, PERMISSION_DENIED, UNAUTHENTICATED, add};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::signer::{Signer, claims_but, jwks, now};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("release_grace");
    ends(cases);
    sessions(cases);
    bounds(cases);
    strangers(cases);
    taken_away(cases);
}

const RELEASES: [&str; 3] = ["ReleaseExecute", "ReleaseSession", "Interrupt"];
const OTHERS: [&str; 10] = [
    "ExecutePlan",
    "ReattachExecute",
    "AnalyzePlan",
    "Config",
    "AddArtifacts",
    "ArtifactStatus",
    "FetchErrorDetails",
    "CloneSession",
    "GetStatus",
    "ReleaseAll",
];

fn spec(signer: &Signer, lines: &str) -> Spec {
    let mut spec = proof::spec_with_keys(jwks(&[signer.jwk()]));
    let lines = format!("  skew: 0s\n{lines}");
    spec.config.extra = spec.config.extra.replace("  skew: 0s\n", &lines);
    spec
}

/// A token that has expired so many seconds ago.
fn expired(signer: &Signer, ago: u64) -> String {
    signer.sign(&claims_but(&json!({"iat": now() - 2 * ago - 100, "exp": now() - ago})))
}

/// The call of a method, for a session: its message as it came to the driver, or what its caller
/// was told.
fn ask(
    world: &World,
    client: &mut Client,
    (method, token): (&str, &str),
    session: &str,
) -> Result<Vec<u8>, (Option<u32>, String)> {
    client.case = world.mark();
    let request = proof::bare(client).with("authorization", format!("Bearer {token}"));
    let block = request.set(":path", format!("{SERVICE}{method}")).block();
    let id = proof::ask(client, &block, &framed(&message(session)));
    let reply = client.finish(id);
    if reply.status() != Some(0) {
        let entries = world.driver.lock().unwrap().log.entries(&client.case);
        let is_whole = entries.iter().any(|entry| entry.0.lock().unwrap().ended);
        assert!(!is_whole, "the call has reached its driver");
        return Err((reply.status(), reply.message()));
    }
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    Ok(protobuf::messages(&served.body).remove(0))
}

fn message(session: &str) -> Vec<u8> {
    [field(1, session), context("eve", "Eve")].concat()
}

fn refused(told: Result<Vec<u8>, (Option<u32>, String)>) {
    assert_eq!(told, Err((Some(UNAUTHENTICATED), EXPIRED.to_string())));
}

fn ends(cases: &mut Cases) {
    let one = Signer::new("one");
    let name = "an_expired_token_releases_and_interrupts_as_its_user_and_does_nothing_else";
    add(cases, name, spec(&one, ""), move |world| {
        let token = expired(&one, 23 * 3600);
        let mut client = world.client();
        for _ in 0..2 {
            for method in OTHERS {
                refused(ask(world, &mut client, (method, &token), "ids"));
            }
            for method in RELEASES {
                let arrived = ask(world, &mut client, (method, &token), "ids").unwrap();
                protobuf::assert_stamped(&message("ids"), &arrived, ("jay", "Jay J."));
            }
        }
    });
}

fn sessions(cases: &mut Cases) {
    let one = Signer::new("one");
    let name = "an_interrupt_by_an_expired_token_begins_no_session_that_a_grace_would_keep";
    add(cases, name, spec(&one, "  grace: 10m\n"), move |world| {
        let token = expired(&one, 60);
        let mut client = world.client();
        for _ in 0..2 {
            refused(ask(world, &mut client, ("ExecutePlan", &token), "two"));
            for method in RELEASES {
                ask(world, &mut client, (method, &token), "two").unwrap();
            }
        }
    });
    let one = Signer::new("one");
    let name = "a_release_within_the_grace_alone_is_for_sessions_that_began";
    add(cases, name, spec(&one, "  grace: 10m\n  release_grace: 30s\n"), move |world| {
        let mut client = world.client();
        let good = one.sign(&claims_but(&json!({})));
        ask(world, &mut client, ("ExecutePlan", &good), "one").unwrap();
        let token = expired(&one, 60);
        for method in RELEASES {
            refused(ask(world, &mut client, (method, &token), "two"));
            ask(world, &mut client, (method, &token), "one").unwrap();
        }
    });
}

fn bounds(cases: &mut Cases) {
    for (lines, ago) in
        [("", 25 * 3600), ("  release_grace: 1m\n", 61), ("  release_grace: 0s\n", 1)]
    {
        let one = Signer::new("one");
        let name = format!("a_token_that_expired_{ago}_seconds_ago_ends_nothing");
        add(cases, name, spec(&one, lines), move |world| {
            let token = expired(&one, ago);
            let mut client = world.client();
            for method in RELEASES {
                refused(ask(world, &mut client, (method, &token), "ids"));
            }
        });
    }
}

fn strangers(cases: &mut Cases) {
    let name = "an_expired_token_that_proves_nobody_ends_nothing";
    let (one, other) = (Signer::new("one"), Signer::new("one"));
    add(cases, name, spec(&one, ""), move |world| {
        let ago = json!({"iat": now() - 300, "exp": now() - 60});
        let mut elsewhere = ago.clone();
        elsewhere["aud"] = "another".into();
        let (good, other) = (one.sign(&claims_but(&ago)), other.sign(&claims_but(&ago)));
        let elsewhere = one.sign(&claims_but(&elsewhere));
        let swapped = {
            let root = one.sign(&claims_but(&json!({"sub": "root", "exp": now() - 60})));
            let signature = good.rsplit('.').next().unwrap();
            format!("{}.{signature}", root.rsplit_once('.').unwrap().0)
        };
        let mut client = world.client();
        for token in [other, elsewhere, swapped] {
            for method in RELEASES {
                let told = ask(world, &mut client, (method, &token), "ids");
                assert_eq!(told.unwrap_err().0, Some(UNAUTHENTICATED));
            }
        }
        ask(world, &mut client, ("Interrupt", &good), "ids").unwrap();
    });
}

fn taken_away(cases: &mut Cases) {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let name = "an_expired_token_whose_key_is_not_trusted_any_more_ends_nothing";
    add(cases, name, spec(&one, ""), move |world| {
        let token = expired(&one, 60);
        let mut client = world.client();
        ask(world, &mut client, ("Interrupt", &token), "ids").unwrap();
        let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
        std::fs::write(home.join("new"), jwks(&[two.jwk()])).unwrap();
        std::fs::rename(home.join("new"), home.join("keys.json")).unwrap();
        eventually("its key is gone", SOON, || {
            let told = ask(world, &mut client, ("Interrupt", &token), "ids");
            told.is_err_and(|(status, _)| status == Some(UNAUTHENTICATED))
        });
    });
    let one = Signer::new("one");
    let name = "an_expired_token_of_somebody_in_no_team_ends_nothing";
    add(cases, name, spec(&one, ""), move |world| {
        let claims = json!({"iat": now() - 300, "exp": now() - 60, "teams": []});
        let token = one.sign(&claims_but(&claims));
        let told = ask(world, &mut world.client(), ("Interrupt", &token), "ids");
        assert_eq!(told.unwrap_err().0, Some(PERMISSION_DENIED));
    });
}
