//! Worlds in which everybody must prove who they are, and those who live there.

use super::client::Client;
use super::driver;
use super::fields::Request;
use super::frame;
use super::reply::Reply;
use super::runner::Cases;
use super::sconce::Config;
use super::signer::{AUDIENCE, ISSUER, sha256};
use super::world::{Spec, World};

pub const UNAUTHENTICATED: u32 = 16;
pub const PERMISSION_DENIED: u32 = 7;
pub const INVALID_ARGUMENT: u32 = 3;
pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNIMPLEMENTED: u32 = 12;
pub const INTERNAL: u32 = 13;

/// What somebody reads whose token has expired.
pub const EXPIRED: &str =
    "the token has expired: call spark.stop(), then create a new session with a new token";

/// Somebody with a token that the config lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    pub user: &'static str,
    pub display: &'static str,
    pub token: &'static str,
    /// As the token says; team files may add to it.
    pub teams: &'static str,
}

impl Person {
    pub fn names(&self) -> (&'static str, &'static str) {
        (self.user, self.display)
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

// The octets of these two have a Huffman code in `huffman` below.
pub const ANN: Person =
    Person { user: "ann", display: "Ann A.", token: "ann-0a1c2e0s1t2i", teams: "ads" };
pub const BOB: Person =
    Person { user: "bob", display: "Bob B.", token: "bob-2t0i1s2e0c1a", teams: "web" };
/// Of two teams.
pub const EVE: Person =
    Person { user: "eve", display: "Eve E.", token: "eve-9f8g7h6j5k4l", teams: "ads, web" };
/// Of a team by its file alone.
pub const ZOE: Person = Person { user: "zoe", display: "Zoe", token: "zoe-5r6f7g8h", teams: "" };
/// Of no team.
pub const TOM: Person = Person { user: "tom", display: "Tom", token: "tom-1q2w3e4r", teams: "" };
const CANARY: Person =
    Person { user: "canary", display: "C", token: "canary-6y7u8i9o", teams: "calm" };

pub const ALL: [Person; 6] = [ANN, BOB, EVE, ZOE, TOM, CANARY];

/// Octets of one request that a driver of such a world keeps.
const KEPT: usize = 12 << 20;

/// A world that asks for proof; `more` are further sections of its config.
pub fn spec(more: &str) -> Spec {
    spec_with(more, "")
}

/// The same, which believes an issuer by these keys too.
pub fn spec_with_keys(keys: String) -> Spec {
    let mut spec = spec_with_keys_at("keys_file: keys.json");
    spec.config.files = vec![("keys.json", keys)];
    spec
}

/// The same, with the keys where this line says.
pub fn spec_with_keys_at(line: &str) -> Spec {
    let issuers = format!(
        "  issuers:\n    - issuer: {ISSUER}\n      audiences: [{AUDIENCE}]\n      {line}\n      \
         claims: {{ teams: teams }}\n"
    );
    spec_with("", &issuers)
}

fn spec_with(more: &str, issuers: &str) -> Spec {
    let mut extra = format!(
        "{more}chain: [authenticate, team]\nauthenticate:\n  skew: 0s\n  \
         allow_insecure_loopback: true\n{issuers}  tokens:\n"
    );
    for person in ALL {
        let Person { user, display, token, teams } = person;
        extra.push_str(&format!(
            "    - {{ name: {user}, sha256: {}, user: {user}, display_name: {display}, teams: \
             [{teams}] }}\n",
            sha256(token)
        ));
    }
    let config = Config {
        extra,
        members: vec![("ads", "{ users: [zoe], groups: [g-ads] }")],
        proof: Some(CANARY.bearer()),
        ..Config::default()
    };
    Spec { config, driver: driver::Spec { keeps: KEPT, ..driver::Spec::default() } }
}

/// Adds a case in such a world of its own.
pub fn add(
    cases: &mut Cases,
    name: impl Into<String>,
    spec: Spec,
    run: impl Fn(&World) + Send + Sync + 'static,
) {
    cases.own(name, spec, move |world| {
        if world.is_sconce() {
            run(world);
        }
    });
}

/// A call of somebody's own, whose team is found by who they are.
pub fn of(client: &Client, person: &Person) -> Request {
    bare(client).with("authorization", person.bearer())
}

/// A call without a token and without a team.
pub fn bare(client: &Client) -> Request {
    client.request().without("x-sconce-team")
}

/// How often sconce has answered itself, by label.
pub fn refusals(world: &World) -> Vec<(String, u64)> {
    let page = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
    let lines = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("sconce_refusals_total{label=\"")?;
        let (label, count) = rest.split_once("\"} ")?;
        Some((label.to_string(), count.parse().ok()?))
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

/// Refused in the shape of gRPC, counted under its label alone, and with nobody's secret in it.
pub fn assert_refused(world: &World, reply: &Reply, code: u32, label: &str) {
    assert_turned_away(reply, code);
    assert_eq!(refusals(world), [(label.to_string(), 1)], "of the metrics; {reply:?}");
    assert_no_secret(world, reply);
}

pub fn assert_turned_away(reply: &Reply, code: u32) {
    reply.assert_trailers_only();
    assert_eq!(reply.status(), Some(code), "{reply:?}");
    assert!(!reply.message().is_empty(), "a refusal without a word");
}

/// Neither the answer nor the log gives a token away.
pub fn assert_no_secret(world: &World, reply: &Reply) {
    let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
    let told = format!("{:?} {}", reply.heads, reply.message());
    for person in ALL {
        assert!(!told.contains(person.token), "an answer tells a token of {}", person.user);
        let logged = log.iter().any(|line| line.contains(person.token));
        assert!(!logged, "the log tells a token of {}", person.user);
    }
}

/// No driver has heard of this case.
pub fn assert_unasked(world: &World, case: &str) {
    for driver in [&*world.driver.lock().unwrap(), &world.web, &world.calm] {
        assert_eq!(driver.was_asked(case), 0, "the call reached a driver");
    }
}

/// Which team's driver has answered.
pub fn answerer(reply: &Reply) -> String {
    assert_eq!(reply.status(), Some(0), "{reply:?}");
    String::from_utf8(reply.body.get(5..).unwrap_or_default().to_vec()).unwrap()
}

/// A whole request: HEADERS with this block, and one DATA frame, which ends it.
pub fn ask(client: &mut Client, block: &[u8], body: &[u8]) -> u32 {
    let id = client.take_id();
    client.budget -= i64::try_from(body.len()).unwrap();
    client.send(&[frame::headers(id, false, block), frame::data(id, true, body)].concat());
    id
}

/// Huffman coded, as far as codes are known here (RFC 7541, appendix B).
pub fn huffman(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for letter in text.chars() {
        bits.push_str(match letter {
            '0' => "00000",
            '1' => "00001",
            '2' => "00010",
            'a' => "00011",
            'c' => "00100",
            'e' => "00101",
            'i' => "00110",
            'o' => "00111",
            's' => "01000",
            't' => "01001",
            ' ' => "010100",
            '-' => "010110",
            'b' => "100011",
            'n' => "101010",
            'r' => "101100",
            'B' => "1011101",
            other => panic!("no code for {other}"),
        });
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let octets = bits.as_bytes().chunks(8).map(|octet| std::str::from_utf8(octet).unwrap());
    octets.map(|octet| u8::from_str_radix(octet, 2).unwrap()).collect()
}
