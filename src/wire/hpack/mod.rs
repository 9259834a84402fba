//! HPACK (RFC 7541): header blocks in, field lists out, and the way back.
//!
//! Huffman-coded values are *checked* when they arrive (valid? how long? clean?) but stay as they
//! came: in a list of fields, in the tables, and on their way out again. Whoever needs the text
//! asks for it with [`Text::decode`]. A relay seldom does.
//!
//! What must never happen here: a panic, whatever the octets; an allocation that outgrows its
//! named limit; work that outgrows its input; a field marked never-indexed entering a table.

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

/// What was wrong with a header block. Each is a connection error COMPRESSION_ERROR (RFC 9113
/// 4.3), since the tables of both sides are out of step from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The block ended in the middle of a representation.
    Truncated,
    /// An integer above 2^32 - 1, or padded to more than five octets (RFC 7541 5.1).
    Integer,
    /// Index 0, which stands for nothing (RFC 7541 6.1).
    IndexZero,
    /// An index beyond both tables (RFC 7541 2.3.3).
    IndexBeyond,
    /// A table size above what we advertised (RFC 7541 6.3).
    SizeUpdateTooLarge,
    /// A table size update after the first field (RFC 7541 4.2).
    SizeUpdateLate,
    /// A Huffman string that contains EOS (RFC 7541 5.2).
    HuffmanEos,
    /// Huffman padding longer than seven bits, or not of ones (RFC 7541 5.2).
    HuffmanPadding,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Truncated => "header block ends inside a representation",
            Self::Integer => "integer is too large",
            Self::IndexZero => "index 0",
            Self::IndexBeyond => "index beyond both tables",
            Self::SizeUpdateTooLarge => "table size above the advertised one",
            Self::SizeUpdateLate => "table size update after the first field",
            Self::HuffmanEos => "EOS inside a Huffman string",
            Self::HuffmanPadding => "malformed Huffman padding",
        })
    }
}

impl std::error::Error for DecodeError {}
