//! A field's value as it stood on the wire.
//!
//! Never decodes unasked. What a relay needs to know of a value (how long? clean?) is known from
//! the check at its arrival.

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::huffman::{self, Symbols};

/// A value: octets, Huffman-coded or not, and what is known of the text they hold.
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

    /// A Huffman-coded text, checked here.
    pub(super) fn huffman(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let checked = huffman::check(octets)?;
        Ok(Self::stored(octets, checked.decoded, Marks { huffman: true, clean: checked.clean }))
    }

    /// A text whose check lies behind it.
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

    /// The octets as they stood on the wire.
    pub fn encoded(&self) -> &'a [u8] {
        self.octets
    }

    /// Octets of the decoded text.
    pub fn decoded_len(&self) -> usize {
        self.decoded
    }

    /// Whether the text is free of NUL, CR and LF, and of SP and HTAB at both ends (RFC 9113
    /// 8.2.1).
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// The decoded text. `scratch` is overwritten if the text is Huffman-coded, else untouched.
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

    /// The decoded text, or no less of its beginning than fits `scratch`. Does not allocate.
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

    /// The decoded text, for good.
    pub fn to_boxed(&self) -> Box<[u8]> {
        let mut text = Vec::with_capacity(self.decoded);
        self.append_decoded(&mut text);
        text.into_boxed_slice()
    }

    /// Whether the decoded text is `octets`. Does not allocate.
    pub fn equals(&self, octets: &[u8]) -> bool {
        if self.huffman {
            self.decoded == octets.len()
                && Symbols::new(self.octets, self.decoded).eq(octets.iter().copied())
        } else {
            self.octets == octets
        }
    }

    /// Whether any octet of the decoded text is such a one. Does not allocate.
    pub fn any(&self, is_such: impl FnMut(u8) -> bool) -> bool {
        if self.huffman {
            Symbols::new(self.octets, self.decoded).any(is_such)
        } else {
            self.octets.iter().copied().any(is_such)
        }
    }

    /// Whether both are the same octets on the wire, and so the same text.
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

/// Shows no text: a value may be a credential.
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

/// What a check found, for those who store a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) huffman: bool,
    pub(super) clean: bool,
}

fn clean(octets: &[u8]) -> bool {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    // A fold and not `any`: without an early end the compiler takes many octets at once.
    let dirty = |dirty: bool, &octet: &u8| dirty | matches!(octet, 0 | b'\r' | b'\n');
    !(octets.iter().fold(false, dirty) || blank(octets.first()) || blank(octets.last()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::codes::tests::huffman;

    #[test]
    fn a_raw_text_is_decoded_without_a_copy() {
        let mut scratch = b"kept".to_vec();
        assert_eq!(Text::raw(b"plain").decode(&mut scratch), b"plain");
        assert_eq!(scratch, b"kept");
    }

    #[test]
    fn raw_and_huffman_know_the_same_of_a_text() {
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
    fn a_prefix_is_as_long_as_there_is_room() {
        let coded = huffman(b"abcdef");
        let coded = Text::huffman(&coded).unwrap();
        assert_eq!(coded.prefix(&mut [0; 4]), b"abcd");
        assert_eq!(coded.prefix(&mut [0; 6]), b"abcdef");
        assert_eq!(coded.prefix(&mut [0; 9]), b"abcdef");
        assert_eq!(Text::raw(b"abcdef").prefix(&mut [0; 4]), b"abcdef");
    }

    #[test]
    fn equal_means_every_octet() {
        let coded = huffman(b"abc");
        let coded = Text::huffman(&coded).unwrap();
        for other in [&b""[..], b"ab", b"abd", b"abcd", b"\x1c\x64"] {
            assert!(!coded.equals(other), "{other:?}");
        }
    }
}
