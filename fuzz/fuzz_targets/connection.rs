//! Arbitrary octets after a valid preface, for a connection in both roles, in two splits.
//!
//! The connection consumes all octets or returns a connection error; every split gives the same
//! events; and the length of its output is limited by the length of the input.

#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use sconce::wire::connection::{Connection, Event, LocalConfig, Role};
use sconce::wire::error::ConnectionError;
use sconce::wire::frame::PREFACE;
use sconce::wire::hpack::{Fields, Indexing, Limits};
use sconce::wire::settings::Settings;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    let Some((&piece, octets)) = data.split_first() else { return };
    for role in [Role::Server, Role::Client] {
        let whole = feed(role, octets, usize::MAX);
        let split = feed(role, octets, usize::from(piece).max(1));
        assert_eq!(whole, split, "the split changes the outcome");
    }
});

/// The events, the connection error if any, and the output.
type Outcome = (Vec<String>, Option<ConnectionError>, Vec<u8>);

fn feed(role: Role, octets: &[u8], piece: usize) -> Outcome {
    let headers = Limits { octets: 16_384, count: 128 };
    let settings = Settings { max_concurrent_streams: 8, ..Settings::INITIAL };
    let mut wire = Connection::new(role, LocalConfig { settings, window: 1 << 20, headers }, *NOW);
    let mut preface = if role == Role::Server { PREFACE.to_vec() } else { Vec::new() };
    preface.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    wire.receive(&preface, *NOW).expect("a valid preface");
    if role == Role::Client {
        let mut head = Fields::default();
        head.push(b":method", b"POST", Indexing::Incremental);
        let mut block = Vec::new();
        wire.encode(head.iter(), &mut block);
        wire.open_stream(1, &block, true);
    }
    let mut events = Vec::new();
    let mut error = None;
    'pieces: for piece in octets.chunks(piece) {
        let mut at = 0;
        while let Some(rest) = piece.get(at..) {
            match wire.receive(rest, *NOW) {
                Ok((taken, event)) => {
                    at += taken;
                    if !note(&mut wire, &mut events, rest, event) {
                        assert_eq!(at, piece.len(), "octets are left");
                        break;
                    }
                }
                Err(found) => {
                    error = Some(found);
                    break 'pieces;
                }
            }
        }
    }
    let answer = wire.write_buffer.to_vec(&[]);
    assert!(answer.len() <= 4_096 + octets.len() * 4, "the output is too long");
    (events, error, answer)
}

/// Records an event; consecutive DATA of one stream is one entry. `false`: more data is needed.
fn note(wire: &mut Connection, events: &mut Vec<String>, rest: &[u8], event: Event) -> bool {
    match event {
        Event::NeedMoreData => return false,
        Event::Request { stream, end } => {
            wire.set_tag(stream, stream.number());
            events.push(format!("request {stream:?} {end}"));
        }
        Event::Data { tag, octets, end } => {
            let prefix = format!("data {tag} ");
            let text: String = rest[octets].iter().map(|octet| format!("{octet:02x}")).collect();
            match events.last_mut().filter(|last| last.starts_with(&prefix)) {
                Some(last) => last.push_str(&text),
                None => events.push(prefix + &text),
            }
            if end {
                events.push(format!("end {tag}"));
            }
        }
        Event::MalformedRequest { stream, error } => {
            wire.reject_request(stream);
            events.push(format!("malformed {stream:?} {error:?}"));
        }
        event => events.push(format!("{event:?}")),
    }
    true
}
