//! Refusals: what is wrong with a request's messages, and what a person can do about it.
//!
//! Nothing of what a client sent is repeated here.

use sconce_filters::{Code, Refusal};

use crate::grpc::envelope::MalformedMessage;

const MALFORMED: &str = "envelope.malformed";
const COMPRESSED: &str = "envelope.compressed";
const INFLATED: &str = "envelope.inflated";

pub(super) fn malformed(why: MalformedMessage) -> Refusal {
    let message = format!(
        "a request message is not sound protobuf: {why}; use an unmodified Spark Connect client, \
         or mend what builds its requests"
    );
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}

/// The client ended its side in the middle of a message.
pub(super) fn truncated() -> Refusal {
    let message = "the request ends in the middle of a message; send its messages whole";
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}

pub(super) fn repeated() -> Refusal {
    let message = "a request message has user_context more than once; send it once, or not at all";
    Refusal::new(Code::InvalidArgument, "envelope.repeated", message)
}

pub(super) fn extensions_present() -> Refusal {
    let message = "extensions of user_context are not taken here; leave them out of the request";
    Refusal::new(Code::InvalidArgument, "envelope.extensions", message)
}

pub(super) fn unknown_field() -> Refusal {
    let message = "user_context has a field other than user_id and user_name, which is not taken \
                   here; use an unmodified Spark Connect client, or ask the operators to set \
                   stamp.unknown to pass";
    Refusal::new(Code::InvalidArgument, "envelope.unknown", message)
}

/// A stamped message that no length prefix could tell of.
pub(super) fn too_long() -> Refusal {
    let message = "a request message is too long for gRPC; send less at once";
    Refusal::new(Code::ResourceExhausted, "envelope.length", message)
}

/// A flag octet that gRPC does not define.
pub(super) fn invalid_flag() -> Refusal {
    let message = "a message begins with neither 0 nor 1 (its compressed flag); use a gRPC client";
    Refusal::new(Code::Internal, COMPRESSED, message)
}

/// gRPC, `doc/compression.md`: flagged messages of a request without an encoding are INTERNAL.
pub(super) fn unnamed_encoding() -> Refusal {
    let message = "a message is flagged as compressed, but grpc-encoding does not say how; send \
                   grpc-encoding: gzip or deflate, or messages that are not compressed";
    Refusal::new(Code::Internal, COMPRESSED, message)
}

/// gRPC, `doc/compression.md`: encodings that a server does not know are UNIMPLEMENTED.
pub(super) fn unknown_encoding() -> Refusal {
    let message = "the grpc-encoding of this request is not known here; use gzip, deflate or \
                   identity";
    Refusal::new(Code::Unimplemented, COMPRESSED, message)
}

pub(super) fn compressed() -> Refusal {
    let message = "compressed requests are not taken here; switch off the compression of gRPC in \
                   the client's channel options";
    Refusal::new(Code::Unimplemented, COMPRESSED, message)
}

pub(super) fn too_large(octets_max: usize) -> Refusal {
    let message = format!(
        "a compressed message has more than {octets_max} octets, before inflating or after; send \
         less at once, or switch off the compression of gRPC in the client's channel options"
    );
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// Too much that was inflated waits already.
pub(super) fn over_connection_limit() -> Refusal {
    let message = "too many compressed messages of this connection wait for their drivers; send \
                   less at once, or switch off the compression of gRPC in the client's channel \
                   options";
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// Too much that was inflated for others waits already.
pub(super) fn over_worker_limit() -> Refusal {
    let message = "too many compressed messages of other clients wait for their drivers here; try \
                   again later, or switch off the compression of gRPC in the client's channel \
                   options";
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// It does not inflate, or something follows it.
pub(super) fn invalid_compression() -> Refusal {
    let message = "a compressed message is not what grpc-encoding says, or not whole; switch off \
                   the compression of gRPC in the client's channel options";
    Refusal::new(Code::InvalidArgument, INFLATED, message)
}

/// Something was asked after a refusal.
pub(super) fn already_refused() -> Refusal {
    let message = "this request was refused already; send a new one";
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}
