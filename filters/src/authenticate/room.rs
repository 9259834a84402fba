//! The room itself: it asks the judge, and lets a call wait for keys.

use super::{
    NAME, Settings,
    denial::{Denial, RETRY},
    judge::{Judge, Undecided, Unknown},
    ring::{AskFault, Rest},
};
use crate::{Admission, Call, Cost, Filter, Identity, Refusal, Slot, Wait};
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How much later than they say a ring may open.
const LATENESS: Duration = Duration::from_millis(100);
/// How many groups an explanation names at most.
const NAMED_MAX: usize = 20;

/// Proves who calls.
#[derive(Debug)]
pub struct Authenticate {
    /// Shared with the calls that wait.
    judge: Arc<Judge>,
}

impl Authenticate {
    /// The room for these settings.
    pub fn new(settings: Settings) -> Self {
        Self { judge: Arc::new(Judge::new(settings)) }
    }

    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.judge.number()
    }

    /// Lets a call wait for other keys, where they may be asked for. It is judged by them at the
    /// time of day when it was opened: whoever fetches keys bounds the wait.
    fn ask(&self, unknown: Unknown, call: &Call, now: Duration) -> Admission {
        let attempt = match unknown.ring.ask(&unknown.seen, call.peer().ip()) {
            Ok(attempt) => attempt,
            Err(AskFault::Closed) => {
                let after = until_open(unknown.seen.rest, Some(call.opened_at()));
                return refused(unknown.denial(false, after), Cost::Parsed);
            }
            Err(AskFault::Busy) => return refused(Denial::Busy, Cost::Parsed),
        };
        let (judge, token) = (Arc::clone(&self.judge), unknown.token);
        let lateness = judge.settings.lateness(call.method());
        let is_asked = !attempt.is_late();
        Admission::Wait(Wait::new(async move {
            attempt.over().await;
            match judge.token_for(&token, (now, lateness)) {
                Ok(verified) => Ok(verified.slots()),
                Err(Undecided::Denied(denial, cost)) => Err(Refusal::from(denial).cost(cost)),
                Err(Undecided::Unknown(still)) => {
                    let after = until_open(still.seen.rest, None);
                    Err(Refusal::from(still.denial(is_asked, after)).cost(Cost::Parsed))
                }
            }
        }))
    }
}

impl Filter for Authenticate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fills(&self) -> &'static [Slot] {
        &[Slot::Identity]
    }

    fn admit(&self, call: &mut Call) -> Admission {
        let Some(now) = time_of(call.wall()) else {
            return refused(Denial::NoTime, Cost::Cheap);
        };
        match self.judge.call(call, now) {
            Ok(verified) => {
                call.fill(verified.slots());
                Admission::Admitted
            }
            Err(Undecided::Unknown(unknown)) => self.ask(unknown, call, now),
            Err(denied @ Undecided::Denied(..)) => Admission::Refused(denied.refusal()),
        }
    }

    fn recheck(&self, call: &mut Call) -> Result<(), Refusal> {
        let now = time_of(call.wall()).ok_or(Denial::NoTime)?;
        let verified = self.judge.call(call, now).map_err(Undecided::refusal)?;
        let before = call.identity()?;
        if before.user() != verified.identity.user()
            || before.source() != verified.identity.source()
        {
            return Err(Denial::Renamed.into());
        }
        call.fill(verified.slots());
        Ok(())
    }

    fn recheck_time(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        let now = time_of(Some(wall)).ok_or(Denial::NoTime)?;
        self.judge.call(call, now).map(drop).map_err(Undecided::refusal)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let now = time_of(call.wall())?;
        let verified = self.judge.call(call, now).ok()?;
        let is_release = call.method().is_release();
        Some(told(&verified.identity, now, (self.judge.skew(), is_release)))
    }

    fn details(&self, call: &Call) -> Vec<String> {
        self.judge.details(call)
    }
}

fn refused(denial: Denial, cost: Cost) -> Admission {
    Admission::Refused(Refusal::from(denial).cost(cost))
}

/// How long it is until a call may ask for keys, from a moment of the rest or from its beginning.
fn until_open(rest: Option<Rest>, now: Option<Instant>) -> Duration {
    let Some(Rest { since, lasts }) = rest else { return RETRY };
    let gone = now.map_or(Duration::ZERO, |now| now.saturating_duration_since(since));
    // Timers are late: whoever comes to the moment finds it closed.
    lasts.saturating_sub(gone).saturating_add(LATENESS)
}

