//! `sconce explain` as an operator runs it: what it says, what it never says, and its status.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

const ISSUER: &str = "https://sconce.invalid/dev";

struct Home(tempfile::TempDir);

struct Said {
    text: String,
    status: Option<i32>,
}

impl Home {
    /// With these sections besides those that are needed.
    fn new(driver: SocketAddr, more: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let main = format!("teams: {{ directory: teams }}\n{more}");
        fs::write(home.path().join("sconce.yaml"), main).unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let is_asked = more.contains("authenticate:");
        let members = if is_asked { "members: { users: [ann], groups: [g-ads] }\n" } else { "" };
        let ads =
            format!("team: ads\n{members}environments: {{ prod: {{ driver: '{driver}' }} }}\n");
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        Self(home)
    }

    /// One whose issuer has its keys in a file that `token` makes.
    fn with_issuer(more: &str) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let issuer = format!(
            "authenticate:\n  issuers:\n    - issuer: {ISSUER}\n      audiences: [sconce, spark]\n\
             \x20     keys_file: dev.key.jwks\n{more}"
        );
        let home = Self::new(nowhere, &issuer);
        home.token(&[]);
        home
    }

    fn run(&self, words: &[&str]) -> Said {
        let ran = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(words)
            .current_dir(self.0.path())
            .env("SCONCE_CONFIG", "sconce.yaml")
            .env_remove("SPARK_CONNECT_AUTHENTICATE_TOKEN")
            .output()
            .unwrap();
        let text = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
        Said { text, status: ran.status.code() }
    }

    /// A token of this home's key.
    fn token(&self, more: &[&str]) -> String {
        let words = [&["token", "--user", "bob"], more].concat();
        self.run(&words).text.lines().last().unwrap().to_owned()
    }

    /// What is said of a call with such a token, and not of the token itself.
    fn explain(&self, token: &[&str]) -> Said {
        let token = self.token(token);
        let said = self.run(&["explain", &format!("sc://h/;token={token}")]);
        for part in token.split('.') {
            assert!(!said.text.contains(part), "it shows the token: {}", said.text);
        }
        said
    }
}

#[test]
fn a_refused_token_is_shown_by_what_it_says_and_what_is_expected() {
    let home = Home::with_issuer("");
    let said = home.explain(&["--audience", "https://other.example"]);
    assert_eq!(said.status, Some(3), "{}", said.text);
    assert!(said.text.contains("authenticate.audience"), "{}", said.text);
    let aud = "aud of the token: 'https://other.example'; expected: 'sconce' or 'spark'";
    assert!(said.text.contains(aud), "{}", said.text);
    let said = home.explain(&["--issuer", "https://id.example/x"]);
    let iss = format!("iss of the token: 'https://id.example/x'; trusted: '{ISSUER}'");
    assert!(said.text.contains(&iss), "{}", said.text);
    assert_eq!(said.status, Some(3));
}

#[test]
fn groups_that_are_missing_are_named() {
    let home = Home::with_issuer("");
    let said = home.explain(&[]);
    assert!(said.text.contains("team.no_membership"), "{}", said.text);
    let none = "no groups: the claim 'groups' is an empty list";
    assert!(said.text.contains(none), "{}", said.text);
    let elsewhere = Home::with_issuer("      claims: { groups: roles }\n");
    let said = elsewhere.explain(&["--group", "g-ads"]);
    let missing = "no groups: the token has no claim 'roles' (claims.groups)";
    assert!(said.text.contains(missing), "{}", said.text);
    let said = home.explain(&["--group", "g-ads"]);
    assert_eq!(said.status, Some(0), "{}", said.text);
    assert!(!said.text.contains("no groups"), "{}", said.text);
}

#[test]
fn a_command_line_that_cannot_be_read_repeats_no_token() {
    let home = Home::with_issuer("");
    for words in [
        &["explain", "sc://h/;token=SEKRET-123;foo"][..],
        &["explain", "sc://h/;token=SEKRET-123", "SEKRET-456"],
        &["explain", "--token=SEKRET-123"],
        &["explain", "--header", "authorization: Bearer SEKRET-123"],
        &["explain", "--method"],
    ] {
        let said = home.run(words);
        assert_eq!(said.status, Some(2), "{words:?}: {}", said.text);
        assert!(!said.text.contains("SEKRET"), "{words:?}: {}", said.text);
        assert!(said.text.contains("error: "), "{words:?}: {}", said.text);
    }
}

#[test]
fn a_word_that_is_no_text_is_a_command_line_that_cannot_be_read() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"sc://h/;token=SEKRET-\xff");
    let ran = Command::new(env!("CARGO_BIN_EXE_sconce")).arg("explain").arg(odd).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("error: ") && !said.contains("SEKRET"), "{said}");
}

