//! Several issuers: no user or group of one issuer is taken for one of another.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::fields::Request;
use crate::support::probe::eventually;
use crate::support::proof::{self, PERMISSION_DENIED, UNAUTHENTICATED, add};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::signer::{AUDIENCE, ISSUER, Signer, claims_but, jwks};
use crate::support::world::{Spec, World};
use crate::support::{client::SOON, sconce::Config};

/// The second issuer, whose users and groups have a prefix.
const PARTNER: &str = "https://partner.invalid/dev";
const LABEL: &str = "authenticate.user_prefix";

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    users(cases);
    groups(cases);
    reloads(cases);
}

fn issuers(partner: &str) -> String {
    format!(
        "  issuers:\n    - issuer: {ISSUER}\n      audiences: [{AUDIENCE}]\n      keys_file: \
         keys.json\n      claims: {{ teams: teams }}\n{partner}"
    )
}

fn partner() -> String {
    format!(
        "    - issuer: {PARTNER}\n      audiences: [{AUDIENCE}]\n      keys_file: keys.json\n      \
         claims: {{ teams: teams, user_prefix: 'partner:', groups_prefix: 'partner/' }}\n"
    )
}

/// One issuer without a prefix, and one with; `more` are further lines of `authenticate`.
fn spec(signer: &Signer, more: &str) -> Spec {
    let mut spec = proof::spec("");
    let with = format!("authenticate:\n{more}{}", issuers(&partner()));
    spec.config = Config {
        extra: spec.config.extra.replacen("authenticate:\n", &with, 1),
        files: vec![("keys.json", jwks(&[signer.jwk()]))],
        members: vec![("web", "{ users: ['partner:ann'], groups: ['partner/eng', 'eng'] }")],
        ..spec.config
    };
    spec
}

fn with(client: &Client, token: &str) -> Request {
    proof::bare(client).with("authorization", format!("Bearer {token}"))
}

/// The same, in the team `ads`.
fn in_ads(client: &Client, token: &str) -> Request {
    with(client, token).with("x-sconce-team", "ads")
}

/// The call of this token comes to `ads`, as this user.
fn must_be(world: &World, client: &mut Client, token: &str, user: &str) {
    client.case = world.mark();
    let message = [field(1, "ids"), context("eve", "Eve")].concat();
    let block = in_ads(client, token).block();
    let id = proof::ask(client, &block, &framed(&message));
    assert_eq!(proof::answerer(&client.finish(id)), "ads");
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    protobuf::assert_stamped(&message, &protobuf::messages(&served.body)[0], (user, "Jay J."));
}

fn token(signer: &Signer, issuer: &str, changes: &Value) -> String {
    let mut claims = claims_but(changes);
    claims["iss"] = issuer.into();
    signer.sign(&claims)
}

fn users(cases: &mut Cases) {
    for (what, user) in [
        ("the_prefix_of_another_issuer", "partner:ann"),
        ("that_prefix_alone", "partner:"),
        ("that_prefix_in_other_letters", "Partner:ann"),
    ] {
        let signer = Signer::new("one");
        let name = format!("a_user_whose_name_begins_with_{what}_is_refused");
        add(cases, name, spec(&signer, ""), move |world| {
            let mut client = world.client();
            let forged = token(&signer, ISSUER, &json!({"sub": user}));
            let id = client.call(&in_ads(&client, &forged));
            let reply = client.finish(id);
            proof::assert_refused(world, &reply, UNAUTHENTICATED, LABEL);
            assert!(reply.message().contains("prefix"), "{}", reply.message());
            proof::assert_unasked(world, &client.case);
            let honest = token(&signer, PARTNER, &json!({"sub": "ann"}));
            must_be(world, &mut client, &honest, "partner:ann");
            let other = token(&signer, ISSUER, &json!({"sub": "partners"}));
            must_be(world, &mut client, &other, "partners");
        });
    }
    let signer = Signer::new("one");
    let name = "where_issuers_share_their_users_a_prefix_is_part_of_a_name_like_any_other";
    add(cases, name, spec(&signer, "  shared_users: true\n"), move |world| {
        let mut client = world.client();
        let same = token(&signer, ISSUER, &json!({"sub": "partner:ann"}));
        must_be(world, &mut client, &same, "partner:ann");
    });
}

fn groups(cases: &mut Cases) {
    let signer = Signer::new("one");
    let name = "a_group_whose_name_begins_with_the_prefix_of_another_issuer_counts_for_nothing";
    add(cases, name, spec(&signer, ""), move |world| {
        let mut client = world.client();
        let mut end = |issuer: &str, groups: Value| {
            let claims = json!({"teams": null, "groups": groups});
            let request = with(&client, &token(&signer, issuer, &claims));
            let id = client.call(&request);
            client.finish(id).status()
        };
        for forged in ["partner/eng", "PARTNER/eng"] {
            assert_eq!(end(ISSUER, json!([forged])), Some(PERMISSION_DENIED), "{forged}");
        }
        assert_eq!(end(ISSUER, json!(["partner/eng", "eng"])), Some(0), "its own counts");
        assert_eq!(end(PARTNER, json!(["eng"])), Some(0));
    });
}

fn reloads(cases: &mut Cases) {
    let signer = Signer::new("one");
    let name = "a_name_is_refused_as_soon_as_an_issuer_with_its_prefix_is_added";
    add(cases, name, spec(&signer, ""), move |world| {
        let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
        let write = |text: &str| {
            std::fs::write(home.join("new"), text).unwrap();
            std::fs::rename(home.join("new"), home.join("sconce.yaml")).unwrap();
        };
        let both = std::fs::read_to_string(home.join("sconce.yaml")).unwrap();
        let mut client = world.client();
        let odd = token(&signer, ISSUER, &json!({"sub": "partner:ann"}));
        let mut end = || {
            let id = client.call(&in_ads(&client, &odd));
            client.finish(id).status()
        };
        write(&both.replace(&partner(), ""));
        eventually("it is a name like any other", SOON, || end() == Some(0));
        let log = || world.sconce.as_ref().unwrap().lock().unwrap().log();
        let told = |line: &String| line.contains("WARN") && line.contains("\"partner:\"");
        eventually("it is told", SOON, || log().iter().filter(|line| told(line)).count() == 1);
        write(&both);
        eventually("it is the partner's", SOON, || end() == Some(UNAUTHENTICATED));
        let kept = "authenticate:\n  reserved_prefixes: ['partner:']\n";
        write(&both.replace(&partner(), "").replace("authenticate:\n", kept));
        eventually("the change is there", SOON, || {
            log().iter().any(|line| line.contains("applied") && line.contains("\"generation\":4"))
        });
        assert_eq!(end(), Some(UNAUTHENTICATED), "the prefix is kept");
    });
}
