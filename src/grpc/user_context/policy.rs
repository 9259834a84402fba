//! The configured policy for request messages, and the compression of a request.

use crate::grpc::user_context::inflate::DECODER_SIZE;
use crate::wire::hpack::Fields;

/// Scratch space for the name of an encoding, in octets; longer than any known name.
const NAME_MAX: usize = 16;

/// The policy for valid messages that normal clients do not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// More than one `user_context` in a message.
    pub repeated: AmbiguityPolicy,
    /// `extensions` in a `user_context`: the appended `user_context` does not override them.
    pub extensions: AmbiguityPolicy,
    /// A field of `user_context` other than `user_id`, `user_name` and `extensions`: the appended
    /// `user_context` does not override it, and its meaning in later Spark versions is unknown.
    pub unknown: AmbiguityPolicy,
    /// Compressed messages.
    pub compressed: CompressionPolicy,
}

/// The policy for ambiguous messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguityPolicy {
    /// Refuse the call.
    Refuse,
    /// Forward the message with the appended `user_context`.
    Pass,
}

/// The policy for compressed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionPolicy {
    /// Refuse the call.
    Refuse,
    /// Inflate them, append `user_context`, and forward them uncompressed.
    Inflate {
        /// Maximum length of a message before and after inflating, in octets.
        octets_max: usize,
    },
}

impl CompressionPolicy {
    /// Maximum memory of a message while it is inflated, in octets.
    #[must_use]
    pub fn buffer_max(self) -> usize {
        match self {
            Self::Refuse => 0,
            Self::Inflate { octets_max } => octets_max.saturating_add(DECODER_SIZE),
        }
    }
}

/// The compression of flagged messages: the `grpc-encoding` of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// No compression; the default of an absent field.
    #[default]
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which gRPC calls deflate.
    Deflate,
    /// An unsupported encoding.
    Other,
}

impl Encoding {
    /// The encoding of a request.
    #[must_use]
    pub fn of_request(fields: &Fields) -> Self {
        let mut all = fields.named(b"grpc-encoding");
        match (all.next(), all.next()) {
            (None, _) => Self::Identity,
            (Some((_, one)), None) => Self::from_name(one.value.prefix(&mut [0; NAME_MAX])),
            (Some(_), Some(_)) => Self::Other,
        }
    }

    /// The encoding with exactly this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        match name {
            b"identity" => Self::Identity,
            b"gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::Indexing;

    #[test]
    fn the_encoding_of_a_request_is_the_value_of_its_only_field() {
        let encoding = |values: &[&str]| {
            let mut fields = Fields::default();
            fields.push(b"grpc-accept-encoding", b"gzip", Indexing::Without);
            for value in values {
                fields.push(b"grpc-encoding", value.as_bytes(), Indexing::Without);
            }
            Encoding::of_request(&fields)
        };
        assert_eq!(encoding(&[]), Encoding::Identity);
        assert_eq!(encoding(&["identity"]), Encoding::Identity);
        assert_eq!(encoding(&["gzip"]), Encoding::Gzip);
        assert_eq!(encoding(&["deflate"]), Encoding::Deflate);
        let long = "gzip".repeat(9);
        for other in ["", "GZIP", "gzip ", "gzip,deflate", "zstd", "identity-and-more", &long] {
            assert_eq!(encoding(&[other]), Encoding::Other, "{other:?}");
        }
        for twice in [["gzip", "gzip"], ["identity", "identity"], ["identity", "gzip"]] {
            assert_eq!(encoding(&twice), Encoding::Other, "{twice:?}");
        }
    }

    #[test]
    fn the_memory_limit_covers_the_inflated_message_and_the_decoder() {
        assert_eq!(CompressionPolicy::Refuse.buffer_max(), 0);
        let buffer_max = CompressionPolicy::Inflate { octets_max: 1_000 }.buffer_max();
        assert!(buffer_max > 1_000 + 32 * 1_024 && buffer_max < 1_000 + 64 * 1_024, "{buffer_max}");
        assert_eq!(CompressionPolicy::Inflate { octets_max: usize::MAX }.buffer_max(), usize::MAX);
    }
}
