//! The encoded page for given counts.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::names::TENANTS_MAX;
use super::*;
use sconce_filters::Method;

const LABELS: &str = r#"method="Config",team="ads",environment="prod""#;

#[expect(clippy::disallowed_methods, reason = "a test needs some time")]
fn now() -> Instant {
    Instant::now()
}

/// A completed call with this status.
fn ended(tenant: Option<TenantId>, code: u8) -> CallEnd {
    CallEnd {
        method: Method::Config,
        tenant,
        answered_by: AnsweredBy::Driver,
        code,
        duration: Duration::from_millis(3),
        request_bytes: 10,
        response_bytes: 500,
    }
}

/// Opens and completes a call of this team.
fn call(worker: &WorkerMetrics, team: &str, code: u8) {
    let tenant = worker.tenant(Some(team), Some("prod"));
    worker.call_opened(Method::Config);
    worker.call_routed(Method::Config, tenant);
    worker.call_ended(&ended(Some(tenant), code));
}

fn page(metrics: &Metrics) -> Vec<String> {
    metrics.encode(MetricsFormat::Classic).lines().map(str::to_owned).collect()
}

fn assert_line(metrics: &Metrics, line: &str) {
    let page = page(metrics);
    assert!(page.iter().any(|known| known == line), "{line:?} is missing in {page:#?}");
}

