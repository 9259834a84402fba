//! HTTP/2 as pure state: octets and the time go in, events and octets come out.
//!
//! Both roles, server towards clients and client towards drivers, are one engine. It has no
//! async, no sockets, no clock, and allocates nothing for a DATA frame: payloads stay in the
//! reader's buffer and are spoken of by range. It must never panic on a peer's input, and never
//! hold what has no bound.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod connection;
pub mod error;
pub mod frame;
pub mod guard;
pub mod head;
pub mod hpack;
pub mod settings;
mod stream;
pub mod write_buffer;
