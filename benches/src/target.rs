//! Where the load dials, in clear text or by TLS.
//!
//! The offer is the same for every peer and leaves no choice: TLS 1.3, X25519,
//! `TLS_AES_128_GCM_SHA256`, ALPN `h2`, no resumption. What differs between peers is then their
//! own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::fault::Fault;
use crate::socket::Turn;

/// The name that a server's certificate must be for.
pub const SERVER_NAME: &str = "spark.example.com";
const PROTOCOL: &[u8] = b"h2";
/// What is written goes into records of 16 KiB, as gRPC C-core has them, and not into one for each
/// write of `h2` and another for what did not fit.
const SEALED_MAX: usize = 64 << 10;

/// Who is dialled.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// How its connections are read.
    pub turn: Turn,
    tls: Option<Arc<ClientConfig>>,
}

impl From<SocketAddr> for Target {
    /// In clear text.
    fn from(address: SocketAddr) -> Self {
        Self { address, turn: Turn::Whole, tls: None }
    }
}

impl Target {
    /// By TLS, trusting whom this authority has signed.
    ///
    /// # Errors
    /// When the file is no certificate in PEM.
    pub fn secure(address: SocketAddr, authority: &Path) -> Result<Self, Fault> {
        let wrong = |why: &dyn ToString| Fault::Authority(why.to_string());
        let authority = CertificateDer::from_pem_file(authority).map_err(|e| wrong(&e))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(|e| wrong(&e))?;
        let provider = CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| wrong(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { address, turn: Turn::Whole, tls: Some(Arc::new(config)) })
    }

    /// Of the URLs of its calls.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What TLS is spoken with, if it is.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }
}

/// Shakes hands on a socket.
///
/// # Errors
/// When the other side does not take the offer, or is not who it must be.
pub async fn shake<S>(
    config: &Arc<ClientConfig>,
    socket: S,
) -> Result<BufWriter<TlsStream<S>>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(config));
    let name = ServerName::try_from(SERVER_NAME).map_err(|e| Fault::Authority(e.to_string()))?;
    let stream = connector.connect(name, socket).await.map_err(|e| Fault::Io("TLS", e))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(PROTOCOL) => Ok(BufWriter::with_capacity(SEALED_MAX, stream)),
        other => Err(Fault::Authority(format!("ALPN chose {other:?}"))),
    }
}
