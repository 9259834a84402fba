//! Term: from when to when a certificate is good, and what a person should hear about that.
//!
//! The time is an argument: who asks owns the clock. Must never happen here: a start that fails
//! because of a date. Clients judge for themselves, and some know a certificate by heart.

use crate::config::complaint::{Complaint, shown};
use rustls::pki_types::CertificateDer;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

/// So many seconds before its end a certificate that lives for long is told about. A shorter life
/// is told about in its last part: what is renewed every few days would never be silent otherwise.
const SOON: i64 = 30 * 24 * 3600;
/// The last one of so many parts of a life.
const PARTS: i64 = 3;

/// What a certificate is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Clients are shown it.
    Server,
    /// It signs the certificates of clients.
    ClientAuthority,
}

impl Use {
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
pub struct Term {
    file: PathBuf,
    /// Where the file is named.
    line: u64,
    used: Use,
    /// How many certificates stand before it in the file.
    place: usize,
    subject: String,
    serial: String,
    begins: ASN1Time,
    ends: ASN1Time,
}

/// How a certificate stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// There is nothing to say.
    Good,
    /// It is not valid yet.
    Early,
    /// It is about to end.
    Soon,
    /// It has ended.
    Over,
}

/// What a person should hear about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What there is.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// The terms of the certificates of a file that is named on this line. One that cannot be read has
/// none.
pub(super) fn read(
    (file, line): (&Path, u64),
    used: Use,
    certificates: &[CertificateDer<'_>],
) -> Vec<Term> {
    let term = |(place, der): (usize, &CertificateDer<'_>)| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let validity = parsed.validity();
        Some(Term {
            file: file.to_owned(),
            line,
            used,
            place,
            subject: parsed.subject().to_string(),
            serial: parsed.raw_serial_as_string(),
            begins: validity.not_before,
            ends: validity.not_after,
        })
    };
    certificates.iter().enumerate().filter_map(term).collect()
}

impl Term {
    /// The file that the certificate stands in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What it is there for.
    pub fn used(&self) -> Use {
        self.used
    }

    /// Its last second, since the epoch.
    pub fn ends(&self) -> i64 {
        self.ends.timestamp()
    }

    /// How it stands now.
    pub fn standing(&self, now: SystemTime) -> Standing {
        let now = seconds(now);
        if now > self.ends() {
            Standing::Over
        } else if now < self.begins.timestamp() {
            Standing::Early
        } else if now >= self.soon() {
            Standing::Soon
        } else {
            Standing::Good
        }
    }

    /// How long it will stand so; `None` if for ever.
    pub fn steady_for(&self, now: SystemTime) -> Option<Duration> {
        let marks = [self.begins.timestamp(), self.soon(), self.ends().saturating_add(1)];
        let left = marks.into_iter().map(|mark| mark.saturating_sub(seconds(now)));
        let left = left.filter_map(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
        left.min().map(Duration::from_secs)
    }

    /// What a person should hear about it now.
    pub fn concern(&self, now: SystemTime) -> Option<Concern> {
        let (begins, ends) = (day(self.begins), day(self.ends));
        let what = match self.standing(now) {
            Standing::Good => return None,
            Standing::Early => format!("{} is not valid before {begins}", self.name()),
            Standing::Soon => format!("{} expires on {ends}", self.name()),
            Standing::Over => format!("{} has expired on {ends}", self.name()),
        };
        Some(Concern { what, remedy: self.remedy(now) })
    }

    fn name(&self) -> String {
        match (self.used, self.place) {
            (Use::Server, 0) => "the certificate".to_owned(),
            (Use::Server, _) => format!("the certificate of {} in the chain", shown(&self.subject)),
            (Use::ClientAuthority, _) => format!("the authority {}", shown(&self.subject)),
        }
    }

    fn remedy(&self, now: SystemTime) -> &'static str {
        match (self.used, self.standing(now)) {
            (_, Standing::Good) => "leave it",
            (Use::Server, _) if self.place > 0 => {
                "write the chain into the file as its issuer has it now"
            }
            (Use::Server, Standing::Early) => {
                "clients refuse it until then: put a valid one in its place, with its key, or see \
                 to the clock of this machine"
            }
            (Use::Server, Standing::Soon) => "put a new one in its place before that, with its key",
            (Use::Server, Standing::Over) => {
                "clients refuse it: put a new one in its place, with its key"
            }
            (Use::ClientAuthority, Standing::Early) => {
                "what it has signed is taken all the same: see to the clock of this machine"
            }
            (Use::ClientAuthority, Standing::Soon) => "put its successor beside it before that",
            (Use::ClientAuthority, Standing::Over) => {
                "what it has signed is taken still: put its successor in its place, or remove it"
            }
        }
    }

    fn soon(&self) -> i64 {
        let life = self.ends().saturating_sub(self.begins.timestamp());
        self.ends().saturating_sub(SOON.min(life / PARTS))
    }

    /// Whether a client judges the server by it.
    fn is_own(&self) -> bool {
        self.used == Use::Server && self.place == 0
    }

    fn is_same(&self, other: &Self) -> bool {
        let is = |it: &Self| (it.used, it.begins, it.ends);
        is(self) == is(other) && self.serial == other.serial && self.subject == other.subject
    }
}

/// What clients would lose, were they shown these certificates instead of those that are live: one
/// that has expired by now takes no place while any is good.
pub(super) fn lost(
    (new, live): (&[Term], &[Term]),
    file: &Path,
    now: SystemTime,
) -> Vec<Complaint> {
    let is_over = |term: &Term| term.standing(now) == Standing::Over;
    if !live.iter().any(|term| term.is_own() && !is_over(term)) {
        return Vec::new();
    }
    let is_lost =
        |term: &&Term| term.is_own() && is_over(term) && !live.iter().any(|it| it.is_same(term));
    let complaint = |term: &Term| Complaint {
        file: file.to_owned(),
        line: term.line,
        key: "listen.tls.certificates.certificate".to_owned(),
        what: format!("{} has expired on {}", term.file.display(), day(term.ends)),
        remedy: "put a certificate in its place that is good, with its key".to_owned(),
    };
    new.iter().filter(is_lost).map(complaint).collect()
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn day(at: ASN1Time) -> String {
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
    fn term(used: Use, life: Duration) -> Term {
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
        let term = term(Use::Server, days(365));
        for (at, standing) in [
            (after(days(0)) - SECOND, Standing::Early),
            (after(days(0)), Standing::Good),
            (after(days(335)) - SECOND, Standing::Good),
            (after(days(335)), Standing::Soon),
            (after(days(365)), Standing::Soon),
            (after(days(365)) + SECOND, Standing::Over),
        ] {
            assert_eq!(term.standing(at), standing, "{at:?}");
        }
        assert_eq!(term.ends(), 978_307_200 + i64::try_from(365 * DAY).unwrap());
    }

    #[test]
    fn a_week_is_told_about_in_its_last_third() {
        let term = term(Use::Server, days(6));
        assert_eq!(term.standing(after(days(4)) - SECOND), Standing::Good);
        assert_eq!(term.standing(after(days(4))), Standing::Soon);
    }

    #[test]
    fn the_next_look_is_due_when_the_standing_changes() {
        let term = term(Use::Server, days(90));
        let mut now = after(days(0)) - days(1);
        let mut seen = vec![term.standing(now)];
        while let Some(steady) = term.steady_for(now) {
            assert_eq!(term.standing(now + steady - SECOND), *seen.last().unwrap());
            now += steady;
            seen.push(term.standing(now));
        }
        assert_eq!(seen, [Standing::Early, Standing::Good, Standing::Soon, Standing::Over]);
        assert_eq!(now, after(days(90)) + SECOND);
    }

    #[test]
    fn a_concern_says_what_the_date_is_and_what_to_do() {
        let said = |used, at| term(used, days(365)).concern(at).map(|it| it.to_string());
        assert_eq!(said(Use::Server, after(days(9))), None);
        for (used, at, expected) in [
            (
                Use::Server,
                after(days(350)),
                "the certificate expires on 2002-01-01 00:00:00 UTC; put a new one in its place \
                 before that, with its key",
            ),
            (
                Use::Server,
                after(days(366)),
                "the certificate has expired on 2002-01-01 00:00:00 UTC; clients refuse it: put a \
                 new one in its place, with its key",
            ),
            (
                Use::Server,
                after(days(0)) - days(9),
                "the certificate is not valid before 2001-01-01 00:00:00 UTC; clients refuse it \
                 until then: put a valid one in its place, with its key, or see to the clock of \
                 this machine",
            ),
            (
                Use::ClientAuthority,
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
        let (long, short) = (term(Use::Server, days(365)), term(Use::Server, days(10)));
        let other = term(Use::Server, days(9));
        let said = |new: &Term, live: &[&Term], now| {
            let live: Vec<_> = live.iter().copied().cloned().collect();
            let said = lost((std::slice::from_ref(new), &live), Path::new("s.yaml"), now);
            said.iter().map(Complaint::to_string).collect::<Vec<_>>()
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
        let mut link = term(Use::Server, days(10));
        link.place = 1;
        let concern = link.concern(after(days(20))).unwrap();
        assert!(concern.what.starts_with("the certificate of 'CN=rcgen"), "{concern}");
        let live = [term(Use::Server, days(365))];
        assert!(lost((&[link], &live), Path::new("s.yaml"), after(days(20))).is_empty());
    }
}
