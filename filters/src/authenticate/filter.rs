//! The room itself: it asks the judge, and lets a call wait for keys.

use super::{
    NAME, Settings,
    authenticator::{AuthFailure, Authenticator, UnknownKey},
    error::{AuthError, RETRY_AFTER},
    jwks_cache::{RefreshCooldown, RefreshError},
};
use crate::{Attribute, Call, Cost, Decision, Filter, Identity, PendingDecision, Refusal};
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How much later than they say a ring may open.
const TIMER_SLACK: Duration = Duration::from_millis(100);
/// How many groups an explanation names at most.
const NAMES_SHOWN_MAX: usize = 20;

/// Proves who calls.
#[derive(Debug)]
pub struct Authenticate {
    /// Shared with the calls that wait.
    authenticator: Arc<Authenticator>,
}

impl Authenticate {
    /// The room for these settings.
    pub fn new(settings: Settings) -> Self {
        Self { authenticator: Arc::new(Authenticator::new(settings)) }
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> u64 {
        self.authenticator.id()
    }

    /// Lets a call wait for other keys, where they may be asked for. It is judged by them at the
    /// time of day when it was opened: whoever fetches keys bounds the wait.
    fn wait_for_keys(&self, unknown: UnknownKey, call: &Call, now: Duration) -> Decision {
        let attempt = match unknown.jwks.request_refresh(&unknown.snapshot, call.peer().ip()) {
            Ok(attempt) => attempt,
            Err(RefreshError::CoolingDown) => {
                let after =
                    until_refresh_allowed(unknown.snapshot.cooldown, Some(call.opened_at()));
                return refuse(unknown.error(false, after), Cost::Parsed);
            }
            Err(RefreshError::TooManyWaiters) => {
                return refuse(AuthError::TooManyWaiters, Cost::Parsed);
            }
        };
        let (judge, token) = (Arc::clone(&self.authenticator), unknown.token);
        let lateness = judge.settings.expiry_leeway(call.method());
        let is_asked = !attempt.began_before_call();
        Decision::Pending(PendingDecision::new(async move {
            attempt.finished().await;
            match judge.authenticate_token(&token, (now, lateness)) {
                Ok(verified) => Ok(verified.attributes()),
                Err(AuthFailure::Rejected(denial, cost)) => {
                    Err(Refusal::from(denial).with_cost(cost))
                }
                Err(AuthFailure::UnknownKey(still)) => {
                    let after = until_refresh_allowed(still.snapshot.cooldown, None);
                    Err(Refusal::from(still.error(is_asked, after)).with_cost(Cost::Parsed))
                }
            }
        }))
    }
}

impl Filter for Authenticate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn provides(&self) -> &'static [Attribute] {
        &[Attribute::Identity]
    }

    fn admit(&self, call: &mut Call) -> Decision {
        let Some(now) = unix_time(call.wall_time()) else {
            return refuse(AuthError::NoWallTime, Cost::Cheap);
        };
        match self.authenticator.authenticate(call, now) {
            Ok(verified) => {
                call.set_attributes(verified.attributes());
                Decision::Admitted
            }
            Err(AuthFailure::UnknownKey(unknown)) => self.wait_for_keys(unknown, call, now),
            Err(denied @ AuthFailure::Rejected(..)) => Decision::Refused(denied.into_refusal()),
        }
    }

    fn recheck(&self, call: &mut Call) -> Result<(), Refusal> {
        let now = unix_time(call.wall_time()).ok_or(AuthError::NoWallTime)?;
        let verified =
            self.authenticator.authenticate(call, now).map_err(AuthFailure::into_refusal)?;
        let before = call.identity()?;
        if before.user() != verified.identity.user()
            || before.source() != verified.identity.source()
        {
            return Err(AuthError::IdentityChanged.into());
        }
        call.set_attributes(verified.attributes());
        Ok(())
    }

    fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        let now = unix_time(Some(wall)).ok_or(AuthError::NoWallTime)?;
        self.authenticator.authenticate(call, now).map(drop).map_err(AuthFailure::into_refusal)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let now = unix_time(call.wall_time())?;
        let verified = self.authenticator.authenticate(call, now).ok()?;
        let is_release = call.method().is_release();
        Some(describe_identity(&verified.identity, now, (self.authenticator.skew(), is_release)))
    }

    fn details(&self, call: &Call) -> Vec<String> {
        self.authenticator.details(call)
    }
}

fn refuse(denial: AuthError, cost: Cost) -> Decision {
    Decision::Refused(Refusal::from(denial).with_cost(cost))
}

