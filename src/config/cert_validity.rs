//! Validity of certificates, and warnings about it.
//!
//! The time is an argument. Must never happen here: a failed start because of a date. Clients check
//! dates themselves, and some pin a certificate.

use crate::config::diagnostics::{ConfigError, quote};
use rustls::pki_types::CertificateDer;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

/// Maximum time before the expiry for a warning, in seconds. A shorter lifetime uses its last
/// [`LIFETIME_FRACTION`]: otherwise there would always be a warning about certificates that are
/// renewed every few days.
const WARNING_PERIOD_MAX: i64 = 30 * 24 * 3600;
/// The warning starts in the last one of this many parts of the lifetime.
const LIFETIME_FRACTION: i64 = 3;

/// Use of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertUse {
    /// A server certificate or its chain.
    Server,
    /// A certificate authority for client certificates.
    ClientAuthority,
}

impl CertUse {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ClientAuthority => "client_authority",
        }
    }
}

/// A certificate of a file and its validity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertValidity {
    file: PathBuf,
    /// Line of the file's key.
    line: u64,
    cert_use: CertUse,
    /// Position in the file, from 0.
    position: usize,
    subject: String,
    serial: String,
    not_before: ASN1Time,
    not_after: ASN1Time,
}

/// State of a certificate at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValidityState {
    /// Valid, no warning.
    Valid,
    /// Not valid yet.
    NotYetValid,
    /// Expires soon.
    ExpiresSoon,
    /// Expired.
    Expired,
}

/// A warning about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertWarning {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

