//! HPACK: properties of the decoder and the encoder for arbitrary blocks.
//!
//! Input: three octets of settings, then blocks with a length of two octets each.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::wire::hpack::{Decoder, Encoder, Fields, Indexing, Limits};

const TABLE: u32 = 4_096;
const WIDE: Limits = Limits { octets: usize::MAX, count: usize::MAX };

fuzz_target!(|data: &[u8]| {
    let Some((&[octets, count, table], blocks)) = data.split_first_chunk() else { return };
    let tight = Limits { octets: usize::from(octets) << 5, count: usize::from(count) };
    let mut harness = Harness::new();
    harness.encoder.limit_table(u32::from(table) << 5);
    for block in Blocks(blocks) {
        if !harness.check(block, tight) {
            return;
        }
    }
});

/// Splits the input into blocks.
struct Blocks<'a>(&'a [u8]);

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        self.0 = rest;
        Some(block)
    }
}

/// Decoders for one connection, an encoder, and references.
struct Harness {
    wide: Decoder,
    tight: Decoder,
    /// Another implementation.
    reference: fluke_hpack::Decoder<'static>,
    encoder: Encoder,
    /// Decodes the output of the encoder.
    reader: Decoder,
    generation: u64,
}

impl Harness {
    fn new() -> Self {
        let mut reference = fluke_hpack::Decoder::new();
        reference.set_max_allowed_table_size(TABLE as usize);
        Self {
            wide: Decoder::new(TABLE),
            tight: Decoder::new(TABLE),
            reference,
            encoder: Encoder::new(),
            reader: Decoder::new(TABLE),
            generation: 0,
        }
    }

    /// Checks one block. `false`: it is malformed.
    fn check(&mut self, block: &[u8], limits: Limits) -> bool {
        let mut fields = Fields::default();
        let result = self.wide.decode(block, WIDE, &mut fields);
        self.check_limits(block, limits, result.is_ok(), &fields);
        if result.is_err() {
            return false;
        }
        let listed = listed(&fields);
        let size: usize = listed.iter().map(|field| field.0.len() + field.1.len() + 32).sum();
        assert_eq!(size, fields.size());
        // One more field: the reference rejects a block with a size update only.
        let longer = [block, &[0x82]].concat();
        let mut seen = self.reference.decode(&longer).expect("a block that the decoder accepts");
        seen.pop();
        assert!(
            seen.iter().map(|(n, v)| (n, v)).eq(listed.iter().map(|field| (&field.0, &field.1)))
        );
        self.check_repetition(block, &listed);
        self.check_encoding(&fields, &listed);
        true
    }

    /// Limits affect the stored fields only.
    fn check_limits(&mut self, block: &[u8], limits: Limits, is_valid: bool, all: &Fields) {
        let mut some = Fields::default();
        let result = self.tight.decode(block, limits, &mut some);
        assert_eq!(result.is_ok(), is_valid);
        assert_eq!(self.tight.generation(), self.wide.generation());
        assert!(some.len() <= limits.count && some.size() <= limits.octets);
        if is_valid {
            assert_eq!(some.overflow().is_none(), some.len() == all.len());
        }
        assert!(listed(all).starts_with(&listed(&some)));
    }

    /// Equal octets in the same generation are equal fields.
    fn check_repetition(&mut self, block: &[u8], listed_before: &[Listed]) {
        let generation = self.wide.generation();
        if generation == self.generation {
            let mut fields = Fields::default();
            self.wide.decode(block, WIDE, &mut fields).expect("a block that was valid before");
            assert_eq!(listed(&fields), listed_before);
            assert_eq!(self.wide.generation(), generation);
        }
        self.generation = generation;
    }

    /// Encoded fields are decoded equally, and never-indexed fields stay never-indexed.
    fn check_encoding(&mut self, fields: &Fields, before: &[Listed]) {
        let (mut out, mut arrived) = (Vec::new(), Fields::default());
        self.encoder.encode(fields.iter(), &mut out);
        self.reader.decode(&out, WIDE, &mut arrived).expect("a valid block");
        let after = listed(&arrived);
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((&before.0, &before.1, before.2), (&after.0, &after.1, after.2));
            assert!(before.3 != Indexing::Never || after.3 == Indexing::Never);
        }
    }
}

/// Name, value, whether it is clean, and indexing.
type Listed = (Vec<u8>, Vec<u8>, bool, Indexing);

fn listed(fields: &Fields) -> Vec<Listed> {
    let mut scratch = Vec::new();
    let list: Vec<Listed> = fields
        .iter()
        .map(|field| {
            let value = field.value.decode(&mut scratch).to_vec();
            assert_eq!(value.len(), field.value.decoded_len());
            assert_eq!(clean(&value), field.value.is_clean());
            assert!(field.value.equals(&value));
            (field.name.to_vec(), value, field.value.is_clean(), field.indexing)
        })
        .collect();
    assert_eq!(list.len(), fields.len());
    list
}

fn clean(text: &[u8]) -> bool {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let dirty = text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
    !(dirty || blank(text.first()) || blank(text.last()))
}
