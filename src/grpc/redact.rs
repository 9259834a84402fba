//! Redact: values of Spark's configuration that a driver's answers to Config do not show.
//!
//! An answer is changed where it lies, and keeps its length: nothing of it is kept back, and what
//! frames and prefixes say of it stays true. A value that is hidden loses the number of its field,
//! so that the key looks as if it had no value (as Spark 4.1 and later answer for keys that its own
//! `spark.redaction.regex` matches), and its octets.
//!
//! A driver strips the prefix that a client asks for off the keys (GetAll), so a key is hidden if a
//! hidden one ends with it: what was asked for is not known here, and cannot be lied about.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use std::sync::Arc;

use crate::grpc::prefix::{self, Prefix};
use crate::grpc::protobuf::Varint;

/// Octets of the longest key that can be hidden.
pub const KEY_MAX: usize = 256;

/// The field of a `ConfigResponse` that holds a pair, and the fields of that.
const PAIRS: u64 = 2;
const KEY: u64 = 1;
const VALUE: u64 = 2;
/// The tag of a value, and the one that it gets: a field (15) that nobody reads.
const VALUE_TAG: u8 = 0x12;
const NOBODYS_TAG: u8 = 0x7a;
/// What is written over the octets of a value.
const MASK: u8 = b'*';

/// The keys whose values clients do not see. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(Arc<[Box<str>]>);

impl Hidden {
    /// These keys.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = String>) -> Self {
        Self(keys.into_iter().map(String::into_boxed_str).collect())
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hides(&self, key: &[u8]) -> bool {
        self.0.iter().any(|hidden| hidden.as_bytes().ends_with(key))
    }
}

/// An answer in which nothing can be hidden: it is compressed, or is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The answer to one Config call, on its way to the client.
#[derive(Debug)]
pub struct Redactor {
    hidden: Hidden,
    step: Step,
    /// Octets of the message that are still to come, and of the pair that the walk is in.
    left: u64,
    pair: Option<Pair>,
    varint: Varint,
}

/// One key and its value.
#[derive(Debug, Default)]
struct Pair {
    left: u64,
    /// The key, or as much of it as can be hidden and one octet more.
    key: Vec<u8>,
    has_key: bool,
}

/// What the next octet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prefix(Prefix),
    Tag,
    Number,
    /// The length of this.
    Length(Of),
    /// So many octets of this, at least one.
    Octets(Of, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Pair,
    Key,
    Value { hidden: bool },
    Other,
}

impl Redactor {
    /// The redactor of one answer, at its beginning.
    #[must_use]
    pub fn new(hidden: Hidden) -> Self {
        let step = Step::Prefix(Prefix::default());
        Self { hidden, step, left: 0, pair: None, varint: Varint::default() }
    }

