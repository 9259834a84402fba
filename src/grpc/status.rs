//! Local replies as gRPC statuses, and the status of responses.
//!
//! Every refusal has `grpc-status-details-bin` (google.rpc.Status): PySpark shows its message
//! instead of a raw dump, and from 4.1 on respects its RetryInfo.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sconce_filters::{Code, Refusal};

use crate::grpc::protobuf::{put_number, put_octets};
use crate::wire::hpack::{Fields, Indexing, Text};

/// Maximum length of a sent message, in octets; longer ones are truncated.
const MESSAGE_MAX: usize = 1_024;

/// The head of a trailers-only response.
#[must_use]
pub fn trailers_only(refusal: &Refusal) -> Fields {
    let mut fields = Fields::default();
    fields.push(b":status", b"200", Indexing::Indexed);
    fields.push(b"content-type", b"application/grpc", Indexing::Indexed);
    push_status(&mut fields, refusal);
    fields
}

/// The trailers of a response that has started.
#[must_use]
pub fn trailers(refusal: &Refusal) -> Fields {
    let mut fields = Fields::default();
    push_status(&mut fields, refusal);
    fields
}

/// The response to a request that is not gRPC.
#[must_use]
pub fn unsupported_media_type() -> Fields {
    let mut fields = Fields::default();
    fields.push(b":status", b"415", Indexing::Indexed);
    fields.push(b"content-length", b"0", Indexing::Without);
    fields.push(b"accept-post", b"application/grpc", Indexing::Without);
    fields
}

/// The end of a successful response: trailers, or a trailers-only response.
#[must_use]
pub fn ok_status(has_begun: bool) -> Fields {
    let mut fields = Fields::default();
    if !has_begun {
        fields.push(b":status", b"200", Indexing::Indexed);
        fields.push(b"content-type", b"application/grpc", Indexing::Indexed);
    }
    fields.push(b"grpc-status", b"0", Indexing::Indexed);
    fields
}

fn push_status(fields: &mut Fields, refusal: &Refusal) {
    let message = truncated(&refusal.message);
    let number = refusal.code.number().to_string();
    let details = STANDARD_NO_PAD.encode(details(refusal, message));
    fields.push(b"grpc-status", number.as_bytes(), Indexing::Indexed);
    fields.push(b"grpc-message", percent_encoded(message).as_bytes(), Indexing::Without);
    fields.push(b"grpc-status-details-bin", details.as_bytes(), Indexing::Without);
}

fn truncated(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_MAX)).unwrap_or_default()
}

/// Percent-encodes `%` and all but printable ASCII (gRPC over HTTP/2, "Responses").
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for octet in message.bytes() {
        if matches!(octet, b' '..=b'~') && octet != b'%' {
            encoded.push(char::from(octet));
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
    }
    encoded
}

