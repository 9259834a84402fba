//! Read: octets of sockets become events, in the worker's read buffer.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::proxy::budget::SMALL_READ;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::upstream::connection::Upstream;
use crate::telemetry::log_limit::LineKind;
use crate::wire::connection::Event;
use crate::wire::frame::HEADER_LEN;

/// Octets waiting to be written to a client above which the client is not read.
const WRITE_BUFFER_MAX: usize = 512 * 1024;
/// Octets of a TLS record, the last of which may be incomplete after a read.
const TLS_RECORD_MAX: usize = 17 * 1024;
/// Longest time for forwarding one read from an upstream.
const READ_TIME_MAX: Duration = Duration::from_millis(1);

impl Relay {
    pub(super) fn read_downstream(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> bool {
        // Evaluated first: a pause must end even if the client is not read for other reasons.
        let is_paused = self.is_paused();
        if self.state == DownstreamState::Closed
            || self.downstream.pending_bytes() > WRITE_BUFFER_MAX
            || is_paused
        {
            return false;
        }
        if !self.downstream.is_established() && !self.may_handshake(context) {
            return false;
        }
        let (into, most) =
            (scratch.get_mut(HEADER_LEN..).unwrap_or_default(), self.downstream_batch.octets());
        let read = if self.unparsed.is_empty() {
            match self.downstream.poll_read(context, (into, most), (self.epoch, self.now)) {
                Poll::Pending => return false,
                Poll::Ready(Ok(read @ 1..)) => read,
                Poll::Ready(ended) => {
                    self.on_downstream_eof(ended.err());
                    return true;
                }
            }
        } else {
            take_front(&mut self.unparsed, into)
        };
        self.ctx.spend_octets(read);
        self.update_clocks();
        if self.downstream.lacks_tls() || self.downstream.awaits_preface() {
            let octets =
                scratch.get(HEADER_LEN..HEADER_LEN.saturating_add(read)).unwrap_or_default();
            if !self.check_cleartext(octets) {
                return true;
            }
        }
        if !self.holds_buffers {
            self.schedule_shrink();
        }
        if matches!(self.state, DownstreamState::Open | DownstreamState::Draining(_)) {
            let data = self.parse_downstream(HEADER_LEN, HEADER_LEN.saturating_add(read), scratch);
            self.flush(context, scratch);
            self.resize_downstream_batch(read, data);
            self.pause_reads(read, data);
        }
        true
    }

    /// Adjusts the size of reads from the client: it grows only while reads consist of DATA of
    /// admitted calls. Request heads can cost so much that the rest of a long read would have to be
    /// copied.
    fn resize_downstream_batch(&mut self, read: usize, data: usize) {
        if data <= read / 2 {
            self.downstream_batch.reset();
        } else if read.saturating_add(TLS_RECORD_MAX) >= self.downstream_batch.octets() {
            self.downstream_batch.grow();
        }
    }

    /// The client's socket ended, with or without an error.
    fn on_downstream_eof(&mut self, error: Option<io::Error>) {
        if let Some(error) = error.filter(|error| error.kind() == io::ErrorKind::InvalidData) {
            if self.may_log(LineKind::TlsFailed) {
                tracing::info!(peer = %self.peer, %error, "TLS failed");
            }
            self.ctx.metrics.call_refused("tls.failed");
        }
        self.abort_downstream();
    }

    /// Parses the octets that were read, until the poll's budget is spent; the rest is kept for the
    /// next poll. Returns the number of DATA octets of open calls.
    fn parse_downstream(&mut self, mut at: usize, end: usize, scratch: &mut [u8]) -> usize {
        let mut data = 0_usize;
        loop {
            let octets = scratch.get(at..end).unwrap_or_default();
            let (taken, event) = match self.downstream.wire.receive(octets, self.now) {
                Ok(received) => received,
                Err(error) => {
                    self.on_downstream_error(error);
                    return data;
                }
            };
            let from = at;
            at = at.saturating_add(taken);
            if let Event::Data { octets, .. } = &event {
                data = data.saturating_add(octets.len());
            }
            let is_head = matches!(event, Event::Request { .. });
            if !self.on_downstream_event(event, from, scratch) {
                return data;
            }
            if self.ctx.spend_event(is_head) {
                self.update_now();
            }
            if self.ctx.must_stop_parsing(self.now) && at < end {
                self.unparsed.extend_from_slice(scratch.get(at..end).unwrap_or_default());
                return data;
            }
        }
    }

    /// Reads each upstream once, beginning after the one that was read last, until the poll's
    /// budget is spent.
    pub(super) fn read_upstreams(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        for _ in 0..self.upstreams.len() {
            if moved && self.ctx.must_yield(self.now) {
                break;
            }
            let Some(up) = self.next_upstream() else { break };
            self.last_read_upstream = up;
            moved |= self.read_upstream(up, context, scratch);
        }
        moved
    }

    fn next_upstream(&self) -> Option<UpstreamKey> {
        let keys = || self.upstreams.iter().map(|(up, _)| up);
        keys().find(|up| *up > self.last_read_upstream).or_else(|| keys().next())
    }

    fn read_upstream(
        &mut self,
        up: UpstreamKey,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> bool {
        let Some(most) = self.upstream_read_limit(up) else { return false };
        let turn = (self.epoch, self.now);
        let Some(h2) = self.upstreams.get_mut(up).and_then(Upstream::h2_mut) else {
            return false;
        };
        let into = scratch.get_mut(HEADER_LEN..).unwrap_or_default();
        let read = match h2.poll_read(context, (into, most), turn) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                self.on_upstream_closed(up, "it closed the connection");
                return true;
            }
            Poll::Ready(Ok(read)) => read,
        };
        self.ctx.spend_octets(read);
        self.parse_upstream(up, HEADER_LEN, HEADER_LEN.saturating_add(read), scratch);
        // After WINDOW_UPDATE alone nothing is flushed: uploads leave together with the client's
        // next octets.
        if self.downstream.pending_bytes() > 0 {
            self.flush(context, scratch);
        }
        self.resize_upstream_batch(read);
        true
    }

