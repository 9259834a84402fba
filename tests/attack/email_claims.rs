//! E-mail addresses as user names: an address that its issuer has not verified is refused.

use serde_json::{Value, json};

use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::runner::Cases;
use crate::support::signer::{AUDIENCE, ISSUER, Signer, claims_but, jwks};
use crate::support::world::Spec;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    let verified = |verified: Value| json!({"email": "jay@x", "email_verified": verified});
    let unsaid = json!({"profile": {"email": "jay@x"}});
    let nested = |it: bool| json!({"profile": verified(json!(it))});
    let above = json!({"profile": {"email": "jay@x"}, "email_verified": true});
    for (what, more, claims, is_taken) in [
        ("verified", "", nested(true), true),
        ("not_verified", "", nested(false), false),
        ("said_to_be_verified_by_a_text", "", json!({"profile": verified(json!("true"))}), false),
        ("unsaid", "", unsaid.clone(), true),
        ("unsaid_where_it_is_required", ", require_verified_email: true", unsaid, false),
        ("verified_where_it_is_required", ", require_verified_email: true", nested(true), true),
        ("verified_above_where_it_is_required", ", require_verified_email: true", above, true),
    ] {
        let signer = Signer::new("one");
        let end = if is_taken { "taken" } else { "refused" };
        let name = format!("a_nested_address_that_is_{what}_is_{end}");
        add(cases, name, spec(&signer, more), move |world| {
            let mut client = world.client();
            let token = signer.sign(&claims_but(&claims));
            let bearer = format!("Bearer {token}");
            let id = client.call(&proof::bare(&client).with("authorization", bearer));
            let reply = client.finish(id);
            if is_taken {
                return assert_eq!(proof::answerer(&reply), "ads");
            }
            proof::assert_refused(world, &reply, UNAUTHENTICATED, "authenticate.claims");
            assert!(reply.message().contains("verified"), "{}", reply.message());
            proof::assert_unasked(world, &client.case);
        });
    }
}

/// A world whose issuer names users by a nested address; `more` are further keys of its claims.
fn spec(signer: &Signer, more: &str) -> Spec {
    let mut spec = proof::spec("");
    let issuer = format!(
        "authenticate:\n  issuers:\n    - issuer: {ISSUER}\n      audiences: [{AUDIENCE}]\n      \
         keys_file: keys.json\n      claims: {{ teams: teams, user: profile.email{more} }}\n"
    );
    spec.config.extra = spec.config.extra.replacen("authenticate:\n", &issuer, 1);
    spec.config.files = vec![("keys.json", jwks(&[signer.jwk()]))];
    spec
}
