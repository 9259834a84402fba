//! Writing of the verified user into every request message.
//!
//! Protobuf merges the occurrences of a message field, and the last scalar wins. So a
//! `user_context` field with the verified user is appended to each message, and the length in its
//! prefix grows. Messages are forwarded from the read buffer; only compressed ones are buffered,
//! within a limit, because they must be inflated first.
//!
//! Invariants: no message is forwarded without the verified user, or with an encoding that a driver
//! could parse differently; no allocation per chunk or per uncompressed message; memory does not
//! grow with a length that a message claims.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod field;
mod inflate;
mod policy;
#[cfg(test)]
mod properties;
mod refusals;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod writer;

pub use field::UserContextField;
pub use policy::{AmbiguityPolicy, CompressionPolicy, Encoding, Policy};
pub use writer::{Insertion, OutputChunk, UserContextWriter};
