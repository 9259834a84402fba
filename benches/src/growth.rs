//! Receive windows that grow as those of grpc-java do, which every Spark driver uses.
//!
//! It sends a PING with the first octets after the last one was answered, counts what comes until
//! the answer, and takes that for the product of bandwidth and delay: when twice as much is more than
//! its windows are, and came faster than ever before, the windows of the connection and of all streams
//! become that large, 8 MiB at most.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use h2::server::Connection;
use h2::{Ping, PingPong};
use tokio::sync::Notify;

use crate::clock::now;
use crate::socket::Socket;

/// grpc-java grants a stream, and a connection, so many octets at first.
pub const FIRST: u32 = 1 << 20;
/// And no more than so many.
const LAST: u32 = 8 << 20;

/// What the streams of a connection got since the last PING.
#[derive(Debug, Default)]
pub struct Received {
    octets: AtomicU32,
    any: Notify,
}

impl Received {
    /// Octets of a body came.
    pub fn add(&self, octets: usize) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        if self.octets.fetch_add(octets, Ordering::Relaxed) == 0 {
            self.any.notify_one();
        }
    }
}

/// The windows of one connection.
#[derive(Debug)]
pub struct Growth {
    received: Arc<Received>,
    ping: Option<PingPong>,
    asked: Option<Instant>,
    window: u32,
    /// Octets a second, the most that were seen so far.
    fastest: f64,
}

impl Growth {
    /// Of a connection that grants [`FIRST`]; if it `grows` at all.
    #[must_use]
    pub fn new(connection: &mut Connection<Socket, Bytes>, grows: bool) -> Self {
        let ping = grows.then(|| connection.ping_pong()).flatten();
        Self { received: Arc::default(), ping, asked: None, window: FIRST, fastest: 0.0 }
    }

    /// Where streams count what they get.
    #[must_use]
    pub fn received(&self) -> Arc<Received> {
        Arc::clone(&self.received)
    }

    /// Waits until the windows should grow, and tells how large they become. Can be cancelled.
    pub async fn next(&mut self) -> u32 {
        let Some(ping) = &mut self.ping else { return std::future::pending().await };
        loop {
            let Some(asked) = self.asked else {
                self.received.any.notified().await;
                if ping.send_ping(Ping::opaque()).is_ok() {
                    self.asked = Some(now());
                }
                continue;
            };
            if poll_fn(|cx| ping.poll_pong(cx)).await.is_err() {
                return std::future::pending().await;
            }
            self.asked = None;
            let octets = self.received.octets.swap(0, Ordering::Relaxed);
            let speed = f64::from(octets) / (now() - asked).as_secs_f64().max(1e-9);
            let target = octets.saturating_mul(2).min(LAST);
            if target > self.window && speed > self.fastest {
                (self.fastest, self.window) = (speed, target);
                return target;
            }
        }
    }
}
