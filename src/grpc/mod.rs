//! What sconce understands of gRPC and of Spark Connect, and no more.
//!
//! Requests are read from heads, answers of sconce's own are written as heads. Messages are
//! nobody's business here: they pass as octets.

pub mod forward;
mod protobuf;
pub mod request;
pub mod status;
