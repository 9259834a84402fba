//! The refusals of request messages. They do not repeat data of the client.

use sconce_filters::{Code, Refusal};

use crate::grpc::envelope::MalformedMessage;

const MALFORMED: &str = "envelope.malformed";
const COMPRESSED: &str = "envelope.compressed";
const INFLATED: &str = "envelope.inflated";

pub(super) fn malformed(error: MalformedMessage) -> Refusal {
    let message = format!(
        "a request message is malformed protobuf: {error}; use an unmodified Spark Connect client"
    );
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}

/// END_STREAM inside a message.
pub(super) fn truncated() -> Refusal {
    let message = "the request ends inside a message; send complete messages";
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}

pub(super) fn repeated() -> Refusal {
    let message = "a request message has user_context more than once; send it at most once";
    Refusal::new(Code::InvalidArgument, "envelope.repeated", message)
}

pub(super) fn extensions_present() -> Refusal {
    let message = "extensions in user_context are not allowed here; remove them from the request";
    Refusal::new(Code::InvalidArgument, "envelope.extensions", message)
}

pub(super) fn unknown_field() -> Refusal {
    let message = "user_context has a field other than user_id and user_name; use an unmodified \
                   Spark Connect client, or ask the operators to set user_context.unknown to pass";
    Refusal::new(Code::InvalidArgument, "envelope.unknown", message)
}

/// A message whose length with `user_context` does not fit into a prefix.
pub(super) fn too_long() -> Refusal {
    let message = "a request message is longer than 4 GiB, the limit of gRPC; send less at once";
    Refusal::new(Code::ResourceExhausted, "envelope.length", message)
}

/// A compressed flag that gRPC does not define.
pub(super) fn invalid_flag() -> Refusal {
    let message = "the compressed flag of a message is neither 0 nor 1; use a gRPC client";
    Refusal::new(Code::Internal, COMPRESSED, message)
}

/// gRPC, `doc/compression.md`: flagged messages of a request without an encoding are INTERNAL.
pub(super) fn unnamed_encoding() -> Refusal {
    let message = "a message is compressed, but the request has no grpc-encoding; send \
                   grpc-encoding: gzip or deflate, or uncompressed messages";
    Refusal::new(Code::Internal, COMPRESSED, message)
}

/// gRPC, `doc/compression.md`: unknown encodings are UNIMPLEMENTED.
pub(super) fn unknown_encoding() -> Refusal {
    let message = "the grpc-encoding of this request is not supported; use gzip, deflate or \
                   identity";
    Refusal::new(Code::Unimplemented, COMPRESSED, message)
}

pub(super) fn compressed() -> Refusal {
    let message = "compressed requests are not allowed here; disable gRPC compression in the \
                   client's channel options";
    Refusal::new(Code::Unimplemented, COMPRESSED, message)
}

pub(super) fn too_large(octets_max: usize) -> Refusal {
    let message = format!(
        "a compressed message is longer than {octets_max} bytes before or after inflating; send \
         less at once, or disable gRPC compression in the client's channel options"
    );
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// The inflated messages of the connection exceed their limit.
pub(super) fn over_connection_limit() -> Refusal {
    let message = "sconce is buffering too many compressed messages of this connection; send less \
                   at once, or disable gRPC compression in the client's channel options";
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// The inflated messages of the worker exceed their limit.
pub(super) fn over_worker_limit() -> Refusal {
    let message = "sconce is buffering too many compressed messages of other clients; retry \
                   later, or disable gRPC compression in the client's channel options";
    Refusal::new(Code::ResourceExhausted, INFLATED, message)
}

/// Inflating failed, or octets follow the compressed message.
pub(super) fn invalid_compression() -> Refusal {
    let message = "a compressed message does not match grpc-encoding, or is truncated; disable \
                   gRPC compression in the client's channel options";
    Refusal::new(Code::InvalidArgument, INFLATED, message)
}

/// A message after a refusal.
pub(super) fn already_refused() -> Refusal {
    let message = "this request is refused already; send a new one";
    Refusal::new(Code::InvalidArgument, MALFORMED, message)
}
