//! A cache of rejected tokens, so that a client that repeats one costs no parsing and no signature.
//!
//! Only rejections that time alone does not change are cached, until the keys or the configuration
//! change. The cache is separate from that of valid tokens, so that a flood of invalid tokens
//! evicts no valid one; its keys are digests, so that attackers cannot fill it with long values.

use super::{JwksCache, error::AuthError};
use crate::{BoundedCache, Metadata, call::RawValue};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

/// Maximum number of cached rejections of a worker.
const REJECTED_MAX: usize = 1024;

/// A cached rejection.
#[derive(Debug)]
pub(super) struct CachedRejection {
    error: AuthError,
    /// The time of the rejection: a clock that is set back makes it invalid.
    since: Duration,
    /// The JWKS cache and its generation; `None` if the rejection does not depend on keys.
    keys: Option<(Arc<JwksCache>, u64)>,
}

impl CachedRejection {
    /// A rejection to be cached; `None` for one that may change without a reload.
    pub(super) fn new(
        error: AuthError,
        since: Duration,
        keys: Option<(Arc<JwksCache>, u64)>,
    ) -> Option<Rc<Self>> {
        error.is_permanent().then(|| Rc::new(Self { error, since, keys }))
    }

    /// The error, if it is still valid.
    pub(super) fn error_at(&self, now: Duration) -> Option<AuthError> {
        let is_current =
            |(jwks, generation): &(Arc<JwksCache>, u64)| jwks.generation() == *generation;
        let counts = now >= self.since && self.keys.as_ref().is_none_or(is_current);
        counts.then_some(self.error)
    }
}

type RejectionCache = BoundedCache<(u64, Rc<CachedRejection>)>;

thread_local! {
    static REFUSED: RefCell<RejectionCache> = RefCell::new(RejectionCache::new(REJECTED_MAX));
}

/// The digest of a header value: the key of the cache.
pub(super) struct HeaderDigest([u8; SHA256_OUTPUT_LEN]);

impl HeaderDigest {
    /// The digest of the raw value of the token header; `None` unless there is exactly one such
    /// header. Release calls have digests of their own, since they accept more tokens.
    pub(super) fn of(metadata: &dyn Metadata, is_release: bool) -> Option<Self> {
        let RawValue { bytes, is_huffman_coded: is_coded } = super::token::raw_value(metadata)?;
        let mut context = Context::new(&SHA256);
        context.update(&[u8::from(is_coded), u8::from(is_release)]);
        context.update(bytes);
        context.finish().as_ref().try_into().ok().map(Self)
    }
}

/// The cached rejection of a value, if the filter with this ID has found it and it is still valid.
pub(super) fn get(
    filter_id: u64,
    digest: &HeaderDigest,
    now: Duration,
) -> Option<Rc<CachedRejection>> {
    let belongs = |(owner, it): &(u64, Rc<CachedRejection>)| {
        *owner == filter_id && it.error_at(now).is_some()
    };
    let cache =
        |cache: &RefCell<RejectionCache>| cache.try_borrow_mut().ok()?.get_if(&digest.0, belongs);
    // A worker that ends has dropped its cache already.
    REFUSED.try_with(cache).ok()?.map(|(_, rejection)| rejection)
}

