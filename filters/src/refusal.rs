//! Refusals: responses that sconce sends instead of the driver's (Envoy: local replies).
//!
//! A message says what is wrong and what the caller must change.

use std::{fmt, time::Duration};

/// A gRPC status that ends a call before it reaches a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The `grpc-status`.
    pub code: Code,
    /// Filter and reason, the label in metrics, such as `team.missing`. Must not be built from
    /// input.
    pub label: &'static str,
    /// The `grpc-message`, before percent-encoding.
    pub message: String,
    /// The delay after which a retry may succeed: sent as `google.rpc.RetryInfo`.
    pub retry_after: Option<Duration>,
    /// The CPU cost of the decision. A peer that causes many expensive refusals is an attacker.
    pub cost: Cost,
}

/// The most expensive part of the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cost {
    /// Look-ups and comparisons: a few microseconds. A cached refusal is cheap.
    #[default]
    Cheap,
    /// A token was decoded and its JSON parsed: up to about 100 microseconds.
    Parsed,
    /// A signature was verified: 60 microseconds (RS256, ES256) to 250 (ES384, long RSA keys).
    Verified,
}

impl Refusal {
    /// A refusal that a retry does not change, of cost [`Cost::Cheap`].
    pub fn new(code: Code, label: &'static str, message: impl fmt::Display) -> Self {
        Self { code, label, message: message.to_string(), retry_after: None, cost: Cost::Cheap }
    }

    /// The same refusal with a delay for retries.
    #[must_use]
    pub fn with_retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// The same refusal with another cost.
    #[must_use]
    pub fn with_cost(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// The status codes of gRPC (grpc/grpc, `doc/statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is what the gRPC document says it is")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, by their number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The value of `grpc-status`.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number; [`Code::Unknown`] for one that gRPC does not define.
    pub fn from_number(number: u64) -> Self {
        let index = usize::try_from(number).ok();
        index.and_then(|index| Self::ALL.get(index)).copied().unwrap_or(Self::Unknown)
    }

    /// The name in the gRPC documents, such as `INVALID_ARGUMENT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_number_and_others_are_unknown() {
        for (number, code) in (0u8..).zip(Code::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(Code::from_number(u64::from(number)), code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u64::MAX), Code::Unknown);
    }

    #[test]
    fn a_refusal_is_displayed_with_its_code_first() {
        let refusal = Refusal::new(Code::NotFound, "team.unknown", "no such team");
        assert_eq!(refusal.to_string(), "NOT_FOUND: no such team");
    }
}
