//! Protobuf, as far as sconce writes it: numbers, and octets with their length.
//!
//! Only fields 1 to 15, whose tags are one octet. Reading is the business of who reads.

/// Writes a number; zero is what an absent field means, and is left out.
pub(super) fn put_number(into: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        into.push(field << 3);
        put_varint(into, number);
    }
}

/// Writes text, octets or a message, the empty one too.
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
