//! Encoding of header blocks (RFC 7541, 3.1).
//!
//! Values keep their encoding, Huffman or not. Credentials and fields that the previous hop marked
//! never-indexed are not indexed.

use crate::wire::hpack::decode::{DEFAULT_TABLE_SIZE, usize_from};
use crate::wire::hpack::fields::{Field, Indexing};
use crate::wire::hpack::integer;
use crate::wire::hpack::static_table::Lookup;
use crate::wire::hpack::table::{Name, Table, size_of};
use crate::wire::hpack::text::Text;

/// Maximum size of the table in octets, whatever the peer allows.
const SIZE_MAX: u32 = DEFAULT_TABLE_SIZE;

/// The encoder of one connection.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: Table,
    /// The smallest table size since the last block, if it changed.
    smallest_size: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with a table of 4,096 octets, the default of SETTINGS_HEADER_TABLE_SIZE.
    pub fn new() -> Self {
        Self { table: Table::new(usize_from(DEFAULT_TABLE_SIZE)), smallest_size: None }
    }

    /// Applies the peer's SETTINGS_HEADER_TABLE_SIZE; at most 4,096 octets are used. The next block
    /// begins with a size update (RFC 7541, 4.2).
    pub fn limit_table(&mut self, peer_max: u32) {
        self.resize(usize_from(peer_max.min(SIZE_MAX)));
    }

    /// Evicts all entries, so that earlier blocks do not affect later ones.
    pub fn clear_table(&mut self) {
        let size = self.table.size_max();
        self.resize(0);
        self.resize(size);
    }

    fn resize(&mut self, size: usize) {
        if size == self.table.size_max() && self.smallest_size.is_none() {
            return;
        }
        self.smallest_size = Some(self.smallest_size.map_or(size, |smallest| smallest.min(size)));
        self.table.resize(size);
    }

    /// Frees unused memory of the table.
    pub fn shrink(&mut self) {
        self.table.shrink();
    }

    /// A number that changes with every change of the table. Equal fields encoded in the same
    /// generation, and that do not change it, have equal blocks.
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// Appends one complete header block to `out`.
    pub fn encode<'f>(&mut self, fields: impl IntoIterator<Item = Field<'f>>, out: &mut Vec<u8>) {
        self.write_size_updates(out);
        for field in fields {
            match representation(&field) {
                Representation::Indexed => self.encode_indexed(&field, out),
                Representation::Without => self.literal(&field, WITHOUT, out),
                Representation::Never => self.literal(&field, NEVER, out),
            }
        }
    }

    fn write_size_updates(&mut self, out: &mut Vec<u8>) {
        let Some(smallest) = self.smallest_size.take() else { return };
        self.table.bump_generation();
        let size = self.table.size_max();
        if smallest < size {
            integer::write(out, 0x20, 5, smallest);
        }
        integer::write(out, 0x20, 5, size);
    }

    fn encode_indexed(&mut self, field: &Field<'_>, out: &mut Vec<u8>) {
        let name = match self.table.find(field.name, Some(&field.value)) {
            Lookup::Field(index) => return integer::write(out, 0x80, 7, index),
            Lookup::Name(index) => Some(index),
            Lookup::NotFound => None,
        };
        // An entry above three quarters of the table would evict nearly all others.
        let size = size_of(field.name.len(), field.value.decoded_len());
        let size_max = self.table.size_max();
        if size > size_max.saturating_sub(size_max >> 2) {
            return literal(field, name, WITHOUT, out);
        }
        literal(field, name, INCREMENTAL, out);
        let name = name.map_or(Name::Literal(Text::raw(field.name)), Name::Indexed);
        let inserted = self.table.insert(name, field.value);
        debug_assert!(inserted.is_ok(), "the name was found a moment ago");
    }

    fn literal(&self, field: &Field<'_>, form: Form, out: &mut Vec<u8>) {
        let name = match self.table.find(field.name, None) {
            Lookup::Field(index) | Lookup::Name(index) => Some(index),
            Lookup::NotFound => None,
        };
        literal(field, name, form, out);
    }
}

