//! Properties of encoder and decoder for arbitrary fields and octets.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::wire::hpack::codes::tests::huffman;
use crate::wire::hpack::{Decoder, Encoder, Field, Fields, Indexing, Limits, Text};

const LIMITS: Limits = Limits { octets: 1 << 20, count: 1_024 };

/// A field with its encoded value.
#[derive(Clone, Debug)]
struct Sample {
    name: Vec<u8>,
    value: Vec<u8>,
    coded: Option<Vec<u8>>,
    indexing: Indexing,
}

impl Sample {
    fn field(&self) -> Field<'_> {
        let value = match &self.coded {
            Some(coded) => Text::huffman(coded).unwrap(),
            None => Text::raw(&self.value),
        };
        Field { name: &self.name, value, indexing: self.indexing }
    }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    // Few different texts, for table hits; some large ones, for evictions.
    prop_oneof![
        6 => vec(prop::sample::select(b"ab/".to_vec()), 0..4),
        2 => vec(any::<u8>(), 0..40),
        1 => vec(prop::sample::select(vec![b'a', 0xff]), 0..1_500),
        1 => prop::sample::select(vec!["GET", "POST", "/", "200", "gzip, deflate", ""])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    use Indexing::{Incremental, Indexed, Never, Without};
    let known = prop::sample::select(vec![
        ":method",
        ":path",
        ":status",
        "accept-encoding",
        "authorization",
        "grpc-timeout",
    ]);
    let name = prop_oneof![known.prop_map(|name| name.as_bytes().to_vec()), octets()];
    let indexing = prop::sample::select(vec![Incremental, Incremental, Indexed, Without, Never]);
    (name, octets(), any::<bool>(), indexing).prop_map(|(name, value, coded, indexing)| Sample {
        coded: coded.then(|| huffman(&value)),
        name,
        value,
        indexing,
    })
}

/// All fields of a list, decoded.
fn listed(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>, bool, Indexing)> {
    fields
        .iter()
        .map(|field| {
            let value = field.value.decode(&mut Vec::new()).to_vec();
            assert_eq!(value.len(), field.value.decoded_len());
            (field.name.to_vec(), value, field.value.is_clean(), field.indexing)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn encoded_fields_are_decoded_equally_through_all_evictions(
        blocks in vec((vec(sample(), 0..12), prop::option::of(0_u32..6_000)), 1..12),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4_096));
        let (mut out, mut fields) = (Vec::new(), Fields::default());
        for (samples, table) in blocks {
            table.into_iter().for_each(|size| encoder.limit_table(size));
            out.clear();
            encoder.encode(samples.iter().map(Sample::field), &mut out);
            decoder.decode(&out, LIMITS, &mut fields).unwrap();
            let decoded = listed(&fields);
            prop_assert_eq!(decoded.len(), samples.len());
            for ((name, value, clean, indexing), sample) in decoded.into_iter().zip(&samples) {
                prop_assert_eq!(&name, &sample.name);
                prop_assert_eq!(&value, &sample.value);
                prop_assert_eq!(clean, Text::raw(&sample.value).is_clean());
                let never = sample.indexing == Indexing::Never || name == b"authorization";
                prop_assert_eq!(indexing == Indexing::Never, never);
                if sample.indexing == Indexing::Without && !never {
                    prop_assert_eq!(indexing, Indexing::Without);
                }
            }
            let size: usize = samples.iter().map(|s| s.name.len() + s.value.len() + 32).sum();
            prop_assert_eq!(fields.size(), size);
        }
    }

    #[test]
    fn equal_octets_in_the_same_generation_are_equal_fields(
        blocks in vec(vec(sample(), 0..6), 1..8),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4_096));
        let (mut first, mut again) = (Fields::default(), Fields::default());
        for samples in blocks {
            let mut out = Vec::new();
            encoder.encode(samples.iter().map(Sample::field), &mut out);
            let before = decoder.generation();
            decoder.decode(&out, LIMITS, &mut first).unwrap();
            if decoder.generation() == before {
                decoder.decode(&out, LIMITS, &mut again).unwrap();
                prop_assert_eq!(listed(&first), listed(&again));
                prop_assert_eq!(decoder.generation(), before);
            }
        }
    }

    #[test]
    fn no_input_causes_a_panic_or_exceeds_a_limit(
        blocks in vec(vec(prop_oneof![Just(0xbe), Just(0x40), any::<u8>()], 0..200), 1..6),
        octets in 0_usize..2_000,
        count in 0_usize..20,
    ) {
        let mut decoder = Decoder::new(4_096);
        let mut fields = Fields::default();
        for block in blocks {
            let result = decoder.decode(&block, Limits { octets, count }, &mut fields);
            prop_assert!(fields.len() <= count && fields.size() <= octets);
            listed(&fields);
            if result.is_err() {
                break;
            }
        }
    }

    #[test]
    fn limits_affect_the_stored_fields_only(
        blocks in vec(vec(sample(), 0..12), 1..8),
        octets in 0_usize..2_000,
    ) {
        let mut encoder = Encoder::new();
        let (mut wide, mut tight) = (Decoder::new(4_096), Decoder::new(4_096));
        let (mut all, mut some) = (Fields::default(), Fields::default());
        for samples in blocks {
            let mut out = Vec::new();
            encoder.encode(samples.iter().map(Sample::field), &mut out);
            wide.decode(&out, LIMITS, &mut all).unwrap();
            tight.decode(&out, Limits { octets, ..LIMITS }, &mut some).unwrap();
            prop_assert_eq!(wide.generation(), tight.generation());
            prop_assert_eq!(some.overflow().is_some(), all.size() > octets);
            let (all, some) = (listed(&all), listed(&some));
            prop_assert_eq!(&some[..], &all[..some.len()]);
        }
    }
}