    /// Hides what there is to hide in the next octets of the answer.
    ///
    /// # Errors
    /// The answer cannot be read, and must not be passed on from here.
    pub fn take(&mut self, mut octets: &mut [u8]) -> Result<(), Unreadable> {
        while !octets.is_empty() {
            let taken = match self.step {
                Step::Octets(of, left) => self.octets(of, left, octets)?,
                Step::Prefix(prefix) => self.prefix(prefix, octets)?,
                Step::Tag | Step::Number | Step::Length(_) => self.varint(octets)?,
            };
            octets = octets.get_mut(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn prefix(&mut self, mut prefix: Prefix, octets: &[u8]) -> Result<usize, Unreadable> {
        let filled = prefix.fill(octets);
        if prefix.flag().is_some_and(|flag| flag != 0) {
            return Err(Unreadable);
        }
        match prefix.whole() {
            None => self.step = Step::Prefix(prefix),
            Some(whole) => {
                self.left = u64::from(prefix::length(whole));
                self.next();
            }
        }
        Ok(filled)
    }

    /// One octet of a tag, a number or a length.
    fn varint(&mut self, octets: &mut [u8]) -> Result<usize, Unreadable> {
        let Some(octet) = octets.first_mut() else { return Ok(0) };
        self.spend(1)?;
        let whole = self.varint.is_empty();
        let Some(value) = self.varint.push(*octet).map_err(|_| Unreadable)? else { return Ok(1) };
        self.varint = Varint::default();
        match self.step {
            Step::Tag => {
                self.tag(value)?;
                if whole && *octet == VALUE_TAG && self.is_to_be_hidden() {
                    *octet = NOBODYS_TAG;
                }
            }
            Step::Length(Of::Pair) => {
                self.fits(value)?;
                self.pair = Some(Pair { left: value, ..Pair::default() });
                self.next();
            }
            Step::Length(of) => {
                self.fits(value)?;
                self.go(of, value);
            }
            Step::Number | Step::Prefix(_) | Step::Octets(..) => self.next(),
        }
        Ok(1)
    }

    fn tag(&mut self, tag: u64) -> Result<(), Unreadable> {
        let number = tag >> 3;
        let of = match (&mut self.pair, number) {
            (None, PAIRS) => Of::Pair,
            // The last one would count, and a value may have passed by then.
            (Some(pair), KEY) if pair.has_key => return Err(Unreadable),
            (Some(pair), KEY) => {
                pair.has_key = true;
                Of::Key
            }
            (Some(pair), VALUE) => {
                Of::Value { hidden: !pair.has_key || self.hidden.hides(&pair.key) }
            }
            (None | Some(_), _) => Of::Other,
        };
        match (tag & 7, of) {
            (2, of) => self.step = Step::Length(of),
            (0, Of::Other) => self.step = Step::Number,
            (1, Of::Other) => self.go(Of::Other, 8),
            (5, Of::Other) => self.go(Of::Other, 4),
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    fn is_to_be_hidden(&self) -> bool {
        self.step == Step::Length(Of::Value { hidden: true })
    }

    /// Octets of a field with a length.
    fn octets(&mut self, of: Of, left: u64, octets: &mut [u8]) -> Result<usize, Unreadable> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let taken = octets.len().min(most);
        let octets = octets.get_mut(..taken).unwrap_or_default();
        match (of, &mut self.pair) {
            (Of::Key, Some(pair)) => {
                let room = KEY_MAX.saturating_add(1).saturating_sub(pair.key.len());
                pair.key.extend(octets.iter().take(room));
            }
            (Of::Value { hidden: true }, _) => octets.fill(MASK),
            (Of::Key | Of::Value { .. } | Of::Pair | Of::Other, _) => {}
        }
        let taken_long = u64::try_from(taken).unwrap_or(left);
        self.spend(taken_long)?;
        self.go(of, left.saturating_sub(taken_long));
        Ok(taken)
    }

    /// So many octets of this are next; none at all is the end of it.
    fn go(&mut self, of: Of, octets: u64) {
        if octets == 0 {
            self.next();
        } else {
            self.step = Step::Octets(of, octets);
        }
    }

    /// Takes octets off the message, and off the pair.
    fn spend(&mut self, octets: u64) -> Result<(), Unreadable> {
        self.fits(octets)?;
        self.left = self.left.saturating_sub(octets);
        if let Some(pair) = &mut self.pair {
            pair.left = pair.left.saturating_sub(octets);
        }
        Ok(())
    }

    /// Whether so many octets may follow here.
    fn fits(&self, octets: u64) -> Result<(), Unreadable> {
        let room = self.pair.as_ref().map_or(self.left, |pair| pair.left.min(self.left));
        if octets <= room { Ok(()) } else { Err(Unreadable) }
    }

    /// A field has ended: on to the next, out of the pair at its end, out of the message at its.
    fn next(&mut self) {
        if self.pair.as_ref().is_some_and(|pair| pair.left == 0) {
            self.pair = None;
        }
        self.step = if self.left == 0 { Step::Prefix(Prefix::default()) } else { Step::Tag };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::protobuf::{put_number, put_octets};
    use proptest::prelude::*;

    const SECRET: &str = "spark.hadoop.fs.s3a.secret.key";

    fn pair(key: Option<&str>, value: Option<&str>) -> Vec<u8> {
        let mut pair = Vec::new();
        for (field, text) in [(1, key), (2, value)] {
            if let Some(text) = text {
                put_octets(&mut pair, field, text.as_bytes());
            }
        }
        pair
    }

    /// A message with its prefix: session, pairs, a warning, and a number that no one knows.
    fn answer(pairs: &[Vec<u8>]) -> Vec<u8> {
        let mut message = Vec::new();
        put_octets(&mut message, 1, b"session");
        for pair in pairs {
            put_octets(&mut message, 2, pair);
        }
        put_octets(&mut message, 3, b"spark.hadoop.fs.s3a.secret.key");
        put_number(&mut message, 9, 300);
        message.extend([0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x55, 1, 2, 3, 4]);
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        framed
    }

    fn redact(octets: &[u8], piece: usize) -> Result<Vec<u8>, Unreadable> {
        let hidden = Hidden::of([SECRET.to_owned(), "spark.connect.authenticate.token".into()]);
        let mut redactor = Redactor::new(hidden);
        let mut all = octets.to_vec();
        for piece in all.chunks_mut(piece) {
            redactor.take(piece)?;
        }
        Ok(all)
    }

    /// The same for every size of the pieces.
    fn redacted(octets: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let whole = redact(octets, octets.len());
        for piece in 1..octets.len() {
            assert_eq!(redact(octets, piece), whole, "pieces of {piece}");
        }
        whole
    }

    #[test]
    fn the_value_of_a_hidden_key_is_gone_and_all_else_stays() {
        let others = [
            pair(Some("spark.app.name"), Some("a.secret.key")),
            pair(Some("spark.none"), None),
            pair(Some(&"k".repeat(KEY_MAX * 2)), Some("long")),
            pair(None, None),
        ];
        let mut before = others.to_vec();
        before.insert(1, pair(Some(SECRET), Some("s3cret")));
        let mut after = others.to_vec();
        let mut gone = pair(Some(SECRET), None);
        put_octets(&mut gone, 15, b"******");
        after.insert(1, gone);
        assert_eq!(redacted(&answer(&before)), Ok(answer(&after)));
        assert_eq!(redacted(&answer(&others)), Ok(answer(&others)));
    }

    #[test]
    fn a_key_whose_prefix_was_stripped_is_hidden_all_the_same() {
        for cut in 1..SECRET.len() {
            let told = redacted(&answer(&[pair(SECRET.get(cut..), Some("s3cret"))])).unwrap();
            assert!(!told.windows(6).any(|octets| octets == b"s3cret"), "{cut}");
        }
        let told = redacted(&answer(&[pair(None, Some("s3cret"))])).unwrap();
        assert!(!told.windows(6).any(|octets| octets == b"s3cret"));
    }

    #[test]
    fn a_value_before_its_key_is_masked() {
        let mut odd = Vec::new();
        put_octets(&mut odd, 2, b"s3cret");
        put_octets(&mut odd, 1, SECRET.as_bytes());
        let told = redacted(&answer(&[odd])).unwrap();
        assert!(!told.windows(6).any(|octets| octets == b"s3cret"));
    }

    #[test]
    fn answers_in_a_row_and_empty_ones_are_walked() {
        let one = answer(&[pair(Some(SECRET), Some("s3cret"))]);
        let all = [&one[..], &[0; 5], &one].concat();
        let told = redacted(&all).unwrap();
        assert!(!told.windows(6).any(|octets| octets == b"s3cret"));
    }

    #[test]
    fn what_cannot_be_read_does_not_pass() {
        let cases: &[&[u8]] = &[
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1, 0x12, 0],
            &[0, 0, 0, 0, 2, 0x12, 1, 0],
            &[0, 0, 0, 0, 3, 0x10, 1, 0],
            &[0, 0, 0, 0, 2, 0x0b, 0],
            &[0, 0, 0, 0, 4, 0x12, 2, 0x10, 1],
            &[0, 0, 0, 0, 4, 0x12, 2, 0x0a, 1],
            &[0, 0, 0, 0, 4, 0x12, 1, 0x12, 1],
            &[0, 0, 0, 0, 8, 0x12, 6, 0x0a, 1, b'a', 0x0a, 1, b'b'],
            &[0, 0, 0, 0, 11, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1],
        ];
        for octets in cases {
            assert_eq!(redacted(octets), Err(Unreadable), "{octets:02x?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_panics_and_lengths_stay(
            octets in proptest::collection::vec(any::<u8>(), 1..200), piece in 1_usize..50,
        ) {
            let framed = [&[0, 0, 0, 0, 250][..], &octets].concat();
            if let Ok(told) = redact(&framed, piece) {
                prop_assert_eq!(told.len(), framed.len());
            }
        }

        #[test]
        fn no_hidden_value_passes_whatever_stands_beside_it(
            keys in proptest::collection::vec("[a-z.]{0,40}", 0..6), at in 0_usize..6,
            piece in 1_usize..300,
        ) {
            let mut pairs: Vec<_> =
                keys.iter().map(|key| pair(Some(&format!("x{key}")), Some("v"))).collect();
            pairs.insert(at.min(pairs.len()), pair(Some(SECRET), Some("s3cret")));
            let told = redact(&answer(&pairs), piece).unwrap();
            prop_assert!(!told.windows(6).any(|octets| octets == b"s3cret"));
        }
    }
}
