//! Stamp: any octets as a request stream, whole and in pieces, under any policy.
//!
//! However a stream is split, the same of it passes, with the same verdict; and whoever reads what
//! has passed as a driver does finds the verified user in each message, whatever a client claimed.
//!
//! Whoever asks for the session of a message hears what a driver reads.
//!
//! Input: an octet of choices, the size of the pieces, then the
//! stream, or one message of it.

#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use sconce::grpc::stamp::{Compressed, Encoding, OnOdd, Piece, Policy, Stamper, Tail};

/// Octets of a message that may come out of a compressed one.
const SMALL: usize = 64;
const LARGE: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some(([choices, piece], octets)) = data.split_first_chunk() else { return };
    let odd = |bit| if choices & bit == 0 { OnOdd::Pass } else { OnOdd::Refuse };
    let policy = Policy {
        repeated: odd(1),
        extensions: odd(2),
        unknown: odd(2),
        compressed: match choices >> 2 & 3 {
            0 => Compressed::Refuse,
            1 => Compressed::Inflate { octets_max: SMALL },
            _ => Compressed::Inflate { octets_max: LARGE },
        },
    };
    let encoding = match choices >> 4 & 3 {
        0 => Encoding::Identity,
        1 => Encoding::Gzip,
        2 => Encoding::Deflate,
        _ => Encoding::Other,
    };
    let stream = match choices >> 6 {
        0 => octets.to_vec(),
        1 => framed(0, octets),
        2 => framed(1, octets),
        _ => framed(1, &compressed(encoding, octets)),
    };
    let piece = usize::from(*piece).max(1);
    let stamper = || Stamper::new(policy, Tail::new("bob", "Bob"), encoding);
    let (whole, sessions, verdict) = pass(stamper(), &stream, stream.len().max(1));
    let (split, again, other) = pass(stamper(), &stream, piece);
    // What is wrong with a compressed message in more than one way is told as it comes to light.
    let inflated = [verdict, other].contains(&Some("envelope.inflated"));
    assert!(verdict == other || (inflated && verdict.is_some() && other.is_some()));
    if verdict.is_some() {
        assert!(whole.starts_with(&split) || split.starts_with(&whole));
        return;
    }
    assert_eq!((&whole, &sessions), (&split, &again), "the split is told apart");
    let mut sessions = sessions.into_iter();
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let (prefix, behind) = rest.split_first_chunk::<5>().expect("a whole prefix");
        assert_eq!(prefix[0], 0, "a message is compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four octets"));
        let (message, behind) = behind.split_at(length as usize);
        assert_eq!(user(message), ("bob".into(), "Bob".into()));
        assert_eq!(sessions.next(), Some(session(message)));
        rest = behind;
    }
});

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

fn compressed(encoding: Encoding, message: &[u8]) -> Vec<u8> {
    let level = Compression::fast();
    if encoding == Encoding::Deflate {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(message).and_then(|()| encoder.finish()).expect("memory is there")
    } else {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(message).and_then(|()| encoder.finish()).expect("memory is there")
    }
}

type Passed = (Vec<u8>, Vec<Option<Vec<u8>>>, Option<&'static str>);

/// What passes of a stream, the session of each message, and why it was refused, if it was.
fn pass(mut stamper: Stamper, stream: &[u8], piece: usize) -> Passed {
    let mut passed = Vec::new();
    let mut sessions = Vec::new();
    for chunk in stream.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut rest = 0..chunk.len();
        loop {
            let next = stamper.next(&mut chunk, &mut rest);
            if matches!(&next, Ok(Some(piece)) if piece.ends_message()) {
                sessions.push(stamper.session().map(<[u8]>::to_vec));
            }
            match next {
                Ok(Some(Piece::Pass(range))) => passed.extend_from_slice(&chunk[range]),
                Ok(Some(Piece::Stamped(range, tail))) => {
                    passed.extend_from_slice(&chunk[range]);
                    passed.extend_from_slice(tail.octets());
                }
                Ok(Some(Piece::Add(addition))) => passed.extend_from_slice(&addition),
                Ok(None) => break,
                Err(refusal) => return (passed, sessions, Some(refusal.label)),
            }
        }
        assert!(rest.is_empty() && !stamper.owes(), "a chunk was not used up");
    }
    (passed, sessions, stamper.end().err().map(|refusal| refusal.label))
}

/// The user of a message as a driver merges it: messages as their octets do one after the other,
/// and the last name wins.
fn user(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let contexts: Vec<_> = named(message, 2).concat();
    let last = |number| named(&contexts, number).pop().unwrap_or_default();
    (last(1), last(2))
}

/// The session of a message as a driver reads it, if it can be one.
fn session(message: &[u8]) -> Option<Vec<u8>> {
    let named = fields(message).into_iter().filter(|(tag, _)| *tag == 1 << 3 | 2);
    let last = named.map(|(_, content)| content).next_back();
    last.filter(|id| (1..=36).contains(&id.len()))
}

fn named(octets: &[u8], wanted: u32) -> Vec<Vec<u8>> {
    let named = fields(octets).into_iter().filter(|(tag, _)| tag >> 3 == wanted);
    named.inspect(|(tag, _)| assert_eq!(tag & 7, 2)).map(|(_, content)| content).collect()
}

/// The tag of each field, and what it holds if it has a length.
fn fields(mut octets: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !octets.is_empty() {
        let tag = varint(&mut octets);
        assert_ne!(tag >> 3, 0);
        let skipped = match tag & 7 {
            0 => {
                varint(&mut octets);
                0
            }
            1 => 8,
            2 => varint(&mut octets) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (content, rest) = octets.split_at(skipped);
        found.push((tag, content.to_vec()));
        octets = rest;
    }
    found
}

/// The lower 32 bits, whatever the others say: so the driver's library reads tags and lengths.
fn varint(octets: &mut &[u8]) -> u32 {
    let mut value = 0_u64;
    for place in 0..10 {
        let octet = octets[0];
        *octets = &octets[1..];
        value |= u64::from(octet & 0x7f).checked_shl(7 * place).unwrap_or(0);
        if octet < 0x80 {
            return value as u32;
        }
    }
    panic!("a varint of more than ten octets");
}
