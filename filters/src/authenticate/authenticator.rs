//! Authenticates the credential of a call.
//!
//! A call with a token is authenticated by the token alone, a call without one by its client
//! certificate. Must never fall back: an invalid token is rejection, whatever else the call has.

use super::{
    IssuerSettings, JwksCache, Settings,
    claims::{self, ValidityWindow},
    error::{AuthError, ClaimError, RETRY_AFTER},
    jwks_cache::KeySnapshot,
    key_set::KeyLookupError,
    rejections::{self, CachedRejection, HeaderDigest},
    static_tokens,
    token::{self, Jwt, JwtParts},
    verified::{self, CredentialKey, KeyProof, VerifiedCredential},
};
use crate::{CacheKey, Call, Cost, HeadCache, Identity, Refusal, identity::IdentitySource};
use std::{rc::Rc, sync::Arc, time::Duration};

/// Authenticates credentials by the settings of one filter.
#[derive(Debug)]
pub(super) struct Authenticator {
    pub(super) cache_key: CacheKey,
    pub(super) settings: Settings,
}

/// Why a credential is not accepted.
pub(super) enum AuthFailure {
    /// Rejected; a JWKS refresh would not help. The cost is the work so far.
    Rejected(AuthError, Cost),
    /// The key is not in the cache; a JWKS refresh may fetch it.
    UnknownKey(UnknownKey),
}

/// A token whose key is not in the cache.
pub(super) struct UnknownKey {
    pub(super) token: Box<str>,
    pub(super) jwks: Arc<JwksCache>,
    /// The keys at the look-up.
    pub(super) snapshot: KeySnapshot,
}

impl From<AuthError> for AuthFailure {
    fn from(error: AuthError) -> Self {
        Self::Rejected(error, Cost::Cheap)
    }
}

impl AuthFailure {
    /// The refusal of a call whose credential was valid before: the provider has removed its key.
    pub(super) fn into_refusal(self) -> Refusal {
        match self {
            Self::Rejected(error, cost) => Refusal::from(error).with_cost(cost),
            Self::UnknownKey(unknown) => {
                let snapshot = KeySnapshot { last_fetch_failed: false, ..unknown.snapshot };
                let error = UnknownKey { snapshot, ..unknown }.error(true, RETRY_AFTER);
                Refusal::from(error).with_cost(Cost::Parsed)
            }
        }
    }
}

/// The work so far for one token.
#[derive(Default)]
struct Effort {
    cost: Cost,
    /// The JWKS cache, and its generation before the look-up.
    keys: Option<(Arc<JwksCache>, u64)>,
}

impl UnknownKey {
    /// The error when no refresh has brought the key. `is_asked`: whether the provider was asked
    /// after the call had arrived. `after`: the delay until a retry may succeed.
    pub(super) fn error(&self, is_asked: bool, after: Duration) -> AuthError {
        match &self.snapshot {
            KeySnapshot { keys: None, .. } => AuthError::KeysNotFetched { retry_after: after },
            KeySnapshot { last_fetch_failed: false, .. } if is_asked => AuthError::UnknownKey,
            // The keys of a file are never refreshed.
            KeySnapshot { last_fetch_failed: false, cooldown: None, .. } => AuthError::UnknownKey,
            KeySnapshot { .. } => AuthError::KeyNotRefreshed { retry_after: after },
        }
    }
}

impl Authenticator {
    pub(super) fn new(settings: Settings) -> Self {
        Self { cache_key: CacheKey::new(), settings }
    }

    /// The key of this instance in caches.
    #[cfg(test)]
    pub(super) fn id(&self) -> u64 {
        self.cache_key.id()
    }

    /// Tolerated clock skew.
    pub(super) fn skew(&self) -> Duration {
        self.settings.skew
    }

    /// Authenticates a call at this time.
    pub(super) fn authenticate(
        &self,
        call: &Call,
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let (cache, leeway) = (call.metadata().cache(), self.settings.expiry_leeway(call.method()));
        if let Some(cached) =
            cache.and_then(|cache| cache.get::<Rc<VerifiedCredential>>(&self.cache_key))
            && cached.is_still_trusted()
        {
            cached.validity.check_at(now, leeway)?;
            return Ok(Rc::clone(&cached));
        }
        let verified = match self.cached(call, now) {
            Some(known) => known?,
            None => match token::credential_value(call.metadata())? {
                Some(value) => self.authenticate_header(call, &value, now)?,
                None => return Ok(self.authenticate_certificate(call.certificate(), now)?),
            },
        };
        if let Some(cache) = cache {
            cache.insert(&self.cache_key, Rc::clone(&verified));
        }
        Ok(verified)
    }

