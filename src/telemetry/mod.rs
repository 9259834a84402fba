//! Telemetry: metrics and the log.
//!
//! Contains the names of all metrics ([`names`]), the counters of workers and of the control plane
//! ([`Metrics`]), the encoder (`scrape`) and the log. It imports no other layer, so that every
//! layer may count. Must never happen here: a lock, an allocation or file I/O in a call. Each
//! worker counts in its own memory; a scrape sums the shards.

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
mod page;
mod process;
mod scrape;
mod shard;
mod state;
mod table;
mod tenants;
#[cfg(test)]
mod tests;

pub use config_errors::ConfigErrorCount;
pub use driver_health::DriverHealth;
pub use metrics::{ControlMetrics, Metrics, MetricsFormat};
pub use names::{AnsweredBy, ConnectFailure, MethodLabel, PeerSide};
pub use shard::{CallEnd, WorkerMetrics};
pub use state::{CertificateExpiry, IssuerMetrics};
pub use tenants::TenantId;
