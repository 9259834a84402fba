//! Reading: octets of sockets become events, in the buffer that belongs to the thread.

use std::io;
use std::task::{Context, Poll};

use crate::proxy::admit::whole;
use crate::proxy::driver::{Driver, PARKED_MAX};
use crate::proxy::relay::{Phase, Relay};
use crate::wire::frame::HEAD;

/// Octets that may wait to be written to a client before nothing more is read from it.
const OUT_MAX: usize = 512 * 1024;
/// Octets that are read from a driver at one time, while its worker keeps much for slow clients
/// already: what a client does not take at once must be kept.
const SIP: usize = 16 * 1024;
/// Octets that a worker may keep for slow clients before it takes no more than sips.
const KEPT_MAX: usize = 256 * 1024;

impl Relay {
    pub(super) fn read_client(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        if self.phase == Phase::Over || self.client.waiting() > OUT_MAX {
            return false;
        }
        let into = scratch.get_mut(HEAD..).unwrap_or_default();
        let read = match self.client.poll_read(context, into, (self.turn, self.now)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(read @ 1..)) => read,
            Poll::Ready(ended) => {
                self.hear_end(ended.err());
                return true;
            }
        };
        self.look_at_clocks();
        if !self.is_warm {
            self.rest_later();
        }
        if matches!(self.phase, Phase::Open | Phase::Leaving(_)) {
            self.take_client_octets(HEAD, HEAD.saturating_add(read), scratch);
            self.flush(context, scratch);
        }
        true
    }

    /// The client's socket has ended, well or badly.
    fn hear_end(&mut self, fault: Option<io::Error>) {
        if let Some(fault) = fault.filter(|fault| fault.kind() == io::ErrorKind::InvalidData) {
            tracing::info!(peer = %self.peer, %fault, "TLS failed");
            self.worker.metrics.refused("tls.failed");
        }
        self.lose_client();
    }

    fn take_client_octets(&mut self, mut at: usize, end: usize, scratch: &mut [u8]) {
        loop {
            let octets = scratch.get(at..end).unwrap_or_default();
            match self.client.wire.receive(octets, self.now) {
                Ok((taken, event)) => {
                    let from = at;
                    at = at.saturating_add(taken);
                    if !self.on_client(event, from, scratch) {
                        break;
                    }
                }
                Err(fault) => return self.fail_client(fault),
            }
        }
    }

    pub(super) fn read_drivers(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        let mut next = 0;
        while let Some(key) = self.drivers.iter().map(|(key, _)| key).find(|key| *key >= next) {
            next = key.saturating_add(1);
            moved |= self.read_driver(key, context, scratch);
        }
        moved
    }

    fn read_driver(&mut self, key: usize, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let Some(most) = self.appetite(key) else { return false };
        let turn = (self.turn, self.now);
        let Some(leg) = self.drivers.get_mut(key).and_then(Driver::leg) else { return false };
        let end = HEAD.saturating_add(most).min(scratch.len());
        let into = scratch.get_mut(HEAD..end).unwrap_or_default();
        let read = match leg.poll_read(context, into, turn) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                self.lose_driver(key, "it closed the connection");
                return true;
            }
            Poll::Ready(Ok(read)) => read,
        };
        self.take_driver_octets(key, HEAD, HEAD.saturating_add(read), scratch);
        self.flush(context, scratch);
        true
    }

    fn take_driver_octets(&mut self, key: usize, mut at: usize, end: usize, scratch: &mut [u8]) {
        loop {
            let now = self.now;
            let Some(leg) = self.drivers.get_mut(key).and_then(Driver::leg) else { return };
            let octets = scratch.get(at..end).unwrap_or_default();
            match leg.wire.receive(octets, now) {
                Ok((taken, event)) => {
                    let from = at;
                    at = at.saturating_add(taken);
                    if !self.on_driver(key, event, from, scratch) {
                        return;
                    }
                }
                Err(fault) => return self.fail_driver(key, fault),
            }
        }
    }

    /// How many octets may be read from a driver now; `None` while its client is behind.
    fn appetite(&self, key: usize) -> Option<usize> {
        let driver = self.drivers.get(key)?;
        let behind = self.client.waiting() > 0 || driver.parked > 0;
        if !behind {
            return Some(if self.worker.kept.get() < KEPT_MAX { usize::MAX } else { SIP });
        }
        // A frame that is there in part is granted again before it is parked.
        let most = whole(PARKED_MAX).saturating_add(SIP);
        (self.client.waiting() == 0 && driver.parked <= most).then_some(SIP)
    }
}
