//! The decision: whom a call's credential proves.
//!
//! A token in the header decides alone; only a call without one is judged by its certificate. Must
//! never fall back: a wrong token is a refusal, whatever else the call has.

use super::{
    IssuerSettings, KeyRing, Settings,
    claims::{self, Window},
    denial::{ClaimFault, Denial, RETRY},
    keys::NoKey,
    refused::{self, Digest, Refused},
    ring::Standing,
    statics,
    token::{self, Jwt, Parts},
    verified::{self, Proof, Shown, Verified},
};
use crate::{Author, Call, Cost, Identity, Notes, Refusal, identity::Source};
use std::{rc::Rc, sync::Arc, time::Duration};

/// Judges credentials by the settings of one room.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) author: Author,
    pub(super) settings: Settings,
}

/// Why a credential proves nobody, at least for now.
pub(super) enum Undecided {
    /// It does not, and other keys would not help. To find that out was so much work.
    Denied(Denial, Cost),
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
        Self::Denied(denial, Cost::Cheap)
    }
}

impl Undecided {
    /// What is said of a credential that was good before: its key has gone since then.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Denied(denial, cost) => Refusal::from(denial).cost(cost),
            Self::Unknown(unknown) => {
                let seen = Standing { has_failed: false, ..unknown.seen };
                let denial = Unknown { seen, ..unknown }.denial(true, RETRY);
                Refusal::from(denial).cost(Cost::Parsed)
            }
        }
    }
}

/// What it took so far to judge a token.
#[derive(Default)]
struct Effort {
    cost: Cost,
    /// The keys that were looked at, by the number they had before.
    keys: Option<(Arc<KeyRing>, u64)>,
}

impl Unknown {
    /// What is said when no other keys come, to who may try again after so long. `is_asked` says
    /// whether these are the keys that there were when the call had come, or later ones.
    pub(super) fn denial(&self, is_asked: bool, after: Duration) -> Denial {
        match &self.seen {
            Standing { keys: None, .. } => Denial::KeysMissing { after },
            Standing { has_failed: false, .. } if is_asked => Denial::KeyUnknown,
            // Those of a file: there are no others.
            Standing { has_failed: false, rest: None, .. } => Denial::KeyUnknown,
            Standing { .. } => Denial::KeyUnasked { after },
        }
    }
}

impl Judge {
    pub(super) fn new(settings: Settings) -> Self {
        Self { author: Author::new(), settings }
    }

