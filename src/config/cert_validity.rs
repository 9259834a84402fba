//! Term: from when to when a certificate is good, and what a person should hear about that.
//!
//! The time is an argument: who asks owns the clock. Must never happen here: a start that fails
//! because of a date. Clients judge for themselves, and some know a certificate by heart.

use crate::config::diagnostics::{ConfigError, quote};
use rustls::pki_types::CertificateDer;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

/// So many seconds before its end a certificate that lives for long is told about. A shorter life
/// is told about in its last part: what is renewed every few days would never be silent otherwise.
const WARNING_PERIOD_MAX: i64 = 30 * 24 * 3600;
/// The last one of so many parts of a life.
const LIFETIME_FRACTION: i64 = 3;

/// What a certificate is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertUse {
    /// Clients are shown it.
    Server,
    /// It signs the certificates of clients.
    ClientAuthority,
}

impl CertUse {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ClientAuthority => "client_authority",
        }
    }
}

/// One certificate of a file, and from when to when it is good.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertValidity {
    file: PathBuf,
    /// Where the file is named.
    line: u64,
    cert_use: CertUse,
    /// How many certificates stand before it in the file.
    position: usize,
    subject: String,
    serial: String,
    not_before: ASN1Time,
    not_after: ASN1Time,
}

/// How a certificate stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValidityState {
    /// There is nothing to say.
    Valid,
    /// It is not valid yet.
    NotYetValid,
    /// It is about to end.
    ExpiresSoon,
    /// It has ended.
    Expired,
}

/// What a person should hear about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertWarning {
    /// What there is.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

