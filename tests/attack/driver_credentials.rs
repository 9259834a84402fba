//! A driver's token reaches that driver only, and hidden configuration keys are masked.

use crate::compression::gzip;
use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::{Request, SERVICE, literal};
use crate::support::frame;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, EVE, INTERNAL, Person};
use crate::support::protobuf::{field, flagged, framed};
use crate::support::reply::Reply;
use crate::support::runner::Cases;
use crate::support::script::{answer_block, headers_op, hex};
use crate::support::world::{Spec, World};

const TOKEN: &str = "driver-0a1b2c3d";
const HIDDEN: &str = "spark.hadoop.fs.s3a.secret.key";
const OWN: &str = "spark.connect.authenticate.token";

pub fn cases(cases: &mut Cases) {
    cases.suite("driver_credentials");
    tokens(cases);
    rotations(cases);
    refusals(cases);
    answers(cases);
    questions(cases);
}

/// A world whose driver of `ads` wants a token, and hides a key.
fn spec() -> Spec {
    let mut spec = proof::spec("");
    let lines = format!("driver_token_file: ../ads.token\nhidden_configurations: [{HIDDEN}]\n");
    spec.config.lines = vec![("ads", lines)];
    spec.config.files = vec![("ads.token", format!("{TOKEN}\n"))];
    spec
}

/// The same, where nobody is asked who they are.
fn open_spec() -> Spec {
    let mut spec = spec();
    spec.config.extra = String::new();
    spec.config.members = Vec::new();
    spec.config.proof = None;
    spec
}

/// A call whose answer is not looked into.
fn of(client: &Client, person: &Person) -> Request {
    plain(proof::of(client, person))
}

fn plain(request: Request) -> Request {
    request.set(":path", format!("{SERVICE}ExecutePlan"))
}

fn authorizations(world: &World, case: &str) -> Vec<String> {
    let served = world.driver_sees(case, SOON, |served| !served.headers.is_empty());
    let all = served.headers.iter().filter(|(name, _)| name == "authorization");
    all.map(|(_, value)| value.clone()).collect()
}

fn tokens(cases: &mut Cases) {
    type Claim = fn(Request) -> Request;
    let claims: [(&str, Claim); 4] = [
        ("its_own_proof", |request| request),
        ("a_twin_with_an_underscore", |request| request.with("proxy_authorization", "Bearer x")),
        ("a_second_field_for_proxies", |request| request.with("proxy-authorization", "Bearer x")),
        ("a_cookie", |request| request.with("cookie", "authorization=x")),
    ];
    for (what, claim) in claims {
        let name = format!("a_driver_with_a_token_gets_that_alone_when_the_client_sends_{what}");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let request = claim(of(&client, &ANN));
            for _ in 0..3 {
                client.must_succeed(&request);
                assert_eq!(authorizations(world, &client.case), [format!("Bearer {TOKEN}")]);
            }
            let served = world.driver_sees(&client.case, SOON, |_| true);
            let told = served.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let told: String = told.collect();
            assert!(!told.contains(ANN.token) && !told.contains("Bearer x"), "{told}");
        });
    }
    proof::add(
        cases,
        "where_nobody_proves_himself_a_driver_gets_its_token_too",
        open_spec(),
        |world| {
            let mut client = world.client();
            let request = plain(client.request()).with("authorization", "Bearer of-the-client");
            client.must_succeed(&request);
            assert_eq!(authorizations(world, &client.case), [format!("Bearer {TOKEN}")]);
        },
    );
    proof::add(cases, "a_driver_of_another_team_never_sees_the_token", spec(), |world| {
        let mut client = world.client();
        for team in ["ads", "web", "ads", "web"] {
            client.must_succeed(&of(&client, &EVE).with("x-sconce-team", team));
        }
        let entries = world.web.log.entries(&client.case);
        assert_eq!(entries.len(), 2);
        for entry in entries {
            let headers = entry.0.lock().unwrap().headers.clone();
            assert!(headers.iter().all(|(name, _)| name != "authorization"), "{headers:?}");
        }
    });
    proof::add(cases, "metadata_that_leaves_no_room_for_the_token_is_refused", spec(), |world| {
        let mut client = world.client();
        let request = of(&client, &ANN);
        // As much as a driver takes without the token: what is said to sconce alone stays behind.
        let kept = request.clone().without("x-sconce-env").without("authorization").list_size();
        let filler = |octets: usize| "f".repeat(octets - kept - "filler".len() - 32);
        let most = 8192 - ("authorization".len() + "Bearer ".len() + TOKEN.len() + 32);
        client.must_succeed(&request.clone().with("filler", filler(most)));
        let id = client.call(&request.with("filler", filler(most + 1)));
        let reply = client.finish(id);
        proof::assert_refused(world, &reply, proof::RESOURCE_EXHAUSTED, "request.metadata");
    });
}

