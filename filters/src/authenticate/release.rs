//! Release: what an expired token is still good for, to end what its user has begun.
//!
//! A user whose token has expired could neither stop a query that runs nor give its results back,
//! and the driver would keep both. Such a call is still proved by signature and key, and its user
//! is written into its messages: it reaches only sessions of that user.

use super::Settings;
use crate::Method;
use std::time::Duration;

impl Settings {
    /// How long after its end a token is good for calls of this method.
    pub(super) fn expiry_leeway(&self, method: &Method) -> Duration {
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
            tests::{NOW, Signer, claims, jwks, jwks_cache, settings},
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

    fn asked(room: &Authenticate, method: Method, token: &str, seconds: u64) -> &'static str {
        let listed = StaticMetadata::new("a").with("authorization", format!("Bearer {token}"));
        let call = Call::new(method, Rc::new(listed), ([127, 0, 0, 1], 1).into(), Instant::now());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        match room.admit(&mut call.with_wall_time(wall)) {
            Decision::Admitted => "admitted",
            Decision::Refused(refusal) => refusal.label,
            Decision::Pending(_) => "waits",
        }
    }

    fn room(
        grace: u64,
        release_grace: u64,
    ) -> (Authenticate, std::sync::Arc<crate::authenticate::JwksCache>) {
        let ring = jwks_cache(&[Signer::P256.jwk("a")]);
        let [grace, release_grace] = [grace, release_grace].map(Duration::from_secs);
        let skew = Duration::from_secs(30);
        let settings = Settings { skew, grace, release_grace, ..settings(&ring) };
        (Authenticate::new(settings), ring)
    }

    fn ending(at: u64) -> String {
        let mut claims = claims();
        claims["exp"] = at.into();
        Signer::P256.sign("a", &claims)
    }

    #[test]
    fn an_expired_token_ends_work_for_so_long_and_does_nothing_else() {
        let (room, _) = room(0, DAY);
        let token = ending(NOW);
        let last = NOW + 30 + DAY - 1;
        // Refused first, then admitted, then refused again: neither is taken for the other.
        for _ in 0..2 {
            for seconds in [NOW + 30, last] {
                for method in OTHERS {
                    assert_eq!(asked(&room, method, &token, seconds), "authenticate.expired");
                }
                for method in RELEASES {
                    assert_eq!(asked(&room, method, &token, seconds), "admitted");
                }
            }
            for method in RELEASES {
                assert_eq!(asked(&room, method, &token, last + 1), "authenticate.expired");
            }
        }
        let other = Method::Other("/spark.connect.SparkConnectService/ReleaseAll".into());
        assert_eq!(asked(&room, other, &token, NOW + 30), "authenticate.expired");
    }

    #[test]
    fn who_has_an_expired_token_is_told_what_helps() {
        let refusal = crate::authenticate::token_expired();
        assert_eq!(refusal.code, crate::Code::Unauthenticated);
        let message = "the token has expired: call spark.stop(), then begin a new session with a \
                       new token";
        assert_eq!(refusal.message, message);
        let (room, _) = room(0, DAY);
        let mut claims = claims();
        claims["exp"] = 1.5.into();
        let token = Signer::P256.sign("a", &claims);
        assert_eq!(asked(&room, Method::Config, &token, NOW), refusal.label);
    }

    #[test]
    fn an_expired_token_that_proves_nobody_ends_nothing() {
        let (room, ring) = room(0, DAY);
        let forged = format!("{}A", ending(NOW));
        let unknown = Signer::P384.sign("b", &claims());
        let good = ending(NOW);
        let ask = |token: &str| asked(&room, Method::Interrupt, token, NOW + 100);
        assert_eq!(ask(&forged), "authenticate.signature");
        assert_eq!(ask(&unknown), "authenticate.key_unknown");
        assert_eq!(ask(&good), "admitted");
        ring.replace(jwks(&[Signer::P384.jwk("c")]));
        assert_eq!(ask(&good), "authenticate.key_unknown", "its key is not trusted any more");
    }

    #[test]
    fn the_longer_of_both_graces_counts_and_none_is_needed() {
        let at = |(grace, release): (u64, u64), late| {
            let ask =
                |method| asked(&room(grace, release).0, method, &ending(NOW), NOW + 30 + late);
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
