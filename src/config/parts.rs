//! The parts of `sconce.yaml` that stand for themselves.

use crate::config::{
    Drain, Format, Level, Limits, Listen, Log, Timeouts, Workers,
    bounds::{self, Count, Span},
    complaint::{Desk, Fault},
    network,
    section::Section,
    tls, words,
};
use crate::grpc::stamp::{Compressed, OnOdd, Policy};
use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

/// Where clients come in when nobody says.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15009);
/// The least share of one source when nobody says.
const SHARE_MIN: u32 = 64;
/// Where operators look in when nobody says.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15090);

/// `None` if there should be TLS and cannot be. The files that it names are told in `files`.
pub(super) fn listen(
    desk: &Desk,
    mut section: Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Listen> {
    let address = section.word("address", words::listen).unwrap_or(LISTEN);
    let backlog = Some(count(&mut section, "backlog", bounds::BACKLOG)).filter(|some| *some > 0);
    let connections = count(&mut section, "connections", bounds::CONNECTIONS);
    let share = count(&mut section, "connections_per_source", bounds::PER_SOURCE);
    let exempt = network::read_all(&mut section, desk, "connections_per_source_exempt");
    let handshakes_per_worker = count(&mut section, "handshakes_per_worker", bounds::HANDSHAKES);
    let streams_per_connection = count(&mut section, "streams_per_connection", bounds::STREAMS);
    let is_tls_external = section.word("tls_terminated_externally", words::boolean);
    let tls = section.section_if_there("tls").map(|section| tls::read(desk, section, files));
    section.close();
    let tls = tls.map_or(Some(None), |tls| tls.map(Some))?;
    Some(Listen {
        address,
        backlog,
        connections,
        connections_per_source: if share == 0 { quarter(connections) } else { share },
        exempt,
        handshakes_per_worker,
        streams_per_connection,
        is_tls_external: is_tls_external.unwrap_or_default(),
        tls,
    })
}

/// Warns where callers have tokens, and come without TLS from other machines.
pub(super) fn warn_of_clear_text(desk: &Desk, line: u64, listen: &Listen) {
    if listen.tls.is_none() && !listen.is_tls_external && !listen.address.ip().is_loopback() {
        let what = "takes tokens, and listen.tls is missing: they would come in clear text, and \
                    Spark's clients, which speak TLS as soon as they have a token, hang";
        let remedy = "write listen.tls, or listen: { tls_terminated_externally: true } where a \
                      load balancer in front of sconce ends TLS";
        desk.warn(line, "authenticate", Fault::new(what, remedy));
    }
}

/// What one source may have of all connections when nobody says. Of few connections it may have
/// them all: there the share would only be in the way.
fn quarter(connections: u32) -> u32 {
    (connections / 4).max(SHARE_MIN).min(connections)
}

pub(super) fn admin(mut section: Section<'_>, desk: &Desk, listen: Option<&Listen>) -> SocketAddr {
    let address = section.word_at("address", words::listen);
    let line = address.map_or(section.line(), |(_, line)| line);
    let address = address.map_or(ADMIN, |(address, _)| address);
    if listen.is_some_and(|listen| collide(listen.address, address)) {
        let fault = Fault::new("is the address that clients dial", "choose another port");
        desk.complain(line, "admin.address", fault);
    }
    section.close();
    address
}

/// Whether only one of the two can be listened on. `[::]` takes IPv4 as well.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let same = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    same && one.port() == other.port() && one.port() != 0
}

pub(super) fn workers(top: &mut Section<'_>) -> Workers {
    let workers = usize::try_from(count(top, "workers", bounds::WORKERS));
    let workers = workers.ok().and_then(NonZeroUsize::new);
    workers.map_or(Workers::OnePerCore, Workers::Fixed)
}

pub(super) fn log(mut section: Section<'_>) -> Log {
    let formats = [("json", Format::Json), ("pretty", Format::Pretty)];
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let levels = levels.map(|level| (level.as_str(), level));
    let format = section.word("format", |text| words::choice(text, &formats));
    let level = section.word("level", |text| words::choice(text, &levels));
    section.close();
    Log { format: format.unwrap_or(Format::Json), level: level.unwrap_or(Level::Info) }
}

