//! The room itself: it asks the judge, and lets a call wait for keys.

use super::{
    NAME, Settings,
    denial::Denial,
    judge::{Judge, Undecided, Unknown},
    ring::AskFault,
};
use crate::{Admission, Call, Cost, Filter, Identity, Refusal, Slot, Wait};
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

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
    fn ask(&self, unknown: Unknown, now: Duration) -> Admission {
        let attempt = match unknown.ring.ask(&unknown.seen) {
            Ok(attempt) => attempt,
            Err(AskFault::Closed) => return Admission::Refused(unknown_key(unknown.denial())),
            Err(AskFault::Busy) => return Admission::Refused(unknown_key(Denial::Busy)),
        };
        let (judge, token) = (Arc::clone(&self.judge), unknown.token);
        Admission::Wait(Wait::new(async move {
            attempt.over().await;
            match judge.token(&token, now) {
                Ok(verified) => Ok(verified.slots()),
                Err(Undecided::Denied(denial, cost)) => Err(Refusal::from(denial).cost(cost)),
                Err(Undecided::Unknown(still)) => Err(unknown_key(still.denial())),
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
        let Some(now) = time_of(call) else { return refused(Denial::NoTime) };
        match self.judge.call(call, now) {
            Ok(verified) => {
                call.fill(verified.slots());
                Admission::Admitted
            }
            Err(Undecided::Denied(denial, cost)) => {
                Admission::Refused(Refusal::from(denial).cost(cost))
            }
            Err(Undecided::Unknown(unknown)) => self.ask(unknown, now),
        }
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let now = time_of(call)?;
        let verified = self.judge.call(call, now).ok()?;
        Some(told(&verified.identity, now, self.judge.skew()))
    }
}

fn refused(denial: Denial) -> Admission {
    Admission::Refused(Refusal::from(denial))
}

/// The refusal of a token that was parsed, and whose key is not known.
fn unknown_key(denial: Denial) -> Refusal {
    Refusal::from(denial).cost(Cost::Parsed)
}

/// The time of day since the Unix epoch. A clock that stands before it is no clock.
fn time_of(call: &Call) -> Option<Duration> {
    call.wall()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn told(identity: &Identity, now: Duration, skew: Duration) -> String {
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
        let _ = match end.checked_sub(now.as_secs()) {
            Some(left) => write!(told, "; it expires in {left} s"),
            None if now < Duration::from_secs(end).saturating_add(skew) => {
                write!(told, "; it has just expired, which may be a matter of clocks")
            }
            None => write!(told, "; it has expired: only sessions that began before go on"),
        };
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Code,
        authenticate::{
            KeyRing, WAITING_MAX,
            tests::{NOW, Signer, call, call_at, claims, jwks, poll, ring, settings},
        },
        call::Listed,
    };
    use std::{pin::pin, task::Poll};

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

    #[test]
    fn a_key_that_is_not_there_is_the_token_s_fault_and_one_that_could_not_be_asked_for_is_not() {
        let ring = ring(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        let token = Signer::P384.sign("new", &claims());
        let came: fn(&KeyRing) = |ring| ring.replace(jwks(&[Signer::RSA.jwk("x")]));
        let failed: fn(&KeyRing) = KeyRing::settled;
        let unknown = (Code::Unauthenticated, "authenticate.key_unknown", None);
        let again = Some(Duration::from_secs(1));
        let unasked = (Code::Unavailable, "authenticate.key_unasked", again);
        for (end, expected) in [(failed, unasked), (came, unknown), (failed, unasked)] {
            ring.open();
            let wait = waits(&room, &token);
            end(&ring);
            let Poll::Ready(Err(waited)) = poll(pin!(wait)) else { panic!("it has ended") };
            // And while no other attempt may be made.
            let Admission::Refused(closed) = room.admit(&mut with(&token)) else {
                panic!("it is closed")
            };
            for refusal in [waited, closed] {
                assert_eq!((refusal.code, refusal.label, refusal.retry_after), expected);
            }
        }
    }

    #[test]
    fn a_storm_of_unknown_keys_asks_once_and_is_bounded() {
        let ring = ring(&[Signer::P256.jwk("old")]);
        let room = Authenticate::new(settings(&ring));
        ring.open();
        let token = |at: usize| Signer::ED25519.sign(&*format!("key {at}"), &claims());
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|at| waits(&room, &token(at))).collect();
        let Admission::Refused(refusal) = room.admit(&mut with(&token(WAITING_MAX))) else {
            panic!("too many wait")
        };
        assert_eq!((refusal.code, refusal.label), (Code::Unavailable, "authenticate.busy"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(poll(pin!(ring.wanted())), Poll::Ready(()));
        ring.settled();
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
