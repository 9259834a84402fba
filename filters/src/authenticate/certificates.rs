//! Client certificates: which user one names.

use super::{
    CertificateSettings, authenticator::Authenticator, error::AuthError,
    verified::VerifiedCredential,
};
use crate::{
    Certificate, Identity,
    identity::{IdentitySource, RawIdentity},
};
use std::{rc::Rc, time::Duration};

impl Authenticator {
    /// Whom a client certificate proves: the same for all calls of a connection, until it ends.
    pub(super) fn authenticate_certificate(
        &self,
        certificate: Option<&Certificate>,
        now: Duration,
    ) -> Result<Rc<VerifiedCredential>, AuthError> {
        let (Some(settings), Some(certificate)) = (&self.settings.certificates, certificate) else {
            return Err(AuthError::Missing);
        };
        if certificate.is_untrusted() {
            return Err(AuthError::CertificateUntrusted);
        }
        let ends = certificate.not_after();
        if now >= ends.saturating_add(self.settings.skew) {
            return Err(AuthError::CertificateExpired);
        }
        if let Some(noted) = certificate.cache().get::<Rc<VerifiedCredential>>(&self.cache_key) {
            return Ok(Rc::clone(&noted));
        }
        let user = sole_user(certificate, settings).ok_or(AuthError::CertificateUser)?.to_owned();
        if self.settings.reserved.conflict_for_user("", &user).is_some() {
            return Err(AuthError::CertificateReservedUser);
        }
        let claimed = RawIdentity { user, ..RawIdentity::default() };
        let identity = Identity::new(claimed, IdentitySource::Certificate, Some(ends.as_secs()));
        let verified = Rc::new(VerifiedCredential::permanent(
            identity.map_err(AuthError::CertificateInvalidUser)?,
        ));
        certificate.cache().insert(&self.cache_key, Rc::clone(&verified));
        Ok(verified)
    }
}

/// The only name that fits: of several, none is the user more than another.
fn sole_user<'c>(certificate: &'c Certificate, settings: &CertificateSettings) -> Option<&'c str> {
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
        authenticate::{ReservedPrefixes, Settings, tests::NOW},
    };

    fn now() -> Duration {
        Duration::from_secs(NOW)
    }

    fn by_certificate(names: &[(NameKind, &str)]) -> Result<String, AuthError> {
        let certificates =
            CertificateSettings { user: NameKind::Uri, prefix: "spiffe://a/".to_owned() };
        let judge = Authenticator::new(Settings {
            certificates: Some(certificates),
            ..Settings::default()
        });
        let names = names.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let verified = judge.authenticate_certificate(Some(&certificate), now())?;
        let again = judge.authenticate_certificate(Some(&certificate), now())?;
        assert!(Rc::ptr_eq(&verified, &again), "once for a connection");
        assert_eq!(verified.identity.source(), &IdentitySource::Certificate);
        assert_eq!(verified.identity.expires_at(), Some(NOW + 60));
        let late =
            judge.authenticate_certificate(Some(&certificate), now() + Duration::from_secs(60));
        assert_eq!(late.err(), Some(AuthError::CertificateExpired));
        Ok(verified.identity.user().to_owned())
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
    fn a_certificate_that_nobody_vouches_for_any_more_proves_nothing() {
        let certificates = CertificateSettings { user: NameKind::Uri, prefix: String::new() };
        let judge = Authenticator::new(Settings {
            certificates: Some(certificates),
            ..Settings::default()
        });
        let names = vec![(NameKind::Uri, "ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        assert!(judge.authenticate_certificate(Some(&certificate), now()).is_ok());
        certificate.mark_untrusted();
        let judged = judge.authenticate_certificate(Some(&certificate), now());
        assert_eq!(judged.err(), Some(AuthError::CertificateUntrusted));
    }

    #[test]
    fn a_certificate_proves_nothing_where_none_is_asked_for() {
        let names = vec![(NameKind::Uri, "spiffe://a/ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let judged = Authenticator::new(Settings::default())
            .authenticate_certificate(Some(&certificate), now());
        assert_eq!(judged.err(), Some(AuthError::Missing));
    }

    #[test]
    fn a_certificate_of_a_user_who_is_an_issuer_s_proves_nobody() {
        let certificates =
            CertificateSettings { user: NameKind::Uri, prefix: "spiffe://a/".to_owned() };
        let certificates = Some(certificates);
        let reserved = ReservedPrefixes::new(["partner:"], []);
        let judge = Authenticator::new(Settings { certificates, reserved, ..Settings::default() });
        let judged = |user: &str| {
            let names = vec![(NameKind::Uri, format!("spiffe://a/{user}"))];
            let certificate = Certificate::new(names, now() + Duration::from_secs(60));
            let verified = judge.authenticate_certificate(Some(&certificate), now())?;
            Ok(verified.identity.user().to_owned())
        };
        assert_eq!(judged("ann").as_deref(), Ok("ann"));
        assert_eq!(judged("partner:ann"), Err(AuthError::CertificateReservedUser));
        assert_eq!(judged("PARTNER:ann"), Err(AuthError::CertificateReservedUser));
    }

    #[test]
    fn a_certificate_with_no_name_that_fits_or_with_two_names_nobody() {
        let (one, other) = ((NameKind::Uri, "spiffe://a/ann"), (NameKind::Uri, "spiffe://a/bob"));
        assert_eq!(by_certificate(&[one, other]), Err(AuthError::CertificateUser));
        assert_eq!(by_certificate(&[]), Err(AuthError::CertificateUser));
        assert_eq!(
            by_certificate(&[(NameKind::Uri, "spiffe://b/a")]),
            Err(AuthError::CertificateUser)
        );
        let empty = by_certificate(&[(NameKind::Uri, "spiffe://a/")]);
        assert!(matches!(empty, Err(AuthError::CertificateInvalidUser(_))), "{empty:?}");
    }
}
