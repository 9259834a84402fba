//! Queue: the streams of an upstream connection, pending or open.

use std::rc::Rc;
use std::time::Instant;

use crate::grpc::forward::{self, ForwardOptions};
use crate::proxy::keys::StreamKey;
use crate::proxy::upstream::connection::{Upstream, UpstreamState};
use crate::wire::error::ErrorCode;
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// The next step for the pending streams of an upstream connection.
pub(crate) enum NextPending {
    /// This stream can be opened. It has left the queue.
    Open(StreamKey),
    /// The connection accepts no new streams: they need another one.
    Reassign,
    /// Nothing is pending, or no stream can be opened now.
    Wait,
}

/// A stream that was opened on an upstream connection.
pub(crate) struct OpenedStream {
    pub(crate) id: StreamId,
    /// The end of its head in the write buffer.
    pub(crate) head_end: u64,
}

impl Upstream {
    /// Enqueues a stream.
    pub(crate) fn enqueue(&mut self, key: StreamKey, now: Instant) {
        if self.active == 0 {
            self.busy_since = now;
        }
        self.active = self.active.saturating_add(1);
        self.pending.push_back(key);
    }

    /// Begins a loop that opens pending streams. Returns false if one is running: nested loops
    /// could exhaust the stack.
    pub(crate) fn begin_opening(&mut self) -> bool {
        !std::mem::replace(&mut self.is_opening, true)
    }

    pub(crate) fn end_opening(&mut self) {
        self.is_opening = false;
    }

    /// Takes the next pending stream that can be opened.
    pub(crate) fn next_pending(&mut self) -> NextPending {
        let UpstreamState::Connected(h2) = &self.state else { return NextPending::Wait };
        if !self.accepts_streams() {
            return NextPending::Reassign;
        }
        if !h2.wire.can_open_stream() {
            return NextPending::Wait;
        }
        self.pending.pop_front().map_or(NextPending::Wait, NextPending::Open)
    }

    /// Opens a stream that has left the queue, with the forwarded part of these fields.
    pub(crate) fn open_stream(
        &mut self,
        key: StreamKey,
        fields: &Rc<Fields>,
        uncompressed_response: bool,
        end: bool,
    ) -> Option<OpenedStream> {
        let UpstreamState::Connected(h2) = &mut self.state else { return None };
        let requests = &mut self.header_caches.get_or_insert_default().requests;
        let options =
            ForwardOptions { credential: self.cluster.credential(), uncompressed_response };
        let forwarded = |fields| forward::fields(fields, options);
        let block = requests.block(&mut h2.wire, fields, forwarded);
        let id = h2.wire.open_stream(key.tag(), block, end);
        Some(OpenedStream { id, head_end: h2.wire.write_buffer.end_offset() })
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn pop_pending(&mut self) -> Option<StreamKey> {
        self.pending.pop_front()
    }

    pub(crate) fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// Removes a stream that moves to another connection.
    pub(crate) fn withdraw(&mut self, key: StreamKey) {
        self.active = self.active.saturating_sub(1);
        self.pending.retain(|pending| *pending != key);
    }

    /// Removes a stream that has ended: from the queue, or by RST_STREAM if it is open.
    pub(crate) fn detach(
        &mut self,
        key: StreamKey,
        open: Option<StreamId>,
        code: ErrorCode,
        now: Instant,
    ) {
        self.stream_ended(now);
        match (open, self.h2_mut()) {
            (Some(id), Some(h2)) => h2.wire.reset_stream(id, code),
            (None, _) => self.pending.retain(|pending| *pending != key),
            (Some(_), None) => {}
        }
    }

    /// A stream that was neither pending nor open has ended.
    pub(crate) fn stream_ended(&mut self, now: Instant) {
        self.active = self.active.saturating_sub(1);
        if self.active == 0 {
            self.idle_since = now;
        }
    }

    /// Whether a stream may be reassigned after the connection has ended: its head has not left,
    /// and no octets of its body are in flight.
    pub(crate) fn may_reassign(&self, id: StreamId, head_end: u64) -> bool {
        self.h2().is_some_and(|h2| !h2.has_flushed(head_end)) && !self.in_flight.contains(id)
    }
}
