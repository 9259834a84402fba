//! Client certificates: which user one names.

use super::{Certificates, denial::Denial, judge::Judge, verified::Verified};
use crate::{
    Certificate, Identity,
    identity::{Claimed, Source},
};
use std::{rc::Rc, time::Duration};

impl Judge {
    /// Whom a client certificate proves: the same for all calls of a connection, until it ends.
    pub(super) fn certificate(
        &self,
        certificate: Option<&Certificate>,
        now: Duration,
    ) -> Result<Rc<Verified>, Denial> {
        let (Some(settings), Some(certificate)) = (&self.settings.certificates, certificate) else {
            return Err(Denial::Missing);
        };
        if certificate.is_withdrawn() {
            return Err(Denial::CertificateWithdrawn);
        }
        let ends = certificate.ends();
        if now >= ends.saturating_add(self.settings.skew) {
            return Err(Denial::CertificateExpired);
        }
        if let Some(noted) = certificate.notes().read::<Rc<Verified>>(&self.author) {
            return Ok(Rc::clone(&noted));
        }
        let user = only_name(certificate, settings).ok_or(Denial::Certificate)?.to_owned();
        if self.settings.reserved.user("", &user).is_some() {
            return Err(Denial::CertificateForeign);
        }
        let claimed = Claimed { user, ..Claimed::default() };
        let identity = Identity::new(claimed, Source::Certificate, Some(ends.as_secs()));
        let verified = Rc::new(Verified::lasting(identity.map_err(Denial::CertificateName)?));
        certificate.notes().write(&self.author, Rc::clone(&verified));
        Ok(verified)
    }
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
        authenticate::{Reserved, Settings, tests::NOW},
    };

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
        let certificates = Certificates { user: NameKind::Uri, prefix: String::new() };
        let judge =
            Judge::new(Settings { certificates: Some(certificates), ..Settings::default() });
        let names = vec![(NameKind::Uri, "ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        assert!(judge.certificate(Some(&certificate), now()).is_ok());
        certificate.withdraw();
        let judged = judge.certificate(Some(&certificate), now());
        assert_eq!(judged.err(), Some(Denial::CertificateWithdrawn));
    }

    #[test]
    fn a_certificate_proves_nothing_where_none_is_asked_for() {
        let names = vec![(NameKind::Uri, "spiffe://a/ann".to_owned())];
        let certificate = Certificate::new(names, now() + Duration::from_secs(60));
        let judged = Judge::new(Settings::default()).certificate(Some(&certificate), now());
        assert_eq!(judged.err(), Some(Denial::Missing));
    }

    #[test]
    fn a_certificate_of_a_user_who_is_an_issuer_s_proves_nobody() {
        let certificates = Certificates { user: NameKind::Uri, prefix: "spiffe://a/".to_owned() };
        let certificates = Some(certificates);
        let reserved = Reserved::new(["partner:"], []);
        let judge = Judge::new(Settings { certificates, reserved, ..Settings::default() });
        let judged = |user: &str| {
            let names = vec![(NameKind::Uri, format!("spiffe://a/{user}"))];
            let certificate = Certificate::new(names, now() + Duration::from_secs(60));
            let verified = judge.certificate(Some(&certificate), now())?;
            Ok(verified.identity.user().to_owned())
        };
        assert_eq!(judged("ann").as_deref(), Ok("ann"));
        assert_eq!(judged("partner:ann"), Err(Denial::CertificateForeign));
        assert_eq!(judged("PARTNER:ann"), Err(Denial::CertificateForeign));
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
}
