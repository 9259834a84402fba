//! Every number of `sconce.yaml`: how little, how much, and what it is when nobody says.
//!
//! One table, so that the documentation can be held to it by a test.

use crate::config::{
    complaint::{Fault, shown},
    words,
};
use std::{ops::RangeInclusive, time::Duration};

/// What a whole number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The key, with those that it stands under.
    pub key: &'static str,
    /// The smallest that is taken.
    pub least: u32,
    /// The largest that is taken.
    pub most: u32,
    /// The value when the key is absent.
    pub usual: u32,
}

/// What a length of time may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The key, with those that it stands under.
    pub key: &'static str,
    /// The shortest that is taken.
    pub least: Duration,
    /// The longest that is taken.
    pub most: Duration,
    /// The value when the key is absent.
    pub usual: Duration,
}

/// Client connections at once. Each costs a descriptor, and one more for each leg to a driver.
pub const CONNECTIONS: Count = count("listen.connections", 1..=1_000_000, 10_000);
/// Client connections of one source address at once; none said: a quarter of all.
pub const PER_SOURCE: Count = count("listen.connections_per_source", 0..=1_000_000, 0);
/// TLS handshakes that a worker goes on with before its other connections have their turn.
pub const HANDSHAKES: Count = count("listen.handshakes_per_worker", 1..=1000, 8);
/// Connections that wait to be accepted; none said: as many as the kernel allows.
pub const BACKLOG: Count = count("listen.backlog", 0..=1_000_000, 0);
/// SETTINGS_MAX_CONCURRENT_STREAMS towards clients (RFC 9113, 6.5.2).
pub const STREAMS: Count = count("listen.streams_per_connection", 1..=10_000, 100);
/// Worker threads; none said: one for each core.
pub const WORKERS: Count = count("workers", 0..=1024, 0);
/// Octets of a request's header list, counted as in RFC 7541, 4.1.
pub const HEADER_LIST: Count = count("limits.header_list", 1024..=262_144, 16_384);
/// Fields of a request's header list.
pub const HEADER_COUNT: Count = count("limits.header_count", 16..=4096, 128);
/// Octets of a header list that is sent to a driver. Spark's server takes 8,192, and answers a list
/// over 10,240 with GOAWAY for the whole connection.
pub const DRIVER_HEADER_LIST: Count = count("limits.driver_header_list", 1024..=262_144, 8192);
/// Octets that one upload may have under way at most.
pub const UPLOAD_WINDOW: Count = count("limits.upload_window", 65_535..=67_108_864, 4_194_304);

/// See [`crate::config::Timeouts::handshake`].
pub const HANDSHAKE: Span = span("timeouts.handshake", ms(100)..=m(5), s(5));
/// See [`crate::config::Timeouts::settings_ack`].
pub const SETTINGS_ACK: Span = span("timeouts.settings_ack", ms(100)..=m(5), s(10));
/// See [`crate::config::Timeouts::body_progress`].
pub const BODY_PROGRESS: Span = span("timeouts.body_progress", ms(100)..=h(1), s(10));
/// See [`crate::config::Timeouts::body_age`]. Gigabytes of artifacts over a slow link take long.
pub const BODY_AGE: Span = span("timeouts.body_age", ms(100)..=h(24), h(1));
/// See [`crate::config::Timeouts::window_closed`].
pub const WINDOW_CLOSED: Span = span("timeouts.window_closed", ms(100)..=h(24), m(5));
/// See [`crate::config::Timeouts::unauthenticated`].
pub const UNAUTHENTICATED: Span = span("timeouts.unauthenticated", ms(100)..=h(24), s(30));
/// See [`crate::config::Timeouts::idle`].
pub const IDLE: Span = span("timeouts.idle", ms(100)..=h(24), m(30));
/// See [`crate::config::Timeouts::keepalive`].
pub const KEEPALIVE: Span = span("timeouts.keepalive", ms(100)..=h(24), s(60));
/// See [`crate::config::Timeouts::keepalive_ack`].
pub const KEEPALIVE_ACK: Span = span("timeouts.keepalive_ack", ms(100)..=m(5), s(20));
/// See [`crate::config::Timeouts::connect`].
pub const CONNECT: Span = span("timeouts.connect", ms(10)..=m(5), s(2));
/// See [`crate::config::Timeouts::driver_silence`].
pub const DRIVER_SILENCE: Span = span("timeouts.driver_silence", ms(100)..=h(1), s(10));
/// See [`crate::config::Timeouts::driver_ack`]. A driver may stand still for half a minute, as in a
/// long garbage collection, and a host that is gone is found within a minute.
pub const DRIVER_ACK: Span = span("timeouts.driver_ack", ms(100)..=m(5), s(40));
/// See [`crate::config::Drain::delay`].
pub const DRAIN_DELAY: Span = span("drain.delay", Duration::ZERO..=m(10), Duration::ZERO);
/// See [`crate::config::Drain::grace`].
pub const DRAIN_GRACE: Span = span("drain.grace", Duration::ZERO..=h(24), s(30));

