//! The claims of a token beside the expected values, for operators (`sconce explain`).
//!
//! Nothing here is verified, and nothing is decided. Must not show the token, and must not reach a
//! caller.

use super::{
    IssuerSettings,
    authenticator::Authenticator,
    claims::{Claims, lookup},
    token,
};
use crate::Call;
use serde_json::Value;

/// Maximum number of values of a claim that are shown.
const VALUES_SHOWN_MAX: usize = 20;
/// Maximum number of characters of a value that are shown.
const VALUE_LENGTH_MAX: usize = 256;
/// The claim that lists omitted claims (OpenID Connect Core 1.0, 5.6.2): Entra omits more than 200
/// groups.
const CLAIM_NAMES: &str = "_claim_names";

impl Authenticator {
    /// The claims of the token of a call, if it is a JWT.
    pub(super) fn details(&self, call: &Call) -> Vec<String> {
        let header = token::credential_value(call.metadata()).ok().flatten();
        let claims = header.as_deref().and_then(|it| token::claims(token::parse_bearer(it).ok()?));
        let Some(claims) = claims else { return Vec::new() };
        let issuers = &self.settings.issuers;
        let issuer_claim = claims.get("iss").and_then(Value::as_str);
        let issuer = issuers.iter().find(|issuer| issuer_claim == Some(&*issuer.issuer));
        let trusted = issuers.iter().map(|issuer| &*issuer.issuer);
        let mut details = vec![format!(
            "iss of the token: {}; trusted: {}",
            describe_claim(claims.get("iss")),
            any_of(trusted)
        )];
        let aud = describe_claim(claims.get("aud"));
        let Some(issuer) = issuer else {
            details.push(format!("aud of the token: {aud}"));
            return details;
        };
        let expected = any_of(issuer.audiences.iter().map(String::as_str));
        details.push(format!("aud of the token: {aud}; expected: {expected}"));
        details.extend(memberships(&claims, issuer));
        details
    }
}

/// The groups and teams of the token, as far as the configuration uses them.
fn memberships(claims: &Claims, issuer: &IssuerSettings) -> Vec<String> {
    let groups = ("groups", Some(&issuer.claims.groups));
    let teams = ("teams", issuer.claims.teams.as_ref());
    let used = [groups, teams].into_iter().filter_map(|(what, path)| Some((what, path?)));
    used.map(|(what, path)| membership(claims, what, path)).collect()
}

fn membership(claims: &Claims, what: &str, path: &str) -> String {
    let Some(value) = lookup(claims, path) else {
        let left_out = claims.get(CLAIM_NAMES).and_then(Value::as_object);
        let is_left_out = left_out.is_some_and(|names| names.contains_key(path));
        let why = if is_left_out {
            format!("; the provider has omitted it ({CLAIM_NAMES}): the user is in too many")
        } else {
            String::new()
        };
        return format!("no {what}: the token has no claim '{path}' (claims.{what}){why}");
    };
    match value.as_array() {
        Some(none) if none.is_empty() => format!("no {what}: the claim '{path}' is an empty list"),
        Some(_) | None => format!("{what} of the claim '{path}': {}", describe_claim(Some(value))),
    }
}

/// A claim: strings by their value, other values by their type.
fn describe_claim(claim: Option<&Value>) -> String {
    match claim {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(all)) => {
            join_limited(all.iter().map(|it| describe_claim(Some(it))), ", ")
        }
        Some(Value::Object(_)) => "an object".to_owned(),
        Some(Value::Bool(_) | Value::Number(_)) => "no text".to_owned(),
    }
}

fn any_of<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let all = join_limited(texts.map(quoted), " or ");
    if all.is_empty() { "nothing".to_owned() } else { all }
}

fn join_limited(texts: impl Iterator<Item = String>, between: &str) -> String {
    let texts: Vec<_> = texts.collect();
    let first = texts.iter().take(VALUES_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>();
    let more = texts.len().saturating_sub(first.len());
    let all = first.join(between);
    if more > 0 { format!("{all} and {more} more") } else { all }
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(VALUE_LENGTH_MAX).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("'{cut}{more}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Filter,
        authenticate::{
            Authenticate, ClaimSettings, Settings,
            tests::{Signer, call, claims, jwks_cache, settings},
        },
        call::StaticMetadata,
    };
    use serde_json::json;

    /// The details of a valid token with these claims replaced; `null` removes a claim.
    fn told(but: Value) -> Vec<String> {
        let mut all = claims();
        for (name, value) in but.as_object().unwrap() {
            all[name] = value.clone();
        }
        let mut settings = settings(&jwks_cache(&[Signer::P256.jwk("a")]));
        let teams = Some("sconce.teams".to_owned());
        for issuer in &mut settings.issuers {
            issuer.claims = ClaimSettings { teams: teams.clone(), ..ClaimSettings::default() };
        }
        told_of(settings, &format!("Bearer {}", Signer::P256.sign("a", &all)))
    }

    fn told_of(settings: Settings, header: &str) -> Vec<String> {
        let call = call(StaticMetadata::new("a").with("authorization", header));
        Authenticate::new(settings).details(&call)
    }

    #[test]
    fn issuer_and_audience_are_shown_with_the_expected_ones() {
        let told = told(json!({"aud": ["x", 7, "y"]}));
        assert_eq!(
            told[0],
            "iss of the token: 'https://id.example'; trusted: 'https://id.example'"
        );
        assert_eq!(told[1], "aud of the token: 'x', no text, 'y'; expected: 'sconce'");
    }

    #[test]
    fn an_untrusted_issuer_is_shown_with_the_claims_of_the_token_only() {
        let told = told(json!({"iss": "https://other.example", "aud": null}));
        let trusted = "trusted: 'https://id.example'";
        let expected = [
            &*format!("iss of the token: 'https://other.example'; {trusted}"),
            "aud of the token: nothing",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_missing_claim_is_reported_with_its_config_key() {
        let all = told(json!({"groups": null, "sconce": {"teams": []}}));
        let missing = "no groups: the token has no claim 'groups' (claims.groups)";
        assert_eq!(all[2..], [missing, "no teams: the claim 'sconce.teams' is an empty list"]);
        let left_out = told(json!({"groups": null, "_claim_names": {"groups": "src1"}}));
        let why = "; the provider has omitted it (_claim_names): the user is in too many";
        assert_eq!(left_out[2], format!("{missing}{why}"));
        let there = told(json!({"groups": ["a", "b"], "sconce": {"teams": "ads"}}));
        let teams = "teams of the claim 'sconce.teams': 'ads'";
        assert_eq!(there[2..], ["groups of the claim 'groups': 'a', 'b'", teams]);
    }

    #[test]
    fn explanations_are_limited_and_never_contain_the_token() {
        let many: Vec<_> = (0..200).map(|n| format!("g{n}")).collect();
        let told = told(json!({"groups": many, "aud": "a".repeat(9_000)}));
        assert!(told.iter().all(|line| line.len() < 500), "{told:?}");
        assert!(told[2].ends_with("'g19' and 180 more"), "{}", told[2]);
        let settings = || settings(&jwks_cache(&[Signer::P256.jwk("a")]));
        for header in ["Bearer a.b.c", "Bearer secret", "Basic c2VjcmV0", "Bearer e30.W10.c2ln"] {
            assert_eq!(told_of(settings(), header), [""; 0], "{header}");
        }
    }
}
