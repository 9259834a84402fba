//! Rate limits for log lines that peers can cause.
//!
//! In each [`WINDOW`] a kind of line is logged once for each source and `lines_max` times in total.
//! Suppressed lines are counted, and [`report`] logs one line for each kind with their number.
//! Memory is bounded by the number of logged lines.
//!
//! Not used by calls that succeed: these lines are about closed connections, driver changes and
//! refused calls. No worker waits for another here: see [`try_allow`].

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// Length of a rate-limit window.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// Limit of lines of one kind in a window.
const LINES_MAX: usize = 20;

/// Kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// TLS handshake error.
    TlsFailed,
    /// HTTP/2 without TLS on a TLS address.
    TlsMissing,
    /// TLS on a clear-text address.
    TlsUnexpected,
    /// A client violated HTTP/2 or exceeded an abuse limit.
    ClientMalformed,
    /// A client exceeded a timeout, or its limit of refused calls.
    ClientEnded,
    /// A source exceeded its number of connections.
    SourceFull,
    /// Accepting or setting up a connection failed.
    NotAccepted,
    /// A driver violated HTTP/2.
    DriverMalformed,
    /// A driver is unreachable.
    DriverUnreachable,
    /// A driver is reachable again.
    DriverReachable,
    /// A driver rejects sconce's token.
    DriverCredential,
    /// sconce refused a call.
    CallRefused,
}

/// All kinds, in the order of the enum.
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
    /// Message of the suppressed lines.
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

    /// Maximum lines of this kind in a window. Higher for refused calls: operators look them up by
    /// user.
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
/// Lines suppressed because another worker held the lock; reported as refused calls, the most
/// frequent kind.
static CONTENDED: AtomicU64 = AtomicU64::new(0);

/// Whether to log a line of this kind about this source now. Counts it otherwise.
pub(crate) fn allow(kind: LineKind, source: &impl Hash) -> bool {
    LIMIT.lock().unwrap_or_else(PoisonError::into_inner).allow(kind, source)
}

/// The same for lines that clients can cause in any number: if another worker holds the lock, the
/// line is suppressed and counted instead of waiting.
pub(crate) fn try_allow(kind: LineKind, source: &impl Hash) -> bool {
    match LIMIT.try_lock() {
        Ok(mut limit) => limit.allow(kind, source),
        Err(TryLockError::Poisoned(limit)) => limit.into_inner().allow(kind, source),
        Err(TryLockError::WouldBlock) => {
            CONTENDED.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

/// Logs the number of suppressed lines once in a [`WINDOW`]. Never returns.
pub(crate) async fn report() {
    let mut window = tokio::time::interval(WINDOW);
    loop {
        window.tick().await;
        for (kind, suppressed) in take_suppressed() {
            let (seconds, line) = (WINDOW.as_secs(), kind.message());
            tracing::info!(line, suppressed, seconds, "log lines suppressed by the rate limit");
        }
    }
}

/// Starts a new window, and returns the suppressed lines of the last one.
fn take_suppressed() -> Vec<(LineKind, u64)> {
    let mut suppressed = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).next_window();
    let contended = CONTENDED.swap(0, Ordering::Relaxed);
    if contended > 0 {
        suppressed.push((LineKind::CallRefused, contended));
    }
    suppressed
}

#[derive(Default)]
struct Limit {
    hasher: RandomState,
    /// Kinds and sources of the lines logged in this window.
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

    /// Starts a new window, and returns the suppressed lines of the last one.
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
    fn a_source_gets_one_line_of_a_kind_in_a_window() {
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
    fn a_line_is_suppressed_and_counted_while_another_worker_holds_the_lock() {
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
    fn many_sources_share_the_limit_of_a_kind_and_are_not_stored() {
        let mut limit = Limit::default();
        let logged = (0..10_000).filter(|source| limit.allow(LineKind::TlsFailed, source)).count();
        assert_eq!(logged, LINES_MAX);
        assert_eq!(limit.logged.len(), LINES_MAX);
        assert!(limit.allow(LineKind::ClientMalformed, &1), "each kind has its own limit");
        assert_eq!(limit.next_window(), [(LineKind::TlsFailed, 10_000 - 20)]);
    }
}
