//! Samples for tests: streams as clients send them, and a reader that shares nothing with ours.
//!
//! The reader takes protobuf as the driver's library does, truncation included: what it would
//! misread must have been refused.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use sconce_filters::Refusal;

use crate::grpc::user_context::{
    AmbiguityPolicy, CompressionPolicy, Encoding, OutputChunk, Policy, UserContextField,
    UserContextWriter,
};

/// All that may be refused is.
pub(super) const STRICT: Policy = Policy {
    repeated: AmbiguityPolicy::Refuse,
    extensions: AmbiguityPolicy::Refuse,
    unknown: AmbiguityPolicy::Refuse,
    compressed: CompressionPolicy::Refuse,
};

/// All that may pass does.
pub(super) const LAX: Policy = Policy {
    repeated: AmbiguityPolicy::Pass,
    extensions: AmbiguityPolicy::Pass,
    unknown: AmbiguityPolicy::Pass,
    compressed: CompressionPolicy::Inflate { octets_max: 1 << 20 },
};

/// The user of every stamp here, and the octets of the stamp.
pub(super) const BOB: (&[u8], &[u8]) = (b"bob", b"Bob");
pub(super) const TAIL: &[u8] = b"\x12\x0a\x0a\x03bob\x12\x03Bob";

pub(super) fn stamper(policy: Policy, encoding: Encoding) -> UserContextWriter {
    UserContextWriter::new(policy, UserContextField::new("bob", "Bob"), encoding)
}

pub(super) fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zlib(octets: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// A message behind its prefix.
pub(super) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

/// What passes of a stream that comes in chunks of these sizes, over and over, and how it ends.
pub(super) fn pass(
    stamper: &mut UserContextWriter,
    octets: &[u8],
    sizes: &[usize],
) -> (Vec<u8>, Result<(), Refusal>) {
    let (mut octets, mut passed) = (octets.to_vec(), Vec::new());
    let mut at = 0;
    for size in sizes.iter().cycle() {
        let mut rest = at..octets.len().min(at + size);
        at = rest.end;
        loop {
            match stamper.next_chunk(&mut octets, &mut rest) {
                Ok(Some(OutputChunk::Forward(range))) => passed.extend_from_slice(&octets[range]),
                Ok(Some(OutputChunk::ForwardWithUserContext(range, tail))) => {
                    passed.extend_from_slice(&octets[range]);
                    passed.extend_from_slice(tail.octets());
                }
                Ok(Some(OutputChunk::Insert(addition))) => passed.extend_from_slice(&addition),
                Ok(None) => break,
                Err(refusal) => {
                    assert!(stamper.next_chunk(&mut octets, &mut rest).is_err());
                    assert!(stamper.end().is_err());
                    return (passed, Err(refusal));
                }
            }
        }
        assert!(rest.is_empty() && !stamper.expects_more());
        if at == octets.len() {
            break;
        }
    }
    (passed, stamper.end())
}

/// The messages of a stream that is whole.
pub(super) fn messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let (prefix, rest) = stream.split_first_chunk::<5>().unwrap();
        assert_eq!(prefix[0], 0, "a message is compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        let (message, rest) = rest.split_at(usize::try_from(length).unwrap());
        messages.push(message);
        stream = rest;
    }
    messages
}

/// `user_id` and `user_name` of a message, as a driver merges them.
pub(super) fn user(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let named = |fields: &[(u32, Option<&[u8]>)], wanted| {
        let fields = fields.iter().filter(|(number, _)| *number == wanted);
        fields.map(|(_, content)| content.unwrap().to_vec()).collect::<Vec<_>>()
    };
    // Messages merge as their octets do one after the other.
    let context = named(&fields(message), 2).concat();
    let fields = fields(&context);
    let last = |wanted| named(&fields, wanted).pop().unwrap_or_default();
    (last(1), last(2))
}

fn fields(mut octets: &[u8]) -> Vec<(u32, Option<&[u8]>)> {
    let mut fields = Vec::new();
    while !octets.is_empty() {
        let tag = varint(&mut octets);
        assert_ne!(tag >> 3, 0);
        let content = match tag & 7 {
            0 => {
                varint(&mut octets);
                None
            }
            1 => octets.split_off(..8).map(|_| None).unwrap(),
            2 => Some(usize::try_from(varint(&mut octets)).unwrap())
                .map(|length| octets.split_off(..length).unwrap()),
            5 => octets.split_off(..4).map(|_| None).unwrap(),
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, content));
    }
    fields
}

/// The lower 32 bits, whatever the others say.
fn varint(octets: &mut &[u8]) -> u32 {
    let mut value = 0;
    for place in 0..10 {
        let octet = *octets.split_off_first().unwrap();
        value |= u64::from(octet & 0x7f).checked_shl(7 * place).unwrap_or(0);
        if octet < 0x80 {
            return u32::try_from(value & 0xffff_ffff).unwrap();
        }
    }
    panic!("a varint of more than ten octets")
}