/// Octets of a compressed message, before it is inflated and after.
pub const INFLATED: Count = count("stamp.inflated", 1024..=134_217_728, 4_194_304);
/// How far the clocks of sconce and of identity providers may be apart.
pub const SKEW: Span = span("authenticate.skew", Duration::ZERO..=m(5), s(30));
/// How long a token is still good after its end.
pub const GRACE: Span = span("authenticate.grace", Duration::ZERO..=h(24), Duration::ZERO);
/// How long after its end a token may still release what its user has begun.
pub const RELEASE_GRACE: Span = span("authenticate.release_grace", Duration::ZERO..=h(168), h(24));
/// How long sessions with an open execution go on when their team or member is removed.
pub const REMOVAL_DELAY: Span = span("teams.removal_delay", Duration::ZERO..=h(1), m(1));
/// How often the keys of a provider are fetched.
pub const REFRESH: Span = span("authenticate.issuers.refresh", s(30)..=h(24), m(10));

/// How long `/readyz` says no at the start while an issuer's keys have not come.
pub const INITIAL_FETCH: Span =
    span("authenticate.initial_fetch_timeout", Duration::ZERO..=h(1), m(5));

/// All whole numbers.
pub const COUNTS: [Count; 10] = [
    CONNECTIONS,
    PER_SOURCE,
    HANDSHAKES,
    BACKLOG,
    STREAMS,
    WORKERS,
    HEADER_LIST,
    HEADER_COUNT,
    DRIVER_HEADER_LIST,
    INFLATED,
];

/// All lengths of time.
pub const SPANS: [Span; 20] = [
    INITIAL_FETCH,
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
    DRIVER_SILENCE,
    DRIVER_ACK,
    DRAIN_DELAY,
    DRAIN_GRACE,
    SKEW,
    GRACE,
    RELEASE_GRACE,
    REMOVAL_DELAY,
    REFRESH,
];

impl Count {
    pub(super) fn read(&self, text: &str) -> Result<u32, Fault> {
        let Self { least, most, usual, .. } = self;
        let remedy = || format!("write a whole number from {least} to {most} (default {usual})");
        let said = text.parse::<i128>();
        let said =
            said.map_err(|_| Fault::new(format!("{} is no number", shown(text)), remedy()))?;
        match u32::try_from(said) {
            Ok(value) if (*least..=*most).contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(Fault::new(format!("{said} is out of range"), remedy())),
        }
    }
}

impl Span {
    pub(super) fn read(&self, text: &str) -> Result<Duration, Fault> {
        let value = words::duration(text)?;
        if (self.least..=self.most).contains(&value) {
            return Ok(value);
        }
        let [least, most, usual] = [self.least, self.most, self.usual].map(spell);
        let what = format!("{} is out of range", shown(text));
        Err(Fault::new(what, format!("write {least} to {most} (default {usual})")))
    }
}

/// A duration as a person writes it, in its largest whole unit.
pub fn spell(duration: Duration) -> String {
    let (millis, secs) = (duration.as_millis(), duration.as_secs());
    match (millis, secs) {
        (0, _) => "0s".to_owned(),
        (millis, _) if millis % 1000 != 0 => format!("{millis}ms"),
        (_, secs) if secs % 3600 == 0 => format!("{}h", secs / 3600),
        (_, secs) if secs % 60 == 0 => format!("{}m", secs / 60),
        (_, secs) => format!("{secs}s"),
    }
}

const fn count(key: &'static str, range: RangeInclusive<u32>, usual: u32) -> Count {
    Count { key, least: *range.start(), most: *range.end(), usual }
}

const fn span(key: &'static str, range: RangeInclusive<Duration>, usual: Duration) -> Span {
    Span { key, least: *range.start(), most: *range.end(), usual }
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
        for Count { key, least, most, usual } in COUNTS {
            assert!((least..=most).contains(&usual), "{key}");
        }
        for Span { key, least, most, usual } in SPANS {
            assert!((least..=most).contains(&usual), "{key}");
            assert_eq!(words::duration(&spell(usual)).unwrap(), usual, "{key}");
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_told_the_bounds() {
        let said = |text| {
            let Fault { what, remedy } = STREAMS.read(text).unwrap_err();
            format!("{what}; {remedy}")
        };
        let remedy = "write a whole number from 1 to 10000 (default 100)";
        assert_eq!(said("0"), format!("0 is out of range; {remedy}"));
        assert_eq!(said("10001"), format!("10001 is out of range; {remedy}"));
        assert_eq!(said("-1"), format!("-1 is out of range; {remedy}"));
        assert_eq!(said("4294967297"), format!("4294967297 is out of range; {remedy}"));
        assert_eq!(said("many"), format!("'many' is no number; {remedy}"));
        assert_eq!(said("1.5"), format!("'1.5' is no number; {remedy}"));
        assert_eq!(STREAMS.read("100"), Ok(100));
    }

    #[test]
    fn a_duration_out_of_bounds_is_told_the_bounds() {
        let Fault { what, remedy } = CONNECT.read("6m").unwrap_err();
        assert_eq!(
            format!("{what}; {remedy}"),
            "'6m' is out of range; write 10ms to 5m (default 2s)"
        );
    }
}
