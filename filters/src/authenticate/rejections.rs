//! Refused tokens, remembered so that a client that repeats one costs no parsing and no signature.
//!
//! Only a refusal that time alone does not change is remembered, and only until the keys or the
//! configuration change. The memory is apart from that of tokens that are right, so that a flood of
//! wrong ones pushes none of those out; and it holds digests, so that strangers cannot fill it with
//! their octets.

use super::{JwksCache, error::AuthError};
use crate::{BoundedCache, Metadata, call::RawValue};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

/// The most refusals that a worker remembers.
const REJECTED_MAX: usize = 1024;

/// A refusal, and what it depends on.
#[derive(Debug)]
pub(super) struct CachedRejection {
    error: AuthError,
    /// When it was found: a clock that is set back makes it void.
    since: Duration,
    /// The keys that it was found with; `None` where it depends on none.
    keys: Option<(Arc<JwksCache>, u64)>,
}

impl CachedRejection {
    /// A refusal to remember; `None` for one that may change by itself.
    pub(super) fn new(
        denial: AuthError,
        since: Duration,
        keys: Option<(Arc<JwksCache>, u64)>,
    ) -> Option<Rc<Self>> {
        denial.is_permanent().then(|| Rc::new(Self { error: denial, since, keys }))
    }

    /// The refusal, if it still counts.
    pub(super) fn error_at(&self, now: Duration) -> Option<AuthError> {
        let is_current = |(ring, seen): &(Arc<JwksCache>, u64)| ring.generation() == *seen;
        let counts = now >= self.since && self.keys.as_ref().is_none_or(is_current);
        counts.then_some(self.error)
    }
}

type RejectionCache = BoundedCache<(u64, Rc<CachedRejection>)>;

thread_local! {
    static REFUSED: RefCell<RejectionCache> = RefCell::new(RejectionCache::new(REJECTED_MAX));
}

/// What a header value is known by.
pub(super) struct HeaderDigest([u8; SHA256_OUTPUT_LEN]);

impl HeaderDigest {
    /// The digest of the token header's undecoded value; `None` unless there is exactly one such
    /// header. Calls that release something have digests of their own: they accept more tokens.
    pub(super) fn of(metadata: &dyn Metadata, is_release: bool) -> Option<Self> {
        let RawValue { bytes: octets, is_huffman_coded: is_coded } =
            super::token::raw_value(metadata)?;
        let mut context = Context::new(&SHA256);
        context.update(&[u8::from(is_coded), u8::from(is_release)]);
        context.update(octets);
        context.finish().as_ref().try_into().ok().map(Self)
    }
}

/// The refusal that this worker remembers of such a value, if a room with this number found it and
/// it still counts.
pub(super) fn get(room: u64, digest: &HeaderDigest, now: Duration) -> Option<Rc<CachedRejection>> {
    let is_its =
        |(owner, it): &(u64, Rc<CachedRejection>)| *owner == room && it.error_at(now).is_some();
    let memory =
        |memory: &RefCell<RejectionCache>| memory.try_borrow_mut().ok()?.get_if(&digest.0, is_its);
    // A worker that ends has lost its memory already.
    REFUSED.try_with(memory).ok()?.map(|(_, refused)| refused)
}

