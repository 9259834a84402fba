//! The public keys of one identity provider, read from its key document (RFC 7517).
//!
//! A key that cannot be used is passed over with its reason, and the others are kept: providers
//! publish keys for other purposes in the same document. Must never keep a key that is shared or
//! private: whoever can read it could sign with it.

use super::{Algorithm, key::Key};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The most octets of a key document.
pub const DOCUMENT_MAX: usize = 256 * 1024;
/// The most keys in it, those that are passed over included.
pub const KEYS_MAX: usize = 64;
/// The most octets of a key's name that a reason shows.
const KID_SHOWN_MAX: usize = 64;

/// The keys that can verify signatures. At least one.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// Why a text is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// More octets than [`DOCUMENT_MAX`].
    TooLong,
    /// It is not JSON.
    NotJson,
    /// It is no object with a list of `keys`.
    MissingKeys,
    /// More keys than [`KEYS_MAX`].
    TooMany,
    /// Not one of its keys can be used.
    NoUsableKey {
        /// Why each was passed over.
        skipped: Vec<String>,
    },
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the key document has more than 256 KiB"),
            Self::NotJson => f.write_str("the key document is not JSON"),
            Self::MissingKeys => f.write_str("the key document has no list of keys"),
            Self::TooMany => f.write_str("the key document has more than 64 keys"),
            Self::NoUsableKey { skipped: passed_over } => {
                f.write_str("the key document has no key that can be used")?;
                let mut reasons = passed_over.iter();
                reasons.try_for_each(|reason| write!(f, "; {reason}"))
            }
        }
    }
}

impl std::error::Error for KeySetError {}

/// Why the keys of a set do not decide about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyLookupError {
    /// No key has that name; or, for a token that names none, no key is of its kind.
    Unknown,
    /// The token names none, and several keys are of its kind.
    Ambiguous,
    /// The key of that name must not verify this algorithm.
    WrongAlgorithm,
}

impl KeySet {
    /// Reads a key document, and tells for each key that is passed over why.
    ///
    /// Of two keys with the same name, kind and algorithm the first is kept: a provider's slip must
    /// not lock everybody out, and which of two keys is right must not depend on the token.
    ///
    /// # Errors
    /// A document that is no such thing, or that has no key to use: whoever fetched it keeps what
    /// there was before, since an empty document is a provider's hiccup far more often than its
    /// will.
    pub fn from_jwks(json: &str) -> Result<(Self, Vec<String>), KeySetError> {
        if json.len() > DOCUMENT_MAX {
            return Err(KeySetError::TooLong);
        }
        let document: Value = serde_json::from_str(json).map_err(|_| KeySetError::NotJson)?;
        let listed =
            document.get("keys").and_then(Value::as_array).ok_or(KeySetError::MissingKeys)?;
        if listed.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<Arc<Key>> = Vec::new();
        let mut passed_over = Vec::new();
        for (place, entry) in (1..).zip(listed) {
            match Key::parse(entry) {
                Ok(key) if keys.iter().any(|other| other.is_ambiguous_with(&key)) => {
                    let reason = "an earlier one has the same name, kind and algorithm";
                    passed_over.push(format!("key {place}{}: {reason}", quoted_kid(entry)));
                }
                Ok(key) => keys.push(Arc::new(key)),
                Err(fault) => {
                    passed_over.push(format!("key {place}{}: {fault}", quoted_kid(entry)));
                }
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey { skipped: passed_over });
        }
        Ok((Self { keys }, passed_over))
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether at least one of them may verify one of these.
    pub fn supports_any(&self, algorithms: &[Algorithm]) -> bool {
        self.keys.iter().any(|key| algorithms.iter().any(|algorithm| key.supports(*algorithm)))
    }

    /// The keys that a token's header leads to. More than one only where the provider names two
    /// keys alike, one of them for a single algorithm.
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

    /// Whether this very key, by name and by material, is still one of them.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.iter().any(|other| **other == *key)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.kid())).finish()
    }
}

