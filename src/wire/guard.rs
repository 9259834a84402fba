//! Rate limits against protocol abuse: floods of frames that are legal one by one.
//!
//! Each rate limit is a token bucket with a burst and a refill per second. The figures are ten
//! times the measured rates of well-behaved gRPC clients (20 PINGs per second, one short call per
//! message, bursts of cancelled calls). The time is an argument.

use std::time::Instant;

/// A limited kind of frame or event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// RST_STREAM from the peer (CVE-2023-44487, "rapid reset").
    Resets,
    /// RST_STREAM sent to the peer because of its errors (CVE-2025-8671, "MadeYouReset").
    ProvokedResets,
    /// PING without ACK.
    Pings,
    /// SETTINGS without ACK (CVE-2019-9515).
    Settings,
    /// PRIORITY and frames of unknown type.
    Priorities,
    /// WINDOW_UPDATE beyond the number that the sent DATA accounts for.
    WindowUpdates,
    /// DATA without payload and without END_STREAM, padded or not (CVE-2019-9518).
    EmptyData,
    /// CONTINUATION frames of one header block (CVE-2024-27316).
    Continuations,
    /// Octets of one encoded header block.
    HeaderBlock,
    /// Header lists over the limit.
    HeaderLists,
    /// Frames on closed streams, and acknowledgements of nothing that was sent.
    UnexpectedFrames,
    /// Octets of unread refusals in the write buffer.
    UnreadRefusals,
    /// Refused calls, weighted by their cost.
    RefusedCalls,
}

impl Budget {
    /// The name in logs, metrics and the debug data of GOAWAY.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::ProvokedResets => "provoked_resets",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::Priorities => "priorities",
            Self::WindowUpdates => "window_updates",
            Self::EmptyData => "empty_data",
            Self::Continuations => "continuations",
            Self::HeaderBlock => "header_block",
            Self::HeaderLists => "header_lists",
            Self::UnexpectedFrames => "unexpected_frames",
            Self::UnreadRefusals => "unread_refusals",
            Self::RefusedCalls => "refused_calls",
        }
    }

    /// The burst, and the refill per second.
    const fn burst_and_refill(self) -> (u32, u32) {
        match self {
            Self::Resets => (500, 50),
            Self::ProvokedResets => (200, 20),
            Self::Pings => (1_000, 200),
            Self::Settings => (200, 20),
            Self::Priorities => (1_000, 100),
            Self::WindowUpdates => (4_000, 1_000),
            Self::EmptyData => (1_000, 100),
            Self::HeaderLists => (100, 10),
            Self::UnexpectedFrames => (2_000, 200),
            Self::RefusedCalls => (4_000, 400),
            Self::Continuations | Self::HeaderBlock | Self::UnreadRefusals => (1, 0),
        }
    }
}

/// Maximum number of CONTINUATION frames in one header block.
pub const CONTINUATIONS_MAX: u32 = 64;
/// Maximum number of informational responses on one stream.
pub const INFORMATIONAL_MAX: u8 = 32;

/// Octets of DATA per expected WINDOW_UPDATE.
const OCTETS_PER_WINDOW_UPDATE: usize = 512;
/// Expected WINDOW_UPDATEs that [`Guard::is_full`] tolerates: few enough for their bucket.
const EXPECTED_UPDATES_NEGLIGIBLE: u32 = 400;
/// Limit of the expected WINDOW_UPDATEs.
const EXPECTED_UPDATES_MAX: u32 = 1_000_000;

const BUCKETS: usize = 10;
/// The budgets with a bucket. The others are fixed limits without a refill.
const BUCKETED: [Budget; BUCKETS] = [
    Budget::Resets,
    Budget::ProvokedResets,
    Budget::Pings,
    Budget::Settings,
    Budget::Priorities,
    Budget::WindowUpdates,
    Budget::EmptyData,
    Budget::HeaderLists,
    Budget::UnexpectedFrames,
    Budget::RefusedCalls,
];

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Spent events, in thousandths.
    spent: u32,
    /// Time of the last refill, in milliseconds since `Guard::created_at`; wraps after seven weeks.
    refilled_at: u32,
}

/// The budgets of one connection.
#[derive(Debug)]
pub struct Guard {
    created_at: Instant,
    buckets: [Bucket; BUCKETS],
    /// WINDOW_UPDATEs that the sent DATA accounts for and that have not arrived.
    expected_window_updates: u32,
}

