//! Decoding of header blocks (RFC 7541, 3.2).
//!
//! Protection against amplification: one octet can reference a field of 4,000 octets. Fields over
//! the limits are not copied; decoding continues only to keep the table in sync.

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::fields::{Fields, Indexing};
use crate::wire::hpack::integer;
use crate::wire::hpack::table::{Name, Table};
use crate::wire::hpack::text::{Marks, Text};

/// Limits of a field list.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size in octets as HPACK counts them: decoded name, decoded value, and 32 per field
    /// (RFC 9113, 6.5.2).
    pub octets: usize,
    /// Maximum number of fields.
    pub count: usize,
}

/// The table size before the first SETTINGS, in octets (RFC 9113, 6.5.2).
pub(super) const DEFAULT_TABLE_SIZE: u32 = 4_096;

/// The decoder of one connection.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    advertised: usize,
}

impl Decoder {
    /// A decoder with `table_size` as the advertised SETTINGS_HEADER_TABLE_SIZE, in octets: the
    /// maximum of table size updates. The table starts with 4,096 octets, like the peer's.
    pub fn new(table_size: u32) -> Self {
        Self {
            table: Table::new(usize_from(DEFAULT_TABLE_SIZE)),
            advertised: usize_from(table_size),
        }
    }

    /// Decodes a complete header block into `into`, which is cleared first. A list over the limits
    /// is not an error: see [`Fields::overflow`].
    ///
    /// # Errors
    /// A connection error COMPRESSION_ERROR. The decoder must not be used again.
    pub fn decode(
        &mut self,
        block: &[u8],
        limits: Limits,
        into: &mut Fields,
    ) -> Result<(), DecodeError> {
        into.clear();
        into.reserve(block.len());
        let mut rest = block;
        while rest.first().is_some_and(|first| first & 0xe0 == 0x20) {
            self.resize(&mut rest)?;
        }
        while let Some(first) = rest.first() {
            match first {
                0x80.. => self.indexed(&mut rest, limits, into)?,
                0x40..=0x7f => self.incremental(&mut rest, limits, into)?,
                0x20..=0x3f => return Err(DecodeError::SizeUpdateLate),
                0x10..=0x1f => self.literal(&mut rest, Indexing::Never, limits, into)?,
                0x00..=0x0f => self.literal(&mut rest, Indexing::Without, limits, into)?,
            }
        }
        Ok(())
    }

    /// Frees unused memory of the table.
    pub fn shrink(&mut self) {
        self.table.shrink();
    }

    /// A number that changes with every change of the table. Equal blocks decoded in the same
    /// generation, and that do not change it, have equal fields.
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    fn resize(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        let size = integer::read(rest, 5)?;
        if size > self.advertised {
            return Err(DecodeError::SizeUpdateTooLarge);
        }
        self.table.resize(size);
        Ok(())
    }

    fn indexed(
        &self,
        rest: &mut &[u8],
        limits: Limits,
        into: &mut Fields,
    ) -> Result<(), DecodeError> {
        let (name, value) = self.table.get(integer::read(rest, 7)?)?;
        into.push_limited(decoded(name), value, Indexing::Indexed, limits);
        Ok(())
    }

    fn incremental(
        &mut self,
        rest: &mut &[u8],
        limits: Limits,
        into: &mut Fields,
    ) -> Result<(), DecodeError> {
        let (name, value) = self.name_and_value(rest, 6)?;
        into.push_limited(self.text_of(name)?, value, Indexing::Incremental, limits);
        // The list has a Huffman-coded name in decoded form, unless the list is over its limits.
        match (name, into.last_name()) {
            (Name::Literal(text), Some(name)) if into.overflow().is_none() && text.is_huffman() => {
                self.table.insert(Name::Literal(decoded(name)), value)
            }
            (name, _) => self.table.insert(name, value),
        }
    }

    fn literal(
        &self,
        rest: &mut &[u8],
        indexing: Indexing,
        limits: Limits,
        into: &mut Fields,
    ) -> Result<(), DecodeError> {
        let (name, value) = self.name_and_value(rest, 4)?;
        into.push_limited(self.text_of(name)?, value, indexing, limits);
        Ok(())
    }

    /// Name and value of a literal whose name index has a prefix of `bits`.
    fn name_and_value<'b>(
        &self,
        rest: &mut &'b [u8],
        bits: u32,
    ) -> Result<(Name<'b>, Text<'b>), DecodeError> {
        let name = match integer::read(rest, bits)? {
            0 => Name::Literal(string(rest)?),
            index => {
                self.table.get(index)?;
                Name::Indexed(index)
            }
        };
        Ok((name, string(rest)?))
    }

    fn text_of<'t>(&'t self, name: Name<'t>) -> Result<Text<'t>, DecodeError> {
        match name {
            Name::Literal(text) => Ok(text),
            Name::Indexed(index) => Ok(decoded(self.table.get(index)?.0)),
        }
    }
}

