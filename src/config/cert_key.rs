//! A server's certificate with what leads to its root, and the key that belongs to it.
//!
//! Must never happen here: a key in a message.

use crate::config::diagnostics::Problem;
use rustls::{
    Error, InconsistentKeys,
    crypto::KeyProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use std::{fmt, path::Path, sync::Arc};

/// What the two files said.
#[derive(PartialEq, Eq)]
pub(super) struct CertKey {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for CertKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl CertKey {
    /// The chain of this file with a key, or what is wrong with the key.
    pub(super) fn new(
        (file, chain): (&Path, Vec<CertificateDer<'static>>),
        key: PrivateKeyDer<'static>,
        keys: &dyn KeyProvider,
    ) -> Result<(Self, Arc<CertifiedKey>), Problem> {
        let signer = keys.load_private_key(key.clone_key()).map_err(|_| {
            let remedy = "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more";
            Problem::new("holds a key that TLS cannot use", remedy)
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
            Err(fault) => {
                let what = format!("has a certificate that cannot be shown: {fault}");
                Err(Problem::new(what, "use a certificate of X.509 version 3 for a server"))
            }
        }
    }
}

/// A key that is not that of the first certificate, but may be that of another in the file.
fn key_mismatch(file: &Path, place: Option<u32>) -> Problem {
    match place {
        Some(place) => {
            let what = format!("belongs to certificate {place} of {}", file.display());
            Problem::new(what, "put that one first, then who signed it, and so on")
        }
        None => {
            let remedy = "put the server's own certificate first, and name its key";
            Problem::new("is not the key of this certificate", remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;

    #[test]
    fn a_key_of_another_certificate_in_the_chain_is_told_to_which_it_belongs() {
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
        assert_eq!(read([&issuer, &other]), Err("is not the key of this certificate".to_owned()));
    }
}
