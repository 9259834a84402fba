//! What came back on one stream, and what gRPC makes of it.

use std::fmt;

use super::fields::{self, List};
use super::frame;

#[derive(Clone, Default)]
pub struct Reply {
    /// Header blocks in order: 1xx, the answer, trailers.
    pub heads: Vec<List>,
    pub body: Vec<u8>,
    pub frames: usize,
    pub ended: bool,
    pub reset: Option<u32>,
    /// What was granted less what was used, beyond the initial window.
    pub allowance: i64,
}

impl Reply {
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }

    /// No final answer yet: nothing, or 1xx only.
    pub fn is_opening(&self) -> bool {
        self.heads
            .iter()
            .all(|head| fields::find(head, ":status").is_some_and(|s| s.starts_with('1')))
    }

    /// A field of the last block.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.heads.last().and_then(|head| fields::find(head, name))
    }

    pub fn http_status(&self) -> Option<&str> {
        self.heads
            .iter()
            .filter_map(|head| fields::find(head, ":status"))
            .find(|status| !status.starts_with('1'))
    }

    /// The gRPC status, if the stream ended with one and was not reset before.
    pub fn status(&self) -> Option<u32> {
        if !self.ended {
            return None;
        }
        self.last("grpc-status")?.parse().ok()
    }

    pub fn message(&self) -> String {
        self.last("grpc-message").map(fields::percent_decoded).unwrap_or_default()
    }

    /// The shape of a refusal: HTTP 200, one block with the status, the end.
    pub fn assert_trailers_only(&self) {
        assert!(self.ended && self.reset.is_none(), "no clean trailers-only answer: {self:?}");
        assert_eq!(self.heads.len(), 1, "more than one block: {self:?}");
        assert_eq!(self.http_status(), Some("200"), "not HTTP 200: {self:?}");
        assert!(self.status().is_some(), "no grpc-status: {self:?}");
        assert!(self.body.is_empty(), "a body: {self:?}");
        let kind = self.last("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/grpc"), "not application/grpc: {self:?}");
    }

    /// Success is told only by a driver that said so: anything but a clean end with status 0.
    pub fn assert_no_success(&self) {
        assert!(self.is_over(), "never ended: {self:?}");
        assert_ne!(self.reset, Some(frame::REFUSED_STREAM), "REFUSED_STREAM: {self:?}");
        assert_ne!(self.reset, Some(frame::NO_ERROR), "a reset without an error: {self:?}");
        if self.reset.is_none() {
            let status = self.status();
            assert!(status.is_some(), "a clean end without a status: {self:?}");
            assert_ne!(status, Some(0), "invented success: {self:?}");
        }
    }

    /// The refusal of a driver that gave no answer: gRPC-shaped, naming the cluster alone.
    pub fn assert_driver_failure(&self, cluster: &str, address: &str) {
        self.assert_trailers_only();
        self.assert_no_success();
        let message = self.message();
        assert!(message.contains(cluster), "the message does not name {cluster}: {self:?}");
        let port = address.rsplit(':').next().unwrap_or(address);
        assert!(
            !message.contains(address) && !message.contains("127.0.0.1") && !message.contains(port),
            "the message gives an address away: {self:?}"
        );
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = self.reset.map(frame::code_name);
        write!(out, "{{ended {}, reset {reset:?}, ", self.ended)?;
        write!(out, "body {} octets, heads {:?}}}", self.body.len(), self.heads)
    }
}