    /// What tells this room from all others.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.author.number()
    }

    /// How far clocks may be apart.
    pub(super) fn skew(&self) -> Duration {
        self.settings.skew
    }

    /// Whom a call proves, now.
    pub(super) fn call(&self, call: &Call, now: Duration) -> Result<Rc<Verified>, Undecided> {
        let (notes, lateness) = (call.metadata().notes(), self.settings.lateness(call.method()));
        if let Some(noted) = notes.and_then(|notes| notes.read::<Rc<Verified>>(&self.author))
            && noted.stands()
        {
            noted.window.holds(now, lateness)?;
            return Ok(Rc::clone(&noted));
        }
        let verified = match self.seen(call, now) {
            Some(seen) => seen?,
            None => match token::header(call.metadata())? {
                Some(value) => self.header(call, &value, now)?,
                None => return Ok(self.certificate(call.certificate(), now)?),
            },
        };
        if let Some(notes) = notes {
            notes.write(&self.author, Rc::clone(&verified));
        }
        Ok(verified)
    }

    /// Whom the value of a call's header proves, which is not known to be right.
    fn header(&self, call: &Call, value: &[u8], now: Duration) -> Result<Rc<Verified>, Undecided> {
        let (room, notes) = (self.author.number(), call.metadata().notes());
        let noted = notes.and_then(|notes| notes.read::<Rc<Refused>>(&self.author));
        if let Some(denial) = noted.and_then(|refused| refused.denial(now)) {
            return Err(denial.into());
        }
        let digest = Digest::of(call.metadata(), call.method().is_release());
        let known = digest.as_ref().and_then(|digest| refused::recall(room, digest, now));
        if let Some((refused, denial)) =
            known.and_then(|it| Some((Rc::clone(&it), it.denial(now)?)))
        {
            self.note(notes, refused);
            return Err(denial.into());
        }
        let token = token::bearer(value)?;
        let mut effort = Effort::default();
        let late = self.settings.lateness(call.method());
        let verified =
            self.token_with(token, (now, late), &mut effort).inspect_err(|undecided| {
                if let Undecided::Denied(denial, _) = undecided
                    && let Some(refused) = Refused::new(*denial, now, effort.keys.take())
                {
                    if let Some(digest) = &digest {
                        refused::remember(room, digest, &refused);
                    }
                    self.note(notes, refused);
                }
            })?;
        // Listed tokens are compared in constant time, always; and a token is remembered as
        // clients write it, not in every spelling that there can be of it.
        let is_kept = verified.is_signed() && token::is_plain(value, token);
        if let Some(mark) = token::mark(call.metadata()).filter(|_| is_kept) {
            verified::remember(room, Shown::Value(mark), &verified);
        }
        Ok(verified)
    }

    fn note(&self, notes: Option<&Notes>, refused: Rc<Refused>) {
        if let Some(notes) = notes {
            notes.write(&self.author, refused);
        }
    }

    /// Whom a call proves whose header has come before, octet for octet, on whatever connection.
    fn seen(&self, call: &Call, now: Duration) -> Option<Result<Rc<Verified>, Denial>> {
        let mark = token::mark(call.metadata())?;
        let known = verified::recall(self.author.number(), Shown::Value(mark))?;
        let lateness = self.settings.lateness(call.method());
        known.stands().then(|| known.window.holds(now, lateness).map(|()| known))
    }

    /// Whom a token proves now, where it is good for so long after its end.
    pub(super) fn token_for(
        &self,
        token: &str,
        times: (Duration, Duration),
    ) -> Result<Rc<Verified>, Undecided> {
        self.token_with(token, times, &mut Effort::default())
    }

    #[cfg(test)]
    pub(super) fn token(&self, token: &str, now: Duration) -> Result<Rc<Verified>, Undecided> {
        self.token_for(token, (now, self.settings.skew))
    }

    fn token_with(
        &self,
        token: &str,
        (now, lateness): (Duration, Duration),
        effort: &mut Effort,
    ) -> Result<Rc<Verified>, Undecided> {
        let room = self.author.number();
        if let Some(known) = verified::recall(room, Shown::Token(token))
            && known.stands()
        {
            known.window.holds(now, lateness)?;
            return Ok(known);
        }
        if let Some(listed) = statics::find(&self.settings.tokens, token) {
            return Ok(Rc::new(Verified::lasting(listed.identity.clone())));
        }
        let verified =
            self.signed(token, (now, lateness), effort).map_err(|undecided| match undecided {
                Undecided::Denied(denial, _) => Undecided::Denied(denial, effort.cost),
                unknown @ Undecided::Unknown(_) => unknown,
            });
        let verified = Rc::new(verified?);
        verified::remember(room, Shown::Token(token), &verified);
        Ok(verified)
    }

    /// Whom a signed token proves. Its time is asked before its key, so that a client that repeats
    /// an expired token costs no signature and no refresh; what a stranger could learn from an
    /// answer is asked after it.
    fn signed(
        &self,
        token: &str,
        (now, lateness): (Duration, Duration),
        effort: &mut Effort,
    ) -> Result<Verified, Undecided> {
        let Settings { issuers, skew, .. } = &self.settings;
        let parts = Parts::of(token)?;
        effort.cost = Cost::Parsed;
        let jwt = Jwt::parse(&parts)?;
        let issuer = issuers.iter().find(|issuer| jwt.issuer() == Some(&*issuer.issuer));
        let issuer = issuer.ok_or(Denial::Issuer)?;
        if !issuer.algorithms.contains(&jwt.algorithm) {
            return Err(Denial::Algorithm.into());
        }
        let window = Window::of(&jwt.claims, *skew)?;
        window.holds(now, lateness)?;
        let proof = prove(token, &jwt, issuer, effort)?;
        if !claims::is_meant_for(&jwt.claims, &issuer.audiences) {
            return Err(Denial::Audience.into());
        }
        Ok(Verified::signed(self.owner(&jwt, issuer)?, window, proof))
    }

    /// Whom the claims of a token name. A user who belongs to another issuer is refused. A group
    /// that does is passed over: it admits to nothing then, and who is in it is not locked out.
    fn owner(&self, jwt: &Jwt<'_>, issuer: &IssuerSettings) -> Result<Identity, Denial> {
        let mut claimed = claims::owner(&jwt.claims, &issuer.claims)?;
        let (reserved, prefixes) = (&self.settings.reserved, &issuer.claims);
        if reserved.user(&prefixes.user_prefix, &claimed.user).is_some() {
            return Err(Denial::Foreign);
        }
        claimed.groups.retain(|group| reserved.group(&prefixes.groups_prefix, group).is_none());
        let expires_at = claims::moment(&jwt.claims, "exp")?.map(whole_seconds);
        let source = Source::Token { issuer: Arc::clone(&issuer.issuer) };
        let unsound = |fault| Denial::from(ClaimFault::Unsound(fault));
        Identity::new(claimed, source, expires_at).map_err(unsound)
    }
}

