//! The names in a client's certificate, and its end, once TLS has verified it.
//!
//! Must never be given a certificate that nobody has verified.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sconce_filters::{Certificate, NameKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::ClientAuthorities;
use crate::proxy::relay::Relay;
use crate::proxy::tls::TlsStream;

/// Names that one certificate may have; what comes after them counts for nothing.
const NAMES_MAX: usize = 100;

impl TlsStream {
    /// The same, by a configuration that trusts these.
    #[must_use]
    pub(super) fn with_authorities(mut self, authorities: Option<Arc<ClientAuthorities>>) -> Self {
        self.authorities = authorities;
        self
    }

    /// Withdraws the client's certificate if it is not good by the authorities that are trusted
    /// now, where they are others than those that it was verified by. Says whether it was.
    fn withdraw_unless_trusted(
        &mut self,
        latest: Option<&Arc<ClientAuthorities>>,
        now: SystemTime,
    ) -> bool {
        let known = self.authorities.as_ref().map(Arc::as_ptr);
        let Some(own) = &self.certificate else { return false };
        if known == latest.map(Arc::as_ptr) || own.is_untrusted() {
            return false;
        }
        let chain = self.connection.peer_certificates().unwrap_or_default();
        if latest.is_some_and(|latest| latest.verify(chain, now)) {
            self.authorities = latest.cloned();
            return false;
        }
        own.mark_untrusted();
        true
    }
}

impl Relay {
    /// Asks a client to connect anew whose certificate nobody vouches for any more. What runs may
    /// finish; from now on the certificate proves nothing.
    pub(super) fn drain_if_certificate_withdrawn(&mut self) {
        if self.downstream.tls.as_ref().is_none_or(|tls| tls.certificate.is_none()) {
            return;
        }
        let (latest, now) = (self.ctx.snapshot(), self.wall_clock());
        let Some(tls) = &mut self.downstream.tls else { return };
        if tls.withdraw_unless_trusted(latest.client_authorities.as_ref(), now) {
            tracing::debug!(peer = %self.peer, "a client certificate is withdrawn");
            self.graceful_goaway();
        }
    }
}

/// Reads a certificate. One that cannot be read has no names.
pub fn read(der: &[u8]) -> Certificate {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return Certificate::default();
    };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        names.extend(alternatives.value.general_names.iter().filter_map(alternative_name));
    }
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    names.extend(common.map(|name| (NameKind::CommonName, name.to_owned())));
    names.truncate(NAMES_MAX);
    let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Certificate::new(names, Duration::from_secs(ends))
}

fn alternative_name(name: &GeneralName<'_>) -> Option<(NameKind, String)> {
    match name {
        GeneralName::URI(uri) => Some((NameKind::Uri, (*uri).to_owned())),
        GeneralName::RFC822Name(address) => Some((NameKind::Email, (*address).to_owned())),
        GeneralName::DNSName(host) => Some((NameKind::Dns, (*host).to_owned())),
        // No user has a name of these kinds.
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn each_kind_of_name_is_read() {
        let text = |text: &str| Ia5String::try_from(text).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI(text("spiffe://example/ann")),
            SanType::Rfc822Name(text("ann@example.com")),
            SanType::DnsName(text("ann.example.com")),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        params.not_after = rcgen::date_time_ymd(2000, 1, 2);
        params.distinguished_name.push(DnType::CommonName, "Ann");
        let key = KeyPair::generate().unwrap();
        let read = read(params.self_signed(&key).unwrap().der());
        let names = |kind| read.names(kind).map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(names(NameKind::Uri), ["spiffe://example/ann"]);
        assert_eq!(names(NameKind::Email), ["ann@example.com"]);
        assert_eq!(names(NameKind::Dns), ["ann.example.com"]);
        assert_eq!(read.not_after(), Duration::from_secs(946_771_200));
        assert!(names(NameKind::CommonName).contains(&"Ann".to_owned()));
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        assert_eq!(read(b"nonsense").names(NameKind::Dns).count(), 0);
    }
}