/// The first octet of a literal, and the prefix length of the name index (RFC 7541, 6.2).
type Form = (u8, u32);
const INCREMENTAL: Form = (0x40, 6);
const WITHOUT: Form = (0x00, 4);
const NEVER: Form = (0x10, 4);

/// Writes a literal with an indexed name or a literal name.
fn literal(field: &Field<'_>, name: Option<usize>, (flags, bits): Form, out: &mut Vec<u8>) {
    integer::write(out, flags, bits, name.unwrap_or(0));
    if name.is_none() {
        string(out, &Text::raw(field.name));
    }
    string(out, &field.value);
}

/// The representation of a field (RFC 7541, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Representation {
    /// An index, or a literal with incremental indexing.
    Indexed,
    Without,
    Never,
}

fn representation(field: &Field<'_>) -> Representation {
    if is_credential(field.name) {
        return Representation::Never;
    }
    match field.indexing {
        Indexing::Never => Representation::Never,
        Indexing::Without => Representation::Without,
        Indexing::Indexed | Indexing::Incremental if is_per_call(field.name) => {
            Representation::Without
        }
        Indexing::Indexed | Indexing::Incremental => Representation::Indexed,
    }
}

fn is_credential(name: &[u8]) -> bool {
    name == b"authorization"
}

/// Whether the value differs with each call, so that an entry would never be used.
fn is_per_call(name: &[u8]) -> bool {
    matches!(
        name,
        b"grpc-timeout"
            | b"grpc-message"
            | b"grpc-status-details-bin"
            | b"content-length"
            | b"traceparent"
            | b"tracestate"
            | b"x-request-id"
    )
}

