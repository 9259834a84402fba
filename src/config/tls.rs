//! `listen.tls`: the certificates that clients are shown, and those that clients may show.
//!
//! Must never happen here: a key in a message, or half a set of certificates that goes live.

use crate::config::{
    ClientAuthorities,
    cert_key::CertKey,
    cert_validity::{self, CertUse, CertValidity},
    diagnostics::{Diagnostics, Problem},
    parse,
    pem::{self, CERTIFICATES_MAX, HELP_NAME_PEM_FILE},
    section::{FileRef, Section},
    server_certificate,
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName},
    server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{fmt, path::PathBuf, sync::Arc};

/// How clients are met: what the files said, and what was made of it.
#[derive(Clone)]
pub struct Tls {
    section: Arc<TlsSection>,
    server_config: Arc<ServerConfig>,
    authorities: Option<Arc<ClientAuthorities>>,
    certificates: Arc<[CertValidity]>,
}

/// What the files said.
#[derive(Debug, PartialEq, Eq)]
struct TlsSection {
    cert_keys: Vec<CertKey>,
    authorities: Vec<CertificateDer<'static>>,
    client_auth: ClientAuth,
    min_version: MinTlsVersion,
    cleartext_hint: bool,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// They may.
    #[default]
    Optional,
    /// Who has none is not let in.
    Required,
}

/// The oldest TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MinTlsVersion {
    #[default]
    Tls12,
    Tls13,
}

impl Tls {
    /// What new connections are met with.
    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server_config
    }

    /// Who signs clients' certificates, where clients are asked for one.
    pub fn authorities(&self) -> Option<&Arc<ClientAuthorities>> {
        self.authorities.as_ref()
    }

    /// Whether clients that speak no TLS are told that it is due.
    pub fn cleartext_hint(&self) -> bool {
        self.section.cleartext_hint
    }

    /// Whether clients are asked for a certificate of their own.
    pub(super) fn requests_client_certificates(&self) -> bool {
        !self.section.authorities.is_empty()
    }

    /// From when to when all the certificates are good.
    pub fn certificates(&self) -> &[CertValidity] {
        &self.certificates
    }
}

impl PartialEq for Tls {
    /// Two are equal when clients could not tell them apart.
    fn eq(&self, other: &Self) -> bool {
        self.section == other.section
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.section.cert_keys.len())
            .finish_non_exhaustive()
    }
}

/// Reads the section and the files that it names. They are told in `files`, found or not.
pub(super) fn read(
    desk: &Diagnostics,
    section: Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Tls> {
    let line = section.line();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut reader = TlsReader { desk, provider, files, certificates: Vec::new() };
    let (said, keys) = reader.read(section)?;
    let terms = reader.certificates.into();
    let made = build_authorities(&said, &reader.provider).and_then(|authorities| {
        let server = build_server_config(&said, keys, authorities.as_ref(), &reader.provider)?;
        Ok((Arc::new(server), authorities.map(Arc::new)))
    });
    match made {
        Ok((server, authorities)) => Some(Tls {
            section: Arc::new(said),
            server_config: server,
            authorities,
            certificates: terms,
        }),
        Err(what) => {
            let fault = Problem::new(what, "correct the files that are named here");
            desk.report(line, "listen.tls", fault);
            None
        }
    }
}

type Keys = Vec<Arc<CertifiedKey>>;

struct TlsReader<'r> {
    desk: &'r Diagnostics,
    provider: Arc<CryptoProvider>,
    files: &'r mut Vec<PathBuf>,
    certificates: Vec<CertValidity>,
}

