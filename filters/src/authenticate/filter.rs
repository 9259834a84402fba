//! The filter: authenticates a call, or lets it wait for a JWKS refresh.

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

/// Timers may fire this much late, so that a refresh is allowed later than announced.
const TIMER_SLACK: Duration = Duration::from_millis(100);
/// Maximum number of groups, and of teams, that an explanation shows.
const NAMES_SHOWN_MAX: usize = 20;

/// Authenticates callers.
#[derive(Debug)]
pub struct Authenticate {
    /// Shared with waiting calls.
    authenticator: Arc<Authenticator>,
}

impl Authenticate {
    /// A filter with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { authenticator: Arc::new(Authenticator::new(settings)) }
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> u64 {
        self.authenticator.id()
    }

    /// Lets a call wait for a JWKS refresh, if one is allowed. The token is then checked at the
    /// time at which the call was opened; the fetcher limits the wait.
    fn wait_for_keys(&self, unknown: UnknownKey, call: &Call, now: Duration) -> Decision {
        let refresh = match unknown.jwks.request_refresh(&unknown.snapshot, call.peer().ip()) {
            Ok(refresh) => refresh,
            Err(RefreshError::CoolingDown) => {
                let after =
                    until_refresh_allowed(unknown.snapshot.cooldown, Some(call.opened_at()));
                return refuse(unknown.error(false, after), Cost::Parsed);
            }
            Err(RefreshError::TooManyWaiters) => {
                return refuse(AuthError::TooManyWaiters, Cost::Parsed);
            }
        };
        let (authenticator, token) = (Arc::clone(&self.authenticator), unknown.token);
        let leeway = authenticator.settings.expiry_leeway(call.method());
        let is_asked = !refresh.began_before_call();
        Decision::Pending(PendingDecision::new(async move {
            refresh.finished().await;
            match authenticator.authenticate_token(&token, (now, leeway)) {
                Ok(verified) => Ok(verified.attributes()),
                Err(AuthFailure::Rejected(error, cost)) => {
                    Err(Refusal::from(error).with_cost(cost))
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
            Err(rejected @ AuthFailure::Rejected(..)) => Decision::Refused(rejected.into_refusal()),
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

    fn recheck_time(&self, call: &Call, wall_time: SystemTime) -> Result<(), Refusal> {
        let now = unix_time(Some(wall_time)).ok_or(AuthError::NoWallTime)?;
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

fn refuse(error: AuthError, cost: Cost) -> Decision {
    Decision::Refused(Refusal::from(error).with_cost(cost))
}

/// Time until a refresh is allowed, from `now` or from the start of the cooldown.
fn until_refresh_allowed(cooldown: Option<RefreshCooldown>, now: Option<Instant>) -> Duration {
    let Some(RefreshCooldown { started_at, duration }) = cooldown else { return RETRY_AFTER };
    let elapsed = now.map_or(Duration::ZERO, |now| now.saturating_duration_since(started_at));
    // A client that retries exactly at the end of the cooldown would be refused recheck.
    duration.saturating_sub(elapsed).saturating_add(TIMER_SLACK)
}

/// Time since the Unix epoch; `None` for a clock that is before it.
fn unix_time(wall_time: Option<SystemTime>) -> Option<Duration> {
    wall_time?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn describe_identity(
    identity: &Identity,
    now: Duration,
    (skew, is_release): (Duration, bool),
) -> String {
    let mut text = format!("user '{}' by {}", identity.user(), identity.source());
    for (what, names) in [("groups", identity.groups()), ("teams", identity.teams())] {
        if names.is_empty() {
            continue;
        }
        let listed: Vec<_> = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
        // Writing to a `String` never fails.
        let _ = write!(text, ", {what} {}", listed.join(", "));
        if let Some(more) = names.len().checked_sub(NAMES_SHOWN_MAX).filter(|more| *more > 0) {
            let _ = write!(text, " and {more} more");
        }
    }
    if let Some(end) = identity.expires_at() {
        let _ = match end.checked_sub(now.as_secs()).filter(|left| *left > 0) {
            Some(left) => write!(text, "; expires in {left} s"),
            None if now < Duration::from_secs(end).saturating_add(skew) => {
                write!(text, "; the credential has expired within the clock skew")
            }
            None if is_release => {
                write!(text, "; the credential has expired, but may still release its user's work")
            }
            None => write!(
                text,
                "; the credential has expired: only sessions that began before continue"
            ),
        };
    }
    text
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
                NOW, Signer, call, call_at, claims, jwks_cache, key_set, poll, settings,
                static_token,
            },
        },
        call::StaticMetadata,
        identity::{IdentitySource, RawIdentity},
    };
    use std::{pin::pin, rc::Rc, task::Poll};

    fn with(token: &str) -> Call {
        call(StaticMetadata::new("a").with("authorization", format!("Bearer {token}")))
    }

    fn label(decision: Decision) -> &'static str {
        match decision {
            Decision::Refused(refusal) => refusal.label,
            Decision::Admitted => "admitted",
            Decision::Pending(_) => "pending",
        }
    }

    fn pending(filter: &Authenticate, token: &str) -> PendingDecision {
        match filter.admit(&mut with(token)) {
            Decision::Pending(pending_call) => pending_call,
            other @ (Decision::Admitted | Decision::Refused(_)) => panic!("{}", label(other)),
        }
    }

    #[test]
    fn a_call_with_an_unknown_key_is_admitted_after_the_refresh() {
        let jwks = jwks_cache(&[Signer::P256.jwk("old")]);
        let filter = Authenticate::new(settings(&jwks));
        jwks.allow_refresh();
        let token = Signer::P384.sign("new", &claims());
        let mut pending_call = pending(&filter, &token);
        assert!(poll(pin!(&mut pending_call)).is_pending());
        jwks.replace(key_set(&[Signer::P384.jwk("new")]));
        let Poll::Ready(Ok(attributes)) = poll(pin!(pending_call)) else {
            panic!("the key is there")
        };
        assert_eq!(attributes.identity.unwrap().user(), "ann");
        assert_eq!(label(filter.admit(&mut with(&token))), "admitted");
    }

    fn cooldown() -> RefreshCooldown {
        RefreshCooldown { started_at: Instant::now(), duration: Duration::from_secs(10) }
    }

    #[test]
    fn a_key_is_unknown_only_after_a_refresh() {
        let jwks = jwks_cache(&[Signer::P256.jwk("old")]);
        let filter = Authenticate::new(settings(&jwks));
        let token = Signer::P384.sign("new", &claims());
        assert_eq!(label(filter.admit(&mut with(&token))), "authenticate.key_unknown", "of a file");
        let came: fn(&JwksCache) =
            |jwks| jwks.fetch_finished(Some(key_set(&[Signer::RSA.jwk("x")])), cooldown());
        let failed: fn(&JwksCache) = |jwks| jwks.fetch_finished(None, cooldown());
        let unknown = (Code::Unauthenticated, "authenticate.key_unknown");
        let unasked = (Code::Unavailable, "authenticate.key_not_refreshed");
        for (end, expected) in [(failed, unasked), (came, unknown), (failed, unasked)] {
            jwks.allow_refresh();
            let pending_call = pending(&filter, &token);
            jwks.fetch_started();
            let late = pending(&filter, &token);
            end(&jwks);
            let Poll::Ready(Err(waited)) = poll(pin!(pending_call)) else { panic!("it has ended") };
            assert_eq!((waited.code, waited.label), expected);
            let Poll::Ready(Err(late)) = poll(pin!(late)) else { panic!("it has ended") };
            let Decision::Refused(closed) = filter.admit(&mut with(&token)) else {
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
    fn a_call_whose_key_was_removed_after_admission_is_refused() {
        let jwks = jwks_cache(&[Signer::P256.jwk("a"), Signer::P384.jwk("b")]);
        let filter = Authenticate::new(settings(&jwks));
        let mut call = with(&Signer::P256.sign("a", &claims()));
        let wall_time = call.wall_time().unwrap();
        assert_eq!(label(filter.admit(&mut call)), "admitted");
        let recheck = |wall_time| filter.recheck_time(&call, wall_time).err();
        let expired = recheck(wall_time + Duration::from_secs(3600)).map(|refusal| refusal.label);
        assert_eq!((recheck(wall_time), expired), (None, Some("authenticate.expired")));
        jwks.fetch_finished(Some(key_set(&[Signer::P384.jwk("b")])), cooldown());
        jwks.fetch_finished(None, cooldown());
        let refusal = recheck(wall_time).unwrap();
        assert_eq!(
            (refusal.code, refusal.label),
            (Code::Unauthenticated, "authenticate.key_unknown")
        );
        assert_eq!(
            filter.recheck(&mut call.copy_for_recheck(wall_time)).unwrap_err().label,
            refusal.label
        );
    }

    #[test]
    fn a_retry_delay_ends_when_a_refresh_is_allowed() {
        let second = Duration::from_secs(1);
        let (since, lasts) = (Instant::now(), second * 10);
        let left = |elapsed| {
            until_refresh_allowed(
                Some(RefreshCooldown { started_at: since, duration: lasts }),
                Some(since + elapsed),
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
    fn many_unknown_keys_cause_one_refresh_and_leave_capacity_for_others() {
        let jwks = jwks_cache(&[Signer::P256.jwk("old")]);
        let filter = Authenticate::new(settings(&jwks));
        jwks.allow_refresh();
        let token = |at: usize| Signer::ED25519.sign(&*format!("key {at}"), &claims());
        let most = WAITERS_MAX / 2;
        let mut waiting: Vec<_> = (0..most).map(|at| pending(&filter, &token(at))).collect();
        let Decision::Refused(refusal) = filter.admit(&mut with(&token(most))) else {
            panic!("too many wait")
        };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.busy"));
        assert_eq!(refusal.retry_after, Some(RETRY_AFTER));
        let metadata =
            StaticMetadata::new("a").with("authorization", format!("Bearer {}", token(most)));
        let elsewhere = ([127, 0, 0, 2], 1).into();
        let other = Call::new(Method::Config, Rc::new(metadata), elsewhere, Instant::now());
        let wall_time = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        assert_eq!(label(filter.admit(&mut other.with_wall_time(wall_time))), "pending");
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Ready(()));
        jwks.fetch_finished(None, cooldown());
        assert!(waiting.iter_mut().all(|pending_call| poll(pin!(pending_call)).is_ready()));
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Pending);
        assert_eq!(label(filter.admit(&mut with(&token(0)))), "authenticate.key_not_refreshed");
        let known = Signer::P256.sign("old", &claims());
        assert_eq!(label(filter.admit(&mut with(&known))), "admitted");
    }

    #[test]
    fn without_fetched_keys_the_refusal_is_unavailable() {
        let jwks = Arc::new(JwksCache::new());
        let filter = Authenticate::new(settings(&jwks));
        let token = Signer::P256.sign("a", &claims());
        let Decision::Refused(refusal) = filter.admit(&mut with(&token)) else { panic!("no keys") };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.keys_missing"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        jwks.allow_refresh();
        let failed = pending(&filter, &token);
        jwks.close();
        let Poll::Ready(Err(refusal)) = poll(pin!(failed)) else { panic!("it has ended") };
        assert_eq!(refusal.label, "authenticate.keys_missing");
        jwks.allow_refresh();
        let fetched = pending(&filter, &token);
        jwks.replace(key_set(&[Signer::P256.jwk("a")]));
        assert!(matches!(poll(pin!(fetched)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn an_invalid_signature_of_a_known_key_requests_no_refresh() {
        let jwks = jwks_cache(&[Signer::RSA.jwk("a")]);
        let filter = Authenticate::new(settings(&jwks));
        jwks.allow_refresh();
        let forged = Signer::OTHER_RSA.sign("a", &claims());
        assert_eq!(label(filter.admit(&mut with(&forged))), "authenticate.signature");
        assert_eq!(poll(pin!(jwks.refresh_requested())), Poll::Pending);
    }

    #[test]
    fn it_explains_user_credential_and_expiry() {
        let filter = Authenticate::new(settings(&jwks_cache(&[Signer::P256.jwk("a")])));
        let text = filter.explain(&with(&Signer::P256.sign("a", &claims()))).unwrap();
        let expected = "user 'ann' by a token of https://id.example, groups a, b; expires in \
                        3600 s";
        assert_eq!(text, expected);
        assert_eq!(filter.explain(&with("x")), None);
    }

    #[test]
    fn an_explanation_truncates_long_group_lists() {
        let mut settings = settings(&jwks_cache(&[Signer::P256.jwk("a")]));
        settings.issuers[0].claims.teams = Some("teams".to_owned());
        let filter = Authenticate::new(settings);
        let text = |groups: usize| {
            let mut claims = claims();
            claims["groups"] = (0..groups).map(|at| format!("g{at}")).collect();
            claims["teams"] = "ads".into();
            filter.explain(&with(&Signer::P256.sign("a", &claims))).unwrap()
        };
        assert!(text(0).contains("id.example, teams ads; "), "{}", text(0));
        assert!(text(NAMES_SHOWN_MAX).contains(", g19, teams ads; "), "{}", text(NAMES_SHOWN_MAX));
        let more = text(NAMES_SHOWN_MAX + 3);
        assert!(
            more.contains(", groups g0, g1, ") && more.contains(", g19 and 3 more, teams ads;")
        );
    }

    #[test]
    fn a_call_whose_credential_now_has_another_user_is_refused() {
        let filter = |user: &str, name: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let claimed = RawIdentity { user: user.to_owned(), groups, ..RawIdentity::default() };
            let source = IdentitySource::StaticToken { name: name.into() };
            let identity = Identity::new(claimed, source, None).unwrap();
            let tokens = vec![StaticToken { identity, ..static_token("secret", user) }];
            Authenticate::new(Settings { tokens, ..Settings::default() })
        };
        let mut call = with("secret");
        assert_eq!(label(filter("ann", "one", &[]).admit(&mut call)), "admitted");
        let mut recheck = |filter: Authenticate| filter.recheck(&mut call).map_err(|it| it.label);
        assert_eq!(recheck(filter("ina", "one", &[])), Err("authenticate.identity_changed"));
        assert_eq!(recheck(filter("ann", "other", &[])), Err("authenticate.identity_changed"));
        assert_eq!(recheck(filter("ann", "one", &["eng"])), Ok(()));
        assert_eq!(call.identity().unwrap().groups(), ["eng"], "what counts is what is so now");
    }

    #[test]
    fn it_declares_its_name_and_attributes() {
        let filter = Authenticate::new(Settings::default());
        assert_eq!(
            (filter.name(), filter.provides()),
            ("authenticate", &[Attribute::Identity][..])
        );
    }

    #[test]
    fn it_explains_the_use_of_an_expired_token() {
        let (skew, grace) = (Duration::from_secs(30), Duration::from_secs(600));
        let jwks = jwks_cache(&[Signer::P256.jwk("a")]);
        let filter = Authenticate::new(Settings { skew, grace, ..settings(&jwks) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let text = |late| {
            let metadata = StaticMetadata::new("a").with("authorization", header.clone());
            filter.explain(&call_at(NOW + 3600 + late, metadata)).unwrap_or_default()
        };
        assert!(text(29).ends_with("the credential has expired within the clock skew"));
        assert!(
            text(30)
                .ends_with("the credential has expired: only sessions that began before continue")
        );
        assert_eq!(text(630), "");
    }
}
