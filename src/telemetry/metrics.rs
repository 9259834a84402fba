//! The two hands that count, and the one that reads.
//!
//! Workers count through [`WorkerMetrics`], the control plane through [`ControlMetrics`];
//! `/metrics` reads through [`Metrics::encode`], the only place where all shards meet. The lock
//! here guards the list of shards: it is taken when a worker starts and when somebody scrapes,
//! never by a call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::classic;
use super::scrape::Scrape;
use super::shard::{Shard, WorkerMetrics};

/// Everything this process counts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Ledger>);

/// The two ways to write metrics down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which every scraper reads.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The control plane's hand: configuration, readiness, logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlMetrics(Arc<Ledger>);

#[derive(Debug)]
pub(super) struct Ledger {
    shards: Mutex<Vec<Arc<Shard>>>,
    pub(super) control: Control,
    pub(super) version: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) reloads_good: AtomicU64,
    pub(super) key_fetches_good: AtomicU64,
    pub(super) key_fetches_bad: AtomicU64,
    pub(super) reloads_bad: AtomicU64,
    pub(super) generation: AtomicU64,
    pub(super) last_good_s: AtomicU64,
    pub(super) complaints: AtomicU64,
    pub(super) log_lines_dropped: AtomicU64,
    pub(super) ready: AtomicBool,
    pub(super) draining: AtomicBool,
    /// Touched when files are read and when somebody scrapes, as what follows.
    pub(super) certificates: Mutex<Vec<Expiry>>,
    pub(super) issuers: Mutex<Vec<Weak<Issuer>>>,
}

/// When the keys of one identity provider were last fetched: told for as long as this is held.
#[derive(Debug)]
pub struct Issuer {
    pub(super) name: String,
    pub(super) fetched_s: AtomicU64,
}

impl Issuer {
    /// They were fetched at this time.
    pub fn fetched(&self, at: SystemTime) {
        self.fetched_s.store(seconds(at), Ordering::Relaxed);
    }
}

/// When a file's certificates end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What they are there for.
    pub used: &'static str,
    /// The file.
    pub file: String,
    /// The last second of the first one to end, since the epoch.
    pub ends: i64,
}

impl Metrics {
    /// All at zero. `version` is the build's own.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let control = Control::default();
        Self(Arc::new(Ledger { shards: Mutex::default(), control, version }))
    }

    /// A hand for one more worker. Its counts stay when the worker is gone.
    #[must_use]
    pub fn worker(&self) -> WorkerMetrics {
        let shard = Arc::new(Shard::new());
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        WorkerMetrics::new(shard)
    }

    /// The hand of the control plane.
    #[must_use]
    pub fn control(&self) -> ControlMetrics {
        ControlMetrics(Arc::clone(&self.0))
    }

    /// Writes down all that was counted so far. Reads `/proc` for the process' own figures.
    #[must_use]
    pub fn encode(&self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(&self.0))));
        let mut page = String::new();
        if text::encode(&mut page, &registry).is_err() {
            // Only a writer that fails can bring us here, and a string does not. Half a page would
            // be read as counters that vanished: rather none.
            page.clear();
        }
        match format {
            Format::Classic => classic::from_open_metrics(&page),
            Format::OpenMetrics => page,
        }
    }
}

impl Format {
    /// The `content-type` of a page in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl ControlMetrics {
    /// The configuration was read and its plan is live since `at`, as the `generation`-th one.
    pub fn reload_good(&self, generation: u64, at: SystemTime) {
        let control = &self.0.control;
        control.reloads_good.fetch_add(1, Ordering::Relaxed);
        control.generation.store(generation, Ordering::Relaxed);
        control.last_good_s.store(seconds(at), Ordering::Relaxed);
        control.complaints.store(0, Ordering::Relaxed);
    }

    /// The configuration was read and refused; the plan that was live stays.
    pub fn reload_bad(&self, complaints: usize) {
        let complaints = u64::try_from(complaints).unwrap_or(u64::MAX);
        self.0.control.reloads_bad.fetch_add(1, Ordering::Relaxed);
        self.0.control.complaints.store(complaints, Ordering::Relaxed);
    }

    /// An attempt to fetch the keys of an identity provider has ended.
    pub fn keys_fetched(&self, is_good: bool) {
        let control = &self.0.control;
        let count = if is_good { &control.key_fetches_good } else { &control.key_fetches_bad };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// An identity provider whose keys are fetched from now on.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Arc<Issuer> {
        let issuer = Arc::new(Issuer { name: name.to_owned(), fetched_s: AtomicU64::new(0) });
        let issuers = &self.0.control.issuers;
        let mut issuers = issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.retain(|issuer| issuer.strong_count() > 0);
        issuers.push(Arc::downgrade(&issuer));
        issuer
    }

