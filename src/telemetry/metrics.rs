//! Handles for writing metrics, and the encoder.
//!
//! Workers count through [`WorkerMetrics`], the control plane through [`ControlMetrics`];
//! [`Metrics::encode`] sums all shards for `/metrics`. The lock guards the list of shards: it is
//! taken when a worker starts and by a scrape, never by a call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::by_team::{self, OpenCalls};
use super::classic;
use super::config_errors::ConfigErrorCount;
use super::driver_health::DriverHealth;
use super::scrape::Scrape;
use super::shard::{Shard, WorkerMetrics};
use super::state::{CertificateExpiry, ControlState, IssuerMetrics, MetricsState, seconds};
use super::tenants::Tenants;

/// All metrics of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<MetricsState>);

/// Text format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Handle of the control plane: configuration, readiness, log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlMetrics(Arc<MetricsState>);

impl Metrics {
    /// Creates all metrics. `version` is the version of the build.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let control = ControlState::default();
        let tenants = Arc::new(Tenants::new());
        Self(Arc::new(MetricsState { shards: Mutex::default(), tenants, control, version }))
    }

    /// Creates the handle of one worker. Its counts remain after the worker has ended.
    #[must_use]
    pub fn worker(&self) -> WorkerMetrics {
        let shard = Arc::new(Shard::new(Arc::clone(&self.0.tenants)));
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        WorkerMetrics::new(shard)
    }

    /// The handle of the control plane.
    #[must_use]
    pub fn control(&self) -> ControlMetrics {
        ControlMetrics(Arc::clone(&self.0))
    }

    /// Encodes all metrics. Reads `/proc` for the metrics of the process.
    #[must_use]
    pub fn encode(&self, format: MetricsFormat) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(&self.0))));
        let mut page = String::new();
        if text::encode(&mut page, &registry).is_err() {
            // A `String` never fails to be written. Half a page would look like counters that
            // vanished, so return none.
            page.clear();
        }
        match format {
            MetricsFormat::Classic => classic::from_open_metrics(&page),
            MetricsFormat::OpenMetrics => page,
        }
    }
}

impl MetricsFormat {
    /// The `content-type` of this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl ControlMetrics {
    /// Records a reload at `at` that activated configuration `generation`.
    pub fn reload_succeeded(&self, generation: u64, at: SystemTime) {
        let control = &self.0.control;
        control.reloads_succeeded.fetch_add(1, Ordering::Relaxed);
        control.generation.store(generation, Ordering::Relaxed);
        control.last_reload_success_s.store(seconds(at), Ordering::Relaxed);
    }

    /// Records a reload that was rejected.
    pub fn reload_failed(&self) {
        self.0.control.reloads_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the numbers of configuration errors.
    pub fn set_config_errors(&self, errors: Vec<ConfigErrorCount>) {
        let known = &self.0.control.config_errors;
        *known.lock().unwrap_or_else(PoisonError::into_inner) = errors.into();
    }

    /// Numbers of configuration errors at the last read.
    #[must_use]
    pub fn config_errors(&self) -> Arc<[ConfigErrorCount]> {
        Arc::clone(&self.0.control.config_errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records an attempt to fetch the keys of an identity provider.
    pub fn jwks_fetched(&self, is_good: bool) {
        let control = &self.0.control;
        let count =
            if is_good { &control.jwks_fetches_succeeded } else { &control.jwks_fetches_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Registers an issuer whose keys are fetched.
    #[must_use]
    pub fn register_issuer(&self, name: &str) -> Arc<IssuerMetrics> {
        let (name, fetched_s, refresh_s) = (name.to_owned(), 0.into(), 0.into());
        let issuer = Arc::new(IssuerMetrics {
            name,
            last_fetch_s: fetched_s,
            refresh_interval_s: refresh_s,
        });
        let issuers = &self.0.control.issuers;
        let mut issuers = issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.retain(|issuer| issuer.strong_count() > 0);
        issuers.push(Arc::downgrade(&issuer));
        issuer
    }

    /// Replaces the active certificates: one entry for each file and use.
    pub fn set_certificates(&self, all: Vec<CertificateExpiry>) {
        *self.0.control.certificates.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Replaces the active drivers.
    pub fn set_drivers(&self, all: Vec<Arc<DriverHealth>>) {
        *self.0.control.drivers.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Open calls by team and environment.
    #[must_use]
    pub fn open_calls(&self) -> Vec<OpenCalls> {
        by_team::open_calls(&self.0)
    }

    /// Sets readiness.
    pub fn set_ready(&self, is: bool) {
        self.0.control.ready.store(is, Ordering::Relaxed);
    }

    /// Marks the start of the drain, which is final.
    pub fn set_draining(&self) {
        self.0.control.draining.store(true, Ordering::Relaxed);
    }

    /// Counts dropped log lines.
    pub(super) fn log_lines_dropped(&self, lines: u64) {
        self.0.control.log_lines_dropped.fetch_add(lines, Ordering::Relaxed);
    }
}
