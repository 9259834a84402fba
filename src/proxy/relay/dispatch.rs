//! Dispatch: selects the upstream connection of a call, and opens its stream there.

use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::stream::pass_stream_window;
use crate::proxy::upstream::connection::Upstream;
use crate::proxy::upstream::queue::NextPending;

impl Relay {
    /// Detaches a call from an upstream connection that will not begin it, and dispatches it again.
    /// This ends: a new connection opens the streams of all pending calls once it is established,
    /// or fails them. Only connections of the idle pool can return a call, and connections that end
    /// before its head has left.
    pub(super) fn reassign(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(up) = stream.upstream.take() else { return };
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.withdraw(key);
        }
        self.dispatch(key);
    }

    /// Reassigns the pending calls of an upstream connection that accepts no new streams.
    pub(super) fn reassign_pending(&mut self, up: UpstreamKey) {
        while let Some(key) = self.upstreams.get_mut(up).and_then(Upstream::pop_pending) {
            self.reassign(key);
        }
    }

    /// Opens the streams of pending calls, as far as the driver allows. A call that is refused
    /// meanwhile makes room for the next, which the outer loop opens: nested loops could exhaust
    /// the stack.
    pub(super) fn open_pending(&mut self, up: UpstreamKey) {
        let Some(upstream) = self.upstreams.get_mut(up) else { return };
        if !upstream.begin_opening() {
            return;
        }
        self.open_all_pending(up);
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.end_opening();
        }
    }

    fn open_all_pending(&mut self, up: UpstreamKey) {
        loop {
            let Some(upstream) = self.upstreams.get_mut(up) else { return };
            let key = match upstream.next_pending() {
                NextPending::Open(key) => key,
                NextPending::Reassign => return self.reassign_pending(up),
                NextPending::Wait => return,
            };
            if !self.may_open(up, key) {
                continue;
            }
            let Self { streams, upstreams, downstream, .. } = self;
            let Some(upstream) = upstreams.get_mut(up) else {
                return self.ctx.internal_error("upstream_missing");
            };
            let Some((stream, request)) = streams.get_mut(key).and_then(|stream| {
                let request = stream.request.clone()?;
                Some((stream, request))
            }) else {
                self.ctx.internal_error("pending_request_missing");
                continue;
            };
            let end = stream.is_upload_ended && !stream.upload.has_buffered();
            let (fields, is_read) = (request.head.fields(), stream.redactor.is_some());
            let Some(opened) = upstream.open_stream(key, fields, is_read, end) else {
                return self.ctx.internal_error("upstream_not_connected");
            };
            (stream.upstream_id, stream.head_end) = (Some(opened.id), opened.head_end);
            if let Some(h2) = upstream.h2_mut() {
                pass_stream_window(downstream, h2, stream);
            }
            if stream.has_buffered_upload() {
                self.resume_upload(key);
            }
        }
    }
}
