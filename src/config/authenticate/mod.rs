//! Parses and validates the `authenticate` section.
//!
//! Must never happen here: a token in the config. The file contains only its hash.

#[cfg(test)]
mod tests;

use crate::config::{
    Listen, Tls, bounds,
    diagnostics::{Diagnostics, Problem, quote},
    keys::{self, JwksLocation, JwksProvider, JwksProviders, JwksSource},
    parse, pem,
    section::{FileRef, Scalar, Section},
    user_prefixes::{self, LocatedIssuer},
};
use aws_lc_rs::digest::{SHA256, digest};
use sconce_filters::{
    Identity, NameKind,
    authenticate::{Algorithm, CertificateSettings, IssuerSettings, KeySet, Settings, StaticToken},
    identity::{IdentitySource as Proof, RawIdentity},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

/// The validated section.
#[derive(Default)]
pub(super) struct AuthSection {
    pub(super) settings: Settings,
    /// Sources of the issuers' keys.
    pub(super) providers: Vec<JwksProvider>,
    /// `initial_fetch_timeout`.
    pub(super) initial_fetch_timeout: Option<Duration>,
}

/// Reads the section and its files.
pub(super) fn read(
    diagnostics: &Diagnostics,
    mut section: Section<'_>,
    (jwks_providers, listen): (&JwksProviders, Option<&Listen>),
    files: &mut Vec<PathBuf>,
) -> AuthSection {
    let (line, before) = (section.line(), diagnostics.error_count());
    let loopback = section.scalar("allow_insecure_loopback", parse::boolean).unwrap_or_default();
    let loopback = if loopback { LoopbackUrls::HttpAllowed } else { LoopbackUrls::HttpsOnly };
    let (seen, providers) = (BTreeSet::new(), Vec::new());
    let mut reader = AuthReader { diagnostics, jwks_providers, files, loopback, seen, providers };
    let issuers = section.sections("issuers").unwrap_or_default();
    let issuers: Vec<_> = issuers.into_iter().filter_map(|it| reader.issuer(it)).collect();
    let shared = section.scalar("shared_users", parse::boolean).unwrap_or_default();
    let more = user_prefixes::reserved_prefixes(diagnostics, &mut section);
    let reserved = user_prefixes::reserved(if shared { &[] } else { &issuers }, &more);
    if !shared {
        user_prefixes::check_prefixes(diagnostics, &issuers);
    }
    let issuers = issuers.into_iter().map(|(_, issuer)| issuer).collect();
    let tokens = section.sections("tokens").unwrap_or_default();
    let tokens = tokens.into_iter().filter_map(|token| {
        let line = token.line();
        let token = reader.token(token)?;
        user_prefixes::check_token(diagnostics, line, &token, &reserved);
        Some(token)
    });
    let tokens = tokens.collect();
    let certificates = section.optional_section("certificates");
    let certificates =
        certificates.and_then(|certificates| reader.certificates(certificates, listen));
    let providers = reader.providers;
    let skew = section.scalar("skew", |text| bounds::SKEW.parse(text));
    let grace = section.scalar("grace", |text| bounds::GRACE.parse(text));
    let release_grace = section.scalar("release_grace", |text| bounds::RELEASE_GRACE.parse(text));
    let initial_fetch_timeout =
        section.scalar("initial_fetch_timeout", |text| bounds::INITIAL_FETCH_TIMEOUT.parse(text));
    section.finish();
    let settings = Settings {
        issuers,
        tokens,
        certificates,
        reserved,
        skew: skew.unwrap_or(bounds::SKEW.default),
        grace: grace.unwrap_or(bounds::GRACE.default),
        release_grace: release_grace.unwrap_or(bounds::RELEASE_GRACE.default),
    };
    let nobody = settings.issuers.is_empty()
        && settings.tokens.is_empty()
        && settings.certificates.is_none();
    // Invalid entries are already reported.
    if nobody && diagnostics.error_count() == before {
        let problem = Problem::new("has no issuers, tokens or certificates", "add at least one");
        diagnostics.report(line, "authenticate", problem);
    }
    AuthSection { settings, providers, initial_fetch_timeout }
}

struct AuthReader<'r> {
    diagnostics: &'r Diagnostics,
    jwks_providers: &'r JwksProviders,
    files: &'r mut Vec<PathBuf>,
    loopback: LoopbackUrls,
    /// Issuers, and names and hashes of tokens, to find duplicates.
    seen: BTreeSet<String>,
    providers: Vec<JwksProvider>,
}

