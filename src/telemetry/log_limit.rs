//! How often a line that a stranger can cause is logged.
//!
//! In each [`WINDOW`] a kind of line is logged once for each source, and `lines_max` times in
//! all. What is left out is counted, and [`report`] logs one line for each kind that tells how many
//! there were. What is remembered is bounded by the lines that were logged.
//!
//! Never on the way of a call that succeeds: these lines are about connections that end, drivers
//! that change, and calls that are refused. A worker never waits for another one here: see
//! [`admits_now`].

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// How long a source of a kind of line is remembered.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one kind in a window.
const LINES_MAX: usize = 20;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A client broke TLS.
    TlsFailed,
    /// A client speaks HTTP/2 in clear text where TLS is due.
    TlsMissing,
    /// A client speaks TLS where clear text is due.
    TlsUnexpected,
    /// A client broke a rule of HTTP/2, or overran a budget.
    ClientMalformed,
    /// A client took too long, or overran its budget of refused calls.
    ClientEnded,
    /// A source has all the connections that it may have.
    SourceFull,
    /// A connection could not be accepted or not be begun.
    NotAccepted,
    /// A driver broke a rule of HTTP/2.
    DriverMalformed,
    /// A driver cannot be reached.
    DriverUnreachable,
    /// A driver can be reached again.
    DriverReachable,
    /// A driver does not accept sconce's token.
    DriverCredential,
    /// sconce answered a call itself, with an error.
    CallRefused,
}

/// All of them, in the order in which they are counted.
const KINDS: [LineKind; 12] = [
    LineKind::TlsFailed,
    LineKind::TlsMissing,
    LineKind::TlsUnexpected,
    LineKind::ClientMalformed,
    LineKind::ClientEnded,
    LineKind::SourceFull,
    LineKind::NotAccepted,
    LineKind::DriverMalformed,
    LineKind::DriverUnreachable,
    LineKind::DriverReachable,
    LineKind::DriverCredential,
    LineKind::CallRefused,
];

impl LineKind {
    /// The message of the lines that are left out.
    const fn message(self) -> &'static str {
        match self {
            Self::TlsFailed => "TLS failed",
            Self::TlsMissing => "client without TLS",
            Self::TlsUnexpected => "TLS on a clear-text address",
            Self::ClientMalformed => "client connection refused",
            Self::ClientEnded => "client connection ended",
            Self::SourceFull => "connection refused: its source has too many",
            Self::NotAccepted => "connection not accepted",
            Self::DriverMalformed => "driver malformed",
            Self::DriverUnreachable => "driver unreachable",
            Self::DriverReachable => "driver reachable again",
            Self::DriverCredential => "driver rejects sconce's token",
            Self::CallRefused => "call refused",
        }
    }

    /// Lines of this kind in a window. Of refused calls there are more, since each of them is
    /// somebody who may ask about it.
    const fn lines_max(self) -> usize {
        match self {
            Self::CallRefused => 100,
            Self::TlsFailed
            | Self::TlsMissing
            | Self::TlsUnexpected
            | Self::ClientMalformed
            | Self::ClientEnded
            | Self::SourceFull
            | Self::NotAccepted
            | Self::DriverMalformed
            | Self::DriverUnreachable
            | Self::DriverReachable
            | Self::DriverCredential => LINES_MAX,
        }
    }
}

static LIMIT: LazyLock<Mutex<Limit>> = LazyLock::new(Mutex::default);
/// Lines that were left out since another worker was asking: they count as refused calls, of which
/// there are most.
static CONTENDED: AtomicU64 = AtomicU64::new(0);

/// Whether a line of this kind about this source is to be logged now. If not, it is counted.
pub fn allow(kind: LineKind, source: &impl Hash) -> bool {
    LIMIT.lock().unwrap_or_else(PoisonError::into_inner).allow(kind, source)
}