impl Guard {
    /// Full budgets.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { created_at: now, buckets: [Bucket::default(); BUCKETS], expected_window_updates: 0 }
    }

    /// Spends one event of a budget. `false`: the budget is exhausted.
    #[must_use]
    pub fn spend(&mut self, budget: Budget, now: Instant) -> bool {
        if budget == Budget::WindowUpdates && self.expected_window_updates > 0 {
            self.expected_window_updates = self.expected_window_updates.saturating_sub(1);
            return true;
        }
        self.spend_many(budget, 1, now)
    }

    /// Spends `count` events of a budget. `false`: the budget is exhausted.
    #[must_use]
    pub fn spend_many(&mut self, budget: Budget, count: u32, now: Instant) -> bool {
        let (burst, refill) = budget.burst_and_refill();
        let at = self.millis(now);
        let Some(bucket) = self.bucket(budget) else { return false };
        let refilled = at.wrapping_sub(bucket.refilled_at).saturating_mul(refill);
        bucket.refilled_at = at;
        bucket.spent =
            bucket.spent.saturating_sub(refilled).saturating_add(count.saturating_mul(1_000));
        bucket.spent <= burst.saturating_mul(1_000)
    }

    /// Whether every bucket is full, so that a new guard would allow as much. A few expected
    /// WINDOW_UPDATEs may be outstanding; their bucket covers them.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let at = self.millis(now);
        self.expected_window_updates <= EXPECTED_UPDATES_NEGLIGIBLE
            && self.buckets.iter().zip(BUCKETED).all(|(bucket, budget)| {
                let (_, refill) = budget.burst_and_refill();
                bucket.spent <= at.wrapping_sub(bucket.refilled_at).saturating_mul(refill)
            })
    }

    /// Accounts for a sent DATA frame: its receiver may answer with several WINDOW_UPDATEs, on the
    /// stream and on the connection, when it reads in small pieces.
    pub fn data_sent(&mut self, octets: usize) {
        let updates = u32::try_from(octets / OCTETS_PER_WINDOW_UPDATE).unwrap_or(u32::MAX);
        self.expected_window_updates = self
            .expected_window_updates
            .saturating_add(updates.saturating_add(4))
            .min(EXPECTED_UPDATES_MAX);
    }

    fn bucket(&mut self, budget: Budget) -> Option<&mut Bucket> {
        let index = BUCKETED.iter().position(|it| *it == budget)?;
        self.buckets.get_mut(index)
    }

    fn millis(&self, now: Instant) -> u32 {
        let millis =
            now.saturating_duration_since(self.created_at).as_millis() & u128::from(u32::MAX);
        u32::try_from(millis).unwrap_or(0)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spend(guard: &mut Guard, budget: Budget, times: u32, now: Instant) -> u32 {
        (0..times).filter(|_| guard.spend(budget, now)).count().try_into().unwrap()
    }

    #[test]
    fn a_burst_within_the_budget_passes_and_the_next_one_does_not() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        assert_eq!(spend(&mut guard, Budget::Resets, 600, now), 500);
    }

    #[test]
    fn a_budget_refills_over_time() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        spend(&mut guard, Budget::Resets, 500, now);
        assert_eq!(spend(&mut guard, Budget::Resets, 100, now + Duration::from_secs(1)), 50);
    }

    #[test]
    fn a_guard_is_full_again_once_all_budgets_are_refilled() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        assert!(guard.is_full(now));
        spend(&mut guard, Budget::Resets, 500, now);
        spend(&mut guard, Budget::Pings, 1, now);
        assert!(!guard.is_full(now + Duration::from_secs(9)));
        assert!(guard.is_full(now + Duration::from_secs(10)));
        for _ in 0..20_000 {
            guard.data_sent(5);
        }
        assert!(!guard.is_full(now + Duration::from_secs(10)), "WINDOW_UPDATEs are outstanding");
    }

    #[test]
    fn twenty_pings_per_second_never_exhaust_the_budget() {
        let mut now = Instant::now();
        let mut guard = Guard::new(now);
        for _ in 0..10_000 {
            assert!(guard.spend(Budget::Pings, now));
            now += Duration::from_millis(50);
        }
    }

    #[test]
    fn budgets_refill_after_the_clock_of_a_long_connection_wraps() {
        let born = Instant::now();
        let mut guard = Guard::new(born);
        for weeks in 1..10 {
            let now = born + Duration::from_secs(weeks * 7 * 86_400);
            assert_eq!(spend(&mut guard, Budget::Pings, 2_000, now), 1_000);
        }
    }

    #[test]
    fn window_updates_for_sent_data_are_free_even_in_one_burst() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        for _ in 0..20_000 {
            guard.data_sent(5);
        }
        assert_eq!(spend(&mut guard, Budget::WindowUpdates, 100_000, now), 84_000);
    }
}