impl AuthReader<'_> {
    fn issuer(&mut self, mut section: Section<'_>) -> Option<LocatedIssuer> {
        let line = section.line();
        let loopback = self.loopback;
        let url = |text: &str| url(text, loopback);
        let issuer = self.required(
            &mut section,
            "issuer",
            "write the issuer, for example https://example.okta.com",
            url,
        );
        let audiences = self.audiences(&mut section);
        let algorithms = self.algorithms(&mut section);
        let (claims, lines) = user_prefixes::claims(section.section("claims"), line);
        let authorities =
            pem::authorities(self.diagnostics, &mut section, "authorities", self.files);
        let keys_file = section.text_file("keys_file", self.files);
        let keys_url = section.scalar_at("keys_url", |text| url(text).map(|()| text.to_owned()));
        let refresh = section.scalar("refresh", |text| bounds::REFRESH.parse(text));
        let path = section.path_of("keys_file");
        section.finish();
        let (issuer, audiences) = (issuer?, audiences?);
        if !self.seen.insert(issuer.clone()) {
            let problem = Problem::new("is a duplicate", "keep one of the two");
            self.diagnostics.report(line, "authenticate.issuers.issuer", problem);
            return None;
        }
        let at = match (keys_file, keys_url) {
            (Some(_), Some((_, line))) => {
                let problem = Problem::new("conflicts with keys_file", "keep one of the two");
                self.diagnostics.report(line, "authenticate.issuers.keys_url", problem);
                return None;
            }
            (Some(named), None) => JwksLocation::Static(self.keys(&named, &path, &algorithms)?),
            (None, Some((url, _))) => JwksLocation::Url(url),
            (None, None) => JwksLocation::Discovery,
        };
        let source = JwksSource {
            issuer: issuer.clone(),
            location: at,
            authorities: authorities.map(|(_, all)| all),
            refresh: refresh.unwrap_or(bounds::REFRESH.default),
            algorithms: algorithms.clone(),
        };
        let provider = self.jwks_providers.provider(source);
        let keys = Arc::clone(&provider.jwks);
        self.providers.push(provider);
        let issuer = issuer.into();
        Some((lines, IssuerSettings { issuer, audiences, algorithms, claims, jwks: keys }))
    }

    /// The keys of a file, at least one for these algorithms.
    fn keys(&self, named: &FileRef, path: &str, algorithms: &[Algorithm]) -> Option<KeySet> {
        let complain = |what: String, help: &str| {
            self.diagnostics.report(named.line, path, Problem::new(what, help));
            None
        };
        let file = named.file.display();
        match KeySet::from_jwks(&named.content) {
            Ok((keys, _)) if algorithms.is_empty() || keys.supports_any(algorithms) => Some(keys),
            Ok(_) => {
                let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
                let what = format!("{file} has no key for {}", names.join(", "));
                complain(what, "add one, or correct algorithms")
            }
            Err(_) if named.content.contains("-----BEGIN ") => {
                let help = "write the path of a JSON Web Key Set (.jwks) with the public keys";
                complain(format!("{file} is PEM"), help)
            }
            Err(problem) => {
                let help = "write a JSON Web Key Set with RSA, EC or Ed25519 public keys to the \
                            file";
                complain(format!("{file}: {problem}"), help)
            }
        }
    }

    fn audiences(&self, section: &mut Section<'_>) -> Option<Vec<String>> {
        let line = section.line();
        let values = section.scalars("audiences");
        if values.as_ref().is_none_or(Vec::is_empty) {
            let help = "write the accepted audiences, for example [api://sconce]";
            let problem = Problem::new("is missing or empty", help);
            self.diagnostics.report(line, &section.path_of("audiences"), problem);
            return None;
        }
        values.map(|values| values.into_iter().map(|value| value.text).collect())
    }

    /// The configured algorithms; all if the key is absent.
    fn algorithms(&self, section: &mut Section<'_>) -> Vec<Algorithm> {
        let path = section.path_of("algorithms");
        let line = section.line();
        let Some(values) = section.scalars("algorithms") else { return Algorithm::ALL.to_vec() };
        if values.is_empty() {
            let help = "add at least one, or remove the key";
            let problem = Problem::new("is empty: no token would be accepted", help);
            self.diagnostics.report(line, &path, problem);
        }
        let read = |value: Scalar| {
            let known = Algorithm::parse(&value.text);
            if known.is_none() {
                let all: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
                let what = format!("unsupported signature algorithm {}", quote(&value.text));
                let help = format!("write one of: {}", all.join(", "));
                self.diagnostics.report(value.line, &path, Problem::new(what, help));
            }
            known
        };
        values.into_iter().filter_map(read).collect()
    }

    fn token(&mut self, mut section: Section<'_>) -> Option<StaticToken> {
        let line = section.line();
        let name = self.required(
            &mut section,
            "name",
            "write a name for the log, for example airflow",
            |_| Ok(()),
        );
        let hash = "write the SHA-256 of the token in hexadecimal";
        let sha256 = self.required(&mut section, "sha256", hash, |text| sha256(text).map(drop));
        let user =
            self.required(&mut section, "user", "write the user, for example svc-airflow", |_| {
                Ok(())
            });
        let display_name = section.scalar("display_name", |text| Ok(text.to_owned()));
        let mut list = |key| {
            let values = section.scalars(key).unwrap_or_default();
            values.into_iter().map(|value| value.text).collect()
        };
        let (groups, teams) = (list("groups"), list("teams"));
        section.finish();
        let (name, sha256, user) = (name?, self::sha256(&sha256?).ok()?, user?);
        let claimed = RawIdentity { user, display_name, groups, teams };
        if !self.seen.insert(format!("token {name}")) {
            let problem = Problem::new("is a duplicate", "keep one of the two");
            self.diagnostics.report(line, "authenticate.tokens.name", problem);
            return None;
        }
        if !self.seen.insert(format!("sha256 {sha256:?}")) {
            let help = "give each token its own secret, because it identifies the caller";
            let problem = Problem::new("is also the hash of another token", help);
            self.diagnostics.report(line, "authenticate.tokens.sha256", problem);
            return None;
        }
        let source = Proof::StaticToken { name: name.into() };
        match Identity::new(claimed, source, None) {
            Ok(identity) => Some(StaticToken { sha256, identity }),
            Err(what) => {
                let problem = Problem::new(what.to_string(), "shorten it, or remove it");
                self.diagnostics.report(line, "authenticate.tokens", problem);
                None
            }
        }
    }

    fn certificates(
        &mut self,
        mut section: Section<'_>,
        listen: Option<&Listen>,
    ) -> Option<CertificateSettings> {
        let asks =
            |listen: &Listen| listen.tls.as_ref().is_some_and(Tls::requests_client_certificates);
        if listen.is_some_and(|listen| !asks(listen)) {
            let help = "set listen.tls.client_authorities, or remove the section";
            let problem =
                Problem::new("has no effect: sconce does not request client certificates", help);
            self.diagnostics.report(section.line(), "authenticate.certificates", problem);
        }
        let all = [NameKind::Uri, NameKind::Email, NameKind::Dns, NameKind::CommonName];
        let all = ["uri", "email", "dns", "common_name"].into_iter().zip(all).collect::<Vec<_>>();
        if !section.has("user") {
            section.report_missing(
                "user",
                "write the kind of name that is the user: uri, email, dns or common_name",
            );
        }
        let user = section.scalar("user", |text| parse::choice(text, &all));
        let prefix = section.scalar("prefix", |text| Ok(text.to_owned())).unwrap_or_default();
        section.finish();
        Some(CertificateSettings { user: user?, prefix })
    }

    /// The value of a required key.
    fn required(
        &self,
        section: &mut Section<'_>,
        key: &'static str,
        help: &str,
        check: impl FnOnce(&str) -> Result<(), Problem>,
    ) -> Option<String> {
        if !section.has(key) {
            section.report_missing(key, help);
        }
        section.scalar(key, |text| check(text).map(|()| text.to_owned()))
    }
}

