//! Expiry of the live certificates, in metrics and log.
//!
//! Warns once when a certificate nears expiry and once when it expires. Runs on the control plane
//! only: the [`Reloader`](crate::route::Reloader) polls after each reload and when the next change
//! is due.
//!
//! Must never happen here: reading a clock.

use crate::config::{CertValidity, CertWarning, ValidityState};
use crate::telemetry::{CertificateExpiry, ControlMetrics};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// Maximum number of certificates logged by one poll; the next poll logs the others.
const EVENTS_MAX: usize = 20;
/// Maximum time to the next poll, because the system clock can be changed.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Minimum time to the next poll.
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The live certificates and their last logged states.
#[derive(Debug)]
pub(super) struct CertExpiryMonitor {
    /// The last logged state of each certificate.
    reported: BTreeMap<CertValidity, ValidityState>,
    metrics: ControlMetrics,
}

/// A change of one certificate's state, for the log.
#[derive(Debug, PartialEq, Eq)]
struct ExpiryEvent {
    headline: &'static str,
    file: String,
    warning: CertWarning,
}

impl CertExpiryMonitor {
    pub(super) fn new(metrics: ControlMetrics) -> Self {
        Self { reported: BTreeMap::new(), metrics }
    }

    /// Replaces the live certificates.
    pub(super) fn track(&mut self, certificates: &[CertValidity]) {
        let mut before = std::mem::take(&mut self.reported);
        let mut expiries = BTreeMap::<(&str, String), i64>::new();
        for certificate in certificates {
            let key = (certificate.cert_use().as_str(), certificate.file().display().to_string());
            let first = expiries.entry(key).or_insert(i64::MAX);
            *first = certificate.not_after().min(*first);
            let reported_state = before.remove(certificate).unwrap_or(ValidityState::Valid);
            self.reported.insert(certificate.clone(), reported_state);
        }
        let expiry =
            |((used, file), expiries)| CertificateExpiry { usage: used, file, not_after: expiries };
        self.metrics.set_certificates(expiries.into_iter().map(expiry).collect());
    }

    /// Logs the changes since the last poll. Returns the time to the next poll.
    pub(super) fn poll(&mut self, now: SystemTime) -> Duration {
        for ExpiryEvent { headline, file, warning: CertWarning { what, help } } in self.events(now)
        {
            tracing::warn!(%file, warning = %what, help, "{headline}");
        }
        let delay =
            self.reported.keys().filter_map(|certificate| certificate.until_change(now)).min();
        delay.unwrap_or(POLL_INTERVAL_MAX).clamp(POLL_INTERVAL_MIN, POLL_INTERVAL_MAX)
    }

    fn events(&mut self, now: SystemTime) -> Vec<ExpiryEvent> {
        let mut events = Vec::new();
        for (certificate, reported_state) in &mut self.reported {
            let state = certificate.state(now);
            if events.len() >= EVENTS_MAX || std::mem::replace(reported_state, state) == state {
                continue;
            }
            let headline = match state {
                ValidityState::Valid => continue,
                ValidityState::NotYetValid => "a certificate is not valid yet",
                ValidityState::ExpiresSoon => "a certificate expires soon",
                ValidityState::Expired => "a certificate has expired",
            };
            if let Some(warning) = certificate.warning(now) {
                let file = certificate.file().display().to_string();
                events.push(ExpiryEvent { headline, file, warning });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, telemetry::Metrics, telemetry::MetricsFormat};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::{fs, path::Path, time::UNIX_EPOCH};

    const DAY: Duration = Duration::from_hours(24);
    /// 2001-01-01.
    const THEN: Duration = Duration::from_secs(978_307_200);

    /// A server certificate and a CA certificate with these lifetimes in days.
    fn terms(home: &Path, server: u32, authority: u32) -> Vec<CertValidity> {
        for (name, days) in [("server", server), ("ca", authority)] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = params.not_before + DAY * days;
            let key = KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            fs::write(home.join(format!("{name}.crt")), made.pem()).unwrap();
            fs::write(home.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        fs::create_dir_all(home.join("teams")).unwrap();
        let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::write(home.join("teams/ads.yaml"), ads).unwrap();
        let main = "teams: { directory: teams }\nlisten:\n  tls:\n    certificates:\n      - { \
                    certificate: server.crt, key: server.key }\n    client_authorities: ca.crt\n";
        fs::write(home.join("sconce.yaml"), main).unwrap();
        config::load(&home.join("sconce.yaml")).unwrap().certificates().to_vec()
    }

    fn logged(almanac: &mut CertExpiryMonitor, days: u32) -> Vec<String> {
        let news = almanac.events(UNIX_EPOCH + THEN + DAY * days);
        let name = |file: &str| file.rsplit('/').next().unwrap().to_owned();
        news.into_iter().map(|it| format!("{}: {}", name(&it.file), it.headline)).collect()
    }

    fn figures(metrics: &Metrics) -> Vec<String> {
        let page = metrics.encode(MetricsFormat::Classic);
        let lines = page.lines().filter(|line| line.starts_with("sconce_certificate_expiry"));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_state_change_of_a_certificate_is_logged_once() {
        let home = tempfile::tempdir().unwrap();
        let mut almanac = CertExpiryMonitor::new(Metrics::new("1").control());
        almanac.track(&terms(home.path(), 90, 365));
        let soon = "server.crt: a certificate expires soon";
        let over = "server.crt: a certificate has expired";
        let all: Vec<_> = (0..100).flat_map(|day| logged(&mut almanac, day)).collect();
        assert_eq!(all, [soon, over]);
        assert_eq!(logged(&mut almanac, 340), ["ca.crt: a certificate expires soon"]);
    }

    #[test]
    fn a_tracked_certificate_is_not_logged_again_and_a_new_one_is() {
        let home = tempfile::tempdir().unwrap();
        let metrics = Metrics::new("1");
        let mut almanac = CertExpiryMonitor::new(metrics.control());
        let old = terms(home.path(), 30, 3650);
        almanac.track(&old);
        assert_eq!(logged(&mut almanac, 31), ["server.crt: a certificate has expired"]);
        almanac.track(&old);
        assert!(logged(&mut almanac, 31).is_empty());
        almanac.track(&terms(home.path(), 33, 3650));
        assert_eq!(logged(&mut almanac, 31), ["server.crt: a certificate expires soon"]);
        assert_eq!(figures(&metrics), ["1293667200", "981158400"]);
        almanac.track(&[]);
        assert!(figures(&metrics).is_empty());
    }

    #[test]
    fn the_metric_is_the_earliest_expiry_of_a_file() {
        let home = tempfile::tempdir().unwrap();
        let metrics = Metrics::new("1");
        let mut almanac = CertExpiryMonitor::new(metrics.control());
        let both = [terms(home.path(), 33, 2), terms(home.path(), 30, 3)].concat();
        almanac.track(&both);
        assert_eq!(figures(&metrics), ["978480000", "980899200"]);
    }

    #[test]
    fn the_next_poll_is_within_an_hour() {
        let home = tempfile::tempdir().unwrap();
        let mut almanac = CertExpiryMonitor::new(Metrics::new("1").control());
        let begun = UNIX_EPOCH + THEN;
        assert_eq!(almanac.poll(begun), POLL_INTERVAL_MAX);
        almanac.track(&terms(home.path(), 90, 3650));
        assert_eq!(almanac.poll(begun), POLL_INTERVAL_MAX);
        let late = begun + DAY * 90 - Duration::from_secs(9);
        assert_eq!(almanac.poll(late), Duration::from_secs(10));
    }
}
