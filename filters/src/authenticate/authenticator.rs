//! The decision: whom a call's credential proves.
//!
//! A token in the header decides alone; only a call without one is judged by its certificate. Must
//! never fall back: a wrong token is a refusal, whatever else the call has.

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

/// Judges credentials by the settings of one room.
#[derive(Debug)]
pub(super) struct Authenticator {
    pub(super) cache_key: CacheKey,
    pub(super) settings: Settings,
}

/// Why a credential proves nobody, at least for now.
pub(super) enum AuthFailure {
    /// It does not, and other keys would not help. To find that out was so much work.
    Rejected(AuthError, Cost),
    /// Its key is not known: other keys may be.
    UnknownKey(UnknownKey),
}

/// A token whose key is not known.
pub(super) struct UnknownKey {
    pub(super) token: Box<str>,
    pub(super) jwks: Arc<JwksCache>,
    /// The keys among which it was looked for.
    pub(super) snapshot: KeySnapshot,
}

impl From<AuthError> for AuthFailure {
    fn from(denial: AuthError) -> Self {
        Self::Rejected(denial, Cost::Cheap)
    }
}

impl AuthFailure {
    /// What is said of a credential that was good before: its key has gone since then.
    pub(super) fn into_refusal(self) -> Refusal {
        match self {
            Self::Rejected(denial, cost) => Refusal::from(denial).with_cost(cost),
            Self::UnknownKey(unknown) => {
                let seen = KeySnapshot { last_fetch_failed: false, ..unknown.snapshot };
                let denial = UnknownKey { snapshot: seen, ..unknown }.error(true, RETRY_AFTER);
                Refusal::from(denial).with_cost(Cost::Parsed)
            }
        }
    }
}

/// What it took so far to judge a token.
#[derive(Default)]
struct Effort {
    cost: Cost,
    /// The keys that were looked at, by the number they had before.
    keys: Option<(Arc<JwksCache>, u64)>,
}

impl UnknownKey {
    /// What is said when no other keys come, to who may try again after so long. `is_asked` says
    /// whether these are the keys that there were when the call had come, or later ones.
    pub(super) fn error(&self, is_asked: bool, after: Duration) -> AuthError {
        match &self.snapshot {
            KeySnapshot { keys: None, .. } => AuthError::KeysNotFetched { retry_after: after },
            KeySnapshot { last_fetch_failed: false, .. } if is_asked => AuthError::UnknownKey,
            // Those of a file: there are no others.
            KeySnapshot { last_fetch_failed: false, cooldown: None, .. } => AuthError::UnknownKey,
            KeySnapshot { .. } => AuthError::KeyNotRefreshed { retry_after: after },
        }
    }
}

impl Authenticator {
    pub(super) fn new(settings: Settings) -> Self {
        Self { cache_key: CacheKey::new(), settings }
    }

    /// What tells this room from all others.
    #[cfg(test)]
    pub(super) fn id(&self) -> u64 {
        self.cache_key.id()
    }

    /// How far clocks may be apart.
    pub(super) fn skew(&self) -> Duration {
        self.settings.skew
    }

    /// Whom a call proves, now.
    pub(super) fn authenticate(
        &self,
        call: &Call,
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let (notes, lateness) =
            (call.metadata().cache(), self.settings.expiry_leeway(call.method()));
        if let Some(noted) =
            notes.and_then(|notes| notes.get::<Rc<VerifiedCredential>>(&self.cache_key))
            && noted.is_still_trusted()
        {
            noted.validity.check_at(now, lateness)?;
            return Ok(Rc::clone(&noted));
        }
        let verified = match self.cached(call, now) {
            Some(seen) => seen?,
            None => match token::credential_value(call.metadata())? {
                Some(value) => self.authenticate_header(call, &value, now)?,
                None => return Ok(self.authenticate_certificate(call.certificate(), now)?),
            },
        };
        if let Some(notes) = notes {
            notes.insert(&self.cache_key, Rc::clone(&verified));
        }
        Ok(verified)
    }

