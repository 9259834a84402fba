//! `sconce check` as a person or a pipeline runs it: what it prints, and its status.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::{fs, process::Command};

const ADS: &str = "team: ads\nmembers: { users: [ann] }\nenvironments: { p: { driver: 'a:1' } }\n";
const HASH: &str = "c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483";

struct Home(tempfile::TempDir);

impl Home {
    /// One whose certificate and members nobody can find fault with.
    fn new(listen: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.0.path().join("teams")).unwrap();
        home.write("teams/ads.yaml", ADS);
        home.write(
            "sconce.yaml",
            &format!(
                "listen: {{ {listen} }}\nteams: {{ directory: teams }}\nauthenticate:\n  tokens: \
                 [{{ name: ann, user: ann, sha256: {HASH} }}]\n"
            ),
        );
        home.certify(|_| ());
        home
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn certify(&self, spoil: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(["spark.example.com".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        spoil(&mut params);
        let key = KeyPair::generate().unwrap();
        self.write("a.crt", &params.self_signed(&key).unwrap().pem());
        self.write("a.key", &key.serialize_pem());
    }

    /// What it prints, and its status.
    fn check(&self, flags: &[&str]) -> (String, i32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        let command = command
            .arg("check")
            .args(flags)
            .env("SCONCE_CONFIG", self.0.path().join("sconce.yaml"));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let here = format!("{}/", self.0.path().display());
        (text.replace(&here, ""), output.status.code().unwrap())
    }
}

const TLS: &str = "tls: { certificates: [{ certificate: a.crt, key: a.key }] }";
const OK: &str = "ok: 1 team, 1 environment, chain authenticate > team\n";

#[test]
fn a_sound_configuration_has_no_warnings() {
    let home = Home::new(TLS);
    assert_eq!(home.check(&[]), (OK.to_owned(), 0));
    assert_eq!(home.check(&["--deny-warnings"]), (OK.to_owned(), 0));
}

#[test]
fn each_warning_leaves_the_status_at_0_and_makes_it_1_where_warnings_are_denied() {
    type Spoil = fn(&Home);
    let cases: [(&str, Spoil); 6] = [
        ("authenticate: accepts tokens, but listen.tls is missing", |home| {
            let main = fs::read_to_string(home.0.path().join("sconce.yaml")).unwrap();
            home.write("sconce.yaml", &main.replace(TLS, ""));
        }),
        ("the team 'ads' can have no members", |home| {
            home.write("teams/ads.yaml", &ADS.replace("members: { users: [ann] }\n", ""));
        }),
        ("'bob' in users matches no possible caller", |home| {
            home.write("teams/ads.yaml", &ADS.replace("[ann]", "[ann, bob]"));
        }),
        ("a.crt has no DNS name and no IP address in its subjectAltName", |home| {
            home.certify(|params| params.subject_alt_names.clear());
        }),
        ("a.crt is a CA certificate (CA:TRUE)", |home| {
            home.certify(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        }),
        ("a.crt is not a server certificate (no serverAuth in its extendedKeyUsage)", |home| {
            home.certify(|params| params.extended_key_usages.clear());
        }),
    ];
    for (expected, spoil) in cases {
        let home = Home::new(TLS);
        spoil(&home);
        let (text, status) = home.check(&[]);
        assert_eq!(text.matches("warning: ").count(), 1, "{text}");
        assert!(text.contains(expected) && text.ends_with(OK), "{text}");
        assert_eq!(status, 0);
        let (text, status) = home.check(&["--deny-warnings"]);
        assert!(
            text.contains(expected)
                && text.ends_with("1 warning, not allowed by --deny-warnings\n"),
            "{text}"
        );
        assert_eq!(status, 1);
    }
}

#[test]
fn an_error_of_an_issuer_brings_no_warnings_of_members_that_it_could_prove() {
    let home = Home::new(TLS);
    let issuers = "\n  issuers: [{ issuer: 'http://idp.example.com', audiences: [a] }]\nteams:";
    for sources in [issuers, " { release_grace: 1h }\nteams:"] {
        let main = format!("listen: {{ {TLS} }}\nauthenticate:{sources} {{ directory: teams }}\n");
        home.write("sconce.yaml", &main);
        let (said, status) = home.check(&[]);
        assert!(!said.contains("warning"), "{said}");
        assert!(status == 1 && said.contains("sconce.yaml:"), "{said}");
    }
}

#[test]
fn a_team_whose_file_has_an_error_is_named_with_what_becomes_of_it() {
    let home = Home::new(TLS);
    home.write("teams/ml.yaml", "team: ml\n");
    home.write("teams/x.yaml", "tea");
    let (text, status) = home.check(&[]);
    assert_eq!(status, 1);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("teams/ml.yaml:1: environments: is empty; "), "{text}");
    assert!(lines[1].starts_with("teams/x.yaml:1: must be a mapping; "), "{text}");
    let fate = "1 error: a start refuses its calls and serves the other teams; a reload keeps its \
                last good configuration";
    assert_eq!(lines[2..], [format!("team ml: {fate}"), format!("team x.yaml: {fate}")]);
}
