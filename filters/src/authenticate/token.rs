//! Parses tokens: the header field with the token, and the three parts of a JWT.
//!
//! Nothing here is verified. Must not follow key references in the token (`jwk`, `jku`, `x5u`,
//! `x5c`): those members are not read.

use super::{
    Algorithm,
    claims::Claims,
    error::AuthError,
    json::{self, JsonError},
};
use crate::{Metadata, call::RawValue};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use std::borrow::Cow;

const AUTHORIZATION: &str = "authorization";
/// The header of Spark's JVM clients up to 4.0.x on TLS channels (SPARK-57336).
const AUTHENTICATION: &str = "authentication";
const SCHEME: &[u8] = b"bearer";

/// The value of the header with the token, if there is one. Each header may occur once; if both
/// occur, their values must be equal.
pub(super) fn credential_value(
    metadata: &dyn Metadata,
) -> Result<Option<Cow<'_, [u8]>>, AuthError> {
    let one = single_value(metadata, AUTHORIZATION)?;
    let other = single_value(metadata, AUTHENTICATION)?;
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(AuthError::ConflictingHeaders),
        (one, other) => Ok(one.or(other)),
    }
}

fn single_value<'m>(
    metadata: &'m dyn Metadata,
    name: &str,
) -> Result<Option<Cow<'m, [u8]>>, AuthError> {
    let mut count = 0_usize;
    metadata.for_each_value(name, &mut |_| count = count.saturating_add(1));
    if count > 1 { Err(AuthError::DuplicateHeader) } else { Ok(metadata.first(name)) }
}

/// The raw value of the header; `None` if both headers occur.
pub(super) fn raw_value(metadata: &dyn Metadata) -> Option<RawValue<'_>> {
    metadata.raw_value(&[AUTHORIZATION, AUTHENTICATION])
}

/// The token in a header value: visible ASCII without commas, since a comma joins two header
/// values. Only the limit of a request's header list limits its length.
pub(super) fn parse_bearer(value: &[u8]) -> Result<&str, AuthError> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(AuthError::NotBearer)?;
    let token = rest.trim_ascii();
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first() != Some(&b' ') || token.is_empty() {
        return Err(AuthError::NotBearer);
    }
    if !token.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',') {
        return Err(AuthError::NotBearer);
    }
    std::str::from_utf8(token).map_err(|_| AuthError::NotBearer)
}

/// Whether a value is the scheme, one space and this token.
pub(super) fn is_canonical(value: &[u8], token: &str) -> bool {
    value.len() == SCHEME.len().saturating_add(1).saturating_add(token.len())
}

/// The three parts of a JWT (RFC 7519; compact form of RFC 7515), not decoded.
pub(super) struct JwtParts<'t> {
    header: &'t str,
    payload: &'t str,
    signing_input: &'t str,
    signature: &'t str,
}

impl<'t> JwtParts<'t> {
    pub(super) fn split(token: &'t str) -> Result<Self, AuthError> {
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::NotJwt)?;
        let (head, body) = message.split_once('.').ok_or(AuthError::NotJwt)?;
        if body.contains('.') || signature.is_empty() {
            return Err(AuthError::NotJwt);
        }
        Ok(Self { header: head, payload: body, signing_input: message, signature })
    }
}

/// A decoded JWT.
pub(super) struct Jwt<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Claims,
    /// The signing input (RFC 7515, 5.1).
    pub(super) signing_input: &'t str,
    pub(super) signature: &'t str,
}

impl<'t> Jwt<'t> {
    /// Decodes a JWT. Of two members with the same name, JSON keeps the last, here and in the
    /// claims; all checks use that one.
    pub(super) fn parse(parts: &JwtParts<'t>) -> Result<Self, AuthError> {
        let JwtParts { header: head, payload: body, signing_input: message, signature } = *parts;
        let head = decode_object(head)?;
        if head.contains_key("crit") {
            return Err(AuthError::CriticalHeader);
        }
        let kid = match head.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(AuthError::NotJwt),
        };
        let algorithm = head.get("alg").and_then(Value::as_str).ok_or(AuthError::NotJwt)?;
        let algorithm = Algorithm::parse(algorithm).ok_or(AuthError::UnsupportedAlgorithm)?;
        Ok(Self { algorithm, kid, claims: decode_object(body)?, signing_input: message, signature })
    }

    /// The issuer (`iss`).
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

/// The claims of a JWT, whatever is wrong with it.
pub(super) fn claims(token: &str) -> Option<Claims> {
    JwtParts::split(token).ok().and_then(|parts| decode_object(parts.payload).ok())
}

