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
mod log_queue;
mod metrics;
pub mod names;
mod process;
mod scrape;
mod shard;
mod table;
mod tenants;
#[cfg(test)]
mod tests;

pub use config_errors::ConfigErrorCount;
pub use driver_health::DriverHealth;
pub use metrics::{CertificateExpiry, ControlMetrics, IssuerMetrics, Metrics, MetricsFormat};
pub use names::{AnsweredBy, ConnectFailure, MethodLabel, PeerSide};
pub use shard::{CallEnd, WorkerMetrics};
pub use tenants::TenantId;
