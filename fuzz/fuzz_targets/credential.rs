//! Credentials: arbitrary key documents and tokens give a user, or a refusal without their content.
//!
//! Input: a key document, and header, claims and signature of a token, separated by NUL; or, without
//! NUL, the octets behind `Bearer`.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use sconce_filters::{
    Call, Decision, Filter, Method,
    authenticate::{
        Algorithm, Authenticate, ClaimSettings, IssuerSettings, JwksCache, KeySet, Settings,
    },
    call::StaticMetadata,
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Replaces a document without valid keys, so that tokens are reached.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fuzz_target!(|data: &[u8]| {
    let parts: Vec<_> = data.split(|octet| *octet == 0).collect();
    let (document, token) = match *parts {
        [document, head, claims, signature] => {
            let parts = [head, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
            (String::from_utf8_lossy(document).into_owned(), parts.join(".").into_bytes())
        }
        _ => (String::new(), data.to_vec()),
    };
    let read = KeySet::from_jwks(&document).or_else(|_| KeySet::from_jwks(KEYS));
    let (keys, skipped) = read.expect("a valid document");
    assert!(skipped.iter().all(|reason| !reason.contains(char::is_control)));
    let cache = JwksCache::new();
    cache.replace(keys);
    let issuer = IssuerSettings {
        issuer: "i".into(),
        audiences: vec!["a".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: ClaimSettings::default(),
        jwks: Arc::new(cache),
    };
    let filter = Authenticate::new(Settings { issuers: vec![issuer], ..Settings::default() });
    let metadata =
        StaticMetadata::new("a").with("authorization", [&b"Bearer "[..], &token].concat());
    let call =
        Call::new(Method::Config, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), Instant::now());
    let mut call = call.with_wall_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    match filter.admit(&mut call) {
        // The author of the key document can sign with its keys.
        Decision::Admitted => assert!(!call.identity().expect("filled").user().is_empty()),
        Decision::Refused(refusal) => assert!(refusal.message.len() < 128, "{refusal}"),
        Decision::Pending(_) => panic!("no refresh is allowed"),
    }
});
