//! `authenticate`: whose word counts for who somebody is.
//!
//! Must never happen here: a token in the plan. What the file holds of one is its hash.

#[cfg(test)]
mod tests;

use crate::config::{
    Listen, Tls, bounds,
    complaint::{Desk, Fault, shown},
    keys::{self, At, Book, Provider, Source},
    pem,
    section::{Named, Section, Word},
    users::{self, Placed},
    words,
};
use aws_lc_rs::digest::{SHA256, digest};
use sconce_filters::{
    Identity, NameKind,
    authenticate::{Algorithm, Certificates, IssuerSettings, KeySet, Settings, StaticToken},
    identity::{Claimed, Source as Proof},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

/// Whose word counts, and who vouches for it.
#[derive(Default)]
pub(super) struct Trust {
    pub(super) settings: Settings,
    /// Where the keys of its issuers come from.
    pub(super) providers: Vec<Provider>,
    /// How long the start waits for the first keys of all issuers.
    pub(super) initial_fetch_timeout: Option<Duration>,
}

/// Reads the section and the files that it names.
pub(super) fn read(
    desk: &Desk,
    mut section: Section<'_>,
    (book, listen): (&Book, Option<&Listen>),
    files: &mut Vec<PathBuf>,
) -> Trust {
    let (line, before) = (section.line(), desk.count());
    let loopback = section.word("allow_insecure_loopback", words::boolean).unwrap_or_default();
    let loopback = if loopback { Loopback::Insecure } else { Loopback::Https };
    let (said, providers) = (BTreeSet::new(), Vec::new());
    let mut reader = Reader { desk, book, files, loopback, said, providers };
    let issuers = section.sections("issuers").unwrap_or_default();
    let issuers: Vec<_> = issuers.into_iter().filter_map(|it| reader.issuer(it)).collect();
    let shared = section.word("shared_users", words::boolean).unwrap_or_default();
    let more = users::reserved_prefixes(desk, &mut section);
    let reserved = users::reserved(if shared { &[] } else { &issuers }, &more);
    if !shared {
        users::tell_apart(desk, &issuers);
    }
    let issuers = issuers.into_iter().map(|(_, issuer)| issuer).collect();
    let tokens = section.sections("tokens").unwrap_or_default();
    let tokens = tokens.into_iter().filter_map(|token| {
        let line = token.line();
        let token = reader.token(token)?;
        users::check_token(desk, line, &token, &reserved);
        Some(token)
    });
    let tokens = tokens.collect();
    let certificates = section.section_if_there("certificates");
    let certificates =
        certificates.and_then(|certificates| reader.certificates(certificates, listen));
    let providers = reader.providers;
    let skew = section.word("skew", |text| bounds::SKEW.read(text));
    let grace = section.word("grace", |text| bounds::GRACE.read(text));
    let release_grace = section.word("release_grace", |text| bounds::RELEASE_GRACE.read(text));
    let initial_fetch_timeout =
        section.word("initial_fetch_timeout", |text| bounds::INITIAL_FETCH.read(text));
    section.close();
    let settings = Settings {
        issuers,
        tokens,
        certificates,
        reserved,
        skew: skew.unwrap_or(bounds::SKEW.usual),
        grace: grace.unwrap_or(bounds::GRACE.usual),
        release_grace: release_grace.unwrap_or(bounds::RELEASE_GRACE.usual),
    };
    let nobody = settings.issuers.is_empty()
        && settings.tokens.is_empty()
        && settings.certificates.is_none();
    // Whoever was named, and not well, was told so.
    if nobody && desk.count() == before {
        let fault = Fault::new("trusts nobody", "name issuers, tokens or certificates");
        desk.complain(line, "authenticate", fault);
    }
    Trust { settings, providers, initial_fetch_timeout }
}

struct Reader<'r> {
    desk: &'r Desk,
    book: &'r Book,
    files: &'r mut Vec<PathBuf>,
    loopback: Loopback,
    /// Issuers and names of tokens that were said already.
    said: BTreeSet<String>,
    providers: Vec<Provider>,
}

