//! Minimum, maximum and default of every number in the main file.
//!
//! One table, so that a test can compare it with the documentation.

use crate::config::{
    diagnostics::{Problem, quote},
    parse,
};
use std::{ops::RangeInclusive, time::Duration};

/// The range of an integer key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntRange {
    /// The path of the key.
    pub key: &'static str,
    /// The minimum.
    pub min: u32,
    /// The maximum.
    pub max: u32,
    /// The default.
    pub default: u32,
}

/// The range of a duration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRange {
    /// The path of the key.
    pub key: &'static str,
    /// The minimum.
    pub min: Duration,
    /// The maximum.
    pub max: Duration,
    /// The default.
    pub default: Duration,
}

/// Concurrent client connections. Each uses a file descriptor, and one more for each driver
/// connection.
pub const CONNECTIONS: IntRange = int_range("listen.connections", 1..=1_000_000, 10_000);
/// Concurrent client connections from one source address; 0: a quarter of `listen.connections`.
pub const CONNECTIONS_PER_SOURCE: IntRange =
    int_range("listen.connections_per_source", 0..=1_000_000, 0);
/// Concurrent TLS handshakes of one worker.
pub const HANDSHAKES_PER_WORKER: IntRange = int_range("listen.handshakes_per_worker", 1..=1000, 8);
/// Length of the accept queue; 0: the kernel's maximum.
pub const BACKLOG: IntRange = int_range("listen.backlog", 0..=1_000_000, 0);
/// SETTINGS_MAX_CONCURRENT_STREAMS for clients (RFC 9113, 6.5.2).
pub const STREAMS_PER_CONNECTION: IntRange =
    int_range("listen.streams_per_connection", 1..=10_000, 100);
/// Worker threads; 0: one for each core.
pub const WORKERS: IntRange = int_range("workers", 0..=1024, 0);
/// Size of a request's header list in bytes, counted as in RFC 7541, 4.1.
pub const HEADER_LIST: IntRange = int_range("limits.header_list", 1024..=262_144, 16_384);
/// Fields of a request's header list.
pub const HEADER_COUNT: IntRange = int_range("limits.header_count", 16..=4096, 128);
/// Size of a header list to a driver in bytes. Spark's server accepts 8,192, and closes the
/// connection with GOAWAY for a list over 10,240.
pub const DRIVER_HEADER_LIST: IntRange =
    int_range("limits.driver_header_list", 1024..=262_144, 8192);
/// Maximum flow-control window of one upload in bytes.
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
/// See [`crate::config::Timeouts::body_age`]. Allows uploads of gigabytes over a slow link.
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
/// See [`crate::config::Timeouts::driver_keepalive_ack`]. Tolerates a driver pause of half a
/// minute, such as a long garbage collection, and detects a failed host within a minute.
pub const DRIVER_KEEPALIVE_ACK: DurationRange =
    duration_range("timeouts.driver_keepalive_ack", ms(100)..=m(5), s(40));
/// See [`crate::config::Drain::delay`].
pub const DRAIN_DELAY: DurationRange =
    duration_range("drain.delay", Duration::ZERO..=m(10), Duration::ZERO);
/// See [`crate::config::Drain::grace`].
pub const DRAIN_GRACE: DurationRange = duration_range("drain.grace", Duration::ZERO..=h(24), s(30));

/// Size of a compressed message in bytes, before and after decompression.
pub const INFLATED_MAX: IntRange =
    int_range("user_context.inflated", 1024..=134_217_728, 4_194_304);
/// Tolerated clock difference between sconce and identity providers.
pub const SKEW: DurationRange = duration_range("authenticate.skew", Duration::ZERO..=m(5), s(30));
/// Time for which existing sessions may use a token after its expiry.
pub const GRACE: DurationRange =
    duration_range("authenticate.grace", Duration::ZERO..=h(24), Duration::ZERO);
/// Time after a token's expiry for calls that release resources of its user.
pub const RELEASE_GRACE: DurationRange =
    duration_range("authenticate.release_grace", Duration::ZERO..=h(168), h(24));
/// Time for which sessions with an open execution continue after the removal of their team or
/// member.
pub const REMOVAL_DELAY: DurationRange =
    duration_range("teams.removal_delay", Duration::ZERO..=h(1), m(1));
/// Interval of JWKS refreshes.
pub const REFRESH: DurationRange =
    duration_range("authenticate.issuers.refresh", s(30)..=h(24), m(10));

/// Time after a start for which `/readyz` answers 503 while an issuer has no usable keys.
pub const INITIAL_FETCH_TIMEOUT: DurationRange =
    duration_range("authenticate.initial_fetch_timeout", Duration::ZERO..=h(1), m(5));

/// All integer keys.
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

/// All duration keys.
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
        let Self { min, max, default, .. } = self;
        let help = || format!("write a whole number from {min} to {max} (default {default})");
        let number = text.parse::<i128>();
        let number = number
            .map_err(|_| Problem::new(format!("{} is not a whole number", quote(text)), help()))?;
        match u32::try_from(number) {
            Ok(value) if (*min..=*max).contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(Problem::new(format!("{number} is out of range"), help())),
        }
    }
}

impl DurationRange {
    pub(super) fn parse(&self, text: &str) -> Result<Duration, Problem> {
        let value = parse::duration(text)?;
        if (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let [min, max, default] = [self.min, self.max, self.default].map(format_duration);
        let what = format!("{} is out of range", quote(text));
        Err(Problem::new(what, format!("write {min} to {max} (default {default})")))
    }
}

/// A duration in its largest whole unit, as in the files.
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

const fn int_range(key: &'static str, range: RangeInclusive<u32>, default: u32) -> IntRange {
    IntRange { key, min: *range.start(), max: *range.end(), default }
}

const fn duration_range(
    key: &'static str,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> DurationRange {
    DurationRange { key, min: *range.start(), max: *range.end(), default }
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
    fn each_default_is_within_its_range() {
        for IntRange { key, min, max, default } in INT_RANGES {
            assert!((min..=max).contains(&default), "{key}");
        }
        for DurationRange { key, min, max, default } in DURATION_RANGES {
            assert!((min..=max).contains(&default), "{key}");
            assert_eq!(parse::duration(&format_duration(default)).unwrap(), default, "{key}");
        }
    }

    #[test]
    fn an_error_for_a_number_names_the_range() {
        let messages = |text| {
            let Problem { what, help } = STREAMS_PER_CONNECTION.parse(text).unwrap_err();
            format!("{what}; {help}")
        };
        let help = "write a whole number from 1 to 10000 (default 100)";
        assert_eq!(messages("0"), format!("0 is out of range; {help}"));
        assert_eq!(messages("10001"), format!("10001 is out of range; {help}"));
        assert_eq!(messages("-1"), format!("-1 is out of range; {help}"));
        assert_eq!(messages("4294967297"), format!("4294967297 is out of range; {help}"));
        assert_eq!(messages("many"), format!("'many' is not a whole number; {help}"));
        assert_eq!(messages("1.5"), format!("'1.5' is not a whole number; {help}"));
        assert_eq!(STREAMS_PER_CONNECTION.parse("100"), Ok(100));
    }

    #[test]
    fn an_error_for_a_duration_names_the_range() {
        let Problem { what, help } = CONNECT.parse("6m").unwrap_err();
        assert_eq!(
            format!("{what}; {help}"),
            "'6m' is out of range; write 10ms to 5m (default 2s)"
        );
    }
}
