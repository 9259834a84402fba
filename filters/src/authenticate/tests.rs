//! The whole filter: accepted and refused tokens. Also the helpers of the unit tests.

#![expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]

use super::*;
use crate::{
    Call, Certificate, Code, Decision, Filter, HeadCache, Identity, Metadata, Method, NameKind,
    Refusal,
    call::StaticMetadata,
    identity::{IdentitySource, RawIdentity},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    borrow::Cow,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

/// The current time of the tests.
pub(super) const NOW: u64 = 1_700_000_000;

/// A private key for tests.
pub(super) struct Signer {
    der: &'static [u8],
    of: fn(&[u8]) -> EncodingKey,
    /// The default signature algorithm.
    algorithm: Algorithm,
}

macro_rules! signer {
    ($file:literal, $of:path, $algorithm:ident) => {
        Signer {
            der: include_bytes!(concat!("../../testdata/test-only-", $file, ".der")),
            of: $of,
            algorithm: Algorithm::$algorithm,
        }
    };
}

impl Signer {
    pub(super) const RSA: Self = signer!("rsa", EncodingKey::from_rsa_der, Rs256);
    pub(super) const OTHER_RSA: Self = signer!("rsa-other", EncodingKey::from_rsa_der, Rs256);
    pub(super) const P256: Self = signer!("p256", EncodingKey::from_ec_der, Es256);
    pub(super) const P384: Self = signer!("p384", EncodingKey::from_ec_der, Es384);
    pub(super) const ED25519: Self = signer!("ed25519", EncodingKey::from_ed_der, EdDsa);

    /// The public key as a JWK.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let jwk =
            Jwk::from_encoding_key(&(self.of)(self.der), self.algorithm.to_jsonwebtoken()).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["kid"] = kid.into();
        jwk
    }

    pub(super) fn sign<'k>(&self, kid: impl Into<Option<&'k str>>, claims: &Value) -> String {
        let kid = kid.into().map(str::to_owned);
        self.sign_as(Header { kid, ..Header::new(self.algorithm.to_jsonwebtoken()) }, claims)
    }

    fn sign_as(&self, header: Header, claims: &Value) -> String {
        jsonwebtoken::encode(&header, claims, &(self.of)(self.der)).unwrap()
    }
}

pub(super) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks(&json!({ "keys": keys }).to_string()).unwrap().0
}

pub(super) fn jwks_cache(keys: &[Value]) -> Arc<JwksCache> {
    let jwks = JwksCache::new();
    jwks.replace(key_set(keys));
    Arc::new(jwks)
}

pub(super) fn settings(jwks: &Arc<JwksCache>) -> Settings {
    let issuer = IssuerSettings {
        issuer: "https://id.example".into(),
        audiences: vec!["sconce".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: ClaimSettings::default(),
        jwks: Arc::clone(jwks),
    };
    Settings { issuers: vec![issuer], ..Settings::default() }
}

/// The claims of a valid token.
pub(super) fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "sconce"], "sub": "ann", "name": "Ann Ö.",
        "groups": ["a", "b"], "iat": NOW - 10, "nbf": NOW, "exp": NOW + 3600,
    })
}

fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

pub(super) fn static_token(token: &str, user: &str) -> StaticToken {
    let source = IdentitySource::StaticToken { name: "listed".into() };
    let claimed = RawIdentity { user: user.to_owned(), ..RawIdentity::default() };
    let sha256 = digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap();
    StaticToken { sha256, identity: Identity::new(claimed, source, None).unwrap() }
}

pub(super) fn call(metadata: impl Metadata + 'static) -> Call {
    call_at(NOW, metadata)
}

pub(super) fn call_at(seconds: u64, metadata: impl Metadata + 'static) -> Call {
    let (metadata, peer) = (Rc::new(metadata), ([127, 0, 0, 1], 1).into());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Call::new(Method::Config, metadata, peer, Instant::now()).with_wall_time(wall)
}

pub(super) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn ask(filter: &Authenticate, mut call: Call) -> Result<Rc<Identity>, Refusal> {
    match filter.admit(&mut call) {
        Decision::Admitted => call.identity().cloned(),
        Decision::Refused(refusal) => Err(refusal),
        Decision::Pending(_) => panic!("nobody opened the jwks"),
    }
}

