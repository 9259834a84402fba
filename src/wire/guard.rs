//! Guard: how much of each legal-but-odd thing one peer may do before it is asked to leave.
//!
//! Every budget is a bucket: a burst that honest peers never empty, and a refill they never
//! outrun. What honest Spark Connect clients do was measured (twenty PINGs a second, one
//! ReleaseExecute a message, bursts of cancelled calls from a notebook), and each figure leaves
//! them ten times that. Must never depend on a clock of its own: the time is an argument.

use std::time::Instant;

/// What is counted, each by its name in the metric `sconce_abuse_limit_exceeded_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// RST_STREAM from the peer (CVE-2023-44487, "rapid reset").
    Resets,
    /// RST_STREAM that the peer made us send (CVE-2025-8671, "MadeYouReset").
    ProvokedResets,
    /// PING without ACK.
    Pings,
    /// SETTINGS without ACK (CVE-2019-9515).
    Settings,
    /// PRIORITY and frames of unknown type.
    Priorities,
    /// WINDOW_UPDATE beyond what the DATA we sent explains.
    WindowUpdates,
    /// DATA without octets but padding, and without END_STREAM (CVE-2019-9518).
    EmptyData,
    /// CONTINUATION frames of one header block (CVE-2024-27316).
    Continuations,
    /// Octets of one encoded header block.
    HeaderBlock,
    /// Header lists over the limit.
    HeaderLists,
    /// Frames for streams that are gone.
    UnexpectedFrames,
    /// Informational (1xx) answers of one stream.
    InformationalResponses,
    /// Refusals that wait because the peer does not read them.
    UnreadRefusals,
    /// Calls that were refused, by what each cost.
    RefusedCalls,
}

impl Budget {
    /// The name, as logs, GOAWAY and metrics spell it.
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
            Self::UnexpectedFrames => "strays",
            Self::InformationalResponses => "interims",
            Self::UnreadRefusals => "unread",
            Self::RefusedCalls => "refused_calls",
        }
    }

    /// The burst, and how many a second come back.
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
            Self::Continuations
            | Self::HeaderBlock
            | Self::InformationalResponses
            | Self::UnreadRefusals => (1, 0),
        }
    }
}

/// CONTINUATION frames that one header block may have.
pub const CONTINUATIONS_MAX: u32 = 64;
/// Informational answers that one stream may get.
pub const INFORMATIONAL_MAX: u8 = 32;

/// Octets of DATA after which a reader may well send two WINDOW_UPDATEs.
const OCTETS_PER_WINDOW_UPDATE: usize = 512;
/// WINDOW_UPDATEs that are so few that it does not matter whether they were explained.
const EXPECTED_UPDATES_NEGLIGIBLE: u32 = 400;
/// WINDOW_UPDATEs that may be explained in advance.
const EXPECTED_UPDATES_MAX: u32 = 1_000_000;

const BUCKETS: usize = 10;
/// The budgets that have a bucket. The others bound one thing, and nothing comes back.
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
    /// Thousandths of an event that are spent.
    spent: u32,
    /// Milliseconds since `Guard::born` of the last refill, which begin anew after seven weeks.
    refilled_at: u32,
}

/// The budgets of one connection.
#[derive(Debug)]
pub struct Guard {
    created_at: Instant,
    buckets: [Bucket; BUCKETS],
    /// WINDOW_UPDATEs that the DATA we sent explains and that have not come yet.
    expected_window_updates: u32,
}

impl Guard {
    /// Full budgets.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { created_at: now, buckets: [Bucket::default(); BUCKETS], expected_window_updates: 0 }
    }

    /// Takes one from a budget; `false` when it is empty.
    #[must_use]
    pub fn spend(&mut self, budget: Budget, now: Instant) -> bool {
        if budget == Budget::WindowUpdates && self.expected_window_updates > 0 {
            self.expected_window_updates = self.expected_window_updates.saturating_sub(1);
            return true;
        }
        self.spend_many(budget, 1, now)
    }

    /// Takes so many from a budget; `false` when it is empty.
    #[must_use]
    pub fn spend_many(&mut self, budget: Budget, count: u32, now: Instant) -> bool {
        let (burst, refill) = budget.burst_and_refill();
        let at = self.millis(now);
        let Some(bucket) = self.bucket(budget) else { return false };
        let back = at.wrapping_sub(bucket.refilled_at).saturating_mul(refill);
        bucket.refilled_at = at;
        bucket.spent =
            bucket.spent.saturating_sub(back).saturating_add(count.saturating_mul(1_000));
        bucket.spent <= burst.saturating_mul(1_000)
    }

    /// Whether every budget is full again, so that a new guard would allow as much: but for a few
    /// WINDOW_UPDATEs of DATA that was sent, which the budget of these takes.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let at = self.millis(now);
        self.expected_window_updates <= EXPECTED_UPDATES_NEGLIGIBLE
            && self.buckets.iter().zip(BUCKETED).all(|(bucket, budget)| {
                let (_, refill) = budget.burst_and_refill();
                bucket.spent <= at.wrapping_sub(bucket.refilled_at).saturating_mul(refill)
            })
    }

    /// A DATA frame of so many octets that we sent explains WINDOW_UPDATEs of its reader, who may
    /// take it in small sips, for its stream and for the connection.
    pub fn data_sent(&mut self, octets: usize) {
        let sips = u32::try_from(octets / OCTETS_PER_WINDOW_UPDATE).unwrap_or(u32::MAX);
        self.expected_window_updates = self
            .expected_window_updates
            .saturating_add(sips.saturating_add(4))
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
    fn time_gives_back() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        spend(&mut guard, Budget::Resets, 500, now);
        assert_eq!(spend(&mut guard, Budget::Resets, 100, now + Duration::from_secs(1)), 50);
    }

    #[test]
    fn a_guard_is_full_again_once_everything_that_was_spent_came_back() {
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
        assert!(!guard.is_full(now + Duration::from_secs(10)), "their WINDOW_UPDATEs may come");
    }

    #[test]
    fn twenty_pings_a_second_are_never_too_many() {
        let mut now = Instant::now();
        let mut guard = Guard::new(now);
        for _ in 0..10_000 {
            assert!(guard.spend(Budget::Pings, now));
            now += Duration::from_millis(50);
        }
    }

    #[test]
    fn a_connection_of_many_weeks_still_gets_its_budgets_back() {
        let born = Instant::now();
        let mut guard = Guard::new(born);
        for weeks in 1..10 {
            let now = born + Duration::from_secs(weeks * 7 * 86_400);
            assert_eq!(spend(&mut guard, Budget::Pings, 2_000, now), 1_000);
        }
    }

    #[test]
    fn what_our_data_explains_does_not_count_even_when_it_comes_all_at_once() {
        let now = Instant::now();
        let mut guard = Guard::new(now);
        for _ in 0..20_000 {
            guard.data_sent(5);
        }
        assert_eq!(spend(&mut guard, Budget::WindowUpdates, 100_000, now), 84_000);
    }
}
