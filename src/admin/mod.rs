//! Admin: what an operator, a probe or a scraper asks over HTTP.
//!
//! `/healthz` says that the process lives, `/readyz` whether calls are welcome, `/metrics` what was
//! counted. Runs on the control plane's runtime, on an address of its own that clients of Spark
//! never need. What must never happen here: anything that changes the course of a call, an answer
//! that waits for a worker, a secret in a page.

mod negotiation;
mod pages;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub use server::serve;
pub use state::State;
