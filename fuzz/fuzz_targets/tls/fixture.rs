//! The TLS configurations of the server and of 64 kinds of clients.
//!
//! Keys and certificates are created per process, so that none is in the repository.

use std::sync::{Arc, LazyLock};
use std::{fs, path::Path};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The configurations that all runs share.
pub struct Fixture {
    pub server: Arc<ServerConfig>,
    pub clients: Vec<Arc<ClientConfig>>,
}

pub static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("sconce-fuzz-tls-{}", std::process::id()));
    let fixture = build(&home);
    fs::remove_dir_all(home).expect("a directory of this process");
    fixture
});

/// The server configuration, loaded by sconce from files, and those of the clients.
fn build(home: &Path) -> Fixture {
    fs::create_dir_all(home.join("teams")).expect("a directory for the files");
    let names = |count: usize| (1..count).map(|at| format!("host-{at}.large.example"));
    let mut roots = RootCertStore::empty();
    // The second certificate is larger than one record.
    for (host, count) in [("small.example", 1), ("large.example", 1_000)] {
        let names = std::iter::once(host.to_owned()).chain(names(count));
        let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>()).expect("a key");
        roots.add(made.cert.der().clone()).expect("a root");
        let write = |ending, text| fs::write(home.join(format!("{host}.{ending}")), text);
        write("crt", made.cert.pem()).expect("a file written");
        write("key", made.signing_key.serialize_pem()).expect("a file written");
    }
    let own = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a key");
    fs::write(home.join("clients.crt"), own.cert.pem()).expect("a file written");
    let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
    fs::write(home.join("teams/ads.yaml"), ads).expect("a file written");
    let pair = |host| format!("{{ certificate: {host}.crt, key: {host}.key }}");
    let (small, large) = (pair("small.example"), pair("large.example"));
    let tls = format!("{{ certificates: [{small}, {large}], client_authorities: clients.crt }}");
    let main = format!("teams: {{ directory: teams }}\nlisten: {{ tls: {tls} }}\n");
    fs::write(home.join("sconce.yaml"), main).expect("a file written");
    let config = sconce::config::load(&home.join("sconce.yaml")).expect("a config");
    let server = Arc::clone(config.listen.tls.expect("TLS").server_config());
    let own = (own.cert.der().clone(), own.signing_key.serialize_der());
    let clients = (0..64).map(|kind| Arc::new(client(kind, &roots, &own))).collect();
    Fixture { server, clients }
}

/// The configuration of one kind of client, 0 to 63.
fn client(
    kind: u8,
    roots: &RootCertStore,
    (own, key): &(CertificateDer<'static>, Vec<u8>),
) -> ClientConfig {
    let provider = aws_lc_rs::default_provider();
    let versions = if kind & 1 == 0 { [&TLS13] } else { [&TLS12] };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .expect("a version")
        .with_root_certificates(roots.clone());
    let mut client = match kind >> 1 & 1 {
        0 => builder.with_no_client_auth(),
        _ => {
            let key = PrivateKeyDer::try_from(key.clone()).expect("a key");
            builder.with_client_auth_cert(vec![own.clone()], key).expect("a certificate")
        }
    };
    client.alpn_protocols = match kind >> 2 & 3 {
        0 | 1 => vec![b"h2".to_vec()],
        2 => vec![b"http/1.1".to_vec(), b"h2".to_vec()],
        _ => Vec::new(),
    };
    client.max_fragment_size = [None, Some(32), Some(77), Some(1_000)][usize::from(kind >> 4)];
    client
}
