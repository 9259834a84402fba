//! Admin: HTTP pages for operators, probes and scrapers.
//!
//! `/healthz` is liveness, `/readyz` readiness, `/metrics` the Prometheus metrics. The pages run on
//! the control plane's runtime and on their own address. Must never happen here: an effect on
//! calls, a response that waits for a worker, a secret in a page.

mod negotiation;
mod pages;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use server::serve;
pub(crate) use state::State;