impl fmt::Display for CertWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// The terms of the certificates of a file that is named on this line. One that cannot be read has
/// none.
pub(super) fn read(
    (file, line): (&Path, u64),
    used: CertUse,
    certificates: &[CertificateDer<'_>],
) -> Vec<CertValidity> {
    let term = |(place, der): (usize, &CertificateDer<'_>)| {
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
    certificates.iter().enumerate().filter_map(term).collect()
}

impl CertValidity {
    /// The file that the certificate stands in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What it is there for.
    pub fn cert_use(&self) -> CertUse {
        self.cert_use
    }

    /// Its last second, since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after.timestamp()
    }

    /// How it stands now.
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

    /// How long it will stand so; `None` if for ever.
    pub fn until_change(&self, now: SystemTime) -> Option<Duration> {
        let marks =
            [self.not_before.timestamp(), self.warn_from(), self.not_after().saturating_add(1)];
        let left = marks.into_iter().map(|mark| mark.saturating_sub(unix_seconds(now)));
        let left = left.filter_map(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
        left.min().map(Duration::from_secs)
    }

    /// What a person should hear about it now.
    pub fn warning(&self, now: SystemTime) -> Option<CertWarning> {
        let (begins, ends) = (format_time(self.not_before), format_time(self.not_after));
        let what = match self.state(now) {
            ValidityState::Valid => return None,
            ValidityState::NotYetValid => {
                format!("{} is not valid before {begins}", self.subject_text())
            }
            ValidityState::ExpiresSoon => format!("{} expires on {ends}", self.subject_text()),
            ValidityState::Expired => format!("{} has expired on {ends}", self.subject_text()),
        };
        Some(CertWarning { what, help: self.help(now) })
    }

    fn subject_text(&self) -> String {
        match (self.cert_use, self.position) {
            (CertUse::Server, 0) => "the certificate".to_owned(),
            (CertUse::Server, _) => {
                format!("the certificate of {} in the chain", quote(&self.subject))
            }
            (CertUse::ClientAuthority, _) => format!("the authority {}", quote(&self.subject)),
        }
    }

    fn help(&self, now: SystemTime) -> &'static str {
        match (self.cert_use, self.state(now)) {
            (_, ValidityState::Valid) => "leave it",
            (CertUse::Server, _) if self.position > 0 => {
                "write the chain into the file as its issuer has it now"
            }
            (CertUse::Server, ValidityState::NotYetValid) => {
                "clients refuse it until then: put a valid one in its place, with its key, or see \
                 to the clock of this machine"
            }
            (CertUse::Server, ValidityState::ExpiresSoon) => {
                "put a new one in its place before that, with its key"
            }
            (CertUse::Server, ValidityState::Expired) => {
                "clients refuse it: put a new one in its place, with its key"
            }
            (CertUse::ClientAuthority, ValidityState::NotYetValid) => {
                "what it has signed is taken all the same: see to the clock of this machine"
            }
            (CertUse::ClientAuthority, ValidityState::ExpiresSoon) => {
                "put its successor beside it before that"
            }
            (CertUse::ClientAuthority, ValidityState::Expired) => {
                "what it has signed is taken still: put its successor in its place, or remove it"
            }
        }
    }

    fn warn_from(&self) -> i64 {
        let life = self.not_after().saturating_sub(self.not_before.timestamp());
        self.not_after().saturating_sub(WARNING_PERIOD_MAX.min(life / LIFETIME_FRACTION))
    }

    /// Whether a client judges the server by it.
    fn is_server_leaf(&self) -> bool {
        self.cert_use == CertUse::Server && self.position == 0
    }

    fn is_same_certificate(&self, other: &Self) -> bool {
        let is = |it: &Self| (it.cert_use, it.not_before, it.not_after);
        is(self) == is(other) && self.serial == other.serial && self.subject == other.subject
    }
}

/// What clients would lose, were they shown these certificates instead of those that are live: one
/// that has expired by now takes no place while any is good.
pub(super) fn expired_replacements(
    (new, live): (&[CertValidity], &[CertValidity]),
    file: &Path,
    now: SystemTime,
) -> Vec<ConfigError> {
    let is_over = |term: &CertValidity| term.state(now) == ValidityState::Expired;
    if !live.iter().any(|term| term.is_server_leaf() && !is_over(term)) {
        return Vec::new();
    }
    let is_lost = |term: &&CertValidity| {
        term.is_server_leaf()
            && is_over(term)
            && !live.iter().any(|it| it.is_same_certificate(term))
    };
    let complaint = |term: &CertValidity| ConfigError {
        file: file.to_owned(),
        line: term.line,
        key: "listen.tls.certificates.certificate".to_owned(),
        what: format!("{} has expired on {}", term.file.display(), format_time(term.not_after)),
        help: "put a certificate in its place that is good, with its key".to_owned(),
    };
    new.iter().filter(is_lost).map(complaint).collect()
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

    /// The term of a certificate that is good from the first day of 2001, for so long.
    fn term(used: CertUse, life: Duration) -> CertValidity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = params.not_before + life;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read((Path::new("a.crt"), 7), used, &[made.der().clone()]).remove(0)
    }

    /// So long after the first day of 2001.
    fn after(span: Duration) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(978_307_200) + span
    }

    const fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_year_is_told_about_in_its_last_thirty_days_and_ends_after_its_last_second() {
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
    fn a_week_is_told_about_in_its_last_third() {
        let term = term(CertUse::Server, days(6));
        assert_eq!(term.state(after(days(4)) - SECOND), ValidityState::Valid);
        assert_eq!(term.state(after(days(4))), ValidityState::ExpiresSoon);
    }

    #[test]
    fn the_next_look_is_due_when_the_standing_changes() {
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
    fn a_concern_says_what_the_date_is_and_what_to_do() {
        let said = |used, at| term(used, days(365)).warning(at).map(|it| it.to_string());
        assert_eq!(said(CertUse::Server, after(days(9))), None);
        for (used, at, expected) in [
            (
                CertUse::Server,
                after(days(350)),
                "the certificate expires on 2002-01-01 00:00:00 UTC; put a new one in its place \
                 before that, with its key",
            ),
            (
                CertUse::Server,
                after(days(366)),
                "the certificate has expired on 2002-01-01 00:00:00 UTC; clients refuse it: put a \
                 new one in its place, with its key",
            ),
            (
                CertUse::Server,
                after(days(0)) - days(9),
                "the certificate is not valid before 2001-01-01 00:00:00 UTC; clients refuse it \
                 until then: put a valid one in its place, with its key, or see to the clock of \
                 this machine",
            ),
            (
                CertUse::ClientAuthority,
                after(days(366)),
                "the authority 'CN=rcgen self signed cert' has expired on 2002-01-01 00:00:00 UTC; \
                 what it has signed is taken still: put its successor in its place, or remove it",
            ),
        ] {
            assert_eq!(said(used, at).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_has_expired_takes_no_place_of_what_is_good() {
        let (long, short) = (term(CertUse::Server, days(365)), term(CertUse::Server, days(10)));
        let other = term(CertUse::Server, days(9));
        let said = |new: &CertValidity, live: &[&CertValidity], now| {
            let live: Vec<_> = live.iter().copied().cloned().collect();
            let said =
                expired_replacements((std::slice::from_ref(new), &live), Path::new("s.yaml"), now);
            said.iter().map(ConfigError::to_string).collect::<Vec<_>>()
        };
        let now = after(days(20));
        let expected = "s.yaml:7: listen.tls.certificates.certificate: a.crt has expired on \
                        2001-01-11 00:00:00 UTC; put a certificate in its place that is good, \
                        with its key";
        assert_eq!(said(&short, &[&long], now), [expected]);
        // In time, or live already, or no worse than what is live, or for the first time.
        assert!(said(&short, &[&long], after(days(5))).is_empty());
        assert!(said(&short, &[&long, &short], now).is_empty());
        assert!(said(&short, &[&other], now).is_empty());
        assert!(said(&short, &[], now).is_empty());
        assert!(said(&long, &[&long], now).is_empty());
    }

    #[test]
    fn a_chain_is_told_apart_from_what_stands_in_front_of_it() {
        let mut link = term(CertUse::Server, days(10));
        link.position = 1;
        let concern = link.warning(after(days(20))).unwrap();
        assert!(concern.what.starts_with("the certificate of 'CN=rcgen"), "{concern}");
        let live = [term(CertUse::Server, days(365))];
        assert!(
            expired_replacements((&[link], &live), Path::new("s.yaml"), after(days(20))).is_empty()
        );
    }
}
