//! `listen.tls`: server certificates, and authorities for client certificates.
//!
//! Must never happen here: a private key in a message, or an incomplete set of live certificates.

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

/// TLS for clients: the section and the objects built from it.
#[derive(Clone)]
pub struct Tls {
    section: Arc<TlsSection>,
    server_config: Arc<ServerConfig>,
    authorities: Option<Arc<ClientAuthorities>>,
    certificates: Arc<[CertValidity]>,
}

/// The content of the section.
#[derive(Debug, PartialEq, Eq)]
struct TlsSection {
    cert_keys: Vec<CertKey>,
    authorities: Vec<CertificateDer<'static>>,
    client_auth: ClientAuth,
    min_version: MinTlsVersion,
    cleartext_hint: bool,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// Optional.
    #[default]
    Optional,
    /// Required.
    Required,
}

/// The minimum TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MinTlsVersion {
    #[default]
    Tls12,
    Tls13,
}

impl Tls {
    /// The TLS configuration for new connections.
    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server_config
    }

    /// The authorities for client certificates, if sconce requests them.
    pub fn authorities(&self) -> Option<&Arc<ClientAuthorities>> {
        self.authorities.as_ref()
    }

    /// Whether a client without TLS gets an unencrypted error that requires TLS.
    pub fn cleartext_hint(&self) -> bool {
        self.section.cleartext_hint
    }

    /// Whether sconce requests client certificates.
    pub(super) fn requests_client_certificates(&self) -> bool {
        !self.section.authorities.is_empty()
    }

    /// The validity of all certificates.
    pub fn certificates(&self) -> &[CertValidity] {
        &self.certificates
    }
}

