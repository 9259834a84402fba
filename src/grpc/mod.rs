//! What sconce understands of gRPC and of Spark Connect, and no more.
//!
//! Requests are read from heads, answers of sconce's own are written as heads. Of messages only the
//! envelope is looked at, to stamp it with who calls, and of answers those to Config, to hide what
//! clients shall not see; all else passes as octets.

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
