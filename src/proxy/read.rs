//! Reading: octets of sockets become events, in the buffer that belongs to the thread.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::proxy::driver::Driver;
use crate::proxy::relay::{Phase, Relay};
use crate::telemetry::log_limit::Kind;
use crate::wire::connection::Event;
use crate::wire::frame::HEAD;

/// Octets that may wait to be written to a client before nothing more is read from it.
const OUT_MAX: usize = 512 * 1024;
/// Octets that are read from a driver at one time while its client is behind.
pub(super) const SMALL_READ: usize = 16 * 1024;
/// Octets of a record of TLS, of which the last one of a read may be kept until it is whole.
const RECORD_MAX: usize = 17 * 1024;
/// How long the octets of one read from a driver may take to be passed on.
const READ_TIME_MAX: Duration = Duration::from_millis(1);

impl Relay {
    pub(super) fn read_client(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        // A pause ends whatever else keeps the client from being read.
        let is_paused = self.is_paused();
        if self.phase == Phase::Over || self.client.waiting() > OUT_MAX || is_paused {
            return false;
        }
        if !self.client.is_open() && !self.has_turn(context) {
            return false;
        }
        let (into, most) =
            (scratch.get_mut(HEAD..).unwrap_or_default(), self.upload_reads.octets());
        let read = if self.unparsed.is_empty() {
            match self.client.poll_read(context, (into, most), (self.turn, self.now)) {
                Poll::Pending => return false,
                Poll::Ready(Ok(read @ 1..)) => read,
                Poll::Ready(ended) => {
                    self.hear_end(ended.err());
                    return true;
                }
            }
        } else {
            take_front(&mut self.unparsed, into)
        };
        self.worker.spend_octets(read);
        self.look_at_clocks();
        if self.client.lacks_tls() || self.client.awaits_preface() {
            let octets = scratch.get(HEAD..HEAD.saturating_add(read)).unwrap_or_default();
            if !self.check_cleartext(octets) {
                return true;
            }
        }
        if !self.is_warm {
            self.rest_later();
        }
        if matches!(self.phase, Phase::Open | Phase::Leaving(_)) {
            let data = self.take_client_octets(HEAD, HEAD.saturating_add(read), scratch);
            self.flush(context, scratch);
            self.resize_upload_reads(read, data);
            self.pause_reads(read, data);
        }
        true
    }

    /// Reads of a client grow only while what they bring is DATA of calls that were admitted: heads
    /// can cost so much that the rest of a long read would have to be kept.
    fn resize_upload_reads(&mut self, read: usize, data: usize) {
        if data <= read / 2 {
            self.upload_reads.reset();
        } else if read.saturating_add(RECORD_MAX) >= self.upload_reads.octets() {
            self.upload_reads.grow();
        }
    }

    /// The client's socket has ended, well or badly.
    fn hear_end(&mut self, fault: Option<io::Error>) {
        if let Some(fault) = fault.filter(|fault| fault.kind() == io::ErrorKind::InvalidData) {
            if self.may_log(Kind::TlsFailed) {
                tracing::info!(peer = %self.peer, %fault, "TLS failed");
            }
            self.worker.metrics.refused("tls.failed");
        }
        self.lose_client();
    }

    /// Feeds the engine with what was read, until the turn is over; what is left then is kept for
    /// the next one. Returns how many octets of DATA of open calls there were.
    fn take_client_octets(&mut self, mut at: usize, end: usize, scratch: &mut [u8]) -> usize {
        let mut data = 0_usize;
        loop {
            let octets = scratch.get(at..end).unwrap_or_default();
            let (taken, event) = match self.client.wire.receive(octets, self.now) {
                Ok(received) => received,
                Err(fault) => {
                    self.fail_client(fault);
                    return data;
                }
            };
            let from = at;
            at = at.saturating_add(taken);
            if let Event::Data { octets, .. } = &event {
                data = data.saturating_add(octets.len());
            }
            let is_head = matches!(event, Event::Opened { .. });
            if !self.on_client(event, from, scratch) {
                return data;
            }
            if self.worker.spend_event(is_head) {
                self.look_at_clock();
            }
            if self.worker.is_turn_costly(self.now) && at < end {
                self.unparsed.extend_from_slice(scratch.get(at..end).unwrap_or_default());
                return data;
            }
        }
    }

    /// Reads from each driver once, beginning behind the one that was read last, until the turn is
    /// over.
    pub(super) fn read_drivers(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        for _ in 0..self.drivers.len() {
            if moved && self.worker.is_turn_over(self.now) {
                break;
            }
            let Some(key) = self.next_driver() else { break };
            self.last_driver = key;
            moved |= self.read_driver(key, context, scratch);
        }
        moved
    }

    fn next_driver(&self) -> Option<usize> {
        let keys = || self.drivers.iter().map(|(key, _)| key);
        keys().find(|key| *key > self.last_driver).or_else(|| keys().next())
    }

    fn read_driver(&mut self, key: usize, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let Some(most) = self.driver_read_size(key) else { return false };
        let turn = (self.turn, self.now);
        let Some(leg) = self.drivers.get_mut(key).and_then(Driver::leg) else { return false };
        let into = scratch.get_mut(HEAD..).unwrap_or_default();
        let read = match leg.poll_read(context, (into, most), turn) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                self.lose_driver(key, "it closed the connection");
                return true;
            }
            Poll::Ready(Ok(read)) => read,
        };
        self.worker.spend_octets(read);
        self.take_driver_octets(key, HEAD, HEAD.saturating_add(read), scratch);
        // Credit alone lets uploads go on: they leave together with what the client sends next.
        if self.client.waiting() > 0 {
            self.flush(context, scratch);
        }
        self.resize_download_reads(read);
        true
    }

    /// Reads of drivers grow while the client takes all that they bring, and shrink when something
    /// had to be kept for it or a read took long.
    fn resize_download_reads(&mut self, read: usize) {
        let before = self.now;
        self.look_at_clock();
        let is_slow = self.now.saturating_duration_since(before) > READ_TIME_MAX;
        if self.client.waiting() > 0 || is_slow {
            self.download_reads.shrink();
        } else if read >= self.download_reads.octets() {
            self.download_reads.grow();
        }
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
    fn driver_read_size(&self, key: usize) -> Option<usize> {
        let parked = self.drivers.get(key)?.parked.saturating_add(self.detached);
        if self.client.waiting() > 0 {
            return None;
        }
        let size = if parked == 0 { self.download_reads.octets() } else { SMALL_READ };
        let has_memory = parked <= self.worker.pool.download_max();
        if !has_memory {
            self.worker.wake_when_freed(self.waker);
        }
        has_memory.then_some(size)
    }
}

/// Moves octets from the front of a list into a buffer: as many as fit.
fn take_front(from: &mut Vec<u8>, into: &mut [u8]) -> usize {
    let taken = from.len().min(into.len());
    if let Some((front, into)) = from.get(..taken).zip(into.get_mut(..taken)) {
        into.copy_from_slice(front);
    }
    from.drain(..taken);
    if from.is_empty() {
        *from = Vec::new();
    }
    taken
}
