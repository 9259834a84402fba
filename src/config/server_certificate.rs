//! A server's own certificate: what clients would refuse it for, whatever its dates are.
//!
//! Some clients take what others refuse, so that each is a warning and no error.

use crate::config::diagnostics::Problem;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// What is wrong with a certificate that clients are shown.
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
    let faults = [
        (
            !is_named,
            "has no DNS name and no IP address in its subjectAltName: clients refuse it, since \
             they do not look at its common name",
            "issue it with subjectAltName=DNS:<the host that clients dial>",
        ),
        (
            is_authority,
            "is that of an authority (CA:TRUE): some clients refuse it, and whoever has its key \
             can sign for any host where it is trusted",
            "issue one with basicConstraints=CA:FALSE for the server",
        ),
        (
            !is_for_servers,
            "is not for servers (no serverAuth in its extendedKeyUsage): clients may refuse it",
            "issue it with extendedKeyUsage=serverAuth",
        ),
    ];
    let faults = faults.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    faults.map(|(_, what, remedy)| Problem::new(what, remedy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    /// The beginnings of what is said of a certificate that is good but for this.
    fn said(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
        let mut params = CertificateParams::new(["spark.example.com".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        spoil(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let faults = check(made.der()).into_iter();
        faults.map(|Problem { what, .. }| what.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_certificate_that_clients_would_refuse_is_told_why() {
        let nameless = "has no DNS name and no IP address in its subjectAltName";
        let usage = "is not for servers (no serverAuth in its extendedKeyUsage)";
        assert_eq!(said(|_| ()), [""; 0]);
        assert_eq!(said(|params| params.is_ca = IsCa::NoCa), [""; 0]);
        assert_eq!(said(|params| params.subject_alt_names = Vec::new()), [nameless]);
        let authority = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(said(|params| params.is_ca = authority), ["is that of an authority (CA"]);
        let clients = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert_eq!(said(|params| params.extended_key_usages = clients), [usage]);
        assert_eq!(said(|params| params.extended_key_usages = Vec::new()), [usage]);
        let any = vec![ExtendedKeyUsagePurpose::Any];
        assert_eq!(said(|params| params.extended_key_usages = any), [""; 0]);
    }
}
