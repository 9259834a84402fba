//! Telemetry: what sconce counts and what it says.
//!
//! Here live the names of all metrics ([`names`]), the counters that workers touch ([`Metrics`]),
//! how they are read (`scrape`) and the log. One of the three foundations: it knows no other layer,
//! so that every layer may count. What must never happen here: a lock, an allocation or a write to
//! a file on the way of a call. A worker counts in memory of its own, and who scrapes pays for the
//! sum.

mod by_team;
mod classic;
mod config_errors;
mod driver_health;
pub mod escape;
pub mod log;
pub mod log_limit;
mod metrics;
pub mod names;
mod process;
mod scrape;
mod shard;
mod spool;
mod table;
mod tenants;
#[cfg(test)]
mod tests;

pub use config_errors::ConfigErrors;
pub use driver_health::DriverHealth;
pub use metrics::{ControlMetrics, Expiry, Format, Issuer, Metrics};
pub use names::{AnsweredBy, DialFailure, Guarded, MethodLabel};
pub use shard::{Ended, WorkerMetrics};
pub use tenants::TenantId;
