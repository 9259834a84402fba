//! Download: the frames of an upstream connection, and response bodies on their way to the client.

use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use sconce_filters::{Code, EndReason, Refusal};

use crate::grpc::status::{self, ResponseStatus};
use crate::proxy::budget::DOWNLOAD_BUFFER_MAX;
use crate::proxy::convert::{shift, usize_from};
use crate::proxy::keys::{KeyedSlab, StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::round_robin::QUANTUM;
use crate::proxy::stream::expiry::TokenExpiry;
use crate::proxy::stream::{DownloadEnd, PendingRewrite, pass_stream_window};
use crate::proxy::upstream::connection::Upstream;
use crate::proxy::upstream::header_caches::UpstreamHeaderCaches;
use crate::proxy::upstream::limits::connection_window;
use crate::wire::connection::Event;
use crate::wire::error;
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// The failure of a response that ends without a grpc-status.
const NO_STATUS: &str = "it ended the response without a valid grpc-status";

impl Relay {
    /// Acts on one event of an upstream connection; `from` is the offset of its octets in
    /// `scratch`. Returns false if no event follows.
    pub(super) fn on_upstream_event(
        &mut self,
        up: UpstreamKey,
        event: Event,
        from: usize,
        scratch: &mut [u8],
    ) -> bool {
        match event {
            Event::NeedMoreData => return false,
            Event::Settings => {
                if let Some(upstream) = self.upstreams.get(up) {
                    upstream.cluster().driver_reachable(self.now);
                }
                self.open_pending(up);
                self.resume_uploads(up);
            }
            Event::Response { tag, status, end } => {
                self.on_response(up, StreamKey::from_tag(tag), status, end)
            }
            Event::Data { tag, octets, end } => {
                self.on_response_data(up, StreamKey::from_tag(tag), shift(from, &octets), scratch);
                if end {
                    self.end_without_status(StreamKey::from_tag(tag));
                }
            }
            Event::Trailers { tag } => self.on_response_trailers(up, StreamKey::from_tag(tag)),
            Event::Reset { tag, code } => self.on_upstream_reset(StreamKey::from_tag(tag), code),
            Event::MalformedResponse { tag, error, end } => {
                self.on_malformed_response(up, StreamKey::from_tag(tag), error, end);
            }
            Event::StreamError { tag, error } => {
                // A header list that is too long will be too long again: clients must not retry.
                let is_long = error.code == error::ErrorCode::EnhanceYourCalm;
                let code = if is_long { Code::ResourceExhausted } else { Code::Unavailable };
                self.fail_stream(StreamKey::from_tag(tag), code, "driver.malformed", error.reason);
            }
            Event::WindowsShrunk => self.sync_windows(up),
            Event::WindowUpdate { tag: Some(tag) } => {
                match self.upstreams.get(up).is_some_and(Upstream::is_contended) {
                    true => self.resume_uploads(up),
                    false => self.resume_upload(StreamKey::from_tag(tag)),
                }
            }
            Event::WindowUpdate { tag: None } => self.resume_uploads(up),
            Event::GoAway { last, .. } => self.on_upstream_goaway(up, last),
            Event::Informational { .. }
            | Event::Request { .. }
            | Event::MalformedRequest { .. }
            | Event::PingAck => {}
        }
        self.upstreams.contains(up)
    }

    fn on_response(&mut self, up: UpstreamKey, key: StreamKey, http: u16, end: bool) {
        let Self { ctx, now, streams, upstreams, downstream, .. } = self;
        let Some(stream) = streams.get_mut(key) else {
            return self.ctx.internal_error("stream_missing");
        };
        let Some((fields, caches)) = response_fields(upstreams, up, *now) else {
            return self.ctx.internal_error("upstream_missing");
        };
        let ResponseStatus { is_grpc, code } = caches.responses.status_of(&fields);
        if http != 200 || !is_grpc || (end && code.is_none()) {
            let grpc = if http == 200 { Code::Unknown } else { status::from_http(http) };
            let code = code.filter(|code| *code != Code::Ok).unwrap_or(grpc);
            let what = format!("it answered with HTTP status {http} instead of gRPC");
            return self.fail_stream(key, code, "driver.not_grpc", &what);
        }
        if end && status::refuses_credential(&fields) {
            return self.fail_credential(key);
        }
        stream.is_response_started = true;
        if let Some(tenant) = stream.tenant {
            let after = now.saturating_duration_since(stream.call.opened_at());
            ctx.metrics.call_first_byte(stream.method, tenant, after);
        }
        if code.is_none_or(|code| code == Code::Ok) {
            ctx.grace_sessions.record(stream.token_standing.as_mut(), *now);
        }
        let block = caches.responses.cache.block(&mut downstream.wire, &fields, Fields::iter);
        downstream.wire.send_encoded_headers(stream.id, block, end);
        if end {
            self.end_stream(key, code.unwrap_or(Code::Unknown), EndReason::Answered);
        }
    }

    fn on_response_data(
        &mut self,
        up: UpstreamKey,
        key: StreamKey,
        octets: Range<usize>,
        scratch: &mut [u8],
    ) {
        let Self { streams, upstreams, downstream, detached, .. } = self;
        let (Some(upstream), Some(stream)) = (upstreams.get_mut(up), streams.get_mut(key)) else {
            return self.ctx.internal_error("stream_or_upstream_missing");
        };
        upstream.response_received();
        let mut rest = octets;
        let mut ends = false;
        if let Some(redactor) = &mut stream.redactor
            && redactor.redact(scratch.get_mut(rest.clone()).unwrap_or_default()).is_err()
        {
            let what = "its response to Config cannot be parsed, and may contain hidden values";
            return self.fail_stream(key, Code::Internal, "driver.unreadable", what);
        }
        let came = scratch.get(rest.clone()).unwrap_or_default();
        if stream.token_expiry.as_ref().is_some_and(TokenExpiry::has_expired) {
            rest.end = rest.start.saturating_add(stream.boundary.skip_message(came));
            ends = stream.boundary.is_at_boundary();
        } else {
            stream.boundary.skip(came);
        }
        stream.download.count_received(rest.len());
        if !stream.download.has_buffered() {
            let taken = rest.len().min(downstream.wire.send_capacity(stream.id));
            let now = rest.start..rest.start.saturating_add(taken);
            rest.start = now.end;
            if taken > 0 {
                downstream.wire.send_data_in_place(stream.id, scratch, now, false);
            }
        }
        if !rest.is_empty() {
            upstream.download_buffer_grown(rest.len());
            stream.download.push(scratch.get(rest).unwrap_or_default());
            if upstream.download_buffered().saturating_add(*detached)
                > usize_from(DOWNLOAD_BUFFER_MAX)
            {
                self.update_buffered();
            }
        }
        if ends {
            self.end_for_reauth(key);
        }
    }

    /// Forwards the buffered part of a response, as far as the client's windows allow.
    pub(super) fn resume_download(&mut self, key: StreamKey) {
        while self.resume_download_quantum(key, QUANTUM) > 0 {}
    }

    /// Forwards at most `most` octets of the buffered part of a response, as far as the client's
    /// windows allow. Returns the number of octets.
    fn resume_download_quantum(&mut self, key: StreamKey, most: usize) -> usize {
        let Self { streams, upstreams, downstream, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return 0 };
        let taken = stream
            .download
            .buffered()
            .len()
            .min(downstream.wire.send_capacity(stream.id))
            .min(most);
        if taken == 0 {
            return 0;
        }
        let octets = stream.download.buffered().get(..taken).unwrap_or_default();
        downstream.wire.send_data(stream.id, octets, false);
        stream.download.advance(taken);
        match stream.upstream.and_then(|up| upstreams.get_mut(up)) {
            Some(upstream) => upstream.download_buffer_shrunk(taken),
            None => self.detached = self.detached.saturating_sub(taken),
        }
        if stream.download.has_buffered() {
            return taken;
        }
        if let Some(end) = stream.pending_end.take() {
            downstream.wire.send_headers(stream.id, end.trailers.iter(), true);
            self.end_stream(key, end.code, end.reason);
        }
        taken
    }

    /// Ends a response behind its buffered octets. The call is detached from its upstream, so that
    /// later frames cannot change the response.
    pub(super) fn end_after_buffered(&mut self, key: StreamKey, end: DownloadEnd) {
        if self.streams.get(key).is_none_or(|stream| stream.pending_end.is_some()) {
            // A response ends once: the first end stays.
            return;
        }
        self.detach_upstream(key, error::ErrorCode::Cancel);
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.pending_end = Some(Box::new(end));
        drop(stream.upload.take_buffered());
        stream.pending_rewrite = PendingRewrite::default();
        stream.request = None;
        self.detached = self.detached.saturating_add(stream.download.buffered().len());
        if self.detached > usize_from(DOWNLOAD_BUFFER_MAX) {
            self.update_buffered();
        }
    }

    /// Forwards the buffered parts of all responses in round robin, as far as the client's windows
    /// allow.
    pub(super) fn resume_downloads(&mut self) {
        if self.detached == 0
            && self.upstreams.iter().all(|(_, upstream)| upstream.download_buffered() == 0)
        {
            return;
        }
        let buffered = self.streams_where(|stream| stream.download.has_buffered());
        self.download_order =
            self.serve_round_robin(buffered, self.download_order, Self::resume_download_quantum);
    }

    /// Releases connection windows of upstreams for octets that have left for the client. Returns
    /// true if a WINDOW_UPDATE is to be written now.
    pub(super) fn release_downloads(&mut self) -> bool {
        let allowance = connection_window(&self.downstream.wire, self.detached);
        let mut is_due = false;
        for (_, upstream) in self.upstreams.iter_mut() {
            let buffered = i64::try_from(upstream.download_buffered()).unwrap_or(i64::MAX);
            let Some(h2) = upstream.h2_mut() else { continue };
            let wanted = allowance.saturating_sub(buffered);
            let more = wanted.saturating_sub(h2.wire.connection_recv_window());
            // Also with zero octets: withheld WINDOW_UPDATEs are sent when the window is nearly
            // empty.
            h2.wire.release_connection_capacity(u32::try_from(more).unwrap_or(0));
            is_due |= !h2.wire.write_buffer.is_empty();
        }
        is_due
    }

    fn on_response_trailers(&mut self, up: UpstreamKey, key: StreamKey) {
        let Self { streams, upstreams, downstream, now, .. } = self;
        let Some(stream) = streams.get_mut(key) else {
            return self.ctx.internal_error("stream_missing");
        };
        let Some((fields, caches)) = response_fields(upstreams, up, *now) else {
            return self.ctx.internal_error("upstream_missing");
        };
        let Some(code) = caches.trailers.status_of(&fields).code else {
            // The driver would end the response the same way again: clients must not retry.
            return self.fail_stream(key, Code::Internal, "driver.no_status", NO_STATUS);
        };
        if code == Code::Ok && !stream.boundary.is_at_boundary() {
            let what = "it ended the response in the middle of a message";
            return self.fail_stream(key, Code::Internal, "driver.malformed", what);
        }
        if !stream.download.has_buffered() {
            let block = caches.trailers.cache.block(&mut downstream.wire, &fields, Fields::iter);
            downstream.wire.send_encoded_headers(stream.id, block, true);
            self.end_stream(key, code, EndReason::Answered);
        } else {
            let end = DownloadEnd { trailers: fields, code, reason: EndReason::Answered };
            self.end_after_buffered(key, end);
        }
    }

    /// A response that ends without a status must not look like a success.
    fn end_without_status(&mut self, key: StreamKey) {
        self.fail_stream(key, Code::Unavailable, "driver.no_status", NO_STATUS);
    }

    fn on_upstream_reset(&mut self, key: StreamKey, code: error::ErrorCode) {
        let what = format!("it reset the stream ({code:?})");
        self.fail_stream(key, status::from_reset(code), "driver.reset", &what);
    }

    /// The driver accepts no new streams, and has not processed those above `last`.
    fn on_upstream_goaway(&mut self, up: UpstreamKey, last: StreamId) {
        let is_refused = |id: Option<StreamId>| id.is_none_or(|id| id > last);
        let refused = self
            .streams_where(|stream| stream.upstream == Some(up) && is_refused(stream.upstream_id));
        for key in refused {
            let Some(stream) = self.streams.get(key) else { continue };
            if stream.upstream != Some(up) {
                // It was pending, and was reassigned meanwhile.
                continue;
            }
            if stream.upstream_id.is_none() {
                self.reassign(key);
            } else {
                let what = "it is shutting down and did not process this call; retry";
                self.fail_stream(key, Code::Unavailable, "driver.leaving", what);
            }
        }
        self.close_upstream_if_drained(up);
    }

    /// The driver's windows have shrunk: grants the windows that clients granted in the meantime.
    fn sync_windows(&mut self, up: UpstreamKey) {
        for key in self.streams_where(|stream| stream.upstream == Some(up)) {
            self.sync_window(key);
        }
    }

    /// Grants the upstream the stream window that the client grants, and no more.
    pub(super) fn sync_window(&mut self, key: StreamKey) {
        let Self { streams, upstreams, downstream, .. } = self;
        let Some(stream) = streams.get_mut(key) else { return };
        let Some(h2) =
            stream.upstream.and_then(|up| upstreams.get_mut(up)).and_then(Upstream::h2_mut)
        else {
            return;
        };
        pass_stream_window(downstream, h2, stream);
    }

    /// The driver rejected the credentials of sconce.
    pub(super) fn fail_credential(&mut self, key: StreamKey) {
        let cluster = self.streams.get(key).and_then(|stream| stream.upstream);
        let cluster = cluster.and_then(|up| self.upstreams.get(up)).map(Upstream::cluster);
        if let Some(cluster) = cluster {
            cluster.driver_rejected_token();
        }
        let what = match cluster.and_then(|cluster| cluster.credential()) {
            Some(_) => "it rejected the token that sconce has for it",
            None => "it requires a token, and sconce has none for it",
        };
        let what =
            format!("{what}; your own token is not the cause: contact the operators of sconce");
        self.fail_stream(key, Code::Internal, "driver.credential", &what);
    }

    /// Fails a call because of its upstream. The message names the cluster, but not its address.
    pub(super) fn fail_stream(
        &mut self,
        key: StreamKey,
        code: Code,
        label: &'static str,
        what: &str,
    ) {
        let Some(stream) = self.streams.get(key) else { return };
        let cluster = stream
            .upstream
            .and_then(|up| self.upstreams.get(up))
            .map_or("", |upstream| upstream.cluster().name());
        let message = format!("the driver of cluster {cluster} failed this call: {what}");
        let refusal = Refusal::new(code, label, message);
        if !stream.download.has_buffered() {
            return self.refuse(key, &refusal, EndReason::DriverLost);
        }
        self.ctx.metrics.call_refused(label);
        self.log_refused(key, &refusal);
        let trailers = Rc::new(status::trailers(&refusal));
        self.end_after_buffered(key, DownloadEnd { trailers, code, reason: EndReason::DriverLost });
    }
}

/// The header block that an upstream has just sent, and the caches for its encoding.
fn response_fields(
    upstreams: &mut KeyedSlab<UpstreamKey, Upstream>,
    up: UpstreamKey,
    now: Instant,
) -> Option<(Rc<Fields>, &mut UpstreamHeaderCaches)> {
    upstreams.get_mut(up)?.response_fields(now)
}