    /// How many complaints stand against the configuration as it was last read; 0 while it is good.
    #[must_use]
    pub fn complaints(&self) -> u64 {
        self.0.control.complaints.load(Ordering::Relaxed)
    }

    /// These certificates are live from now on, and no others. A file comes once for each use.
    pub fn certificates(&self, all: Vec<Expiry>) {
        *self.0.control.certificates.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Whether calls are welcome.
    pub fn ready(&self, is: bool) {
        self.0.control.ready.store(is, Ordering::Relaxed);
    }

    /// The drain has begun. There is no way back.
    pub fn draining(&self) {
        self.0.control.draining.store(true, Ordering::Relaxed);
    }

    /// So many more log lines were given up.
    pub(super) fn log_lines_dropped(&self, lines: u64) {
        self.0.control.log_lines_dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Ledger {
    /// The shards of all workers, those that are gone included.
    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::names::{MethodLabel, TENANTS_MAX};
    use crate::telemetry::{Ended, Guarded};

    fn ended<'a>(team: &'a str, code: u8) -> Ended<'a> {
        Ended {
            method: MethodLabel::Config,
            team: Some(team),
            environment: Some("prod"),
            code,
            duration: Duration::from_millis(3),
            octets_up: 10,
            octets_down: 500,
        }
    }

    fn page(metrics: &Metrics) -> Vec<String> {
        metrics.encode(Format::Classic).lines().map(str::to_owned).collect()
    }

    fn assert_line(metrics: &Metrics, line: &str) {
        let page = page(metrics);
        assert!(page.iter().any(|known| known == line), "no {line:?} in {page:#?}");
    }

    #[test]
    fn workers_are_summed() {
        let metrics = Metrics::new("1.2.3");
        for worker in [metrics.worker(), metrics.worker()] {
            worker.call_opened(MethodLabel::Config);
            worker.call_opened(MethodLabel::Config);
            worker.call_ended(&ended("ads", 0));
            worker.connection_opened();
            worker.leg_opened();
            worker.leg_closed("idle");
        }
        let calls = r#"{method="Config",team="ads",environment="prod",code="OK"} 2"#;
        assert_line(&metrics, &format!("sconce_calls_total{calls}"));
        assert_line(&metrics, r#"sconce_streams_open{method="Config"} 2"#);
        assert_line(&metrics, "sconce_connections_open 2");
        assert_line(&metrics, "sconce_connections_total 2");
        assert_line(&metrics, "sconce_legs_open 0");
        assert_line(&metrics, r#"sconce_leg_closed_total{reason="idle"} 2"#);
        assert_line(&metrics, r#"sconce_build_info{version="1.2.3"} 1"#);
        let bytes = r#"{direction="down",team="ads",environment="prod"} 1000"#;
        assert_line(&metrics, &format!("sconce_call_bytes_total{bytes}"));
    }

    #[test]
    fn a_life_is_counted_in_its_bucket_and_all_above() {
        let metrics = Metrics::new("1");
        let worker = metrics.worker();
        worker.call_ended(&ended("ads", 0));
        worker.call_ended(&Ended { duration: Duration::from_hours(2), ..ended("ads", 0) });
        let buckets = r#"sconce_call_duration_seconds_bucket{le=""#;
        for (bound, count) in [("0.002", 0), ("0.005", 1), ("3600.0", 1), ("+Inf", 2)] {
            assert_line(&metrics, &format!("{buckets}{bound}\",method=\"Config\"}} {count}"));
        }
        assert_line(&metrics, r#"sconce_call_duration_seconds_count{method="Config"} 2"#);
        assert_line(&metrics, r#"sconce_call_duration_seconds_sum{method="Config"} 7200.003"#);
    }

    #[test]
    fn a_code_that_grpc_does_not_define_is_unknown() {
        let metrics = Metrics::new("1");
        metrics.worker().call_ended(&ended("ads", 99));
        let calls = r#"{method="Config",team="ads",environment="prod",code="UNKNOWN"} 1"#;
        assert_line(&metrics, &format!("sconce_calls_total{calls}"));
    }

    #[test]
    fn a_call_without_a_team_is_nobodys() {
        let metrics = Metrics::new("1");
        metrics.worker().call_ended(&Ended { team: None, environment: None, ..ended("", 12) });
        let calls = r#"{method="Config",team="-",environment="-",code="UNIMPLEMENTED"} 1"#;
        assert_line(&metrics, &format!("sconce_calls_total{calls}"));
    }

    #[test]
    fn more_teams_than_fit_are_counted_together() {
        let metrics = Metrics::new("1");
        let worker = metrics.worker();
        let teams: Vec<String> = (0..TENANTS_MAX + 7).map(|n| format!("team-{n}")).collect();
        teams.iter().for_each(|team| worker.call_ended(&ended(team, 0)));
        let calls = r#"{method="Config",team="_other",environment="_other",code="OK"} 7"#;
        assert_line(&metrics, &format!("sconce_calls_total{calls}"));
        let families =
            page(&metrics).iter().filter(|line| line.starts_with("sconce_calls")).count();
        assert_eq!(families, TENANTS_MAX + 1);
    }

    #[test]
    fn guards_and_refusals_tell_their_names() {
        let metrics = Metrics::new("1");
        let worker = metrics.worker();
        worker.guard_fired("ping_flood", Guarded::Client);
        worker.guard_fired("ping_flood", Guarded::Driver);
        worker.refused("team.missing");
        worker.dial_failed("refused");
        assert_line(&metrics, r#"sconce_guard_total{guard="ping_flood",side="client"} 1"#);
        assert_line(&metrics, r#"sconce_guard_total{guard="ping_flood",side="driver"} 1"#);
        assert_line(&metrics, r#"sconce_refusals_total{label="team.missing"} 1"#);
        assert_line(&metrics, r#"sconce_dial_failures_total{reason="refused"} 1"#);
    }

    #[test]
    fn a_bad_edit_shows_and_a_good_one_clears_it() {
        let metrics = Metrics::new("1");
        let control = metrics.control();
        control.reload_good(1, UNIX_EPOCH + Duration::from_secs(100));
        control.reload_bad(3);
        assert_line(&metrics, "sconce_config_complaints 3");
        assert_line(&metrics, "sconce_config_generation 1");
        assert_line(&metrics, "sconce_config_last_good_timestamp_seconds 100");
        control.reload_good(2, UNIX_EPOCH + Duration::from_secs(200));
        assert_line(&metrics, "sconce_config_complaints 0");
        assert_line(&metrics, r#"sconce_config_reloads_total{outcome="good"} 2"#);
        assert_line(&metrics, r#"sconce_config_reloads_total{outcome="bad"} 1"#);
    }

    #[test]
    fn certificates_are_those_that_were_told_last() {
        let metrics = Metrics::new("1");
        let name = "sconce_certificate_expiry_timestamp_seconds";
        let expiry = |used, file: &str, ends| Expiry { used, file: file.to_owned(), ends };
        let both = [expiry("server", "a\"b.crt", 7), expiry("client_authority", "c.crt", -1)];
        metrics.control().certificates(both.to_vec());
        assert_line(&metrics, &format!("{name}{{use=\"server\",file=\"a\\\"b.crt\"}} 7"));
        assert_line(&metrics, &format!("{name}{{use=\"client_authority\",file=\"c.crt\"}} -1"));
        metrics.control().certificates(vec![expiry("server", "d.crt", 9)]);
        let page = page(&metrics);
        assert_eq!(page.iter().filter(|line| line.starts_with(name)).count(), 1, "{page:?}");
    }

    #[test]
    fn an_issuer_is_told_once_while_its_keys_are_fetched() {
        let metrics = Metrics::new("1");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (a, b) = (metrics.control().issuer("a"), metrics.control().issuer("b"));
        // The same one from another place, as after a reload.
        let again = metrics.control().issuer("a");
        a.fetched(at(7));
        assert_line(&metrics, "sconce_keys_fetched_timestamp_seconds{issuer=\"a\"} 7");
        assert_line(&metrics, "sconce_keys_fetched_timestamp_seconds{issuer=\"b\"} 0");
        again.fetched(at(9));
        drop((a, b));
        let page = page(&metrics);
        let told = page.iter().filter(|line| line.starts_with("sconce_keys_fetched_timestamp"));
        assert_eq!(
            told.collect::<Vec<_>>(),
            ["sconce_keys_fetched_timestamp_seconds{issuer=\"a\"} 9"]
        );
    }

    #[test]
    fn readiness_and_drain_are_gauges() {
        let metrics = Metrics::new("1");
        assert_line(&metrics, "sconce_ready 0");
        metrics.control().ready(true);
        metrics.control().draining();
        assert_line(&metrics, "sconce_ready 1");
        assert_line(&metrics, "sconce_draining 1");
    }

    #[test]
    fn both_formats_close_as_their_readers_expect() {
        let metrics = Metrics::new("1");
        let open = metrics.encode(Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE sconce_calls counter\n"));
        let classic = metrics.encode(Format::Classic);
        assert!(classic.contains("# TYPE sconce_calls_total counter\n"));
        assert!(!classic.contains("# EOF"));
    }
}
