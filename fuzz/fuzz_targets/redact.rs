//! Redact: any octets as a request to Config and as its answer, whole and in pieces.
//!
//! However both are split, the same of the answer passes and nothing moves; and whoever reads what
//! has passed finds no value under a key that is hidden, whatever a driver makes of the request.
//!
//! Input: the size of the pieces, the length of the request, the request's message, then the answer,
//! or one message of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::grpc::redact::{Hidden, Redactor, Unreadable};

const KEY: &[u8] = b"spark.secret";

fuzz_target!(|data: &[u8]| {
    let Some((&[piece, length], rest)) = data.split_first_chunk() else { return };
    let (request, octets) = rest.split_at(rest.len().min(usize::from(length)));
    let answer = match piece & 1 {
        0 => octets.to_vec(),
        _ => framed(octets),
    };
    let whole = redacted(request, &answer, answer.len().max(1));
    let in_pieces = redacted(request, &answer, usize::from(piece >> 1).max(1));
    assert_eq!(in_pieces, whole, "pieces of {piece}");
    let Ok(told) = whole else { return };
    assert_eq!(told.len(), answer.len());
    let Some(operation) = operation(request) else { return };
    if piece & 1 == 1 && operation != Operation::IsModifiable {
        let shown = pairs(told.get(5..).unwrap_or_default());
        for (key, value) in shown.unwrap_or_default() {
            let secret = match operation {
                Operation::ByPrefix => KEY.ends_with(&key),
                Operation::ByKey | Operation::IsModifiable => key == KEY,
            };
            let hidden = secret && value.iter().any(|octet| *octet != b'*');
            assert!(!hidden, "{key:?} is told: {value:?}");
        }
    }
});

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn redacted(request: &[u8], answer: &[u8], piece: usize) -> Result<Vec<u8>, Unreadable> {
    let mut redactor = Redactor::new(Hidden::of([String::from_utf8_lossy(KEY).into_owned()]));
    framed(request).chunks(piece).for_each(|piece| redactor.hear(piece));
    let mut all = answer.to_vec();
    for piece in all.chunks_mut(piece) {
        redactor.take(piece)?;
    }
    Ok(all)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    ByKey,
    ByPrefix,
    IsModifiable,
}

/// What a driver takes a request for: messages merge, and of the operations the last counts. `None`
/// for what is no message, and for no operation, which are not answered.
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

/// Keys and values as a client reads them: of each the last counts. `None` for what is no message.
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

/// The fields of a message, each with what is in it if it has a length.
fn fields(mut octets: &[u8]) -> Option<Vec<(u64, Option<&[u8]>)>> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        // Whatever a tag has beyond 32 bits is dropped.
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