impl fmt::Display for CertWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// The validity of the certificates in a file. Certificates that cannot be parsed are skipped.
pub(super) fn read(
    (file, line): (&Path, u64),
    used: CertUse,
    certificates: &[CertificateDer<'_>],
) -> Vec<CertValidity> {
    let certificate = |(place, der): (usize, &CertificateDer<'_>)| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let validity = parsed.validity();
        Some(CertValidity {
            file: file.to_owned(),
            line,
            cert_use: used,
            position: place,
            subject: parsed.subject().to_string(),
            serial: parsed.raw_serial_as_string(),
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    };
    certificates.iter().enumerate().filter_map(certificate).collect()
}

impl CertValidity {
    /// The file of the certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The use of the certificate.
    pub fn cert_use(&self) -> CertUse {
        self.cert_use
    }

    /// Last second of its validity, in Unix time.
    pub fn not_after(&self) -> i64 {
        self.not_after.timestamp()
    }

    /// Its state at this time.
    pub fn state(&self, now: SystemTime) -> ValidityState {
        let now = unix_seconds(now);
        if now > self.not_after() {
            ValidityState::Expired
        } else if now < self.not_before.timestamp() {
            ValidityState::NotYetValid
        } else if now >= self.warn_from() {
            ValidityState::ExpiresSoon
        } else {
            ValidityState::Valid
        }
    }

    /// Time to the next change of its state; `None` if there is none.
    pub fn until_change(&self, now: SystemTime) -> Option<Duration> {
        let marks =
            [self.not_before.timestamp(), self.warn_from(), self.not_after().saturating_add(1)];
        let left = marks.into_iter().map(|mark| mark.saturating_sub(unix_seconds(now)));
        let left = left.filter_map(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
        left.min().map(Duration::from_secs)
    }

    /// The warning at this time.
    pub fn warning(&self, now: SystemTime) -> Option<CertWarning> {
        let (begins, ends) = (format_time(self.not_before), format_time(self.not_after));
        let what = match self.state(now) {
            ValidityState::Valid => return None,
            ValidityState::NotYetValid => {
                format!("{} is not valid before {begins}", self.subject_text())
            }
            ValidityState::ExpiresSoon => format!("{} expires on {ends}", self.subject_text()),
            ValidityState::Expired => format!("{} expired on {ends}", self.subject_text()),
        };
        Some(CertWarning { what, help: self.help(now) })
    }

    fn subject_text(&self) -> String {
        match (self.cert_use, self.position) {
            (CertUse::Server, 0) => "the certificate".to_owned(),
            (CertUse::Server, _) => {
                format!("the chain certificate {}", quote(&self.subject))
            }
            (CertUse::ClientAuthority, _) => {
                format!("the certificate authority {}", quote(&self.subject))
            }
        }
    }

    fn help(&self, now: SystemTime) -> &'static str {
        match (self.cert_use, self.state(now)) {
            (_, ValidityState::Valid) => "no action needed",
            (CertUse::Server, _) if self.position > 0 => {
                "replace the chain with the current one of its issuer"
            }
            (CertUse::Server, ValidityState::NotYetValid) => {
                "clients reject it until then: replace it and its key, or correct the clock of \
                 this host"
            }
            (CertUse::Server, ValidityState::ExpiresSoon) => "replace it and its key before then",
            (CertUse::Server, ValidityState::Expired) => {
                "clients reject it: replace it and its key"
            }
            (CertUse::ClientAuthority, ValidityState::NotYetValid) => {
                "certificates that it signed are accepted anyway: check the clock of this host"
            }
            (CertUse::ClientAuthority, ValidityState::ExpiresSoon) => {
                "add its successor to the file before then"
            }
            (CertUse::ClientAuthority, ValidityState::Expired) => {
                "certificates that it signed are still accepted: replace it with its successor, or \
                 remove it"
            }
        }
    }

    fn warn_from(&self) -> i64 {
        let life = self.not_after().saturating_sub(self.not_before.timestamp());
        self.not_after().saturating_sub(WARNING_PERIOD_MAX.min(life / LIFETIME_FRACTION))
    }

    /// Whether this is the server's own certificate, not one of its chain.
    fn is_server_leaf(&self) -> bool {
        self.cert_use == CertUse::Server && self.position == 0
    }

    fn is_same_certificate(&self, other: &Self) -> bool {
        let is = |it: &Self| (it.cert_use, it.not_before, it.not_after);
        is(self) == is(other) && self.serial == other.serial && self.subject == other.subject
    }
}

/// Errors for server certificates that are expired by now, while a live one is still valid.
pub(super) fn expired_replacements(
    (new, live): (&[CertValidity], &[CertValidity]),
    file: &Path,
    now: SystemTime,
) -> Vec<ConfigError> {
    let is_expired = |certificate: &CertValidity| certificate.state(now) == ValidityState::Expired;
    if !live.iter().any(|certificate| certificate.is_server_leaf() && !is_expired(certificate)) {
        return Vec::new();
    }
    let is_regression = |certificate: &&CertValidity| {
        certificate.is_server_leaf()
            && is_expired(certificate)
            && !live.iter().any(|it| it.is_same_certificate(certificate))
    };
    let error = |certificate: &CertValidity| ConfigError {
        file: file.to_owned(),
        line: certificate.line,
        key: "listen.tls.certificates.certificate".to_owned(),
        what: format!(
            "{} expired on {}",
            certificate.file.display(),
            format_time(certificate.not_after)
        ),
        help: "replace it with a valid certificate and its key".to_owned(),
    };
    new.iter().filter(is_regression).map(error).collect()
}

fn unix_seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn format_time(at: ASN1Time) -> String {
    let at = at.to_datetime();
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC", at.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    const DAY: u64 = 24 * 3600;

    /// A certificate that is valid from 2001-01-01 for this time.
    fn term(used: CertUse, life: Duration) -> CertValidity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = params.not_before + life;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read((Path::new("a.crt"), 7), used, &[made.der().clone()]).remove(0)
    }

    /// This time after 2001-01-01.
    fn after(span: Duration) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(978_307_200) + span
    }

    const fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_certificate_for_a_year_warns_in_its_last_30_days_and_expires_after_its_last_second() {
        let term = term(CertUse::Server, days(365));
        for (at, standing) in [
            (after(days(0)) - SECOND, ValidityState::NotYetValid),
            (after(days(0)), ValidityState::Valid),
            (after(days(335)) - SECOND, ValidityState::Valid),
            (after(days(335)), ValidityState::ExpiresSoon),
            (after(days(365)), ValidityState::ExpiresSoon),
            (after(days(365)) + SECOND, ValidityState::Expired),
        ] {
            assert_eq!(term.state(at), standing, "{at:?}");
        }
        assert_eq!(term.not_after(), 978_307_200 + i64::try_from(365 * DAY).unwrap());
    }

    #[test]
    fn a_certificate_for_a_week_warns_in_its_last_third() {
        let term = term(CertUse::Server, days(6));
        assert_eq!(term.state(after(days(4)) - SECOND), ValidityState::Valid);
        assert_eq!(term.state(after(days(4))), ValidityState::ExpiresSoon);
    }

    #[test]
    fn until_change_is_the_time_to_the_next_state() {
        let term = term(CertUse::Server, days(90));
        let mut now = after(days(0)) - days(1);
        let mut seen = vec![term.state(now)];
        while let Some(steady) = term.until_change(now) {
            assert_eq!(term.state(now + steady - SECOND), *seen.last().unwrap());
            now += steady;
            seen.push(term.state(now));
        }
        assert_eq!(
            seen,
            [
                ValidityState::NotYetValid,
                ValidityState::Valid,
                ValidityState::ExpiresSoon,
                ValidityState::Expired
            ]
        );
        assert_eq!(now, after(days(90)) + SECOND);
    }

    #[test]
    fn a_warning_has_the_date_and_the_help() {
        let messages = |used, at| term(used, days(365)).warning(at).map(|it| it.to_string());
        assert_eq!(messages(CertUse::Server, after(days(9))), None);
        for (used, at, expected) in [
            (
                CertUse::Server,
                after(days(350)),
                "the certificate expires on 2002-01-01 00:00:00 UTC; replace it and its key before \
                 then",
            ),
            (
                CertUse::Server,
                after(days(366)),
                "the certificate expired on 2002-01-01 00:00:00 UTC; clients reject it: replace it \
                 and its key",
            ),
            (
                CertUse::Server,
                after(days(0)) - days(9),
                "the certificate is not valid before 2001-01-01 00:00:00 UTC; clients reject it \
                 until then: replace it and its key, or correct the clock of this host",
            ),
            (
                CertUse::ClientAuthority,
                after(days(366)),
                "the certificate authority 'CN=rcgen self signed cert' expired on 2002-01-01 \
                 00:00:00 UTC; certificates that it signed are still accepted: replace it with its \
                 successor, or remove it",
            ),
        ] {
            assert_eq!(messages(used, at).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_expired_certificate_does_not_replace_a_valid_one() {
        let (long, short) = (term(CertUse::Server, days(365)), term(CertUse::Server, days(10)));
        let other = term(CertUse::Server, days(9));
        let messages = |new: &CertValidity, live: &[&CertValidity], now| {
            let live: Vec<_> = live.iter().copied().cloned().collect();
            let messages =
                expired_replacements((std::slice::from_ref(new), &live), Path::new("s.yaml"), now);
            messages.iter().map(ConfigError::to_string).collect::<Vec<_>>()
        };
        let now = after(days(20));
        let expected = "s.yaml:7: listen.tls.certificates.certificate: a.crt expired on 2001-01-11 \
                        00:00:00 UTC; replace it with a valid certificate and its key";
        assert_eq!(messages(&short, &[&long], now), [expected]);
        // No error: not expired yet, already live, no valid live certificate, or no live
        // certificate.
        assert!(messages(&short, &[&long], after(days(5))).is_empty());
        assert!(messages(&short, &[&long, &short], now).is_empty());
        assert!(messages(&short, &[&other], now).is_empty());
        assert!(messages(&short, &[], now).is_empty());
        assert!(messages(&long, &[&long], now).is_empty());
    }

    #[test]
    fn a_chain_certificate_has_its_own_warning() {
        let mut link = term(CertUse::Server, days(10));
        link.position = 1;
        let concern = link.warning(after(days(20))).unwrap();
        assert!(concern.what.starts_with("the chain certificate 'CN=rcgen"), "{concern}");
        let live = [term(CertUse::Server, days(365))];
        assert!(
            expired_replacements((&[link], &live), Path::new("s.yaml"), after(days(20))).is_empty()
        );
    }
}