    /// Whom the value of a call's header proves, which is not known to be right.
    fn authenticate_header(
        &self,
        call: &Call,
        value: &[u8],
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let (room, notes) = (self.cache_key.id(), call.metadata().cache());
        let noted = notes.and_then(|notes| notes.get::<Rc<CachedRejection>>(&self.cache_key));
        if let Some(denial) = noted.and_then(|refused| refused.error_at(now)) {
            return Err(denial.into());
        }
        let digest = HeaderDigest::of(call.metadata(), call.method().is_release());
        let known = digest.as_ref().and_then(|digest| rejections::get(room, digest, now));
        if let Some((refused, denial)) =
            known.and_then(|it| Some((Rc::clone(&it), it.error_at(now)?)))
        {
            self.cache_rejection(notes, refused);
            return Err(denial.into());
        }
        let token = token::parse_bearer(value)?;
        let mut effort = Effort::default();
        let late = self.settings.expiry_leeway(call.method());
        let verified = self.authenticate_token_with(token, (now, late), &mut effort).inspect_err(
            |undecided| {
                if let AuthFailure::Rejected(denial, _) = undecided
                    && let Some(refused) = CachedRejection::new(*denial, now, effort.keys.take())
                {
                    if let Some(digest) = &digest {
                        rejections::insert(room, digest, &refused);
                    }
                    self.cache_rejection(notes, refused);
                }
            },
        )?;
        // Listed tokens are compared in constant time, always; and a token is remembered as
        // clients write it, not in every spelling that there can be of it.
        let is_kept = verified.is_signed() && token::is_canonical(value, token);
        if let Some(mark) = token::raw_value(call.metadata()).filter(|_| is_kept) {
            verified::insert(room, CredentialKey::Value(mark), &verified);
        }
        Ok(verified)
    }

    fn cache_rejection(&self, notes: Option<&HeadCache>, refused: Rc<CachedRejection>) {
        if let Some(notes) = notes {
            notes.insert(&self.cache_key, refused);
        }
    }

    /// Whom a call proves whose header has come before, octet for octet, on whatever connection.
    fn cached(
        &self,
        call: &Call,
        now: Duration,
    ) -> Option<Result<Rc<VerifiedCredential>, AuthError>> {
        let mark = token::raw_value(call.metadata())?;
        let known = verified::get(self.cache_key.id(), CredentialKey::Value(mark))?;
        let lateness = self.settings.expiry_leeway(call.method());
        known.is_still_trusted().then(|| known.validity.check_at(now, lateness).map(|()| known))
    }

    /// Whom a token proves now, where it is good for so long after its end.
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
        (now, lateness): (Duration, Duration),
        effort: &mut Effort,
    ) -> Result<Rc<VerifiedCredential>, AuthFailure> {
        let room = self.cache_key.id();
        if let Some(known) = verified::get(room, CredentialKey::Token(token))
            && known.is_still_trusted()
        {
            known.validity.check_at(now, lateness)?;
            return Ok(known);
        }
        if let Some(listed) = static_tokens::find(&self.settings.tokens, token) {
            return Ok(Rc::new(VerifiedCredential::permanent(listed.identity.clone())));
        }
        let verified =
            self.verify_jwt(token, (now, lateness), effort).map_err(|undecided| match undecided {
                AuthFailure::Rejected(denial, _) => AuthFailure::Rejected(denial, effort.cost),
                unknown @ AuthFailure::UnknownKey(_) => unknown,
            });
        let verified = Rc::new(verified?);
        verified::insert(room, CredentialKey::Token(token), &verified);
        Ok(verified)
    }

    /// Whom a signed token proves. Its time is asked before its key, so that a client that repeats
    /// an expired token costs no signature and no refresh; what a stranger could learn from an
    /// answer is asked after it.
    fn verify_jwt(
        &self,
        token: &str,
        (now, lateness): (Duration, Duration),
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
        let window = ValidityWindow::from_claims(&jwt.claims, *skew)?;
        window.check_at(now, lateness)?;
        let proof = verify_signature(token, &jwt, issuer, effort)?;
        if !claims::has_audience(&jwt.claims, &issuer.audiences) {
            return Err(AuthError::WrongAudience.into());
        }
        Ok(VerifiedCredential::signed(self.identity(&jwt, issuer)?, window, proof))
    }

    /// Whom the claims of a token name. A user who belongs to another issuer is refused. A group
    /// that does is passed over: it admits to nothing then, and who is in it is not locked out.
    fn identity(&self, jwt: &Jwt<'_>, issuer: &IssuerSettings) -> Result<Identity, AuthError> {
        let mut claimed = claims::raw_identity(&jwt.claims, &issuer.claims)?;
        let (reserved, prefixes) = (&self.settings.reserved, &issuer.claims);
        if reserved.conflict_for_user(&prefixes.user_prefix, &claimed.user).is_some() {
            return Err(AuthError::ReservedUser);
        }
        claimed
            .groups
            .retain(|group| reserved.conflict_for_group(&prefixes.groups_prefix, group).is_none());
        let expires_at = claims::timestamp(&jwt.claims, "exp")?.map(whole_seconds);
        let source = IdentitySource::Token { issuer: Arc::clone(&issuer.issuer) };
        let unsound = |fault| AuthError::from(ClaimError::Invalid(fault));
        Identity::new(claimed, source, expires_at).map_err(unsound)
    }
}

