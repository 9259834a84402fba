//! Token expiry of open streams: a stream ends at a message boundary, so that its client
//! authenticates again.

use std::rc::Rc;

use sconce_filters::{Call, Code, EndReason, Method, authenticate};

use crate::grpc::status;
use crate::grpc::user_context::UserContextWriter;
use crate::proxy::keys::StreamKey;
use crate::proxy::relay::Relay;
use crate::proxy::stream::DownloadEnd;

impl Relay {
    /// The token of a stream has expired.
    pub(super) fn on_token_expired(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.pending_end.is_some() {
            // The response is complete, and waits for its client alone.
            stream.token_expiry = None;
            return;
        }
        let Some(expiry) = &mut stream.token_expiry else { return };
        if !expiry.is_request_complete() {
            // The request is incomplete, and must not begin with an expired token.
            return self.refuse(key, &authenticate::token_expired(), EndReason::Refused);
        }
        expiry.expire();
        if !is_reattachable(&stream.call, stream.user_context.as_ref()) {
            stream.token_expiry = None;
            return;
        }
        if stream.boundary.is_at_boundary() {
            self.end_for_reauth(key);
        }
    }

    /// Ends a stream at a message boundary. The driver keeps the operation, as it does when a
    /// connection is lost.
    pub(super) fn end_for_reauth(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let trailers = status::ok_status(stream.is_response_started);
        if !stream.download.has_buffered() {
            self.downstream.wire.send_headers(stream.id, trailers.iter(), true);
            return self.end_stream(key, Code::Ok, EndReason::Expired);
        }
        let (trailers, code, reason) = (Rc::new(trailers), Code::Ok, EndReason::Expired);
        self.end_after_buffered(key, DownloadEnd { trailers, code, reason });
    }
}

/// Whether the client will reattach the stream.
fn is_reattachable(call: &Call, writer: Option<&UserContextWriter>) -> bool {
    call.method() == Method::ReattachExecute
        || writer.is_some_and(UserContextWriter::is_reattachable)
}
