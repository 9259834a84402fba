//! Connection: any octets after a good greeting, to the engine in both roles, whole and in pieces.
//!
//! Whatever comes, the engine takes all of it or names a fault; it says the same of the same
//! octets however they are split; and what it would answer stays bounded by what came.

#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use sconce::wire::connection::{Connection, Event, Offer, Role};
use sconce::wire::fault::Fault;
use sconce::wire::frame::PREFACE;
use sconce::wire::hpack::{Fields, Indexing, Limits};
use sconce::wire::settings::Settings;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    let Some((&piece, octets)) = data.split_first() else { return };
    for role in [Role::Server, Role::Client] {
        let whole = drink(role, octets, usize::MAX);
        let split = drink(role, octets, usize::from(piece).max(1));
        assert_eq!(whole, split, "the split is told apart");
    }
});

/// What was seen, the fault if there was one, and what waits to be answered.
type Seen = (Vec<String>, Option<Fault>, Vec<u8>);

fn drink(role: Role, octets: &[u8], piece: usize) -> Seen {
    let headers = Limits { octets: 16_384, count: 128 };
    let settings = Settings { streams: 8, ..Settings::INITIAL };
    let mut wire = Connection::new(role, Offer { settings, window: 1 << 20, headers }, *NOW);
    let mut greeting = if role == Role::Server { PREFACE.to_vec() } else { Vec::new() };
    greeting.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    wire.receive(&greeting, *NOW).expect("a good greeting");
    if role == Role::Client {
        let mut head = Fields::default();
        head.push(b":method", b"POST", Indexing::Incremental);
        let mut block = Vec::new();
        wire.encode(head.iter(), &mut block);
        wire.open(1, &block, true);
    }
    let mut seen = Vec::new();
    let mut fault = None;
    'pieces: for piece in octets.chunks(piece) {
        let mut at = 0;
        while let Some(rest) = piece.get(at..) {
            match wire.receive(rest, *NOW) {
                Ok((taken, event)) => {
                    at += taken;
                    if !note(&mut wire, &mut seen, rest, event) {
                        assert_eq!(at, piece.len(), "starved with octets left");
                        break;
                    }
                }
                Err(why) => {
                    fault = Some(why);
                    break 'pieces;
                }
            }
        }
    }
    let answer = wire.out.to_vec(&[]);
    assert!(answer.len() <= 4_096 + octets.len() * 4, "answers outgrow what came");
    (seen, fault, answer)
}

/// Writes an event down; DATA of one stream in a row is one entry. False when starved.
fn note(wire: &mut Connection, seen: &mut Vec<String>, rest: &[u8], event: Event) -> bool {
    match event {
        Event::Starved => return false,
        Event::Opened { stream, end } => {
            wire.tag(stream, stream.number());
            seen.push(format!("opened {stream:?} {end}"));
        }
        Event::Data { tag, octets, end } => {
            let said = format!("data {tag} ");
            let text: String = rest[octets].iter().map(|octet| format!("{octet:02x}")).collect();
            match seen.last_mut().filter(|last| last.starts_with(&said)) {
                Some(last) => last.push_str(&text),
                None => seen.push(said + &text),
            }
            if end {
                seen.push(format!("end {tag}"));
            }
        }
        Event::MalformedRequest { stream, fault } => {
            wire.reject(stream);
            seen.push(format!("malformed {stream:?} {fault:?}"));
        }
        event => seen.push(format!("{event:?}")),
    }
    true
}
