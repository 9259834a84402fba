//! Read pause: a client is not read for a moment while its last octets wait for a driver.
//!
//! Octets that are read too early must be copied into memory. If they stay in the socket, they are
//! read when the driver accepts them, and forwarded out of the read buffer. A pause is short, since
//! frames of other calls wait as well, PING and RST_STREAM among them. After it the next batch is
//! read in any case, as far as windows allow.

use std::time::Instant;

use crate::proxy::keys::StreamKey;

/// The pause of one client connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadPause {
    /// The end of the pause, if there is one.
    until: Option<Instant>,
    /// The stream whose DATA was read last.
    key: StreamKey,
}

impl ReadPause {
    /// The stream whose DATA was read last.
    pub(crate) fn stream(&self) -> StreamKey {
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

    /// Records that DATA of a stream was read.
    pub(crate) fn record(&mut self, key: StreamKey) {
        self.key = key;
    }
}
