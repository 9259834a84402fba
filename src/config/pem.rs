//! Certificates in PEM files, for whoever is shown one or trusts one.
//!
//! Must never happen here: half of a file, or an authority that cannot be trusted by it.

use crate::config::{
    complaint::{Desk, Fault},
    section::{Named, Section},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::path::PathBuf;

/// The most certificates that one address shows, and the most authorities that are trusted.
pub(super) const CERTIFICATES_MAX: usize = 100;

/// What a PEM file holds.
pub(super) type Certificates = Vec<CertificateDer<'static>>;

/// The certificates of the file that a key names: at least one, each whole. The file is told in
/// `files`, found or not.
pub(super) fn certificates(
    desk: &Desk,
    section: &mut Section<'_>,
    key: &'static str,
    files: &mut Vec<PathBuf>,
) -> Option<(Named, Certificates)> {
    let named = section.file(key, files)?;
    let all: Result<Certificates, _> =
        CertificateDer::pem_slice_iter(named.text.as_bytes()).collect();
    match all {
        Ok(all) if (1..=CERTIFICATES_MAX).contains(&all.len()) => Some((named, all)),
        Ok(_) | Err(_) => {
            let file = named.file.display();
            let what = format!("{file} holds no certificate in PEM, or one that is spoilt");
            let remedy = "write certificates as '-----BEGIN CERTIFICATE-----'";
            desk.complain(named.line, &section.below(key), Fault::new(what, remedy));
            None
        }
    }
}

/// The same, of those who sign others' certificates.
pub(super) fn authorities(
    desk: &Desk,
    section: &mut Section<'_>,
    key: &'static str,
    files: &mut Vec<PathBuf>,
) -> Option<(Named, Certificates)> {
    let (named, all) = certificates(desk, section, key, files)?;
    if let Err(fault) = roots(&all) {
        let what = format!("{} holds one that cannot sign: {fault}", named.file.display());
        let remedy = "write the certificates of those who sign, as they give them out";
        desk.complain(named.line, &section.below(key), Fault::new(what, remedy));
        return None;
    }
    Some((named, all))
}

/// Whom to trust, by these.
pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|fault| fault.to_string())?;
    }
    Ok(roots)
}
