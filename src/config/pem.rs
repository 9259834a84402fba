//! PEM files: what stands between two lines of dashes, whatever else a file holds.
//!
//! Files are read as octets, since remarks between the blocks may be in any encoding. Must never
//! happen here: a key in a message.

use crate::config::{
    diagnostics::{Diagnostics, Problem},
    section::{FileRef, Section},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::path::{Path, PathBuf};

/// The most certificates of one file.
pub(super) const CERTIFICATES_MAX: usize = 100;

/// What to do about a directory in place of a file.
pub(super) const HELP_NAME_PEM_FILE: &str = "name the PEM file itself";

/// What a PEM file holds.
pub(super) type Certificates = Vec<CertificateDer<'static>>;

/// Those who sign others' certificates, in the file that a key names: each can. The file is told in
/// `files`, found or not.
pub(super) fn authorities(
    desk: &Diagnostics,
    section: &mut Section<'_>,
    key: &'static str,
    files: &mut Vec<PathBuf>,
) -> Option<(FileRef<Vec<u8>>, Certificates)> {
    let (named, path) = (section.bytes_file(key, HELP_NAME_PEM_FILE, files)?, section.path_of(key));
    let all = certificates(&named.file, &named.content);
    let all = all.map_err(|fault| named.report(desk, &path, fault)).ok()?;
    for (place, authority) in (1..).zip(&all) {
        if let Err(fault) = RootCertStore::empty().add(authority.clone()) {
            let what = format!("holds, as certificate {place}, one that cannot sign: {fault}");
            let remedy = "put the authority's own certificate there, or remove it";
            named.report(desk, &path, Problem::new(what, remedy));
            return None;
        }
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

/// The certificates of a file that holds these octets; one at least.
pub(super) fn certificates(file: &Path, octets: &[u8]) -> Result<Certificates, Problem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
    match all {
        Ok(all) if all.len() > CERTIFICATES_MAX => {
            let what = format!("holds {} certificates", all.len());
            Err(Problem::new(what, format!("{CERTIFICATES_MAX} are taken: remove the others")))
        }
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) if is_binary(octets) => Err(binary_problem(file, "x509")),
        Ok(_) | Err(_) => {
            let remedy = "write certificates as '-----BEGIN CERTIFICATE-----'";
            Err(Problem::new("holds no certificate in PEM, or one that is spoilt", remedy))
        }
    }
}

/// The first private key of a file that holds these octets.
pub(super) fn private_key(file: &Path, octets: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(octets).map_err(|_| {
        if is_binary(octets) {
            binary_problem(file, "pkey")
        } else if contains(octets, b"ENCRYPTED") {
            let file = file.display();
            let remedy = format!("decrypt it: openssl pkey -in {file} -out {file}.pem");
            Problem::new("is encrypted", remedy)
        } else {
            let remedy = "write it unencrypted, as '-----BEGIN PRIVATE KEY-----'";
            Problem::new("holds no private key in PEM", remedy)
        }
    })
}

/// Whether this is DER, or something else that is no text.
fn is_binary(octets: &[u8]) -> bool {
    !contains(octets, b"-----BEGIN ") && std::str::from_utf8(octets).is_err()
}

fn binary_problem(file: &Path, kind: &str) -> Problem {
    let file = file.display();
    let remedy = format!("convert it: openssl {kind} -inform der -in {file} -out {file}.pem");
    Problem::new("is binary (DER?)", remedy)
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(read: Result<T, Problem>) -> String {
        let Problem { what, help: remedy } = read.err().unwrap();
        format!("{what}; {remedy}")
    }

    #[test]
    fn what_is_binary_or_encrypted_is_told_the_way_to_pem() {
        let der = Path::new("a.der");
        assert_eq!(
            said(certificates(der, b"0\x82\x01\x00")),
            "is binary (DER?); convert it: openssl x509 -inform der -in a.der -out a.der.pem"
        );
        assert_eq!(
            said(private_key(der, b"0\x81\x87\x02")),
            "is binary (DER?); convert it: openssl pkey -inform der -in a.der -out a.der.pem"
        );
        for pem in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END EC PRIVATE \
             KEY-----\n",
        ] {
            assert_eq!(
                said(private_key(Path::new("a.key"), pem.as_bytes())),
                "is encrypted; decrypt it: openssl pkey -in a.key -out a.key.pem"
            );
        }
        assert!(said(private_key(der, b"a remark")).starts_with("holds no private key in PEM; "));
    }

    #[test]
    fn as_many_certificates_are_taken_as_may_be_and_no_more() {
        let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let read = |times| certificates(Path::new("a.crt"), pem.repeat(times).as_bytes());
        assert_eq!(read(100).unwrap().len(), 100);
        assert_eq!(said(read(101)), "holds 101 certificates; 100 are taken: remove the others");
    }
}