fn with(token: &str) -> StaticMetadata {
    StaticMetadata::new("a").with("authorization", format!("Bearer {token}"))
}

/// The label of the refusal of this token by a filter with all keys.
fn label(token: &str) -> &'static str {
    ask(&static_token_filter(), call(with(token)))
        .map_or_else(|refusal| refusal.label, |_| "admitted")
}

fn static_token_filter() -> Authenticate {
    let (rsa, ed) = (Signer::RSA.jwk("rsa"), Signer::ED25519.jwk("ed"));
    let keys = [rsa, Signer::P256.jwk("p256"), Signer::P384.jwk("p384"), ed];
    Authenticate::new(settings(&jwks_cache(&keys)))
}

#[test]
fn each_algorithm_is_verified_only_by_a_key_of_its_type() {
    for algorithm in Algorithm::ALL {
        let (signer, kid) = match algorithm {
            Algorithm::Es256 => (Signer::P256, "p256"),
            Algorithm::Es384 => (Signer::P384, "p384"),
            Algorithm::EdDsa => (Signer::ED25519, "ed"),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => (Signer::RSA, "rsa"),
        };
        for named in ["rsa", "p256", "p384", "ed"] {
            let end = if named == kid { "admitted" } else { "authenticate.signature" };
            let header =
                Header { kid: Some(named.into()), ..Header::new(algorithm.to_jsonwebtoken()) };
            assert_eq!(label(&signer.sign_as(header, &claims())), end, "{algorithm} by {named}");
        }
    }
}

#[test]
fn the_identity_is_read_from_the_claims() {
    let token = Signer::RSA.sign("rsa", &claims());
    let identity = ask(&static_token_filter(), call(with(&token))).unwrap();
    assert_eq!((identity.user(), identity.display_name()), ("ann", "Ann Ö."));
    assert_eq!(
        (identity.groups(), identity.expires_at()),
        (&["a", "b"].map(String::from)[..], Some(NOW + 3600))
    );
    assert_eq!(identity.source(), &IdentitySource::Token { issuer: "https://id.example".into() });
}

#[test]
fn public_keys_are_never_secrets_and_alg_none_is_refused() {
    let header = |alg| Header { kid: Some("rsa".into()), ..Header::new(alg) };
    let jwk = Signer::RSA.jwk("rsa");
    for secret in [jwk["n"].as_str().unwrap().to_owned(), jwk.to_string()] {
        let secret = EncodingKey::from_secret(secret.as_bytes());
        let header = header(jsonwebtoken::Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims(), &secret).unwrap();
        assert_eq!(label(&token), "authenticate.signature");
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"alg": "none", "kid": "rsa"}));
    assert_eq!(label(&format!("{head}.{}.", part(&claims()))), "authenticate.malformed");
    assert_eq!(label(&format!("{head}.{}.AAAA", part(&claims()))), "authenticate.signature");
}