fn write(world: &World, text: &str) {
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    std::fs::write(home.join(".new"), text).unwrap();
    std::fs::rename(home.join(".new"), home.join("ads.token")).unwrap();
}

fn rotations(cases: &mut Cases) {
    proof::add(cases, "a_token_that_is_replaced_goes_with_the_next_calls", spec(), |world| {
        let mut client = world.client();
        let request = of(&client, &ANN);
        let held = client.call(&request.clone().script("end;z1500;h;d2;t0"));
        assert_eq!(authorizations(world, &client.case), [format!("Bearer {TOKEN}")]);
        write(world, "another-9z8y7x");
        eventually("the new token is shown", SOON, || {
            client.must_succeed(&request);
            let entries = world.driver.lock().unwrap().log.entries(&client.case);
            let headers = entries.last().unwrap().0.lock().unwrap().headers.clone();
            headers.iter().any(|(_, value)| value == "Bearer another-9z8y7x")
        });
        assert_eq!(client.finish(held).status(), Some(0), "what runs goes on");
    });
    for (what, text, said) in [
        ("emptied", "", "ads.token is empty"),
        ("spoilt", "two words\n", "ads.token contains a space"),
    ] {
        let name = format!("a_token_whose_file_is_{what}_stays_as_it_was");
        proof::add(cases, name, spec(), move |world| {
            write(world, text);
            let sconce = || world.sconce.as_ref().unwrap().lock().unwrap();
            eventually("the complaint is told", SOON, || {
                sconce().log().iter().any(|line| line.contains(said))
            });
            let log = sconce().log().join("\n");
            assert!(!log.contains(TOKEN) && !log.contains("two words"), "{log}");
            let mut client = world.client();
            client.must_succeed(&of(&client, &ANN));
            assert_eq!(authorizations(world, &client.case), [format!("Bearer {TOKEN}")]);
        });
    }
}

/// A driver that answers so by trailers alone.
pub fn refusing(code: u32, message: &str) -> String {
    let status = literal(b"grpc-status", code.to_string().as_bytes());
    let message = literal(b"grpc-message", message.as_bytes());
    format!("end;{}", headers_op(true, &[answer_block(), status, message].concat()))
}

fn refusals(cases: &mut Cases) {
    for (what, message, says) in [
        ("refuses_the_token", "Invalid authentication token", "rejected the token"),
        ("misses_one", "No authentication token provided", "rejected the token"),
    ] {
        let name = format!("a_driver_that_{what}_is_told_from_a_caller_who_is_refused");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let id = client.call(&of(&client, &ANN).script(&refusing(16, message)));
            let reply = client.finish(id);
            proof::assert_turned_away(&reply, INTERNAL);
            assert!(reply.message().contains(says), "{reply:?}");
            assert!(reply.message().contains("contact the operators of sconce"), "{reply:?}");
            assert!(!reply.message().contains(TOKEN), "{reply:?}");
        });
    }
    proof::add(cases, "a_driver_that_wants_a_token_and_has_none_here_says_so", spec(), |world| {
        let mut client = world.client();
        let script = refusing(16, "No authentication token provided");
        let request = of(&client, &EVE).with("x-sconce-team", "web").script(&script);
        let id = client.call(&request);
        let reply = client.finish(id);
        proof::assert_turned_away(&reply, INTERNAL);
        assert!(reply.message().contains("sconce has none for it"), "{reply:?}");
    });
    proof::add(cases, "another_unauthenticated_of_a_driver_passes_as_it_is", spec(), |world| {
        let mut client = world.client();
        let script = refusing(16, "the catalog does not know you");
        let id = client.call(&of(&client, &ANN).script(&script));
        let reply = client.finish(id);
        assert_eq!(reply.status(), Some(16));
        assert_eq!(reply.message(), "the catalog does not know you");
    });
}

fn pair(key: &str, value: &str) -> Vec<u8> {
    field(2, [field(1, key), field(2, value)].concat())
}

fn config(request: Request) -> Request {
    request.set(":path", format!("{SERVICE}Config"))
}

