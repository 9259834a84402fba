//! The certificate that a client would show, judged as a handshake does.

use crate::{
    config::{Config, Tls},
    proxy,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sconce_filters::{Certificate, NameKind};
use std::{path::Path, rc::Rc, time::SystemTime};

/// Certificates of a chain.
const CHAIN_MAX: usize = 100;

/// Reads the certificate, and says what of it is known. Where no client is asked for one, a client
/// that has one does not show it.
///
/// # Errors
/// Why a handshake would not take it, or why it cannot be read.
pub(super) fn read(
    file: &Path,
    plan: &Config,
    now: Option<SystemTime>,
) -> Result<(Option<Rc<Certificate>>, String), String> {
    let unreadable = |fault| format!("{}: {fault}", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(|fault| unreadable(fault.to_string()))?;
    let all: Result<Vec<_>, _> = all.take(CHAIN_MAX).collect();
    let chain = all.map_err(|fault| unreadable(fault.to_string()))?;
    let own = chain.first().ok_or_else(|| unreadable("holds no certificate in PEM".to_owned()))?;
    let Some(authorities) = plan.listen.tls.as_ref().and_then(Tls::authorities) else {
        let said = "asks no client for a certificate, since listen.tls.client_authorities is not \
                    set: this one counts for nothing";
        return Ok((None, said.to_owned()));
    };
    if !now.is_some_and(|now| authorities.verify(&chain, now)) {
        return Err(
            "no authority of listen.tls.client_authorities has signed it, it has expired, \
                    or it is not for clients"
                .to_owned(),
        );
    }
    let certificate = proxy::read_certificate(own);
    let said = format!("takes the certificate; its names: {}", names(&certificate));
    Ok((Some(Rc::new(certificate)), said))
}

fn names(certificate: &Certificate) -> String {
    let kinds = [NameKind::Uri, NameKind::Email, NameKind::Dns, NameKind::CommonName];
    let names = kinds.into_iter().flat_map(|kind| {
        certificate.names(kind).map(move |name| format!("{} '{name}'", kind.name()))
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
