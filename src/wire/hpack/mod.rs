//! HPACK (RFC 7541): decoding of header blocks into field lists, and encoding.
//!
//! Huffman-coded values are validated and measured on arrival, but not decoded: they stay
//! Huffman-coded in field lists, in the tables, and when encoded again. [`Text::decode`] decodes on
//! demand.
//!
//! Invariants: no input causes a panic; every allocation has a limit; work is linear in the input;
//! a never-indexed field does not enter a table.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

#[cfg(test)]
mod appendix_c;
mod codes;
mod decode;
mod encode;
mod fields;
mod huffman;
mod integer;
#[cfg(test)]
mod properties;
mod static_table;
mod table;
mod text;

pub use decode::{Decoder, Limits};
pub use encode::Encoder;
pub use fields::{Field, Fields, Indexing, Overflow};
pub use text::Text;

/// A decoding error. Each one is a connection error COMPRESSION_ERROR (RFC 9113, 4.3), since the
/// tables of both endpoints are no longer equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The block ends inside a field representation.
    Truncated,
    /// An integer above 2^32 - 1, or with more than five octets after the prefix (RFC 7541, 5.1).
    Integer,
    /// Index 0 (RFC 7541, 6.1).
    IndexZero,
    /// An index beyond both tables (RFC 7541, 2.3.3).
    IndexBeyond,
    /// A table size above the advertised maximum (RFC 7541, 6.3).
    SizeUpdateTooLarge,
    /// A table size update after the first field (RFC 7541, 4.2).
    SizeUpdateLate,
    /// A Huffman string that contains EOS (RFC 7541, 5.2).
    HuffmanEos,
    /// Huffman padding above seven bits, or with zeros (RFC 7541, 5.2).
    HuffmanPadding,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Truncated => "the header block ends inside a field representation",
            Self::Integer => "an integer is above 2^32 - 1",
            Self::IndexZero => "an index is 0",
            Self::IndexBeyond => "an index is beyond both tables",
            Self::SizeUpdateTooLarge => "a table size update is above the advertised maximum",
            Self::SizeUpdateLate => "a table size update follows a field",
            Self::HuffmanEos => "a Huffman string contains EOS",
            Self::HuffmanPadding => "a Huffman string has invalid padding",
        })
    }
}

impl std::error::Error for DecodeError {}
