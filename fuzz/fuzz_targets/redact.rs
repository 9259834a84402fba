//! Redaction: arbitrary octets as a request to Config and as its response, in two splits.
//!
//! Every split gives the same output of the same length. A parser like the client's finds no value
//! of a hidden key, however a driver interprets the request.
//!
//! Input: the length of the pieces, the length of the request, the message of the request, then the
//! response or one message of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::grpc::redact::{HiddenKeys, Redactor, UnreadableResponse};

const KEY: &[u8] = b"spark.secret";

fuzz_target!(|data: &[u8]| {
    let Some((&[piece, length], rest)) = data.split_first_chunk() else { return };
    let (request, octets) = rest.split_at(rest.len().min(usize::from(length)));
    let response = match piece & 1 {
        0 => octets.to_vec(),
        _ => framed(octets),
    };
    let whole = redacted(request, &response, response.len().max(1));
    let split = redacted(request, &response, usize::from(piece >> 1).max(1));
    assert_eq!(split, whole, "pieces of {piece}");
    let Ok(output) = whole else { return };
    assert_eq!(output.len(), response.len());
    let Some(operation) = operation(request) else { return };
    if piece & 1 == 1 && operation != Operation::IsModifiable {
        let shown = pairs(output.get(5..).unwrap_or_default());
        for (key, value) in shown.unwrap_or_default() {
            let is_hidden = match operation {
                Operation::ByPrefix => KEY.ends_with(&key),
                Operation::ByKey | Operation::IsModifiable => key == KEY,
            };
            let is_shown = is_hidden && value.iter().any(|octet| *octet != b'*');
            assert!(!is_shown, "{key:?} is shown: {value:?}");
        }
    }
});

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn redacted(request: &[u8], response: &[u8], piece: usize) -> Result<Vec<u8>, UnreadableResponse> {
    let mut redactor = Redactor::new(HiddenKeys::of([String::from_utf8_lossy(KEY).into_owned()]));
    framed(request).chunks(piece).for_each(|piece| redactor.observe_request(piece));
    let mut all = response.to_vec();
    for piece in all.chunks_mut(piece) {
        redactor.redact(piece)?;
    }
    Ok(all)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    ByKey,
    ByPrefix,
    IsModifiable,
}

/// The operation as a driver parses it: messages are merged, and the last operation counts. `None`
/// for a malformed message and without an operation; a driver answers neither.
fn operation(request: &[u8]) -> Option<Operation> {
    let mut last = None;
    for (number, inner) in fields(request)? {
        let (3, Some(inner)) = (number, inner) else { continue };
        for (number, inner) in fields(inner)? {
            last = match (number, inner) {
                (1..=4 | 6, Some(_)) => Some(Operation::ByKey),
                (5, Some(inner)) if last == Some(Operation::ByPrefix) || has_prefix(inner)? => {
                    Some(Operation::ByPrefix)
                }
                (5, Some(_)) => Some(Operation::ByKey),
                (7, Some(_)) => Some(Operation::IsModifiable),
                _ => last,
            };
        }
    }
    last
}

fn has_prefix(all: &[u8]) -> Option<bool> {
    Some(fields(all)?.iter().any(|(number, inner)| *number == 1 && inner.is_some()))
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Keys and values as a client parses them: the last one counts. `None` for a malformed message.
fn pairs(message: &[u8]) -> Option<Pairs> {
    let mut all = Vec::new();
    for (number, inner) in fields(message)? {
        let (2, Some(inner)) = (number, inner) else { continue };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (number, inner) in fields(inner)? {
            match (number, inner) {
                (1, Some(inner)) => key = inner.to_vec(),
                (2, Some(inner)) => value = inner.to_vec(),
                _ => {}
            }
        }
        all.push((key, value));
    }
    Some(all)
}

/// The fields of a message with their length-delimited content.
fn fields(mut octets: &[u8]) -> Option<Vec<(u64, Option<&[u8]>)>> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        // Bits of a tag above 32 are ignored.
        let tag = varint(&mut octets)? & 0xffff_ffff;
        let inner = match tag & 7 {
            0 => varint(&mut octets).map(|_| None)?,
            1 => octets.split_off(..8).map(|_| None)?,
            2 => {
                let length = usize::try_from(varint(&mut octets)? & 0xffff_ffff).ok()?;
                Some(octets.split_off(..length)?)
            }
            5 => octets.split_off(..4).map(|_| None)?,
            _ => return None,
        };
        all.push((tag >> 3, inner));
    }
    Some(all)
}

fn varint(octets: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let octet = octets.split_off_first()?;
        value |= u64::from(octet & 0x7f).checked_shl(7 * place)?;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
