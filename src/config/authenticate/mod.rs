//! `authenticate`: whose word counts for who somebody is.
//!
//! Must never happen here: a token in the plan. What the file holds of one is its hash.

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

/// Whose word counts, and who vouches for it.
#[derive(Default)]
pub(super) struct AuthSection {
    pub(super) settings: Settings,
    /// Where the keys of its issuers come from.
    pub(super) providers: Vec<JwksProvider>,
    /// How long the start waits for the first keys of all issuers.
    pub(super) initial_fetch_timeout: Option<Duration>,
}

/// Reads the section and the files that it names.
pub(super) fn read(
    desk: &Diagnostics,
    mut section: Section<'_>,
    (book, listen): (&JwksProviders, Option<&Listen>),
    files: &mut Vec<PathBuf>,
) -> AuthSection {
    let (line, before) = (section.line(), desk.error_count());
    let loopback = section.scalar("allow_insecure_loopback", parse::boolean).unwrap_or_default();
    let loopback = if loopback { LoopbackUrls::HttpAllowed } else { LoopbackUrls::HttpsOnly };
    let (said, providers) = (BTreeSet::new(), Vec::new());
    let mut reader = AuthReader { desk, book, files, loopback, seen: said, providers };
    let issuers = section.sections("issuers").unwrap_or_default();
    let issuers: Vec<_> = issuers.into_iter().filter_map(|it| reader.issuer(it)).collect();
    let shared = section.scalar("shared_users", parse::boolean).unwrap_or_default();
    let more = user_prefixes::reserved_prefixes(desk, &mut section);
    let reserved = user_prefixes::reserved(if shared { &[] } else { &issuers }, &more);
    if !shared {
        user_prefixes::check_prefixes(desk, &issuers);
    }
    let issuers = issuers.into_iter().map(|(_, issuer)| issuer).collect();
    let tokens = section.sections("tokens").unwrap_or_default();
    let tokens = tokens.into_iter().filter_map(|token| {
        let line = token.line();
        let token = reader.token(token)?;
        user_prefixes::check_token(desk, line, &token, &reserved);
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
    // Whoever was named, and not well, was told so.
    if nobody && desk.error_count() == before {
        let fault = Problem::new("trusts nobody", "name issuers, tokens or certificates");
        desk.report(line, "authenticate", fault);
    }
    AuthSection { settings, providers, initial_fetch_timeout }
}

struct AuthReader<'r> {
    desk: &'r Diagnostics,
    book: &'r JwksProviders,
    files: &'r mut Vec<PathBuf>,
    loopback: LoopbackUrls,
    /// Issuers and names of tokens that were said already.
    seen: BTreeSet<String>,
    providers: Vec<JwksProvider>,
}

impl AuthReader<'_> {
    fn issuer(&mut self, mut section: Section<'_>) -> Option<LocatedIssuer> {
        let line = section.line();
        let loopback = self.loopback;
        let url = |text: &str| url(text, loopback);
        let issuer = self.required(&mut section, "issuer", "as https://example.okta.com", url);
        let audiences = self.audiences(&mut section);
        let algorithms = self.algorithms(&mut section);
        let (claims, lines) = user_prefixes::claims(section.section("claims"), line);
        let authorities = pem::authorities(self.desk, &mut section, "authorities", self.files);
        let keys_file = section.text_file("keys_file", self.files);
        let keys_url = section.scalar_at("keys_url", |text| url(text).map(|()| text.to_owned()));
        let refresh = section.scalar("refresh", |text| bounds::REFRESH.parse(text));
        let path = section.path_of("keys_file");
        section.finish();
        let (issuer, audiences) = (issuer?, audiences?);
        if !self.seen.insert(issuer.clone()) {
            let fault = Problem::new("stands here twice", "keep one of the two");
            self.desk.report(line, "authenticate.issuers.issuer", fault);
            return None;
        }
        let at = match (keys_file, keys_url) {
            (Some(_), Some((_, line))) => {
                let fault = Problem::new("and keys_file are both there", "keep one of the two");
                self.desk.report(line, "authenticate.issuers.keys_url", fault);
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
        let provider = self.book.provider(source);
        let keys = Arc::clone(&provider.jwks);
        self.providers.push(provider);
        let issuer = issuer.into();
        Some((lines, IssuerSettings { issuer, audiences, algorithms, claims, jwks: keys }))
    }

    /// The keys of a file, of which at least one fits.
    fn keys(&self, named: &FileRef, path: &str, algorithms: &[Algorithm]) -> Option<KeySet> {
        let complain = |what: String, remedy: &str| {
            self.desk.report(named.line, path, Problem::new(what, remedy));
            None
        };
        let file = named.file.display();
        match KeySet::from_jwks(&named.content) {
            Ok((keys, _)) if algorithms.is_empty() || keys.supports_any(algorithms) => Some(keys),
            Ok(_) => {
                let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
                let what = format!("{file} has no key for {}", names.join(", "));
                complain(what, "put one there, or correct algorithms")
            }
            Err(_) if named.content.contains("-----BEGIN ") => {
                let remedy = "name the JSON Web Key Set with the public keys (.jwks) instead";
                complain(format!("{file} is PEM"), remedy)
            }
            Err(fault) => {
                let remedy = "put a JSON Web Key Set with public keys of RSA, EC or Ed25519 there";
                complain(format!("{file}: {fault}"), remedy)
            }
        }
    }

    fn audiences(&self, section: &mut Section<'_>) -> Option<Vec<String>> {
        let line = section.line();
        let words = section.scalars("audiences");
        if words.as_ref().is_none_or(Vec::is_empty) {
            let remedy = "name what tokens must be meant for, as [api://sconce]";
            let fault = Problem::new("is missing or empty", remedy);
            self.desk.report(line, &section.path_of("audiences"), fault);
            return None;
        }
        words.map(|words| words.into_iter().map(|word| word.text).collect())
    }

    /// Those that are named; without a name, all there are.
    fn algorithms(&self, section: &mut Section<'_>) -> Vec<Algorithm> {
        let path = section.path_of("algorithms");
        let line = section.line();
        let Some(words) = section.scalars("algorithms") else { return Algorithm::ALL.to_vec() };
        if words.is_empty() {
            let remedy = "name at least one, or remove the key";
            let fault = Problem::new("is empty, so that no token counts", remedy);
            self.desk.report(line, &path, fault);
        }
        let read = |word: Scalar| {
            let known = Algorithm::parse(&word.text);
            if known.is_none() {
                let all: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
                let what = format!("{} is none that proves anything", quote(&word.text));
                let remedy = format!("choose among {}", all.join(", "));
                self.desk.report(word.line, &path, Problem::new(what, remedy));
            }
            known
        };
        words.into_iter().filter_map(read).collect()
    }

    fn token(&mut self, mut section: Section<'_>) -> Option<StaticToken> {
        let line = section.line();
        let name = self.required(&mut section, "name", "as airflow, for logs", |_| Ok(()));
        let hash = "with the token's SHA-256 in hexadecimal";
        let sha256 = self.required(&mut section, "sha256", hash, |text| sha256(text).map(drop));
        let user = self.required(&mut section, "user", "as svc-airflow", |_| Ok(()));
        let display_name = section.scalar("display_name", |text| Ok(text.to_owned()));
        let mut list = |key| {
            let words = section.scalars(key).unwrap_or_default();
            words.into_iter().map(|word| word.text).collect()
        };
        let (groups, teams) = (list("groups"), list("teams"));
        section.finish();
        let (name, sha256, user) = (name?, self::sha256(&sha256?).ok()?, user?);
        let claimed = RawIdentity { user, display_name, groups, teams };
        if !self.seen.insert(format!("token {name}")) {
            let fault = Problem::new("stands here twice", "keep one of the two");
            self.desk.report(line, "authenticate.tokens.name", fault);
            return None;
        }
        if !self.seen.insert(format!("sha256 {sha256:?}")) {
            let remedy = "give each its own, since who calls is told by it";
            let fault = Problem::new("is that of another token as well", remedy);
            self.desk.report(line, "authenticate.tokens.sha256", fault);
            return None;
        }
        let source = Proof::StaticToken { name: name.into() };
        match Identity::new(claimed, source, None) {
            Ok(identity) => Some(StaticToken { sha256, identity }),
            Err(what) => {
                let fault = Problem::new(what.to_string(), "shorten it, or leave it out");
                self.desk.report(line, "authenticate.tokens", fault);
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
            let remedy = "name listen.tls.client_authorities, or remove the section";
            let fault = Problem::new("nobody is asked for a certificate", remedy);
            self.desk.report(section.line(), "authenticate.certificates", fault);
        }
        let all = [NameKind::Uri, NameKind::Email, NameKind::Dns, NameKind::CommonName];
        let all = ["uri", "email", "dns", "common_name"].into_iter().zip(all).collect::<Vec<_>>();
        if !section.has("user") {
            section.report_missing(
                "user",
                "say which name is the user: uri, email, dns or common_name",
            );
        }
        let user = section.scalar("user", |text| parse::choice(text, &all));
        let prefix = section.scalar("prefix", |text| Ok(text.to_owned())).unwrap_or_default();
        section.finish();
        Some(CertificateSettings { user: user?, prefix })
    }

    /// The value of a key that must be there.
    fn required(
        &self,
        section: &mut Section<'_>,
        key: &'static str,
        remedy: &str,
        check: impl FnOnce(&str) -> Result<(), Problem>,
    ) -> Option<String> {
        if !section.has(key) {
            section.report_missing(key, &format!("write it, {remedy}"));
        }
        section.scalar(key, |text| check(text).map(|()| text.to_owned()))
    }
}

/// Whether `http://` is taken on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopbackUrls {
    /// It is, for development.
    HttpAllowed,
    /// It is not, as elsewhere.
    HttpsOnly,
}

fn url(text: &str, loopback: LoopbackUrls) -> Result<(), Problem> {
    let uri: Option<http::Uri> = text.parse().ok();
    if uri.as_ref().and_then(http::Uri::authority).is_some_and(|it| it.as_str().contains('@')) {
        // Not shown, since logs and metrics would tell the password.
        return Err(Problem::new("names a user", "write the URL without user and password"));
    }
    let uri = uri.filter(|uri| uri.host().is_some());
    match uri.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") => Ok(()),
        Some("http") => {
            let is_loopback = uri.as_ref().is_some_and(keys::is_loopback);
            let remedy = match (is_loopback, loopback) {
                (true, LoopbackUrls::HttpAllowed) => return Ok(()),
                (true, LoopbackUrls::HttpsOnly) => {
                    "write https://, or for development authenticate: { allow_insecure_loopback: \
                     true }"
                }
                (false, _) => "write https://, and name who signed its certificate in authorities",
            };
            let why = "whoever stands between could send keys of their own, and be any user";
            Err(Problem::new(format!("{} is not encrypted: {why}", quote(text)), remedy))
        }
        Some(_) | None => {
            let what = format!("{} is no URL", quote(text));
            Err(Problem::new(what, "write it whole, as https://example.okta.com/oauth2/default"))
        }
    }
}

fn sha256(text: &str) -> Result<[u8; 32], Problem> {
    let no = || {
        let remedy = "write its 64 hexadecimal digits, as printf %s TOKEN | sha256sum tells them";
        Problem::new("is no SHA-256", remedy)
    };
    let mut octets = [0; 32];
    if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(no());
    }
    for (octet, digits) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| no())?;
        *octet = u8::from_str_radix(digits, 16).map_err(|_| no())?;
    }
    if octets == *digest(&SHA256, b"").as_ref() {
        let remedy = "write the token's own, as printf %s TOKEN | sha256sum tells it";
        return Err(Problem::new("is that of no text at all", remedy));
    }
    Ok(octets)
}
