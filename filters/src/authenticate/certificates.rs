//! Authenticates client certificates.

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
    /// The identity in a client certificate: the same for all calls of a connection, until the
    /// certificate expires.
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
        if let Some(cached) = certificate.cache().get::<Rc<VerifiedCredential>>(&self.cache_key) {
            return Ok(Rc::clone(&cached));
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

/// The user, if exactly one name matches.
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
        let authenticator = Authenticator::new(Settings {
            certificates: Some(certificates),
            ..Settings::default()
        });
        let names = names.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let verified = authenticator.authenticate_certificate(Some(&certificate), now())?;
        let second = authenticator.authenticate_certificate(Some(&certificate), now())?;
        assert!(Rc::ptr_eq(&verified, &second), "once for a connection");
        assert_eq!(verified.identity.source(), &IdentitySource::Certificate);
        assert_eq!(verified.identity.expires_at(), Some(NOW + 60));
        let late = authenticator
            .authenticate_certificate(Some(&certificate), now() + Duration::from_secs(60));
        assert_eq!(late.err(), Some(AuthError::CertificateExpired));
        Ok(verified.identity.user().to_owned())
    }

    #[test]
    fn the_user_of_a_certificate_follows_the_prefix() {
        let names = [
            (NameKind::Dns, "spiffe://a/dns"),
            (NameKind::Uri, "https://elsewhere"),
            (NameKind::Uri, "spiffe://a/ann"),
        ];
        assert_eq!(by_certificate(&names).as_deref(), Ok("ann"));
    }

    #[test]
    fn a_certificate_of_a_removed_authority_is_refused() {
        let certificates = CertificateSettings { user: NameKind::Uri, prefix: String::new() };
        let authenticator = Authenticator::new(Settings {
            certificates: Some(certificates),
            ..Settings::default()
        });
        let names = vec![(NameKind::Uri, "ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        assert!(authenticator.authenticate_certificate(Some(&certificate), now()).is_ok());
        certificate.mark_untrusted();
        let result = authenticator.authenticate_certificate(Some(&certificate), now());
        assert_eq!(result.err(), Some(AuthError::CertificateUntrusted));
    }

    #[test]
    fn certificates_are_ignored_unless_configured() {
        let names = vec![(NameKind::Uri, "spiffe://a/ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let result = Authenticator::new(Settings::default())
            .authenticate_certificate(Some(&certificate), now());
        assert_eq!(result.err(), Some(AuthError::Missing));
    }

    #[test]
    fn a_certificate_with_a_reserved_user_is_refused() {
        let certificates =
            CertificateSettings { user: NameKind::Uri, prefix: "spiffe://a/".to_owned() };
        let certificates = Some(certificates);
        let reserved = ReservedPrefixes::new(["partner:"], []);
        let authenticator =
            Authenticator::new(Settings { certificates, reserved, ..Settings::default() });
        let result = |user: &str| {
            let names = vec![(NameKind::Uri, format!("spiffe://a/{user}"))];
            let certificate = Certificate::new(names, now() + Duration::from_secs(60));
            let verified = authenticator.authenticate_certificate(Some(&certificate), now())?;
            Ok(verified.identity.user().to_owned())
        };
        assert_eq!(result("ann").as_deref(), Ok("ann"));
        assert_eq!(result("partner:ann"), Err(AuthError::CertificateReservedUser));
        assert_eq!(result("PARTNER:ann"), Err(AuthError::CertificateReservedUser));
    }

    #[test]
    fn a_certificate_needs_exactly_one_matching_name() {
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
