//! Checks of a server certificate, except for its dates.
//!
//! Clients differ in what they reject, so each problem is a warning.

use crate::config::diagnostics::Problem;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// The problems of a server certificate.
pub(super) fn check(own: &CertificateDer<'_>) -> Vec<Problem> {
    let Ok((_, parsed)) = X509Certificate::from_der(own) else { return Vec::new() };
    let names = parsed.subject_alternative_name().ok().flatten();
    let is_host = |name: &GeneralName<'_>| {
        matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
    };
    let is_named = names.is_some_and(|names| names.value.general_names.iter().any(is_host));
    let basic = parsed.basic_constraints().ok().flatten();
    let is_authority = basic.is_some_and(|basic| basic.value.ca);
    let usage = parsed.extended_key_usage().ok().flatten();
    let is_for_servers = usage.is_some_and(|usage| usage.value.server_auth || usage.value.any);
    let problems = [
        (
            !is_named,
            "has no DNS name and no IP address in its subjectAltName: clients reject it, because \
             they ignore the common name",
            "issue it with subjectAltName=DNS:<host name of the server>",
        ),
        (
            is_authority,
            "is a CA certificate (CA:TRUE): some clients reject it, and its key can sign \
             certificates for any host",
            "issue a server certificate with basicConstraints=CA:FALSE",
        ),
        (
            !is_for_servers,
            "is not a server certificate (no serverAuth in its extendedKeyUsage): clients may \
             reject it",
            "issue it with extendedKeyUsage=serverAuth",
        ),
    ];
    let problems = problems.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    problems.map(|(_, what, help)| Problem::new(what, help)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    /// The beginning of each problem of an otherwise valid certificate.
    fn messages(change: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
        let mut params = CertificateParams::new(["spark.example.com".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let problems = check(made.der()).into_iter();
        problems.map(|Problem { what, .. }| what.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn problems_of_a_server_certificate_are_reported() {
        let nameless = "has no DNS name and no IP address in its subjectAltName";
        let usage = "is not a server certificate (no serverAuth in its extendedKeyUsage)";
        assert_eq!(messages(|_| ()), [""; 0]);
        assert_eq!(messages(|params| params.is_ca = IsCa::NoCa), [""; 0]);
        assert_eq!(messages(|params| params.subject_alt_names = Vec::new()), [nameless]);
        let authority = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(messages(|params| params.is_ca = authority), ["is a CA certificate (CA"]);
        let clients = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert_eq!(messages(|params| params.extended_key_usages = clients), [usage]);
        assert_eq!(messages(|params| params.extended_key_usages = Vec::new()), [usage]);
        let any = vec![ExtendedKeyUsagePurpose::Any];
        assert_eq!(messages(|params| params.extended_key_usages = any), [""; 0]);
    }
}
