//! Connection errors and stream errors (RFC 9113, 5.4).

use crate::wire::guard::Budget;

/// An HTTP/2 error code (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No error.
    NoError,
    /// A protocol rule was broken, and no other code is more specific.
    ProtocolError,
    /// The sender had an internal error.
    InternalError,
    /// The peer sent more than the flow-control window allowed.
    FlowControlError,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout,
    /// A frame arrived on a half-closed stream.
    StreamClosed,
    /// A frame has the wrong size.
    FrameSizeError,
    /// The stream was not processed at all; a retry is safe.
    RefusedStream,
    /// The stream is no longer needed.
    Cancel,
    /// The header compression state is lost.
    CompressionError,
    /// The connection behind a CONNECT request failed.
    ConnectError,
    /// The peer exceeds a rate limit.
    EnhanceYourCalm,
    /// TLS does not meet the minimum requirements.
    InadequateSecurity,
    /// The request needs HTTP/1.1.
    Http11Required,
    /// An unknown code, to be treated like INTERNAL_ERROR.
    Other(u32),
}

impl ErrorCode {
    /// The code with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::NoError,
            1 => Self::ProtocolError,
            2 => Self::InternalError,
            3 => Self::FlowControlError,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSizeError,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::CompressionError,
            10 => Self::ConnectError,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            other => Self::Other(other),
        }
    }

    /// The number of this code.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::NoError => 0,
            Self::ProtocolError => 1,
            Self::InternalError => 2,
            Self::FlowControlError => 3,
            Self::SettingsTimeout => 4,
            Self::StreamClosed => 5,
            Self::FrameSizeError => 6,
            Self::RefusedStream => 7,
            Self::Cancel => 8,
            Self::CompressionError => 9,
            Self::ConnectError => 10,
            Self::EnhanceYourCalm => 11,
            Self::InadequateSecurity => 12,
            Self::Http11Required => 13,
            Self::Other(number) => number,
        }
    }
}

/// A connection error: send GOAWAY, read nothing more, close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// The error code of GOAWAY.
    pub code: ErrorCode,
    /// The cause, for the log and for the debug data of GOAWAY.
    pub reason: &'static str,
    /// The exhausted budget, if that is the cause.
    pub budget: Option<Budget>,
}

impl ConnectionError {
    /// A violation of the protocol.
    #[must_use]
    pub const fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code, reason, budget: None }
    }

    /// An exhausted budget.
    #[must_use]
    pub const fn enhance_your_calm(budget: Budget) -> Self {
        Self { code: ErrorCode::EnhanceYourCalm, reason: budget.name(), budget: Some(budget) }
    }
}

/// A stream error: send RST_STREAM; the connection and its other streams continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The error code of RST_STREAM.
    pub code: ErrorCode,
    /// The cause, for the log.
    pub reason: &'static str,
}

impl StreamError {
    /// A violation of the protocol on one stream.
    #[must_use]
    pub const fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_converts_to_a_number_and_back() {
        for number in 0..20 {
            assert_eq!(ErrorCode::from_number(number).number(), number);
        }
    }
}