    /// Authenticates a header value that is not in the cache.
    fn authenticate_header(
        &self,
        call: &Call,
        value: &[u8],
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let (filter_id, cache) = (self.cache_key.id(), call.metadata().cache());
        let cached = cache.and_then(|cache| cache.get::<Rc<CachedRejection>>(&self.cache_key));
        if let Some(error) = cached.and_then(|rejection| rejection.error_at(now)) {
            return Err(error.into());
        }
        let digest = HeaderDigest::of(call.metadata(), call.method().is_release());
        let known = digest.as_ref().and_then(|digest| rejections::get(filter_id, digest, now));
        if let Some((rejection, error)) =
            known.and_then(|it| Some((Rc::clone(&it), it.error_at(now)?)))
        {
            self.cache_rejection(cache, rejection);
            return Err(error.into());
        }
        let token = token::parse_bearer(value)?;
        let mut effort = Effort::default();
        let leeway = self.settings.expiry_leeway(call.method());
        let verified = self
            .authenticate_token_with(token, (now, leeway), &mut effort)
            .inspect_err(|failure| {
                if let AuthFailure::Rejected(error, _) = failure
                    && let Some(rejection) = CachedRejection::new(*error, now, effort.keys.take())
                {
                    if let Some(digest) = &digest {
                        rejections::insert(filter_id, digest, &rejection);
                    }
                    self.cache_rejection(cache, rejection);
                }
            })?;
        // Static tokens are compared in constant time at each call, so they are not cached. Other
        // tokens are cached in their canonical spelling only, since one token has many spellings.
        let is_cacheable = verified.is_signed() && token::is_canonical(value, token);
        if let Some(raw) = token::raw_value(call.metadata()).filter(|_| is_cacheable) {
            verified::insert(filter_id, CredentialKey::Value(raw), &verified);
        }
        Ok(verified)
    }

    fn cache_rejection(&self, cache: Option<&HeadCache>, rejection: Rc<CachedRejection>) {
        if let Some(cache) = cache {
            cache.insert(&self.cache_key, rejection);
        }
    }

    /// Authenticates a call by the cache of header values, which all connections of the worker
    /// share.
    fn cached(
        &self,
        call: &Call,
        now: Duration,
    ) -> Option<Result<Rc<VerifiedCredential>, AuthError>> {
        let raw = token::raw_value(call.metadata())?;
        let known = verified::get(self.cache_key.id(), CredentialKey::Value(raw))?;
        let leeway = self.settings.expiry_leeway(call.method());
        known.is_still_trusted().then(|| known.validity.check_at(now, leeway).map(|()| known))
    }

    /// Authenticates a token at `times`: the current time, and how long a token is accepted after
    /// its expiry.
    pub(super) fn authenticate_token(
        &self,
        token: &str,
        times: (Duration, Duration),
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        self.authenticate_token_with(token, times, &mut Effort::default())
    }

    #[cfg(test)]
    pub(super) fn authenticate_token_at(
        &self,
        token: &str,
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        self.authenticate_token(token, (now, self.settings.skew))
    }

    fn authenticate_token_with(
        &self,
        token: &str,
        (now, leeway): (Duration, Duration),
        effort: &mut Effort,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let filter_id = self.cache_key.id();
        if let Some(known) = verified::get(filter_id, CredentialKey::Token(token))
            && known.is_still_trusted()
        {
            known.validity.check_at(now, leeway)?;
            return Ok(known);
        }
        if let Some(static_token) = static_tokens::find(&self.settings.tokens, token) {
            return Ok(Rc::new(VerifiedCredential::permanent(static_token.identity.clone())));
        }
        let verified =
            self.verify_jwt(token, (now, leeway), effort).map_err(|failure| match failure {
                AuthFailure::Rejected(error, _) => AuthFailure::Rejected(error, effort.cost),
                unknown @ AuthFailure::UnknownKey(_) => unknown,
            });
        let verified = Rc::new(verified?);
        verified::insert(filter_id, CredentialKey::Token(token), &verified);
        Ok(verified)
    }

