//! Upload: the frames of the client, and request bodies on their way to upstreams.

use std::collections::VecDeque;
use std::ops::Range;

use sconce_filters::{Code, EndReason};

use crate::proxy::convert::{shift, stream_key, u64_from, usize_from};
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::relay::Relay;
use crate::proxy::stream::ActiveStream;
use crate::proxy::upstream::connection::{InFlightChunk, Upstream, UpstreamState};
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
            Event::Request { stream, .. } | Event::MalformedRequest { stream, .. }
                if self.downstream.lacks_tls() =>
            {
                self.refuse_cleartext_call(stream);
            }
            Event::Request { stream, end } => self.on_request(stream, end),
            Event::MalformedRequest { stream, error } => self.on_malformed_request(stream, error),
            Event::Data { tag, octets, end } => {
                self.on_request_data(stream_key(tag), shift(from, &octets), end, scratch);
            }
            Event::Trailers { tag } => {
                self.on_request_data(stream_key(tag), from..from, true, scratch)
            }
            Event::StreamError { tag, error } => {
                self.record_rejected("malformed.stream", Some(error.reason));
                self.cancel_stream(stream_key(tag), Code::Cancelled, EndReason::Cancelled);
            }
            Event::Reset { tag, .. } => {
                self.cancel_stream(stream_key(tag), Code::Cancelled, EndReason::Cancelled);
            }
            Event::WindowUpdate { tag: Some(tag) } => {
                self.sync_window(stream_key(tag));
                self.resume_download(stream_key(tag));
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
        for (_, driver) in &mut self.upstreams {
            if let Some(leg) = driver.h2_mut() {
                leg.wire.set_initial_window(window, now);
            }
        }
        self.resume_downloads();
    }

    fn on_request_data(&mut self, tag: usize, octets: Range<usize>, end: bool, scratch: &mut [u8]) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        if exchange.pending_end.is_some() {
            return;
        }
        exchange.upload.received = exchange.upload.received.saturating_add(u64_from(octets.len()));
        self.read_pause.record(tag);
        match exchange.user_context {
            None => self.send_upload(tag, octets, end, scratch),
            Some(_) => self.rewrite(tag, (octets, end), scratch),
        }
        self.enforce_buffer_limit(tag);
    }

    /// Forwards octets of the read buffer without a copy, or buffers them.
    pub(super) fn send_upload(
        &mut self,
        tag: usize,
        mut rest: Range<usize>,
        end: bool,
        scratch: &mut [u8],
    ) {
        let must_wait = self.must_buffer(tag);
        let Self { streams: exchanges, upstreams: drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.is_upload_ended |= end;
        if let Some(redactor) = &mut exchange.redactor {
            redactor.observe_request(scratch.get(rest.clone()).unwrap_or_default());
        }
        if let Some(UploadTarget { in_flight: departing, h2: leg, stream, has_space }) = upload_target(drivers, exchange)
            // An end without octets cannot be buffered, and comes once for each stream.
            && ((rest.is_empty() && exchange.upload.buffered.is_empty()) || (has_space && !must_wait))
        {
            let taken = rest.len().min(leg.wire.send_capacity(stream));
            let is_whole = taken == rest.len();
            if taken > 0 || (end && is_whole) {
                let now = rest.start..rest.start.saturating_add(taken);
                rest.start = now.end;
                leg.wire.send_data_in_place(stream, scratch, now, end && is_whole);
                record_in_flight(
                    departing,
                    leg.wire.write_buffer.end_offset(),
                    (tag, taken),
                    exchange,
                );
            }
            if is_whole {
                return;
            }
        }
        exchange.upload.buffered.push(scratch.get(rest).unwrap_or_default());
        self.note_contention(tag);
    }

    /// Part of a body is buffered. Marks the upstream as contended if the body does not wait for
    /// the window of its own stream, but for what it shares with other bodies.
    fn note_contention(&mut self, tag: usize) {
        let Self { streams: exchanges, upstreams: drivers, .. } = self;
        let Some(exchange) = exchanges.get(tag) else { return };
        let is_shared = upload_target(drivers, exchange).is_some_and(
            |UploadTarget { h2: leg, stream, .. }| leg.wire.stream_send_window(stream) > 0,
        );
        if let (true, Some(driver)) =
            (is_shared, exchange.upstream.and_then(|it| drivers.get_mut(it)))
        {
            driver.is_contended = true;
        }
    }

    /// Whether new octets of a body must be buffered, behind its own or behind other bodies to the
    /// same upstream.
    pub(super) fn must_buffer(&self, tag: usize) -> bool {
        self.streams.get(tag).is_some_and(ActiveStream::has_buffered_upload)
            || self.is_contended(tag)
    }

    /// Whether bodies to the same upstream are served in round robin.
    fn is_contended(&self, tag: usize) -> bool {
        let driver = self.streams.get(tag).and_then(|exchange| exchange.upstream);
        driver.and_then(|key| self.upstreams.get(key)).is_some_and(|driver| driver.is_contended)
    }

    /// Forwards copies of these octets, or buffers them: `octets`, and `behind` after them.
    pub(super) fn send_upload_copied(
        &mut self,
        tag: usize,
        [octets, behind]: [&[u8]; 2],
        end: bool,
    ) {
        let Self { streams: exchanges, upstreams: drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.is_upload_ended |= end;
        if let Some(redactor) = &mut exchange.redactor {
            [octets, behind].into_iter().for_each(|octets| redactor.observe_request(octets));
        }
        let size = octets.len().saturating_add(behind.len());
        if let Some(UploadTarget { in_flight: departing, h2: leg, stream, has_space }) = upload_target(drivers, exchange)
            && exchange.upload.buffered.is_empty()
            && has_space
            && leg.wire.send_capacity(stream) >= size
            // Inflated messages are long: they are forwarded in chunks, and in turn.
            && size <= CHUNK.saturating_mul(2)
        {
            leg.wire.send_data_joined(stream, [octets, behind], end);
            return record_in_flight(
                departing,
                leg.wire.write_buffer.end_offset(),
                (tag, size),
                exchange,
            );
        }
        exchange.upload.buffered.push(octets);
        exchange.upload.buffered.push(behind);
        // On a contended upstream it waits for its turn.
        while !self.is_contended(tag) && self.send_buffered(tag, CHUNK) {}
        if self.streams.get(tag).is_some_and(ActiveStream::has_buffered_upload) {
            self.note_contention(tag);
        }
    }

    /// Forwards the buffered part of a body, as far as the upstream accepts it.
    pub(super) fn resume_upload(&mut self, tag: usize) {
        while self.resume_chunk(tag, CHUNK) {}
        if self.streams.get(tag).is_some_and(ActiveStream::has_buffered_upload) {
            self.note_contention(tag);
        }
    }

    /// Forwards at most `most` buffered octets of a body, as far as the upstream accepts them.
    /// Returns their number.
    fn resume_quantum(&mut self, tag: usize, most: usize) -> usize {
        let before = self.connection_window_of(tag);
        let mut sent = 0;
        while sent < most && self.resume_chunk(tag, most.saturating_sub(sent)) {
            let octets = before.saturating_sub(self.connection_window_of(tag));
            sent = usize::try_from(octets).unwrap_or(0);
        }
        sent
    }

    /// The connection window of a body's upstream, which all its bodies share.
    fn connection_window_of(&self, tag: usize) -> i64 {
        let driver = self.streams.get(tag).and_then(|exchange| exchange.upstream);
        let leg = driver.and_then(|key| self.upstreams.get(key)).and_then(Upstream::h2);
        leg.map_or(0, |leg| leg.wire.connection_send_window())
    }

    /// Forwards at most `most` buffered octets of a body. Returns true if anything was forwarded.
    fn resume_chunk(&mut self, tag: usize, most: usize) -> bool {
        if !self.recheck_or_refuse(tag) {
            return false;
        }
        let Some(exchange) = self.streams.get(tag) else { return false };
        match exchange.upload.buffered.is_empty() {
            true => self.resume_rewrite(tag, most),
            false => self.send_buffered(tag, most),
        }
    }

    /// Forwards at most `most` octets of the buffered body. Returns false if the upstream accepts
    /// none.
    fn send_buffered(&mut self, tag: usize, most: usize) -> bool {
        let Self { streams: exchanges, upstreams: drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return false };
        let Some(UploadTarget { in_flight: departing, h2: leg, stream, has_space }) =
            upload_target(drivers, exchange)
        else {
            return false;
        };
        let taken = exchange.upload.buffered.len().min(leg.wire.send_capacity(stream)).min(most);
        if taken == 0 || !has_space {
            return false;
        }
        let end = exchange.is_upload_ended && taken == exchange.upload.buffered.len();
        leg.wire.send_data(stream, exchange.upload.buffered.get(..taken).unwrap_or_default(), end);
        exchange.upload.buffered.advance(taken);
        record_in_flight(departing, leg.wire.write_buffer.end_offset(), (tag, taken), exchange);
        true
    }

    /// Releases request octets that have left for upstreams to the client, and continues bodies
    /// that wait for a write buffer. Returns true if any continued.
    pub(super) fn release_uploads(&mut self) -> bool {
        let mut resume = Vec::new();
        for (key, driver) in &mut self.upstreams {
            if driver.can_resume_uploads() {
                resume.push(key);
            }
            let may_grow = self
                .ctx
                .buffer_budget
                .may_grow_window(&self.earned_window, self.user_share.as_deref());
            while driver.has_flushed()
                && let Some(InFlightChunk { stream, key: tag, octets, .. }) =
                    driver.in_flight.pop_front()
            {
                // While octets are buffered here, a larger window would only fill the buffer.
                let grows = |exchange: &&ActiveStream| may_grow && !exchange.has_buffered_upload();
                let exchange = self.streams.get(tag).filter(grows);
                let most = exchange.map_or(0, |exchange| exchange.snapshot.limits.upload_window);
                self.downstream.wire.release_stream_capacity(stream, octets, most, self.now);
            }
        }
        self.update_earned();
        let has_resumed = !resume.is_empty();
        for key in resume {
            self.resume_uploads(key);
        }
        has_resumed
    }

    /// Forwards the buffered bodies of an upstream in round robin, as far as it accepts them.
    pub(super) fn resume_uploads(&mut self, key: usize) {
        let waits = |exchange: &ActiveStream| {
            exchange.upstream == Some(key) && exchange.has_buffered_upload()
        };
        let waiting = self.streams_where(waits);
        let Some(driver) = self.upstreams.get(key) else { return };
        let rotation = self.serve_round_robin(waiting, driver.upload_order, Self::resume_quantum);
        if let Some(driver) = self.upstreams.get_mut(key) {
            driver.upload_order = rotation;
        }
        let Self { streams: exchanges, upstreams: drivers, .. } = self;
        let is_contended = exchanges.iter().any(|(_, exchange)| {
            waits(exchange)
                && upload_target(drivers, exchange).is_some_and(
                    |UploadTarget { h2: leg, stream, .. }| leg.wire.stream_send_window(stream) > 0,
                )
        });
        if let Some(driver) = drivers.get_mut(key) {
            driver.is_contended = is_contended;
        }
    }

    /// Ends a stream that the client has reset or violated, and resets the stream of the upstream
    /// at once.
    pub(super) fn cancel_stream(&mut self, tag: usize, code: Code, how: EndReason) {
        self.detach_upstream(tag, error::ErrorCode::Cancel);
        self.complete_stream(tag, code, how);
    }
}

/// Records octets in the write buffer of an upstream. Consecutive octets of one stream share an
/// entry, up to a chunk.
fn record_in_flight(
    departing: &mut VecDeque<InFlightChunk>,
    end: u64,
    (tag, left): (usize, usize),
    exchange: &mut ActiveStream,
) {
    let octets = u32::try_from(exchange.upload.released(left)).unwrap_or(u32::MAX);
    match departing.back_mut().filter(|it| it.stream == exchange.id) {
        Some(last) if usize_from(last.octets) < CHUNK => {
            last.octets = last.octets.saturating_add(octets);
            last.end = end;
        }
        Some(_) | None => {
            departing.push_back(InFlightChunk { stream: exchange.id, key: tag, octets, end });
        }
    }
}

/// The destination of a request body.
struct UploadTarget<'a> {
    in_flight: &'a mut VecDeque<InFlightChunk>,
    h2: &'a mut H2Connection,
    stream: StreamId,
    /// Whether the write buffer accepts more; if not, octets are buffered with their stream.
    has_space: bool,
}

/// The upstream connection and stream of a call.
fn upload_target<'a>(
    drivers: &'a mut slab::Slab<Upstream>,
    exchange: &ActiveStream,
) -> Option<UploadTarget<'a>> {
    let stream = exchange.upstream_id?;
    let Upstream { state: line, in_flight: departing, write_batch: batch, .. } =
        drivers.get_mut(exchange.upstream?)?;
    match line {
        UpstreamState::Connected(leg) => {
            let has_space = leg.wire.write_buffer.len() < batch.octets();
            Some(UploadTarget { in_flight: departing, h2: leg, stream, has_space })
        }
        UpstreamState::Connecting(_) => None,
    }
}
