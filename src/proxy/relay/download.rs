//! Download: the frames of an upstream connection, and response bodies on their way to the client.

use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use sconce_filters::{Code, EndReason, Refusal};
use slab::Slab;

use crate::grpc::status::{self, ResponseStatus};
use crate::proxy::budget::DOWNLOAD_BUFFER_MAX;
use crate::proxy::convert::{shift, stream_key, u64_from, usize_from};
use crate::proxy::relay::Relay;
use crate::proxy::round_robin::QUANTUM;
use crate::proxy::stream::buffer::Buffer;
use crate::proxy::stream::{DownloadEnd, PendingRewrite, pass_stream_window};
use crate::proxy::upstream::connection::{Upstream, UpstreamHeaderCaches, connection_window};
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
        driver: usize,
        event: Event,
        from: usize,
        scratch: &mut [u8],
    ) -> bool {
        match event {
            Event::NeedMoreData => return false,
            Event::Settings => {
                if let Some(driver) = self.upstreams.get(driver) {
                    driver.cluster.driver_reachable(self.now);
                }
                self.open_pending(driver);
                self.resume_uploads(driver);
            }
            Event::Response { tag, status, end } => {
                self.on_response(driver, stream_key(tag), status, end)
            }
            Event::Data { tag, octets, end } => {
                self.on_response_data(driver, stream_key(tag), shift(from, &octets), scratch);
                if end {
                    self.end_without_status(stream_key(tag));
                }
            }
            Event::Trailers { tag } => self.on_response_trailers(driver, stream_key(tag)),
            Event::Reset { tag, code } => self.on_upstream_reset(stream_key(tag), code),
            Event::MalformedResponse { tag, error, end } => {
                self.on_malformed_response(driver, stream_key(tag), error, end);
            }
            Event::StreamError { tag, error } => {
                // A header list that is too long will be too long again: clients must not retry.
                let is_long = error.code == error::ErrorCode::EnhanceYourCalm;
                let code = if is_long { Code::ResourceExhausted } else { Code::Unavailable };
                self.fail_stream(stream_key(tag), code, "driver.malformed", error.reason);
            }
            Event::WindowsShrunk => self.sync_windows(driver),
            Event::WindowUpdate { tag: Some(tag) } => {
                match self.upstreams.get(driver).is_some_and(|driver| driver.is_contended) {
                    true => self.resume_uploads(driver),
                    false => self.resume_upload(stream_key(tag)),
                }
            }
            Event::WindowUpdate { tag: None } => self.resume_uploads(driver),
            Event::GoAway { last, .. } => self.on_upstream_goaway(driver, last),
            Event::Informational { .. }
            | Event::Request { .. }
            | Event::MalformedRequest { .. }
            | Event::PingAck => {}
        }
        self.upstreams.contains(driver)
    }

    fn on_response(&mut self, driver: usize, tag: usize, http: u16, end: bool) {
        let Self {
            ctx: worker,
            now,
            streams: exchanges,
            upstreams: drivers,
            downstream: client,
            ..
        } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some((fields, echoes)) = response_fields(drivers, driver, *now) else { return };
        let ResponseStatus { is_grpc, code } = echoes.responses.status_of(&fields);
        if http != 200 || !is_grpc || (end && code.is_none()) {
            let grpc = if http == 200 { Code::Unknown } else { status::from_http(http) };
            let code = code.filter(|code| *code != Code::Ok).unwrap_or(grpc);
            let what = format!("it answered with HTTP status {http} instead of gRPC");
            return self.fail_stream(tag, code, "driver.not_grpc", &what);
        }
        if end && status::refuses_credential(&fields) {
            return self.fail_credential(tag);
        }
        exchange.is_response_started = true;
        if let Some(tenant) = exchange.tenant {
            let after = now.saturating_duration_since(exchange.call.opened_at());
            worker.metrics.call_first_byte(exchange.method, tenant, after);
        }
        if code.is_none_or(|code| code == Code::Ok) {
            worker.grace_sessions.record(exchange.token_standing.as_mut(), *now);
        }
        let block = echoes.responses.cache.block(&mut client.wire, &fields, Fields::iter);
        client.wire.send_encoded_headers(exchange.id, block, end);
        if end {
            self.end_stream(tag, code.unwrap_or(Code::Unknown), EndReason::Answered);
        }
    }

    fn on_response_data(
        &mut self,
        driver: usize,
        tag: usize,
        octets: Range<usize>,
        scratch: &mut [u8],
    ) {
        let Self { streams: exchanges, upstreams: drivers, downstream: client, detached, .. } =
            self;
        let Some(driver) = drivers.get_mut(driver) else { return };
        driver.pings_sent = 0;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let mut rest = octets;
        let mut ends = false;
        if let Some(redactor) = &mut exchange.redactor
            && redactor.redact(scratch.get_mut(rest.clone()).unwrap_or_default()).is_err()
        {
            let what = "its response to Config cannot be parsed, and may contain hidden values";
            return self.fail_stream(tag, Code::Internal, "driver.unreadable", what);
        }
        let came = scratch.get(rest.clone()).unwrap_or_default();
        if exchange.token_expiry.as_ref().is_some_and(|lease| lease.has_expired) {
            rest.end = rest.start.saturating_add(exchange.boundary.skip_message(came));
            ends = exchange.boundary.is_at_boundary();
        } else {
            exchange.boundary.skip(came);
        }
        exchange.download.received =
            exchange.download.received.saturating_add(u64_from(rest.len()));
        if exchange.download.buffered.is_empty() {
            let taken = rest.len().min(client.wire.send_capacity(exchange.id));
            let now = rest.start..rest.start.saturating_add(taken);
            rest.start = now.end;
            if taken > 0 {
                client.wire.send_data_in_place(exchange.id, scratch, now, false);
            }
        }
        if !rest.is_empty() {
            driver.download_buffered = driver.download_buffered.saturating_add(rest.len());
            exchange.download.buffered.push(scratch.get(rest).unwrap_or_default());
            if driver.download_buffered.saturating_add(*detached) > usize_from(DOWNLOAD_BUFFER_MAX)
            {
                self.update_buffered();
            }
        }
        if ends {
            self.end_for_reauth(tag);
        }
    }

    /// Forwards the buffered part of a response, as far as the client's windows allow.
    pub(super) fn resume_download(&mut self, tag: usize) {
        while self.resume_download_quantum(tag, QUANTUM) > 0 {}
    }

    /// Forwards at most `most` octets of the buffered part of a response, as far as the client's
    /// windows allow. Returns the number of octets.
    fn resume_download_quantum(&mut self, tag: usize, most: usize) -> usize {
        let Self { streams: exchanges, upstreams: drivers, downstream: client, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return 0 };
        let taken =
            exchange.download.buffered.len().min(client.wire.send_capacity(exchange.id)).min(most);
        if taken == 0 {
            return 0;
        }
        let octets = exchange.download.buffered.get(..taken).unwrap_or_default();
        client.wire.send_data(exchange.id, octets, false);
        exchange.download.buffered.advance(taken);
        match exchange.upstream.and_then(|key| drivers.get_mut(key)) {
            Some(driver) => {
                driver.download_buffered = driver.download_buffered.saturating_sub(taken)
            }
            None => self.detached = self.detached.saturating_sub(taken),
        }
        if !exchange.download.buffered.is_empty() {
            return taken;
        }
        if let Some(end) = exchange.pending_end.take() {
            client.wire.send_headers(exchange.id, end.trailers.iter(), true);
            self.end_stream(tag, end.code, end.reason);
        }
        taken
    }

    /// Ends a response behind its buffered octets. The call is detached from its upstream, so that
    /// later frames cannot change the response.
    pub(super) fn end_after_buffered(&mut self, tag: usize, end: DownloadEnd) {
        if self.streams.get(tag).is_none_or(|exchange| exchange.pending_end.is_some()) {
            // A response ends once: the first end stays.
            return;
        }
        self.detach_upstream(tag, error::ErrorCode::Cancel);
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        exchange.pending_end = Some(Box::new(end));
        exchange.upload.buffered = Buffer::default();
        exchange.pending_rewrite = PendingRewrite::default();
        exchange.request = None;
        self.detached = self.detached.saturating_add(exchange.download.buffered.len());
        if self.detached > usize_from(DOWNLOAD_BUFFER_MAX) {
            self.update_buffered();
        }
    }

    /// Forwards the buffered parts of all responses in round robin, as far as the client's windows
    /// allow.
    pub(super) fn resume_downloads(&mut self) {
        if self.detached == 0
            && self.upstreams.iter().all(|(_, driver)| driver.download_buffered == 0)
        {
            return;
        }
        let parked = self.streams_where(|exchange| !exchange.download.buffered.is_empty());
        self.download_order =
            self.serve_round_robin(parked, self.download_order, Self::resume_download_quantum);
    }

    /// Releases connection windows of upstreams for octets that have left for the client. Returns
    /// true if a WINDOW_UPDATE is to be written now.
    pub(super) fn release_downloads(&mut self) -> bool {
        let allowance = connection_window(&self.downstream.wire, self.detached);
        let mut is_due = false;
        for (_, driver) in &mut self.upstreams {
            let parked = i64::try_from(driver.download_buffered).unwrap_or(i64::MAX);
            let Some(leg) = driver.h2_mut() else { continue };
            let wanted = allowance.saturating_sub(parked);
            let more = wanted.saturating_sub(leg.wire.connection_recv_window());
            // Also with zero octets: withheld WINDOW_UPDATEs are sent when the window is nearly
            // empty.
            leg.wire.release_connection_capacity(u32::try_from(more).unwrap_or(0));
            is_due |= !leg.wire.write_buffer.is_empty();
        }
        is_due
    }

    fn on_response_trailers(&mut self, driver: usize, tag: usize) {
        let Self { streams: exchanges, upstreams: drivers, downstream: client, now, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some((fields, echoes)) = response_fields(drivers, driver, *now) else { return };
        let Some(code) = echoes.trailers.status_of(&fields).code else {
            // The driver would end the response the same way again: clients must not retry.
            return self.fail_stream(tag, Code::Internal, "driver.no_status", NO_STATUS);
        };
        if code == Code::Ok && !exchange.boundary.is_at_boundary() {
            let what = "it ended the response in the middle of a message";
            return self.fail_stream(tag, Code::Internal, "driver.malformed", what);
        }
        if exchange.download.buffered.is_empty() {
            let block = echoes.trailers.cache.block(&mut client.wire, &fields, Fields::iter);
            client.wire.send_encoded_headers(exchange.id, block, true);
            self.end_stream(tag, code, EndReason::Answered);
        } else {
            let end = DownloadEnd { trailers: fields, code, reason: EndReason::Answered };
            self.end_after_buffered(tag, end);
        }
    }

    /// A response that ends without a status must not look like a success.
    fn end_without_status(&mut self, tag: usize) {
        self.fail_stream(tag, Code::Unavailable, "driver.no_status", NO_STATUS);
    }

    fn on_upstream_reset(&mut self, tag: usize, code: error::ErrorCode) {
        let what = format!("it reset the stream ({code:?})");
        self.fail_stream(tag, status::from_reset(code), "driver.reset", &what);
    }

    /// The driver accepts no new streams, and has not processed those above `last`.
    fn on_upstream_goaway(&mut self, driver: usize, last: StreamId) {
        let is_refused = |stream: Option<StreamId>| stream.is_none_or(|stream| stream > last);
        let refused = self.streams_where(|exchange| {
            exchange.upstream == Some(driver) && is_refused(exchange.upstream_id)
        });
        for tag in refused {
            let Some(exchange) = self.streams.get(tag) else { continue };
            if exchange.upstream != Some(driver) {
                // It was pending, and was reassigned meanwhile.
                continue;
            }
            if exchange.upstream_id.is_none() {
                self.reassign(tag);
            } else {
                let what = "it is shutting down and did not process this call; retry";
                self.fail_stream(tag, Code::Unavailable, "driver.leaving", what);
            }
        }
        self.close_upstream_if_drained(driver);
    }

    /// The driver's windows have shrunk: grants the windows that clients granted in the meantime.
    fn sync_windows(&mut self, driver: usize) {
        for tag in self.streams_where(|exchange| exchange.upstream == Some(driver)) {
            self.sync_window(tag);
        }
    }

    /// Grants the upstream the stream window that the client grants, and no more.
    pub(super) fn sync_window(&mut self, tag: usize) {
        let Self { streams: exchanges, upstreams: drivers, downstream: client, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some(leg) =
            exchange.upstream.and_then(|key| drivers.get_mut(key)).and_then(Upstream::h2_mut)
        else {
            return;
        };
        pass_stream_window(client, leg, exchange);
    }

    /// The driver rejected the credentials of sconce.
    pub(super) fn fail_credential(&mut self, tag: usize) {
        let cluster = self.streams.get(tag).and_then(|exchange| exchange.upstream);
        let cluster = cluster.and_then(|key| self.upstreams.get(key)).map(|driver| &driver.cluster);
        if let Some(cluster) = cluster {
            cluster.driver_rejected_token();
        }
        let what = match cluster.and_then(|cluster| cluster.credential()) {
            Some(_) => "it rejected the token that sconce has for it",
            None => "it requires a token, and sconce has none for it",
        };
        let what =
            format!("{what}; your own token is not the cause: contact the operators of sconce");
        self.fail_stream(tag, Code::Internal, "driver.credential", &what);
    }

    /// Fails a call because of its upstream. The message names the cluster, but not its address.
    pub(super) fn fail_stream(&mut self, tag: usize, code: Code, label: &'static str, what: &str) {
        let Some(exchange) = self.streams.get(tag) else { return };
        let cluster = exchange
            .upstream
            .and_then(|key| self.upstreams.get(key))
            .map_or("", |driver| driver.cluster.name());
        let message = format!("the driver of cluster {cluster} failed this call: {what}");
        let refusal = Refusal::new(code, label, message);
        if exchange.download.buffered.is_empty() {
            return self.refuse(tag, &refusal, EndReason::DriverLost);
        }
        self.ctx.metrics.call_refused(label);
        self.log_refused(tag, &refusal);
        let trailers = Rc::new(status::trailers(&refusal));
        self.end_after_buffered(tag, DownloadEnd { trailers, code, reason: EndReason::DriverLost });
    }
}

/// The header block that an upstream has just sent, and the caches for its encoding.
fn response_fields(
    drivers: &mut Slab<Upstream>,
    key: usize,
    now: Instant,
) -> Option<(Rc<Fields>, &mut UpstreamHeaderCaches)> {
    let driver = drivers.get_mut(key)?;
    driver.pings_sent = 0;
    driver.cluster.driver_reachable(now);
    let fields = driver.h2_mut()?.wire.fields();
    Some((fields, driver.header_caches.get_or_insert_default()))
}