/// Frames of DATA with this body, in pieces of so many octets.
fn data_ops(body: &[u8], piece: usize) -> String {
    let ops = body.chunks(piece).map(|piece| format!("F0.0.s.{}", hex(piece)));
    ops.collect::<Vec<_>>().join(";")
}

fn answered(client: &mut Client, request: &Request, body: &[u8], piece: usize) -> Reply {
    let script = format!("end;h;{};t0", data_ops(body, piece));
    let id = client.call(&request.clone().script(&script));
    client.finish(id)
}

fn shows(reply: &Reply, what: &str) -> bool {
    reply.body.windows(what.len()).any(|octets| octets == what.as_bytes())
}

fn answers(cases: &mut Cases) {
    for (world_is, is_open) in [("with_proof", false), ("without_proof", true)] {
        let name = format!("values_that_are_hidden_do_not_pass_{world_is}_however_they_are_cut");
        let spec = if is_open { open_spec() } else { spec() };
        proof::add(cases, name, spec, move |world| {
            let mut client = world.client();
            let request = if is_open { client.request() } else { config(of(&client, &ANN)) };
            let pairs = [
                pair(OWN, "s3cret-of-the-driver"),
                pair(HIDDEN, "s3cret-of-the-store"),
                pair("secret.key", "s3cret-by-its-prefix"),
                pair("spark.app.name", "visible"),
            ];
            let body = framed(&[field(1, "session"), pairs.concat(), field(4, "server")].concat());
            for piece in (1..12).chain([body.len() / 2, body.len()]) {
                let reply = answered(&mut client, &request, &body, piece);
                assert_eq!(reply.status(), Some(0), "{reply:?}");
                assert_eq!(reply.body.len(), body.len(), "the length has changed");
                assert!(!shows(&reply, "s3cret"), "pieces of {piece}: {reply:?}");
                assert!(shows(&reply, "visible") && shows(&reply, OWN) && shows(&reply, HIDDEN));
                client.case = world.mark();
            }
        });
    }
    proof::add(cases, "a_client_that_reads_slowly_sees_no_more", spec(), |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 40)],
            ..Default::default()
        });
        let body = framed(&[pair(OWN, &"s3cret".repeat(30)), pair("spark.x", "visible")].concat());
        let script = format!("end;h;B{};t0", hex(&body));
        let id = client.call(&config(of(&client, &ANN)).script(&script));
        let reply = client.finish(id);
        assert!(!shows(&reply, "s3cret") && shows(&reply, "visible"), "{reply:?}");
    });
    proof::add(cases, "only_answers_to_config_are_looked_into", spec(), |world| {
        let mut client = world.client();
        let body = framed(&pair(OWN, "s3cret"));
        let request = of(&client, &ANN);
        assert_eq!(answered(&mut client, &request, &body, 9).body, body);
        let web = config(of(&client, &EVE).with("x-sconce-team", "web"));
        assert_eq!(answered(&mut client, &web, &body, 9).body, body);
    });
    proof::add(cases, "a_driver_is_not_asked_to_compress_what_must_be_read", spec(), |world| {
        let mut client = world.client();
        let accepts = |request: Request| request.with("grpc-accept-encoding", "gzip");
        let asked = |client: &mut Client, request: &Request| {
            client.case = world.mark();
            client.must_succeed(&request.clone().set("x-case", &client.case));
            let served = world.driver_sees(&client.case, SOON, |_| true);
            served.headers.iter().any(|(name, _)| name == "grpc-accept-encoding")
        };
        let request = accepts(of(&client, &ANN));
        assert!(asked(&mut client, &request));
        assert!(!asked(&mut client, &config(request)));
    });
    let spoilt: [(&str, Vec<u8>); 4] = [
        ("compressed", flagged(1, b"\x1f\x8b\x08\x00")),
        ("with_a_field_beyond_its_end", framed(&[0x12, 200, 1, 1])),
        ("with_a_number_for_a_pair", framed(&[0x10, 1])),
        ("with_a_group", framed(&[0x13, 0x14])),
    ];
    for (what, body) in spoilt {
        let name = format!("an_answer_to_config_{what}_does_not_pass");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let request = config(of(&client, &ANN));
            let reply = answered(&mut client, &request, &body, 100);
            assert_eq!(reply.status(), Some(INTERNAL), "{reply:?}");
            assert!(reply.message().contains("cannot be parsed"), "{reply:?}");
            client.case = world.mark();
            client.must_succeed(&of(&client, &ANN));
        });
    }
}

