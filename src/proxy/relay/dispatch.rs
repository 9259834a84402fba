//! Dispatch: selects the upstream connection of a call, and opens its stream there.

use crate::grpc::forward::{self, ForwardOptions};
use crate::proxy::relay::Relay;
use crate::proxy::stream::pass_stream_window;
use crate::proxy::upstream::connection::UpstreamState;

impl Relay {
    /// Detaches a call from an upstream connection that will not begin it, and dispatches it again.
    /// This ends: a new connection opens the streams of all pending calls once it is established,
    /// or fails them. Only connections of the idle pool can return a call, and connections that end
    /// before its head has left.
    pub(super) fn reassign(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let Some(key) = exchange.upstream.take() else { return };
        if let Some(driver) = self.upstreams.get_mut(key) {
            driver.active = driver.active.saturating_sub(1);
            driver.pending.retain(|queued| *queued != tag);
        }
        self.dispatch(tag);
    }

    /// Reassigns the pending calls of an upstream connection that accepts no new streams.
    pub(super) fn reassign_pending(&mut self, key: usize) {
        while let Some(tag) = self.upstreams.get_mut(key).and_then(|it| it.pending.pop_front()) {
            self.reassign(tag);
        }
    }

    /// Opens the streams of pending calls, as far as the driver allows. A call that is refused
    /// meanwhile makes room for the next, which the outer loop opens: nested loops could exhaust
    /// the stack.
    pub(super) fn open_pending(&mut self, key: usize) {
        let Some(driver) = self.upstreams.get_mut(key) else { return };
        if std::mem::replace(&mut driver.is_opening, true) {
            return;
        }
        self.open_all_pending(key);
        if let Some(driver) = self.upstreams.get_mut(key) {
            driver.is_opening = false;
        }
    }

    fn open_all_pending(&mut self, key: usize) {
        loop {
            let Some(driver) = self.upstreams.get_mut(key) else { return };
            let UpstreamState::Connected(leg) = &mut driver.state else { return };
            if driver.is_lost || !leg.can_write() || leg.wire.is_going_away() {
                return self.reassign_pending(key);
            }
            if !leg.wire.can_open_stream() {
                return;
            }
            let Some(tag) = driver.pending.pop_front() else { return };
            if !self.may_open(key, tag) {
                continue;
            }
            let Self { streams: exchanges, upstreams: drivers, downstream: client, .. } = self;
            let Some(driver) = drivers.get_mut(key) else { return };
            let UpstreamState::Connected(leg) = &mut driver.state else { return };
            let Some(exchange) = exchanges.get_mut(tag) else { continue };
            let Some(asked) = exchange.request.clone() else { continue };
            let end = exchange.is_upload_ended && exchange.upload.buffered.is_empty();
            let id = u32::try_from(tag).unwrap_or(u32::MAX);
            let requests = &mut driver.header_caches.get_or_insert_default().requests;
            let is_read = exchange.redactor.is_some();
            let onward = ForwardOptions {
                credential: driver.cluster.credential(),
                uncompressed_response: is_read,
            };
            let what = |fields| forward::fields(fields, onward);
            let block = requests.block(&mut leg.wire, asked.head.fields(), what);
            exchange.upstream_id = Some(leg.wire.open_stream(id, block, end));
            exchange.head_end = leg.wire.write_buffer.end_offset();
            pass_stream_window(client, leg, exchange);
            if exchange.has_buffered_upload() {
                self.resume_upload(tag);
            }
        }
    }
}