    /// Verifies a JWT. The validity period is checked before the key, so that a client that repeats
    /// an expired token costs no signature and no refresh. Checks whose result would inform an
    /// attacker follow the signature.
    fn verify_jwt(
        &self,
        token: &str,
        (now, leeway): (Duration, Duration),
        effort: &mut Effort,
    ) -> Result<VerifiedCredential, AuthFailure> {
        let Settings { issuers, skew, .. } = &self.settings;
        let parts = JwtParts::split(token)?;
        effort.cost = Cost::Parsed;
        let jwt = Jwt::parse(&parts)?;
        let issuer = issuers.iter().find(|issuer| jwt.issuer() == Some(&*issuer.issuer));
        let issuer = issuer.ok_or(AuthError::UntrustedIssuer)?;
        if !issuer.algorithms.contains(&jwt.algorithm) {
            return Err(AuthError::UnsupportedAlgorithm.into());
        }
        let validity = ValidityWindow::from_claims(&jwt.claims, *skew)?;
        validity.check_at(now, leeway)?;
        let proof = verify_signature(token, &jwt, issuer, effort)?;
        if !claims::has_audience(&jwt.claims, &issuer.audiences) {
            return Err(AuthError::WrongAudience.into());
        }
        Ok(VerifiedCredential::signed(self.identity(&jwt, issuer)?, validity, proof))
    }

    /// The identity in the claims. A user with the prefix of another issuer is rejection. Such a
    /// group is left out: it then grants nothing, and its member is not locked out.
    fn identity(&self, jwt: &Jwt<'_>, issuer: &IssuerSettings) -> Result<Identity, AuthError> {
        let mut raw = claims::raw_identity(&jwt.claims, &issuer.claims)?;
        let (reserved, prefixes) = (&self.settings.reserved, &issuer.claims);
        if reserved.conflict_for_user(&prefixes.user_prefix, &raw.user).is_some() {
            return Err(AuthError::ReservedUser);
        }
        raw.groups
            .retain(|group| reserved.conflict_for_group(&prefixes.groups_prefix, group).is_none());
        let expires_at = claims::timestamp(&jwt.claims, "exp")?.map(whole_seconds);
        let source = IdentitySource::Token { issuer: Arc::clone(&issuer.issuer) };
        let invalid = |error| AuthError::from(ClaimError::Invalid(error));
        Identity::new(raw, source, expires_at).map_err(invalid)
    }
}

/// Verifies the signature with the keys of the issuer, and with no others.
fn verify_signature(
    token: &str,
    jwt: &Jwt<'_>,
    issuer: &IssuerSettings,
    effort: &mut Effort,
) -> Result<KeyProof, AuthFailure> {
    let snapshot = issuer.jwks.snapshot();
    effort.keys = Some((Arc::clone(&issuer.jwks), snapshot.generation));
    let unknown = |snapshot| {
        let (token, jwks) = (token.into(), Arc::clone(&issuer.jwks));
        Err(AuthFailure::UnknownKey(UnknownKey { token, jwks, snapshot }))
    };
    let Some(keys) = &snapshot.keys else { return unknown(snapshot) };
    let candidates = match keys.lookup(jwt.kid.as_deref(), jwt.algorithm) {
        Ok(candidates) => candidates,
        Err(KeyLookupError::Unknown) => return unknown(snapshot.clone()),
        Err(KeyLookupError::Ambiguous) => return Err(AuthError::UnknownKey.into()),
        Err(KeyLookupError::WrongAlgorithm) => return Err(AuthError::InvalidSignature.into()),
    };
    effort.cost = Cost::Verified;
    let mut candidates = candidates.into_iter();
    let key = candidates.find(|key| key.verifies(jwt.algorithm, jwt.signing_input, jwt.signature));
    Ok(KeyProof::new(&issuer.jwks, &snapshot, key.ok_or(AuthError::InvalidSignature)?))
}

