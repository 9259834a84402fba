//! Header caches: encoded header blocks that repeat because of one upstream.

use std::rc::Rc;

use crate::grpc::status::{self, ResponseStatus};
use crate::proxy::net::header_cache::HeaderBlockCache;
use crate::wire::hpack::Fields;

/// Encoded header blocks that repeat because of one upstream.
#[derive(Default)]
pub(crate) struct UpstreamHeaderCaches {
    /// Requests to the driver.
    pub(crate) requests: HeaderBlockCache,
    /// Response heads to the client.
    pub(crate) responses: ResponseHeaderCache,
    /// Trailers to the client.
    pub(crate) trailers: ResponseHeaderCache,
}

/// Response header blocks with equal fields, and their parsed status.
#[derive(Default)]
pub(crate) struct ResponseHeaderCache {
    pub(crate) cache: HeaderBlockCache,
    last: Option<(Rc<Fields>, ResponseStatus)>,
}

impl ResponseHeaderCache {
    /// The gRPC status of a header block.
    pub(crate) fn status_of(&mut self, fields: &Rc<Fields>) -> ResponseStatus {
        match &self.last {
            Some((last, response_status)) if Rc::ptr_eq(last, fields) => *response_status,
            Some(_) | None => {
                let response_status = status::read(fields);
                self.last = Some((Rc::clone(fields), response_status));
                response_status
            }
        }
    }
}
