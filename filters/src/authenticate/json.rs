//! JSON in tokens, with limits that are checked before parsing.
//!
//! Anybody can send a token, and each member costs time and memory. Identity providers stay far
//! below these limits: 200 groups of Entra are 200 values, the roles of 100 clients of Keycloak
//! have four levels.

use super::claims::Claims;

/// Maximum number of members of the object, without members of nested objects.
const MEMBERS_MAX: usize = 256;
/// Maximum number of members and elements, at all levels.
const VALUES_MAX: usize = 2048;
/// Maximum depth of nesting.
const DEPTH_MAX: usize = 16;

/// Why a text is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// A limit is exceeded.
    TooLarge,
    /// The text is not one JSON object.
    NotObject,
}

/// Parses an object. Of two members with the same name, the last is kept.
pub(super) fn parse_object(text: &[u8]) -> Result<Claims, JsonError> {
    if !is_within_limits(text) {
        return Err(JsonError::TooLarge);
    }
    serde_json::from_slice(text).map_err(|_| JsonError::NotObject)
}

/// Counts members, values and levels without parsing. The result is meaningless for a text that is
/// not JSON; the parser then stops at the first error.
fn is_within_limits(text: &[u8]) -> bool {
    let (mut depth, mut members, mut values) = (0_usize, 1_usize, 1_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            // Outside of a string the parser rejects it.
            b'\\' => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                values = values.saturating_add(1);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => {
                members = members.saturating_add(usize::from(depth == 1));
                values = values.saturating_add(1);
            }
            _ => {}
        }
        if depth > DEPTH_MAX || members > MEMBERS_MAX || values > VALUES_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Decision, Filter, Refusal,
        authenticate::{
            Authenticate,
            tests::{Signer, call, claims, jwks_cache, settings},
        },
        call::StaticMetadata,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn refusal(claims: &Value) -> Option<Refusal> {
        let token = Signer::P256.sign("a", claims);
        let filter = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let listed = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
        match filter.admit(&mut call(listed)) {
            Decision::Refused(refusal) => Some(refusal),
            Decision::Admitted | Decision::Pending(_) => None,
        }
    }

    fn with(name: &str, value: impl Into<Value>) -> Value {
        let mut claims = claims();
        claims[name] = value.into();
        claims
    }

    #[test]
    fn tokens_with_200_groups_or_nested_roles_are_within_the_limits() {
        let group = |at: usize| format!("{at:08x}-7b1c-4d4e-9f6a-1234567890ab");
        let entra = with("groups", (0..200).map(group).collect::<Vec<_>>());
        let client = |at: usize| (format!("client-{at}"), json!({"roles": ["view", "manage"]}));
        let mut keycloak = with("realm_access", json!({"roles": ["offline_access", "a", "b"]}));
        keycloak["resource_access"] =
            (0..100).map(client).collect::<serde_json::Map<_, _>>().into();
        for claims in [entra, keycloak] {
            assert_eq!(refusal(&claims), None);
        }
    }

    #[test]
    fn a_token_above_the_json_limits_is_refused() {
        let mut many = claims();
        (0..350).for_each(|at| many[format!("m{at}")] = at.into());
        let long = with("x", vec![0; VALUES_MAX]);
        let deep = with("x", (0..DEPTH_MAX).fold(json!(1), |inner, _| json!([inner])));
        for claims in [many, long, deep] {
            let refusal = refusal(&claims).unwrap();
            assert_eq!(refusal.label, "authenticate.malformed");
            assert!(refusal.message.contains("256 claims"), "{refusal}");
        }
    }

    #[test]
    fn each_limit_is_inclusive() {
        let members = |count: usize| {
            let all: Vec<_> = (0..count).map(|at| format!("\"{at}\":1")).collect();
            format!("{{{}}}", all.join(","))
        };
        // The object and its list are values as well.
        let values = |count: usize| format!("{{\"a\":{:?}}}", vec![1; count - 2]);
        let depth = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        let is_read = |text: String| parse_object(text.as_bytes()) != Err(JsonError::TooLarge);
        assert!(is_read(members(MEMBERS_MAX)) && !is_read(members(MEMBERS_MAX + 1)));
        assert!(is_read(values(VALUES_MAX)) && !is_read(values(VALUES_MAX + 1)));
        assert!(is_read(depth(DEPTH_MAX)) && !is_read(depth(DEPTH_MAX + 1)));
        let beside = format!("{{\"a\":[{}1]}}", "[],".repeat(100));
        assert!(is_read(beside), "what is closed is not deep");
    }

    #[test]
    fn punctuation_inside_strings_is_not_counted() {
        let text = r#"{"a":",,[[{{\"[,","b":1}"#;
        let filler = [&b"{\"a\":\""[..], &vec![b','; 9000], b"\"}"].concat();
        assert!(parse_object(text.as_bytes()).is_ok());
        assert!(parse_object(&filler).is_ok());
        let quoted = [&b"{\"a\":\"\\\""[..], &vec![b','; 9000], b"\"}"].concat();
        assert!(parse_object(&quoted).is_ok(), "a quote that is escaped ends no text");
        let ended = [&b"{\"a\":\"\\\\\",\"b\":["[..], &b"1,".repeat(9000), b"1]}"].concat();
        assert_eq!(parse_object(&ended), Err(JsonError::TooLarge), "one behind an escape does");
        assert_eq!(parse_object(b"[1]").unwrap_err(), JsonError::NotObject);
    }

    /// A value, and the number of values in it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), ".*".prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
            let map = prop::collection::btree_map(".*", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>()));
            prop_oneof![list, map]
        })
    }

    proptest! {
        #[test]
        fn objects_within_the_limits_are_parsed(value in value()) {
            let one = json!({ "a": value });
            let read = parse_object(one.to_string().as_bytes()).map(Value::from);
            prop_assert_eq!(read, Ok(one));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in any::<Vec<u8>>()) {
            let _ = parse_object(&text);
        }
    }
}
