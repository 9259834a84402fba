//! Faults: what a peer did wrong, and how far the damage goes (RFC 9113, 5.4).

use crate::wire::guard::Budget;

/// An HTTP/2 error code (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No error.
    NoError,
    /// The protocol was not kept.
    ProtocolError,
    /// Something of ours went wrong.
    InternalError,
    /// Credit was overspent.
    FlowControlError,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout,
    /// A frame for a stream that takes none any more.
    StreamClosed,
    /// A frame has the wrong size.
    FrameSizeError,
    /// Nothing of the stream was processed: it may be sent again.
    RefusedStream,
    /// The stream is not needed any more.
    Cancel,
    /// The header compression broke.
    CompressionError,
    /// CONNECT only.
    ConnectError,
    /// The peer does something too often.
    EnhanceYourCalm,
    /// TLS is too weak.
    InadequateSecurity,
    /// HTTP/1.1, please.
    Http11Required,
    /// A code that nobody has named; to be treated as an internal error.
    Other(u32),
}

impl ErrorCode {
    /// The code of a number.
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

    /// The number of a code.
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

/// The peer broke the connection: one GOAWAY, and nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// What GOAWAY says.
    pub code: ErrorCode,
    /// What was wrong, for the log and for GOAWAY's debug data.
    pub reason: &'static str,
    /// The budget that ran out, if one did.
    pub budget: Option<Budget>,
}

impl ConnectionError {
    /// A rule of the protocol was broken.
    #[must_use]
    pub const fn new(code: ErrorCode, what: &'static str) -> Self {
        Self { code, reason: what, budget: None }
    }

    /// A budget ran out.
    #[must_use]
    pub const fn enhance_your_calm(budget: Budget) -> Self {
        Self { code: ErrorCode::EnhanceYourCalm, reason: budget.name(), budget: Some(budget) }
    }
}

/// The peer broke one stream: RST_STREAM, and the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// What RST_STREAM says.
    pub code: ErrorCode,
    /// What was wrong, for the log.
    pub reason: &'static str,
}

impl StreamError {
    /// A rule of the protocol was broken on one stream.
    #[must_use]
    pub const fn new(code: ErrorCode, what: &'static str) -> Self {
        Self { code, reason: what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number() {
        for number in 0..20 {
            assert_eq!(ErrorCode::from_number(number).number(), number);
        }
    }
}
