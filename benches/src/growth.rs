//! Receive windows that grow as those of grpc-java do, which every Spark driver uses.
//!
//! It sends a PING, counts what comes until the answer, and takes that for the product of bandwidth
//! and delay: when twice as much is more than its windows are, and came faster than ever before, the
//! windows of the connection and of all streams become that large, 8 MiB at most. The next PING goes
//! at once after windows grew, and else the later the more often they did not. All this as
//! grpc-java 1.7x does it. Credit is given, as netty does, when half a window of it is due; `h2`
//! by itself would give it at a third. The effect is that a round trip carries half a window, and that
//! windows hardly grow.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use h2::server::Connection;
use h2::{FlowControl, Ping, PingPong};
use tokio::sync::Notify;

use crate::clock::now;
use crate::socket::Socket;

/// grpc-java grants a stream, and a connection, so many octets at first.
pub const FIRST: u32 = 1 << 20;
/// And no more than so many.
const LAST: u32 = 8 << 20;
/// Windows for a PING after they did not grow, at most.
const PATIENCE_MAX: u32 = 10;

/// What the streams of a connection got since the last PING.
#[derive(Debug, Default)]
pub struct Received {
    octets: AtomicU32,
    /// So many are enough for the next PING.
    enough: AtomicU32,
    wake: Notify,
    due: Mutex<Due>,
}

/// Credit that is due to streams, and so to their connection.
#[derive(Debug, Default)]
struct Due {
    streams: Vec<(FlowControl, usize)>,
    total: usize,
    /// It is given when so much is due.
    most: usize,
}

impl Due {
    fn give(&mut self) -> Result<(), h2::Error> {
        self.total = 0;
        self.streams.drain(..).try_for_each(|(mut flow, due)| flow.release_capacity(due))
    }
}

impl Received {
    /// Octets of a body came.
    pub fn add(&self, octets: usize) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        let before = self.octets.fetch_add(octets, Ordering::Relaxed);
        if before.saturating_add(octets) >= self.enough.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Credit is due to a stream.
    ///
    /// # Errors
    /// When it is more than the stream got.
    pub fn credit(&self, flow: &FlowControl, octets: usize) -> Result<(), h2::Error> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.total += octets;
        match due.streams.iter_mut().find(|(other, _)| other.stream_id() == flow.stream_id()) {
            Some((_, due)) => *due += octets,
            None => due.streams.push((flow.clone(), octets)),
        }
        if due.total >= due.most { due.give() } else { Ok(()) }
    }

    /// A stream has come to its end: no more of it waits.
    ///
    /// # Errors
    /// As above.
    pub fn settle(&self) -> Result<(), h2::Error> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).give()
    }

    fn give_at(&self, window: u32) {
        let half = usize::try_from(window / 2).unwrap_or(usize::MAX);
        self.due.lock().unwrap_or_else(PoisonError::into_inner).most = half;
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
    /// How often in a row the windows did not grow.
    patience: u32,
}

impl Growth {
    /// Of a connection that grants [`FIRST`]; if it `grows` at all.
    #[must_use]
    pub fn new(connection: &mut Connection<Socket, Bytes>, grows: bool) -> Self {
        let ping = grows.then(|| connection.ping_pong()).flatten();
        let received = Arc::<Received>::default();
        if grows {
            received.give_at(FIRST);
        }
        Self { received, ping, asked: None, window: FIRST, fastest: 0.0, patience: 0 }
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
                self.received.wake.notified().await;
                self.received.octets.store(0, Ordering::Relaxed);
                self.received.enough.store(u32::MAX, Ordering::Relaxed);
                if ping.send_ping(Ping::opaque()).is_ok() {
                    self.asked = Some(now());
                }
                continue;
            };
            if poll_fn(|cx| ping.poll_pong(cx)).await.is_err() {
                return std::future::pending().await;
            }
            self.asked = None;
            let octets = self.received.octets.load(Ordering::Relaxed);
            let speed = f64::from(octets) / (now() - asked).as_secs_f64().max(1e-9);
            let target = octets.saturating_mul(2).min(LAST);
            let grows = target > self.window && speed > self.fastest;
            if grows {
                (self.fastest, self.window, self.patience) = (speed, target, 0);
            } else {
                self.patience = PATIENCE_MAX.min(self.patience + 1);
            }
            let enough = (self.window / 2).saturating_mul(self.patience);
            self.received.enough.store(enough, Ordering::Relaxed);
            if grows {
                self.received.give_at(target);
                return target;
            }
        }
    }
}
