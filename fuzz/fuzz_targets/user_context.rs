//! Writing of `user_context`: arbitrary octets as a request stream, in two splits, under any policy.
//!
//! Every split gives the same output and the same result. A parser like the driver's finds the
//! verified user in each message of the output, and the same session id as the writer.
//!
//! Input: an octet of options, the length of the pieces, then the stream or one message of it.

#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use sconce::grpc::user_context::{
    AmbiguityPolicy, CompressionPolicy, Encoding, OutputChunk, Policy, UserContextField,
    UserContextWriter,
};

/// Maximum lengths of an inflated message, in octets.
const SMALL: usize = 64;
const LARGE: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some(([choices, piece], octets)) = data.split_first_chunk() else { return };
    let policy_of =
        |bit| if choices & bit == 0 { AmbiguityPolicy::Pass } else { AmbiguityPolicy::Refuse };
    let policy = Policy {
        repeated: policy_of(1),
        extensions: policy_of(2),
        unknown: policy_of(2),
        compressed: match choices >> 2 & 3 {
            0 => CompressionPolicy::Refuse,
            1 => CompressionPolicy::Inflate { octets_max: SMALL },
            _ => CompressionPolicy::Inflate { octets_max: LARGE },
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
    let writer = || UserContextWriter::new(policy, UserContextField::new("bob", "Bob"), encoding);
    let (whole, sessions, label) = rewrite(writer(), &stream, stream.len().max(1));
    let (split, again, other) = rewrite(writer(), &stream, piece);
    // A compressed message with several errors may be refused for the one detected first.
    let inflated = [label, other].contains(&Some("envelope.inflated"));
    assert!(label == other || (inflated && label.is_some() && other.is_some()));
    if label.is_some() {
        assert!(whole.starts_with(&split) || split.starts_with(&whole));
        return;
    }
    assert_eq!((&whole, &sessions), (&split, &again), "the split changes the output");
    let mut sessions = sessions.into_iter();
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let (prefix, after) = rest.split_first_chunk::<5>().expect("a complete prefix");
        assert_eq!(prefix[0], 0, "a message is compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four octets"));
        let (message, after) = after.split_at(length as usize);
        assert_eq!(user(message), ("bob".into(), "Bob".into()));
        assert_eq!(sessions.next(), Some(session(message)));
        rest = after;
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

type Rewritten = (Vec<u8>, Vec<Option<Vec<u8>>>, Option<&'static str>);

/// The output for a stream, the session id of each message, and the label of the refusal, if any.
fn rewrite(mut writer: UserContextWriter, stream: &[u8], piece: usize) -> Rewritten {
    let mut output = Vec::new();
    let mut sessions = Vec::new();
    for chunk in stream.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut rest = 0..chunk.len();
        loop {
            let next = writer.next_chunk(&mut chunk, &mut rest);
            if matches!(&next, Ok(Some(piece)) if piece.ends_message()) {
                sessions.push(writer.session().map(<[u8]>::to_vec));
            }
            match next {
                Ok(Some(OutputChunk::Forward(range))) => output.extend_from_slice(&chunk[range]),
                Ok(Some(OutputChunk::ForwardWithUserContext(range, field))) => {
                    output.extend_from_slice(&chunk[range]);
                    output.extend_from_slice(field.octets());
                }
                Ok(Some(OutputChunk::Insert(insertion))) => output.extend_from_slice(&insertion),
                Ok(None) => break,
                Err(refusal) => return (output, sessions, Some(refusal.label)),
            }
        }
        assert!(rest.is_empty() && !writer.expects_more(), "a chunk is not used up");
    }
    (output, sessions, writer.end().err().map(|refusal| refusal.label))
}

/// The user of a message as a driver merges it: messages are concatenated, and the last name wins.
fn user(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let contexts: Vec<_> = named(message, 2).concat();
    let last = |number| named(&contexts, number).pop().unwrap_or_default();
    (last(1), last(2))
}

/// The session id of a message as a driver parses it, if valid.
fn session(message: &[u8]) -> Option<Vec<u8>> {
    let named = fields(message).into_iter().filter(|(tag, _)| *tag == 1 << 3 | 2);
    let last = named.map(|(_, content)| content).next_back();
    last.filter(|id| (1..=36).contains(&id.len()))
}

fn named(octets: &[u8], wanted: u32) -> Vec<Vec<u8>> {
    let named = fields(octets).into_iter().filter(|(tag, _)| tag >> 3 == wanted);
    named.inspect(|(tag, _)| assert_eq!(tag & 7, 2)).map(|(_, content)| content).collect()
}

/// The tag and the length-delimited content of each field.
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

/// A varint truncated to 32 bits, as the driver's library reads tags and lengths.
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
