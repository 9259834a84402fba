//! Pause: a client is not read for a moment while what it sent last waits for a driver.
//!
//! What is read too soon must be copied and kept in memory. Left in the socket, it is read when the
//! driver takes it, and goes on from the read buffer. A pause is short, since frames of other calls
//! wait as well, PING and RST_STREAM among them. After it, the next batch is read whatever the
//! driver does, as far as windows allow.

use std::time::{Duration, Instant};

use crate::proxy::driver::{Driver, Line};
use crate::proxy::relay::Relay;

/// How long what a client sends may wait for a driver that takes nothing.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// When a client is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// Until when, if at all.
    until: Option<Instant>,
    /// The exchange whose DATA was read last.
    tag: usize,
}

impl Pause {
    /// DATA of an exchange was read.
    pub(super) fn note(&mut self, tag: usize) {
        self.tag = tag;
    }
}

impl Relay {
    /// So many octets of the client were read, and so many of them are DATA of open calls.
    pub(super) fn pause_reads(&mut self, read: usize, data: usize) {
        if data > read / 2 && self.is_stopped(self.pause.tag) {
            let until = self.now + PAUSE_MAX;
            self.pause.until = Some(until);
            self.wake_by(until);
        }
    }

    /// Whether the client is not to be read now.
    pub(super) fn is_paused(&mut self) -> bool {
        let Some(until) = self.pause.until else { return false };
        if self.now < until && self.is_stopped(self.pause.tag) {
            return true;
        }
        self.pause.until = None;
        false
    }

    /// When the pause ends, if there is one.
    pub(super) fn pause_ends(&self) -> Option<Instant> {
        self.pause.until
    }

    /// Nothing more is read now: uploads get their credit back, unless the driver is what they wait
    /// for. Says whether any did.
    pub(super) fn repay_uploads(&mut self) -> bool {
        self.pause.until.is_none() && self.client.wire.repay_uploads()
    }

    /// Whether a body waits for its driver, which is there.
    fn is_stopped(&self, tag: usize) -> bool {
        let Some(exchange) = self.exchanges.get(tag) else { return false };
        let Some(driver) = exchange.driver.and_then(|key| self.drivers.get(key)) else {
            return false;
        };
        let Driver { line: Line::Up(leg), .. } = driver else { return false };
        leg.blocked.is_some() || (exchange.driver_stream.is_some() && exchange.is_behind())
    }
}