#[test]
fn workers_are_summed() {
    let metrics = Metrics::new("1.2.3");
    for worker in [metrics.worker(), metrics.worker()] {
        worker.call_opened(Method::Config);
        call(&worker, "ads", 0);
        worker.downstream_opened();
        worker.upstream_opened();
        worker.upstream_closed("idle");
    }
    let calls =
        r#"{method="Config",team="ads",environment="prod",code="OK",answered_by="driver"} 2"#;
    assert_line(&metrics, &format!("sconce_calls_total{calls}"));
    assert_line(&metrics, r#"sconce_calls_active{method="Config",team="-",environment="-"} 2"#);
    assert_line(&metrics, "sconce_downstream_connections_active 2");
    assert_line(&metrics, "sconce_downstream_connections_total 2");
    assert_line(&metrics, "sconce_upstream_connections_active 0");
    assert_line(&metrics, r#"sconce_upstream_connections_closed_total{reason="idle"} 2"#);
    assert_line(&metrics, r#"sconce_build_info{version="1.2.3"} 1"#);
    let bytes = r#"{direction="response",team="ads",environment="prod"} 1000"#;
    assert_line(&metrics, &format!("sconce_call_bytes_total{bytes}"));
}

#[test]
fn a_duration_counts_in_its_bucket_and_all_above() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    call(&worker, "ads", 0);
    let tenant = Some(worker.tenant(Some("ads"), Some("prod")));
    worker.call_ended(&CallEnd { duration: Duration::from_hours(2), ..ended(tenant, 0) });
    let buckets = r#"sconce_call_duration_seconds_bucket{le=""#;
    for (bound, count) in [("0.002", 0), ("0.005", 1), ("3600.0", 1), ("+Inf", 2)] {
        let line = format!("{buckets}{bound}\",{LABELS}}} {count}");
        assert_line(&metrics, &line);
    }
    let name = "sconce_call_duration_seconds";
    assert_line(&metrics, &format!("{name}_count{{{LABELS}}} 2"));
    assert_line(&metrics, &format!("{name}_sum{{{LABELS}}} 7200.003"));
}

#[test]
fn a_code_that_grpc_does_not_define_is_unknown() {
    let metrics = Metrics::new("1");
    call(&metrics.worker(), "ads", 99);
    let calls =
        r#"{method="Config",team="ads",environment="prod",code="UNKNOWN",answered_by="driver"} 1"#;
    assert_line(&metrics, &format!("sconce_calls_total{calls}"));
}

#[test]
fn a_call_without_a_team_counts_as_unknown() {
    let metrics = Metrics::new("1");
    metrics.worker().call_ended(&CallEnd { answered_by: AnsweredBy::Sconce, ..ended(None, 12) });
    let calls =
        r#"{method="Config",team="-",environment="-",code="UNIMPLEMENTED",answered_by="sconce"} 1"#;
    assert_line(&metrics, &format!("sconce_calls_total{calls}"));
}

#[test]
fn more_teams_than_fit_are_counted_together() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    let teams: Vec<String> = (0..TENANTS_MAX + 7).map(|n| format!("team-{n}")).collect();
    teams.iter().for_each(|team| call(&worker, team, 0));
    let calls =
        r#"{method="Config",team="_other",environment="_other",code="OK",answered_by="driver"} 7"#;
    assert_line(&metrics, &format!("sconce_calls_total{calls}"));
    let lines =
        page(&metrics).iter().filter(|line| line.starts_with("sconce_calls_total{")).count();
    assert_eq!(lines, TENANTS_MAX + 1);
}

#[test]
fn abuse_limits_refusals_and_internal_errors_are_counted_by_name() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    worker.abuse_limit_exceeded("ping_flood", PeerSide::Downstream);
    worker.abuse_limit_exceeded("ping_flood", PeerSide::Upstream);
    worker.call_refused("team.missing");
    worker.internal_error("stream_missing");
    assert_line(&metrics, r#"sconce_internal_errors_total{reason="stream_missing"} 1"#);
    worker
        .upstream_connect_failed(worker.tenant(Some("ads"), Some("prod")), ConnectFailure::Refused);
    assert_line(
        &metrics,
        r#"sconce_abuse_limit_exceeded_total{limit="ping_flood",side="downstream"} 1"#,
    );
    assert_line(
        &metrics,
        r#"sconce_abuse_limit_exceeded_total{limit="ping_flood",side="upstream"} 1"#,
    );
    assert_line(&metrics, r#"sconce_refusals_total{label="team.missing"} 1"#);
    let failures = r#"{team="ads",environment="prod",reason="refused"} 1"#;
    assert_line(&metrics, &format!("sconce_upstream_connect_failures_total{failures}"));
}

#[test]
fn a_rejected_reload_is_counted_and_an_applied_one_clears_the_errors() {
    let metrics = Metrics::new("1");
    let control = metrics.control();
    control.reload_succeeded(1, UNIX_EPOCH + Duration::from_secs(100));
    control.reload_failed();
    let ml = ConfigErrorCount { team: "ml".to_owned(), count: 2, effect: "" };
    control.set_config_errors(vec![ConfigErrorCount::main_file(3), ml]);
    assert_line(&metrics, r#"sconce_config_errors{team="-"} 3"#);
    assert_line(&metrics, r#"sconce_config_errors{team="ml"} 2"#);
    assert_line(&metrics, "sconce_config_generation 1");
    assert_line(&metrics, "sconce_config_last_reload_success_timestamp_seconds 100");
    control.reload_succeeded(2, UNIX_EPOCH + Duration::from_secs(200));
    control.set_config_errors(Vec::new());
    assert_line(&metrics, r#"sconce_config_errors{team="-"} 0"#);
    assert_line(&metrics, r#"sconce_config_reloads_total{outcome="success"} 2"#);
    assert_line(&metrics, r#"sconce_config_reloads_total{outcome="failure"} 1"#);
}

#[test]
fn only_the_certificates_set_last_are_exported() {
    let metrics = Metrics::new("1");
    let name = "sconce_certificate_expiry_timestamp_seconds";
    let expiry = |used, file: &str, ends| CertificateExpiry {
        usage: used,
        file: file.to_owned(),
        not_after: ends,
    };
    let both = [expiry("server", "a\"b.crt", 7), expiry("client_authority", "c.crt", -1)];
    metrics.control().set_certificates(both.to_vec());
    assert_line(&metrics, &format!("{name}{{use=\"server\",file=\"a\\\"b.crt\"}} 7"));
    assert_line(&metrics, &format!("{name}{{use=\"client_authority\",file=\"c.crt\"}} -1"));
    metrics.control().set_certificates(vec![expiry("server", "d.crt", 9)]);
    let page = page(&metrics);
    assert_eq!(page.iter().filter(|line| line.starts_with(name)).count(), 1, "{page:?}");
}

#[test]
fn an_issuer_is_exported_once_while_it_is_registered() {
    let metrics = Metrics::new("1");
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let (a, b) = (metrics.control().register_issuer("a"), metrics.control().register_issuer("b"));
    // The same issuer with another key location, as after a reload.
    let again = metrics.control().register_issuer("a");
    a.record_fetch(at(7));
    assert_line(&metrics, "sconce_jwks_last_fetch_timestamp_seconds{issuer=\"a\"} 7");
    assert_line(&metrics, "sconce_jwks_last_fetch_timestamp_seconds{issuer=\"b\"} 0");
    a.set_refresh_interval(Duration::from_secs(600));
    again.set_refresh_interval(Duration::from_secs(24 * 3600));
    assert_line(&metrics, "sconce_jwks_refresh_interval_seconds{issuer=\"a\"} 86400");
    again.record_fetch(at(9));
    drop((a, b));
    let page = page(&metrics);
    let lines = page.iter().filter(|line| line.starts_with("sconce_jwks_last_fetch_timestamp"));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["sconce_jwks_last_fetch_timestamp_seconds{issuer=\"a\"} 9"]
    );
}

#[test]
fn readiness_and_drain_are_gauges() {
    let metrics = Metrics::new("1");
    assert_line(&metrics, "sconce_ready 0");
    metrics.control().set_ready(true);
    metrics.control().set_draining();
    assert_line(&metrics, "sconce_ready 1");
    assert_line(&metrics, "sconce_draining 1");
}

#[test]
fn each_format_names_counters_and_ends_by_its_specification() {
    let metrics = Metrics::new("1");
    let open = metrics.encode(MetricsFormat::OpenMetrics);
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE sconce_calls counter\n"));
    let classic = metrics.encode(MetricsFormat::Classic);
    assert!(classic.contains("# TYPE sconce_calls_total counter\n"));
    assert!(!classic.contains("# EOF"));
}

#[test]
fn an_open_call_counts_as_unknown_until_it_is_routed_and_then_for_its_team() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    let tenant = worker.tenant(Some("ads"), Some("prod"));
    let assert_open = |unknown: u64, ads: u64| {
        let name = "sconce_calls_active{method=\"Config\",team";
        assert_line(&metrics, &format!("{name}=\"-\",environment=\"-\"}} {unknown}"));
        assert_line(&metrics, &format!("{name}=\"ads\",environment=\"prod\"}} {ads}"));
    };
    worker.call_opened(Method::Config);
    worker.call_opened(Method::Config);
    worker.call_routed(Method::Config, tenant);
    assert_open(1, 1);
    worker.call_ended(&ended(None, 5));
    assert_open(0, 1);
    let open = metrics.control().open_calls();
    assert_eq!(open.iter().map(|of| (&*of.team, of.calls)).collect::<Vec<_>>(), [("ads", 1)]);
    worker.call_ended(&ended(Some(tenant), 0));
    assert_open(0, 0);
    assert!(metrics.control().open_calls().is_empty());
}

#[test]
fn calls_are_counted_by_source_of_the_status() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    call(&worker, "ads", 13);
    let tenant = Some(worker.tenant(Some("ads"), Some("prod")));
    worker.call_ended(&CallEnd { answered_by: AnsweredBy::Sconce, ..ended(tenant, 13) });
    for by in ["driver", "sconce"] {
        let line =
            format!("sconce_calls_total{{{LABELS},code=\"INTERNAL\",answered_by=\"{by}\"}} 1");
        assert_line(&metrics, &line);
    }
}

#[test]
fn the_time_to_the_first_byte_is_a_separate_histogram() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    let tenant = worker.tenant(Some("ads"), Some("prod"));
    worker.call_first_byte(Method::Config, tenant, Duration::from_millis(30));
    let name = "sconce_call_first_byte_seconds";
    for (bound, count) in [("0.025", 0), ("0.1", 1), ("+Inf", 1)] {
        assert_line(&metrics, &format!("{name}_bucket{{le=\"{bound}\",{LABELS}}} {count}"));
    }
    assert_line(&metrics, &format!("{name}_count{{{LABELS}}} 1"));
}

#[test]
fn a_driver_is_exported_after_its_first_attempt_and_one_that_is_down_decides() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    let drivers: Vec<Arc<DriverHealth>> = (0..3).map(|_| Arc::default()).collect();
    metrics.control().set_drivers(drivers.clone());
    let lines = |metrics: &Metrics| {
        let page = page(metrics).into_iter();
        page.filter(|line| line.starts_with("sconce_driver_up{")).collect::<Vec<_>>()
    };
    let now = now();
    assert!(lines(&metrics).is_empty());
    for (driver, environment) in drivers.iter().zip(["prod", "dev", "dev"]) {
        driver.tenant(&worker, ("ads", environment));
        driver.connected(now);
    }
    drivers[1].connect_failed(now);
    assert_eq!(
        lines(&metrics),
        [
            r#"sconce_driver_up{team="ads",environment="dev"} 0"#,
            r#"sconce_driver_up{team="ads",environment="prod"} 1"#
        ]
    );
    metrics.control().set_drivers(Vec::new());
    assert!(lines(&metrics).is_empty(), "the driver is not active any more");
}

#[test]
fn five_thousand_teams_take_no_more_than_the_limit() {
    let metrics = Metrics::new("1");
    let worker = metrics.worker();
    for team in 0..5_000 {
        call(&worker, &format!("team-{team}"), 0);
    }
    let page = page(&metrics);
    let calls = page.iter().filter(|line| line.starts_with("sconce_calls_total{")).count();
    assert_eq!(calls, TENANTS_MAX + 1, "pairs beyond the limit share one line");
    let bytes: usize = page.iter().map(String::len).sum();
    assert!(bytes < 6 << 20, "one method of each pair takes {bytes} bytes of the page");
}
