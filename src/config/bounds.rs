//! Every number of `sconce.yaml`: how little, how much, and what it is when nobody says.
//!
//! One table, so that the documentation can be held to it by a test.

use crate::config::{
    diagnostics::{Problem, quote},
    parse,
};
use std::{ops::RangeInclusive, time::Duration};

/// What a whole number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntRange {
    /// The key, with those that it stands under.
    pub key: &'static str,
    /// The smallest that is taken.
    pub min: u32,
    /// The largest that is taken.
    pub max: u32,
    /// The value when the key is absent.
    pub default: u32,
}

/// What a length of time may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRange {
    /// The key, with those that it stands under.
    pub key: &'static str,
    /// The shortest that is taken.
    pub min: Duration,
    /// The longest that is taken.
    pub max: Duration,
    /// The value when the key is absent.
    pub default: Duration,
}

/// Client connections at once. Each costs a descriptor, and one more for each leg to a driver.
pub const CONNECTIONS: IntRange = int_range("listen.connections", 1..=1_000_000, 10_000);
/// Client connections of one source address at once; none said: a quarter of all.
pub const CONNECTIONS_PER_SOURCE: IntRange =
    int_range("listen.connections_per_source", 0..=1_000_000, 0);
/// TLS handshakes that a worker goes on with before its other connections have their turn.
pub const HANDSHAKES_PER_WORKER: IntRange = int_range("listen.handshakes_per_worker", 1..=1000, 8);
/// Connections that wait to be accepted; none said: as many as the kernel allows.
pub const BACKLOG: IntRange = int_range("listen.backlog", 0..=1_000_000, 0);
/// SETTINGS_MAX_CONCURRENT_STREAMS towards clients (RFC 9113, 6.5.2).
pub const STREAMS_PER_CONNECTION: IntRange =
    int_range("listen.streams_per_connection", 1..=10_000, 100);
/// Worker threads; none said: one for each core.
pub const WORKERS: IntRange = int_range("workers", 0..=1024, 0);
/// Octets of a request's header list, counted as in RFC 7541, 4.1.
pub const HEADER_LIST: IntRange = int_range("limits.header_list", 1024..=262_144, 16_384);
/// Fields of a request's header list.
pub const HEADER_COUNT: IntRange = int_range("limits.header_count", 16..=4096, 128);
/// Octets of a header list that is sent to a driver. Spark's server takes 8,192, and answers a list
/// over 10,240 with GOAWAY for the whole connection.
pub const DRIVER_HEADER_LIST: IntRange =
    int_range("limits.driver_header_list", 1024..=262_144, 8192);
/// Octets that one upload may have under way at most.
pub const UPLOAD_WINDOW: IntRange =
    int_range("limits.upload_window", 65_535..=67_108_864, 4_194_304);

/// See [`crate::config::Timeouts::handshake`].
pub const HANDSHAKE: DurationRange = duration_range("timeouts.handshake", ms(100)..=m(5), s(5));
/// See [`crate::config::Timeouts::settings_ack`].
pub const SETTINGS_ACK: DurationRange =
    duration_range("timeouts.settings_ack", ms(100)..=m(5), s(10));
/// See [`crate::config::Timeouts::body_progress`].
pub const BODY_PROGRESS: DurationRange =
    duration_range("timeouts.body_progress", ms(100)..=h(1), s(10));
/// See [`crate::config::Timeouts::body_age`]. Gigabytes of artifacts over a slow link take long.
pub const BODY_AGE: DurationRange = duration_range("timeouts.body_age", ms(100)..=h(24), h(1));
/// See [`crate::config::Timeouts::window_closed`].
pub const WINDOW_CLOSED: DurationRange =
    duration_range("timeouts.window_closed", ms(100)..=h(24), m(5));
/// See [`crate::config::Timeouts::unauthenticated`].
pub const UNAUTHENTICATED: DurationRange =
    duration_range("timeouts.unauthenticated", ms(100)..=h(24), s(30));
