//! Long tokens: up to the limit of a request's header list, cached in bounded memory.

use serde_json::json;

use crate::support::client::Client;
use crate::support::frame::{self, CONTINUATION, END_HEADERS, HEADERS};
use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::protobuf::{field, framed};
use crate::support::reply::Reply;
use crate::support::runner::Cases;
use crate::support::signer::{Signer, claims_but, jwks};
use crate::support::world::{Spec, World};

/// Octets of a frame, at most, while nobody has allowed more (RFC 9113, 6.5.2).
const FRAME_MAX: usize = 16_384;

pub fn cases(cases: &mut Cases) {
    cases.suite("long_tokens");
    admitted(cases);
    remembered(cases);
}

/// A world with the keys of one signer that takes header lists of so many octets.
fn spec(signer: &Signer, header_list: &'static str) -> Spec {
    let mut spec = proof::spec_with_keys(jwks(&[signer.jwk()]));
    spec.config.limits = vec![("header_list", header_list)];
    spec
}

/// A token of a user in so many groups, as Microsoft Entra ID writes them.
fn in_groups(signer: &Signer, count: usize) -> String {
    let group = |at: usize| format!("0b5f1c2e-77aa-4c1d-9a53-{at:012x}");
    let groups: Vec<_> = (0..count).map(group).chain(["g-ads".to_string()]).collect();
    signer.sign(&claims_but(&json!({"groups": groups, "teams": []})))
}

/// A call with this token, whose header block takes as many frames as it needs.
fn call(client: &mut Client, token: &str) -> Reply {
    let request = proof::bare(client).with("authorization", format!("Bearer {token}"));
    let block = request.block();
    let id = client.take_id();
    let mut pieces = block.chunks(FRAME_MAX).peekable();
    let mut kind = HEADERS;
    let mut out = Vec::new();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        out.extend(frame::frame(kind, flags, id, piece));
        kind = CONTINUATION;
    }
    out.extend(frame::data(id, true, &framed(&field(1, "ids"))));
    client.budget -= 10;
    client.send(&out);
    client.finish(id)
}

fn status(client: &mut Client, token: &str) -> Option<u32> {
    call(client, token).status()
}

fn admitted(cases: &mut Cases) {
    let table = [("16384", 150, 8_000), ("16384", 200, 10_000), ("65536", 900, 45_000)];
    for (header_list, groups, octets) in table {
        let name =
            format!("a_token_of_{groups}_groups_is_admitted_by_a_header_list_of_{header_list}");
        let one = Signer::new("one");
        add(cases, name, spec(&one, header_list), move |world| {
            let token = in_groups(&one, groups);
            assert!(token.len() > octets, "{}", token.len());
            let mut client = world.client();
            for _ in 0..2 {
                assert_eq!(status(&mut client, &token), Some(0));
            }
            let cut = token.get(..token.len() - 4).unwrap();
            assert_eq!(status(&mut client, cut), Some(UNAUTHENTICATED));
        });
    }
    let one = Signer::new("one");
    let name = "a_token_beyond_the_header_list_is_refused_with_the_name_of_the_key";
    add(cases, name, spec(&one, "16384"), move |world| {
        let mut client = world.client();
        let token = in_groups(&one, 400);
        let reply = call(&mut client, &token);
        assert_eq!(reply.status(), Some(proof::RESOURCE_EXHAUSTED), "{reply:?}");
        assert!(reply.message().contains("limits.header_list"), "{}", reply.message());
        assert_eq!(status(&mut client, &in_groups(&one, 1)), Some(0), "the connection goes on");
    });
}

/// Octets of each token, how many come, and how much memory they may cost.
const LONG: usize = 150_000;
const MANY: usize = 600;
const GROWTH_MAX: i64 = 90 << 20;

fn remembered(cases: &mut Cases) {
    let one = Signer::new("one");
    let name = "many_long_tokens_are_remembered_in_bounded_memory";
    add(cases, name, spec(&one, "262144"), move |world: &World| {
        let token = |at: usize| {
            one.sign(&claims_but(&json!({"sub": format!("u{at}"), "pad": "p".repeat(LONG)})))
        };
        let mut client = world.client();
        assert_eq!(status(&mut client, &token(0)), Some(0));
        let process = world.process().unwrap();
        let before = process.resident();
        for at in 1..MANY {
            assert_eq!(status(&mut client, &token(at)), Some(0));
        }
        let grown = process.resident() - before;
        assert!(grown < GROWTH_MAX, "{MANY} tokens of {LONG} octets cost {grown} octets");
    });
}
