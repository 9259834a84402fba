//! Redact: any octets as an answer to Config, whole and in pieces.
//!
//! However an answer is split, the same of it passes and nothing moves; and whoever reads what has
//! passed finds no value under a key that is hidden.
//!
//! Input: the size of the pieces, then the answer, or one message of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::grpc::redact::{Hidden, Redactor, Unreadable};

const KEY: &[u8] = b"spark.secret";

fuzz_target!(|data: &[u8]| {
    let Some((piece, octets)) = data.split_first() else { return };
    let answer = match piece & 1 {
        0 => octets.to_vec(),
        _ => framed(octets),
    };
    let whole = redacted(&answer, answer.len().max(1));
    assert_eq!(redacted(&answer, usize::from(*piece >> 1).max(1)), whole, "pieces of {piece}");
    let Ok(told) = whole else { return };
    assert_eq!(told.len(), answer.len());
    if piece & 1 == 1 {
        let shown = pairs(told.get(5..).unwrap_or_default());
        for (key, value) in shown.unwrap_or_default() {
            let hidden = KEY.ends_with(&key) && value.iter().any(|octet| *octet != b'*');
            assert!(!hidden, "{key:?} is told: {value:?}");
        }
    }
});

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn redacted(answer: &[u8], piece: usize) -> Result<Vec<u8>, Unreadable> {
    let mut redactor = Redactor::new(Hidden::of([String::from_utf8_lossy(KEY).into_owned()]));
    let mut all = answer.to_vec();
    for piece in all.chunks_mut(piece) {
        redactor.take(piece)?;
    }
    Ok(all)
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
        let tag = varint(&mut octets)?;
        let inner = match tag & 7 {
            0 => varint(&mut octets).map(|_| None)?,
            1 => octets.split_off(..8).map(|_| None)?,
            2 => {
                let length = usize::try_from(varint(&mut octets)?).ok()?;
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
