//! Prefix integers (RFC 7541, 5.1).
//!
//! Values above 32 bits and endless zero padding are rejected.

use crate::wire::hpack::DecodeError;

/// Maximum number of octets after the prefix: enough for 2^32 - 1.
const FOLLOWING_MAX: u32 = 5;

/// Reads an integer from the front of `rest`. The prefix is the low `bits` (1 to 8) of the first
/// octet.
pub(super) fn read(rest: &mut &[u8], bits: u32) -> Result<usize, DecodeError> {
    let prefix = mask(bits);
    let first = u64::from(octet(rest)? & prefix);
    if first < u64::from(prefix) {
        return narrow(first);
    }
    let mut value = first;
    for index in 0..FOLLOWING_MAX {
        let next = octet(rest)?;
        let group = u64::from(next & 0x7f) << index.saturating_mul(7);
        value = value.saturating_add(group);
        if next & 0x80 == 0 {
            return narrow(value);
        }
    }
    Err(DecodeError::Integer)
}

/// Appends `value` with a prefix of `bits`; `flags` are the bits of the first octet above it.
pub(super) fn write(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let prefix = mask(bits);
    match u8::try_from(value) {
        Ok(small) if small < prefix => out.push(flags | small),
        Ok(_) | Err(_) => write_long(out, flags | prefix, value.saturating_sub(prefix.into())),
    }
}

fn write_long(out: &mut Vec<u8>, first: u8, mut left: usize) {
    out.push(first);
    while left >= 0x80 {
        out.push(low_seven(left) | 0x80);
        left >>= 7;
    }
    out.push(low_seven(left));
}

fn low_seven(value: usize) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0x7f)
}

fn mask(bits: u32) -> u8 {
    0xff_u8 >> 8_u32.saturating_sub(bits)
}

fn octet(rest: &mut &[u8]) -> Result<u8, DecodeError> {
    let (&first, tail) = rest.split_first().ok_or(DecodeError::Truncated)?;
    *rest = tail;
    Ok(first)
}

fn narrow(value: u64) -> Result<usize, DecodeError> {
    u32::try_from(value)
        .ok()
        .and_then(|value| usize::try_from(value).ok())
        .ok_or(DecodeError::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(octets: &[u8], bits: u32) -> Result<usize, DecodeError> {
        let mut rest = octets;
        let value = read(&mut rest, bits)?;
        assert!(rest.is_empty(), "{octets:?} leaves {rest:?}");
        Ok(value)
    }

    #[test]
    fn the_examples_of_rfc_7541_c_1() {
        for (bits, flags, value, octets) in [
            (5, 0, 10, vec![0x0a]),
            (5, 0, 1337, vec![0x1f, 0x9a, 0x0a]),
            (8, 0, 42, vec![0x2a]),
            (5, 0xe0, 31, vec![0xff, 0x00]),
        ] {
            let mut out = Vec::new();
            write(&mut out, flags, bits, value);
            assert_eq!(out, octets);
            assert_eq!(read_all(&octets, bits), Ok(value));
        }
    }

    #[test]
    fn every_value_survives_writing_and_reading_with_every_prefix() {
        for bits in 1..=8 {
            for value in (0..70_000).chain([u32::MAX as usize - 1, u32::MAX as usize]) {
                let mut out = Vec::new();
                write(&mut out, 0, bits, value);
                assert_eq!(read_all(&out, bits), Ok(value));
            }
        }
    }

    #[test]
    fn values_above_32_bits_are_rejected() {
        let mut out = Vec::new();
        write(&mut out, 0, 7, u32::MAX as usize + 1);
        assert_eq!(read_all(&out, 7), Err(DecodeError::Integer));
        assert_eq!(read_all(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 7), Err(DecodeError::Integer));
    }

    #[test]
    fn endless_padding_is_rejected() {
        assert_eq!(read_all(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 7), Ok(127));
        assert_eq!(
            read(&mut &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..], 7),
            Err(DecodeError::Integer)
        );
    }

    #[test]
    fn an_integer_cut_short_is_truncated() {
        for octets in [&[][..], &[0x7f], &[0x7f, 0x80]] {
            assert_eq!(read_all(octets, 7), Err(DecodeError::Truncated));
        }
    }
}