impl Reader<'_> {
    fn issuer(&mut self, mut section: Section<'_>) -> Option<Placed> {
        let line = section.line();
        let loopback = self.loopback;
        let url = |text: &str| url(text, loopback);
        let issuer = self.needed(&mut section, "issuer", "as https://example.okta.com", url);
        let audiences = self.audiences(&mut section);
        let algorithms = self.algorithms(&mut section);
        let (claims, lines) = users::claims(section.section("claims"), line);
        let authorities = pem::authorities(self.desk, &mut section, "authorities", self.files);
        let keys_file = section.file("keys_file", self.files);
        let keys_url = section.word_at("keys_url", |text| url(text).map(|()| text.to_owned()));
        let refresh = section.word("refresh", |text| bounds::REFRESH.read(text));
        let path = section.below("keys_file");
        section.close();
        let (issuer, audiences) = (issuer?, audiences?);
        if !self.said.insert(issuer.clone()) {
            let fault = Fault::new("stands here twice", "keep one of the two");
            self.desk.complain(line, "authenticate.issuers.issuer", fault);
            return None;
        }
        let at = match (keys_file, keys_url) {
            (Some(_), Some((_, line))) => {
                let fault = Fault::new("and keys_file are both there", "keep one of the two");
                self.desk.complain(line, "authenticate.issuers.keys_url", fault);
                return None;
            }
            (Some(named), None) => At::Here(self.keys(&named, &path, &algorithms)?),
            (None, Some((url, _))) => At::Url(url),
            (None, None) => At::Discovery,
        };
        let source = Source {
            issuer: issuer.clone(),
            at,
            authorities: authorities.map(|(_, all)| all),
            refresh: refresh.unwrap_or(bounds::REFRESH.usual),
            algorithms: algorithms.clone(),
        };
        let provider = self.book.provider(source);
        let keys = Arc::clone(&provider.ring);
        self.providers.push(provider);
        let issuer = issuer.into();
        Some((lines, IssuerSettings { issuer, audiences, algorithms, claims, keys }))
    }

    /// The keys of a file, of which at least one fits.
    fn keys(&self, named: &Named, path: &str, algorithms: &[Algorithm]) -> Option<KeySet> {
        let complain = |what: String, remedy: &str| {
            self.desk.complain(named.line, path, Fault::new(what, remedy));
            None
        };
        let file = named.file.display();
        match KeySet::from_jwks(&named.text) {
            Ok((keys, _)) if algorithms.is_empty() || keys.fits(algorithms) => Some(keys),
            Ok(_) => {
                let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
                let what = format!("{file} has no key for {}", names.join(", "));
                complain(what, "put one there, or correct algorithms")
            }
            Err(_) if named.text.contains("-----BEGIN ") => {
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
        let words = section.words("audiences");
        if words.as_ref().is_none_or(Vec::is_empty) {
            let remedy = "name what tokens must be meant for, as [api://sconce]";
            let fault = Fault::new("is missing or empty", remedy);
            self.desk.complain(line, &section.below("audiences"), fault);
            return None;
        }
        words.map(|words| words.into_iter().map(|word| word.text).collect())
    }

    /// Those that are named; without a name, all there are.
    fn algorithms(&self, section: &mut Section<'_>) -> Vec<Algorithm> {
        let path = section.below("algorithms");
        let line = section.line();
        let Some(words) = section.words("algorithms") else { return Algorithm::ALL.to_vec() };
        if words.is_empty() {
            let remedy = "name at least one, or remove the key";
            let fault = Fault::new("is empty, so that no token counts", remedy);
            self.desk.complain(line, &path, fault);
        }
        let read = |word: Word| {
            let known = Algorithm::parse(&word.text);
            if known.is_none() {
                let all: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
                let what = format!("{} is none that proves anything", shown(&word.text));
                let remedy = format!("choose among {}", all.join(", "));
                self.desk.complain(word.line, &path, Fault::new(what, remedy));
            }
            known
        };
        words.into_iter().filter_map(read).collect()
    }

    fn token(&mut self, mut section: Section<'_>) -> Option<StaticToken> {
        let line = section.line();
        let name = self.needed(&mut section, "name", "as airflow, for logs", |_| Ok(()));
        let hash = "with the token's SHA-256 in hexadecimal";
        let sha256 = self.needed(&mut section, "sha256", hash, |text| sha256(text).map(drop));
        let user = self.needed(&mut section, "user", "as svc-airflow", |_| Ok(()));
        let display_name = section.word("display_name", |text| Ok(text.to_owned()));
        let mut list = |key| {
            let words = section.words(key).unwrap_or_default();
            words.into_iter().map(|word| word.text).collect()
        };
        let (groups, teams) = (list("groups"), list("teams"));
        section.close();
        let (name, sha256, user) = (name?, self::sha256(&sha256?).ok()?, user?);
        let claimed = Claimed { user, display_name, groups, teams };
        if !self.said.insert(format!("token {name}")) {
            let fault = Fault::new("stands here twice", "keep one of the two");
            self.desk.complain(line, "authenticate.tokens.name", fault);
            return None;
        }
        if !self.said.insert(format!("sha256 {sha256:?}")) {
            let remedy = "give each its own, since who calls is told by it";
            let fault = Fault::new("is that of another token as well", remedy);
            self.desk.complain(line, "authenticate.tokens.sha256", fault);
            return None;
        }
        let source = Proof::StaticToken { name: name.into() };
        match Identity::new(claimed, source, None) {
            Ok(identity) => Some(StaticToken { sha256, identity }),
            Err(what) => {
                let fault = Fault::new(what.to_string(), "shorten it, or leave it out");
                self.desk.complain(line, "authenticate.tokens", fault);
                None
            }
        }
    }

    fn certificates(
        &mut self,
        mut section: Section<'_>,
        listen: Option<&Listen>,
    ) -> Option<Certificates> {
        let asks = |listen: &Listen| listen.tls.as_ref().is_some_and(Tls::asks_for_certificates);
        if listen.is_some_and(|listen| !asks(listen)) {
            let remedy = "name listen.tls.client_authorities, or remove the section";
            let fault = Fault::new("nobody is asked for a certificate", remedy);
            self.desk.complain(section.line(), "authenticate.certificates", fault);
        }
        let all = [NameKind::Uri, NameKind::Email, NameKind::Dns, NameKind::CommonName];
        let all = ["uri", "email", "dns", "common_name"].into_iter().zip(all).collect::<Vec<_>>();
        if !section.has("user") {
            section.miss("user", "say which name is the user: uri, email, dns or common_name");
        }
        let user = section.word("user", |text| words::choice(text, &all));
        let prefix = section.word("prefix", |text| Ok(text.to_owned())).unwrap_or_default();
        section.close();
        Some(Certificates { user: user?, prefix })
    }

    /// The value of a key that must be there.
    fn needed(
        &self,
        section: &mut Section<'_>,
        key: &'static str,
        remedy: &str,
        check: impl FnOnce(&str) -> Result<(), Fault>,
    ) -> Option<String> {
        if !section.has(key) {
            section.miss(key, &format!("write it, {remedy}"));
        }
        section.word(key, |text| check(text).map(|()| text.to_owned()))
    }
}

/// Whether `http://` is taken on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loopback {
    /// It is, for development.
    Insecure,
    /// It is not, as elsewhere.
    Https,
}

