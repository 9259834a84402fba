//! A bridge for cases that speak clear text to a sconce that speaks TLS: `ATTACK_TLS=1`.
//!
//! It adds nothing and hides nothing: octets go through in order, ends and breaks are passed on.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// Octets that the kernel keeps on each side of the bridge.
const BUFFER: u32 = 32 * 1024;

/// A certificate and its key, in PEM.
pub struct Paper {
    pub certificate: String,
    pub key: String,
    der: CertificateDer<'static>,
    signer: KeyPair,
}

impl Paper {
    /// One for this host, signed by itself.
    pub fn new(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        Self::of(made.cert, made.signing_key)
    }

    /// One that is good between two moments, in seconds since the epoch, signed by itself.
    pub fn lasting(host: &str, span: Range<u64>) -> Self {
        let signer = KeyPair::generate().unwrap();
        Self::of(lasting(host, span).self_signed(&signer).unwrap(), signer)
    }

    fn of(made: rcgen::Certificate, signer: KeyPair) -> Self {
        let (certificate, key) = (made.pem(), signer.serialize_pem());
        Self { certificate, key, der: made.der().clone(), signer }
    }

    /// A client that has no issuers, tokens or certificates but this one.
    pub fn client(&self, how: &How<'_>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(how.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut client = match how.shows {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.signer.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
            }
        };
        client.alpn_protocols = how.protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(client)
    }
}

/// Who signs certificates of clients.
pub struct Authority {
    pub paper: Paper,
    params: CertificateParams,
}

impl Authority {
    /// One that is good between two moments.
    pub fn new(span: Range<u64>) -> Self {
        let mut params = lasting("authority", span);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let signer = KeyPair::generate().unwrap();
        Self { paper: Paper::of(params.self_signed(&signer).unwrap(), signer), params }
    }

    /// A certificate that is good between two moments.
    pub fn sign(&self, host: &str, span: Range<u64>) -> Paper {
        let signer = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.paper.signer);
        Paper::of(lasting(host, span).signed_by(&signer, &issuer).unwrap(), signer)
    }
}

fn lasting(host: &str, span: Range<u64>) -> CertificateParams {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(span.start), at(span.end));
    params
}

/// How a client comes.
#[derive(Clone, Copy)]
pub struct How<'a> {
    pub protocols: &'a [&'a [u8]],
    pub versions: &'a [&'static SupportedProtocolVersion],
    pub shows: Option<&'a Paper>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { protocols: &[b"h2"], versions: rustls::ALL_VERSIONS, shows: None }
    }
}

/// Takes connections in clear text and leads them to `target` by TLS, as long as the tests run.
pub fn start(target: SocketAddr, client: Arc<ClientConfig>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let connector = TlsConnector::from(client);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(lead(near, target, connector.clone()));
            }
        });
    });
    address
}

async fn lead(mut near: TcpStream, target: SocketAddr, connector: TlsConnector) {
    let _ = near.set_nodelay(true);
    // Small buffers: what the kernel keeps for the bridge is no fault of sconce's.
    let _ = socket2::SockRef::from(&near).set_send_buffer_size(BUFFER as usize);
    let Ok(socket) = TcpSocket::new_v4() else { return };
    let _ = socket.set_recv_buffer_size(BUFFER);
    let Ok(far) = socket.connect(target).await else { return };
    let _ = far.set_nodelay(true);
    let name = ServerName::try_from("localhost").unwrap();
    if let Ok(mut far) = connector.connect(name, far).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}