fn string(out: &mut Vec<u8>, text: &Text<'_>) {
    let flags = if text.is_huffman() { 0x80 } else { 0x00 };
    integer::write(out, flags, 7, text.encoded().len());
    out.extend_from_slice(text.encoded());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::codes::tests::huffman;
    use crate::wire::hpack::{Decoder, Fields, Limits};

    fn field<'f>(name: &'f [u8], value: &'f [u8], indexing: Indexing) -> Field<'f> {
        Field { name, value: Text::raw(value), indexing }
    }

    fn encode(encoder: &mut Encoder, field: Field<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.encode([field], &mut out);
        out
    }

    #[test]
    fn a_field_in_a_table_is_encoded_as_its_index() {
        let mut encoder = Encoder::new();
        let method = field(b":method", b"POST", Indexing::Incremental);
        assert_eq!(encode(&mut encoder, method), [0x83]);
        let coded = huffman(b"POST");
        let coded = Text::huffman(&coded).unwrap();
        assert_eq!(encode(&mut encoder, Field { value: coded, ..method }), [0x83]);
        let own = field(b"x", b"y", Indexing::Indexed);
        assert_eq!(encode(&mut encoder, own), [0x40, 1, b'x', 1, b'y']);
        assert_eq!(encode(&mut encoder, own), [0xbe]);
        assert_eq!(encode(&mut encoder, field(b"x", b"z", Indexing::Indexed)), [0x7e, 1, b'z']);
        assert_eq!(encode(&mut encoder, own), [0xbf]);
    }

    #[test]
    fn a_cleared_table_does_not_affect_later_blocks() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE_SIZE));
        let limits = Limits { octets: 10_000, count: 100 };
        let own = field(b"x", b"secret", Indexing::Incremental);
        let mut read = Fields::default();
        decoder.decode(&encode(&mut encoder, own), limits, &mut read).unwrap();
        let generation = encoder.generation();
        encoder.clear_table();
        assert_ne!(encoder.generation(), generation);
        let block = encode(&mut encoder, own);
        let anew = encode(&mut Encoder::new(), own);
        assert_eq!(block, [&[0x20, 0x3f, 0xe1, 0x1f], &*anew].concat());
        decoder.decode(&block, limits, &mut read).unwrap();
        assert_eq!(encode(&mut encoder, own), [0xbe]);
        decoder.decode(&[0xbe], limits, &mut read).unwrap();
        assert_eq!(read.iter().next().map(|field| field.name.to_vec()), Some(b"x".to_vec()));
    }

    #[test]
    fn never_indexed_fields_and_credentials_are_not_indexed() {
        let mut encoder = Encoder::new();
        let before = encoder.generation();
        let first = |encoder: &mut Encoder, name: &[u8], indexing| {
            encode(encoder, field(name, b"v", indexing))[0] & 0xf0
        };
        use Indexing::{Incremental, Indexed, Never, Without};
        assert_eq!(first(&mut encoder, b"x", Never), 0x10);
        assert_eq!(first(&mut encoder, b"x", Without), 0x00);
        for name in [&b"grpc-timeout"[..], b"x-request-id", b"traceparent", b"grpc-message"] {
            assert_eq!(first(&mut encoder, name, Incremental), 0x00);
        }
        for indexing in [Indexed, Incremental, Without, Never] {
            assert_eq!(first(&mut encoder, b"authorization", indexing), 0x10);
        }
        assert_eq!(encoder.generation(), before);
        assert_eq!(first(&mut encoder, b":path", Incremental), 0x40);
        assert_ne!(encoder.generation(), before);
    }

    #[test]
    fn a_field_above_three_quarters_of_the_table_is_not_indexed() {
        let mut encoder = Encoder::new();
        let fits = vec![b'v'; 3_072 - 32 - 1];
        let large = vec![b'v'; 3_072 - 32];
        assert_eq!(encode(&mut encoder, field(b"x", &large, Indexing::Incremental))[0], 0x00);
        assert_eq!(encode(&mut encoder, field(b"x", &fits, Indexing::Incremental))[0], 0x40);
    }

    #[test]
    fn the_smallest_and_the_last_size_are_announced_once() {
        let mut encoder = Encoder::new();
        let method = field(b":method", b"POST", Indexing::Incremental);
        encoder.limit_table(4_096);
        assert_eq!(encode(&mut encoder, method), [0x83], "no change");
        encoder.limit_table(1 << 20);
        assert_eq!(encode(&mut encoder, method), [0x83], "no more than 4,096 is ever used");
        for size in [100, 0, 10, 256] {
            encoder.limit_table(size);
        }
        let generation = encoder.generation();
        assert_eq!(encode(&mut encoder, method), [0x20, 0x3f, 0xe1, 0x01, 0x83]);
        assert_ne!(encoder.generation(), generation, "a repetition of the block would be wrong");
        assert_eq!(encode(&mut encoder, method), [0x83]);
        encoder.limit_table(0);
        assert_eq!(encode(&mut encoder, method), [0x20, 0x83]);
        encoder.limit_table(4_096);
        encoder.limit_table(0);
        assert_eq!(encode(&mut encoder, method), [0x20, 0x83]);
    }

    #[test]
    fn without_a_table_nothing_is_inserted() {
        let mut encoder = Encoder::new();
        encoder.limit_table(0);
        encoder.encode([], &mut Vec::new());
        let own = field(b"x", b"y", Indexing::Incremental);
        assert_eq!(encode(&mut encoder, own), [0x00, 1, b'x', 1, b'y']);
        assert_eq!(encode(&mut encoder, own), [0x00, 1, b'x', 1, b'y']);
    }

    #[test]
    fn a_value_longer_in_huffman_code_survives_encoding_and_decoding() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4_096));
        let coded = huffman(&[0xff; 300]);
        let value = Text::huffman(&coded).unwrap();
        let field = Field { name: b"x", value, indexing: Indexing::Incremental };
        let (mut fields, mut seen) = (Fields::default(), 0);
        for _ in 0..40 {
            let block = encode(&mut encoder, field);
            let limits = Limits { octets: 4_096, count: 8 };
            decoder.decode(&block, limits, &mut fields).unwrap();
            seen += fields.iter().filter(|field| field.value.equals(&[0xff; 300])).count();
        }
        assert_eq!(seen, 40);
    }
}
