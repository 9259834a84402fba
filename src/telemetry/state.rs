//! Shared state of all metrics: the shards of workers, and the values of the control plane.
//!
//! Must never happen here: a lock in a call. The locks are for reloads, worker starts and scrapes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::config_errors::ConfigErrorCount;
use super::driver_health::DriverHealth;
use super::shard::Shard;
use super::tenants::Tenants;

/// Everything behind the handles of `metrics`.
#[derive(Debug)]
pub(super) struct MetricsState {
    pub(super) shards: Mutex<Vec<Arc<Shard>>>,
    pub(super) tenants: Arc<Tenants>,
    pub(super) control: ControlState,
    pub(super) version: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct ControlState {
    pub(super) reloads_succeeded: AtomicU64,
    pub(super) jwks_fetches_succeeded: AtomicU64,
    pub(super) jwks_fetches_failed: AtomicU64,
    pub(super) reloads_failed: AtomicU64,
    pub(super) generation: AtomicU64,
    pub(super) last_reload_success_s: AtomicU64,
    pub(super) log_lines_dropped: AtomicU64,
    pub(super) ready: AtomicBool,
    pub(super) draining: AtomicBool,
    /// Locked by reloads and scrapes only, like the following fields.
    pub(super) certificates: Mutex<Vec<CertificateExpiry>>,
    pub(super) issuers: Mutex<Vec<Weak<IssuerMetrics>>>,
    pub(super) drivers: Mutex<Vec<Arc<DriverHealth>>>,
    pub(super) config_errors: Mutex<Arc<[ConfigErrorCount]>>,
}

/// Fetch times of one issuer's keys. Exported while this value exists.
#[derive(Debug)]
pub struct IssuerMetrics {
    pub(super) name: String,
    pub(super) last_fetch_s: AtomicU64,
    pub(super) refresh_interval_s: AtomicU64,
}

impl IssuerMetrics {
    /// Records a successful fetch at this time.
    pub fn record_fetch(&self, at: SystemTime) {
        self.last_fetch_s.store(seconds(at), Ordering::Relaxed);
    }

    /// Sets the configured fetch interval.
    pub fn set_refresh_interval(&self, refresh: Duration) {
        self.refresh_interval_s.store(refresh.as_secs(), Ordering::Relaxed);
    }
}

/// Expiry of the certificates of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Purpose of the certificates, as a label value.
    pub usage: &'static str,
    /// Path of the file.
    pub file: String,
    /// Earliest `notAfter` of the file's certificates, Unix time in seconds.
    pub not_after: i64,
}

impl MetricsState {
    /// The shards of all running and ended workers.
    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Unix time in seconds.
pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