fn url(text: &str, loopback: Loopback) -> Result<(), Fault> {
    let uri: Option<http::Uri> = text.parse().ok();
    if uri.as_ref().and_then(http::Uri::authority).is_some_and(|it| it.as_str().contains('@')) {
        // Not shown, since logs and metrics would tell the password.
        return Err(Fault::new("names a user", "write the URL without user and password"));
    }
    let uri = uri.filter(|uri| uri.host().is_some());
    match uri.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") => Ok(()),
        Some("http") => {
            let is_loopback = uri.as_ref().is_some_and(keys::is_loopback);
            let remedy = match (is_loopback, loopback) {
                (true, Loopback::Insecure) => return Ok(()),
                (true, Loopback::Https) => {
                    "write https://, or for development authenticate: { allow_insecure_loopback: \
                     true }"
                }
                (false, _) => "write https://, and name who signed its certificate in authorities",
            };
            let why = "whoever stands between could send keys of their own, and be any user";
            Err(Fault::new(format!("{} is not encrypted: {why}", shown(text)), remedy))
        }
        Some(_) | None => {
            let what = format!("{} is no URL", shown(text));
            Err(Fault::new(what, "write it whole, as https://example.okta.com/oauth2/default"))
        }
    }
}

fn sha256(text: &str) -> Result<[u8; 32], Fault> {
    let no = || {
        let remedy = "write its 64 hexadecimal digits, as printf %s TOKEN | sha256sum tells them";
        Fault::new("is no SHA-256", remedy)
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
        return Err(Fault::new("is that of no text at all", remedy));
    }
    Ok(octets)
}