fn decode_object(part: &str) -> Result<Claims, AuthError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::NotJwt)?;
    json::parse_object(&bytes).map_err(|error| match error {
        JsonError::TooLarge => AuthError::TooLarge,
        JsonError::NotObject => AuthError::NotJwt,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::StaticMetadata;
    use proptest::prelude::*;

    fn encoded(part: &str) -> String {
        URL_SAFE_NO_PAD.encode(part)
    }

    fn parsed(head: &str, body: &str) -> Result<Algorithm, AuthError> {
        let token = format!("{}.{}.c2ln", encoded(head), encoded(body));
        read(&token).map(|jwt| jwt.algorithm)
    }

    fn read(token: &str) -> Result<Jwt<'_>, AuthError> {
        Jwt::parse(&JwtParts::split(token)?)
    }

    #[test]
    fn authorization_occurs_at_most_once() {
        let listed = StaticMetadata::new("a");
        assert_eq!(credential_value(&listed), Ok(None));
        let one = listed.with("Authorization", "Bearer a");
        assert_eq!(credential_value(&one).unwrap().as_deref(), Some(&b"Bearer a"[..]));
        let two = one.with("authorization", "Bearer a");
        assert_eq!(credential_value(&two), Err(AuthError::DuplicateHeader));
    }

    #[test]
    fn the_authentication_header_is_accepted_unless_authorization_differs() {
        let is_marked = |listed: &StaticMetadata| raw_value(listed).is_some();
        let other = StaticMetadata::new("a").with("authentication", "Bearer a");
        assert_eq!(credential_value(&other).unwrap().as_deref(), Some(&b"Bearer a"[..]));
        assert!(is_marked(&other));
        let same = other.clone().with("authorization", "Bearer a");
        assert_eq!(credential_value(&same).unwrap().as_deref(), Some(&b"Bearer a"[..]));
        assert!(!is_marked(&same), "what is remembered of one value says nothing of two");
        for differs in ["bearer a", "Bearer b", ""] {
            let both = other.clone().with("authorization", differs);
            assert_eq!(credential_value(&both), Err(AuthError::ConflictingHeaders), "{differs}");
        }
        let twice = other.with("authentication", "Bearer a");
        assert_eq!(credential_value(&twice), Err(AuthError::DuplicateHeader));
        assert!(!is_marked(&twice));
    }

    #[test]
    fn the_bearer_scheme_ignores_case() {
        for value in ["Bearer t.o-k=", "bearer t.o-k=", "BEARER  t.o-k= "] {
            assert_eq!(parse_bearer(value.as_bytes()), Ok("t.o-k="), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearert", "Basic abc", "Bearer a b", "Bearer a,b"] {
            assert_eq!(parse_bearer(value.as_bytes()), Err(AuthError::NotBearer), "{value}");
        }
        for value in [&b"Bearer a\x00"[..], b"Bearer \xc3\xa4", b"Bearer\ta", b"Bearer a\r\nb"] {
            assert_eq!(parse_bearer(value), Err(AuthError::NotBearer), "{value:?}");
        }
    }

    #[test]
    fn a_jwt_has_three_parts_and_two_are_objects() {
        assert_eq!(parsed(r#"{"alg":"ES256"}"#, "{}"), Ok(Algorithm::Es256));
        let (head, body) = (encoded(r#"{"alg":"ES256"}"#), encoded("{}"));
        for token in [
            String::new(),
            format!("{head}.{body}"),
            format!("{head}.{body}."),
            format!("{head}.{body}.a.b"),
            format!("{head}..a"),
            format!("{head}=.{body}.a"),
            format!("{}.{body}.a", encoded("[]")),
            format!("{head}.{}.a", encoded("{}}")),
        ] {
            assert_eq!(read(&token).err(), Some(AuthError::NotJwt), "{token}");
        }
    }

    #[test]
    fn a_critical_header_parameter_is_refused() {
        for head in
            [r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, r#"{"alg":"ES256","crit":null}"#]
        {
            assert_eq!(parsed(head, "{}"), Err(AuthError::CriticalHeader));
        }
    }

    #[test]
    fn symmetric_algorithms_and_none_are_not_supported() {
        for name in ["none", "NONE", "HS256", "HS384", "HS512", "A128KW"] {
            assert_eq!(
                parsed(&format!(r#"{{"alg":"{name}"}}"#), "{}"),
                Err(AuthError::UnsupportedAlgorithm)
            );
        }
        for head in ["{}", r#"{"alg":null}"#, r#"{"alg":["ES256"]}"#, r#"{"alg":"ES256","kid":1}"#]
        {
            assert_eq!(parsed(head, "{}"), Err(AuthError::NotJwt), "{head}");
        }
    }

    #[test]
    fn of_two_members_with_one_name_the_last_is_kept() {
        assert_eq!(parsed(r#"{"alg":"none","alg":"ES256"}"#, "{}"), Ok(Algorithm::Es256));
        assert_eq!(
            parsed(r#"{"alg":"ES256","alg":"none"}"#, "{}"),
            Err(AuthError::UnsupportedAlgorithm)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(value in any::<Vec<u8>>()) {
            let value = [&b"Bearer "[..], &value].concat();
            if let Ok(token) = parse_bearer(&value) {
                let _ = read(token);
            }
        }

        #[test]
        fn arbitrary_jwt_parts_never_panic(head in ".*", body in ".*", tail in ".*") {
            let _ = read(&format!("{}.{}.{tail}", encoded(&head), encoded(&body)));
        }
    }
}
