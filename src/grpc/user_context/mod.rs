//! Stamp: the verified user is written over whatever a client claims, in every message.
//!
//! Protobuf merges the occurrences of a message field, and the last scalar wins: so one more
//! `user_context` goes to the end of each message, and gRPC's length prefix grows by as much.
//! Messages pass as they come, in the buffer that they were read into. Only a compressed one is
//! kept, within a bound, since a stamp behind it would be garbage to whoever inflates it.
//!
//! What must never happen here: a message that passes without its stamp, or with an encoding that
//! a driver could read differently; an allocation for each chunk or for each message that is not
//! compressed; memory that grows by what a message says of itself.

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
