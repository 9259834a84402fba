//! Faults: what a peer did wrong, and how far the damage goes (RFC 9113, 5.4).

use crate::wire::guard::Budget;

/// An HTTP/2 error code (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
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

impl Code {
    /// The code of a number.
    #[must_use]
    pub const fn of(number: u32) -> Self {
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
pub struct Fault {
    /// What GOAWAY says.
    pub code: Code,
    /// What was wrong, for the log and for GOAWAY's debug data.
    pub what: &'static str,
    /// The budget that ran out, if one did.
    pub guard: Option<Budget>,
}

impl Fault {
    /// A rule of the protocol was broken.
    #[must_use]
    pub const fn new(code: Code, what: &'static str) -> Self {
        Self { code, what, guard: None }
    }

    /// A budget ran out.
    #[must_use]
    pub const fn calm(budget: Budget) -> Self {
        Self { code: Code::EnhanceYourCalm, what: budget.name(), guard: Some(budget) }
    }
}

/// The peer broke one stream: RST_STREAM, and the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFault {
    /// What RST_STREAM says.
    pub code: Code,
    /// What was wrong, for the log.
    pub what: &'static str,
}

impl StreamFault {
    /// A rule of the protocol was broken on one stream.
    #[must_use]
    pub const fn new(code: Code, what: &'static str) -> Self {
        Self { code, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number() {
        for number in 0..20 {
            assert_eq!(Code::of(number).number(), number);
        }
    }
}
