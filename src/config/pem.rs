//! PEM files with certificates and private keys.
//!
//! Files are read as bytes, because comments between PEM blocks can have any encoding. Must never
//! happen here: a private key in a message.

use crate::config::{
    diagnostics::{Diagnostics, Problem},
    section::{FileRef, Section},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::path::{Path, PathBuf};

/// Maximum number of certificates in a file.
pub(super) const CERTIFICATES_MAX: usize = 100;

/// Help for a directory in place of a PEM file.
pub(super) const HELP_NAME_PEM_FILE: &str = "write the path of a PEM file";

/// The certificates of a PEM file.
pub(super) type Certificates = Vec<CertificateDer<'static>>;

/// The certificate authorities in the file of a key, each of them valid. Adds the path to `files`,
/// even if the file does not exist.
pub(super) fn authorities(
    diagnostics: &Diagnostics,
    section: &mut Section<'_>,
    key: &'static str,
    files: &mut Vec<PathBuf>,
) -> Option<(FileRef<Vec<u8>>, Certificates)> {
    let (named, path) = (section.bytes_file(key, HELP_NAME_PEM_FILE, files)?, section.path_of(key));
    let all = certificates(&named.file, &named.content);
    let all = all.map_err(|problem| named.report(diagnostics, &path, problem)).ok()?;
    for (place, authority) in (1..).zip(&all) {
        if let Err(problem) = RootCertStore::empty().add(authority.clone()) {
            let what = format!(
                "contains certificate {place}, which is not a valid certificate authority: \
                 {problem}"
            );
            let help = "replace it with the CA certificate, or remove it";
            named.report(diagnostics, &path, Problem::new(what, help));
            return None;
        }
    }
    Some((named, all))
}

/// A root store with these certificate authorities.
pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The certificates in the content of a file; at least one.
pub(super) fn certificates(file: &Path, bytes: &[u8]) -> Result<Certificates, Problem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match all {
        Ok(all) if all.len() > CERTIFICATES_MAX => {
            let what = format!("contains {} certificates", all.len());
            Err(Problem::new(what, format!("the maximum is {CERTIFICATES_MAX}: remove the others")))
        }
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) if is_binary(bytes) => Err(binary_problem(file, "x509")),
        Ok(_) | Err(_) => {
            let help = "write certificates as '-----BEGIN CERTIFICATE-----'";
            Err(Problem::new("contains no certificate in PEM format, or a damaged one", help))
        }
    }
}

/// The first private key in the content of a file.
pub(super) fn private_key(file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
        if is_binary(bytes) {
            binary_problem(file, "pkey")
        } else if contains(bytes, b"ENCRYPTED") {
            let file = file.display();
            let help = format!("decrypt it: openssl pkey -in {file} -out {file}.pem");
            Problem::new("is encrypted", help)
        } else {
            let help = "write it unencrypted, as '-----BEGIN PRIVATE KEY-----'";
            Problem::new("contains no private key in PEM format", help)
        }
    })
}

/// Whether the content is binary, for example DER.
fn is_binary(bytes: &[u8]) -> bool {
    !contains(bytes, b"-----BEGIN ") && std::str::from_utf8(bytes).is_err()
}

fn binary_problem(file: &Path, kind: &str) -> Problem {
    let file = file.display();
    let help = format!("convert it: openssl {kind} -inform der -in {file} -out {file}.pem");
    Problem::new("is binary (DER?)", help)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages<T>(read: Result<T, Problem>) -> String {
        let Problem { what, help } = read.err().unwrap();
        format!("{what}; {help}")
    }

    #[test]
    fn the_error_for_a_binary_or_encrypted_file_shows_the_conversion() {
        let der = Path::new("a.der");
        assert_eq!(
            messages(certificates(der, b"0\x82\x01\x00")),
            "is binary (DER?); convert it: openssl x509 -inform der -in a.der -out a.der.pem"
        );
        assert_eq!(
            messages(private_key(der, b"0\x81\x87\x02")),
            "is binary (DER?); convert it: openssl pkey -inform der -in a.der -out a.der.pem"
        );
        for pem in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END EC PRIVATE \
             KEY-----\n",
        ] {
            assert_eq!(
                messages(private_key(Path::new("a.key"), pem.as_bytes())),
                "is encrypted; decrypt it: openssl pkey -in a.key -out a.key.pem"
            );
        }
        assert!(
            messages(private_key(der, b"a remark"))
                .starts_with("contains no private key in PEM format; ")
        );
    }

    #[test]
    fn the_number_of_certificates_is_limited() {
        let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let read = |times| certificates(Path::new("a.crt"), pem.repeat(times).as_bytes());
        assert_eq!(read(100).unwrap().len(), 100);
        assert_eq!(
            messages(read(101)),
            "contains 101 certificates; the maximum is 100: remove the others"
        );
    }
}
