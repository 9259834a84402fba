//! How sessions are met, and clients of all kinds.
//!
//! Keys and certificates are made for each process, so that none lies in the tree.

use std::sync::{Arc, LazyLock};
use std::{fs, path::Path};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What all runs share: how sessions are met, and how clients come.
pub struct House {
    pub server: Arc<ServerConfig>,
    pub clients: Vec<Arc<ClientConfig>>,
}

pub static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("sconce-fuzz-tls-{}", std::process::id()));
    let house = build(&home);
    fs::remove_dir_all(home).expect("a directory of our own");
    house
});

/// A server as sconce itself makes it of its files, and clients of many kinds.
fn build(home: &Path) -> House {
    fs::create_dir_all(home.join("teams")).expect("a place for the files");
    let names = |count: usize| (1..count).map(|at| format!("host-{at}.large.example"));
    let mut roots = RootCertStore::empty();
    // The second is so large that it takes more than one record.
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
    let plan = sconce::config::load(&home.join("sconce.yaml")).expect("a plan");
    let server = Arc::clone(plan.listen.tls.expect("TLS").server());
    let own = (own.cert.der().clone(), own.signing_key.serialize_der());
    let clients = (0..64).map(|kind| Arc::new(client(kind, &roots, &own))).collect();
    House { server, clients }
}

/// A client of one of 64 kinds.
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
