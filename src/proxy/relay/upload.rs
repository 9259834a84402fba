//! Upload: the frames of the client, and request bodies on their way to upstreams.

use std::ops::Range;

use sconce_filters::{Code, EndReason};

use crate::proxy::convert::shift;
use crate::proxy::keys::{KeyedSlab, StreamKey, UpstreamKey};
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::relay::Relay;
use crate::proxy::stream::ActiveStream;
use crate::proxy::upstream::connection::Upstream;
use crate::proxy::upstream::in_flight::{Flushed, InFlight};
use crate::wire::connection::Event;
use crate::wire::error;
use crate::wire::frame::StreamId;

/// Octets that are taken from a buffered body at one time.
pub(super) const CHUNK: usize = 16 * 1024;

impl Relay {
    /// Acts on one event of the client; `from` is the offset of its octets in `scratch`. Returns
    /// false if no event follows.
    pub(super) fn on_downstream_event(
        &mut self,
        event: Event,
        from: usize,
        scratch: &mut [u8],
    ) -> bool {
        match event {
            Event::NeedMoreData => return false,
            Event::Settings => self.on_downstream_settings(),
            Event::Request { stream: id, .. } | Event::MalformedRequest { stream: id, .. }
                if self.downstream.lacks_tls() =>
            {
                self.refuse_cleartext_call(id);
            }
            Event::Request { stream: id, end } => self.on_request(id, end),
            Event::MalformedRequest { stream: id, error } => self.on_malformed_request(id, error),
            Event::Data { tag, octets, end } => {
                self.on_request_data(StreamKey::from_tag(tag), shift(from, &octets), end, scratch);
            }
            Event::Trailers { tag } => {
                self.on_request_data(StreamKey::from_tag(tag), from..from, true, scratch)
            }
            Event::StreamError { tag, error } => {
                self.record_rejected("malformed.stream", Some(error.reason));
                self.cancel_stream(StreamKey::from_tag(tag), Code::Cancelled, EndReason::Cancelled);
            }
            Event::Reset { tag, .. } => {
                self.cancel_stream(StreamKey::from_tag(tag), Code::Cancelled, EndReason::Cancelled);
            }
            Event::WindowUpdate { tag: Some(tag) } => {
                self.sync_window(StreamKey::from_tag(tag));
                self.resume_download(StreamKey::from_tag(tag));
            }
            Event::WindowUpdate { tag: None } => self.resume_downloads(),
            Event::PingAck => self.on_ping_ack(),
            Event::Response { .. }
            | Event::MalformedResponse { .. }
            | Event::Informational { .. }
            | Event::GoAway { .. }
            | Event::WindowsShrunk => {}
        }
        true
    }

    /// The client's initial stream window is forwarded to its upstreams.
    fn on_downstream_settings(&mut self) {
        let window = self.downstream.wire.remote_settings().initial_window_size;
        let now = self.now;
        for (_, upstream) in self.upstreams.iter_mut() {
            if let Some(h2) = upstream.h2_mut() {
                h2.wire.set_initial_window(window, now);
            }
        }
        self.resume_downloads();
    }

    fn on_request_data(
        &mut self,
        key: StreamKey,
        octets: Range<usize>,
        end: bool,
        scratch: &mut [u8],
    ) {
        let Some(stream) = self.streams.get_mut(key) else {
            return self.ctx.internal_error("stream_missing");
        };
        if stream.pending_end.is_some() {
            return;
        }
        stream.upload.count_received(octets.len());
        self.read_pause.record(key);
        match stream.user_context {
            None => self.send_upload(key, octets, end, scratch),
            Some(_) => self.rewrite(key, (octets, end), scratch),
        }
        self.enforce_buffer_limit(key);
    }

    /// Forwards octets of the read buffer without a copy, or buffers them.
    pub(super) fn send_upload(
        &mut self,
        key: StreamKey,
        mut rest: Range<usize>,
        end: bool,
        scratch: &mut [u8],
    ) {
        let must_wait = self.must_buffer(key);
        let Self { streams, upstreams, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return };
        stream.is_upload_ended |= end;
        if let Some(redactor) = &mut stream.redactor {
            redactor.observe_request(scratch.get(rest.clone()).unwrap_or_default());
        }
        let target = upload_target(upstreams, stream);
        if let Some(UploadTarget { in_flight, h2, id, has_space }) = target
            // An end without octets cannot be buffered, and comes once for each stream.
            && ((rest.is_empty() && !stream.upload.has_buffered())
                || (has_space && !must_wait))
        {
            let taken = rest.len().min(h2.wire.send_capacity(id));
            let is_whole = taken == rest.len();
            if taken > 0 || (end && is_whole) {
                let now = rest.start..rest.start.saturating_add(taken);
                rest.start = now.end;
                h2.wire.send_data_in_place(id, scratch, now, end && is_whole);
                record_in_flight(
                    in_flight,
                    h2.wire.write_buffer.end_offset(),
                    (key, taken),
                    stream,
                );
            }
            if is_whole {
                return;
            }
        }
        stream.upload.push(scratch.get(rest).unwrap_or_default());
        self.note_contention(key);
    }

