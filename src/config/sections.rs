//! The independent sections of the main file.

use crate::config::{
    Drain, Format, Level, Limits, Listen, Log, Timeouts, Workers,
    bounds::{self, DurationRange, IntRange},
    diagnostics::{Diagnostics, Problem},
    network, parse,
    section::Section,
    tls,
};
use crate::grpc::user_context::{AmbiguityPolicy, CompressionPolicy, Policy};
use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

/// Default of `listen.address`.
const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15009);
/// Minimum of the default for `listen.connections_per_source`.
const SOURCE_SHARE_MIN: u32 = 64;
/// Default of `admin.address`.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15090);

/// Reads `listen` and adds its files to `files`. `None` if `listen.tls` has errors.
pub(super) fn listen(
    diagnostics: &Diagnostics,
    mut section: Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Listen> {
    let address = section.scalar("address", parse::listen_address).unwrap_or(DEFAULT_LISTEN);
    let backlog = Some(integer(&mut section, "backlog", bounds::BACKLOG)).filter(|some| *some > 0);
    let connections = integer(&mut section, "connections", bounds::CONNECTIONS);
    let share = integer(&mut section, "connections_per_source", bounds::CONNECTIONS_PER_SOURCE);
    let exempt = network::read_all(&mut section, diagnostics, "connections_per_source_exempt");
    let handshakes_per_worker =
        integer(&mut section, "handshakes_per_worker", bounds::HANDSHAKES_PER_WORKER);
    let streams_per_connection =
        integer(&mut section, "streams_per_connection", bounds::STREAMS_PER_CONNECTION);
    let is_tls_external = section.scalar("tls_terminated_externally", parse::boolean);
    let tls = section.optional_section("tls").map(|section| tls::read(diagnostics, section, files));
    section.finish();
    let tls = tls.map_or(Some(None), |tls| tls.map(Some))?;
    Some(Listen {
        address,
        backlog,
        connections,
        connections_per_source: if share == 0 { default_source_share(connections) } else { share },
        exempt_networks: exempt,
        handshakes_per_worker,
        streams_per_connection,
        is_tls_external: is_tls_external.unwrap_or_default(),
        tls,
    })
}

/// Warns about tokens from other hosts without TLS.
pub(super) fn warn_cleartext_tokens(diagnostics: &Diagnostics, line: u64, listen: &Listen) {
    if listen.tls.is_none() && !listen.is_tls_external && !listen.address.ip().is_loopback() {
        let what = "accepts tokens, but listen.tls is missing: tokens would be unencrypted, and \
                    Spark's clients, which use TLS whenever they have a token, would hang";
        let help = "write listen.tls, or listen: { tls_terminated_externally: true } if a proxy in \
                    front of sconce terminates TLS";
        diagnostics.warn(line, "authenticate", Problem::new(what, help));
    }
}

/// Default of `listen.connections_per_source`: a quarter of all connections, but at least
/// [`SOURCE_SHARE_MIN`] of them.
fn default_source_share(connections: u32) -> u32 {
    (connections / 4).max(SOURCE_SHARE_MIN).min(connections)
}

pub(super) fn admin(
    mut section: Section<'_>,
    diagnostics: &Diagnostics,
    listen: Option<&Listen>,
) -> SocketAddr {
    let address = section.scalar_at("address", parse::listen_address);
    let line = address.map_or(section.line(), |(_, line)| line);
    let address = address.map_or(DEFAULT_ADMIN, |(address, _)| address);
    if listen.is_some_and(|listen| addresses_conflict(listen.address, address)) {
        let problem = Problem::new("conflicts with listen.address", "choose another port");
        diagnostics.report(line, "admin.address", problem);
    }
    section.finish();
    address
}

/// Whether the two listen addresses conflict. `[::]` also accepts IPv4.
fn addresses_conflict(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let same = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    same && one.port() == other.port() && one.port() != 0
}

pub(super) fn workers(top: &mut Section<'_>) -> Workers {
    let workers = usize::try_from(integer(top, "workers", bounds::WORKERS));
    let workers = workers.ok().and_then(NonZeroUsize::new);
    workers.map_or(Workers::OnePerCore, Workers::Fixed)
}

pub(super) fn log(mut section: Section<'_>) -> Log {
    let formats = [("json", Format::Json), ("pretty", Format::Pretty)];
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let levels = levels.map(|level| (level.as_str(), level));
    let format = section.scalar("format", |text| parse::choice(text, &formats));
    let level = section.scalar("level", |text| parse::choice(text, &levels));
    section.finish();
    Log { format: format.unwrap_or(Format::Json), level: level.unwrap_or(Level::Info) }
}

pub(super) fn timeouts(mut section: Section<'_>) -> Timeouts {
    let timeouts = Timeouts {
        handshake: duration(&mut section, "handshake", bounds::HANDSHAKE),
        settings_ack: duration(&mut section, "settings_ack", bounds::SETTINGS_ACK),
        body_progress: duration(&mut section, "body_progress", bounds::BODY_PROGRESS),
        body_age: duration(&mut section, "body_age", bounds::BODY_AGE),
        window_closed: duration(&mut section, "window_closed", bounds::WINDOW_CLOSED),
        unauthenticated: duration(&mut section, "unauthenticated", bounds::UNAUTHENTICATED),
        idle: duration(&mut section, "idle", bounds::IDLE),
        keepalive: duration(&mut section, "keepalive", bounds::KEEPALIVE),
        keepalive_ack: duration(&mut section, "keepalive_ack", bounds::KEEPALIVE_ACK),
        connect: duration(&mut section, "connect", bounds::CONNECT),
        driver_keepalive: duration(&mut section, "driver_keepalive", bounds::DRIVER_KEEPALIVE),
        driver_keepalive_ack: duration(
            &mut section,
            "driver_keepalive_ack",
            bounds::DRIVER_KEEPALIVE_ACK,
        ),
    };
    section.finish();
    timeouts
}

pub(super) fn drain(mut section: Section<'_>) -> Drain {
    let drain = Drain {
        delay: duration(&mut section, "delay", bounds::DRAIN_DELAY),
        grace: duration(&mut section, "grace", bounds::DRAIN_GRACE),
    };
    section.finish();
    drain
}

pub(super) fn limits(mut section: Section<'_>) -> Limits {
    let limits = Limits {
        header_list: integer(&mut section, "header_list", bounds::HEADER_LIST),
        header_count: integer(&mut section, "header_count", bounds::HEADER_COUNT),
        driver_header_list: integer(&mut section, "driver_header_list", bounds::DRIVER_HEADER_LIST),
        upload_window: integer(&mut section, "upload_window", bounds::UPLOAD_WINDOW),
    };
    section.finish();
    limits
}

/// Policy for user context sent by clients.
pub(super) fn user_context(mut section: Section<'_>) -> Policy {
    let policies = [("refuse", AmbiguityPolicy::Refuse), ("pass", AmbiguityPolicy::Pass)];
    let repeated = section.scalar("repeated", |text| parse::choice(text, &policies));
    let extensions = section.scalar("extensions", |text| parse::choice(text, &policies));
    let unknown = section.scalar("unknown", |text| parse::choice(text, &policies));
    let octets_max = usize_from(integer(&mut section, "inflated", bounds::INFLATED_MAX));
    let inflate = CompressionPolicy::Inflate { octets_max };
    let compressed = [("inflate", inflate), ("refuse", CompressionPolicy::Refuse)];
    let compressed = section.scalar("compressed", |text| parse::choice(text, &compressed));
    section.finish();
    Policy {
        repeated: repeated.unwrap_or(AmbiguityPolicy::Refuse),
        extensions: extensions.unwrap_or(AmbiguityPolicy::Refuse),
        unknown: unknown.unwrap_or(AmbiguityPolicy::Refuse),
        compressed: compressed.unwrap_or(inflate),
    }
}

fn usize_from(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn integer(section: &mut Section<'_>, key: &'static str, bounds: IntRange) -> u32 {
    debug_assert_eq!(section.path_of(key), bounds.key);
    section.scalar(key, |text| bounds.parse(text)).unwrap_or(bounds.default)
}

fn duration(section: &mut Section<'_>, key: &'static str, bounds: DurationRange) -> Duration {
    debug_assert_eq!(section.path_of(key), bounds.key);
    section.scalar(key, |text| bounds.parse(text)).unwrap_or(bounds.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_share_of_a_source_is_a_quarter_but_at_least_64() {
        assert_eq!([1, 64, 100, 256, 10_000].map(default_source_share), [1, 64, 64, 64, 2500]);
    }

    #[test]
    fn addresses_conflict_if_both_use_one_port() {
        for (one, other, collides) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:2", false),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(
                addresses_conflict(one.parse().unwrap(), other.parse().unwrap()),
                collides,
                "{one} {other}"
            );
        }
    }
}
