//! Identity providers that are down, answer wrongly or are removed, and edits of their addresses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::support::client::{Client, SOON};
use crate::support::fields::Request;
use crate::support::probe::eventually;
use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::runner::Cases;
use crate::support::signer::{self, ISSUER, Signer, claims, jwks};
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("identity_providers");
    edits(cases);
    blame(cases);
    readiness(cases);
}

/// No provider is asked again sooner than in ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);

const UNAVAILABLE: u32 = 14;

/// A provider of keys, for as long as the tests run.
#[derive(Clone)]
struct Provider {
    address: SocketAddr,
    /// What it answers with; without it, it hangs up.
    keys: Arc<Mutex<Option<String>>>,
}

impl Provider {
    fn new(keys: impl Into<Option<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Arc::new(Mutex::new(keys.into()));
        let shared = keys.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let _ = socket.read(&mut [0; 4096]);
                let Some(text) = shared.lock().unwrap().clone() else { continue };
                let _ = write!(
                    socket,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \
                     {}\r\nconnection: close\r\n\r\n{text}",
                    text.len()
                );
            }
        });
        Self { address, keys }
    }

    /// The line of the configuration that says where its keys are.
    fn line(&self) -> String {
        format!("keys_url: http://{}/keys", self.address)
    }

    fn answer(&self, keys: impl Into<Option<String>>) {
        *self.keys.lock().unwrap() = keys.into();
    }
}

fn with(client: &Client, token: &str) -> Request {
    proof::bare(client).with("authorization", format!("Bearer {token}"))
}

fn status(client: &mut Client, token: &str) -> Option<u32> {
    let id = client.call(&with(client, token));
    client.finish(id).status()
}

fn metrics(world: &World) -> String {
    world.sconce.as_ref().unwrap().lock().unwrap().metrics()
}

fn log(world: &World) -> Vec<String> {
    world.sconce.as_ref().unwrap().lock().unwrap().log()
}

/// Puts one text in the place of another in `sconce.yaml`, and waits until that is live.
fn edit(world: &World, from: &str, to: &str) {
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    let text = std::fs::read_to_string(home.join("sconce.yaml")).unwrap();
    assert!(text.contains(from), "{from:?} is not there: {text}");
    let applied = |world: &World| {
        log(world).iter().filter(|line| line.contains("configuration applied")).count()
    };
    let before = applied(world);
    std::fs::write(home.join("sconce.new"), text.replacen(from, to, 1)).unwrap();
    std::fs::rename(home.join("sconce.new"), home.join("sconce.yaml")).unwrap();
    eventually("the edit is live", SOON, || applied(world) > before);
}

