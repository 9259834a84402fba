//! sconce: the front door for Apache Spark Connect.
//!
//! ```text
//!   main                       calls cli
//!   cli      admin             commands, start and stop; health and metrics
//!   proxy                      sockets, tasks and time: relays bytes
//!   route                      the active snapshot: which call goes where
//!   config                     files -> a validated configuration
//!   grpc                       the parts of gRPC and Spark Connect that sconce understands
//!   wire   telemetry           HTTP/2 and HPACK; metrics and logs: independent of each other
//!   filters                    the filters and their API: a crate of its own, below all layers
//! ```
//!
//! **The one law:** a layer may import any layer drawn below it; never one above, never one beside.
//! `filters` is a crate of its own (`sconce-filters`), so Cargo keeps every filter away from
//! sockets, routes and clusters; `tests/tidy.rs` keeps the other arrows.

pub(crate) mod admin;
pub mod cli;
pub mod config;
pub mod grpc;
pub mod proxy;
pub(crate) mod route;
pub(crate) mod telemetry;
pub mod wire;
