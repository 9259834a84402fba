//! Client certificates: their names and their end.
//!
//! Must only be called with certificates that TLS has verified.

use std::time::Duration;

use sconce_filters::{Certificate, NameKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Names of one certificate that are read. The others are ignored.
const NAMES_MAX: usize = 100;

/// Reads a certificate. A malformed one has no names.
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
        // Users are never identified by these kinds of names.
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
    fn a_malformed_certificate_has_no_names() {
        assert_eq!(read(b"nonsense").names(NameKind::Dns).count(), 0);
    }
}
