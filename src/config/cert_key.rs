//! A server certificate chain and its private key.
//!
//! Must never happen here: a private key in a message.

use crate::config::diagnostics::Problem;
use rustls::{
    Error, InconsistentKeys,
    crypto::KeyProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use std::{fmt, path::Path, sync::Arc};

/// A certificate chain and its private key.
#[derive(PartialEq, Eq)]
pub(super) struct CertKey {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for CertKey {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl CertKey {
    /// The chain of a file with a private key, or the problem with the key.
    pub(super) fn new(
        (file, chain): (&Path, Vec<CertificateDer<'static>>),
        key: PrivateKeyDer<'static>,
        keys: &dyn KeyProvider,
    ) -> Result<(Self, Arc<CertifiedKey>), Problem> {
        let signer = keys.load_private_key(key.clone_key()).map_err(|_| {
            let help = "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more";
            Problem::new("contains a private key that TLS does not support", help)
        })?;
        let certified = CertifiedKey::new(chain.clone(), Arc::clone(&signer));
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok((Self { chain, key }, Arc::new(certified)))
            }
            Err(Error::InconsistentKeys(_)) => {
                let fits = |one: &CertificateDer<'static>| {
                    let alone = CertifiedKey::new(vec![one.clone()], Arc::clone(&signer));
                    alone.keys_match().is_ok()
                };
                let place = (1..).zip(&chain).find(|(_, one)| fits(one));
                Err(key_mismatch(file, place.map(|(place, _)| place)))
            }
            Err(problem) => {
                let what = format!("has an unusable certificate: {problem}");
                Err(Problem::new(what, "use an X.509 version 3 server certificate"))
            }
        }
    }
}

/// The problem of a key that does not match the first certificate; `place` is the certificate that
/// it matches.
fn key_mismatch(file: &Path, place: Option<u32>) -> Problem {
    match place {
        Some(place) => {
            let what = format!("belongs to certificate {place} of {}", file.display());
            Problem::new(
                what,
                "write that certificate first, then the certificate of its issuer, and so on",
            )
        }
        None => {
            let help = "write the server certificate first, and the path of its private key";
            Problem::new("does not match the certificate", help)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;

    #[test]
    fn the_error_for_a_wrong_key_names_the_matching_certificate() {
        let made = || rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (own, issuer, other) = (made(), made(), made());
        let keys = aws_lc_rs::default_provider().key_provider;
        let read = |chain: [&rcgen::CertifiedKey<rcgen::KeyPair>; 2]| {
            let chain = chain.map(|one| one.cert.der().clone()).to_vec();
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
            let pair = CertKey::new((Path::new("a.crt"), chain), key, keys);
            pair.map(drop).map_err(|Problem { what, .. }| what)
        };
        assert_eq!(read([&own, &issuer]), Ok(()));
        assert_eq!(read([&issuer, &own]), Err("belongs to certificate 2 of a.crt".to_owned()));
        assert_eq!(read([&issuer, &other]), Err("does not match the certificate".to_owned()));
    }
}
