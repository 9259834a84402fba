//! Probe: detects without a call that a driver has become reachable.
//!
//! A driver that was unreachable is tried at intervals until it is reachable, so that the log and
//! the metrics show the time even without calls. Other drivers are not probed: calls show their
//! state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{DriverAddress, Host};
use crate::proxy::upstream::connect::{ADDRESSES_MAX, NO_HTTP2, connect_any, interleaved};
use crate::route::{Cluster, SnapshotHandle};
use crate::telemetry::ConnectFailure;

/// Interval between two probes of a driver.
const INTERVAL: Duration = Duration::from_secs(10);
/// Drivers that are probed at one time.
const PROBES_MAX: usize = 16;
/// The client connection preface with an empty SETTINGS frame (RFC 9113, 3.4).
const CLIENT_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// GOAWAY with NO_ERROR and last stream 0.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The type of a SETTINGS frame.
const SETTINGS: u8 = 4;

/// Probes unreachable drivers periodically. Never returns.
pub(crate) async fn unreachable_drivers(live: SnapshotHandle) {
    let mut every = interval(INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let places = Arc::new(Semaphore::new(PROBES_MAX));
    loop {
        every.tick().await;
        let snapshot = live.load();
        let patience = snapshot.timeouts.connect;
        let down = snapshot.table.clusters().filter(|cluster| cluster.health().is_down());
        let mut probes = JoinSet::new();
        for cluster in down {
            let cluster = Arc::clone(cluster);
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            probes.spawn(async move {
                reprobe(&cluster, patience).await;
                drop(place);
            });
            while probes.try_join_next().is_some() {}
        }
        probes.join_all().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "this is part of a loop that owns its clock")]
async fn reprobe(cluster: &Cluster, patience: Duration) {
    let found = driver(cluster.driver(), patience).await;
    let now = Instant::now();
    match found {
        Ok(()) => cluster.driver_reachable(now),
        // An outage without calls is not logged repeatedly.
        Err(_) if cluster.health().is_outage_logged() => {}
        Err(reason) => cluster.driver_unreachable(reason, now),
    }
}

/// Connects to a driver and waits for its SETTINGS, within the timeout.
///
/// # Errors
/// The reason, as in the log.
pub(crate) async fn driver(
    address: &DriverAddress,
    patience: Duration,
) -> Result<(), &'static str> {
    let by_then = ConnectFailure::TimedOut.as_str();
    let connected = timeout(patience, connect(address)).await.map_err(|_| by_then)?;
    let mut socket = connected.map_err(ConnectFailure::as_str)?;
    // A server begins with SETTINGS (RFC 9113, 3.4).
    match timeout(patience, has_http2(&mut socket)).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(NO_HTTP2),
    }
}

/// The same, with the time that it took.
#[expect(clippy::disallowed_methods, reason = "whoever asks wants to know the time")]
pub(crate) async fn timed(
    address: &DriverAddress,
    patience: Duration,
) -> (Result<(), &'static str>, Duration) {
    let began = Instant::now();
    let found = driver(address, patience).await;
    (found, began.elapsed())
}

async fn connect(address: &DriverAddress) -> Result<TcpStream, ConnectFailure> {
    let port = address.port();
    let addresses: Vec<SocketAddr> = match address.host() {
        Host::Ip(ip) => vec![(*ip, port).into()],
        Host::Name(name) => {
            let found = tokio::net::lookup_host((&**name, port)).await;
            let found = found.map_err(|_| ConnectFailure::Unresolved)?;
            let ips: Vec<_> = found.map(|address| address.ip()).collect();
            let ips = interleaved(&ips).into_iter().take(ADDRESSES_MAX);
            ips.map(|ip| (ip, port).into()).collect()
        }
    };
    connect_any(addresses).await
}

/// Whether the peer speaks HTTP/2.
async fn has_http2(socket: &mut TcpStream) -> bool {
    let mut head = [0; 9];
    let is_there = socket.write_all(CLIENT_PREFACE).await.is_ok()
        && socket.read_exact(&mut head).await.is_ok()
        && matches!(head, [0, _, _, SETTINGS, 0, 0, 0, 0, 0]);
    // Errors do not matter: the connection ends now.
    let _ = socket.write_all(GOAWAY).await;
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_millis(300);

    /// The result of a probe of a server that sends these octets.
    async fn found(says: &'static [u8]) -> Result<(), &'static str> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serves = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(says).await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
            std::future::pending::<()>().await;
        };
        let address = DriverAddress::new(Host::Ip(at.ip()), at.port());
        tokio::select! {
            found = driver(&address, PATIENCE) => found,
            () = serves => unreachable!("it serves for ever"),
        }
    }

    #[tokio::test]
    async fn a_driver_that_sends_settings_is_reachable() {
        assert_eq!(found(b"\0\0\0\x04\0\0\0\0\0").await, Ok(()));
        assert_eq!(found(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x10\0\0").await, Ok(()));
    }

    #[tokio::test]
    async fn a_server_that_sends_no_settings_is_no_driver() {
        assert_eq!(found(b"HTTP/1.1 400 Bad Request\r\n").await, Err("no_http2"));
        assert_eq!(found(b"").await, Err("no_http2"));
    }

    #[tokio::test]
    async fn an_unreachable_driver_has_a_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let gone = DriverAddress::new(Host::Ip(at.ip()), at.port());
        assert_eq!(driver(&gone, PATIENCE).await, Err("refused"));
        let unknown = DriverAddress::new(Host::Name("driver.invalid".into()), 1);
        let found = driver(&unknown, Duration::from_secs(5)).await;
        assert!(matches!(found, Err("unresolved" | "timed_out")), "{found:?}");
    }
}