/// The time of day since the Unix epoch. A clock that stands before it is no clock.
fn time_of(wall: Option<SystemTime>) -> Option<Duration> {
    wall?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn told(identity: &Identity, now: Duration, (skew, is_release): (Duration, bool)) -> String {
    let mut told = format!("user '{}' by {}", identity.user(), identity.source());
    for (what, names) in [("groups", identity.groups()), ("teams", identity.teams())] {
        if names.is_empty() {
            continue;
        }
        let shown: Vec<_> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
        // Writing to a text never fails.
        let _ = write!(told, ", {what} {}", shown.join(", "));
        if let Some(more) = names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
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
            KeyRing, StaticToken, WAITING_MAX,
            tests::{NOW, Signer, call, call_at, claims, jwks, listed, poll, ring, settings},
        },
        call::Listed,
        identity::{Claimed, Source},
    };
    use std::{pin::pin, rc::Rc, task::Poll};

    fn with(token: &str) -> Call {
        call(Listed::new("a").with("authorization", format!("Bearer {token}")))
    }

    fn label(admission: Admission) -> &'static str {
        match admission {
            Admission::Refused(refusal) => refusal.label,
            Admission::Admitted => "admitted",
            Admission::Wait(_) => "waits",
        }
    }

    fn waits(room: &Authenticate, token: &str) -> Wait {
        match room.admit(&mut with(token)) {
            Admission::Wait(wait) => wait,
            other @ (Admission::Admitted | Admission::Refused(_)) => panic!("{}", label(other)),
        }
    }

    #[test]
    fn a_call_with_an_unknown_key_waits_and_is_admitted_by_the_keys_that_come() {
        let ring = ring(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        ring.open();
        let token = Signer::P384.sign("new", &claims());
        let mut wait = waits(&room, &token);
        assert!(poll(pin!(&mut wait)).is_pending());
        ring.replace(jwks(&[Signer::P384.jwk("new")]));
        let Poll::Ready(Ok(slots)) = poll(pin!(wait)) else { panic!("the key is there") };
        assert_eq!(slots.identity.unwrap().user(), "ann");
        assert_eq!(label(room.admit(&mut with(&token))), "admitted");
    }

    /// A rest that has just begun.
    fn resting() -> Rest {
        Rest { since: Instant::now(), lasts: Duration::from_secs(10) }
    }

    #[test]
    fn a_key_that_is_not_there_is_the_token_s_fault_once_its_provider_was_asked() {
        let ring = ring(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        let token = Signer::P384.sign("new", &claims());
        assert_eq!(label(room.admit(&mut with(&token))), "authenticate.key_unknown", "of a file");
        let came: fn(&KeyRing) = |ring| ring.ended(Some(jwks(&[Signer::RSA.jwk("x")])), resting());
        let failed: fn(&KeyRing) = |ring| ring.ended(None, resting());
        let unknown = (Code::Unauthenticated, "authenticate.key_unknown");
        let unasked = (Code::Unavailable, "authenticate.key_unasked");
        for (end, expected) in [(failed, unasked), (came, unknown), (failed, unasked)] {
            ring.open();
            let wait = waits(&room, &token);
            ring.begin();
            let late = waits(&room, &token);
            end(&ring);
            let Poll::Ready(Err(waited)) = poll(pin!(wait)) else { panic!("it has ended") };
            assert_eq!((waited.code, waited.label), expected);
            let Poll::Ready(Err(late)) = poll(pin!(late)) else { panic!("it has ended") };
            let Admission::Refused(closed) = room.admit(&mut with(&token)) else {
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
        let ring = ring(&[Signer::P256.jwk("a"), Signer::P384.jwk("b")]);
        let room = Authenticate::new(settings(&ring));
        let mut call = with(&Signer::P256.sign("a", &claims()));
        let wall = call.wall().unwrap();
        assert_eq!(label(room.admit(&mut call)), "admitted");
        let again = |wall| room.recheck_time(&call, wall).err();
        let expired = again(wall + Duration::from_secs(3600)).map(|refusal| refusal.label);
        assert_eq!((again(wall), expired), (None, Some("authenticate.expired")));
        ring.ended(Some(jwks(&[Signer::P384.jwk("b")])), resting());
        ring.ended(None, resting());
        let gone = again(wall).unwrap();
        assert_eq!((gone.code, gone.label), (Code::Unauthenticated, "authenticate.key_unknown"));
        assert_eq!(room.recheck(&mut call.again(wall)).unwrap_err().label, gone.label);
    }

    #[test]
    fn a_call_may_try_again_when_its_provider_can_be_asked() {
        let second = Duration::from_secs(1);
        let (since, lasts) = (Instant::now(), second * 10);
        let left = |gone| until_open(Some(Rest { since, lasts }), Some(since + gone));
        assert_eq!(left(second * 4), second * 6 + LATENESS);
        assert_eq!(left(second * 40), LATENESS);
        assert_eq!(until_open(Some(Rest { since, lasts }), None), lasts + LATENESS);
        assert_eq!(until_open(None, Some(since)), RETRY);
    }

    #[test]
    fn a_storm_of_unknown_keys_asks_once_and_leaves_places_for_other_addresses() {
        let ring = ring(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        ring.open();
        let token = |at: usize| Signer::ED25519.sign(&*format!("key {at}"), &claims());
        let most = WAITING_MAX / 2;
        let mut waiting: Vec<_> = (0..most).map(|at| waits(&room, &token(at))).collect();
        let Admission::Refused(refusal) = room.admit(&mut with(&token(most))) else {
            panic!("too many wait")
        };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.busy"));
        assert_eq!(refusal.retry_after, Some(RETRY));
        let metadata = Listed::new("a").with("authorization", format!("Bearer {}", token(most)));
        let elsewhere = ([127, 0, 0, 2], 1).into();
        let other = Call::new(Method::Config, Rc::new(metadata), elsewhere, Instant::now());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        assert_eq!(label(room.admit(&mut other.with_wall(wall))), "waits");
        assert_eq!(poll(pin!(ring.wanted())), Poll::Ready(()));
        ring.ended(None, resting());
        assert!(waiting.iter_mut().all(|wait| poll(pin!(wait)).is_ready()));
        assert_eq!(poll(pin!(ring.wanted())), Poll::Pending);
        assert_eq!(label(room.admit(&mut with(&token(0)))), "authenticate.key_unasked");
        let known = Signer::P256.sign("old", &claims());
        assert_eq!(label(room.admit(&mut with(&known))), "admitted");
    }

    #[test]
    fn a_provider_that_never_gave_keys_is_unavailable_and_not_a_reason_to_blame_the_token() {
        let ring = Arc::new(KeyRing::new());
        let room = Authenticate::new(settings(&ring));
        let token = Signer::P256.sign("a", &claims());
        let Admission::Refused(refusal) = room.admit(&mut with(&token)) else { panic!("no keys") };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.keys_missing"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        ring.open();
        let failed = waits(&room, &token);
        ring.settled();
        let Poll::Ready(Err(refusal)) = poll(pin!(failed)) else { panic!("it has ended") };
        assert_eq!(refusal.label, "authenticate.keys_missing");
        ring.open();
        let fetched = waits(&room, &token);
        ring.replace(jwks(&[Signer::P256.jwk("a")]));
        assert!(matches!(poll(pin!(fetched)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_known_key_with_a_wrong_signature_asks_for_nothing() {
        let ring = ring(&[Signer::RSA.jwk("a")]);
        let room = Authenticate::new(settings(&ring));
        ring.open();
        let forged = Signer::OTHER_RSA.sign("a", &claims());
        assert_eq!(label(room.admit(&mut with(&forged))), "authenticate.signature");
        assert_eq!(poll(pin!(ring.wanted())), Poll::Pending);
    }

    #[test]
    fn it_explains_who_calls_by_what_and_for_how_long() {
        let room = Authenticate::new(settings(&ring(&[Signer::P256.jwk("a")])));
        let told = room.explain(&with(&Signer::P256.sign("a", &claims()))).unwrap();
        let expected = "user 'ann' by a token of https://id.example, groups a, b; it expires in \
                        3600 s";
        assert_eq!(told, expected);
        assert_eq!(room.explain(&with("x")), None);
    }

    #[test]
    fn an_explanation_names_some_groups_and_counts_the_others() {
        let mut settings = settings(&ring(&[Signer::P256.jwk("a")]));
        settings.issuers[0].claims.teams = Some("teams".to_owned());
        let room = Authenticate::new(settings);
        let told = |groups: usize| {
            let mut claims = claims();
            claims["groups"] = (0..groups).map(|at| format!("g{at}")).collect();
            claims["teams"] = "ads".into();
            room.explain(&with(&Signer::P256.sign("a", &claims))).unwrap()
        };
        assert!(told(0).contains("id.example, teams ads; "), "{}", told(0));
        assert!(told(NAMED_MAX).contains(", g19, teams ads; "), "{}", told(NAMED_MAX));
        let more = told(NAMED_MAX + 3);
        assert!(
            more.contains(", groups g0, g1, ") && more.contains(", g19 and 3 more, teams ads;")
        );
    }

    #[test]
    fn a_call_whose_credential_proves_somebody_else_by_now_is_refused() {
        let room = |user: &str, name: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let claimed = Claimed { user: user.to_owned(), groups, ..Claimed::default() };
            let source = Source::StaticToken { name: name.into() };
            let identity = Identity::new(claimed, source, None).unwrap();
            let tokens = vec![StaticToken { identity, ..listed("secret", user) }];
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
        assert_eq!((room.name(), room.fills()), ("authenticate", &[Slot::Identity][..]));
    }

    #[test]
    fn it_explains_what_an_expired_token_is_good_for() {
        let (skew, grace) = (Duration::from_secs(30), Duration::from_secs(600));
        let ring = ring(&[Signer::P256.jwk("a")]);
        let room = Authenticate::new(Settings { skew, grace, ..settings(&ring) });
        let header = format!("Bearer {}", Signer::P256.sign("a", &claims()));
        let told = |late| {
            let shown = Listed::new("a").with("authorization", header.clone());
            room.explain(&call_at(NOW + 3600 + late, shown)).unwrap_or_default()
        };
        assert!(told(29).ends_with("it has just expired, which may be a matter of clocks"));
        assert!(told(30).ends_with("it has expired: only sessions that began before go on"));
        assert_eq!(told(630), "");
    }
}
