//! Events of a connection.

use std::ops::Range;

use crate::wire::error::{ErrorCode, StreamError};
use crate::wire::frame::StreamId;
use crate::wire::head::MalformedHead;

/// An event of the peer. `tag` is the owner's identifier of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All octets are consumed, and no further event is complete.
    NeedMoreData,
    /// SETTINGS of the peer arrived.
    Settings,
    /// The peer has acknowledged smaller stream windows; they are in effect now.
    WindowsShrunk,
    /// A request head, in `Connection::fields`. The owner sets the tag of the stream.
    Request {
        /// The stream.
        stream: StreamId,
        /// Whether the head has END_STREAM.
        end: bool,
    },
    /// A malformed request head, in `Connection::fields`, which must not be forwarded. The owner
    /// may respond, and then calls `Connection::reject_request`.
    MalformedRequest {
        /// The stream.
        stream: StreamId,
        /// The broken rule.
        error: MalformedHead,
    },
    /// A final response head, in `Connection::fields`.
    Response {
        /// The stream's tag.
        tag: u32,
        /// The value of `:status`.
        status: u16,
        /// Whether the head has END_STREAM.
        end: bool,
    },
    /// An informational response head, in `Connection::fields`.
    Informational {
        /// The stream's tag.
        tag: u32,
    },
    /// Trailers, in `Connection::fields`. They have END_STREAM.
    Trailers {
        /// The stream's tag.
        tag: u32,
    },
    /// A malformed response head or malformed trailers, in `Connection::fields`. The stream is
    /// reset already.
    MalformedResponse {
        /// The stream's tag.
        tag: u32,
        /// The broken rule.
        error: MalformedHead,
        /// Whether the malformed part has END_STREAM.
        end: bool,
    },
    /// Octets of a body.
    Data {
        /// The stream's tag.
        tag: u32,
        /// Their range in the input of `Connection::receive`.
        octets: Range<usize>,
        /// Whether END_STREAM follows these octets.
        end: bool,
    },
    /// RST_STREAM from the peer.
    Reset {
        /// The stream's tag.
        tag: u32,
        /// The error code.
        code: ErrorCode,
    },
    /// A stream error of the peer. The stream is reset already.
    StreamError {
        /// The stream's tag.
        tag: u32,
        /// The error.
        error: StreamError,
    },
    /// A send window has grown.
    WindowUpdate {
        /// The stream's tag; `None` for the connection.
        tag: Option<u32>,
    },
    /// GOAWAY: the peer accepts no new streams.
    GoAway {
        /// The last stream that the peer may have processed; later ones are safe to retry.
        last: StreamId,
        /// The error code.
        code: ErrorCode,
    },
    /// The peer has acknowledged every PING of `Connection::send_ping`.
    PingAck,
}