#[test]
fn a_token_with_a_space_at_its_end_is_said_to_have_one() {
    let home = Home::with_issuer("");
    let url = format!("sc://h/;token={} ", home.token(&["--group", "g-ads"]));
    let said = home.run(&["explain", &url]);
    assert!(said.text.contains("the token ends with a space"), "{}", said.text);
    assert_eq!(said.status, Some(3));
}

/// An authority, and a certificate of ann's that it has signed, in files of this folder.
fn write_certificates(home: &Path) {
    let mut authority = CertificateParams::new(["authority".to_owned()]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (signer, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let signed = authority.self_signed(&signer).unwrap();
    let mut own = CertificateParams::default();
    let name = Ia5String::try_from("spiffe://example/ann").unwrap();
    own.subject_alt_names = vec![SanType::URI(name)];
    let own = own.signed_by(&key, &Issuer::from_params(&authority, &signer)).unwrap();
    let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (file, text) in [
        ("ca.pem", signed.pem()),
        ("ann.pem", own.pem()),
        ("server.pem", server.cert.pem()),
        ("server.key", server.signing_key.serialize_pem()),
    ] {
        fs::write(home.join(file), text).unwrap();
    }
}

#[test]
fn a_client_certificate_is_judged_as_a_handshake_does() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let tls = "listen:\n  tls:\n    certificates: [{ certificate: server.pem, key: server.key \
               }]\n    client_authorities: ca.pem\nauthenticate:\n  certificates: { user: uri, \
               prefix: 'spiffe://example/' }\n";
    let home = Home::new(nowhere, tls);
    write_certificates(home.0.path());
    let said = home.run(&["explain", "sc://h", "--certificate", "ann.pem"]);
    assert_eq!(said.status, Some(0), "{}", said.text);
    assert!(said.text.contains("URI 'spiffe://example/ann'"), "{}", said.text);
    assert!(said.text.contains("user 'ann' by a client certificate"), "{}", said.text);
    for other in ["server.pem", "server.key", "missing.pem"] {
        let said = home.run(&["explain", "sc://h", "--certificate", other]);
        assert_eq!(said.status, Some(3), "{other}: {}", said.text);
        assert!(said.text.contains("refuses the certificate"), "{other}: {}", said.text);
    }
}

#[test]
fn a_certificate_that_nobody_is_asked_for_counts_for_nothing() {
    let home = Home::with_issuer("");
    write_certificates(home.0.path());
    let url = format!("sc://h/;token={}", home.token(&["--group", "g-ads"]));
    let said = home.run(&["explain", &url, "--certificate", "ann.pem"]);
    assert!(said.text.contains("listen.tls.client_authorities is not set"), "{}", said.text);
    assert!(said.text.contains("goes to"), "{}", said.text);
    assert_eq!(said.status, Some(0), "{}", said.text);
    let said = home.run(&["explain", "sc://h", "--certificate", "ann.pem"]);
    assert!(said.text.contains("authenticate.missing"), "{}", said.text);
    let said = home.run(&["explain", &url, "--certificate", "missing.pem"]);
    assert!(said.text.contains("missing.pem"), "{}", said.text);
}

/// Somebody who says this to everybody who connects.
fn server(says: impl Fn(SocketAddr) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(&says(address));
        }
    });
    address
}

#[test]
fn dial_says_whether_driver_and_provider_answer() {
    let driver = server(|_| vec![0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let provider = server(|_| {
        let text = r#"{"keys":[{"kty":"RSA"}]}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
    });
    let home = Home::new(driver, "");
    let url = "sc://h/;x-sconce-team=ads";
    let said = home.run(&["explain", url, "--dial"]);
    assert_eq!(said.status, Some(0), "{}", said.text);
    assert!(said.text.contains(&format!("{driver} is reachable over HTTP/2")), "{}", said.text);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let home = Home::new(nowhere, "");
    assert_eq!(home.run(&["explain", url]).status, Some(0), "it is not dialled unless asked for");
    let said = home.run(&["explain", url, "--dial"]);
    assert_eq!(said.status, Some(3), "{}", said.text);
    assert!(said.text.contains("127.0.0.1:1 is unreachable (refused)"), "{}", said.text);
    let issuer = format!(
        "authenticate:\n  allow_insecure_loopback: true\n  issuers:\n    - issuer: {ISSUER}\n      \
         audiences: [sconce]\n      keys_url: http://{provider}/keys\n"
    );
    let home = Home::new(driver, &issuer);
    let said = home.run(&["explain", url, "--dial"]);
    assert_eq!(said.status, Some(3), "{}", said.text);
    assert!(said.text.contains(&format!("{ISSUER}: cannot fetch the keys")), "{}", said.text);
}
