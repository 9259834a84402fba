//! How a call ended.

use crate::Code;
use std::time::Duration;

/// The outcome of a call: see [`Filter::on_complete`](crate::Filter::on_complete).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The `grpc-status` that sconce sent, or would have sent to a client that has gone.
    pub code: Code,
    /// From the end of the request's header block to the end of the call.
    pub duration: Duration,
    /// Request body, in bytes, that sconce sent to the driver.
    pub request_bytes: u64,
    /// Response body, in bytes, that sconce sent to the client.
    pub response_bytes: u64,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The driver sent a complete response.
    Answered,
    /// sconce refused the call: a filter of the chain, or a limit.
    Refused,
    /// The client reset the stream.
    Cancelled,
    /// The client connection closed.
    ClientLost,
    /// The driver was unreachable, closed the connection or violated the protocol.
    DriverLost,
    /// The deadline of the call passed.
    DeadlinePassed,
    /// The caller's credential expired: the stream ended at a point where the client can reattach.
    Expired,
    /// sconce shut down before the end of the call.
    Drained,
}

impl EndReason {
    /// The label in metrics and logs.
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
