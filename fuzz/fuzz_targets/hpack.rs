//! HPACK: any blocks in, and all that must hold of them.
//!
//! Input: three octets of settings, then blocks, each behind its length in two octets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::wire::hpack::{Decoder, Encoder, Fields, Indexing, Limits};

const TABLE: u32 = 4_096;
const WIDE: Limits = Limits { octets: usize::MAX, count: usize::MAX };

fuzz_target!(|data: &[u8]| {
    let Some((&[octets, count, table], blocks)) = data.split_first_chunk() else { return };
    let tight = Limits { octets: usize::from(octets) << 5, count: usize::from(count) };
    let mut relay = Relay::new();
    relay.encoder.limit_table(u32::from(table) << 5);
    for block in Blocks(blocks) {
        if !relay.pass(block, tight) {
            return;
        }
    }
});

/// Cuts the input into blocks.
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

/// A connection in, one out, and those who watch.
struct Relay {
    wide: Decoder,
    tight: Decoder,
    /// Another implementation.
    witness: fluke_hpack::Decoder<'static>,
    encoder: Encoder,
    /// Reads what the encoder writes.
    proof: Decoder,
    generation: u64,
}

impl Relay {
    fn new() -> Self {
        let mut witness = fluke_hpack::Decoder::new();
        witness.set_max_allowed_table_size(TABLE as usize);
        Self {
            wide: Decoder::new(TABLE),
            tight: Decoder::new(TABLE),
            witness,
            encoder: Encoder::new(),
            proof: Decoder::new(TABLE),
            generation: 0,
        }
    }

    /// Whether the block was sound.
    fn pass(&mut self, block: &[u8], limits: Limits) -> bool {
        let mut fields = Fields::default();
        let result = self.wide.decode(block, WIDE, &mut fields);
        self.limited(block, limits, result.is_ok(), &fields);
        if result.is_err() {
            return false;
        }
        let told = told(&fields);
        let size: usize = told.iter().map(|field| field.0.len() + field.1.len() + 32).sum();
        assert_eq!(size, fields.size());
        // One field more: the witness refuses a block that holds no field but a size update.
        let longer = [block, &[0x82]].concat();
        let mut seen = self.witness.decode(&longer).expect("a block that we found sound");
        seen.pop();
        assert!(seen.iter().map(|(n, v)| (n, v)).eq(told.iter().map(|field| (&field.0, &field.1))));
        self.again(block, &told);
        self.onward(&fields, &told);
        true
    }

    /// Limits change what is stored, and nothing else.
    fn limited(&mut self, block: &[u8], limits: Limits, sound: bool, all: &Fields) {
        let mut some = Fields::default();
        let result = self.tight.decode(block, limits, &mut some);
        assert_eq!(result.is_ok(), sound);
        assert_eq!(self.tight.generation(), self.wide.generation());
        assert!(some.len() <= limits.count && some.size() <= limits.octets);
        if sound {
            assert_eq!(some.overflow().is_none(), some.len() == all.len());
        }
        assert!(told(all).starts_with(&told(&some)));
    }

    /// Equal octets at an equal generation are equal fields.
    fn again(&mut self, block: &[u8], told_before: &[Told]) {
        let generation = self.wide.generation();
        if generation == self.generation {
            let mut fields = Fields::default();
            self.wide.decode(block, WIDE, &mut fields).expect("it was sound a moment ago");
            assert_eq!(told(&fields), told_before);
            assert_eq!(self.wide.generation(), generation);
        }
        self.generation = generation;
    }

    /// What goes out is what came in, and as secret.
    fn onward(&mut self, fields: &Fields, before: &[Told]) {
        let (mut out, mut arrived) = (Vec::new(), Fields::default());
        self.encoder.encode(fields.iter(), &mut out);
        self.proof.decode(&out, WIDE, &mut arrived).expect("we write sound blocks");
        let after = told(&arrived);
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((&before.0, &before.1, before.2), (&after.0, &after.1, after.2));
            assert!(before.3 != Indexing::Never || after.3 == Indexing::Never);
        }
    }
}

/// Name, value, whether it is clean, and how it stood.
type Told = (Vec<u8>, Vec<u8>, bool, Indexing);

fn told(fields: &Fields) -> Vec<Told> {
    let mut scratch = Vec::new();
    let list: Vec<Told> = fields
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
