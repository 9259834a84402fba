//! Everything that ends a run: a rig that overlooks a wrong answer measures nothing.

use std::fmt;
use std::io;

/// Why a run is worth nothing.
#[derive(Debug)]
pub enum Fault {
    /// A socket or pipe failed.
    Io(&'static str, io::Error),
    /// The HTTP/2 connection or stream failed.
    Http2(&'static str, h2::Error),
    /// TLS cannot be spoken as it must be.
    Authority(String),
    /// A request could not be put together from the given arguments.
    Request(String),
    /// The response head was not that of a gRPC answer.
    Head(String),
    /// The call ended with another status than OK.
    Refused {
        /// The number in `grpc-status`.
        code: u32,
        /// What `grpc-message` says.
        message: String,
    },
    /// The octets of a message were not the ones that were asked for.
    Content {
        /// Which message of the body, counted from 0.
        message: u64,
        /// Where in it, counted from the first octet of its prefix.
        offset: usize,
    },
    /// There were more or fewer octets than asked for.
    Count {
        /// What was counted.
        what: &'static str,
        /// How many octets or messages should have come.
        wanted: u64,
        /// How many came.
        got: u64,
    },
    /// A task of the rig itself died.
    Task(tokio::task::JoinError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Http2(what, error) => write!(f, "{what}: {error}"),
            Self::Authority(why) => write!(f, "no TLS: {why}"),
            Self::Request(why) => write!(f, "cannot make the request: {why}"),
            Self::Head(why) => write!(f, "not the head of a gRPC answer: {why}"),
            Self::Refused { code, message } => {
                write!(f, "the call failed: grpc-status {code}, {message}")
            }
            Self::Content { message, offset } => {
                write!(f, "wrong content in message {message} at octet {offset}")
            }
            Self::Count { what, wanted, got } => write!(f, "{what}: wanted {wanted}, got {got}"),
            Self::Task(error) => write!(f, "a task died: {error}"),
        }
    }
}

impl std::error::Error for Fault {}
