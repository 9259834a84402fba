//! Signed tokens: trusted issuers, expiry and forgeries.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::client::{Client, SOON};
use crate::support::fields::Request;
use crate::support::probe::eventually;
use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::signer::{self, Signer, claims, claims_but, jwks, now};
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    forgeries(cases);
    times(cases);
    keys(cases);
    fetched(cases);
    minted(cases);
}

const JAY: (&str, &str) = ("jay", "Jay J.");

fn with(client: &Client, token: &str) -> Request {
    proof::bare(client).with("authorization", format!("Bearer {token}"))
}

/// A call with this token, which must come to `ads` as this user.
fn must_be(world: &World, client: &mut Client, token: &str, names: (&str, &str)) {
    let message = [field(1, "ids"), context("eve", "Eve")].concat();
    let block = with(client, token).block();
    let id = proof::ask(client, &block, &framed(&message));
    assert_eq!(proof::answerer(&client.finish(id)), "ads");
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    protobuf::assert_stamped(&message, &protobuf::messages(&served.body)[0], names);
}

fn is_refused(client: &mut Client, token: &str) -> bool {
    let id = client.call(&with(client, token));
    match client.finish(id).status() {
        Some(0) => false,
        Some(UNAUTHENTICATED) => true,
        other => panic!("status {other:?}"),
    }
}

type Forge = fn(&Signer, &Signer) -> String;

fn unsigned(signer: &Signer, algorithm: &str) -> String {
    let header = json!({"alg": algorithm, "kid": "one"});
    let token = signer.sign_as(&header, &claims());
    format!("{}.", token.rsplit_once('.').unwrap().0)
}

/// A good token with other claims behind its header.
fn swapped(signer: &Signer) -> String {
    let good = signer.sign(&claims());
    let other = signer.sign(&claims_but(&json!({"sub": "root"})));
    let (head, signature) = (good.split('.').next().unwrap(), good.rsplit('.').next().unwrap());
    format!("{head}.{}.{signature}", other.split('.').nth(1).unwrap())
}

fn header(changes: Value) -> Value {
    let mut header = json!({"alg": "ES256", "kid": "one"});
    for (name, value) in changes.as_object().unwrap() {
        header[name] = value.clone();
    }
    header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    header
}

const FORGERIES: [(&str, &str, Forge); 27] = [
    ("without_a_signature", "malformed", |it, _| unsigned(it, "ES256")),
    ("of_no_algorithm_and_no_signature", "malformed", |it, _| unsigned(it, "none")),
    ("of_no_algorithm", "signature", |it, _| {
        it.sign_as(&header(json!({"alg": "none"})), &claims())
    }),
    ("of_no_algorithm_in_upper_case", "signature", |it, _| {
        it.sign_as(&header(json!({"alg": "NONE"})), &claims())
    }),
    ("with_the_public_key_as_a_secret", "signature", |it, _| it.confuse(&claims())),
    ("of_another_algorithm_than_its_key", "signature", |it, _| {
        it.sign_as(&header(json!({"alg": "ES384"})), &claims())
    }),
    ("of_an_algorithm_of_rsa", "signature", |it, _| {
        it.sign_as(&header(json!({"alg": "RS256"})), &claims())
    }),
    ("by_another_key_of_the_same_name", "signature", |_, other| {
        other.sign_as(&header(json!({})), &claims())
    }),
    ("by_a_key_that_it_brings_along", "signature", |_, other| {
        other.sign_as(&header(json!({"jwk": other.jwk()})), &claims())
    }),
    ("by_a_key_that_is_not_known", "key_unknown", |_, other| other.sign(&claims())),
    ("by_another_key_without_a_name", "signature", |_, other| {
        other.sign_as(&header(json!({"kid": null})), &claims())
    }),
    ("whose_claims_were_swapped", "signature", |it, _| swapped(it)),
    ("whose_signature_is_cut", "signature", |it, _| {
        let good = it.sign(&claims());
        good[..good.len() - 4].to_string()
    }),
    ("with_a_fourth_part", "malformed", |it, _| format!("{}.x", it.sign(&claims()))),
    ("with_padding", "malformed", |it, _| it.sign(&claims()).replacen('.', "=.", 1)),
    ("with_critical_headers", "malformed", |it, _| {
        it.sign_as(&header(json!({"crit": ["exp"]})), &claims())
    }),
    ("whose_key_has_a_number_for_a_name", "malformed", |it, _| {
        it.sign_as(&header(json!({"kid": 1})), &claims())
    }),
    ("that_has_expired", "expired", |it, _| {
        it.sign(&claims_but(&json!({"iat": now() - 100, "exp": now() - 1})))
    }),
    ("that_does_not_expire", "claims", |it, _| it.sign(&claims_but(&json!({"exp": null})))),
    ("whose_end_is_text", "claims", |it, _| it.sign(&claims_but(&json!({"exp": "2999"})))),
    ("whose_time_has_not_come", "early", |it, _| it.sign(&claims_but(&json!({"nbf": now() + 60})))),
    ("from_the_future", "early", |it, _| it.sign(&claims_but(&json!({"iat": now() + 60})))),
    ("for_somebody_else", "audience", |it, _| it.sign(&claims_but(&json!({"aud": "other"})))),
    ("for_nobody", "audience", |it, _| it.sign(&claims_but(&json!({"aud": null})))),
    ("of_another_issuer", "issuer", |it, _| {
        it.sign(&claims_but(&json!({"iss": format!("{}/", signer::ISSUER)})))
    }),
    ("of_no_user", "claims", |it, _| it.sign(&claims_but(&json!({"sub": null})))),
    ("of_a_user_who_is_a_number", "claims", |it, _| it.sign(&claims_but(&json!({"sub": 0})))),
];

