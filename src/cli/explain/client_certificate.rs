//! Verification of the client certificate, as in a TLS handshake.

use crate::{
    config::{Config, Tls},
    proxy,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sconce_filters::{Certificate, NameKind};
use std::{path::Path, rc::Rc, time::SystemTime};

/// Maximum number of certificates in a chain.
const CHAIN_MAX: usize = 100;

/// Reads and verifies the certificate. Returns it with a line for the output; `None` if sconce does
/// not request client certificates.
///
/// # Errors
/// The file cannot be read, or a handshake would reject the certificate.
pub(super) fn read(
    file: &Path,
    config: &Config,
    now: Option<SystemTime>,
) -> Result<(Option<Rc<Certificate>>, String), String> {
    let unreadable = |error| format!("{}: {error}", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
    let all: Result<Vec<_>, _> = all.take(CHAIN_MAX).collect();
    let chain = all.map_err(|error| unreadable(error.to_string()))?;
    let own = chain
        .first()
        .ok_or_else(|| unreadable("contains no certificate in PEM format".to_owned()))?;
    let Some(authorities) = config.listen.tls.as_ref().and_then(Tls::authorities) else {
        let text = "does not request client certificates, because listen.tls.client_authorities is \
                    not set: this one is ignored";
        return Ok((None, text.to_owned()));
    };
    if !now.is_some_and(|now| authorities.verify(&chain, now)) {
        return Err(
            "it is not signed by listen.tls.client_authorities, has expired, or is not a client \
             certificate"
                .to_owned(),
        );
    }
    let certificate = proxy::read_certificate(own);
    let text = format!("accepts the certificate; its names: {}", names(&certificate));
    Ok((Some(Rc::new(certificate)), text))
}

fn names(certificate: &Certificate) -> String {
    let kinds = [NameKind::Uri, NameKind::Email, NameKind::Dns, NameKind::CommonName];
    let names = kinds.into_iter().flat_map(|kind| {
        certificate.names(kind).map(move |name| format!("{} '{name}'", kind.name()))
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
