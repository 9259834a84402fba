//! Certificate authorities for client certificates.

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::config::pem;

/// The authorities of `listen.tls.client_authorities`.
pub struct ClientAuthorities {
    trusted: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthorities {
    /// These authorities. Clients without a certificate are accepted unless it is required.
    ///
    /// # Errors
    /// The invalid authority, as text for a config error.
    pub(super) fn new(
        trusted: Vec<CertificateDer<'static>>,
        is_required: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let roots = Arc::new(pem::roots(&trusted)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { trusted, verifier })
    }

    /// The verifier for TLS handshakes.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether a client's chain, its own certificate first, is valid. The handshake proves that the
    /// client has the key.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
        let Some((own, between)) = chain.split_first() else { return false };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = UnixTime::since_unix_epoch(now);
        self.verifier.verify_client_cert(own, between, now).is_ok()
    }
}

impl PartialEq for ClientAuthorities {
    fn eq(&self, other: &Self) -> bool {
        self.trusted == other.trusted
    }
}

impl Eq for ClientAuthorities {}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::crypto::aws_lc_rs;

    /// A CA certificate, and a certificate signed by it.
    fn signed() -> (CertificateDer<'static>, CertificateDer<'static>) {
        let mut params = CertificateParams::new(["authority".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (signer, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let authority = params.self_signed(&signer).unwrap();
        let issuer = Issuer::from_params(&params, &signer);
        let own = CertificateParams::new(["ann".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        (authority.der().clone(), own.der().clone())
    }

    #[test]
    fn a_chain_is_valid_for_the_authority_that_signed_it_only() {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let of = |der| ClientAuthorities::new(vec![der], false, &provider).unwrap();
        let ((one, ann), (other, bob)) = (signed(), signed());
        let (one, other) = (of(one), of(other));
        // A time at which test certificates are valid.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert!(one.verify(std::slice::from_ref(&ann), now));
        assert!(!one.verify(&[bob], now));
        assert!(!other.verify(&[ann], now));
        assert!(!one.verify(&[], now));
        assert_ne!(one, other);
    }
}