#[test]
fn a_modified_token_is_refused() {
    let token = Signer::P256.sign("p256", &claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let body = URL_SAFE_NO_PAD.encode(claims_with("sub", "eve").to_string());
    for changed in [
        format!("{head}.{body}.{signature}"),
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{message}.{signature}A"),
        format!("{message}.!"),
    ] {
        assert_eq!(label(&changed), "authenticate.signature");
    }
}

#[test]
fn key_references_in_a_token_are_ignored() {
    let own: Jwk = serde_json::from_value(Signer::OTHER_RSA.jwk("rsa")).unwrap();
    let header = Header {
        kid: Some("rsa".into()),
        jwk: Some(own),
        jku: Some("https://evil.example/jwks".into()),
        x5u: Some("https://evil.example/x".into()),
        ..Header::new(jsonwebtoken::Algorithm::RS256)
    };
    assert_eq!(
        label(&Signer::OTHER_RSA.sign_as(header.clone(), &claims())),
        "authenticate.signature"
    );
    assert_eq!(label(&Signer::RSA.sign_as(header, &claims())), "admitted");
}

#[test]
fn keys_of_one_issuer_do_not_verify_tokens_of_another() {
    let mut both = settings(&jwks_cache(&[Signer::RSA.jwk("a")]));
    let other = settings(&jwks_cache(&[Signer::OTHER_RSA.jwk("a"), Signer::P256.jwk("b")]));
    both.issuers.push(IssuerSettings {
        issuer: "https://other.example".into(),
        ..other.issuers[0].clone()
    });
    let filter = Authenticate::new(both);
    let as_one = |token: String| ask(&filter, call(with(&token))).map(drop).map_err(|it| it.label);
    assert_eq!(as_one(Signer::OTHER_RSA.sign("a", &claims())), Err("authenticate.signature"));
    assert_eq!(as_one(Signer::P256.sign("b", &claims())), Err("authenticate.key_unknown"));
    let other_claims = claims_with("iss", "https://other.example");
    assert_eq!(as_one(Signer::RSA.sign("a", &other_claims)), Err("authenticate.signature"));
    assert_eq!(as_one(Signer::OTHER_RSA.sign("a", &other_claims)), Ok(()));
}

#[test]
fn an_algorithm_that_the_issuer_does_not_use_is_refused() {
    let mut settings = settings(&jwks_cache(&[Signer::RSA.jwk("a")]));
    settings.issuers[0].algorithms = vec![Algorithm::Ps256];
    let filter = Authenticate::new(settings);
    let refusal = ask(&filter, call(with(&Signer::RSA.sign("a", &claims())))).unwrap_err();
    assert_eq!(refusal.label, "authenticate.signature");
}

#[test]
fn a_refusal_names_the_error_and_never_contains_the_token() {
    let cases = [
        (claims_with("iss", "https://id.example/"), "the token's issuer is not trusted here"),
        (
            claims_with("iss", json!(["https://id.example"])),
            "the token's issuer is not trusted here",
        ),
        (claims_with("aud", "spark-eu"), "the token is not issued for this service (aud)"),
        (claims_with("nbf", NOW + 1), "the token is not valid yet (nbf, iat)"),
        (claims_with("iat", NOW + 1), "the token is not valid yet (nbf, iat)"),
        (claims_with("exp", "soon"), "the token's claims are not valid: exp is not a time"),
        (claims_with("sub", ""), "the token's claims are not valid: a user is empty"),
        (
            claims_with("sub", "a\nb"),
            "the token's claims are not valid: a user has a control or hidden character",
        ),
        (claims_with("groups", 7), "the token's claims are not valid: the group is not a string"),
    ];
    for (claims, message) in cases {
        let token = Signer::P256.sign("p256", &claims);
        let refusal = ask(&static_token_filter(), call(with(&token))).unwrap_err();
        assert_eq!((refusal.code, &*refusal.message), (Code::Unauthenticated, message));
        assert_eq!(refusal.retry_after, None);
    }
}

#[test]
fn a_call_without_exactly_one_bearer_token_is_refused() {
    let filter = static_token_filter();
    let refusal = ask(&filter, call(StaticMetadata::new("a"))).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::Unauthenticated, "authenticate.missing"));
    assert_eq!(refusal.message, "no token: add ;token=... to the sc:// URL");
    let token = Signer::P256.sign("p256", &claims());
    let label = |metadata| ask(&filter, call(metadata)).map_err(|refusal| refusal.label).err();
    let twice = with(&token).with("authorization", format!("Bearer {token}"));
    assert_eq!(label(twice), Some("authenticate.duplicate"));
    let basic = StaticMetadata::new("a").with("authorization", "Basic YTpi");
    assert_eq!(label(basic), Some("authenticate.malformed"));
    let known = "the token is neither a valid JWT nor a configured static token";
    assert_eq!(ask(&filter, call(with("guess"))).unwrap_err().message, known);
    let lower = StaticMetadata::new("a").with("authorization", format!("bearer {token}"));
    assert_eq!(label(lower), None);
}

/// Headers that several calls share.
#[derive(Clone)]
pub(super) struct CachedMetadata(pub(super) Rc<(StaticMetadata, HeadCache)>);

impl Metadata for CachedMetadata {
    fn authority(&self) -> Cow<'_, str> {
        self.0.0.authority()
    }
    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.0.first(name)
    }
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.0.0.for_each_value(name, each);
    }
    fn cache(&self) -> Option<&HeadCache> {
        Some(&self.0.1)
    }
}