/// Verifies a signature by the keys of the issuer, and by no others.
fn prove(
    token: &str,
    jwt: &Jwt<'_>,
    issuer: &IssuerSettings,
    effort: &mut Effort,
) -> Result<Proof, Undecided> {
    let seen = issuer.keys.standing();
    effort.keys = Some((Arc::clone(&issuer.keys), seen.generation));
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
    effort.cost = Cost::Verified;
    let mut candidates = candidates.into_iter();
    let key = candidates.find(|key| key.verifies(jwt.algorithm, jwt.message, jwt.signature));
    Ok(Proof::new(&issuer.keys, &seen, key.ok_or(Denial::Signature)?))
}

/// Rounded up: a stream that ends for its token must not be admitted again with the same one.
fn whole_seconds(end: Duration) -> u64 {
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authenticate::tests::{NOW, Signer, call, claims, jwks, listed, ring, settings},
        call::Listed,
    };
    use serde_json::json;

    fn now() -> Duration {
        Duration::from_secs(NOW)
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
    fn what_is_not_signed_or_not_written_as_clients_write_it_is_looked_up_each_time() {
        let tokens = vec![listed("secret", "cron")];
        let judge = Judge::new(Settings { tokens, ..settings(&ring(&[Signer::P256.jwk("a")])) });
        let token = Signer::P256.sign("a", &claims());
        for (value, is_kept) in [
            ("Bearer secret".to_owned(), false),
            (format!("Bearer  {token}"), false),
            (format!("bearer {token}"), true),
        ] {
            let with = || call(Listed::new("a").with("authorization", value.clone()));
            assert!(judge.call(&with(), now()).is_ok(), "{value}");
            assert_eq!(judge.seen(&with(), now()).is_some(), is_kept, "{value}");
        }
    }

    #[test]
    fn a_signature_counts_on_when_its_key_is_among_those_that_come() {
        let ring = ring(&[Signer::P256.jwk("a")]);
        let judge = Judge::new(settings(&ring));
        let token = Signer::P256.sign("a", &claims());
        let Ok(first) = judge.token(&token, now()) else { panic!("it is right") };
        ring.replace(jwks(&[Signer::RSA.jwk("b"), Signer::P256.jwk("a")]));
        let Ok(second) = judge.token(&token, now()) else { panic!("its key is there") };
        assert!(Rc::ptr_eq(&first, &second), "it is not verified again");
    }

    #[test]
    fn the_end_of_an_identity_is_rounded_up_to_a_second() {
        let judge = Judge::new(settings(&ring(&[Signer::P256.jwk("a")])));
        let ends = |exp: serde_json::Value| {
            let mut claims = claims();
            claims["exp"] = exp;
            let token = judge.token(&Signer::P256.sign("a", &claims), now());
            token.ok().and_then(|verified| verified.identity.expires_at())
        };
        assert_eq!(ends(json!(NOW + 60)), Some(NOW + 60));
        assert_eq!(ends(json!(1_700_000_060.5)), Some(NOW + 61));
    }

    #[test]
    fn a_listed_token_is_looked_up_before_any_signature() {
        let tokens = vec![listed("a.b.c", "robot"), listed("secret", "cron")];
        let judge = Judge::new(Settings { tokens, ..Settings::default() });
        for (token, user) in [("a.b.c", "robot"), ("secret", "cron")] {
            let Ok(verified) = judge.token(token, now()) else { panic!("{token} is listed") };
            assert_eq!(verified.identity.user(), user);
        }
        assert!(matches!(judge.token("guess", now()), Err(Undecided::Denied(Denial::Unsigned, _))));
    }

    #[test]
    fn a_token_that_names_no_key_is_verified_by_the_only_one_of_its_kind() {
        let keys = [Signer::P256.jwk("a"), Signer::RSA.jwk("b"), Signer::OTHER_RSA.jwk("c")];
        let judge = Judge::new(settings(&ring(&keys)));
        assert!(judge.token(&Signer::P256.sign(None, &claims()), now()).is_ok());
        let ambiguous = judge.token(&Signer::RSA.sign(None, &claims()), now());
        assert!(matches!(ambiguous, Err(Undecided::Denied(Denial::KeyUnknown, _))));
    }
}
