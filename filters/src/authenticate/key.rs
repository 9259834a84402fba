//! One public key (JWK), and the algorithms that it may verify.
//!
//! Must not verify an algorithm of another key type: the key decides, not the token.

use super::Algorithm;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::Value;
use std::fmt;

/// Minimum size of an RSA modulus, in bits (RFC 7518, 3.3).
const RSA_BITS_MIN: usize = 2048;
/// Maximum size of an RSA modulus, in bits: the cost of a signature grows with its square.
const RSA_BITS_MAX: usize = 8192;
/// Maximum size of an RSA exponent, in bytes. Almost all keys have 3.
const EXPONENT_MAX: usize = 4;
/// Size of a P-256 coordinate, in bytes.
const P256_LEN: usize = 32;
/// Size of a P-384 coordinate, in bytes.
const P384_LEN: usize = 48;
/// Size of an Ed25519 key, in bytes.
const ED25519_LEN: usize = 32;

/// Members of private and symmetric keys (RFC 7518, 6.2.2, 6.3.2, 6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key.
pub(super) struct Key {
    kid: Option<String>,
    /// The only algorithm that it verifies, if the document has `alg`.
    algorithm: Option<Algorithm>,
    material: KeyMaterial,
    /// The same key for `jsonwebtoken`.
    decoding_key: DecodingKey,
}

#[derive(Clone, PartialEq, Eq)]
enum KeyMaterial {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256 { point: Vec<u8> },
    P384 { point: Vec<u8> },
    Ed25519 { bytes: Vec<u8> },
}

/// Why a key is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    NotObject,
    Missing { member: &'static str },
    Unsupported { member: &'static str },
    NotString { member: &'static str },
    Invalid { member: &'static str },
    Symmetric,
    Private,
    WrongUse,
    WrongOperations,
    AlgorithmMismatch,
    TooShort,
    TooLong,
    UnsafeExponent,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotObject => f.write_str("it is not an object"),
            Self::Missing { member } => write!(f, "it has no {member}"),
            Self::Unsupported { member } => write!(f, "its {member} is not supported"),
            Self::NotString { member } => write!(f, "its {member} is not a string"),
            Self::Invalid { member } => write!(f, "its {member} is not valid"),
            Self::Symmetric => f.write_str("it is a symmetric key"),
            Self::Private => f.write_str("it is a private key"),
            Self::WrongUse => f.write_str("its use is not sig"),
            Self::WrongOperations => f.write_str("its key_ops lack verify"),
            Self::AlgorithmMismatch => f.write_str("its alg does not match its kty"),
            Self::TooShort => f.write_str("it is shorter than 2048 bits"),
            Self::TooLong => f.write_str("it is longer than 8192 bits"),
            Self::UnsafeExponent => f.write_str("its exponent is not safe"),
        }
    }
}

impl Key {
    /// Parses one JWK.
    pub(super) fn parse(entry: &Value) -> Result<Self, KeyError> {
        if !entry.is_object() {
            return Err(KeyError::NotObject);
        }
        let kid = string_member(entry, "kid")?.map(str::to_owned);
        let kty = string_member(entry, "kty")?.ok_or(KeyError::Missing { member: "kty" })?;
        if kty == "oct" {
            return Err(KeyError::Symmetric);
        }
        if PRIVATE.iter().any(|member| entry.get(member).is_some()) {
            return Err(KeyError::Private);
        }
        if string_member(entry, "use")?.is_some_and(|usage| usage != "sig") {
            return Err(KeyError::WrongUse);
        }
        if let Some(operations) = entry.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err(KeyError::WrongOperations);
        }
        let algorithm = match string_member(entry, "alg")? {
            Some(name) => {
                Some(Algorithm::parse(name).ok_or(KeyError::Unsupported { member: "alg" })?)
            }
            None => None,
        };
        let material = KeyMaterial::parse(kty, entry)?;
        if algorithm.is_some_and(|algorithm| !material.supports(algorithm)) {
            return Err(KeyError::AlgorithmMismatch);
        }
        let decoding_key = material.decoding_key();
        Ok(Self { kid, algorithm, material, decoding_key })
    }

    /// The key ID (`kid`).
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn supports(&self, algorithm: Algorithm) -> bool {
        self.material.supports(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether a token cannot distinguish it from another key.
    pub(super) fn is_ambiguous_with(&self, other: &Self) -> bool {
        let is_named_alike = match (&self.kid, &other.kid) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.material == other.material,
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_named_alike
            && self.algorithm == other.algorithm
            && self.material.is_of_kind(&other.material)
    }

    pub(super) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.supports(algorithm)
            && crypto::verify(
                signature,
                message.as_bytes(),
                &self.decoding_key,
                algorithm.to_jsonwebtoken(),
            )
            .unwrap_or(false)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.algorithm == other.algorithm
            && self.material == other.material
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl KeyMaterial {
    fn parse(kty: &str, entry: &Value) -> Result<Self, KeyError> {
        match (kty, string_member(entry, "crv")?) {
            ("RSA", _) => parse_rsa(entry),
            ("EC", Some("P-256")) => Ok(Self::P256 { point: parse_point(entry, P256_LEN)? }),
            ("EC", Some("P-384")) => Ok(Self::P384 { point: parse_point(entry, P384_LEN)? }),
            ("OKP", Some("Ed25519")) => {
                let bytes = bytes_of_length(entry, "x", ED25519_LEN)?;
                Ok(Self::Ed25519 { bytes })
            }
            ("EC" | "OKP", Some(_)) => Err(KeyError::Unsupported { member: "crv" }),
            ("EC" | "OKP", None) => Err(KeyError::Missing { member: "crv" }),
            (_, _) => Err(KeyError::Unsupported { member: "kty" }),
        }
    }

    fn supports(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => matches!(self, Self::Rsa { .. }),
            Algorithm::Es256 => matches!(self, Self::P256 { .. }),
            Algorithm::Es384 => matches!(self, Self::P384 { .. }),
            Algorithm::EdDsa => matches!(self, Self::Ed25519 { .. }),
        }
    }

    fn is_of_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Rsa { modulus, exponent } => {
                DecodingKey::from_rsa_raw_components(modulus, exponent)
            }
            Self::P256 { point } | Self::P384 { point } => DecodingKey::from_ec_der(point),
            Self::Ed25519 { bytes } => DecodingKey::from_ed_der(bytes),
        }
    }
}