/// Verifies a signature by the keys of the issuer, and by no others.
fn verify_signature(
    token: &str,
    jwt: &Jwt<'_>,
    issuer: &IssuerSettings,
    effort: &mut Effort,
) -> Result<KeyProof, AuthFailure> {
    let seen = issuer.jwks.snapshot();
    effort.keys = Some((Arc::clone(&issuer.jwks), seen.generation));
    let unknown = |seen| {
        let (token, ring) = (token.into(), Arc::clone(&issuer.jwks));
        Err(AuthFailure::UnknownKey(UnknownKey { token, jwks: ring, snapshot: seen }))
    };
    let Some(keys) = &seen.keys else { return unknown(seen) };
    let candidates = match keys.lookup(jwt.kid.as_deref(), jwt.algorithm) {
        Ok(candidates) => candidates,
        Err(KeyLookupError::Unknown) => return unknown(seen.clone()),
        Err(KeyLookupError::Ambiguous) => return Err(AuthError::UnknownKey.into()),
        Err(KeyLookupError::WrongAlgorithm) => return Err(AuthError::InvalidSignature.into()),
    };
    effort.cost = Cost::Verified;
    let mut candidates = candidates.into_iter();
    let key = candidates.find(|key| key.verifies(jwt.algorithm, jwt.signing_input, jwt.signature));
    Ok(KeyProof::new(&issuer.jwks, &seen, key.ok_or(AuthError::InvalidSignature)?))
}

