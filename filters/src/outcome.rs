//! How a call ended, as the rooms hear it.

use crate::Code;
use std::time::Duration;

/// How a call ended. Each room that admitted the call hears it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The `grpc-status` that the client got, or would have got had it waited.
    pub code: Code,
    /// From the complete header block to the end.
    pub duration: Duration,
    /// Octets of request body that went to the driver.
    pub request_bytes: u64,
    /// Octets of response body that went to the client.
    pub response_bytes: u64,
    /// By whose doing it ended.
    pub reason: EndReason,
}

/// By whose doing a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The driver answered to the end.
    Answered,
    /// sconce refused the call: a room of the chain, or a limit.
    Refused,
    /// The client reset the stream.
    Cancelled,
    /// The client's connection went away.
    ClientLost,
    /// The driver could not be reached, went away or misbehaved.
    DriverLost,
    /// The call's own deadline passed.
    DeadlinePassed,
    /// The caller's proof expired: the stream was ended where the client takes it up again.
    Expired,
    /// sconce was shut down before the call could finish.
    Drained,
}

impl EndReason {
    /// One word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::ClientLost => "client_lost",
            Self::DriverLost => "driver_lost",
            Self::DeadlinePassed => "deadline_passed",
            Self::Expired => "expired",
            Self::Drained => "drained",
        }
    }
}
