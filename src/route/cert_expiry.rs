//! Almanac: which certificate ends when, told to metrics at once and to the log in time.
//!
//! Each turn of a certificate is told once: that its end comes near, that it has come. Costs calls
//! nothing: it is looked at by the steward, when files were read and when a turn is due.
//!
//! Must never happen here: reading a clock.

use crate::config::{CertValidity, CertWarning, ValidityState};
use crate::telemetry::{CertificateExpiry, ControlMetrics};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// The most certificates that one look tells of; the others are told of at the next.
const EVENTS_MAX: usize = 20;
/// The next look is no later than that: a clock may be set meanwhile.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// And no sooner.
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The certificates that are live.
#[derive(Debug)]
pub(super) struct CertExpiryMonitor {
    /// Each as it was last told of.
    reported: BTreeMap<CertValidity, ValidityState>,
    metrics: ControlMetrics,
}

/// What is to be told of one certificate.
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

    /// These are live from now on.
    pub(super) fn track(&mut self, terms: &[CertValidity]) {
        let mut before = std::mem::take(&mut self.reported);
        let mut ends = BTreeMap::<(&str, String), i64>::new();
        for term in terms {
            let key = (term.cert_use().as_str(), term.file().display().to_string());
            let first = ends.entry(key).or_insert(i64::MAX);
            *first = term.not_after().min(*first);
            let told = before.remove(term).unwrap_or(ValidityState::Valid);
            self.reported.insert(term.clone(), told);
        }
        let expiry =
            |((used, file), ends)| CertificateExpiry { usage: used, file, not_after: ends };
        self.metrics.set_certificates(ends.into_iter().map(expiry).collect());
    }

    /// Tells what is to be told now. Says how long it will be before there is more.
    pub(super) fn poll(&mut self, now: SystemTime) -> Duration {
        for ExpiryEvent { headline, file, warning: CertWarning { what, help: remedy } } in
            self.events(now)
        {
            tracing::warn!(%file, %what, remedy, "{headline}");
        }
        let steady = self.reported.keys().filter_map(|term| term.until_change(now)).min();
        steady.unwrap_or(POLL_INTERVAL_MAX).clamp(POLL_INTERVAL_MIN, POLL_INTERVAL_MAX)
    }

    fn events(&mut self, now: SystemTime) -> Vec<ExpiryEvent> {
        let mut news = Vec::new();
        for (term, told) in &mut self.reported {
            let standing = term.state(now);
            if news.len() >= EVENTS_MAX || std::mem::replace(told, standing) == standing {
                continue;
            }
            let headline = match standing {
                ValidityState::Valid => continue,
                ValidityState::NotYetValid => "a certificate is not valid yet",
                ValidityState::ExpiresSoon => "a certificate expires soon",
                ValidityState::Expired => "a certificate has expired",
            };
            if let Some(concern) = term.warning(now) {
                let file = term.file().display().to_string();
                news.push(ExpiryEvent { headline, file, warning: concern });
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, telemetry::Metrics, telemetry::MetricsFormat};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::{fs, path::Path, time::UNIX_EPOCH};

    const DAY: Duration = Duration::from_hours(24);
    /// The first day of 2001.
    const THEN: Duration = Duration::from_secs(978_307_200);

    /// The terms of a server's certificate and of an authority's, which live for so many days.
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

    fn told(almanac: &mut CertExpiryMonitor, days: u32) -> Vec<String> {
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
    fn each_turn_of_each_certificate_is_told_once() {
        let home = tempfile::tempdir().unwrap();
        let mut almanac = CertExpiryMonitor::new(Metrics::new("1").control());
        almanac.track(&terms(home.path(), 90, 365));
        let soon = "server.crt: a certificate expires soon";
        let over = "server.crt: a certificate has expired";
        let all: Vec<_> = (0..100).flat_map(|day| told(&mut almanac, day)).collect();
        assert_eq!(all, [soon, over]);
        assert_eq!(told(&mut almanac, 340), ["ca.crt: a certificate expires soon"]);
    }

    #[test]
    fn what_is_followed_again_is_told_once_and_what_is_new_is_told_at_once() {
        let home = tempfile::tempdir().unwrap();
        let metrics = Metrics::new("1");
        let mut almanac = CertExpiryMonitor::new(metrics.control());
        let old = terms(home.path(), 30, 3650);
        almanac.track(&old);
        assert_eq!(told(&mut almanac, 31), ["server.crt: a certificate has expired"]);
        almanac.track(&old);
        assert!(told(&mut almanac, 31).is_empty());
        almanac.track(&terms(home.path(), 33, 3650));
        assert_eq!(told(&mut almanac, 31), ["server.crt: a certificate expires soon"]);
        assert_eq!(figures(&metrics), ["1293667200", "981158400"]);
        almanac.track(&[]);
        assert!(figures(&metrics).is_empty());
    }

    #[test]
    fn of_several_in_a_file_the_first_to_end_is_the_figure() {
        let home = tempfile::tempdir().unwrap();
        let metrics = Metrics::new("1");
        let mut almanac = CertExpiryMonitor::new(metrics.control());
        let both = [terms(home.path(), 33, 2), terms(home.path(), 30, 3)].concat();
        almanac.track(&both);
        assert_eq!(figures(&metrics), ["978480000", "980899200"]);
    }

    #[test]
    fn the_next_look_is_within_the_hour_and_never_at_once() {
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
