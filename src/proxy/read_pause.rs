//! Pause: a client is not read for a moment while what it sent last waits for a driver.
//!
//! What is read too soon must be copied and kept in memory. Left in the socket, it is read when the
//! driver takes it, and goes on from the read buffer. A pause is short, since frames of other calls
//! wait as well, PING and RST_STREAM among them. After it, the next batch is read whatever the
//! driver does, as far as windows allow.

use std::time::{Duration, Instant};

use crate::proxy::relay::Relay;
use crate::proxy::upstream::{Upstream, UpstreamState};

/// How long what a client sends may wait for a driver that takes nothing.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// When a client is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadPause {
    /// Until when, if at all.
    until: Option<Instant>,
    /// The exchange whose DATA was read last.
    key: usize,
}

impl ReadPause {
    /// DATA of an exchange was read.
    pub(super) fn record(&mut self, tag: usize) {
        self.key = tag;
    }
}

impl Relay {
    /// So many octets of the client were read, and so many of them are DATA of open calls.
    pub(super) fn pause_reads(&mut self, read: usize, data: usize) {
        if data > read / 2 && self.is_upload_blocked(self.read_pause.key) {
            let until = self.now + PAUSE_MAX;
            self.read_pause.until = Some(until);
            self.schedule(until);
        }
    }

    /// Whether the client is not to be read now.
    pub(super) fn is_paused(&mut self) -> bool {
        let Some(until) = self.read_pause.until else { return false };
        if self.now < until && self.is_upload_blocked(self.read_pause.key) {
            return true;
        }
        self.read_pause.until = None;
        false
    }

    /// When the pause ends, if there is one.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        self.read_pause.until
    }

    /// Nothing more is read now: uploads get their credit back, unless the driver is what they wait
    /// for. Says whether any did.
    pub(super) fn release_deferred_uploads(&mut self) -> bool {
        self.read_pause.until.is_none() && self.downstream.wire.release_withheld()
    }

    /// Whether a body waits for its driver, which is there.
    fn is_upload_blocked(&self, tag: usize) -> bool {
        let Some(exchange) = self.streams.get(tag) else { return false };
        let Some(driver) = exchange.upstream.and_then(|key| self.upstreams.get(key)) else {
            return false;
        };
        let Upstream { state: UpstreamState::Connected(leg), .. } = driver else { return false };
        leg.write_blocked_since.is_some()
            || (exchange.upstream_id.is_some() && exchange.has_buffered_upload())
    }
}