    /// Part of a body is buffered. Marks the upstream as contended if the body does not wait for
    /// the window of its own stream, but for what it shares with other bodies.
    fn note_contention(&mut self, key: StreamKey) {
        let Self { streams, upstreams, .. } = self;
        let Some(stream) = streams.get(key) else { return };
        let is_shared = upload_target(upstreams, stream)
            .is_some_and(|UploadTarget { h2, id, .. }| h2.wire.stream_send_window(id) > 0);
        if let (true, Some(upstream)) =
            (is_shared, stream.upstream.and_then(|it| upstreams.get_mut(it)))
        {
            upstream.set_contended(true);
        }
    }

    /// Whether new octets of a body must be buffered, behind its own or behind other bodies to the
    /// same upstream.
    pub(super) fn must_buffer(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(ActiveStream::has_buffered_upload)
            || self.is_contended(key)
    }

    /// Whether bodies to the same upstream are served in round robin.
    fn is_contended(&self, key: StreamKey) -> bool {
        let upstream = self.streams.get(key).and_then(|stream| stream.upstream);
        upstream.and_then(|up| self.upstreams.get(up)).is_some_and(Upstream::is_contended)
    }

    /// Forwards copies of these octets, or buffers them: `octets`, and `behind` after them.
    pub(super) fn send_upload_copied(
        &mut self,
        key: StreamKey,
        [octets, behind]: [&[u8]; 2],
        end: bool,
    ) {
        let Self { streams, upstreams, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return };
        stream.is_upload_ended |= end;
        if let Some(redactor) = &mut stream.redactor {
            [octets, behind].into_iter().for_each(|octets| redactor.observe_request(octets));
        }
        let size = octets.len().saturating_add(behind.len());
        let target = upload_target(upstreams, stream);
        if let Some(UploadTarget { in_flight, h2, id, has_space }) = target
            && !stream.upload.has_buffered()
            && has_space
            && h2.wire.send_capacity(id) >= size
            // Inflated messages are long: they are forwarded in chunks, and in turn.
            && size <= CHUNK.saturating_mul(2)
        {
            h2.wire.send_data_joined(id, [octets, behind], end);
            return record_in_flight(
                in_flight,
                h2.wire.write_buffer.end_offset(),
                (key, size),
                stream,
            );
        }
        stream.upload.push(octets);
        stream.upload.push(behind);
        // On a contended upstream it waits for its turn.
        while !self.is_contended(key) && self.send_buffered(key, CHUNK) {}
        if self.streams.get(key).is_some_and(ActiveStream::has_buffered_upload) {
            self.note_contention(key);
        }
    }

    /// Forwards the buffered part of a body, as far as the upstream accepts it.
    pub(super) fn resume_upload(&mut self, key: StreamKey) {
        while self.resume_chunk(key, CHUNK) {}
        if self.streams.get(key).is_some_and(ActiveStream::has_buffered_upload) {
            self.note_contention(key);
        }
    }

    /// Forwards at most `most` buffered octets of a body, as far as the upstream accepts them.
    /// Returns their number.
    fn resume_quantum(&mut self, key: StreamKey, most: usize) -> usize {
        let before = self.connection_window_of(key);
        let mut sent = 0;
        while sent < most && self.resume_chunk(key, most.saturating_sub(sent)) {
            let octets = before.saturating_sub(self.connection_window_of(key));
            sent = usize::try_from(octets).unwrap_or(0);
        }
        sent
    }

    /// The connection window of a body's upstream, which all its bodies share.
    fn connection_window_of(&self, key: StreamKey) -> i64 {
        let upstream = self.streams.get(key).and_then(|stream| stream.upstream);
        let h2 = upstream.and_then(|up| self.upstreams.get(up)).and_then(Upstream::h2);
        h2.map_or(0, |h2| h2.wire.connection_send_window())
    }

    /// Forwards at most `most` buffered octets of a body. Returns true if anything was forwarded.
    fn resume_chunk(&mut self, key: StreamKey, most: usize) -> bool {
        if !self.recheck_or_refuse(key) {
            return false;
        }
        let Some(stream) = self.streams.get(key) else { return false };
        match stream.upload.has_buffered() {
            false => self.resume_rewrite(key, most),
            true => self.send_buffered(key, most),
        }
    }