/// Caches a rejection.
pub(super) fn insert(filter_id: u64, digest: &HeaderDigest, rejection: &Rc<CachedRejection>) {
    let _ = REFUSED.try_with(|cache| {
        if let Ok(mut cache) = cache.try_borrow_mut() {
            cache.insert(&digest.0, (filter_id, Rc::clone(rejection)));
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
                CachedMetadata, NOW, Signer, call_at, claims, jwks_cache, key_set, settings,
                static_token,
            },
        },
        call::StaticMetadata,
    };
    use serde_json::{Value, json};

    fn ask_at(filter: &Authenticate, seconds: u64, token: &str) -> (&'static str, Cost) {
        let metadata = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
        label_and_cost(filter, &mut call_at(seconds, metadata))
    }

    fn label_and_cost(filter: &Authenticate, call: &mut Call) -> (&'static str, Cost) {
        match filter.admit(call) {
            Decision::Refused(refusal) => (refusal.label, refusal.cost),
            Decision::Admitted => ("admitted", Cost::Cheap),
            Decision::Pending(_) => ("pending", Cost::Cheap),
        }
    }

    fn ask(filter: &Authenticate, token: &str) -> (&'static str, Cost) {
        ask_at(filter, NOW, token)
    }

    fn with(name: &str, value: impl Into<Value>) -> String {
        let mut claims = claims();
        claims[name] = value.into();
        Signer::P256.sign("a", &claims)
    }

    #[test]
    fn a_repeated_rejected_token_costs_no_parsing_and_no_signature() {
        let filter = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
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
            assert_eq!(ask(&filter, &token), (label, cost));
            assert_eq!(ask(&filter, &token), (label, Cost::Cheap));
        }
    }

    #[test]
    fn calls_with_equal_heads_share_the_result() {
        let keys = jwks_cache(&[Signer::P256.jwk("a")]);
        let filter = Authenticate::new(settings(&keys));
        let value = format!("Bearer {}", with("aud", "other"));
        let metadata = StaticMetadata::new("a").with("authorization", value);
        let shared = CachedMetadata(Rc::new((metadata, HeadCache::default())));
        let ask = || label_and_cost(&filter, &mut call_at(NOW, shared.clone()));
        assert_eq!(ask(), ("authenticate.audience", Cost::Verified));
        assert_eq!(ask(), ("authenticate.audience", Cost::Cheap));
        keys.replace(key_set(&[Signer::P256.jwk("a")]));
        assert_eq!(ask(), ("authenticate.audience", Cost::Verified));
    }

    #[test]
    fn a_cached_rejection_ends_with_new_keys_or_a_reload() {
        let jwks = jwks_cache(&[Signer::OTHER_RSA.jwk("a")]);
        let filter = Authenticate::new(settings(&jwks));
        let token = Signer::RSA.sign("a", &claims());
        assert_eq!(ask(&filter, &token).0, "authenticate.signature");
        jwks.replace(key_set(&[Signer::RSA.jwk("a")]));
        assert_eq!(ask(&filter, &token).0, "admitted");
        assert_eq!(ask(&filter, "guess").0, "authenticate.malformed");
        let tokens = vec![static_token("guess", "ann")];
        let reloaded = Authenticate::new(Settings { tokens, ..settings(&jwks) });
        assert_eq!(ask(&reloaded, "guess").0, "admitted");
    }

    #[test]
    fn rejections_that_may_change_by_themselves_are_not_cached() {
        let keys = jwks_cache(&[Signer::P256.jwk("a")]);
        let filter = Authenticate::new(settings(&keys));
        let early = with("nbf", NOW + 60);
        assert_eq!(ask(&filter, &early).0, "authenticate.early");
        assert_eq!(ask_at(&filter, NOW + 60, &early).0, "admitted");
        let expired = with("exp", NOW + 100);
        assert_eq!(ask_at(&filter, NOW + 200, &expired).0, "authenticate.expired");
        assert_eq!(ask(&filter, &expired).0, "admitted", "the clock was set back");
        let unknown = Signer::P384.sign("b", &claims());
        assert_ne!(ask(&filter, &unknown).0, "admitted");
        keys.allow_refresh();
        assert_eq!(ask(&filter, &unknown).0, "pending");
    }

    #[test]
    fn invalid_tokens_never_evict_valid_ones() {
        let filter = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let token = with("sub", "ann");
        assert_eq!(ask(&filter, &token).0, "admitted");
        for at in 0..4 * REJECTED_MAX {
            ask(&filter, &format!("guess-{at}"));
        }
        let known = super::super::verified::get;
        let value = format!("Bearer {token}");
        let raw = RawValue { bytes: value.as_bytes(), is_huffman_coded: false };
        let is_known =
            |filter| known(filter, super::super::verified::CredentialKey::Value(raw)).is_some();
        assert!(is_known(filter.id()));
    }

    #[test]
    fn equal_bytes_in_different_encodings_are_different_values() {
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
