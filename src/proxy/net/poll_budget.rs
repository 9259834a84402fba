//! Poll budget: what the task of one connection may do before the other connections of its worker
//! are polled.
//!
//! The budget counts cost, not octets alone. A request head of 16 octets can cost as much CPU time
//! as 100 kB of DATA, so heads and time are limited as well.

use std::time::{Duration, Instant};

use crate::proxy::convert::usize_from;

/// Octets read from the client and from all upstreams before the poll ends. The last read may
/// exceed the limit by one read buffer.
const OCTETS_MAX: usize = 256 * 1024;
/// Request heads that one poll answers or forwards.
const HEADS_MAX: u32 = 128;
/// Longest poll. The clock is read after each read, and after every few events.
const TIME_MAX: Duration = Duration::from_millis(1);
/// Events between two reads of the clock, each request head counted with its weight.
const EVENTS_PER_CLOCK_READ: u32 = 64;
/// Weight of a request head in events.
const HEAD_WEIGHT: u32 = 16;

/// The rest of a poll's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollBudget {
    octets: usize,
    heads: u32,
    events: u32,
    until: Instant,
}

impl PollBudget {
    /// A whole budget, beginning at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { octets: OCTETS_MAX, heads: HEADS_MAX, events: 0, until: now + TIME_MAX }
    }

    /// Charges octets that were read.
    pub(crate) fn spend_octets(&mut self, octets: usize) {
        self.octets = self.octets.saturating_sub(octets);
    }

    /// Charges an event. Returns true if the clock is to be read now.
    pub(crate) fn spend_event(&mut self, is_head: bool) -> bool {
        let weight = if is_head { HEAD_WEIGHT } else { 1 };
        self.heads = self.heads.saturating_sub(u32::from(is_head));
        self.events = self.events.saturating_add(weight);
        if self.events < EVENTS_PER_CLOCK_READ {
            return false;
        }
        self.events = 0;
        true
    }

    /// Whether the poll must end before the next read.
    pub(crate) fn is_spent(&self, now: Instant) -> bool {
        self.octets == 0 || self.must_stop_parsing(now)
    }

    /// Whether the poll must end before all octets that were read are parsed. The octet limit does
    /// not count here: keeping octets would cost more than parsing them.
    pub(crate) fn must_stop_parsing(&self, now: Instant) -> bool {
        self.heads == 0 || now >= self.until
    }
}

/// The number of octets read from, or written to, a socket at one time. It grows while a full batch
/// is forwarded completely, and shrinks when it is not.
///
/// Octets that the receiver does not accept must be copied, and are then sent in order of arrival.
/// So a connection with a slow peer gets small batches, and no other connection is affected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize(u32);

/// The initial and smallest batch, in octets.
const READ_MIN: u32 = 16 * 1024;
/// The largest batch in octets: the size of the read buffer.
pub(crate) const READ_MAX: u32 = 512 * 1024;
/// Growth in octets after a full batch that was forwarded completely.
const READ_STEP: u32 = 16 * 1024;

impl Default for BatchSize {
    fn default() -> Self {
        Self(READ_MIN)
    }
}

impl BatchSize {
    /// The initial size where small messages of many calls are combined.
    pub(crate) const WRITE_INITIAL: Self = Self(128 * 1024);

    pub(crate) fn octets(self) -> usize {
        usize_from(self.0)
    }

    /// A full batch was forwarded completely.
    pub(crate) fn grow(&mut self) {
        self.0 = self.0.saturating_add(READ_STEP).min(READ_MAX);
    }

    /// Octets had to be buffered, or the batch took long.
    pub(crate) fn shrink(&mut self) {
        self.0 = (self.0 / 2).max(READ_MIN);
    }

    /// Resets to the smallest size.
    pub(crate) fn reset(&mut self) {
        self.0 = READ_MIN;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;

    #[test]
    fn a_poll_ends_after_its_octets_its_heads_or_its_time() {
        let now = Instant::now();
        let whole = PollBudget::new(now);
        assert!(!whole.is_spent(now));
        assert!(whole.is_spent(now + TIME_MAX));
        let mut octets = whole;
        octets.spend_octets(OCTETS_MAX - 1);
        assert!(!octets.is_spent(now));
        octets.spend_octets(usize::MAX);
        assert!(octets.is_spent(now));
        let mut heads = whole;
        for _ in 1..HEADS_MAX {
            heads.spend_event(true);
        }
        assert!(!heads.is_spent(now));
        heads.spend_event(true);
        assert!(heads.is_spent(now));
        let mut events = whole;
        for _ in 0..100_000 {
            events.spend_event(false);
        }
        assert!(!events.is_spent(now));
    }

    #[test]
    fn the_clock_is_read_after_a_few_heads_and_after_many_other_events() {
        let mut turn = PollBudget::new(Instant::now());
        assert_eq!((0..16).filter(|_| turn.spend_event(true)).count(), 4);
        assert_eq!((0..256).filter(|_| turn.spend_event(false)).count(), 4);
    }

    #[test]
    fn reads_grow_to_the_buffer_and_shrink_to_a_frame() {
        let mut size = BatchSize::default();
        assert_eq!(size.octets(), 16 * 1024);
        (0..100).for_each(|_| size.grow());
        assert_eq!(size.octets(), 512 * 1024);
        size.shrink();
        assert_eq!(size.octets(), 256 * 1024);
        (0..100).for_each(|_| size.shrink());
        assert_eq!(size.octets(), 16 * 1024);
    }
}
