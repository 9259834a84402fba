//! sconce: the front door for Apache Spark Connect.
//!
//! ```text
//!   main                       builds every layer from the bottom up, waits for a signal, decides nothing
//!   cli      admin             what people type; health, metrics
//!   proxy                      sockets, tasks and time: where bytes move
//!   route                      the live snapshot: which call goes where, right now
//!   config                     files that people write -> a plan the proxy can trust
//!   grpc                       what sconce understands of gRPC and of Spark Connect, and no more
//!   wire   telemetry           two foundations; neither knows of the other
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
