//! Token expiry of open streams: a stream ends at a message boundary, so that its client
//! authenticates again.

use std::rc::Rc;

use sconce_filters::{Call, Code, EndReason, Method, authenticate};

use crate::grpc::status;
use crate::grpc::user_context::UserContextWriter;
use crate::proxy::relay::Relay;
use crate::proxy::stream::DownloadEnd;

impl Relay {
    /// The token of a stream has expired.
    pub(super) fn on_token_expired(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        if exchange.pending_end.is_some() {
            // The response is complete, and waits for its client alone.
            exchange.token_expiry = None;
            return;
        }
        let Some(lease) = &mut exchange.token_expiry else { return };
        if !lease.is_request_complete() {
            // The request is incomplete, and must not begin with an expired token.
            return self.refuse(tag, &authenticate::token_expired(), EndReason::Refused);
        }
        lease.has_expired = true;
        if !is_reattachable(&exchange.call, exchange.user_context.as_ref()) {
            exchange.token_expiry = None;
            return;
        }
        if exchange.boundary.is_at_boundary() {
            self.end_for_reauth(tag);
        }
    }

    /// Ends a stream at a message boundary. The driver keeps the operation, as it does when a
    /// connection is lost.
    pub(super) fn end_for_reauth(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let trailers = status::ok_status(exchange.is_response_started);
        if exchange.download.buffered.is_empty() {
            self.downstream.wire.send_headers(exchange.id, trailers.iter(), true);
            return self.end_stream(tag, Code::Ok, EndReason::Expired);
        }
        let (trailers, code, how) = (Rc::new(trailers), Code::Ok, EndReason::Expired);
        self.end_after_buffered(tag, DownloadEnd { trailers, code, reason: how });
    }
}

/// Whether the client will reattach the stream.
fn is_reattachable(call: &Call, stamper: Option<&UserContextWriter>) -> bool {
    *call.method() == Method::ReattachExecute
        || stamper.is_some_and(UserContextWriter::is_reattachable)
}
