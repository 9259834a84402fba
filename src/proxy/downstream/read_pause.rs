//! Pause: a client is not read for a moment while what it sent last waits for a driver.
//!
//! What is read too soon must be copied and kept in memory. Left in the socket, it is read when the
//! driver takes it, and goes on from the read buffer. A pause is short, since frames of other calls
//! wait as well, PING and RST_STREAM among them. After it, the next batch is read whatever the
//! driver does, as far as windows allow.

use std::time::Instant;

/// When a client is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadPause {
    /// Until when, if at all.
    until: Option<Instant>,
    /// The exchange whose DATA was read last.
    key: usize,
}

impl ReadPause {
    /// The stream whose DATA was read last.
    pub(crate) fn stream(&self) -> usize {
        self.key
    }

    /// The end of the pause, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn begin(&mut self, until: Instant) {
        self.until = Some(until);
    }

    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// DATA of an exchange was read.
    pub(crate) fn record(&mut self, tag: usize) {
        self.key = tag;
    }
}