/// See [`crate::config::Timeouts::idle`].
pub const IDLE: DurationRange = duration_range("timeouts.idle", ms(100)..=h(24), m(30));
/// See [`crate::config::Timeouts::keepalive`].
pub const KEEPALIVE: DurationRange = duration_range("timeouts.keepalive", ms(100)..=h(24), s(60));
/// See [`crate::config::Timeouts::keepalive_ack`].
pub const KEEPALIVE_ACK: DurationRange =
    duration_range("timeouts.keepalive_ack", ms(100)..=m(5), s(20));
/// See [`crate::config::Timeouts::connect`].
pub const CONNECT: DurationRange = duration_range("timeouts.connect", ms(10)..=m(5), s(2));
/// See [`crate::config::Timeouts::driver_keepalive`].
pub const DRIVER_KEEPALIVE: DurationRange =
    duration_range("timeouts.driver_keepalive", ms(100)..=h(1), s(10));
/// See [`crate::config::Timeouts::driver_keepalive_ack`]. A driver may stand still for half a minute, as in a
/// long garbage collection, and a host that is gone is found within a minute.
pub const DRIVER_KEEPALIVE_ACK: DurationRange =
    duration_range("timeouts.driver_keepalive_ack", ms(100)..=m(5), s(40));
/// See [`crate::config::Drain::delay`].
pub const DRAIN_DELAY: DurationRange =
    duration_range("drain.delay", Duration::ZERO..=m(10), Duration::ZERO);
/// See [`crate::config::Drain::grace`].
pub const DRAIN_GRACE: DurationRange = duration_range("drain.grace", Duration::ZERO..=h(24), s(30));

/// Octets of a compressed message, before it is inflated and after.
pub const INFLATED_MAX: IntRange =
    int_range("user_context.inflated", 1024..=134_217_728, 4_194_304);
/// How far the clocks of sconce and of identity providers may be apart.
pub const SKEW: DurationRange = duration_range("authenticate.skew", Duration::ZERO..=m(5), s(30));
/// How long a token is still good after its end.
pub const GRACE: DurationRange =
    duration_range("authenticate.grace", Duration::ZERO..=h(24), Duration::ZERO);
/// How long after its end a token may still release what its user has begun.
pub const RELEASE_GRACE: DurationRange =
    duration_range("authenticate.release_grace", Duration::ZERO..=h(168), h(24));
/// How long sessions with an open execution go on when their team or member is removed.
pub const REMOVAL_DELAY: DurationRange =
    duration_range("teams.removal_delay", Duration::ZERO..=h(1), m(1));
/// How often the keys of a provider are fetched.
pub const REFRESH: DurationRange =
    duration_range("authenticate.issuers.refresh", s(30)..=h(24), m(10));

/// How long `/readyz` says no at the start while an issuer's keys have not come.
pub const INITIAL_FETCH_TIMEOUT: DurationRange =
    duration_range("authenticate.initial_fetch_timeout", Duration::ZERO..=h(1), m(5));

/// All whole numbers.
pub const INT_RANGES: [IntRange; 10] = [
    CONNECTIONS,
    CONNECTIONS_PER_SOURCE,
    HANDSHAKES_PER_WORKER,
    BACKLOG,
    STREAMS_PER_CONNECTION,
    WORKERS,
    HEADER_LIST,
    HEADER_COUNT,
    DRIVER_HEADER_LIST,
    INFLATED_MAX,
];

/// All lengths of time.
pub const DURATION_RANGES: [DurationRange; 20] = [
    INITIAL_FETCH_TIMEOUT,
    HANDSHAKE,
    SETTINGS_ACK,
    BODY_PROGRESS,
    BODY_AGE,
    WINDOW_CLOSED,
    UNAUTHENTICATED,
    IDLE,
    KEEPALIVE,
    KEEPALIVE_ACK,
    CONNECT,
    DRIVER_KEEPALIVE,
    DRIVER_KEEPALIVE_ACK,
    DRAIN_DELAY,
    DRAIN_GRACE,
    SKEW,
    GRACE,
    RELEASE_GRACE,
    REMOVAL_DELAY,
    REFRESH,
];

