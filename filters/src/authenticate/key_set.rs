//! The public keys of one identity provider, parsed from its JWKS document (RFC 7517).
//!
//! A key that cannot be used is skipped with a reason: providers publish keys for other purposes in
//! the same document. Must not keep a symmetric or private key: every reader of the document could
//! sign with it.

use super::{Algorithm, key::Key};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Maximum size of a JWKS document, in bytes.
pub const DOCUMENT_MAX: usize = 256 * 1024;
/// Maximum number of keys in a document, including skipped keys.
pub const KEYS_MAX: usize = 64;
/// Maximum number of characters of a key ID in a message.
const KID_SHOWN_MAX: usize = 64;

/// The usable keys of a document: at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// Why a JWKS document is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// Longer than [`DOCUMENT_MAX`].
    TooLong,
    /// The document is not JSON.
    NotJson,
    /// The document is not an object with a list `keys`.
    MissingKeys,
    /// More keys than [`KEYS_MAX`].
    TooMany,
    /// No key can be used.
    NoUsableKey {
        /// The reason for each skipped key.
        skipped: Vec<String>,
    },
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the JWKS document is larger than 256 KiB"),
            Self::NotJson => f.write_str("the JWKS document is not JSON"),
            Self::MissingKeys => f.write_str("the JWKS document has no list 'keys'"),
            Self::TooMany => f.write_str("the JWKS document has more than 64 keys"),
            Self::NoUsableKey { skipped } => {
                f.write_str("the JWKS document has no usable key")?;
                let mut reasons = skipped.iter();
                reasons.try_for_each(|reason| write!(f, "; {reason}"))
            }
        }
    }
}

impl std::error::Error for KeySetError {}

/// Why no key of a set applies to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyLookupError {
    /// No key has this ID; or, for a token without an ID, no key has a suitable type.
    Unknown,
    /// The token has no key ID, and several keys have a suitable type.
    Ambiguous,
    /// The key of this ID must not verify this algorithm.
    WrongAlgorithm,
}

