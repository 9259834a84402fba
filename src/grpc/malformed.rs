//! Messages for malformed heads, and the status of malformed responses.
//!
//! Values are never shown, since they may be credentials.

use sconce_filters::{Code, Refusal};

use crate::grpc::status;
use crate::wire::head::{self, MalformedHead, Rule};
use crate::wire::hpack::{Field, Fields, Indexing};

/// Maximum number of shown characters of a field name.
const NAME_MAX: usize = 64;

/// The refusal of a malformed request.
#[must_use]
pub fn refusal(fields: &Fields, error: MalformedHead) -> Refusal {
    let is_credential = field(fields, error).is_some_and(|field| is_credential(field.name));
    let code = if is_credential { Code::Unauthenticated } else { Code::InvalidArgument };
    let description = describe(fields, error);
    let help = if error.rule == Rule::Space { ": remove it" } else { "" };
    Refusal::new(code, error.rule.label(), format!("{description}{help}"))
}

/// The error with the name of the field, for people.
#[must_use]
pub fn describe(fields: &Fields, error: MalformedHead) -> String {
    let name = name(fields, error).unwrap_or_default();
    match error.rule {
        Rule::Name => match field(fields, error) {
            Some(field) if field.name.is_empty() => "a field name is empty".to_owned(),
            Some(field) if field.name.iter().any(u8::is_ascii_uppercase) => {
                format!("the field name '{name}' has an upper-case letter")
            }
            Some(_) | None => format!("the field name '{name}' has an invalid character"),
        },
        Rule::Octet => format!("the value of {name} contains NUL, CR or LF"),
        Rule::Space => describe_blank(fields, error, &name),
        Rule::Connection => {
            format!("{name} is a connection field of HTTP/1.1, which HTTP/2 does not allow")
        }
        Rule::Te => "te must be 'trailers'".to_owned(),
        Rule::ContentLength => "content-length is not one number".to_owned(),
        Rule::BodyLength => "the length of the body differs from content-length".to_owned(),
        Rule::Pseudo => format!("the pseudo-header field {name} is undefined or misplaced"),
        Rule::PseudoOrder => format!("{name} is repeated or follows a regular field"),
        Rule::PseudoEmpty => format!("{name} is empty"),
        Rule::Authority => format!("{name} is not a host with an optional port"),
        Rule::Host => "host differs from :authority or is repeated".to_owned(),
        Rule::PseudoMissing(name) => format!("{name} is missing"),
        Rule::Connect | Rule::Scheme | Rule::AuthorityMissing | Rule::Status | Rule::Priority => {
            error.rule.description().to_owned()
        }
    }
}

/// The name of the invalid field, escaped and shortened.
#[must_use]
pub fn name(fields: &Fields, error: MalformedHead) -> Option<String> {
    let name = String::from_utf8_lossy(field(fields, error)?.name);
    Some(name.escape_debug().take(NAME_MAX).collect())
}

fn field(fields: &Fields, error: MalformedHead) -> Option<Field<'_>> {
    fields.iter().nth(error.field_index?)
}

fn is_credential(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"authentication")
}

fn describe_blank(fields: &Fields, error: MalformedHead, name: &str) -> String {
    let Some(field) = field(fields, error) else { return error.rule.description().to_owned() };
    let mut scratch = Vec::new();
    let value = field.value.decode(&mut scratch);
    let blank = |octet: Option<&u8>| match octet {
        Some(b' ') => Some("space"),
        Some(b'\t') => Some("tab"),
        Some(_) | None => None,
    };
    match (blank(value.last()), blank(value.first())) {
        (Some(blank), _) if is_credential(field.name) => format!("the token ends with a {blank}"),
        (Some(blank), _) => format!("the value of {name} ends with a {blank}"),
        (None, Some(blank)) => format!("the value of {name} begins with a {blank}"),
        (None, None) => error.rule.description().to_owned(),
    }
}

/// The status of a malformed response: its `grpc-status`, the valid beginning of its message, and
/// its details. `None`: the status is missing or ambiguous, or it is OK, since a malformed response
/// must not end like a success. `size_max` is the client's limit for the list.
#[must_use]
pub fn recover_status(fields: &Fields, has_begun: bool, size_max: usize) -> Option<(Code, Fields)> {
    let code = status::read(fields).code.filter(|code| *code != Code::Ok)?;
    if fields.iter().filter(|field| may_be_read_as_status(field.name)).count() != 1 {
        return None;
    }
    let mut own = Fields::default();
    if !has_begun {
        own.push(b":status", b"200", Indexing::Indexed);
        own.push(b"content-type", b"application/grpc", Indexing::Indexed);
    }
    own.push_field(single_field(fields, b"grpc-status")?);
    if let Some(message) = single_field(fields, b"grpc-message") {
        let mut scratch = Vec::new();
        let value = message.value.decode(&mut scratch);
        let forbidden = value.iter().position(|octet| matches!(octet, 0 | b'\r' | b'\n'));
        let clean = value.get(..forbidden.unwrap_or(value.len())).unwrap_or_default();
        own.push(b"grpc-message", clean, Indexing::Without);
    }
    if let Some(details) = single_field(fields, b"grpc-status-details-bin")
        && details.value.is_clean()
    {
        own.push_field(details);
    }
    let own = head::repaired(&own, true, size_max).unwrap_or(own);
    Some((code, own))
}

