//! What a connection tells its owner.

use std::ops::Range;

use crate::wire::error::{ErrorCode, StreamError};
use crate::wire::frame::StreamId;
use crate::wire::head::MalformedHead;

/// What a peer did. A `tag` is what the owner calls the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more can be read from these octets.
    NeedMoreData,
    /// The peer's settings arrived, or changed.
    Settings,
    /// The peer has acknowledged smaller windows: less is granted to its streams from now on.
    WindowsShrunk,
    /// A request; its fields stand in `Connection::fields`. The stream wants a tag.
    Request {
        /// The stream.
        stream: StreamId,
        /// Whether no body follows.
        end: bool,
    },
    /// A request that breaks a rule; its fields stand in `Connection::fields`. Nothing of it may be
    /// passed on: the stream waits to be answered and reset, by `reject`.
    MalformedRequest {
        /// The stream.
        stream: StreamId,
        /// What is wrong with it.
        error: MalformedHead,
    },
    /// A final answer; its fields stand in `Connection::fields`.
    Response {
        /// The stream's tag.
        tag: u32,
        /// The value of `:status`.
        status: u16,
        /// Whether nothing follows.
        end: bool,
    },
    /// An informational answer; its fields stand in `Connection::fields`.
    Informational {
        /// The stream's tag.
        tag: u32,
    },
    /// Trailers, which end the peer's side; their fields stand in `Connection::fields`.
    Trailers {
        /// The stream's tag.
        tag: u32,
    },
    /// An answer's head or trailers break a rule, and we have reset the stream; their fields stand
    /// in `Connection::fields`.
    MalformedResponse {
        /// The stream's tag.
        tag: u32,
        /// What is wrong with them.
        error: MalformedHead,
        /// Whether the peer had ended its side with them.
        end: bool,
    },
    /// Octets of a body.
    Data {
        /// The stream's tag.
        tag: u32,
        /// Where they stand in the octets given to `receive`.
        octets: Range<usize>,
        /// Whether nothing follows.
        end: bool,
    },
    /// The peer reset the stream.
    Reset {
        /// The stream's tag.
        tag: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The peer broke a rule on this stream, and we have reset it.
    StreamError {
        /// The stream's tag.
        tag: u32,
        /// What was wrong.
        error: StreamError,
    },
    /// There is more credit for one stream (its tag), or for the connection.
    WindowUpdate {
        /// The stream's tag; `None` for the connection.
        tag: Option<u32>,
    },
    /// The peer takes no new streams; those above `last` were not processed.
    GoAway {
        /// The last stream that was or may have been processed.
        last: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The peer has answered every PING of ours.
    PingAck,
}
