//! The parts of gRPC and Spark Connect that sconce parses.
//!
//! Request heads, local replies, the top-level fields of request messages (to append the verified
//! `user_context`), and responses to Config (to hide values). All other messages pass as octets.

pub mod boundary;
pub mod credential;
pub mod envelope;
pub mod forward;
pub mod malformed;
mod prefix;
mod protobuf;
pub mod redact;
pub mod request;
pub mod status;
pub mod user_context;