    /// Forwards at most `most` octets of the buffered body. Returns false if the upstream accepts
    /// none.
    fn send_buffered(&mut self, key: StreamKey, most: usize) -> bool {
        let Self { streams, upstreams, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return false };
        let Some(UploadTarget { in_flight, h2, id, has_space }) = upload_target(upstreams, stream)
        else {
            return false;
        };
        let taken = stream.upload.buffered().len().min(h2.wire.send_capacity(id)).min(most);
        if taken == 0 || !has_space {
            return false;
        }
        let end = stream.is_upload_ended && taken == stream.upload.buffered().len();
        h2.wire.send_data(id, stream.upload.buffered().get(..taken).unwrap_or_default(), end);
        stream.upload.advance(taken);
        record_in_flight(in_flight, h2.wire.write_buffer.end_offset(), (key, taken), stream);
        true
    }

    /// Releases request octets that have left for upstreams to the client, and continues bodies
    /// that wait for a write buffer. Returns true if any continued.
    pub(super) fn release_uploads(&mut self) -> bool {
        let mut resume = Vec::new();
        for (up, upstream) in self.upstreams.iter_mut() {
            if upstream.can_resume_uploads() {
                resume.push(up);
            }
            let may_grow = self
                .ctx
                .buffer_budget
                .may_grow_window(&self.earned_window, self.user_share.as_deref());
            while let Some(Flushed { id, key, octets }) = upstream.pop_flushed() {
                // While octets are buffered here, a larger window would only fill the buffer.
                let grows = |stream: &&ActiveStream| may_grow && !stream.has_buffered_upload();
                let stream = self.streams.get(key).filter(grows);
                let most = stream.map_or(0, |stream| stream.snapshot.limits.upload_window);
                self.downstream.wire.release_stream_capacity(id, octets, most, self.now);
            }
        }
        self.update_earned();
        let has_resumed = !resume.is_empty();
        for up in resume {
            self.resume_uploads(up);
        }
        has_resumed
    }

    /// Forwards the buffered bodies of an upstream in round robin, as far as it accepts them.
    pub(super) fn resume_uploads(&mut self, up: UpstreamKey) {
        let waits =
            |stream: &ActiveStream| stream.upstream == Some(up) && stream.has_buffered_upload();
        let waiting = self.streams_where(waits);
        let Some(upstream) = self.upstreams.get(up) else { return };
        let order = self.serve_round_robin(waiting, upstream.upload_order(), Self::resume_quantum);
        if let Some(upstream) = self.upstreams.get_mut(up) {
            upstream.set_upload_order(order);
        }
        let Self { streams, upstreams, .. } = self;
        let is_contended = streams.iter().any(|(_, stream)| {
            waits(stream)
                && upload_target(upstreams, stream)
                    .is_some_and(|UploadTarget { h2, id, .. }| h2.wire.stream_send_window(id) > 0)
        });
        if let Some(upstream) = upstreams.get_mut(up) {
            upstream.set_contended(is_contended);
        }
    }

    /// Ends a stream that the client has reset or violated, and resets the stream of the upstream
    /// at once.
    pub(super) fn cancel_stream(&mut self, key: StreamKey, code: Code, reason: EndReason) {
        self.detach_upstream(key, error::ErrorCode::Cancel);
        self.complete_stream(key, code, reason);
    }
}

/// Records octets in the write buffer of an upstream.
fn record_in_flight(
    in_flight: &mut InFlight,
    end: u64,
    (key, left): (StreamKey, usize),
    stream: &mut ActiveStream,
) {
    let octets = u32::try_from(stream.upload.released(left)).unwrap_or(u32::MAX);
    in_flight.record(Flushed { id: stream.id, key, octets }, end);
}

/// The destination of a request body.
struct UploadTarget<'a> {
    in_flight: &'a mut InFlight,
    h2: &'a mut H2Connection,
    id: StreamId,
    /// Whether the write buffer accepts more; if not, octets are buffered with their stream.
    has_space: bool,
}

/// The upstream connection and stream of a call.
fn upload_target<'a>(
    upstreams: &'a mut KeyedSlab<UpstreamKey, Upstream>,
    stream: &ActiveStream,
) -> Option<UploadTarget<'a>> {
    let id = stream.upstream_id?;
    let (in_flight, h2, has_space) = upstreams.get_mut(stream.upstream?)?.upload_side()?;
    Some(UploadTarget { in_flight, h2, id, has_space })
}