/// The only field with this name.
fn single_field<'f>(fields: &'f Fields, name: &[u8]) -> Option<Field<'f>> {
    let mut all = fields.named(name);
    match (all.next(), all.next()) {
        (Some((_, field)), None) => Some(field),
        (None | Some(_), _) => None,
    }
}

/// Whether a lenient parser could treat the name as `grpc-status`.
fn may_be_read_as_status(name: &[u8]) -> bool {
    let letters = name.iter().filter(|octet| octet.is_ascii_alphabetic());
    letters.map(u8::to_ascii_lowercase).eq(b"grpcstatus".iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&str, &str)]) -> Fields {
        let mut list = Fields::default();
        for (name, value) in fields {
            list.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
        }
        list
    }

    fn refused(name: &str, value: &str) -> Refusal {
        let head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "h")];
        let fields = list(&[&head[..], &[(name, value)]].concat());
        refusal(&fields, head::check_request(&fields).unwrap_err())
    }

    #[test]
    fn a_refusal_names_the_field_and_the_rule_and_no_value() {
        for (name, value, label, message) in [
            ("x-team", "a ", "space", "the value of x-team ends with a space: remove it"),
            ("x-team", "a\t", "space", "the value of x-team ends with a tab: remove it"),
            ("x-team", " a", "space", "the value of x-team begins with a space: remove it"),
            ("authorization", "Bearer a ", "space", "the token ends with a space: remove it"),
            ("x-team", "a\rb", "octet", "the value of x-team contains NUL, CR or LF"),
            ("X-Team", "a", "name", "the field name 'X-Team' has an upper-case letter"),
            ("x\nteam", "a", "name", "the field name 'x\\nteam' has an invalid character"),
            ("te", "Trailers", "te", "te must be 'trailers'"),
            ("host", "a/b", "authority", "host is not a host with an optional port"),
            ("host", "other", "host", "host differs from :authority or is repeated"),
        ] {
            let refusal = refused(name, value);
            assert_eq!(refusal.message, message);
            assert_eq!(refusal.label, format!("malformed.{label}"));
        }
        let long = refused(&"X".repeat(9_000), "a").message;
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn a_malformed_token_is_unauthenticated_and_any_other_field_an_invalid_argument() {
        for name in ["authorization", "authentication"] {
            assert_eq!(refused(name, "Bearer a ").code, Code::Unauthenticated, "{name}");
        }
        assert_eq!(refused("x-team", "a ").code, Code::InvalidArgument);
    }

    fn own(fields: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let (_, own) = recover_status(&list(fields), true, usize::MAX)?;
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let value = |field: &Field<'_>| text(field.value.decode(&mut Vec::new()));
        Some(own.iter().map(|field| (text(field.name), value(&field))).collect())
    }

    #[test]
    fn the_status_of_a_driver_is_kept_with_the_valid_beginning_of_its_message() {
        let fields = [("grpc-status", "13"), ("grpc-message", "no \r\nsuch"), ("x", "a\0")];
        let wanted = [("grpc-status", "13"), ("grpc-message", "no%20")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(own(&fields).unwrap(), wanted);
        let (_, own) = recover_status(&list(&fields), false, usize::MAX).unwrap();
        let names: Vec<_> = own.iter().map(|field| field.name.to_vec()).collect();
        assert_eq!(names[..2], [&b":status"[..], b"content-type"]);
    }

    #[test]
    fn a_status_that_is_ok_missing_or_ambiguous_is_not_kept() {
        for fields in [
            &[("grpc-status", "0"), ("x", "a\0")][..],
            &[("grpc-message", "a\0")],
            &[("grpc-status", "13"), ("grpc-status", "13")],
            &[("grpc-status", "13"), ("Grpc-Status", "0")],
            &[("grpc-status", "13"), ("grpc_status ", "0")],
            &[("grpc-status", "1\r3")],
            &[("grpc-status", "013")],
        ] {
            assert_eq!(own(fields), None, "{fields:?}");
        }
    }
}
