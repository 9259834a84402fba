//! HTTP/2 as pure state: octets and the time go in, events and octets come out.
//!
//! One engine for both roles: server towards downstream clients, client towards upstream servers.
//! No async, no sockets, no clock, and no allocation for a DATA frame: events refer to payloads by
//! their range in the read buffer. A peer's input never causes a panic, and all memory is bounded.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod connection;
pub mod error;
pub mod frame;
pub mod guard;
pub mod head;
pub mod hpack;
pub mod memory;
pub mod settings;
mod stream;
pub mod write_buffer;