/// Whether `http://` is allowed on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopbackUrls {
    /// Allowed, for development.
    HttpAllowed,
    /// Not allowed.
    HttpsOnly,
}

fn url(text: &str, loopback: LoopbackUrls) -> Result<(), Problem> {
    let uri: Option<http::Uri> = text.parse().ok();
    if uri.as_ref().and_then(http::Uri::authority).is_some_and(|it| it.as_str().contains('@')) {
        // Not shown: the password would be in logs and metrics.
        return Err(Problem::new("contains a user", "write the URL without user and password"));
    }
    let uri = uri.filter(|uri| uri.host().is_some());
    match uri.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") => Ok(()),
        Some("http") => {
            let is_loopback = uri.as_ref().is_some_and(keys::is_loopback);
            let help = match (is_loopback, loopback) {
                (true, LoopbackUrls::HttpAllowed) => return Ok(()),
                (true, LoopbackUrls::HttpsOnly) => {
                    "write https://, or for development authenticate: { allow_insecure_loopback: \
                     true }"
                }
                (false, _) => {
                    "write https://, and set authorities for a private certificate authority"
                }
            };
            let why = "an attacker on the network could replace the keys and impersonate any user";
            Err(Problem::new(format!("{} is not encrypted: {why}", quote(text)), help))
        }
        Some(_) | None => {
            let what = format!("{} is not an absolute URL", quote(text));
            Err(Problem::new(what, "write a URL such as https://example.okta.com/oauth2/default"))
        }
    }
}

fn sha256(text: &str) -> Result<[u8; 32], Problem> {
    let no = || {
        let help = "write the 64 hexadecimal digits that printf %s TOKEN | sha256sum prints";
        Problem::new("is not a SHA-256 hash", help)
    };
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(no());
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| no())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| no())?;
    }
    if bytes == *digest(&SHA256, b"").as_ref() {
        let help = "write the hash that printf %s TOKEN | sha256sum prints";
        return Err(Problem::new("is the hash of an empty string", help));
    }
    Ok(bytes)
}
