//! What can be wrong with a header list, by the rule that was broken.

use crate::wire::error::{ErrorCode, StreamError};

/// A rule for header lists (RFC 9113, 8.2 and 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A field name is empty or has an octet that names do not have.
    Name,
    /// A value has NUL, CR or LF.
    Octet,
    /// A value begins or ends with a space or a tab.
    Space,
    /// A field that is about one connection of HTTP/1.1.
    Connection,
    /// `te` says anything but `trailers`.
    Te,
    /// `content-length` is no number, or two of them differ.
    ContentLength,
    /// The body is not as long as `content-length` says.
    BodyLength,
    /// A pseudo-header field that does not belong there.
    Pseudo,
    /// A pseudo-header field that is there twice, or after the other fields.
    PseudoOrder,
    /// A pseudo-header field that is empty.
    PseudoEmpty,
    /// The pseudo-header field of this name is missing.
    PseudoMissing(&'static str),
    /// CONNECT, which no client of Spark sends.
    Connect,
    /// `:scheme` is not the scheme of a URI.
    Scheme,
    /// `:authority` or `host` is not a host and a port.
    Authority,
    /// There is neither `:authority` nor `host`.
    AuthorityMissing,
    /// `host` differs from `:authority`, or there are two.
    Host,
    /// `:status` is no number of three digits.
    Status,
    /// The stream depends on itself (RFC 7540, 5.3.1).
    Priority,
}

impl Rule {
    /// The name, as logs and the metric `sconce_refusals_total` spell it.
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

    /// What was wrong, without the field.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Name => "a field name has a forbidden octet",
            Self::Octet => "a value has NUL, CR or LF",
            Self::Space => "a value begins or ends with a space or a tab",
            Self::Connection => "a connection-specific field",
            Self::Te => "te other than trailers",
            Self::ContentLength => "content-length is no number, or there are two",
            Self::BodyLength => "the body is not as long as promised",
            Self::Pseudo => "a pseudo-header field that does not belong there",
            Self::PseudoOrder => "a pseudo-header field twice, or after the others",
            Self::PseudoEmpty => "a pseudo-header field is empty",
            Self::PseudoMissing(_) => "a pseudo-header field is missing",
            Self::Connect => ":method is CONNECT, which no gRPC call has",
            Self::Scheme => ":scheme is not the scheme of a URI",
            Self::Authority => "the authority is not host and port",
            Self::AuthorityMissing => "neither :authority nor host",
            Self::Host => "host differs from :authority",
            Self::Status => ":status is no number",
            Self::Priority => "a stream depends on itself",
        }
    }
}

/// A header list that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHead {
    /// Which one.
    pub rule: Rule,
    /// The place in the list of the field that breaks it, if it is one field.
    pub field_index: Option<usize>,
}

impl MalformedHead {
    /// A rule that one field breaks.
    #[must_use]
    pub const fn at(rule: Rule, place: usize) -> Self {
        Self { rule, field_index: Some(place) }
    }

    /// A rule that the list breaks as a whole.
    #[must_use]
    pub const fn of(rule: Rule) -> Self {
        Self { rule, field_index: None }
    }
}

impl From<MalformedHead> for StreamError {
    fn from(fault: MalformedHead) -> Self {
        Self::new(ErrorCode::ProtocolError, fault.rule.description())
    }
}