/// The same for lines that clients can cause in any number. While another worker asks, the line is
/// left out, and counted, so that nobody waits.
pub fn try_allow(kind: LineKind, source: &impl Hash) -> bool {
    match LIMIT.try_lock() {
        Ok(mut limit) => limit.allow(kind, source),
        Err(TryLockError::Poisoned(limit)) => limit.into_inner().allow(kind, source),
        Err(TryLockError::WouldBlock) => {
            CONTENDED.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

/// Logs, once in a [`WINDOW`], how many lines were left out. Never ends.
pub async fn report() {
    let mut window = tokio::time::interval(WINDOW);
    loop {
        window.tick().await;
        for (kind, suppressed) in take_suppressed() {
            let (seconds, lines) = (WINDOW.as_secs(), kind.message());
            tracing::info!(lines, suppressed, seconds, "log lines left out: too many of one kind");
        }
    }
}

/// Begins a new window; what was left out in the last one.
fn take_suppressed() -> Vec<(LineKind, u64)> {
    let mut left_out = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).next_window();
    let missed = CONTENDED.swap(0, Ordering::Relaxed);
    if missed > 0 {
        left_out.push((LineKind::CallRefused, missed));
    }
    left_out
}

#[derive(Default)]
struct Limit {
    hasher: RandomState,
    /// Kind and source of the lines that were logged in this window.
    logged: HashSet<(usize, u64)>,
    lines: [usize; KINDS.len()],
    suppressed: [u64; KINDS.len()],
}

impl Limit {
    fn allow(&mut self, kind: LineKind, source: &impl Hash) -> bool {
        let at = kind as usize;
        let Some(lines) = self.lines.get_mut(at) else { return true };
        if *lines < kind.lines_max() && self.logged.insert((at, self.hasher.hash_one(source))) {
            *lines = lines.saturating_add(1);
            return true;
        }
        if let Some(suppressed) = self.suppressed.get_mut(at) {
            *suppressed = suppressed.saturating_add(1);
        }
        false
    }

    /// Begins a new window; what was left out in the last one.
    fn next_window(&mut self) -> Vec<(LineKind, u64)> {
        self.logged.clear();
        self.lines = [0; KINDS.len()];
        let suppressed = std::mem::take(&mut self.suppressed);
        KINDS.into_iter().zip(suppressed).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_in_the_order_of_the_enum() {
        for (at, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(at, kind as usize);
        }
    }

    #[test]
    fn a_source_has_one_line_of_a_kind_in_a_window() {
        let mut limit = Limit::default();
        assert!(limit.allow(LineKind::TlsFailed, &"a"));
        assert!(!limit.allow(LineKind::TlsFailed, &"a"));
        assert!(limit.allow(LineKind::TlsFailed, &"b"));
        assert!(limit.allow(LineKind::ClientEnded, &"a"));
        assert!(!limit.allow(LineKind::TlsFailed, &"a"));
        assert_eq!(limit.next_window(), [(LineKind::TlsFailed, 2)]);
        assert!(limit.allow(LineKind::TlsFailed, &"a"));
        assert_eq!(limit.next_window(), []);
    }

    #[test]
    fn a_line_is_left_out_and_counted_while_another_worker_asks() {
        let held = LIMIT.lock().unwrap();
        assert!(!try_allow(LineKind::CallRefused, &"a"));
        drop(held);
        assert!(take_suppressed().contains(&(LineKind::CallRefused, 1)));
        assert!(try_allow(LineKind::CallRefused, &"a"));
    }

    #[test]
    fn refused_calls_have_more_lines_than_others() {
        let mut limit = Limit::default();
        let logged =
            (0..10_000).filter(|source| limit.allow(LineKind::CallRefused, source)).count();
        assert_eq!(logged, LineKind::CallRefused.lines_max());
        assert!(logged > LINES_MAX);
    }

    #[test]
    fn many_sources_have_few_lines_together_and_are_not_remembered() {
        let mut limit = Limit::default();
        let logged = (0..10_000).filter(|source| limit.allow(LineKind::TlsFailed, source)).count();
        assert_eq!(logged, LINES_MAX);
        assert_eq!(limit.logged.len(), LINES_MAX);
        assert!(limit.allow(LineKind::ClientMalformed, &1), "other kinds have lines of their own");
        assert_eq!(limit.next_window(), [(LineKind::TlsFailed, 10_000 - 20)]);
    }
}
