//! Protobuf primitives: writing of numbers and length-delimited fields, reading of varints.
//!
//! Only fields 1 to 15 are written; their tags have one octet.

/// Maximum length of a varint, in octets (protobuf, "Base 128 Varints").
const VARINT_MAX: u8 = 10;

/// Writes a number, unless it is zero, the default of an absent field.
pub(super) fn put_number(into: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        into.push(field << 3);
        put_varint(into, number);
    }
}

/// Writes a length-delimited field, also an empty one.
pub(super) fn put_octets(into: &mut Vec<u8>, field: u8, octets: &[u8]) {
    into.push(field << 3 | 2);
    put_varint(into, u64::try_from(octets.len()).unwrap_or(u64::MAX));
    into.extend_from_slice(octets);
}

fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return into.push(low);
        }
        into.push(low | 0x80);
    }
}

/// A partial varint: groups of seven bits, the lowest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Varint {
    value: u64,
    octets: u8,
}

/// A varint above 64 bits, or of more than ten octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct VarintTooLong;

impl Varint {
    /// Whether no octet has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// Adds an octet. Returns the number if it is complete.
    pub(super) fn push(&mut self, octet: u8) -> Result<Option<u64>, VarintTooLong> {
        let group = u64::from(octet & 0x7f);
        let places = u32::from(self.octets).saturating_mul(7);
        let shifted = group.checked_shl(places).unwrap_or(0);
        if shifted.checked_shr(places) != Some(group) {
            return Err(VarintTooLong);
        }
        self.value |= shifted;
        self.octets = self.octets.saturating_add(1);
        match octet & 0x80 {
            0 => Ok(Some(self.value)),
            _ if self.octets == VARINT_MAX => Err(VarintTooLong),
            _ => Ok(None),
        }
    }
}