/// The name of a key, fit for a log.
fn quoted_kid(entry: &Value) -> String {
    let Some(kid) = entry.get("kid").and_then(Value::as_str) else { return String::new() };
    let shown: String = kid.escape_debug().take(KID_SHOWN_MAX).collect();
    format!(" '{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::{Signer, jwks};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    fn read(keys: &[Value]) -> (usize, Vec<String>) {
        match KeySet::from_jwks(&json!({ "keys": keys }).to_string()) {
            Ok((set, passed_over)) => (set.count(), passed_over),
            Err(KeySetError::NoUsableKey { skipped: passed_over }) => (0, passed_over),
            Err(fault) => panic!("{fault}"),
        }
    }

    fn with(mut key: Value, member: &str, value: impl Into<Value>) -> Value {
        key[member] = value.into();
        key
    }

    #[test]
    fn keys_of_each_kind_are_read() {
        let all = [Signer::RSA, Signer::P256, Signer::P384, Signer::ED25519];
        assert_eq!(read(&all.map(|it| it.jwk("a"))), (4, vec![]));
    }

    #[test]
    fn what_cannot_verify_a_signature_is_passed_over_with_its_reason() {
        let (rsa, ec) = (Signer::RSA.jwk("a"), Signer::P256.jwk("a"));
        let short = URL_SAFE_NO_PAD.encode([&[0x7f][..], &[0xff; 255]].concat());
        let cases = [
            (json!(7), "key 1: it is no object"),
            (json!({"kid": "a\n"}), "key 1 'a\\n': it has no kty"),
            (json!({"kty": "oct", "kid": "a", "k": "AAAA"}), "key 1 'a': it is a shared secret"),
            (with(rsa.clone(), "d", "AAAA"), "key 1 'a': it has private parts"),
            (with(rsa.clone(), "use", "enc"), "key 1 'a': its use is not sig"),
            (with(rsa.clone(), "key_ops", json!(["sign"])), "key 1 'a': its key_ops lack verify"),
            (with(rsa.clone(), "alg", "RSA-OAEP"), "key 1 'a': its alg is not known here"),
            (with(rsa.clone(), "alg", "ES256"), "key 1 'a': its alg is not of its kty"),
            (with(rsa.clone(), "kid", 7), "key 1: its kid is no text"),
            (with(rsa.clone(), "n", "!"), "key 1 'a': its n cannot be read"),
            (with(rsa.clone(), "n", short), "key 1 'a': it has less than 2048 bits"),
            (with(rsa.clone(), "n", "_".repeat(1400)), "key 1 'a': it has more than 8192 bits"),
            (with(rsa.clone(), "e", "AQ"), "key 1 'a': its exponent is not safe"),
            (with(rsa, "e", "AQAC"), "key 1 'a': its exponent is not safe"),
            (with(ec.clone(), "x", "AAAA"), "key 1 'a': its x cannot be read"),
            (with(ec.clone(), "crv", "P-521"), "key 1 'a': its crv is not known here"),
            (with(ec.clone(), "alg", "ES384"), "key 1 'a': its alg is not of its kty"),
            (with(ec, "kty", "EC2"), "key 1 'a': its kty is not known here"),
        ];
        for (key, reason) in cases {
            assert_eq!(read(&[key]), (0, vec![reason.to_owned()]));
        }
    }

    #[test]
    fn of_two_keys_alike_the_first_is_kept() {
        let (one, other) = (Signer::RSA.jwk("a"), Signer::OTHER_RSA.jwk("a"));
        let (kept, passed_over) = read(&[one.clone(), other]);
        assert_eq!(kept, 1);
        assert!(passed_over[0].starts_with("key 2 'a': an earlier one"), "{passed_over:?}");
        let alike = [one.clone(), with(one, "alg", "PS256"), Signer::P256.jwk("a")];
        assert_eq!(read(&alike), (3, vec![]));
    }

    #[test]
    fn a_key_without_a_name_is_known_by_its_material() {
        let nameless = |mut key: Value| {
            key.as_object_mut().unwrap().remove("kid");
            key
        };
        let (one, other) = (nameless(Signer::RSA.jwk("")), nameless(Signer::OTHER_RSA.jwk("")));
        assert_eq!(read(&[one.clone(), other]), (2, vec![]));
        let (kept, passed_over) = read(&[one.clone(), one.clone()]);
        assert_eq!((kept, passed_over.len()), (1, 1));
        assert_eq!(read(&[one, Signer::RSA.jwk("a")]), (2, vec![]), "one of them has a name");
    }

    #[test]
    fn a_key_is_one_of_a_set_only_with_its_name_its_algorithm_and_its_material() {
        let set = jwks(&[Signer::RSA.jwk("a")]);
        let has = |entry: Value| set.contains(&Key::parse(&entry).unwrap());
        assert!(has(Signer::RSA.jwk("a")));
        assert!(!has(Signer::RSA.jwk("b")));
        assert!(!has(with(Signer::RSA.jwk("a"), "alg", "RS256")));
        assert!(!has(Signer::OTHER_RSA.jwk("a")));
        assert!(!has(Signer::P256.jwk("a")));
    }

    #[test]
    fn keys_fit_an_issuer_if_one_of_them_may_verify_one_of_its_algorithms() {
        let set = jwks(&[Signer::P256.jwk("a"), with(Signer::RSA.jwk("b"), "alg", "PS256")]);
        assert!(set.supports_any(&[Algorithm::EdDsa, Algorithm::Es256]));
        assert!(set.supports_any(&[Algorithm::Ps256]));
        assert!(!set.supports_any(&[Algorithm::Rs256, Algorithm::Es384]));
        assert!(!set.supports_any(&[]));
    }

    #[test]
    fn the_debug_form_of_keys_shows_their_names_alone() {
        let jwk = Signer::RSA.jwk("a");
        let key = Key::parse(&jwk).unwrap();
        assert_eq!(format!("{key:?}"), "Key { kid: Some(\"a\"), .. }");
        assert_eq!(format!("{:?}", jwks(&[jwk])), "[Some(\"a\")]");
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said_with_the_reason_of_each_key() {
        let said = |json: &str| KeySet::from_jwks(json).unwrap_err().to_string();
        assert_eq!(said(&" ".repeat(DOCUMENT_MAX + 1)), "the key document has more than 256 KiB");
        assert_eq!(said("{"), "the key document is not JSON");
        assert_eq!(said("{}"), "the key document has no list of keys");
        let many = json!({ "keys": vec![7; KEYS_MAX + 1] }).to_string();
        assert_eq!(said(&many), "the key document has more than 64 keys");
        assert_eq!(
            said(r#"{"keys":[7,{"kid":"a"}]}"#),
            "the key document has no key that can be used; key 1: it is no object; key 2 'a': it \
             has no kty"
        );
    }

    #[test]
    fn a_document_is_bounded_in_octets_and_in_keys() {
        let key = Signer::ED25519.jwk("a");
        let fault = |json: &str| KeySet::from_jwks(json).unwrap_err();
        assert_eq!(fault(&" ".repeat(DOCUMENT_MAX + 1)), KeySetError::TooLong);
        assert_eq!(fault(&" ".repeat(DOCUMENT_MAX)), KeySetError::NotJson);
        let many = vec![key.clone(); KEYS_MAX + 1];
        assert_eq!(fault(&json!({ "keys": many }).to_string()), KeySetError::TooMany);
        assert_eq!(read(&vec![key; KEYS_MAX]).0, 1);
        assert_eq!(fault("{"), KeySetError::NotJson);
        assert_eq!(fault("[]"), KeySetError::MissingKeys);
        assert_eq!(fault(r#"{"keys":{}}"#), KeySetError::MissingKeys);
        assert_eq!(fault(r#"{"keys":[]}"#), KeySetError::NoUsableKey { skipped: vec![] });
    }

    #[test]
    fn a_token_without_a_key_s_name_needs_the_only_key_of_its_kind() {
        let set = jwks(&[Signer::RSA.jwk("a"), Signer::OTHER_RSA.jwk("b"), Signer::P256.jwk("c")]);
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
    fn a_key_with_an_algorithm_verifies_only_that() {
        let set = jwks(&[with(Signer::RSA.jwk("a"), "alg", "PS384")]);
        for algorithm in Algorithm::ALL {
            let found = set.lookup(Some("a"), algorithm).is_ok();
            assert_eq!(found, algorithm == Algorithm::Ps384, "{algorithm}");
        }
    }
}