/// Remembers a refusal that a room has found.
pub(super) fn insert(room: u64, digest: &HeaderDigest, refused: &Rc<CachedRejection>) {
    let _ = REFUSED.try_with(|memory| {
        if let Ok(mut memory) = memory.try_borrow_mut() {
            memory.insert(&digest.0, (room, Rc::clone(refused)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Call, Cost, Decision, Filter, HeadCache,
        authenticate::{
            Authenticate, Settings,
            tests::{
                CachedMetadata, NOW, Signer, call_at, claims, jwks, jwks_cache, settings,
                static_token,
            },
        },
        call::StaticMetadata,
    };
    use serde_json::{Value, json};

    fn ask_at(room: &Authenticate, seconds: u64, token: &str) -> (&'static str, Cost) {
        let listed = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
        said(room, &mut call_at(seconds, listed))
    }

    fn said(room: &Authenticate, call: &mut Call) -> (&'static str, Cost) {
        match room.admit(call) {
            Decision::Refused(refusal) => (refusal.label, refusal.cost),
            Decision::Admitted => ("admitted", Cost::Cheap),
            Decision::Pending(_) => ("waits", Cost::Cheap),
        }
    }

    fn ask(room: &Authenticate, token: &str) -> (&'static str, Cost) {
        ask_at(room, NOW, token)
    }

    fn with(name: &str, value: impl Into<Value>) -> String {
        let mut claims = claims();
        claims[name] = value.into();
        Signer::P256.sign("a", &claims)
    }

    #[test]
    fn a_refused_token_that_is_repeated_costs_neither_parsing_nor_a_signature() {
        let room = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let forged = format!("{}A", with("x", 1));
        let cases = [
            (forged, "authenticate.signature", Cost::Verified),
            (with("aud", "other"), "authenticate.audience", Cost::Verified),
            (with("groups", 7), "authenticate.claims", Cost::Verified),
            (with("iss", "https://other"), "authenticate.issuer", Cost::Parsed),
            (with("exp", 1), "authenticate.expired", Cost::Parsed),
            ("a.b.c".to_owned(), "authenticate.malformed", Cost::Parsed),
            ("guess".to_owned(), "authenticate.malformed", Cost::Cheap),
        ];
        for (token, label, cost) in cases {
            assert_eq!(ask(&room, &token), (label, cost));
            assert_eq!(ask(&room, &token), (label, Cost::Cheap));
        }
    }

    #[test]
    fn equal_requests_in_a_row_share_what_was_found_of_the_first() {
        let keys = jwks_cache(&[Signer::P256.jwk("a")]);
        let room = Authenticate::new(settings(&keys));
        let value = format!("Bearer {}", with("aud", "other"));
        let listed = StaticMetadata::new("a").with("authorization", value);
        let shared = CachedMetadata(Rc::new((listed, HeadCache::default())));
        let ask = || said(&room, &mut call_at(NOW, shared.clone()));
        assert_eq!(ask(), ("authenticate.audience", Cost::Verified));
        assert_eq!(ask(), ("authenticate.audience", Cost::Cheap));
        keys.replace(jwks(&[Signer::P256.jwk("a")]));
        assert_eq!(ask(), ("authenticate.audience", Cost::Verified));
    }

    #[test]
    fn a_refusal_is_void_when_the_keys_change_or_the_configuration_does() {
        let ring = jwks_cache(&[Signer::OTHER_RSA.jwk("a")]);
        let room = Authenticate::new(settings(&ring));
        let token = Signer::RSA.sign("a", &claims());
        assert_eq!(ask(&room, &token).0, "authenticate.signature");
        ring.replace(jwks(&[Signer::RSA.jwk("a")]));
        assert_eq!(ask(&room, &token).0, "admitted");
        assert_eq!(ask(&room, "guess").0, "authenticate.malformed");
        let tokens = vec![static_token("guess", "ann")];
        let reloaded = Authenticate::new(Settings { tokens, ..settings(&ring) });
        assert_eq!(ask(&reloaded, "guess").0, "admitted");
    }

    #[test]
    fn a_refusal_that_time_or_an_answer_of_the_provider_changes_is_not_remembered() {
        let keys = jwks_cache(&[Signer::P256.jwk("a")]);
        let room = Authenticate::new(settings(&keys));
        let early = with("nbf", NOW + 60);
        assert_eq!(ask(&room, &early).0, "authenticate.early");
        assert_eq!(ask_at(&room, NOW + 60, &early).0, "admitted");
        let expired = with("exp", NOW + 100);
        assert_eq!(ask_at(&room, NOW + 200, &expired).0, "authenticate.expired");
        assert_eq!(ask(&room, &expired).0, "admitted", "the clock was set back");
        let unknown = Signer::P384.sign("b", &claims());
        assert_ne!(ask(&room, &unknown).0, "admitted");
        keys.allow_refresh();
        assert_eq!(ask(&room, &unknown).0, "waits");
    }

    #[test]
    fn a_flood_of_wrong_tokens_pushes_out_no_right_one() {
        let room = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let token = with("sub", "ann");
        assert_eq!(ask(&room, &token).0, "admitted");
        for at in 0..4 * REJECTED_MAX {
            ask(&room, &format!("guess-{at}"));
        }
        let known = super::super::verified::get;
        let value = format!("Bearer {token}");
        let shown = RawValue { bytes: value.as_bytes(), is_huffman_coded: false };
        let is_known =
            |room| known(room, super::super::verified::CredentialKey::Value(shown)).is_some();
        assert!(is_known(room.id()));
    }

    #[test]
    fn a_value_and_one_with_the_same_octets_in_another_coding_are_two() {
        struct Coded(bool);
        impl Metadata for Coded {
            fn authority(&self) -> std::borrow::Cow<'_, str> {
                "a".into()
            }
            fn first(&self, _: &str) -> Option<std::borrow::Cow<'_, [u8]>> {
                None
            }
            fn for_each_value(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}
            fn raw_value(&self, _: &[&str]) -> Option<RawValue<'_>> {
                Some(RawValue { bytes: b"Bearer a", is_huffman_coded: self.0 })
            }
        }
        let of = |is_coded| HeaderDigest::of(&Coded(is_coded), false).unwrap().0;
        assert_ne!(of(true), of(false));
        assert_eq!(json!(of(true)), json!(of(true)));
    }
}