/// How long it is until a call may ask for keys, from a moment of the rest or from its beginning.
fn until_refresh_allowed(rest: Option<RefreshCooldown>, now: Option<Instant>) -> Duration {
    let Some(RefreshCooldown { started_at: since, duration: lasts }) = rest else {
        return RETRY_AFTER;
    };
    let gone = now.map_or(Duration::ZERO, |now| now.saturating_duration_since(since));
    // Timers are late: whoever comes to the moment finds it closed.
    lasts.saturating_sub(gone).saturating_add(TIMER_SLACK)
}

/// The time of day since the Unix epoch. A clock that stands before it is no clock.
fn unix_time(wall: Option<SystemTime>) -> Option<Duration> {
    wall?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn describe_identity(
    identity: &Identity,
    now: Duration,
    (skew, is_release): (Duration, bool),
) -> String {
    let mut told = format!("user '{}' by {}", identity.user(), identity.source());
    for (what, names) in [("groups", identity.groups()), ("teams", identity.teams())] {
        if names.is_empty() {
            continue;
        }
        let shown: Vec<_> = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
        // Writing to a text never fails.
        let _ = write!(told, ", {what} {}", shown.join(", "));
        if let Some(more) = names.len().checked_sub(NAMES_SHOWN_MAX).filter(|more| *more > 0) {
            let _ = write!(told, " and {more} more");
        }
    }
    if let Some(end) = identity.expires_at() {
        let _ = match end.checked_sub(now.as_secs()).filter(|left| *left > 0) {
            Some(left) => write!(told, "; it expires in {left} s"),
            None if now < Duration::from_secs(end).saturating_add(skew) => {
                write!(told, "; it has just expired, which may be a matter of clocks")
            }
            None if is_release => write!(told, "; it has expired, and may still end what it began"),
            None => write!(told, "; it has expired: only sessions that began before go on"),
        };
    }
    told
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;
    use crate::{
        Code, Method,
        authenticate::{
            JwksCache, StaticToken, WAITERS_MAX,
            tests::{
                NOW, Signer, call, call_at, claims, jwks, jwks_cache, poll, settings, static_token,
            },
        },
        call::StaticMetadata,
        identity::{IdentitySource, RawIdentity},
    };
    use std::{pin::pin, rc::Rc, task::Poll};

    fn with(token: &str) -> Call {
        call(StaticMetadata::new("a").with("authorization", format!("Bearer {token}")))
    }

    fn label(admission: Decision) -> &'static str {
        match admission {
            Decision::Refused(refusal) => refusal.label,
            Decision::Admitted => "admitted",
            Decision::Pending(_) => "waits",
        }
    }

    fn waits(room: &Authenticate, token: &str) -> PendingDecision {
        match room.admit(&mut with(token)) {
            Decision::Pending(wait) => wait,
            other @ (Decision::Admitted | Decision::Refused(_)) => panic!("{}", label(other)),
        }
    }

    #[test]
    fn a_call_with_an_unknown_key_waits_and_is_admitted_by_the_keys_that_come() {
        let ring = jwks_cache(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        ring.allow_refresh();
        let token = Signer::P384.sign("new", &claims());
        let mut wait = waits(&room, &token);
        assert!(poll(pin!(&mut wait)).is_pending());
        ring.replace(jwks(&[Signer::P384.jwk("new")]));
        let Poll::Ready(Ok(slots)) = poll(pin!(wait)) else { panic!("the key is there") };
        assert_eq!(slots.identity.unwrap().user(), "ann");
        assert_eq!(label(room.admit(&mut with(&token))), "admitted");
    }

    /// A rest that has just begun.
    fn resting() -> RefreshCooldown {
        RefreshCooldown { started_at: Instant::now(), duration: Duration::from_secs(10) }
    }

    #[test]
    fn a_key_that_is_not_there_is_the_token_s_fault_once_its_provider_was_asked() {
        let ring = jwks_cache(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        let token = Signer::P384.sign("new", &claims());
        assert_eq!(label(room.admit(&mut with(&token))), "authenticate.key_unknown", "of a file");
        let came: fn(&JwksCache) =
            |ring| ring.fetch_finished(Some(jwks(&[Signer::RSA.jwk("x")])), resting());
        let failed: fn(&JwksCache) = |ring| ring.fetch_finished(None, resting());
        let unknown = (Code::Unauthenticated, "authenticate.key_unknown");
        let unasked = (Code::Unavailable, "authenticate.key_unasked");
        for (end, expected) in [(failed, unasked), (came, unknown), (failed, unasked)] {
            ring.allow_refresh();
            let wait = waits(&room, &token);
            ring.fetch_started();
            let late = waits(&room, &token);
            end(&ring);
            let Poll::Ready(Err(waited)) = poll(pin!(wait)) else { panic!("it has ended") };
            assert_eq!((waited.code, waited.label), expected);
            let Poll::Ready(Err(late)) = poll(pin!(late)) else { panic!("it has ended") };
            let Decision::Refused(closed) = room.admit(&mut with(&token)) else {
                panic!("it is closed")
            };
            for refusal in [late, closed] {
                assert_eq!((refusal.code, refusal.label), unasked);
                let after = refusal.retry_after.unwrap();
                assert!(after > Duration::from_secs(9) && after < Duration::from_secs(11));
            }
        }
    }

    #[test]
    fn a_call_whose_key_has_gone_since_it_was_admitted_is_refused_and_told_so() {
        let ring = jwks_cache(&[Signer::P256.jwk("a"), Signer::P384.jwk("b")]);
        let room = Authenticate::new(settings(&ring));
        let mut call = with(&Signer::P256.sign("a", &claims()));
        let wall = call.wall_time().unwrap();
        assert_eq!(label(room.admit(&mut call)), "admitted");
        let again = |wall| room.recheck_time(&call, wall).err();
        let expired = again(wall + Duration::from_secs(3600)).map(|refusal| refusal.label);
        assert_eq!((again(wall), expired), (None, Some("authenticate.expired")));
        ring.fetch_finished(Some(jwks(&[Signer::P384.jwk("b")])), resting());
        ring.fetch_finished(None, resting());
        let gone = again(wall).unwrap();
        assert_eq!((gone.code, gone.label), (Code::Unauthenticated, "authenticate.key_unknown"));
        assert_eq!(room.recheck(&mut call.copy_for_recheck(wall)).unwrap_err().label, gone.label);
    }

    #[test]
    fn a_call_may_try_again_when_its_provider_can_be_asked() {
        let second = Duration::from_secs(1);
        let (since, lasts) = (Instant::now(), second * 10);
        let left = |gone| {
            until_refresh_allowed(
                Some(RefreshCooldown { started_at: since, duration: lasts }),
                Some(since + gone),
            )
        };
        assert_eq!(left(second * 4), second * 6 + TIMER_SLACK);
        assert_eq!(left(second * 40), TIMER_SLACK);
        assert_eq!(
            until_refresh_allowed(
                Some(RefreshCooldown { started_at: since, duration: lasts }),
                None
            ),
            lasts + TIMER_SLACK
        );
        assert_eq!(until_refresh_allowed(None, Some(since)), RETRY_AFTER);
    }

    #[test]
    fn a_storm_of_unknown_keys_asks_once_and_leaves_places_for_other_addresses() {
        let ring = jwks_cache(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        ring.allow_refresh();
        let token = |at: usize| Signer::ED25519.sign(&*format!("key {at}"), &claims());
        let most = WAITERS_MAX / 2;
        let mut waiting: Vec<_> = (0..most).map(|at| waits(&room, &token(at))).collect();
        let Decision::Refused(refusal) = room.admit(&mut with(&token(most))) else {
            panic!("too many wait")
        };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.busy"));
        assert_eq!(refusal.retry_after, Some(RETRY_AFTER));
        let metadata =
            StaticMetadata::new("a").with("authorization", format!("Bearer {}", token(most)));
        let elsewhere = ([127, 0, 0, 2], 1).into();
        let other = Call::new(Method::Config, Rc::new(metadata), elsewhere, Instant::now());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        assert_eq!(label(room.admit(&mut other.with_wall_time(wall))), "waits");
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Ready(()));
        ring.fetch_finished(None, resting());
        assert!(waiting.iter_mut().all(|wait| poll(pin!(wait)).is_ready()));
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Pending);
        assert_eq!(label(room.admit(&mut with(&token(0)))), "authenticate.key_unasked");
        let known = Signer::P256.sign("old", &claims());
        assert_eq!(label(room.admit(&mut with(&known))), "admitted");
    }

    #[test]
    fn a_provider_that_never_gave_keys_is_unavailable_and_not_a_reason_to_blame_the_token() {
        let ring = Arc::new(JwksCache::new());
        let room = Authenticate::new(settings(&ring));
        let token = Signer::P256.sign("a", &claims());
        let Decision::Refused(refusal) = room.admit(&mut with(&token)) else { panic!("no keys") };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.keys_missing"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        ring.allow_refresh();
        let failed = waits(&room, &token);
        ring.close();
        let Poll::Ready(Err(refusal)) = poll(pin!(failed)) else { panic!("it has ended") };
        assert_eq!(refusal.label, "authenticate.keys_missing");
        ring.allow_refresh();
        let fetched = waits(&room, &token);
        ring.replace(jwks(&[Signer::P256.jwk("a")]));
        assert!(matches!(poll(pin!(fetched)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_known_key_with_a_wrong_signature_asks_for_nothing() {
        let ring = jwks_cache(&[Signer::RSA.jwk("a")]);
        let room = Authenticate::new(settings(&ring));
        ring.allow_refresh();
        let forged = Signer::OTHER_RSA.sign("a", &claims());
        assert_eq!(label(room.admit(&mut with(&forged))), "authenticate.signature");
        assert_eq!(poll(pin!(ring.refresh_requested())), Poll::Pending);
    }

    #[test]
    fn it_explains_who_calls_by_what_and_for_how_long() {
        let room = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let told = room.explain(&with(&Signer::P256.sign("a", &claims()))).unwrap();
        let expected = "user 'ann' by a token of https://id.example, groups a, b; it expires in \
                        3600 s";
        assert_eq!(told, expected);
        assert_eq!(room.explain(&with("x")), None);
    }

    #[test]
    fn an_explanation_names_some_groups_and_counts_the_others() {
        let mut settings = settings(&jwks_cache(&[Signer::P256.jwk("a")]));
        settings.issuers[0].claims.teams = Some("teams".to_owned());
        let room = Authenticate::new(settings);
        let told = |groups: usize| {
            let mut claims = claims();
            claims["groups"] = (0..groups).map(|at| format!("g{at}")).collect();
            claims["teams"] = "ads".into();
            room.explain(&with(&Signer::P256.sign("a", &claims))).unwrap()
        };
        assert!(told(0).contains("id.example, teams ads; "), "{}", told(0));
        assert!(told(NAMES_SHOWN_MAX).contains(", g19, teams ads; "), "{}", told(NAMES_SHOWN_MAX));
        let more = told(NAMES_SHOWN_MAX + 3);
        assert!(
            more.contains(", groups g0, g1, ") && more.contains(", g19 and 3 more, teams ads;")
        );
    }

    #[test]
    fn a_call_whose_credential_proves_somebody_else_by_now_is_refused() {
        let room = |user: &str, name: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let claimed = RawIdentity { user: user.to_owned(), groups, ..RawIdentity::default() };
            let source = IdentitySource::StaticToken { name: name.into() };
            let identity = Identity::new(claimed, source, None).unwrap();
            let tokens = vec![StaticToken { identity, ..static_token("secret", user) }];
            Authenticate::new(Settings { tokens, ..Settings::default() })
        };
        let mut call = with("secret");
        assert_eq!(label(room("ann", "one", &[]).admit(&mut call)), "admitted");
        let mut again = |room: Authenticate| room.recheck(&mut call).map_err(|it| it.label);
        assert_eq!(again(room("ina", "one", &[])), Err("authenticate.renamed"));
        assert_eq!(again(room("ann", "other", &[])), Err("authenticate.renamed"));
        assert_eq!(again(room("ann", "one", &["eng"])), Ok(()));
        assert_eq!(call.identity().unwrap().groups(), ["eng"], "what counts is what is so now");
    }

    #[test]
    fn the_chain_is_told_its_name_and_what_it_fills() {
        let room = Authenticate::new(Settings::default());
        assert_eq!((room.name(), room.provides()), ("authenticate", &[Attribute::Identity][..]));
    }

    #[test]
    fn it_explains_what_an_expired_token_is_good_for() {
        let (skew, grace) = (Duration::from_secs(30), Duration::from_secs(600));
        let ring = jwks_cache(&[Signer::P256.jwk("a")]);
        let room = Authenticate::new(Settings { skew, grace, ..settings(&ring) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let told = |late| {
            let shown = StaticMetadata::new("a").with("authorization", header.clone());
            room.explain(&call_at(NOW + 3600 + late, shown)).unwrap_or_default()
        };
        assert!(told(29).ends_with("it has just expired, which may be a matter of clocks"));
        assert!(told(30).ends_with("it has expired: only sessions that began before go on"));
        assert_eq!(told(630), "");
    }
}