fn forgeries(cases: &mut Cases) {
    for (what, label, forge) in FORGERIES {
        let (one, two) = (Signer::new("one"), Signer::new("two"));
        let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
        add(cases, format!("a_token_{what}_is_refused"), spec, move |world| {
            let mut client = world.client();
            must_be(world, &mut client, &one.sign(&claims()), JAY);
            client.case = world.mark();
            let token = forge(&one, &two);
            let id = client.call(&with(&client, &token));
            let reply = client.finish(id);
            proof::assert_refused(world, &reply, UNAUTHENTICATED, &format!("authenticate.{label}"));
            proof::assert_unasked(world, &client.case);
            let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
            let told = format!("{log:?} {:?} {}", reply.heads, reply.message());
            assert!(!told.contains(&token), "the token is told");
            client.case = world.mark();
            must_be(world, &mut client, &one.sign(&claims()), JAY);
        });
    }
}

/// The time since the epoch, with its fraction.
fn clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn times(cases: &mut Cases) {
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "a_token_that_expires_ends_on_the_connection_that_knows_it", spec, move |world| {
        let mut client = world.client();
        let end = Duration::from_secs(now() + 3);
        let token = one.sign(&claims_but(&json!({"exp": end.as_secs()})));
        let (mut passed, mut refused) = (0, 0);
        while refused < 20 {
            let began = clock();
            let is_over = is_refused(&mut client, &token);
            match is_over {
                true => assert!(clock() >= end, "refused before its end"),
                false => assert!(began < end, "passed {:?} after its end", began - end),
            }
            if is_over {
                refused += 1
            } else {
                passed += 1
            }
            client.streams.clear();
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(passed > 20, "only {passed} calls were in time");
        assert_eq!(proof::refusals(world), [("authenticate.expired".to_string(), 20)]);
    });
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "a_stream_that_is_open_when_its_token_expires_goes_on", spec, move |world| {
        let mut client = world.client();
        let token = one.sign(&claims_but(&json!({"exp": now() + 2})));
        let id = client.call(&with(&client, &token).script("end;h;z2500;d5;t0"));
        world.driver_sees(&client.case, SOON, |served| served.ended);
        client.pump(|_| false, Duration::from_millis(2100));
        assert!(is_refused(&mut client, &token));
        assert_eq!(client.finish(id).status(), Some(0));
    });
}

fn keys(cases: &mut Cases) {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let both = jwks(&[one.jwk(), two.jwk()]);
    let spec = proof::spec_with_keys(both);
    add(
        cases,
        "a_key_that_is_taken_away_ends_on_the_connection_that_knows_it",
        spec,
        move |world| {
            let mut client = world.client();
            let (gone, stays) = (one.sign(&claims()), two.sign(&claims()));
            for token in [&gone, &stays, &gone] {
                assert!(!is_refused(&mut client, token));
            }
            write_keys(world, &jwks(&[two.jwk()]));
            eventually("the key is gone", SOON, || is_refused(&mut client, &gone));
            for _ in 0..20 {
                assert!(is_refused(&mut client, &gone));
                assert!(!is_refused(&mut client, &stays));
            }
            assert!(is_refused(&mut world.client(), &gone));
        },
    );
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "a_key_that_is_added_counts_on_a_connection_that_is_open", spec, move |world| {
        let mut client = world.client();
        let token = two.sign(&claims());
        assert!(is_refused(&mut client, &token));
        write_keys(world, &jwks(&[one.jwk(), two.jwk()]));
        eventually("the key counts", SOON, || !is_refused(&mut client, &token));
        client.case = world.mark();
        must_be(world, &mut client, &token, JAY);
    });
    let (one, two) = (Signer::new("one"), Signer::new("one"));
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "another_key_of_the_same_name_is_another_key", spec, move |world| {
        let mut client = world.client();
        let token = one.sign(&claims());
        assert!(!is_refused(&mut client, &token));
        write_keys(world, &jwks(&[two.jwk()]));
        eventually("the key is gone", SOON, || is_refused(&mut client, &token));
        assert!(!is_refused(&mut client, &two.sign(&claims())));
    });
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "a_spoilt_key_file_leaves_the_last_good_keys", spec, move |world| {
        let mut client = world.client();
        for text in ["", "{", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"YQ\"}]}"] {
            write_keys(world, text);
            std::thread::sleep(Duration::from_millis(300));
            assert!(!is_refused(&mut client, &one.sign(&claims())), "after {text:?}");
        }
    });
}

