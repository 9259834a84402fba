//! Credentials: any key document and any token in, and a refusal that shows nothing of either.
//!
//! Input: a key document, the header, the claims and the signature of a token, each behind a NUL; or
//! without one, the octets behind `Bearer`.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use sconce_filters::{
    Admission, Call, Filter, Method,
    authenticate::{
        Algorithm, Authenticate, ClaimSettings, IssuerSettings, KeyRing, KeySet, Settings,
    },
    call::Listed,
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Keys that a document without any sound one is replaced by, so that the fuzzer gets past it.
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
    let (keys, passed_over) = read.expect("a sound document");
    assert!(passed_over.iter().all(|reason| !reason.contains(char::is_control)));
    let ring = KeyRing::new();
    ring.replace(keys);
    let issuer = IssuerSettings {
        issuer: "i".into(),
        audiences: vec!["a".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: ClaimSettings::default(),
        keys: Arc::new(ring),
    };
    let room = Authenticate::new(Settings { issuers: vec![issuer], ..Settings::default() });
    let metadata = Listed::new("a").with("authorization", [&b"Bearer "[..], &token].concat());
    let call =
        Call::new(Method::Config, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), Instant::now());
    let mut call = call.with_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    match room.admit(&mut call) {
        // Whoever writes the key document may well sign by it.
        Admission::Admitted => assert!(!call.identity().expect("filled").user().is_empty()),
        Admission::Refused(refusal) => assert!(refusal.message.len() < 128, "{refusal}"),
        Admission::Wait(_) => panic!("nobody opened the ring"),
    }
});