/// A string literal (RFC 7541, 5.2), validated but not decoded.
fn string<'b>(rest: &mut &'b [u8]) -> Result<Text<'b>, DecodeError> {
    let huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer::read(rest, 7)?;
    let (octets, tail) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = tail;
    if huffman { Text::huffman(octets) } else { Ok(Text::raw(octets)) }
}

/// A decoded name from a table. The marks of names are not used.
fn decoded(name: &[u8]) -> Text<'_> {
    Text::stored(name, name.len(), Marks { huffman: false, clean: true })
}

pub(super) fn usize_from(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::codes::tests::huffman;
    use crate::wire::hpack::{Encoder, Overflow};

    const LIMITS: Limits = Limits { octets: 16_384, count: 128 };

    fn decode(blocks: &[&[u8]]) -> Result<Fields, DecodeError> {
        let (mut decoder, mut fields) = (Decoder::new(4_096), Fields::default());
        for block in blocks {
            decoder.decode(block, LIMITS, &mut fields)?;
        }
        Ok(fields)
    }

    fn broken(block: &[u8]) -> Option<DecodeError> {
        decode(&[block]).err()
    }

    fn literal(flags: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = vec![flags];
        for text in [name, value] {
            integer::write(&mut block, 0, 7, text.len());
            block.extend(text);
        }
        block
    }

    #[test]
    fn each_decoding_error_has_its_own_variant() {
        assert_eq!(broken(&[0x80]), Some(DecodeError::IndexZero));
        assert_eq!(broken(&[0xbe]), Some(DecodeError::IndexBeyond));
        assert_eq!(broken(&[0x7e, 0x00]), Some(DecodeError::IndexBeyond));
        assert_eq!(broken(&[0x0f, 0x2f, 0x00]), Some(DecodeError::IndexBeyond));
        assert_eq!(broken(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Some(DecodeError::Integer));
        assert_eq!(broken(&[0x3f, 0xe2, 0x1f]), Some(DecodeError::SizeUpdateTooLarge));
        assert_eq!(broken(&[0x82, 0x20]), Some(DecodeError::SizeUpdateLate));
        assert_eq!(broken(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]), Some(DecodeError::HuffmanEos));
        assert_eq!(broken(&[0x04, 0x81, 0x18]), Some(DecodeError::HuffmanPadding));
        assert_eq!(broken(&[0x00, 0x81, 0x18, 0x00]), Some(DecodeError::HuffmanPadding));
    }

    #[test]
    fn a_block_cut_anywhere_is_truncated_or_has_fewer_fields() {
        let mut block = literal(0x40, b"name", b"value");
        let whole = block.len();
        block.extend(literal(0x10, b"other", &[b'v'; 300]));
        for end in 0..block.len() {
            let cut = decode(&[&block[..end]]).map(|fields| fields.len());
            let want = match end {
                0 => Ok(0),
                _ if end == whole => Ok(1),
                _ => Err(DecodeError::Truncated),
            };
            assert_eq!(cut, want, "{end}");
        }
    }

    #[test]
    fn any_number_of_size_updates_is_valid_at_the_start() {
        let fields = decode(&[&[0x20, 0x3f, 0xe1, 0x1f, 0x20, 0x82]]).unwrap();
        assert_eq!(fields.len(), 1);
        assert!(decode(&[&[0x20]]).is_ok());
    }

    #[test]
    fn a_size_of_zero_clears_the_table() {
        let insert = literal(0x40, b"name", b"value");
        assert_eq!(decode(&[&insert, &[0xbe]]).unwrap().len(), 1);
        assert_eq!(decode(&[&insert, &[0x20, 0xbe]]).err(), Some(DecodeError::IndexBeyond));
        assert_eq!(decode(&[&[0x20], &insert, &[0xbe]]).err(), Some(DecodeError::IndexBeyond));
    }

    #[test]
    fn the_generation_changes_with_every_change_of_the_table() {
        let (mut decoder, mut fields) = (Decoder::new(4_096), Fields::default());
        let mut changes = |block: &[u8]| {
            let before = decoder.generation();
            decoder.decode(block, LIMITS, &mut fields).unwrap();
            decoder.generation() != before
        };
        assert!(changes(&literal(0x40, b"name", b"value")), "insertion");
        assert!(!changes(&[0x82, 0xbe]), "reading");
        assert!(!changes(&literal(0x00, b"name", b"value")), "literal");
        assert!(!changes(&literal(0x10, b"name", b"value")), "never-indexed literal");
        assert!(changes(&literal(0x40, b"name", &[b'v'; 5_000])), "eviction by the too large");
        assert!(changes(&[0x20]), "size update");
    }

    #[test]
    fn limits_count_decoded_octets_and_fields() {
        let coded = huffman(&[b'a'; 80]);
        let mut block = vec![0x04];
        integer::write(&mut block, 0x80, 7, coded.len());
        block.extend(&coded);
        let mut fields = Fields::default();
        let size = 5 + 80 + 32;
        for (octets, count, want) in [
            (size, 1, None),
            (size - 1, 1, Some(Overflow::Octets)),
            (size, 0, Some(Overflow::Count)),
        ] {
            let limits = Limits { octets, count };
            Decoder::new(4_096).decode(&block, limits, &mut fields).unwrap();
            assert_eq!(fields.overflow(), want);
            assert_eq!(fields.len(), usize::from(want.is_none()));
        }
    }

    #[test]
    fn after_an_overflow_the_table_stays_in_sync_and_no_field_is_stored() {
        let (mut decoder, mut fields) = (Decoder::new(4_096), Fields::default());
        let mut block = literal(0x40, b"cookie", &[b'c'; 1_000]);
        block.extend([0xbe; 10_000]);
        block.extend(literal(0x40, b"late", b"entry"));
        decoder.decode(&block, LIMITS, &mut fields).unwrap();
        assert_eq!((fields.overflow(), fields.len()), (Some(Overflow::Octets), 15));
        assert!(fields.size() <= LIMITS.octets);
        decoder.decode(&[0xbe, 0xbf], LIMITS, &mut fields).unwrap();
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        assert_eq!((names, fields.overflow()), (vec![&b"late"[..], b"cookie"], None));
    }

    #[test]
    fn each_field_has_the_indexing_of_its_representation() {
        let mut block = literal(0x40, b"a", b"");
        block.extend(literal(0x00, b"a", b""));
        block.extend(literal(0x10, b"a", b""));
        block.push(0xbe);
        let fields = decode(&[&block]).unwrap();
        let seen: Vec<_> = fields.iter().map(|field| field.indexing).collect();
        use Indexing::{Incremental, Indexed, Never, Without};
        assert_eq!(seen, [Incremental, Without, Never, Indexed]);
    }

    #[test]
    fn a_name_can_come_from_the_entry_that_its_insertion_evicts() {
        let long = literal(0x40, &[b'n'; 2_000], &[b'v'; 2_000]);
        // The same name, and a value that evicts the entry of the name.
        let mut again = vec![0x7e];
        integer::write(&mut again, 0, 7, 2_060);
        again.extend([b'w'; 2_060]);
        let fields = decode(&[&long, &again, &[0xbe]]).unwrap();
        let field = fields.iter().next().unwrap();
        assert_eq!((field.name, field.value.encoded()), (&[b'n'; 2_000][..], &[b'w'; 2_060][..]));
        assert_eq!(decode(&[&long, &again, &[0xbf]]).err(), Some(DecodeError::IndexBeyond));
    }

    #[test]
    fn evictions_use_decoded_sizes() {
        // 0xff's code has 26 bits: the value is 3.25 times as long in Huffman code.
        let coded = huffman(&[0xff; 1_000]);
        let mut block = vec![0x40, 1, b'a'];
        integer::write(&mut block, 0x80, 7, coded.len());
        block.extend(&coded);
        let fields = decode(&[&block, &block, &block, &[0xc0]]).unwrap();
        let field = fields.iter().next().unwrap();
        assert!(field.value.equals(&[0xff; 1_000]));
        assert_eq!(
            decode(&[&block, &block, &block, &block, &[0xc1]]).err(),
            Some(DecodeError::IndexBeyond)
        );
    }

    #[test]
    fn a_huffman_value_goes_on_as_it_came() {
        let coded = huffman(b"token-token");
        let mut block = vec![0x10];
        integer::write(&mut block, 0, 7, 1);
        block.push(b'x');
        integer::write(&mut block, 0x80, 7, coded.len());
        block.extend(&coded);
        let fields = decode(&[&block]).unwrap();
        let mut out = Vec::new();
        Encoder::new().encode(fields.iter(), &mut out);
        assert_eq!(out, block);
    }
}
