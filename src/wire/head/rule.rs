//! The rules for field lists, and the error type of a malformed list.

use crate::wire::error::{ErrorCode, StreamError};

/// A rule for field lists (RFC 9113, 8.2 and 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A field name is empty or has an invalid octet.
    Name,
    /// A value contains NUL, CR or LF.
    Octet,
    /// A value begins or ends with a space or a tab.
    Space,
    /// A connection-specific field of HTTP/1.1.
    Connection,
    /// `te` has a value other than `trailers`.
    Te,
    /// `content-length` is not a number, or two values differ.
    ContentLength,
    /// The length of the body differs from `content-length`.
    BodyLength,
    /// An undefined or misplaced pseudo-header field.
    Pseudo,
    /// A repeated pseudo-header field, or one after a regular field.
    PseudoOrder,
    /// A pseudo-header field that is empty.
    PseudoEmpty,
    /// The pseudo-header field of this name is missing.
    PseudoMissing(&'static str),
    /// The method is CONNECT, which gRPC does not use.
    Connect,
    /// `:scheme` is not a URI scheme.
    Scheme,
    /// `:authority` or `host` is not a host with an optional port.
    Authority,
    /// Both `:authority` and `host` are missing.
    AuthorityMissing,
    /// `host` differs from `:authority`, or is repeated.
    Host,
    /// `:status` is not a number of three digits.
    Status,
    /// The priority makes the stream depend on itself (RFC 7540, 5.3.1).
    Priority,
}

impl Rule {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Name => "malformed.name",
            Self::Octet => "malformed.octet",
            Self::Space => "malformed.space",
            Self::Connection => "malformed.connection",
            Self::Te => "malformed.te",
            Self::ContentLength => "malformed.content_length",
            Self::BodyLength => "malformed.body_length",
            Self::Pseudo => "malformed.pseudo",
            Self::PseudoOrder => "malformed.pseudo_order",
            Self::PseudoEmpty => "malformed.pseudo_empty",
            Self::PseudoMissing(_) => "malformed.pseudo_missing",
            Self::Connect => "malformed.connect",
            Self::Scheme => "malformed.scheme",
            Self::Authority => "malformed.authority",
            Self::AuthorityMissing => "malformed.authority_missing",
            Self::Host => "malformed.host",
            Self::Status => "malformed.status",
            Self::Priority => "malformed.priority",
        }
    }

    /// The violation, without the field.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Name => "a field name is empty or has an invalid character",
            Self::Octet => "a field value contains NUL, CR or LF",
            Self::Space => "a field value begins or ends with a space or a tab",
            Self::Connection => "a connection-specific field of HTTP/1.1",
            Self::Te => "te is not 'trailers'",
            Self::ContentLength => "content-length is not one number",
            Self::BodyLength => "the length of the body differs from content-length",
            Self::Pseudo => "an undefined or misplaced pseudo-header field",
            Self::PseudoOrder => "a pseudo-header field is repeated or follows a regular field",
            Self::PseudoEmpty => "a pseudo-header field is empty",
            Self::PseudoMissing(_) => "a pseudo-header field is missing",
            Self::Connect => ":method is CONNECT, which gRPC does not use",
            Self::Scheme => ":scheme is not a URI scheme",
            Self::Authority => ":authority or host is not a host with an optional port",
            Self::AuthorityMissing => ":authority and host are missing",
            Self::Host => "host differs from :authority or is repeated",
            Self::Status => ":status is not a number of three digits",
            Self::Priority => "a stream depends on itself",
        }
    }
}

/// The error of a malformed field list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHead {
    /// The broken rule.
    pub rule: Rule,
    /// Index of the invalid field, if the error concerns one field.
    pub field_index: Option<usize>,
}

impl MalformedHead {
    /// An error of one field.
    #[must_use]
    pub const fn at(rule: Rule, place: usize) -> Self {
        Self { rule, field_index: Some(place) }
    }

    /// An error of the list as a whole.
    #[must_use]
    pub const fn of(rule: Rule) -> Self {
        Self { rule, field_index: None }
    }
}

impl From<MalformedHead> for StreamError {
    fn from(error: MalformedHead) -> Self {
        Self::new(ErrorCode::ProtocolError, error.rule.description())
    }
}