/// Operations of Config.
const GET: u64 = 2;
const GET_ALL: u64 = 5;
const IS_MODIFIABLE: u64 = 7;

/// An operation on this key or, for all, on this prefix.
fn on(operation: u64, key: &str) -> Vec<u8> {
    field(operation, field(1, key))
}

fn config_request(operations: &[u8]) -> Vec<u8> {
    [field(1, "session"), field(3, operations), field(4, "client")].concat()
}

/// What a client sees that asks so, by this body in pieces of so many octets: the secret, a key of
/// its own, and whether a key can be changed.
fn seen(client: &mut Client, request: &Request, (body, piece): (&[u8], usize)) -> [bool; 3] {
    let pairs = [pair(HIDDEN, "s3cret"), pair("secret.key", "of-mine"), pair(OWN, "false")];
    let script = format!("end;h;{};t0", data_ops(&framed(&pairs.concat()), 11));
    let id = client.take_id();
    client.budget -= i64::try_from(body.len()).unwrap();
    let mut out = frame::headers(id, false, &request.clone().script(&script).block());
    let last = body.chunks(piece).count() - 1;
    for (at, piece) in body.chunks(piece).enumerate() {
        out.extend(frame::data(id, at == last, piece));
    }
    client.send(&out);
    let reply = client.finish(id);
    assert_eq!(reply.status(), Some(0), "{reply:?}");
    ["s3cret", "of-mine", "false"].map(|what| shows(&reply, what))
}

fn questions(cases: &mut Cases) {
    for (world_is, is_open) in [("with_proof", false), ("without_proof", true)] {
        let spec = || if is_open { open_spec() } else { spec() };
        let request = move |client: &Client| {
            if is_open { client.request() } else { config(of(client, &ANN)) }
        };
        let name = format!("what_is_hidden_goes_by_what_is_asked_for_{world_is}");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let request = request(&client);
            for (operation, shown) in [
                (on(GET, "a"), [false, true, false]),
                (field(GET_ALL, ""), [false, true, false]),
                (on(GET_ALL, "spark."), [false, false, false]),
                (on(IS_MODIFIABLE, "a"), [true, true, true]),
            ] {
                let body = framed(&config_request(&operation));
                for piece in [1, 6, body.len()] {
                    let seen = seen(&mut client, &request, (&body, piece));
                    assert_eq!(seen, shown, "{operation:02x?} in pieces of {piece}");
                }
            }
        });
        let name = format!("a_request_that_can_be_read_in_two_ways_hides_the_most_{world_is}");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let request = request(&client);
            let harmless = on(IS_MODIFIABLE, "a");
            for message in [
                config_request(&[on(GET_ALL, "spark."), harmless.clone()].concat()),
                config_request(&[harmless.clone(), on(GET, HIDDEN)].concat()),
                [config_request(&harmless), field(3, on(GET, HIDDEN))].concat(),
                [config_request(&harmless), field(3, "")].concat(),
                config_request(&field(8, "a")),
                config_request(&[0x38, 1]),
            ] {
                for piece in [1, 6, 100] {
                    let seen = seen(&mut client, &request, (&framed(&message), piece));
                    assert_eq!(seen, [false; 3], "{message:02x?} in pieces of {piece}");
                }
            }
        });
        let name = format!("a_compressed_request_hides_the_most_unless_it_is_inflated_{world_is}");
        proof::add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let request = request(&client).with("grpc-encoding", "gzip");
            let body = flagged(1, &gzip(&config_request(&on(GET, "a"))));
            for piece in [1, 6, body.len()] {
                let seen = seen(&mut client, &request, (&body, piece));
                assert_eq!(seen, [false, !is_open, false], "pieces of {piece}");
            }
        });
    }
    proof::add(cases, "an_answer_before_its_request_is_whole_hides_the_most", spec(), |world| {
        let mut client = world.client();
        let body = framed(&[pair(HIDDEN, "s3cret"), pair("secret.key", "s3cret")].concat());
        let script = format!("h;{};t0", data_ops(&body, 100));
        let request = config(of(&client, &ANN)).script(&script);
        for body in [framed(&config_request(&on(IS_MODIFIABLE, "a"))), Vec::new()] {
            let id = client.start(&request, false);
            let part = body.get(..body.len().saturating_sub(1)).unwrap_or_default();
            client.send(&frame::data(id, false, part));
            let reply = client.finish(id);
            assert!(shows(&reply, HIDDEN) && !shows(&reply, "s3cret"), "{reply:?}");
        }
    });
}
