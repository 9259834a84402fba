//! Errors and warnings of the section `authenticate`.

use crate::config;
use std::{fs, path::Path};

/// The errors of an `authenticate` section with these lines.
fn messages(lines: &str, fill: impl FnOnce(&Path)) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
    fs::create_dir(home.path().join("teams")).unwrap();
    fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
    fill(home.path());
    let main = home.path().join("sconce.yaml");
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    fs::write(&main, format!("teams: {{ directory: teams }}\nauthenticate:\n{lines}")).unwrap();
    let errors = config::load(&main).err().unwrap_or_default();
    let here = format!("{}/", home.path().display());
    errors.iter().map(|error| error.to_string().replace(&here, "")).collect()
}

/// The errors of one issuer with these keys in addition to the required ones.
fn errors_in(keys: &str, fill: impl FnOnce(&Path)) -> Vec<String> {
    let issuer = "issuer: 'https://id.example', audiences: [a]";
    messages(&format!("issuers: [{{ {issuer}, {keys} }}]"), fill)
}

#[test]
fn duplicate_and_empty_token_hashes_are_errors() {
    let token = |name, sha256: &str| format!("- {{ name: {name}, sha256: {sha256}, user: a }}\n");
    let same = "c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let tokens = [("a", same), ("b", &same.to_uppercase()), ("c", empty)];
    let tokens: String = tokens.iter().map(|(name, sha256)| token(name, sha256)).collect();
    assert_eq!(
        messages(&format!("tokens:\n{tokens}"), |_| ()),
        [
            "sconce.yaml:5: authenticate.tokens.sha256: is also the hash of another token; give \
             each token its own secret, because it identifies the caller",
            "sconce.yaml:6: authenticate.tokens.sha256: is the hash of an empty string; write \
             the hash that printf %s TOKEN | sha256sum prints",
        ]
    );
}

#[test]
fn an_unusable_authentication_method_is_an_error() {
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let keys = |home: &Path| {
        fs::write(home.join("keys.json"), format!("{{\"keys\":[{jwk}]}}")).unwrap();
    };
    assert_eq!(
        errors_in("algorithms: []", |_| ()),
        ["sconce.yaml:3: authenticate.issuers.algorithms: is empty: no token would be accepted; \
          add at least one, or remove the key"]
    );
    assert_eq!(
        errors_in("algorithms: [RS256, ES256], keys_file: keys.json", keys),
        ["sconce.yaml:3: authenticate.issuers.keys_file: keys.json has no key for RS256, ES256; \
          add one, or correct algorithms"]
    );
    assert_eq!(errors_in("algorithms: [RS256, EdDSA], keys_file: keys.json", keys), [""; 0]);
    assert_eq!(
        messages("certificates: { user: email }", |_| ()),
        ["sconce.yaml:3: authenticate.certificates: has no effect: sconce does not request \
          client certificates; set listen.tls.client_authorities, or remove the section"]
    );
}

#[test]
fn invalid_authorities_are_errors() {
    let made = rcgen::generate_simple_self_signed(["id.example".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let half = pem.get(..pem.len() / 2).unwrap();
    let none = "no certificate in PEM format, or a damaged one; write certificates as \
                '-----BEGIN CERTIFICATE-----'";
    let no_one = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    for (bytes, expected) in [
        (&b""[..], none),
        (b"garbage", none),
        (half.as_bytes(), none),
        (format!("{pem}{half}").as_bytes(), none),
        (no_one.as_bytes(), "which is not a valid certificate authority: "),
        (made.cert.der(), "is binary (DER?); convert it: openssl x509 "),
    ] {
        let messages = errors_in("authorities: ca.pem", |home| {
            fs::write(home.join("ca.pem"), bytes).unwrap();
        });
        let begins = "sconce.yaml:3: authenticate.issuers.authorities: ca.pem ";
        let fits = messages.len() == 1
            && messages[0].starts_with(begins)
            && messages[0].contains(expected);
        assert!(fits, "{expected}: {messages:?}");
    }
    let good = |home: &Path| fs::write(home.join("ca.pem"), format!("{pem}{pem}")).unwrap();
    assert_eq!(errors_in("authorities: ca.pem", good), [""; 0]);
}

#[test]
fn http_urls_are_errors_except_on_loopback_if_allowed() {
    let stranger =
        ["http://idp.example.com/realm", "http://127.0.0.1.example.com", "http://10.0.0.1"];
    let own = ["http://127.0.0.1:8080", "http://localhost/realm", "HTTP://[::1]:1"];
    let of = |issuer: &str, url: &str, allow: &str| {
        let keys = if url.is_empty() { String::new() } else { format!(", keys_url: '{url}'") };
        let issuers = format!("issuers: [{{ issuer: '{issuer}', audiences: [a]{keys} }}]");
        messages(&format!("{issuers}\n{allow}"), |_| ())
    };
    let allow = "allow_insecure_loopback: true";
    for url in stranger {
        for allow in ["", allow] {
            for messages in [of(url, "", allow), of("https://id.example", url, allow)] {
                assert_eq!(messages.len(), 1, "{messages:?}");
                assert!(
                    messages[0].contains(&format!("'{url}' is not encrypted: ")),
                    "{messages:?}"
                );
                assert!(!messages[0].contains("allow_insecure_loopback"), "{messages:?}");
            }
        }
    }
    for url in own {
        for (issuer, keys) in [(url, ""), ("https://id.example", url)] {
            let messages = of(issuer, keys, "");
            assert_eq!(messages.len(), 1, "{messages:?}");
            assert!(messages[0].ends_with("{ allow_insecure_loopback: true }"), "{messages:?}");
            assert_eq!(of(issuer, keys, allow), [""; 0]);
        }
    }
    assert_eq!(of("https://id.example", "https://id.example/keys", ""), [""; 0]);
}

#[test]
fn tokens_from_other_hosts_without_tls_are_a_warning() {
    let warned = |listen: &str, authenticate: &str| {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let ads = "team: ads\nmembers: { users: [a] }\nenvironments: { p: { driver: 'ads:1' } }\n";
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::write(home.path().join("a.crt"), made.cert.pem()).unwrap();
        fs::write(home.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
        let main = home.path().join("sconce.yaml");
        let text = format!(
            "listen: {{ {listen} }}\nteams: {{ directory: teams }}\nauthenticate: {{ \
             {authenticate} }}\n"
        );
        fs::write(&main, text).unwrap();
        let reading = config::read(&main, &config::LoadContext::default(), None);
        assert!(reading.config.is_ok() && reading.team_errors.is_empty(), "{reading:?}");
        let warnings = reading.warnings.iter();
        warnings.filter(|it| it.key == "authenticate").map(|it| it.line).collect::<Vec<_>>()
    };
    let hash = "c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483";
    let tokens = format!("tokens: [{{ name: a, user: a, sha256: {hash} }}]");
    let issuers = "issuers: [{ issuer: 'https://id.example', audiences: [a] }]";
    let tls =
        "tls: { certificates: [{ certificate: a.crt, key: a.key }], client_authorities: a.crt }";
    for authenticate in [&*tokens, issuers] {
        assert_eq!(warned("", authenticate), [3]);
        assert_eq!(warned("address: '10.0.0.1:15009'", authenticate), [3]);
        assert_eq!(warned("address: '[::1]:15009'", authenticate), [0; 0]);
        assert_eq!(warned("tls_terminated_externally: true", authenticate), [0; 0]);
        assert_eq!(warned(tls, authenticate), [0; 0]);
    }
    assert_eq!(warned(tls, "certificates: { user: uri }"), [0; 0]);
}