/// The same token on headers of its own, and twice on shared headers.
fn thrice(filter: &Authenticate, token: &str) -> impl Fn(u64) -> [Option<&'static str>; 3] {
    let shared = CachedMetadata(Rc::new((with(token), HeadCache::default())));
    move |seconds| {
        let calls = [call_at(seconds, with(token)), call_at(seconds, shared.clone())];
        let second = call_at(seconds, shared.clone());
        let [one, two] = calls.map(|call| ask(filter, call).err().map(|refusal| refusal.label));
        [one, two, ask(filter, second).err().map(|refusal| refusal.label)]
    }
}

#[test]
fn the_validity_period_is_checked_at_each_call() {
    let filter = Authenticate::new(Settings {
        skew: Duration::from_secs(30),
        grace: Duration::from_secs(600),
        ..settings(&jwks_cache(&[Signer::P256.jwk("a")]))
    });
    let token = Signer::P256.sign("a", &claims());
    let ask = thrice(&filter, &token);
    assert_eq!(ask(NOW), [None; 3]);
    assert_eq!(ask(NOW - 31), [Some("authenticate.early"); 3]);
    assert_eq!(ask(NOW + 3600 + 629), [None; 3]);
    assert_eq!(ask(NOW + 3600 + 630), [Some("authenticate.expired"); 3]);
}

#[test]
fn a_removed_key_is_distrusted_at_once_and_a_kept_key_is_not() {
    let jwks = jwks_cache(&[Signer::P256.jwk("a"), Signer::P384.jwk("b")]);
    let filter = Authenticate::new(settings(&jwks));
    let (gone, stays) = (Signer::P256.sign("a", &claims()), Signer::P384.sign("b", &claims()));
    let (gone, stays) = (thrice(&filter, &gone), thrice(&filter, &stays));
    assert_eq!((gone(NOW), stays(NOW)), ([None; 3], [None; 3]));
    jwks.replace(key_set(&[Signer::P384.jwk("b")]));
    assert_eq!((gone(NOW), stays(NOW)), ([Some("authenticate.key_unknown"); 3], [None; 3]));
    // The same IDs with other key material.
    jwks.replace(key_set(&[Signer::RSA.jwk("b"), Signer::OTHER_RSA.jwk("a")]));
    assert_eq!(gone(NOW), [Some("authenticate.signature"); 3]);
    assert_eq!(stays(NOW), [Some("authenticate.signature"); 3]);
}

#[test]
fn a_token_takes_precedence_over_a_certificate() {
    let certificates = Some(CertificateSettings { user: NameKind::Email, prefix: String::new() });
    let filter = Authenticate::new(Settings {
        certificates,
        ..settings(&jwks_cache(&[Signer::P256.jwk("a")]))
    });
    let certificate =
        Rc::new(Certificate::new(vec![(NameKind::Email, "bob@b".to_owned())], Duration::MAX));
    let ask = |metadata| {
        let call = call(metadata).with_certificate(Some(Rc::clone(&certificate)));
        ask(&filter, call).map(|it| it.user().to_owned()).map_err(|refusal| refusal.label)
    };
    assert_eq!(ask(StaticMetadata::new("a")).as_deref(), Ok("bob@b"));
    assert_eq!(ask(with(&Signer::P256.sign("a", &claims()))).as_deref(), Ok("ann"));
    assert_eq!(ask(with(&Signer::P384.sign("a", &claims()))), Err("authenticate.signature"));
    assert_eq!(ask(with("x")), Err("authenticate.malformed"));
}

#[test]
fn a_call_without_wall_time_is_refused() {
    let metadata = Rc::new(with(&Signer::P256.sign("p256", &claims())));
    let call = Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now());
    let refusal = ask(&static_token_filter(), call).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::Internal, "authenticate.time"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_authenticate_nobody(value in any::<Vec<u8>>()) {
        let value = [&b"Bearer "[..], &value].concat();
        let metadata = StaticMetadata::new("a").with("authorization", value);
        prop_assert!(ask(&Authenticate::new(Settings::default()), call(metadata)).is_err());
    }
}