/// An RSA key with a modulus within the limits, and an exponent that makes the signature differ
/// from the message.
fn parse_rsa(entry: &Value) -> Result<KeyMaterial, KeyError> {
    let (modulus, exponent) = (parse_integer(entry, "n")?, parse_integer(entry, "e")?);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros());
    let zeros = usize::try_from(zeros).unwrap_or_default();
    let bits = modulus.len().saturating_mul(8).saturating_sub(zeros);
    if bits < RSA_BITS_MIN {
        return Err(KeyError::TooShort);
    }
    if bits > RSA_BITS_MAX {
        return Err(KeyError::TooLong);
    }
    let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || exponent == [1] || exponent.len() > EXPONENT_MAX {
        return Err(KeyError::UnsafeExponent);
    }
    Ok(KeyMaterial::Rsa { modulus, exponent })
}

/// An uncompressed point (SEC 1, 2.3.3). Each verification checks that it is on the curve.
fn parse_point(entry: &Value, len: usize) -> Result<Vec<u8>, KeyError> {
    let (x, y) = (bytes_of_length(entry, "x", len)?, bytes_of_length(entry, "y", len)?);
    Ok([&[4], &*x, &*y].concat())
}

fn bytes_of_length(entry: &Value, member: &'static str, len: usize) -> Result<Vec<u8>, KeyError> {
    let bytes = decode_bytes(entry, member)?;
    if bytes.len() == len { Ok(bytes) } else { Err(KeyError::Invalid { member }) }
}

/// An integer without leading zeros.
fn parse_integer(entry: &Value, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let bytes = decode_bytes(entry, member)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn decode_bytes(entry: &Value, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let text = string_member(entry, member)?.ok_or(KeyError::Missing { member })?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Invalid { member })
}

fn string_member<'e>(entry: &'e Value, member: &'static str) -> Result<Option<&'e str>, KeyError> {
    match entry.get(member) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(KeyError::NotString { member }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::Signer;
    use serde_json::json;

    #[test]
    fn rsa_keys_have_a_minimum_and_a_maximum_size() {
        let of = |bytes: &[u8]| {
            let n = URL_SAFE_NO_PAD.encode(bytes);
            Key::parse(&json!({"kty": "RSA", "n": n, "e": "AQAB"})).err()
        };
        let bits = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] >>= bits.next_multiple_of(8) - bits;
            bytes
        };
        assert_eq!(of(&bits(RSA_BITS_MIN - 1)), Some(KeyError::TooShort));
        assert_eq!(of(&bits(RSA_BITS_MIN)), None);
        assert_eq!(of(&bits(RSA_BITS_MAX)), None);
        assert_eq!(of(&bits(RSA_BITS_MAX + 1)), Some(KeyError::TooLong));
        let padded = [&[0; 9][..], &bits(RSA_BITS_MIN - 1)].concat();
        assert_eq!(of(&padded), Some(KeyError::TooShort), "zeros in front do not count");
        assert_eq!(of(&[]), Some(KeyError::TooShort));
    }

    #[test]
    fn an_rsa_exponent_is_odd_above_one_and_at_most_four_bytes() {
        let of = |bytes: &[u8]| {
            let mut key = Signer::RSA.jwk("a");
            key["e"] = URL_SAFE_NO_PAD.encode(bytes).into();
            Key::parse(&key).err()
        };
        for sound in [&[3][..], &[1, 0, 1], &[0, 0, 1, 0, 1], &[1, 0, 0, 1]] {
            assert_eq!(of(sound), None, "{sound:?}");
        }
        for unsafe_ in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(of(unsafe_), Some(KeyError::UnsafeExponent), "{unsafe_:?}");
        }
    }
}