pub(super) fn timeouts(mut section: Section<'_>) -> Timeouts {
    let timeouts = Timeouts {
        handshake: span(&mut section, "handshake", bounds::HANDSHAKE),
        settings_ack: span(&mut section, "settings_ack", bounds::SETTINGS_ACK),
        body_progress: span(&mut section, "body_progress", bounds::BODY_PROGRESS),
        body_age: span(&mut section, "body_age", bounds::BODY_AGE),
        window_closed: span(&mut section, "window_closed", bounds::WINDOW_CLOSED),
        unauthenticated: span(&mut section, "unauthenticated", bounds::UNAUTHENTICATED),
        idle: span(&mut section, "idle", bounds::IDLE),
        keepalive: span(&mut section, "keepalive", bounds::KEEPALIVE),
        keepalive_ack: span(&mut section, "keepalive_ack", bounds::KEEPALIVE_ACK),
        connect: span(&mut section, "connect", bounds::CONNECT),
        driver_silence: span(&mut section, "driver_silence", bounds::DRIVER_SILENCE),
        driver_ack: span(&mut section, "driver_ack", bounds::DRIVER_ACK),
    };
    section.close();
    timeouts
}

pub(super) fn drain(mut section: Section<'_>) -> Drain {
    let drain = Drain {
        delay: span(&mut section, "delay", bounds::DRAIN_DELAY),
        grace: span(&mut section, "grace", bounds::DRAIN_GRACE),
    };
    section.close();
    drain
}

pub(super) fn limits(mut section: Section<'_>) -> Limits {
    let limits = Limits {
        header_list: count(&mut section, "header_list", bounds::HEADER_LIST),
        header_count: count(&mut section, "header_count", bounds::HEADER_COUNT),
        driver_header_list: count(&mut section, "driver_header_list", bounds::DRIVER_HEADER_LIST),
        upload_window: count(&mut section, "upload_window", bounds::UPLOAD_WINDOW),
    };
    section.close();
    limits
}

/// What may stand in a message beside the caller.
pub(super) fn stamp(mut section: Section<'_>) -> Policy {
    let odd = [("refuse", OnOdd::Refuse), ("pass", OnOdd::Pass)];
    let repeated = section.word("repeated", |text| words::choice(text, &odd));
    let extensions = section.word("extensions", |text| words::choice(text, &odd));
    let unknown = section.word("unknown", |text| words::choice(text, &odd));
    let octets_max = whole(count(&mut section, "inflated", bounds::INFLATED));
    let inflate = Compressed::Inflate { octets_max };
    let compressed = [("inflate", inflate), ("refuse", Compressed::Refuse)];
    let compressed = section.word("compressed", |text| words::choice(text, &compressed));
    section.close();
    Policy {
        repeated: repeated.unwrap_or(OnOdd::Refuse),
        extensions: extensions.unwrap_or(OnOdd::Refuse),
        unknown: unknown.unwrap_or(OnOdd::Refuse),
        compressed: compressed.unwrap_or(inflate),
    }
}

fn whole(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(section: &mut Section<'_>, key: &'static str, bounds: Count) -> u32 {
    debug_assert_eq!(section.below(key), bounds.key);
    section.word(key, |text| bounds.read(text)).unwrap_or(bounds.usual)
}

fn span(section: &mut Section<'_>, key: &'static str, bounds: Span) -> Duration {
    debug_assert_eq!(section.below(key), bounds.key);
    section.word(key, |text| bounds.read(text)).unwrap_or(bounds.usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_quarter_of_the_connections_unless_they_are_few() {
        assert_eq!([1, 64, 100, 256, 10_000].map(quarter), [1, 64, 64, 64, 2500]);
    }

    #[test]
    fn two_addresses_collide_where_one_port_is_listened_on_twice() {
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
                collide(one.parse().unwrap(), other.parse().unwrap()),
                collides,
                "{one} {other}"
            );
        }
    }
}
