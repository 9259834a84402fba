use std::rc::Rc;

use crate::grpc::forward;
use crate::grpc::request::{Request, RequestHead};
use crate::grpc::user_context::Encoding;
use crate::telemetry::MethodLabel;
use crate::wire::hpack::Fields;

/// A request that was read. Equal ones in a row share one.
pub(super) struct ParsedRequest {
    pub(super) head: Rc<RequestHead>,
    pub(super) request: Request,
    pub(super) label: MethodLabel,
    /// Octets of what travels on, as HPACK counts.
    pub(super) size: usize,
    /// How its messages are compressed.
    pub(super) encoding: Encoding,
}

impl ParsedRequest {
    pub(super) fn new(fields: Rc<Fields>, request: Request) -> Self {
        let label = MethodLabel::of_path(request.method.path().as_bytes());
        let (size, encoding) = (forward::size(&fields), Encoding::of_request(&fields));
        Self { head: Rc::new(RequestHead::new(fields)), request, label, size, encoding }
    }
}
