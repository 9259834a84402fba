//! A field value in its original encoding, decoded on demand.

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::huffman::{self, Symbols};

/// A value: octets, Huffman-coded or not, with the decoded length and the result of validation.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    octets: &'a [u8],
    decoded: usize,
    huffman: bool,
    clean: bool,
}

impl<'a> Text<'a> {
    /// A text that is not Huffman-coded.
    pub fn raw(octets: &'a [u8]) -> Self {
        Self::stored(octets, octets.len(), Marks { huffman: false, clean: clean(octets) })
    }

    /// A Huffman-coded text, which is validated.
    pub(super) fn huffman(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let checked = huffman::check(octets)?;
        Ok(Self::stored(octets, checked.decoded, Marks { huffman: true, clean: checked.clean }))
    }

    /// A text that was validated before.
    pub(super) fn stored(octets: &'a [u8], decoded: usize, marks: Marks) -> Self {
        Self { octets, decoded, huffman: marks.huffman, clean: marks.clean }
    }

    pub(super) fn marks(&self) -> Marks {
        Marks { huffman: self.huffman, clean: self.clean }
    }

    /// Whether [`encoded`](Self::encoded) is Huffman-coded.
    pub fn is_huffman(&self) -> bool {
        self.huffman
    }

    /// The encoded octets.
    pub fn encoded(&self) -> &'a [u8] {
        self.octets
    }

    /// Length of the decoded text, in octets.
    pub fn decoded_len(&self) -> usize {
        self.decoded
    }

    /// Whether the text has no NUL, CR or LF, and no SP or HTAB at its ends (RFC 9113, 8.2.1).
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// The decoded text. A Huffman-coded text is decoded into `scratch`.
    pub fn decode<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.huffman {
            return self.octets;
        }
        scratch.clear();
        self.append_decoded(scratch);
        scratch
    }

    /// The decoded text, or at least as much of its beginning as fits into `scratch`. Does not
    /// allocate.
    pub fn prefix<'s>(&self, scratch: &'s mut [u8]) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.huffman {
            return self.octets;
        }
        let symbols = Symbols::new(self.octets, self.decoded);
        let filled = scratch.iter_mut().zip(symbols).map(|(to, symbol)| *to = symbol).count();
        scratch.get(..filled).unwrap_or_default()
    }

    /// The decoded text as an owned value.
    pub fn to_boxed(&self) -> Box<[u8]> {
        let mut text = Vec::with_capacity(self.decoded);
        self.append_decoded(&mut text);
        text.into_boxed_slice()
    }

    /// Whether the decoded text equals `octets`. Does not allocate.
    pub fn equals(&self, octets: &[u8]) -> bool {
        if self.huffman {
            self.decoded == octets.len()
                && Symbols::new(self.octets, self.decoded).eq(octets.iter().copied())
        } else {
            self.octets == octets
        }
    }

    /// Whether `matches` is true for any octet of the decoded text. Does not allocate.
    pub fn any(&self, matches: impl FnMut(u8) -> bool) -> bool {
        if self.huffman {
            Symbols::new(self.octets, self.decoded).any(matches)
        } else {
            self.octets.iter().copied().any(matches)
        }
    }

    /// Whether the encoded octets are equal.
    pub(super) fn has_same_encoding(&self, other: &Text<'_>) -> bool {
        self.huffman == other.huffman && self.octets == other.octets
    }

    /// Appends the decoded text.
    pub(super) fn append_decoded(&self, out: &mut Vec<u8>) {
        if self.huffman {
            huffman::append(self.octets, self.decoded, out);
        } else {
            out.extend_from_slice(self.octets);
        }
    }
}

/// Does not show the text: a value may be a credential.
impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { octets: _, decoded, huffman, clean } = self;
        out.debug_struct("Text")
            .field("decoded_len", decoded)
            .field("huffman", huffman)
            .field("clean", clean)
            .finish_non_exhaustive()
    }
}

/// The result of validating a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) huffman: bool,
    pub(super) clean: bool,
}

fn clean(octets: &[u8]) -> bool {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    // A fold instead of `any`: without an early exit the compiler vectorises the loop.
    let dirty = |dirty: bool, &octet: &u8| dirty | matches!(octet, 0 | b'\r' | b'\n');
    !(octets.iter().fold(false, dirty) || blank(octets.first()) || blank(octets.last()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::codes::tests::huffman;

    #[test]
    fn a_raw_text_needs_no_copy() {
        let mut scratch = b"kept".to_vec();
        assert_eq!(Text::raw(b"plain").decode(&mut scratch), b"plain");
        assert_eq!(scratch, b"kept");
    }

    #[test]
    fn raw_and_huffman_coded_texts_have_the_same_properties() {
        for plain in [&b""[..], b"a", b" a", b"a ", b"\ta", b"a\t", b"a b", b"a\0b", b"\r", b"a\n"]
        {
            let coded = huffman(plain);
            let (raw, coded) = (Text::raw(plain), Text::huffman(&coded).unwrap());
            assert_eq!(raw.is_clean(), coded.is_clean(), "{plain:?}");
            assert_eq!(raw.decoded_len(), coded.decoded_len());
            assert!(raw.equals(plain) && coded.equals(plain));
            assert_eq!(coded.decode(&mut Vec::new()), plain);
            assert_eq!((coded.prefix(&mut [0; 4]), &*coded.to_boxed()), (plain, plain));
        }
        assert!(Text::raw(b"a b").is_clean() && !Text::raw(b"a\nb").is_clean());
    }

    #[test]
    fn a_prefix_is_as_long_as_its_scratch() {
        let coded = huffman(b"abcdef");
        let coded = Text::huffman(&coded).unwrap();
        assert_eq!(coded.prefix(&mut [0; 4]), b"abcd");
        assert_eq!(coded.prefix(&mut [0; 6]), b"abcdef");
        assert_eq!(coded.prefix(&mut [0; 9]), b"abcdef");
        assert_eq!(Text::raw(b"abcdef").prefix(&mut [0; 4]), b"abcdef");
    }

    #[test]
    fn equality_covers_every_octet() {
        let coded = huffman(b"abc");
        let coded = Text::huffman(&coded).unwrap();
        for other in [&b""[..], b"ab", b"abd", b"abcd", b"\x1c\x64"] {
            assert!(!coded.equals(other), "{other:?}");
        }
    }
}
