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
pub(crate) mod escape;
pub(crate) mod log;
pub(crate) mod log_limit;
mod log_queue;
mod metrics;
pub(crate) mod names;
mod page;
mod process;
mod scrape;
mod shard;
mod state;
mod table;
mod tenants;
#[cfg(test)]
mod tests;

pub(crate) use config_errors::ConfigErrorCount;
pub(crate) use driver_health::DriverHealth;
pub(crate) use metrics::{ControlMetrics, Metrics, MetricsFormat};
pub(crate) use names::{AnsweredBy, ConnectFailure, PeerSide};
pub(crate) use shard::{CallEnd, WorkerMetrics};
pub(crate) use state::{CertificateExpiry, IssuerMetrics};
pub(crate) use tenants::TenantId;