/// A provider of keys, for as long as the tests run.
fn provide(provider: TcpListener, keys: String) -> Arc<Mutex<String>> {
    let keys = Arc::new(Mutex::new(keys));
    let shared = keys.clone();
    std::thread::spawn(move || {
        for socket in provider.incoming() {
            let Ok(mut socket) = socket else { return };
            let _ = socket.read(&mut [0; 4096]);
            let text = shared.lock().unwrap().clone();
            let _ = write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \
                 {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    keys
}

fn fetched(cases: &mut Cases) {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let provider = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("keys_url: http://{}/keys", provider.local_addr().unwrap());
    // Sconce asks before it listens.
    let keys = provide(provider, jwks(&[one.jwk()]));
    let name = "a_fetched_key_that_is_taken_away_ends_on_the_connection_that_knows_it";
    add(cases, name, proof::spec_with_keys_at(&url), move |world| {
        let mut client = world.client();
        let (gone, fresh) = (one.sign(&claims()), two.sign(&claims()));
        let served = |client: &mut Client, token: &str| {
            let id = client.call(&with(client, token));
            client.finish(id).status() == Some(0)
        };
        assert!(served(&mut client, &gone));
        let first = fetched_at(world);
        assert!((now() - 60..=now()).contains(&first), "{first}");
        *keys.lock().unwrap() = jwks(&[two.jwk()]);
        // No provider is asked again within ten seconds.
        let patience = Duration::from_secs(15);
        eventually("the new key counts", patience, || served(&mut client, &fresh));
        for _ in 0..20 {
            assert!(!served(&mut client, &gone), "its key is gone");
            assert!(served(&mut client, &fresh));
        }
        assert!(fetched_at(world) > first, "the metric stands still");
    });
}

/// When the issuer's keys were last fetched, as the metrics tell it.
fn fetched_at(world: &World) -> u64 {
    let page = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
    let name =
        format!("sconce_jwks_last_fetch_timestamp_seconds{{issuer=\"{}\"}} ", signer::ISSUER);
    page.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

fn write_keys(world: &World, text: &str) {
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    std::fs::write(home.join("keys.new"), text).unwrap();
    std::fs::rename(home.join("keys.new"), home.join("keys.json")).unwrap();
}

/// Tokens that `sconce token` mints.
fn minted(cases: &mut Cases) {
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    add(cases, "a_token_that_sconce_mints_is_good_for_what_it_says", spec, |world| {
        let home = tempfile::tempdir().unwrap();
        let mint = |words: &[&str]| mint(home.path(), words);
        let by_group = mint(&["--user", "jay", "--name", "Jay J.", "--group", "g-ads"]);
        let by_team = mint(&["--user", "ana", "--team", "ads"]);
        let by_nothing = mint(&["--user", "tim"]);
        let foreign = mint(&["--user", "jay", "--team", "ads", "--audience", "other"]);
        let mut client = world.client();
        assert!(is_refused(&mut client, &by_group), "its key is not known yet");
        write_keys(world, &std::fs::read_to_string(home.path().join("dev.key.jwks")).unwrap());
        eventually("the key counts", SOON, || !is_refused(&mut client, &by_group));
        client.case = world.mark();
        must_be(world, &mut client, &by_group, JAY);
        client.case = world.mark();
        must_be(world, &mut client, &by_team, ("ana", "ana"));
        client.case = world.mark();
        let id = client.call(&with(&client, &by_nothing));
        proof::assert_turned_away(&client.finish(id), proof::PERMISSION_DENIED);
        assert!(is_refused(&mut client, &foreign));
        proof::assert_unasked(world, &client.case);
    });
}

fn mint(home: &Path, words: &[&str]) -> String {
    let binary = std::env::var("ATTACK_BIN");
    let binary = binary.unwrap_or_else(|_| env!("CARGO_BIN_EXE_sconce").to_string());
    let key = home.join("dev.key");
    let made = Command::new(binary).arg("token").arg("--key").arg(&key).args(words).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_string()
}