/// Rounded up: a stream that ends for its token must not be admitted again with the same one.
fn whole_seconds(end: Duration) -> u64 {
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authenticate::tests::{
            NOW, Signer, call, claims, jwks, jwks_cache, settings, static_token,
        },
        call::StaticMetadata,
    };
    use serde_json::json;

    fn now() -> Duration {
        Duration::from_secs(NOW)
    }

    #[test]
    fn a_signature_is_verified_once_and_a_wrong_token_is_not_remembered() {
        let judge = Authenticator::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let room = judge.cache_key.id();
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = judge.authenticate_token_at(&token, now()) else { panic!("it is right") };
        let Ok(second) = judge.authenticate_token_at(&token, now()) else {
            panic!("it is still right")
        };
        assert!(Rc::ptr_eq(&first, &second));
        let wrong = Signer::P256.sign("a", &json!({"iss": "https://id.example", "exp": 1}));
        for token in [wrong, format!("{token}A"), Signer::P384.sign("b", &claims())] {
            assert!(judge.authenticate_token_at(&token, now()).is_err());
            assert!(verified::get(room, CredentialKey::Token(&token)).is_none());
        }
    }

    #[test]
    fn a_header_that_came_before_is_not_decoded_again_and_its_time_and_key_still_count() {
        let ring = jwks_cache(&[Signer::P256.jwk("a")]);
        let judge = Authenticator::new(Settings { skew: Duration::ZERO, ..settings(&ring) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let with = || call(StaticMetadata::new("a").with("authorization", header.clone()));
        assert!(judge.cached(&with(), now()).is_none());
        let Ok(first) = judge.authenticate(&with(), now()) else { panic!("it is right") };
        let Some(Ok(second)) = judge.cached(&with(), now()) else { panic!("it came before") };
        assert!(Rc::ptr_eq(&first, &second));
        let late = now() + Duration::from_hours(2);
        assert!(matches!(judge.cached(&with(), late), Some(Err(_))), "it has expired since");
        let other = call(StaticMetadata::new("a").with("authorization", format!("{header} ")));
        assert!(judge.cached(&other, now()).is_none(), "another value is another header");
        let twice = StaticMetadata::new("a").with("authorization", header.clone());
        let twice = call(twice.with("authorization", header.clone()));
        assert!(judge.cached(&twice, now()).is_none());
        assert!(judge.authenticate(&twice, now()).is_err());
        ring.replace(jwks(&[Signer::P384.jwk("b")]));
        assert!(judge.cached(&with(), now()).is_none(), "its key is gone");
    }

    #[test]
    fn what_is_not_signed_or_not_written_as_clients_write_it_is_looked_up_each_time() {
        let tokens = vec![static_token("secret", "cron")];
        let judge = Authenticator::new(Settings {
            tokens,
            ..settings(&jwks_cache(&[Signer::P256.jwk("a")]))
        });
        let token = Signer::P256.sign("a", &claims());
        for (value, is_kept) in [
            ("Bearer secret".to_owned(), false),
            (format!("Bearer  {token}"), false),
            (format!("bearer {token}"), true),
        ] {
            let with = || call(StaticMetadata::new("a").with("authorization", value.clone()));
            assert!(judge.authenticate(&with(), now()).is_ok(), "{value}");
            assert_eq!(judge.cached(&with(), now()).is_some(), is_kept, "{value}");
        }
    }

    #[test]
    fn a_signature_counts_on_when_its_key_is_among_those_that_come() {
        let ring = jwks_cache(&[Signer::P256.jwk("a")]);
        let judge = Authenticator::new(settings(&ring));
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = judge.authenticate_token_at(&token, now()) else { panic!("it is right") };
        ring.replace(jwks(&[Signer::RSA.jwk("b"), Signer::P256.jwk("a")]));
        let Ok(second) = judge.authenticate_token_at(&token, now()) else {
            panic!("its key is there")
        };
        assert!(Rc::ptr_eq(&first, &second), "it is not verified again");
    }

    #[test]
    fn the_end_of_an_identity_is_rounded_up_to_a_second() {
        let judge = Authenticator::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let ends = |exp: serde_json::Value| {
            let mut claims = claims();
            claims["exp"] = exp;
            let token = judge.authenticate_token_at(&Signer::P256.sign("a", &claims), now());
            token.ok().and_then(|verified| verified.identity.expires_at())
        };
        assert_eq!(ends(json!(NOW + 60)), Some(NOW + 60));
        assert_eq!(ends(json!(1_700_000_060.5)), Some(NOW + 61));
    }

    #[test]
    fn a_listed_token_is_looked_up_before_any_signature() {
        let tokens = vec![static_token("a.b.c", "robot"), static_token("secret", "cron")];
        let judge = Authenticator::new(Settings { tokens, ..Settings::default() });
        for (token, user) in [("a.b.c", "robot"), ("secret", "cron")] {
            let Ok(verified) = judge.authenticate_token_at(token, now()) else {
                panic!("{token} is listed")
            };
            assert_eq!(verified.identity.user(), user);
        }
        assert!(matches!(
            judge.authenticate_token_at("guess", now()),
            Err(AuthFailure::Rejected(AuthError::NotJwt, _))
        ));
    }

    #[test]
    fn a_token_that_names_no_key_is_verified_by_the_only_one_of_its_kind() {
        let keys = [Signer::P256.jwk("a"), Signer::RSA.jwk("b"), Signer::OTHER_RSA.jwk("c")];
        let judge = Authenticator::new(settings(&jwks_cache(&keys)));
        assert!(judge.authenticate_token_at(&Signer::P256.sign(None, &claims()), now()).is_ok());
        let ambiguous = judge.authenticate_token_at(&Signer::RSA.sign(None, &claims()), now());
        assert!(matches!(ambiguous, Err(AuthFailure::Rejected(AuthError::UnknownKey, _))));
    }
}