impl IntRange {
    pub(super) fn parse(&self, text: &str) -> Result<u32, Problem> {
        let Self { min: least, max: most, default: usual, .. } = self;
        let remedy = || format!("write a whole number from {least} to {most} (default {usual})");
        let said = text.parse::<i128>();
        let said =
            said.map_err(|_| Problem::new(format!("{} is no number", quote(text)), remedy()))?;
        match u32::try_from(said) {
            Ok(value) if (*least..=*most).contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(Problem::new(format!("{said} is out of range"), remedy())),
        }
    }
}

impl DurationRange {
    pub(super) fn parse(&self, text: &str) -> Result<Duration, Problem> {
        let value = parse::duration(text)?;
        if (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let [least, most, usual] = [self.min, self.max, self.default].map(format_duration);
        let what = format!("{} is out of range", quote(text));
        Err(Problem::new(what, format!("write {least} to {most} (default {usual})")))
    }
}

/// A duration as a person writes it, in its largest whole unit.
pub fn format_duration(duration: Duration) -> String {
    let (millis, secs) = (duration.as_millis(), duration.as_secs());
    match (millis, secs) {
        (0, _) => "0s".to_owned(),
        (millis, _) if millis % 1000 != 0 => format!("{millis}ms"),
        (_, secs) if secs % 3600 == 0 => format!("{}h", secs / 3600),
        (_, secs) if secs % 60 == 0 => format!("{}m", secs / 60),
        (_, secs) => format!("{secs}s"),
    }
}

const fn int_range(key: &'static str, range: RangeInclusive<u32>, usual: u32) -> IntRange {
    IntRange { key, min: *range.start(), max: *range.end(), default: usual }
}

const fn duration_range(
    key: &'static str,
    range: RangeInclusive<Duration>,
    usual: Duration,
) -> DurationRange {
    DurationRange { key, min: *range.start(), max: *range.end(), default: usual }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn m(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

const fn h(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_usual_value_is_within_its_own_bounds() {
        for IntRange { key, min: least, max: most, default: usual } in INT_RANGES {
            assert!((least..=most).contains(&usual), "{key}");
        }
        for DurationRange { key, min: least, max: most, default: usual } in DURATION_RANGES {
            assert!((least..=most).contains(&usual), "{key}");
            assert_eq!(parse::duration(&format_duration(usual)).unwrap(), usual, "{key}");
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_told_the_bounds() {
        let said = |text| {
            let Problem { what, help: remedy } = STREAMS_PER_CONNECTION.parse(text).unwrap_err();
            format!("{what}; {remedy}")
        };
        let remedy = "write a whole number from 1 to 10000 (default 100)";
        assert_eq!(said("0"), format!("0 is out of range; {remedy}"));
        assert_eq!(said("10001"), format!("10001 is out of range; {remedy}"));
        assert_eq!(said("-1"), format!("-1 is out of range; {remedy}"));
        assert_eq!(said("4294967297"), format!("4294967297 is out of range; {remedy}"));
        assert_eq!(said("many"), format!("'many' is no number; {remedy}"));
        assert_eq!(said("1.5"), format!("'1.5' is no number; {remedy}"));
        assert_eq!(STREAMS_PER_CONNECTION.parse("100"), Ok(100));
    }

    #[test]
    fn a_duration_out_of_bounds_is_told_the_bounds() {
        let Problem { what, help: remedy } = CONNECT.parse("6m").unwrap_err();
        assert_eq!(
            format!("{what}; {remedy}"),
            "'6m' is out of range; write 10ms to 5m (default 2s)"
        );
    }
}