impl KeySet {
    /// Parses a JWKS document, and returns the reason for each skipped key.
    ///
    /// Of two keys with the same ID, type and algorithm the first is kept: an error of the provider
    /// must not lock out all users, and the choice must not depend on the token.
    ///
    /// # Errors
    /// A document that is not valid or has no usable key. The caller keeps its previous keys: an
    /// empty document is far more often an error of the provider than its intention.
    pub fn from_jwks(json: &str) -> Result<(Self, Vec<String>), KeySetError> {
        if json.len() > DOCUMENT_MAX {
            return Err(KeySetError::TooLong);
        }
        let document: Value = serde_json::from_str(json).map_err(|_| KeySetError::NotJson)?;
        let entries =
            document.get("keys").and_then(Value::as_array).ok_or(KeySetError::MissingKeys)?;
        if entries.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<Arc<Key>> = Vec::new();
        let mut skipped = Vec::new();
        for (position, entry) in (1..).zip(entries) {
            match Key::parse(entry) {
                Ok(key) if keys.iter().any(|other| other.is_ambiguous_with(&key)) => {
                    let reason = "an earlier key has the same ID, type and algorithm";
                    skipped.push(format!("key {position}{}: {reason}", quoted_kid(entry)));
                }
                Ok(key) => keys.push(Arc::new(key)),
                Err(error) => {
                    skipped.push(format!("key {position}{}: {error}", quoted_kid(entry)));
                }
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey { skipped });
        }
        Ok((Self { keys }, skipped))
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether at least one key may verify one of these algorithms.
    pub fn supports_any(&self, algorithms: &[Algorithm]) -> bool {
        self.keys.iter().any(|key| algorithms.iter().any(|algorithm| key.supports(*algorithm)))
    }

    /// The keys that match a token's header: more than one only if the provider uses one ID for two
    /// keys, one of them for a single algorithm.
    pub(super) fn lookup(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<&Arc<Key>>, KeyLookupError> {
        let fit = |key: &&Arc<Key>| key.supports(algorithm);
        let Some(kid) = kid else {
            let found: Vec<_> = self.keys.iter().filter(fit).collect();
            return match found.len() {
                0 => Err(KeyLookupError::Unknown),
                1 => Ok(found),
                _ => Err(KeyLookupError::Ambiguous),
            };
        };
        let mut named = self.keys.iter().filter(|key| key.kid() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Err(KeyLookupError::Unknown);
        }
        let found: Vec<_> = named.filter(fit).collect();
        if found.is_empty() { Err(KeyLookupError::WrongAlgorithm) } else { Ok(found) }
    }

    /// Whether the set contains this key, by ID and by material.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.iter().any(|other| **other == *key)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.kid())).finish()
    }
}

/// The key ID in quotes, escaped for a log.
fn quoted_kid(entry: &Value) -> String {
    let Some(kid) = entry.get("kid").and_then(Value::as_str) else { return String::new() };
    let escaped: String = kid.escape_debug().take(KID_SHOWN_MAX).collect();
    format!(" '{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::{Signer, key_set};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    fn read(keys: &[Value]) -> (usize, Vec<String>) {
        match KeySet::from_jwks(&json!({ "keys": keys }).to_string()) {
            Ok((set, skipped)) => (set.count(), skipped),
            Err(KeySetError::NoUsableKey { skipped }) => (0, skipped),
            Err(error) => panic!("{error}"),
        }
    }

    fn with(mut key: Value, member: &str, value: impl Into<Value>) -> Value {
        key[member] = value.into();
        key
    }

    #[test]
    fn keys_of_each_type_are_parsed() {
        let all = [Signer::RSA, Signer::P256, Signer::P384, Signer::ED25519];
        assert_eq!(read(&all.map(|it| it.jwk("a"))), (4, vec![]));
    }

    #[test]
    fn unusable_keys_are_skipped_with_a_reason() {
        let (rsa, ec) = (Signer::RSA.jwk("a"), Signer::P256.jwk("a"));
        let short = URL_SAFE_NO_PAD.encode([&[0x7f][..], &[0xff; 255]].concat());
        let cases = [
            (json!(7), "key 1: it is not an object"),
            (json!({"kid": "a\n"}), "key 1 'a\\n': it has no kty"),
            (json!({"kty": "oct", "kid": "a", "k": "AAAA"}), "key 1 'a': it is a symmetric key"),
            (with(rsa.clone(), "d", "AAAA"), "key 1 'a': it is a private key"),
            (with(rsa.clone(), "use", "enc"), "key 1 'a': its use is not sig"),
            (with(rsa.clone(), "key_ops", json!(["sign"])), "key 1 'a': its key_ops lack verify"),
            (with(rsa.clone(), "alg", "RSA-OAEP"), "key 1 'a': its alg is not supported"),
            (with(rsa.clone(), "alg", "ES256"), "key 1 'a': its alg does not match its kty"),
            (with(rsa.clone(), "kid", 7), "key 1: its kid is not a string"),
            (with(rsa.clone(), "n", "!"), "key 1 'a': its n is not valid"),
            (with(rsa.clone(), "n", short), "key 1 'a': it is shorter than 2048 bits"),
            (with(rsa.clone(), "n", "_".repeat(1400)), "key 1 'a': it is longer than 8192 bits"),
            (with(rsa.clone(), "e", "AQ"), "key 1 'a': its exponent is not safe"),
            (with(rsa, "e", "AQAC"), "key 1 'a': its exponent is not safe"),
            (with(ec.clone(), "x", "AAAA"), "key 1 'a': its x is not valid"),
            (with(ec.clone(), "crv", "P-521"), "key 1 'a': its crv is not supported"),
            (with(ec.clone(), "alg", "ES384"), "key 1 'a': its alg does not match its kty"),
            (with(ec, "kty", "EC2"), "key 1 'a': its kty is not supported"),
        ];
        for (key, reason) in cases {
            assert_eq!(read(&[key]), (0, vec![reason.to_owned()]));
        }
    }

    #[test]
    fn of_two_ambiguous_keys_the_first_is_kept() {
        let (one, other) = (Signer::RSA.jwk("a"), Signer::OTHER_RSA.jwk("a"));
        let (kept, skipped) = read(&[one.clone(), other]);
        assert_eq!(kept, 1);
        assert!(skipped[0].starts_with("key 2 'a': an earlier key has the same ID"), "{skipped:?}");
        let alike = [one.clone(), with(one, "alg", "PS256"), Signer::P256.jwk("a")];
        assert_eq!(read(&alike), (3, vec![]));
    }

    #[test]
    fn a_key_without_an_id_is_compared_by_material() {
        let nameless = |mut key: Value| {
            key.as_object_mut().unwrap().remove("kid");
            key
        };
        let (one, other) = (nameless(Signer::RSA.jwk("")), nameless(Signer::OTHER_RSA.jwk("")));
        assert_eq!(read(&[one.clone(), other]), (2, vec![]));
        let (kept, skipped) = read(&[one.clone(), one.clone()]);
        assert_eq!((kept, skipped.len()), (1, 1));
        assert_eq!(read(&[one, Signer::RSA.jwk("a")]), (2, vec![]), "one of them has a name");
    }

    #[test]
    fn keys_are_equal_by_id_algorithm_and_material() {
        let set = key_set(&[Signer::RSA.jwk("a")]);
        let has = |entry: Value| set.contains(&Key::parse(&entry).unwrap());
        assert!(has(Signer::RSA.jwk("a")));
        assert!(!has(Signer::RSA.jwk("b")));
        assert!(!has(with(Signer::RSA.jwk("a"), "alg", "RS256")));
        assert!(!has(Signer::OTHER_RSA.jwk("a")));
        assert!(!has(Signer::P256.jwk("a")));
    }

    #[test]
    fn keys_support_an_issuer_if_one_verifies_one_of_its_algorithms() {
        let set = key_set(&[Signer::P256.jwk("a"), with(Signer::RSA.jwk("b"), "alg", "PS256")]);
        assert!(set.supports_any(&[Algorithm::EdDsa, Algorithm::Es256]));
        assert!(set.supports_any(&[Algorithm::Ps256]));
        assert!(!set.supports_any(&[Algorithm::Rs256, Algorithm::Es384]));
        assert!(!set.supports_any(&[]));
    }

    #[test]
    fn debug_output_of_keys_has_only_their_ids() {
        let jwk = Signer::RSA.jwk("a");
        let key = Key::parse(&jwk).unwrap();
        assert_eq!(format!("{key:?}"), "Key { kid: Some(\"a\"), .. }");
        assert_eq!(format!("{:?}", key_set(&[jwk])), "[Some(\"a\")]");
    }

    #[test]
    fn document_errors_include_the_reason_for_each_key() {
        let error_text = |json: &str| KeySet::from_jwks(json).unwrap_err().to_string();
        assert_eq!(
            error_text(&" ".repeat(DOCUMENT_MAX + 1)),
            "the JWKS document is larger than 256 KiB"
        );
        assert_eq!(error_text("{"), "the JWKS document is not JSON");
        assert_eq!(error_text("{}"), "the JWKS document has no list 'keys'");
        let many = json!({ "keys": vec![7; KEYS_MAX + 1] }).to_string();
        assert_eq!(error_text(&many), "the JWKS document has more than 64 keys");
        assert_eq!(
            error_text(r#"{"keys":[7,{"kid":"a"}]}"#),
            "the JWKS document has no usable key; key 1: it is not an object; key 2 'a': it \
             has no kty"
        );
    }

    #[test]
    fn a_document_has_limits_for_bytes_and_keys() {
        let key = Signer::ED25519.jwk("a");
        let error = |json: &str| KeySet::from_jwks(json).unwrap_err();
        assert_eq!(error(&" ".repeat(DOCUMENT_MAX + 1)), KeySetError::TooLong);
        assert_eq!(error(&" ".repeat(DOCUMENT_MAX)), KeySetError::NotJson);
        let many = vec![key.clone(); KEYS_MAX + 1];
        assert_eq!(error(&json!({ "keys": many }).to_string()), KeySetError::TooMany);
        assert_eq!(read(&vec![key; KEYS_MAX]).0, 1);
        assert_eq!(error("{"), KeySetError::NotJson);
        assert_eq!(error("[]"), KeySetError::MissingKeys);
        assert_eq!(error(r#"{"keys":{}}"#), KeySetError::MissingKeys);
        assert_eq!(error(r#"{"keys":[]}"#), KeySetError::NoUsableKey { skipped: vec![] });
    }

    #[test]
    fn without_kid_exactly_one_key_must_be_suitable() {
        let set =
            key_set(&[Signer::RSA.jwk("a"), Signer::OTHER_RSA.jwk("b"), Signer::P256.jwk("c")]);
        assert!(set.lookup(None, Algorithm::Es256).is_ok());
        assert_eq!(set.lookup(None, Algorithm::Rs256).unwrap_err(), KeyLookupError::Ambiguous);
        assert_eq!(set.lookup(None, Algorithm::EdDsa).unwrap_err(), KeyLookupError::Unknown);
        assert_eq!(
            set.lookup(Some("a"), Algorithm::Es256).unwrap_err(),
            KeyLookupError::WrongAlgorithm
        );
        assert_eq!(set.lookup(Some("d"), Algorithm::Rs256).unwrap_err(), KeyLookupError::Unknown);
    }

    #[test]
    fn a_key_with_alg_verifies_only_that_algorithm() {
        let set = key_set(&[with(Signer::RSA.jwk("a"), "alg", "PS384")]);
        for algorithm in Algorithm::ALL {
            let found = set.lookup(Some("a"), algorithm).is_ok();
            assert_eq!(found, algorithm == Algorithm::Ps384, "{algorithm}");
        }
    }
}
