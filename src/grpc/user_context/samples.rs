//! Samples for tests: streams of clients, and an independent parser.
//!
//! The parser decodes protobuf like the driver's library, including its truncation to 32 bits:
//! messages that it would misread must be refused.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use sconce_filters::Refusal;

use crate::grpc::user_context::{
    AmbiguityPolicy, CompressionPolicy, Encoding, OutputChunk, Policy, UserContextField,
    UserContextWriter,
};

/// Refuses everything that can be refused.
pub(super) const STRICT: Policy = Policy {
    repeated: AmbiguityPolicy::Refuse,
    extensions: AmbiguityPolicy::Refuse,
    unknown: AmbiguityPolicy::Refuse,
    compressed: CompressionPolicy::Refuse,
};

/// Passes everything that can pass.
pub(super) const LAX: Policy = Policy {
    repeated: AmbiguityPolicy::Pass,
    extensions: AmbiguityPolicy::Pass,
    unknown: AmbiguityPolicy::Pass,
    compressed: CompressionPolicy::Inflate { octets_max: 1 << 20 },
};

/// The verified user, and its encoded `user_context`.
pub(super) const BOB: (&[u8], &[u8]) = (b"bob", b"Bob");
pub(super) const USER_CONTEXT: &[u8] = b"\x12\x0a\x0a\x03bob\x12\x03Bob";

pub(super) fn writer(policy: Policy, encoding: Encoding) -> UserContextWriter {
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

/// A message with its prefix.
pub(super) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

/// The output for a stream in chunks of these sizes, repeated, and the result of its end.
pub(super) fn pass(
    writer: &mut UserContextWriter,
    octets: &[u8],
    sizes: &[usize],
) -> (Vec<u8>, Result<(), Refusal>) {
    let (mut octets, mut passed) = (octets.to_vec(), Vec::new());
    let mut at = 0;
    for size in sizes.iter().cycle() {
        let mut rest = at..octets.len().min(at + size);
        at = rest.end;
        loop {
            match writer.next_chunk(&mut octets, &mut rest) {
                Ok(Some(OutputChunk::Forward(range))) => passed.extend_from_slice(&octets[range]),
                Ok(Some(OutputChunk::ForwardWithUserContext(range, field))) => {
                    passed.extend_from_slice(&octets[range]);
                    passed.extend_from_slice(field.octets());
                }
                Ok(Some(OutputChunk::Insert(insertion))) => passed.extend_from_slice(&insertion),
                Ok(None) => break,
                Err(refusal) => {
                    assert!(writer.next_chunk(&mut octets, &mut rest).is_err());
                    assert!(writer.end().is_err());
                    return (passed, Err(refusal));
                }
            }
        }
        assert!(rest.is_empty() && !writer.expects_more());
        if at == octets.len() {
            break;
        }
    }
    (passed, writer.end())
}

/// The messages of a complete stream.
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
    // Merging messages is concatenating their octets.
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

/// A varint, truncated to 32 bits.
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
