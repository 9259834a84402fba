//! Policy: what an operator lets pass, and how a client says that it compresses.

use crate::grpc::user_context::inflate::DECODER_SIZE;
use crate::wire::hpack::Fields;

/// Octets of the longest name of an encoding that is known, and more.
const NAME_MAX: usize = 16;

/// What is done about requests that are sound, and yet not what honest clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// More than one `user_context` in a message.
    pub repeated: AmbiguityPolicy,
    /// `extensions` in a `user_context`: they are not overruled by the stamp.
    pub extensions: AmbiguityPolicy,
    /// Any other field of a `user_context` than `user_id`, `user_name` and `extensions`: a stamp
    /// overrules the first two alone, and what a later version of Spark reads there is not known.
    pub unknown: AmbiguityPolicy,
    /// Messages that are compressed.
    pub compressed: CompressionPolicy,
}

/// What is done about something odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguityPolicy {
    /// The call is refused.
    Refuse,
    /// It passes as it came, and the stamp rules what follows.
    Pass,
}

/// What is done about compressed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionPolicy {
    /// The call is refused.
    Refuse,
    /// They are inflated, stamped, and passed on uncompressed.
    Inflate {
        /// Octets of a message, before inflating and after.
        octets_max: usize,
    },
}

impl CompressionPolicy {
    /// Octets of memory that one message takes at most while it is inflated; none where none is.
    #[must_use]
    pub fn buffer_max(self) -> usize {
        match self {
            Self::Refuse => 0,
            Self::Inflate { octets_max } => octets_max.saturating_add(DECODER_SIZE),
        }
    }
}

/// How the messages of a request are compressed that say that they are: its `grpc-encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all. It is what an absent field says.
    #[default]
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which gRPC calls deflate.
    Deflate,
    /// Something that nobody here can inflate.
    Other,
}

impl Encoding {
    /// What a request says.
    #[must_use]
    pub fn of_request(fields: &Fields) -> Self {
        let mut all = fields.named(b"grpc-encoding");
        match (all.next(), all.next()) {
            (None, _) => Self::Identity,
            (Some((_, one)), None) => Self::from_name(one.value.prefix(&mut [0; NAME_MAX])),
            (Some(_), Some(_)) => Self::Other,
        }
    }

    /// The encoding of this name, octet for octet.
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
    fn the_encoding_of_a_request_is_what_its_only_field_says() {
        let said = |values: &[&str]| {
            let mut fields = Fields::default();
            fields.push(b"grpc-accept-encoding", b"gzip", Indexing::Without);
            for value in values {
                fields.push(b"grpc-encoding", value.as_bytes(), Indexing::Without);
            }
            Encoding::of_request(&fields)
        };
        assert_eq!(said(&[]), Encoding::Identity);
        assert_eq!(said(&["identity"]), Encoding::Identity);
        assert_eq!(said(&["gzip"]), Encoding::Gzip);
        assert_eq!(said(&["deflate"]), Encoding::Deflate);
        let long = "gzip".repeat(9);
        for other in ["", "GZIP", "gzip ", "gzip,deflate", "zstd", "identity-and-more", &long] {
            assert_eq!(said(&[other]), Encoding::Other, "{other:?}");
        }
        for twice in [["gzip", "gzip"], ["identity", "identity"], ["identity", "gzip"]] {
            assert_eq!(said(&twice), Encoding::Other, "{twice:?}");
        }
    }

    #[test]
    fn memory_is_kept_for_the_octets_that_may_come_out_and_the_window_of_the_decoder() {
        assert_eq!(CompressionPolicy::Refuse.buffer_max(), 0);
        let kept = CompressionPolicy::Inflate { octets_max: 1_000 }.buffer_max();
        assert!(kept > 1_000 + 32 * 1_024 && kept < 1_000 + 64 * 1_024, "{kept}");
        assert_eq!(CompressionPolicy::Inflate { octets_max: usize::MAX }.buffer_max(), usize::MAX);
    }
}
