//! Release calls: an expired token may still end work that its user has begun.
//!
//! Otherwise a user with an expired token could neither stop a running query nor release its
//! results, and the driver would keep both. Signature and key are verified as usual, and the user
//! is written into the messages, so that the call reaches only sessions of that user.

use super::Settings;
use crate::Method;
use std::time::Duration;

impl Settings {
    /// How long after its expiry a token is accepted for calls of this method, including the clock
    /// skew.
    pub(super) fn expiry_leeway(&self, method: Method) -> Duration {
        let grace = match method.is_release() {
            true => self.grace.max(self.release_grace),
            false => self.grace,
        };
        self.skew.saturating_add(grace)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;
    use crate::{
        Call, Decision, Filter,
        authenticate::{
            Authenticate,
            tests::{NOW, Signer, claims, jwks_cache, key_set, settings},
        },
        call::StaticMetadata,
    };
    use std::{
        rc::Rc,
        time::{Instant, SystemTime},
    };

    const DAY: u64 = 24 * 3600;
    const RELEASES: [Method; 3] =
        [Method::ReleaseExecute, Method::ReleaseSession, Method::Interrupt];
    const OTHERS: [Method; 9] = [
        Method::ExecutePlan,
        Method::ReattachExecute,
        Method::AnalyzePlan,
        Method::Config,
        Method::AddArtifacts,
        Method::ArtifactStatus,
        Method::FetchErrorDetails,
        Method::CloneSession,
        Method::GetStatus,
    ];

    fn label_of(filter: &Authenticate, method: Method, token: &str, seconds: u64) -> &'static str {
        let metadata = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
        let call = Call::new(method, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), Instant::now());
        let wall_time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        match filter.admit(&mut call.with_wall_time(wall_time)) {
            Decision::Admitted => "admitted",
            Decision::Refused(refusal) => refusal.label,
            Decision::Pending(_) => "pending",
        }
    }

    fn filter(
        grace: u64,
        release_grace: u64,
    ) -> (Authenticate, std::sync::Arc<crate::authenticate::JwksCache>) {
        let jwks = jwks_cache(&[Signer::P256.jwk("a")]);
        let [grace, release_grace] = [grace, release_grace].map(Duration::from_secs);
        let skew = Duration::from_secs(30);
        let settings = Settings { skew, grace, release_grace, ..settings(&jwks) };
        (Authenticate::new(settings), jwks)
    }

    fn token_expiring_at(at: u64) -> String {
        let mut claims = claims();
        claims["exp"] = at.into();
        Signer::P256.sign("a", &claims)
    }

    #[test]
    fn an_expired_token_is_accepted_for_release_calls_only_within_the_grace() {
        let (filter, _) = filter(0, DAY);
        let token = token_expiring_at(NOW);
        let last = NOW + 30 + DAY - 1;
        // The rejection of one kind of call must not be used for the other kind.
        for _ in 0..2 {
            for seconds in [NOW + 30, last] {
                for method in OTHERS {
                    assert_eq!(label_of(&filter, method, &token, seconds), "authenticate.expired");
                }
                for method in RELEASES {
                    assert_eq!(label_of(&filter, method, &token, seconds), "admitted");
                }
            }
            for method in RELEASES {
                assert_eq!(label_of(&filter, method, &token, last + 1), "authenticate.expired");
            }
        }
        let other = Method::Other;
        assert_eq!(label_of(&filter, other, &token, NOW + 30), "authenticate.expired");
    }

    #[test]
    fn the_refusal_of_an_expired_token_says_what_to_do() {
        let refusal = crate::authenticate::token_expired();
        assert_eq!(refusal.code, crate::Code::Unauthenticated);
        let message = "the token has expired: call spark.stop(), then create a new session with a \
                       new token";
        assert_eq!(refusal.message, message);
        let (filter, _) = filter(0, DAY);
        let mut claims = claims();
        claims["exp"] = 1.5.into();
        let token = Signer::P256.sign("a", &claims);
        assert_eq!(label_of(&filter, Method::Config, &token, NOW), refusal.label);
    }

    #[test]
    fn an_expired_invalid_token_is_refused_for_release_calls() {
        let (filter, jwks) = filter(0, DAY);
        let forged = format!("{}A", token_expiring_at(NOW));
        let unknown = Signer::P384.sign("b", &claims());
        let good = token_expiring_at(NOW);
        let ask = |token: &str| label_of(&filter, Method::Interrupt, token, NOW + 100);
        assert_eq!(ask(&forged), "authenticate.signature");
        assert_eq!(ask(&unknown), "authenticate.key_unknown");
        assert_eq!(ask(&good), "admitted");
        jwks.replace(key_set(&[Signer::P384.jwk("c")]));
        assert_eq!(ask(&good), "authenticate.key_unknown", "its key is not trusted any more");
    }

    #[test]
    fn release_calls_have_the_longer_of_both_graces() {
        let at = |(grace, release): (u64, u64), late| {
            let ask = |method| {
                label_of(
                    &filter(grace, release).0,
                    method,
                    &token_expiring_at(NOW),
                    NOW + 30 + late,
                )
            };
            (ask(Method::ReleaseSession), ask(Method::Config))
        };
        let expired = "authenticate.expired";
        assert_eq!(at((0, 0), 0), (expired, expired));
        assert_eq!(at((100, 0), 99), ("admitted", "admitted"));
        assert_eq!(at((100, 0), 100), (expired, expired));
        assert_eq!(at((100, 200), 150), ("admitted", expired));
        assert_eq!(at((200, 100), 150), ("admitted", "admitted"));
    }
}
