//! Request: a request's header list, parsed once and shared by equal requests in a row.

use std::rc::Rc;

use sconce_filters::Method;

use crate::grpc::forward;
use crate::grpc::request::{Request, RequestHead};
use crate::grpc::user_context::Encoding;
use crate::wire::hpack::Fields;

/// A parsed request. Equal requests in a row share one.
pub(crate) struct ParsedRequest {
    pub(crate) head: Rc<RequestHead>,
    pub(crate) request: Request,
    pub(crate) label: Method,
    /// Size of the forwarded header list in octets, as HPACK counts (RFC 7541, 4.1).
    pub(crate) size: usize,
    /// The compression of its messages.
    pub(crate) encoding: Encoding,
}

impl ParsedRequest {
    pub(crate) fn new(fields: Rc<Fields>, request: Request) -> Self {
        let label = request.method;
        let (size, encoding) = (forward::size(&fields), Encoding::of_request(&fields));
        Self { head: Rc::new(RequestHead::new(fields)), request, label, size, encoding }
    }
}