    /// Adjusts the size of reads from upstreams: it grows while the client accepts everything, and
    /// shrinks when octets had to be buffered or a read took long.
    fn resize_upstream_batch(&mut self, read: usize) {
        let before = self.now;
        self.update_now();
        let is_slow = self.now.saturating_duration_since(before) > READ_TIME_MAX;
        if self.downstream.pending_bytes() > 0 || is_slow {
            self.upstream_batch.shrink();
        } else if read >= self.upstream_batch.octets() {
            self.upstream_batch.grow();
        }
    }

    fn parse_upstream(&mut self, up: UpstreamKey, mut at: usize, end: usize, scratch: &mut [u8]) {
        loop {
            let now = self.now;
            let Some(h2) = self.upstreams.get_mut(up).and_then(Upstream::h2_mut) else { return };
            let octets = scratch.get(at..end).unwrap_or_default();
            match h2.wire.receive(octets, now) {
                Ok((taken, event)) => {
                    let from = at;
                    at = at.saturating_add(taken);
                    if !self.on_upstream_event(up, event, from, scratch) {
                        return;
                    }
                }
                Err(error) => return self.on_upstream_error(up, error),
            }
        }
    }

    /// Octets to read from an upstream now; `None` while its client is behind.
    fn upstream_read_limit(&self, up: UpstreamKey) -> Option<usize> {
        let buffered = self.upstreams.get(up)?.download_buffered().saturating_add(self.detached);
        if self.downstream.pending_bytes() > 0 {
            return None;
        }
        let size = if buffered == 0 { self.upstream_batch.octets() } else { SMALL_READ };
        let has_memory = buffered <= self.ctx.buffer_budget.download_max();
        if !has_memory {
            self.ctx.wake_when_memory_freed(self.waker_key);
        }
        has_memory.then_some(size)
    }
}

/// Moves octets from the front of a list into a buffer, as many as fit.
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

impl Relay {
    /// Begins a pause after a read of `read` octets, `data` of which are DATA of open calls.
    pub(super) fn pause_reads(&mut self, read: usize, data: usize) {
        if data > read / 2 && self.is_upload_blocked(self.read_pause.stream()) {
            let until = self.now + PAUSE_MAX;
            self.read_pause.begin(until);
            self.schedule(until);
        }
    }

    /// Whether the client must not be read now.
    pub(super) fn is_paused(&mut self) -> bool {
        let Some(until) = self.read_pause.deadline() else { return false };
        if self.now < until && self.is_upload_blocked(self.read_pause.stream()) {
            return true;
        }
        self.read_pause.end();
        false
    }

    /// The end of the pause, if there is one.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        self.read_pause.deadline()
    }

    /// Releases withheld octets of uploads, unless the client is paused for a driver: nothing more
    /// is read now. Returns true if any were released.
    pub(super) fn release_deferred_uploads(&mut self) -> bool {
        self.read_pause.deadline().is_none() && self.downstream.wire.release_withheld()
    }

    /// Whether a request body waits for a connected driver.
    fn is_upload_blocked(&self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get(key) else { return false };
        let Some(upstream) = stream.upstream.and_then(|up| self.upstreams.get(up)) else {
            return false;
        };
        let Some(h2) = upstream.h2() else { return false };
        h2.write_blocked_since().is_some()
            || (stream.upstream_id.is_some() && stream.has_buffered_upload())
    }
}

/// Longest pause while the driver accepts nothing.
const PAUSE_MAX: Duration = Duration::from_millis(5);