/// Rounded up: a stream that ends at its token's expiry must not be admitted again with the same
/// token.
fn whole_seconds(end: Duration) -> u64 {
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authenticate::tests::{
            NOW, Signer, call, claims, jwks_cache, key_set, settings, static_token,
        },
        call::StaticMetadata,
    };
    use serde_json::json;

    fn now() -> Duration {
        Duration::from_secs(NOW)
    }

    #[test]
    fn a_signature_is_verified_once_and_invalid_tokens_are_not_cached() {
        let authenticator = Authenticator::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let filter_id = authenticator.cache_key.id();
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = authenticator.authenticate_token_at(&token, now()) else {
            panic!("it is right")
        };
        let Ok(second) = authenticator.authenticate_token_at(&token, now()) else {
            panic!("it is still right")
        };
        assert!(Rc::ptr_eq(&first, &second));
        let wrong = Signer::P256.sign("a", &json!({"iss": "https://id.example", "exp": 1}));
        for token in [wrong, format!("{token}A"), Signer::P384.sign("b", &claims())] {
            assert!(authenticator.authenticate_token_at(&token, now()).is_err());
            assert!(verified::get(filter_id, CredentialKey::Token(&token)).is_none());
        }
    }

    #[test]
    fn a_cached_header_is_not_decoded_but_time_and_key_are_checked() {
        let jwks = jwks_cache(&[Signer::P256.jwk("a")]);
        let authenticator =
            Authenticator::new(Settings { skew: Duration::ZERO, ..settings(&jwks) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let with = || call(StaticMetadata::new("a").with("authorization", header.clone()));
        assert!(authenticator.cached(&with(), now()).is_none());
        let Ok(first) = authenticator.authenticate(&with(), now()) else { panic!("it is right") };
        let Some(Ok(second)) = authenticator.cached(&with(), now()) else {
            panic!("it came before")
        };
        assert!(Rc::ptr_eq(&first, &second));
        let leeway = now() + Duration::from_hours(2);
        assert!(
            matches!(authenticator.cached(&with(), leeway), Some(Err(_))),
            "it has expired since"
        );
        let other = call(StaticMetadata::new("a").with("authorization", format!("{header} ")));
        assert!(authenticator.cached(&other, now()).is_none(), "another value is another header");
        let twice = StaticMetadata::new("a").with("authorization", header.clone());
        let twice = call(twice.with("authorization", header.clone()));
        assert!(authenticator.cached(&twice, now()).is_none());
        assert!(authenticator.authenticate(&twice, now()).is_err());
        jwks.replace(key_set(&[Signer::P384.jwk("b")]));
        assert!(authenticator.cached(&with(), now()).is_none(), "its key is gone");
    }

    #[test]
    fn static_tokens_and_noncanonical_headers_are_not_cached() {
        let tokens = vec![static_token("secret", "cron")];
        let authenticator = Authenticator::new(Settings {
            tokens,
            ..settings(&jwks_cache(&[Signer::P256.jwk("a")]))
        });
        let token = Signer::P256.sign("a", &claims());
        for (value, is_cacheable) in [
            ("Bearer secret".to_owned(), false),
            (format!("Bearer  {token}"), false),
            (format!("bearer {token}"), true),
        ] {
            let with = || call(StaticMetadata::new("a").with("authorization", value.clone()));
            assert!(authenticator.authenticate(&with(), now()).is_ok(), "{value}");
            assert_eq!(authenticator.cached(&with(), now()).is_some(), is_cacheable, "{value}");
        }
    }

    #[test]
    fn a_verified_token_stays_valid_if_new_keys_contain_its_key() {
        let jwks = jwks_cache(&[Signer::P256.jwk("a")]);
        let authenticator = Authenticator::new(settings(&jwks));
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = authenticator.authenticate_token_at(&token, now()) else {
            panic!("it is right")
        };
        jwks.replace(key_set(&[Signer::RSA.jwk("b"), Signer::P256.jwk("a")]));
        let Ok(second) = authenticator.authenticate_token_at(&token, now()) else {
            panic!("its key is there")
        };
        assert!(Rc::ptr_eq(&first, &second), "it is not verified again");
    }

    #[test]
    fn the_expiry_of_an_identity_is_rounded_up() {
        let authenticator = Authenticator::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let ends = |exp: serde_json::Value| {
            let mut claims = claims();
            claims["exp"] = exp;
            let token =
                authenticator.authenticate_token_at(&Signer::P256.sign("a", &claims), now());
            token.ok().and_then(|verified| verified.identity.expires_at())
        };
        assert_eq!(ends(json!(NOW + 60)), Some(NOW + 60));
        assert_eq!(ends(json!(1_700_000_060.5)), Some(NOW + 61));
    }

    #[test]
    fn static_tokens_are_checked_before_signatures() {
        let tokens = vec![static_token("a.b.c", "robot"), static_token("secret", "cron")];
        let authenticator = Authenticator::new(Settings { tokens, ..Settings::default() });
        for (token, user) in [("a.b.c", "robot"), ("secret", "cron")] {
            let Ok(verified) = authenticator.authenticate_token_at(token, now()) else {
                panic!("{token} is static_token")
            };
            assert_eq!(verified.identity.user(), user);
        }
        assert!(matches!(
            authenticator.authenticate_token_at("guess", now()),
            Err(AuthFailure::Rejected(AuthError::NotJwt, _))
        ));
    }

    #[test]
    fn a_token_without_kid_uses_the_only_suitable_key() {
        let keys = [Signer::P256.jwk("a"), Signer::RSA.jwk("b"), Signer::OTHER_RSA.jwk("c")];
        let authenticator = Authenticator::new(settings(&jwks_cache(&keys)));
        assert!(
            authenticator.authenticate_token_at(&Signer::P256.sign(None, &claims()), now()).is_ok()
        );
        let ambiguous =
            authenticator.authenticate_token_at(&Signer::RSA.sign(None, &claims()), now());
        assert!(matches!(ambiguous, Err(AuthFailure::Rejected(AuthError::UnknownKey, _))));
    }
}