impl TlsReader<'_> {
    fn read(&mut self, mut section: Section<'_>) -> Option<(TlsSection, Keys)> {
        let line = section.line();
        if !section.has("certificates") {
            section.report_missing(
                "certificates",
                "name at least one, with its certificate and its key",
            );
        }
        let mut pairs = Vec::new();
        let mut keys = Vec::new();
        let listed = section.sections("certificates");
        let missing = listed.is_none();
        let listed = listed.unwrap_or_default();
        let count = listed.len();
        for one in listed.into_iter().take(CERTIFICATES_MAX) {
            if let Some((pair, key)) = self.cert_key(one) {
                pairs.push(pair);
                keys.push(key);
            }
        }
        if (count == 0 && !missing) || count > CERTIFICATES_MAX {
            let what = format!("has {count} certificates");
            let fault = Problem::new(what, format!("name 1 to {CERTIFICATES_MAX}"));
            self.desk.report(line, "listen.tls.certificates", fault);
        }
        let trusts = section.has("client_authorities");
        let authorities =
            pem::authorities(self.desk, &mut section, "client_authorities", self.files);
        let authorities = authorities.map(|(named, all)| {
            self.certificates.extend(cert_validity::read(
                (&named.file, named.line),
                CertUse::ClientAuthority,
                &all,
            ));
            all
        });
        let authorities = authorities.unwrap_or_default();
        let clients = section.scalar_at("client_certificate", |text| {
            let all = [("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
            parse::choice(text, &all)
        });
        if let (Some((_, line)), false) = (clients, trusts) {
            let remedy = "name the file of those who sign clients' certificates";
            let fault = Problem::new("means nothing without client_authorities", remedy);
            self.desk.report(line, "listen.tls.client_certificate", fault);
        }
        let oldest = section.scalar("min_version", |text| {
            parse::choice(text, &[("1.2", MinTlsVersion::Tls12), ("1.3", MinTlsVersion::Tls13)])
        });
        let cleartext_hint = section.scalar("cleartext_hint", parse::boolean).unwrap_or(true);
        section.finish();
        let clients = clients.map(|(clients, _)| clients).unwrap_or_default();
        let oldest = oldest.unwrap_or_default();
        let said = TlsSection {
            cert_keys: pairs,
            authorities,
            client_auth: clients,
            min_version: oldest,
            cleartext_hint,
        };
        (!keys.is_empty() && keys.len() == count).then_some((said, keys))
    }

    fn cert_key(&mut self, mut section: Section<'_>) -> Option<(CertKey, Arc<CertifiedKey>)> {
        for (key, what) in [("certificate", "the certificate"), ("key", "its key")] {
            if !section.has(key) {
                section.report_missing(key, &format!("name the PEM file with {what}"));
            }
        }
        let certificate = section.bytes_file("certificate", HELP_NAME_PEM_FILE, self.files);
        let key = section.bytes_file("key", HELP_NAME_PEM_FILE, self.files);
        let (certificate_path, path) = (section.path_of("certificate"), section.path_of("key"));
        section.finish();
        let certificate = certificate.and_then(|named| {
            let chain = self.read_certificates(&named, &certificate_path, CertUse::Server)?;
            for fault in chain.first().map(server_certificate::check).unwrap_or_default() {
                named.warn(self.desk, &certificate_path, fault);
            }
            Some((named.file, chain))
        });
        let ((file, chain), named) = (certificate?, key?);
        let pair = pem::private_key(&named.file, &named.content)
            .and_then(|key| CertKey::new((&file, chain), key, self.provider.key_provider));
        pair.map_err(|fault| named.report(self.desk, &path, fault)).ok()
    }

    /// The certificates of the file that the key `path` names, whose terms are noted.
    fn read_certificates(
        &mut self,
        named: &FileRef<Vec<u8>>,
        path: &str,
        used: CertUse,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let all = pem::certificates(&named.file, &named.content);
        let all = all.map_err(|fault| named.report(self.desk, path, fault)).ok()?;
        self.certificates.extend(cert_validity::read((&named.file, named.line), used, &all));
        Some(all)
    }
}

fn build_server_config(
    said: &TlsSection,
    keys: Keys,
    authorities: Option<&ClientAuthorities>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    // The first octets that this process draws cost thirty milliseconds, for AWS-LC gathers entropy
    // by itself: here nobody waits for them, but on a worker every connection would.
    let drawn = provider.secure_random.fill(&mut [0; 1]);
    drawn.map_err(|_| "the system gives no random octets".to_owned())?;
    let versions: &[&SupportedProtocolVersion] = match said.min_version {
        MinTlsVersion::Tls12 => &[&TLS13, &TLS12],
        MinTlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|fault| fault.to_string())?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(authorities.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(CertResolver(keys)));
    server.alpn_protocols = vec![b"h2".to_vec()];
    // Clients of gRPC keep one connection and do not resume sessions.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}

fn build_authorities(
    said: &TlsSection,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<ClientAuthorities>, String> {
    if said.authorities.is_empty() {
        return Ok(None);
    }
    let is_required = said.client_auth == ClientAuth::Required;
    ClientAuthorities::new(said.authorities.clone(), is_required, provider).map(Some)
}

/// The certificates that are shown: the first that is for the host which a client names, else the
/// first of all.
struct CertResolver(Keys);

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |certified: &&Arc<CertifiedKey>| {
            let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
            let named = parsed.ok().zip(name.as_ref());
            named.is_some_and(|(parsed, name)| verify_server_name(&parsed, name).is_ok())
        };
        let usable = |certified: &&Arc<CertifiedKey>| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let mut all = self.0.iter().filter(usable);
        all.clone().find(fits).or_else(|| all.next()).map(Arc::clone)
    }
}

impl fmt::Debug for CertResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("certificates", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use std::{fs, path::Path};

    /// What is said of a `tls:` section with these lines.
    fn said(lines: &str, fill: impl FnOnce(&Path)) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::create_dir(home.path().join("teams")).unwrap();
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        fill(home.path());
        let main = home.path().join("sconce.yaml");
        let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
        fs::write(&main, format!("teams: {{ directory: teams }}\nlisten:\n  tls:\n{lines}"))
            .unwrap();
        let complaints = config::load(&main).err().unwrap_or_default();
        let here = format!("{}/", home.path().display());
        complaints.iter().map(|complaint| complaint.to_string().replace(&here, "")).collect()
    }

    fn made(home: &Path, name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(home.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(home.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    }

    #[test]
    fn certificates_with_their_keys_are_taken() {
        let lines = "certificates:\n- { certificate: a.crt, key: a.key }\n\
                     - { certificate: b.crt, key: b.key }\nclient_authorities: a.crt\n\
                     client_certificate: required\nmin_version: \"1.3\"\n\
                     cleartext_hint: false";
        let complaints = said(lines, |home| {
            made(home, "a");
            made(home, "b");
        });
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    #[test]
    fn everything_wrong_is_said_with_its_file() {
        let lines = "certificates:\n- { certificate: a.crt, key: b.key }\n\
                     - { certificate: none.crt, key: a.crt }\n- { certificate: a.key }\n\
                     - { certificate: teams, key: a.key }\n\
                     client_certificate: required\nclient_authorities: empty.pem\nother: 1\n\
                     cleartext_hint: maybe";
        let complaints = said(lines, |home| {
            made(home, "a");
            made(home, "b");
            fs::write(home.join("empty.pem"), "").unwrap();
        });
        let unasked = complaints.iter().any(|told| told.contains("means nothing"));
        assert!(!unasked, "{complaints:#?}");
        for expected in [
            "sconce.yaml:5: listen.tls.certificates.key: b.key is not the key of this certificate;",
            "listen.tls.certificates.certificate: none.crt cannot be read: No such file",
            "listen.tls.certificates.certificate: a.key holds no certificate in PEM, or one",
            "listen.tls.certificates.key: is missing; name the PEM file with its key",
            "listen.tls.certificates.certificate: teams is a directory; name the PEM file itself",
            "listen.tls.client_authorities: empty.pem holds no certificate in PEM",
            "listen.tls.other: there is no key 'other'",
            "listen.tls.cleartext_hint: ",
        ] {
            assert!(
                complaints.iter().any(|told| told.contains(expected)),
                "{expected}: {complaints:#?}"
            );
        }
    }

    #[test]
    fn an_authority_that_cannot_sign_is_named() {
        let lines =
            "certificates: [{ certificate: a.crt, key: a.key }]\nclient_authorities: ca.crt";
        let complaints = said(lines, |home| {
            let spoilt = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            let good = made(home, "a");
            fs::write(home.join("ca.crt"), good + spoilt).unwrap();
        });
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        let expected = "client_authorities: ca.crt holds, as certificate 2, one that cannot sign: ";
        assert!(complaints[0].contains(expected), "{complaints:?}");
    }

    #[test]
    fn a_remark_in_any_encoding_and_the_mark_of_an_editor_do_no_harm() {
        let lines =
            "certificates: [{ certificate: a.crt, key: a.key }]\nclient_authorities: ca.crt";
        let complaints = said(lines, |home| {
            let pem = made(home, "a");
            fs::write(home.join("ca.crt"), [b"# f\xfcr Spark\n", pem.as_bytes()].concat()).unwrap();
            for file in ["a.crt", "a.key"] {
                let pem = fs::read(home.join(file)).unwrap();
                fs::write(home.join(file), ["\u{feff}".as_bytes(), &pem].concat()).unwrap();
            }
        });
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    #[test]
    fn no_key_is_ever_shown() {
        let complaints = said("certificates: [{ certificate: a.crt, key: a.crt }]", |home| {
            let pem = made(home, "a");
            fs::write(home.join("a.crt"), pem.replace("CERTIFICATE", "SECRET")).unwrap();
        });
        assert!(complaints.iter().all(|told| !told.contains("SECRET")), "{complaints:?}");
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }
}