/// google.rpc.Status: code 1, message 2, details 3 (google.protobuf.Any).
fn details(refusal: &Refusal, message: &str) -> Vec<u8> {
    let mut status = Vec::new();
    put_number(&mut status, 1, u64::from(refusal.code.number()));
    put_octets(&mut status, 2, message.as_bytes());
    if let Some(wait) = refusal.retry_after {
        let mut any = Vec::new();
        put_octets(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_octets(&mut any, 2, &retry_info(wait));
        put_octets(&mut status, 3, &any);
    }
    status
}

/// google.rpc.RetryInfo: retry_delay 1 (google.protobuf.Duration: seconds 1, nanos 2).
fn retry_info(wait: Duration) -> Vec<u8> {
    let mut delay = Vec::new();
    put_number(&mut delay, 1, wait.as_secs());
    put_number(&mut delay, 2, u64::from(wait.subsec_nanos()));
    let mut info = Vec::new();
    put_octets(&mut info, 1, &delay);
    info
}

/// The gRPC code for an HTTP status (gRPC, "HTTP to gRPC Status Code Mapping").
#[must_use]
pub const fn from_http(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// The gRPC code for an RST_STREAM (gRPC over HTTP/2, "Errors").
#[must_use]
pub const fn from_reset(code: crate::wire::error::ErrorCode) -> Code {
    use crate::wire::error::ErrorCode as Reset;
    match code {
        Reset::RefusedStream => Code::Unavailable,
        Reset::Cancel => Code::Cancelled,
        Reset::EnhanceYourCalm => Code::ResourceExhausted,
        Reset::InadequateSecurity => Code::PermissionDenied,
        Reset::NoError
        | Reset::ProtocolError
        | Reset::InternalError
        | Reset::FlowControlError
        | Reset::SettingsTimeout
        | Reset::StreamClosed
        | Reset::FrameSizeError
        | Reset::CompressionError
        | Reset::ConnectError
        | Reset::Http11Required
        | Reset::Other(_) => Code::Internal,
    }
}

/// Maximum number of digits of a status; all clients parse numbers of this length.
const DIGITS_MAX: usize = 9;

/// The gRPC status of a response head or of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseStatus {
    /// Whether the `content-type` is gRPC.
    pub is_grpc: bool,
    /// The value of `grpc-status`, if it is present and unambiguous.
    pub code: Option<Code>,
}

/// Parses a response head or trailers.
#[must_use]
pub fn read(fields: &Fields) -> ResponseStatus {
    let mut meaning = ResponseStatus { is_grpc: false, code: None };
    if let Some((_, kind)) = fields.named(b"content-type").next() {
        meaning.is_grpc = kind.value.prefix(&mut [0; 32]).starts_with(b"application/grpc");
    }
    let mut statuses = fields.named(b"grpc-status");
    if let (Some((_, status)), None) = (statuses.next(), statuses.next()) {
        meaning.code = parse_code(status.value).map(Code::from_number);
    }
    meaning
}

/// Whether a driver rejects sconce's credential, or requires one (Spark 4.0 and later,
/// `PreSharedKeyAuthenticationInterceptor`). Only the operators can fix this, not the caller.
#[must_use]
pub fn refuses_credential(fields: &Fields) -> bool {
    let says = |text: &[u8]| {
        fields.named(b"grpc-message").next().is_some_and(|(_, message)| message.value.equals(text))
    };
    read(fields).code == Some(Code::Unauthenticated)
        && (says(b"Invalid authentication token") || says(b"No authentication token provided"))
}

fn parse_code(value: Text<'_>) -> Option<u64> {
    let mut scratch = [0; DIGITS_MAX + 1];
    let digits = std::str::from_utf8(value.prefix(&mut scratch)).ok()?;
    if digits.len() > DIGITS_MAX || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    if digits.bytes().all(|octet| octet.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(fields: &Fields, name: &str) -> String {
        let field = fields.iter().find(|field| field.name == name.as_bytes()).unwrap();
        String::from_utf8(field.value.decode(&mut Vec::new()).to_vec()).unwrap()
    }

    #[test]
    fn a_refusal_is_trailers_only_with_details() {
        let refusal = Refusal::new(Code::Unavailable, "x", "100 % über")
            .with_retry_after(Duration::from_millis(1_500));
        let fields = trailers_only(&refusal);
        assert_eq!(value(&fields, ":status"), "200");
        assert_eq!(value(&fields, "grpc-status"), "14");
        assert_eq!(value(&fields, "grpc-message"), "100 %25 %C3%BCber");
        let details = STANDARD_NO_PAD.decode(value(&fields, "grpc-status-details-bin")).unwrap();
        let mut wanted = vec![0x08, 14, 0x12, 11];
        wanted.extend("100 % über".as_bytes());
        assert_eq!(details[..wanted.len()], wanted);
        assert!(details.ends_with(&[0x0a, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]));
        let meaning = ResponseStatus { is_grpc: true, code: Some(Code::Unavailable) };
        assert_eq!(read(&fields), meaning);
    }

    #[test]
    fn a_status_is_read_if_it_is_a_number() {
        for (status, code) in [
            ("0", Some(Code::Ok)),
            ("14", Some(Code::Unavailable)),
            ("99", Some(Code::Unknown)),
            ("999999999", Some(Code::Unknown)),
            ("4294967296", None),
            ("99999999999999999999", None),
            ("00", None),
            ("05", None),
            ("0, 0", None),
            (" 0", None),
            ("-1", None),
            ("", None),
            ("OK", None),
        ] {
            let mut fields = Fields::default();
            fields.push(b"grpc-status", status.as_bytes(), Indexing::Without);
            assert_eq!(read(&fields).code, code, "{status}");
        }
    }

    #[test]
    fn a_repeated_status_is_ambiguous() {
        for (one, two) in [("0", "13"), ("13", "0"), ("0", "0")] {
            let mut fields = Fields::default();
            fields.push(b"grpc-status", one.as_bytes(), Indexing::Without);
            fields.push(b"grpc-message", b"", Indexing::Without);
            fields.push(b"grpc-status", two.as_bytes(), Indexing::Without);
            assert_eq!(read(&fields).code, None, "{one} {two}");
        }
    }

    #[test]
    fn the_rejection_of_the_driver_credential_is_detected_by_its_message() {
        let says = |code: &str, message: &str| {
            let mut fields = Fields::default();
            fields.push(b"grpc-status", code.as_bytes(), Indexing::Without);
            fields.push(b"grpc-message", message.as_bytes(), Indexing::Without);
            refuses_credential(&fields)
        };
        assert!(says("16", "Invalid authentication token"));
        assert!(says("16", "No authentication token provided"));
        assert!(!says("13", "Invalid authentication token"));
        assert!(!says("16", "the catalog's token has expired"));
    }

    #[test]
    fn a_long_message_is_truncated_at_a_character() {
        let fields = trailers(&Refusal::new(Code::Internal, "x", "ü".repeat(2_000)));
        assert_eq!(value(&fields, "grpc-message"), "%C3%BC".repeat(512));
    }
}