impl PartialEq for Tls {
    /// Equal if there is no difference for clients.
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

/// Reads the section and its files. Adds the paths to `files`, even of missing files.
pub(super) fn read(
    diagnostics: &Diagnostics,
    section: Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Tls> {
    let line = section.line();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut reader = TlsReader { diagnostics, provider, files, certificates: Vec::new() };
    let (tls, keys) = reader.read(section)?;
    let validities = reader.certificates.into();
    let made = build_authorities(&tls, &reader.provider).and_then(|authorities| {
        let server = build_server_config(&tls, keys, authorities.as_ref(), &reader.provider)?;
        Ok((Arc::new(server), authorities.map(Arc::new)))
    });
    match made {
        Ok((server, authorities)) => Some(Tls {
            section: Arc::new(tls),
            server_config: server,
            authorities,
            certificates: validities,
        }),
        Err(what) => {
            let problem = Problem::new(what, "correct the files of this section");
            diagnostics.report(line, "listen.tls", problem);
            None
        }
    }
}

type Keys = Vec<Arc<CertifiedKey>>;

struct TlsReader<'r> {
    diagnostics: &'r Diagnostics,
    provider: Arc<CryptoProvider>,
    files: &'r mut Vec<PathBuf>,
    certificates: Vec<CertValidity>,
}

impl TlsReader<'_> {
    fn read(&mut self, mut section: Section<'_>) -> Option<(TlsSection, Keys)> {
        let line = section.line();
        if !section.has("certificates") {
            section.report_missing("certificates", "add at least one certificate with its key");
        }
        let mut cert_keys = Vec::new();
        let mut keys = Vec::new();
        let listed = section.sections("certificates");
        let missing = listed.is_none();
        let listed = listed.unwrap_or_default();
        let count = listed.len();
        for one in listed.into_iter().take(CERTIFICATES_MAX) {
            if let Some((cert_key, key)) = self.cert_key(one) {
                cert_keys.push(cert_key);
                keys.push(key);
            }
        }
        if (count == 0 && !missing) || count > CERTIFICATES_MAX {
            let what = format!("has {count} certificates");
            let problem = Problem::new(what, format!("write 1 to {CERTIFICATES_MAX}"));
            self.diagnostics.report(line, "listen.tls.certificates", problem);
        }
        let has_authorities = section.has("client_authorities");
        let authorities =
            pem::authorities(self.diagnostics, &mut section, "client_authorities", self.files);
        let authorities = authorities.map(|(named, all)| {
            self.certificates.extend(cert_validity::read(
                (&named.file, named.line),
                CertUse::ClientAuthority,
                &all,
            ));
            all
        });
        let authorities = authorities.unwrap_or_default();
        let client_auth = section.scalar_at("client_certificate", |text| {
            let all = [("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
            parse::choice(text, &all)
        });
        if let (Some((_, line)), false) = (client_auth, has_authorities) {
            let help = "set client_authorities to a PEM file with the certificate authorities";
            let problem = Problem::new("has no effect without client_authorities", help);
            self.diagnostics.report(line, "listen.tls.client_certificate", problem);
        }
        let min_version = section.scalar("min_version", |text| {
            parse::choice(text, &[("1.2", MinTlsVersion::Tls12), ("1.3", MinTlsVersion::Tls13)])
        });
        let cleartext_hint = section.scalar("cleartext_hint", parse::boolean).unwrap_or(true);
        section.finish();
        let client_auth = client_auth.map(|(client_auth, _)| client_auth).unwrap_or_default();
        let min_version = min_version.unwrap_or_default();
        let tls = TlsSection { cert_keys, authorities, client_auth, min_version, cleartext_hint };
        (!keys.is_empty() && keys.len() == count).then_some((tls, keys))
    }

    fn cert_key(&mut self, mut section: Section<'_>) -> Option<(CertKey, Arc<CertifiedKey>)> {
        for (key, what) in [("certificate", "the certificate"), ("key", "its key")] {
            if !section.has(key) {
                section.report_missing(key, &format!("write the path of the PEM file with {what}"));
            }
        }
        let certificate = section.bytes_file("certificate", HELP_NAME_PEM_FILE, self.files);
        let key = section.bytes_file("key", HELP_NAME_PEM_FILE, self.files);
        let (certificate_path, path) = (section.path_of("certificate"), section.path_of("key"));
        section.finish();
        let certificate = certificate.and_then(|named| {
            let chain = self.read_certificates(&named, &certificate_path, CertUse::Server)?;
            for problem in chain.first().map(server_certificate::check).unwrap_or_default() {
                named.warn(self.diagnostics, &certificate_path, problem);
            }
            Some((named.file, chain))
        });
        let ((file, chain), named) = (certificate?, key?);
        let cert_key = pem::private_key(&named.file, &named.content)
            .and_then(|key| CertKey::new((&file, chain), key, self.provider.key_provider));
        cert_key.map_err(|problem| named.report(self.diagnostics, &path, problem)).ok()
    }

    /// Reads the certificates in the file of the key `path`, and records their validity.
    fn read_certificates(
        &mut self,
        named: &FileRef<Vec<u8>>,
        path: &str,
        used: CertUse,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let all = pem::certificates(&named.file, &named.content);
        let all = all.map_err(|problem| named.report(self.diagnostics, path, problem)).ok()?;
        self.certificates.extend(cert_validity::read((&named.file, named.line), used, &all));
        Some(all)
    }
}

fn build_server_config(
    tls: &TlsSection,
    keys: Keys,
    authorities: Option<&ClientAuthorities>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    // The first random bytes of a process take 30 ms, because AWS-LC collects entropy itself. Here
    // that delays no connection; on a worker it would delay all of them.
    let drawn = provider.secure_random.fill(&mut [0; 1]);
    drawn.map_err(|_| "the system provides no random bytes".to_owned())?;
    let versions: &[&SupportedProtocolVersion] = match tls.min_version {
        MinTlsVersion::Tls12 => &[&TLS13, &TLS12],
        MinTlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(authorities.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(CertResolver(keys)));
    server.alpn_protocols = vec![b"h2".to_vec()];
    // gRPC clients keep one connection and do not resume sessions.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}

fn build_authorities(
    tls: &TlsSection,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<ClientAuthorities>, String> {
    if tls.authorities.is_empty() {
        return Ok(None);
    }
    let is_required = tls.client_auth == ClientAuth::Required;
    ClientAuthorities::new(tls.authorities.clone(), is_required, provider).map(Some)
}

/// Selects the first certificate that matches the SNI host name, otherwise the first one.
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

    /// The errors of a `tls` section with these lines.
    fn messages(lines: &str, fill: impl FnOnce(&Path)) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::create_dir(home.path().join("teams")).unwrap();
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        fill(home.path());
        let main = home.path().join("sconce.yaml");
        let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
        fs::write(&main, format!("teams: {{ directory: teams }}\nlisten:\n  tls:\n{lines}"))
            .unwrap();
        let errors = config::load(&main).err().unwrap_or_default();
        let here = format!("{}/", home.path().display());
        errors.iter().map(|error| error.to_string().replace(&here, "")).collect()
    }

    fn made(home: &Path, name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(home.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(home.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    }

    #[test]
    fn certificates_with_matching_keys_are_valid() {
        let lines = "certificates:\n- { certificate: a.crt, key: a.key }\n\
                     - { certificate: b.crt, key: b.key }\nclient_authorities: a.crt\n\
                     client_certificate: required\nmin_version: \"1.3\"\n\
                     cleartext_hint: false";
        let errors = messages(lines, |home| {
            made(home, "a");
            made(home, "b");
        });
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn every_error_names_its_file() {
        let lines = "certificates:\n- { certificate: a.crt, key: b.key }\n\
                     - { certificate: none.crt, key: a.crt }\n- { certificate: a.key }\n\
                     - { certificate: teams, key: a.key }\n\
                     client_certificate: required\nclient_authorities: empty.pem\nother: 1\n\
                     cleartext_hint: maybe";
        let errors = messages(lines, |home| {
            made(home, "a");
            made(home, "b");
            fs::write(home.join("empty.pem"), "").unwrap();
        });
        let unasked = errors.iter().any(|message| message.contains("has no effect"));
        assert!(!unasked, "{errors:#?}");
        for expected in [
            "sconce.yaml:5: listen.tls.certificates.key: b.key does not match the certificate;",
            "listen.tls.certificates.certificate: none.crt cannot be read: No such file",
            "listen.tls.certificates.certificate: a.key contains no certificate in PEM format, or \
             a",
            "listen.tls.certificates.key: is missing; write the path of the PEM file with its key",
            "listen.tls.certificates.certificate: teams is a directory; write the path of a PEM \
             file",
            "listen.tls.client_authorities: empty.pem contains no certificate in PEM format",
            "listen.tls.other: unknown key 'other'",
            "listen.tls.cleartext_hint: ",
        ] {
            assert!(
                errors.iter().any(|message| message.contains(expected)),
                "{expected}: {errors:#?}"
            );
        }
    }

    #[test]
    fn an_invalid_authority_is_an_error() {
        let lines =
            "certificates: [{ certificate: a.crt, key: a.key }]\nclient_authorities: ca.crt";
        let errors = messages(lines, |home| {
            let spoilt = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            let good = made(home, "a");
            fs::write(home.join("ca.crt"), good + spoilt).unwrap();
        });
        assert_eq!(errors.len(), 1, "{errors:?}");
        let expected = "client_authorities: ca.crt contains certificate 2, which is not a valid \
                        certificate authority: ";
        assert!(errors[0].contains(expected), "{errors:?}");
    }

    #[test]
    fn comments_in_any_encoding_and_byte_order_marks_are_accepted() {
        let lines =
            "certificates: [{ certificate: a.crt, key: a.key }]\nclient_authorities: ca.crt";
        let errors = messages(lines, |home| {
            let pem = made(home, "a");
            fs::write(home.join("ca.crt"), [b"# f\xfcr Spark\n", pem.as_bytes()].concat()).unwrap();
            for file in ["a.crt", "a.key"] {
                let pem = fs::read(home.join(file)).unwrap();
                fs::write(home.join(file), ["\u{feff}".as_bytes(), &pem].concat()).unwrap();
            }
        });
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn private_keys_are_not_shown() {
        let errors = messages("certificates: [{ certificate: a.crt, key: a.crt }]", |home| {
            let pem = made(home, "a");
            fs::write(home.join("a.crt"), pem.replace("CERTIFICATE", "SECRET")).unwrap();
        });
        assert!(errors.iter().all(|message| !message.contains("SECRET")), "{errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}
