//! The tools of the attack: a client, a driver, a canary and a runner.
//!
//! Nothing here may use the code under test: a mistake that both sides share would never show.

pub mod bridge;
pub mod canary;
pub mod client;
pub mod driver;
pub mod fields;
pub mod frame;
pub mod hearing;
pub mod probe;
pub mod proof;
pub mod protobuf;
pub mod reply;
pub mod runner;
pub mod sconce;
pub mod script;
pub mod session;
pub mod signer;
pub mod upload;
pub mod upstream;
pub mod world;