/// How often an attempt to fetch keys came to nothing.
fn failures(world: &World) -> u64 {
    let page = metrics(world);
    let name = "sconce_jwks_fetches_total{outcome=\"failure\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

fn edits(cases: &mut Cases) {
    let one = Signer::new("one");
    let provider = Provider::new(jwks(&[one.jwk()]));
    let spec = proof::spec_with_keys_at(&provider.line());
    add(cases, "a_provider_that_is_down_keeps_its_keys_through_every_edit", spec, move |world| {
        let mut client = world.client();
        let token = one.sign(&claims());
        eventually("the keys are there", SOON, || status(&mut client, &token) == Some(0));
        provider.answer(None);
        let line = provider.line();
        let elsewhere = format!("keys_url: http://{}/elsewhere", provider.address);
        let slower = format!("refresh: 1h\n      {elsewhere}");
        for (from, to) in [(&line, &elsewhere), (&elsewhere, &slower), (&slower, &line)] {
            let failed = failures(world);
            edit(world, from, to);
            eventually("an attempt has failed", SOON, || failures(world) > failed);
            assert_eq!(status(&mut client, &token), Some(0), "after {to}");
            assert_eq!(status(&mut world.client(), &token), Some(0), "after {to}");
            let refresh = if *to == slower { 3_600 } else { 600 };
            let line = format!(
                "sconce_jwks_refresh_interval_seconds{{issuer=\"{}\"}} {refresh}\n",
                signer::ISSUER
            );
            assert!(metrics(world).contains(&line), "after {to}");
        }
    });
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let provider = Provider::new(None);
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    let name = "the_keys_of_a_file_last_until_those_of_a_url_come_and_count_at_once_afterwards";
    add(cases, name, spec, move |world| {
        let mut client = world.client();
        let (file, web) = (one.sign(&claims()), two.sign(&claims()));
        assert_eq!(status(&mut client, &file), Some(0));
        edit(world, "keys_file: keys.json", &provider.line());
        eventually("an attempt has failed", SOON, || failures(world) > 0);
        assert_eq!(status(&mut client, &file), Some(0), "none have come");
        provider.answer(jwks(&[two.jwk()]));
        eventually("the keys come", PATIENCE, || status(&mut client, &web) == Some(0));
        eventually("the other key counts for nothing", PATIENCE, || {
            status(&mut client, &file) == Some(UNAUTHENTICATED)
        });
        edit(world, &provider.line(), "keys_file: keys.json");
        assert_eq!(status(&mut client, &file), Some(0));
        assert_eq!(status(&mut client, &web), Some(UNAUTHENTICATED));
    });
    let one = Signer::new("one");
    let provider = Provider::new(jwks(&[one.jwk()]));
    let spec = proof::spec_with_keys_at(&provider.line());
    add(
        cases,
        "a_provider_that_is_taken_out_is_not_told_though_a_call_knows_it",
        spec,
        move |world| {
            let mut client = world.client();
            let token = one.sign(&claims());
            eventually("the keys are there", SOON, || status(&mut client, &token) == Some(0));
            // It keeps the plan that it began with.
            client.start(&with(&client, &token), false);
            world.driver_sees(&client.case, SOON, |_| true);
            let name = format!(
                "sconce_jwks_last_fetch_timestamp_seconds{{issuer=\"{}\"}}",
                signer::ISSUER
            );
            assert!(metrics(world).contains(&name));
            let text = format!("    - issuer: {}", signer::ISSUER);
            edit(world, &text, "    - issuer: https://other.invalid");
            eventually("the metric is gone", SOON, || !metrics(world).contains(&name));
            assert_eq!(status(&mut world.client(), &token), Some(UNAUTHENTICATED));
        },
    );
}

fn blame(cases: &mut Cases) {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let provider = Provider::new(jwks(&[one.jwk()]));
    let spec = proof::spec_with_keys_at(&provider.line());
    let name = "a_provider_that_fails_is_not_a_reason_to_blame_a_token_whose_key_it_has";
    add(cases, name, spec, move |world| {
        let mut client = world.client();
        let (known, fresh) = (one.sign(&claims()), two.sign(&claims()));
        eventually("the keys are there", SOON, || status(&mut client, &known) == Some(0));
        // It was not asked since the call came, and once it was, it has no such key.
        assert_eq!(status(&mut client, &fresh), Some(UNAVAILABLE));
        eventually("it was asked", PATIENCE, || {
            status(&mut client, &fresh) == Some(UNAUTHENTICATED)
        });
        provider.answer(None);
        let blamed = |client: &mut Client| status(client, &fresh) == Some(UNAVAILABLE);
        eventually("it is to blame", PATIENCE, || blamed(&mut client));
        let failed = failures(world);
        for _ in 0..20 {
            assert_eq!(status(&mut client, &fresh), Some(UNAVAILABLE));
            assert_eq!(status(&mut client, &known), Some(0));
        }
        assert_eq!(failures(world), failed, "it is asked again and again");
        provider.answer(jwks(&[one.jwk(), two.jwk()]));
        eventually("the key comes", PATIENCE, || status(&mut client, &fresh) == Some(0));
    });
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let provider = Provider::new(jwks(&[one.jwk()]));
    let spec = proof::spec_with_keys_at(&provider.line());
    let name = "a_key_that_was_rotated_in_while_strangers_use_up_the_attempts_is_asked_for_later";
    add(cases, name, spec, move |world| {
        let mut client = world.client();
        let (known, fresh) = (one.sign(&claims()), two.sign(&claims()));
        eventually("the keys are there", SOON, || status(&mut client, &known) == Some(0));
        provider.answer(jwks(&[one.jwk(), two.jwk()]));
        let stranger = Signer::new("stranger").sign(&claims());
        let mut others = world.client();
        eventually("the key is asked for", PATIENCE, || {
            status(&mut others, &stranger);
            let id = client.call(&with(&client, &fresh));
            let reply = client.finish(id);
            if reply.status() == Some(0) {
                return true;
            }
            assert_eq!(reply.status(), Some(UNAVAILABLE), "{reply:?}");
            let details = reply.heads.iter().flatten();
            let has_info =
                details.filter(|(name, _)| name == "grpc-status-details-bin").any(|(_, value)| {
                    let octets = STANDARD_NO_PAD.decode(value).unwrap();
                    String::from_utf8_lossy(&octets).contains("google.rpc.RetryInfo")
                });
            assert!(has_info, "it does not say when to try again: {reply:?}");
            false
        });
    });
}

/// Whether `/readyz` says yes, and the lines that it says.
fn ready(world: &World) -> (bool, String) {
    let page = world.sconce.as_ref().unwrap().lock().unwrap().page("/readyz");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    (head.starts_with("HTTP/1.1 200 "), body.to_owned())
}

fn readiness(cases: &mut Cases) {
    let one = Signer::new("one");
    let provider = Provider::new(None);
    let spec = proof::spec_with_keys_at(&provider.line());
    let name = "a_start_is_not_ready_and_names_the_issuer_until_its_keys_have_come";
    add(cases, name, spec, move |world| {
        eventually("an attempt has failed", SOON, || failures(world) > 0);
        let (is_ready, said) = ready(world);
        let missing = format!("starting: issuer {ISSUER} has no usable keys yet");
        assert!(!is_ready && said.starts_with(&missing), "{said}");
        assert!(metrics(world).contains("\nsconce_ready 0\n"));
        let mut client = world.client();
        let id = client.call(&proof::of(&client, &proof::ANN));
        assert_eq!(client.finish(id).status(), Some(0), "a listed token needs none of them");
        // Keys that are none leave it as it is.
        provider.answer("{\"keys\": []}".to_string());
        let failed = failures(world);
        eventually("another attempt has failed", PATIENCE, || failures(world) > failed);
        assert!(!ready(world).0);
        provider.answer(jwks(&[one.jwk()]));
        eventually("it is ready", 2 * PATIENCE, || ready(world) == (true, "ready\n".to_owned()));
        provider.answer(None);
        assert_eq!(status(&mut client, &one.sign(&claims())), Some(0));
        assert!(ready(world).0, "once is enough");
    });
    let provider = Provider::new(None);
    let mut spec = proof::spec_with_keys_at(&provider.line());
    let limit = "  skew: 0s\n  initial_fetch_timeout: 3s\n";
    spec.config.extra = spec.config.extra.replacen("  skew: 0s\n", limit, 1);
    let name = "a_start_whose_keys_do_not_come_in_time_is_ready_and_still_names_the_issuer";
    add(cases, name, spec, move |world| {
        assert!(!ready(world).0);
        eventually("it is ready", SOON, || ready(world).0);
        let (_, said) = ready(world);
        let missing = format!("ready\nkeys: issuer {ISSUER} has no usable keys yet");
        assert!(said.starts_with(&missing), "{said}");
        let warned =
            |line: &&String| line.contains("WARN") && line.contains("ready without the keys");
        // The log is written by a thread of its own.
        eventually("it is logged", SOON, || log(world).iter().any(|line| warned(&line)));
        assert_eq!(log(world).iter().filter(warned).count(), 1);
    });
}
