//! The decision: whom a call's credential proves.
//!
//! A token in the header decides alone; only a call without one is judged by its certificate. Must
//! never fall back: a wrong token is a refusal, whatever else the call has.

use super::{
    Certificates, IssuerSettings, KeyRing, Settings,
    claims::{self, Window},
    denial::{ClaimFault, Denial},
    keys::NoKey,
    ring::Standing,
    statics,
    token::{self, Jwt},
    verified::{self, Proof, Shown, Verified},
};
use crate::{
    Author, Call, Certificate, Identity,
    identity::{Claimed, Source},
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// Judges credentials by the settings of one room.
#[derive(Debug)]
pub(super) struct Judge {
    author: Author,
    settings: Settings,
}

/// Why a credential proves nobody, at least for now.
pub(super) enum Undecided {
    /// It does not, and other keys would not help.
    Denied(Denial),
    /// Its key is not known: other keys may be.
    Unknown(Unknown),
}

/// A token whose key is not known.
pub(super) struct Unknown {
    pub(super) token: Box<str>,
    pub(super) ring: Arc<KeyRing>,
    /// The keys among which it was looked for.
    pub(super) seen: Standing,
}

impl From<Denial> for Undecided {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Unknown {
    /// What is said when no other keys come.
    pub(super) fn denial(&self) -> Denial {
        match &self.seen {
            Standing { keys: None, .. } => Denial::KeysMissing,
            Standing { has_failed: true, .. } => Denial::KeyUnasked,
            Standing { .. } => Denial::KeyUnknown,
        }
    }
}

impl Judge {
    pub(super) fn new(settings: Settings) -> Self {
        Self { author: Author::new(), settings }
    }

    /// How far clocks may be apart.
    pub(super) fn skew(&self) -> Duration {
        self.settings.skew
    }

    /// Whom a call proves, now.
    pub(super) fn call(&self, call: &Call, now: Duration) -> Result<Rc<Verified>, Undecided> {
        let notes = call.metadata().notes();
        if let Some(noted) = notes.and_then(|notes| notes.read::<Rc<Verified>>(&self.author))
            && noted.stands()
        {
            noted.window.holds(now)?;
            return Ok(Rc::clone(&noted));
        }
        let verified = match self.seen(call, now) {
            Some(seen) => seen?,
            None => {
                let Some(value) = token::header(call.metadata())? else {
                    return Ok(self.certificate(call.certificate(), now)?);
                };
                let token = token::bearer(&value)?;
                let verified = self.token(token, now)?;
                // Listed tokens are compared in constant time, always; and a token is remembered as
                // clients write it, not in every spelling that there can be of it.
                let is_kept = verified.is_signed() && token::is_plain(&value, token);
                if let Some(mark) = token::mark(call.metadata()).filter(|_| is_kept) {
                    verified::remember(self.author.number(), Shown::Value(mark), &verified);
                }
                verified
            }
        };
        if let Some(notes) = notes {
            notes.write(&self.author, Rc::clone(&verified));
        }
        Ok(verified)
    }

    /// Whom a call proves whose header has come before, octet for octet, on whatever connection.
    fn seen(&self, call: &Call, now: Duration) -> Option<Result<Rc<Verified>, Denial>> {
        let mark = token::mark(call.metadata())?;
        let known = verified::recall(self.author.number(), Shown::Value(mark))?;
        known.stands().then(|| known.window.holds(now).map(|()| known))
    }

    /// Whom a token proves, now.
    pub(super) fn token(&self, token: &str, now: Duration) -> Result<Rc<Verified>, Undecided> {
        let room = self.author.number();
        if let Some(known) = verified::recall(room, Shown::Token(token))
            && known.stands()
        {
            known.window.holds(now)?;
            return Ok(known);
        }
        if let Some(listed) = statics::find(&self.settings.tokens, token) {
            return Ok(Rc::new(Verified::lasting(listed.identity.clone())));
        }
        let verified = Rc::new(self.signed(token, now)?);
        verified::remember(room, Shown::Token(token), &verified);
        Ok(verified)
    }

    /// Whom a signed token proves. Its time is asked before its key, so that a client that repeats
    /// an expired token costs no signature and no refresh; what a stranger could learn from an
    /// answer is asked after it.
    fn signed(&self, token: &str, now: Duration) -> Result<Verified, Undecided> {
        let Settings { issuers, skew, grace, .. } = &self.settings;
        let jwt = Jwt::parse(token)?;
        let issuer = issuers.iter().find(|issuer| jwt.issuer() == Some(&*issuer.issuer));
        let issuer = issuer.ok_or(Denial::Issuer)?;
        if !issuer.algorithms.contains(&jwt.algorithm) {
            return Err(Denial::Algorithm.into());
        }
        let window = Window::of(&jwt.claims, *skew, *grace)?;
        window.holds(now)?;
        let proof = prove(token, &jwt, issuer)?;
        if !claims::is_meant_for(&jwt.claims, &issuer.audiences) {
            return Err(Denial::Audience.into());
        }
        Ok(Verified::signed(owner(&jwt, issuer)?, window, proof))
    }

    /// Whom a client certificate proves: the same for all calls of a connection, until it ends.
    fn certificate(
        &self,
        certificate: Option<&Certificate>,
        now: Duration,
    ) -> Result<Rc<Verified>, Denial> {
        let (Some(settings), Some(certificate)) = (&self.settings.certificates, certificate) else {
            return Err(Denial::Missing);
        };
        let ends = certificate.ends();
        if now >= ends.saturating_add(self.settings.skew) {
            return Err(Denial::CertificateExpired);
        }
        if let Some(noted) = certificate.notes().read::<Rc<Verified>>(&self.author) {
            return Ok(Rc::clone(&noted));
        }
        let user = only_name(certificate, settings).ok_or(Denial::Certificate)?.to_owned();
        let claimed = Claimed { user, ..Claimed::default() };
        let identity = Identity::new(claimed, Source::Certificate, Some(ends.as_secs()));
        let verified = Rc::new(Verified::lasting(identity.map_err(Denial::CertificateName)?));
        certificate.notes().write(&self.author, Rc::clone(&verified));
        Ok(verified)
    }
}

/// Verifies a signature by the keys of the issuer, and by no others.
fn prove(token: &str, jwt: &Jwt<'_>, issuer: &IssuerSettings) -> Result<Proof, Undecided> {
    let seen = issuer.keys.standing();
    let unknown = |seen| {
        let (token, ring) = (token.into(), Arc::clone(&issuer.keys));
        Err(Undecided::Unknown(Unknown { token, ring, seen }))
    };
    let Some(keys) = &seen.keys else { return unknown(seen) };
    let candidates = match keys.find(jwt.kid.as_deref(), jwt.algorithm) {
        Ok(candidates) => candidates,
        Err(NoKey::Unknown) => return unknown(seen.clone()),
        Err(NoKey::Ambiguous) => return Err(Denial::KeyUnknown.into()),
        Err(NoKey::Unfit) => return Err(Denial::Signature.into()),
    };
    let mut candidates = candidates.into_iter();
    let key = candidates.find(|key| key.verifies(jwt.algorithm, jwt.message, jwt.signature));
    Ok(Proof::new(&issuer.keys, &seen, key.ok_or(Denial::Signature)?))
}

fn owner(jwt: &Jwt<'_>, issuer: &IssuerSettings) -> Result<Identity, Denial> {
    let claimed = claims::owner(&jwt.claims, &issuer.claims)?;
    let expires_at = claims::moment(&jwt.claims, "exp")?.map(whole_seconds);
    let source = Source::Token { issuer: Arc::clone(&issuer.issuer) };
    Identity::new(claimed, source, expires_at).map_err(|fault| ClaimFault::Unsound(fault).into())
}

/// Rounded up: a stream that ends for its token must not be admitted again with the same one.
fn whole_seconds(end: Duration) -> u64 {
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

/// The only name that fits: of several, none is the user more than another.
fn only_name<'c>(certificate: &'c Certificate, settings: &Certificates) -> Option<&'c str> {
    let names = certificate.names(settings.user);
    let mut users = names.filter_map(|name| name.strip_prefix(&*settings.prefix));
    let first = users.next()?;
    users.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        NameKind,
        authenticate::tests::{NOW, Signer, call, claims, jwks, listed, ring, settings},
        call::Listed,
    };
    use serde_json::json;

    fn now() -> Duration {
        Duration::from_secs(NOW)
    }

    fn by_certificate(names: &[(NameKind, &str)]) -> Result<String, Denial> {
        let certificates = Certificates { user: NameKind::Uri, prefix: "spiffe://a/".to_owned() };
        let judge =
            Judge::new(Settings { certificates: Some(certificates), ..Settings::default() });
        let names = names.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let verified = judge.certificate(Some(&certificate), now())?;
        let again = judge.certificate(Some(&certificate), now())?;
        assert!(Rc::ptr_eq(&verified, &again), "once for a connection");
        assert_eq!(verified.identity.source(), &Source::Certificate);
        assert_eq!(verified.identity.expires_at(), Some(NOW + 60));
        let late = judge.certificate(Some(&certificate), now() + Duration::from_secs(60));
        assert_eq!(late.err(), Some(Denial::CertificateExpired));
        Ok(verified.identity.user().to_owned())
    }

    #[test]
    fn a_signature_is_verified_once_and_a_wrong_token_is_not_remembered() {
        let judge = Judge::new(settings(&ring(&[Signer::P256.jwk("a")])));
        let room = judge.author.number();
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = judge.token(&token, now()) else { panic!("it is right") };
        let Ok(second) = judge.token(&token, now()) else { panic!("it is still right") };
        assert!(Rc::ptr_eq(&first, &second));
        let wrong = Signer::P256.sign("a", &json!({"iss": "https://id.example", "exp": 1}));
        for token in [wrong, format!("{token}A"), Signer::P384.sign("b", &claims())] {
            assert!(judge.token(&token, now()).is_err());
            assert!(verified::recall(room, Shown::Token(&token)).is_none());
        }
    }

    #[test]
    fn a_header_that_came_before_is_not_decoded_again_and_its_time_and_key_still_count() {
        let ring = ring(&[Signer::P256.jwk("a")]);
        let judge = Judge::new(Settings { skew: Duration::ZERO, ..settings(&ring) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let with = || call(Listed::new("a").with("authorization", header.clone()));
        assert!(judge.seen(&with(), now()).is_none());
        let Ok(first) = judge.call(&with(), now()) else { panic!("it is right") };
        let Some(Ok(second)) = judge.seen(&with(), now()) else { panic!("it came before") };
        assert!(Rc::ptr_eq(&first, &second));
        let late = now() + Duration::from_hours(2);
        assert!(matches!(judge.seen(&with(), late), Some(Err(_))), "it has expired since");
        let other = call(Listed::new("a").with("authorization", format!("{header} ")));
        assert!(judge.seen(&other, now()).is_none(), "another value is another header");
        let twice = Listed::new("a").with("authorization", header.clone());
        let twice = call(twice.with("authorization", header.clone()));
        assert!(judge.seen(&twice, now()).is_none());
        assert!(judge.call(&twice, now()).is_err());
        ring.replace(jwks(&[Signer::P384.jwk("b")]));
        assert!(judge.seen(&with(), now()).is_none(), "its key is gone");
    }

    #[test]
    fn a_listed_token_is_looked_up_before_any_signature() {
        let tokens = vec![listed("a.b.c", "robot"), listed("secret", "cron")];
        let judge = Judge::new(Settings { tokens, ..Settings::default() });
        for (token, user) in [("a.b.c", "robot"), ("secret", "cron")] {
            let Ok(verified) = judge.token(token, now()) else { panic!("{token} is listed") };
            assert_eq!(verified.identity.user(), user);
        }
        assert!(matches!(judge.token("guess", now()), Err(Undecided::Denied(Denial::Unsigned))));
    }

    #[test]
    fn a_certificate_names_its_user_behind_the_prefix() {
        let names = [
            (NameKind::Dns, "spiffe://a/dns"),
            (NameKind::Uri, "https://elsewhere"),
            (NameKind::Uri, "spiffe://a/ann"),
        ];
        assert_eq!(by_certificate(&names).as_deref(), Ok("ann"));
    }

    #[test]
    fn a_certificate_proves_nothing_where_none_is_asked_for() {
        let names = vec![(NameKind::Uri, "spiffe://a/ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let judged = Judge::new(Settings::default()).certificate(Some(&certificate), now());
        assert_eq!(judged.err(), Some(Denial::Missing));
    }

    #[test]
    fn a_certificate_with_no_name_that_fits_or_with_two_names_nobody() {
        let (one, other) = ((NameKind::Uri, "spiffe://a/ann"), (NameKind::Uri, "spiffe://a/bob"));
        assert_eq!(by_certificate(&[one, other]), Err(Denial::Certificate));
        assert_eq!(by_certificate(&[]), Err(Denial::Certificate));
        assert_eq!(by_certificate(&[(NameKind::Uri, "spiffe://b/a")]), Err(Denial::Certificate));
        let empty = by_certificate(&[(NameKind::Uri, "spiffe://a/")]);
        assert!(matches!(empty, Err(Denial::CertificateName(_))), "{empty:?}");
    }

    #[test]
    fn a_token_that_names_no_key_is_verified_by_the_only_one_of_its_kind() {
        let keys = [Signer::P256.jwk("a"), Signer::RSA.jwk("b"), Signer::OTHER_RSA.jwk("c")];
        let judge = Judge::new(settings(&ring(&keys)));
        assert!(judge.token(&Signer::P256.sign(None, &claims()), now()).is_ok());
        let ambiguous = judge.token(&Signer::RSA.sign(None, &claims()), now());
        assert!(matches!(ambiguous, Err(Undecided::Denied(Denial::KeyUnknown))));
    }
}
