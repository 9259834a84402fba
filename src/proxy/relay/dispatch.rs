//! Dispatch: selects the upstream connection of a call, and opens its stream there.

use crate::grpc::forward::{self, ForwardOptions};
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::stream::pass_stream_window;
use crate::proxy::upstream::connection::UpstreamState;

impl Relay {
    /// Detaches a call from an upstream connection that will not begin it, and dispatches it again.
    /// This ends: a new connection opens the streams of all pending calls once it is established,
    /// or fails them. Only connections of the idle pool can return a call, and connections that end
    /// before its head has left.
    pub(super) fn reassign(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(up) = stream.upstream.take() else { return };
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.active = upstream.active.saturating_sub(1);
            upstream.pending.retain(|queued| *queued != key);
        }
        self.dispatch(key);
    }

    /// Reassigns the pending calls of an upstream connection that accepts no new streams.
    pub(super) fn reassign_pending(&mut self, up: UpstreamKey) {
        while let Some(key) = self.upstreams.get_mut(up).and_then(|it| it.pending.pop_front()) {
            self.reassign(key);
        }
    }

    /// Opens the streams of pending calls, as far as the driver allows. A call that is refused
    /// meanwhile makes room for the next, which the outer loop opens: nested loops could exhaust
    /// the stack.
    pub(super) fn open_pending(&mut self, up: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(up) else { return };
        if std::mem::replace(&mut upstream.is_opening, true) {
            return;
        }
        self.open_all_pending(up);
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.is_opening = false;
        }
    }

    fn open_all_pending(&mut self, up: UpstreamKey) {
        loop {
            let Some(upstream) = self.upstreams.get_mut(up) else { return };
            let UpstreamState::Connected(h2) = &mut upstream.state else { return };
            if upstream.is_lost || !h2.can_write() || h2.wire.is_going_away() {
                return self.reassign_pending(up);
            }
            if !h2.wire.can_open_stream() {
                return;
            }
            let Some(key) = upstream.pending.pop_front() else { return };
            if !self.may_open(up, key) {
                continue;
            }
            let Self { streams, upstreams, downstream, .. } = self;
            let Some(upstream) = upstreams.get_mut(up) else { return };
            let UpstreamState::Connected(h2) = &mut upstream.state else { return };
            let Some(stream) = streams.get_mut(key) else { continue };
            let Some(asked) = stream.request.clone() else { continue };
            let end = stream.is_upload_ended && stream.upload.buffered.is_empty();
            let id = key.tag();
            let requests = &mut upstream.header_caches.get_or_insert_default().requests;
            let is_read = stream.redactor.is_some();
            let onward = ForwardOptions {
                credential: upstream.cluster.credential(),
                uncompressed_response: is_read,
            };
            let what = |fields| forward::fields(fields, onward);
            let block = requests.block(&mut h2.wire, asked.head.fields(), what);
            stream.upstream_id = Some(h2.wire.open_stream(id, block, end));
            stream.head_end = h2.wire.write_buffer.end_offset();
            pass_stream_window(downstream, h2, stream);
            if stream.has_buffered_upload() {
                self.resume_upload(key);
            }
        }
    }
}
