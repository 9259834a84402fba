//! Heads: the rules for header lists (RFC 9113, 8.2 and 8.3).
//!
//! Nothing that breaks one of them may be forwarded: what is malformed for one recipient is an
//! attack on the next.

use crate::wire::fault::{Code, StreamFault};
use crate::wire::hpack::{Field, Fields, Text};

/// What a head promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The value of `content-length`.
    pub content_length: Option<u64>,
    /// The value of `:status`; 0 for requests and trailers.
    pub status: u16,
}

const fn malformed(what: &'static str) -> StreamFault {
    StreamFault::new(Code::ProtocolError, what)
}

/// Checks a request's head (RFC 9113, 8.3.1).
///
/// # Errors
/// What is malformed; always a stream error PROTOCOL_ERROR.
pub fn request(fields: &Fields) -> Result<Promise, StreamFault> {
    let mut seen = Pseudo::default();
    let mut promise = Promise::default();
    let mut authority = None;
    let mut hosts = 0_u8;
    for field in fields.iter() {
        if field.name.first() == Some(&b':') {
            seen.request(&field)?;
            if field.name == b":authority" {
                authority = Some(field.value);
            }
            continue;
        }
        seen.regular = true;
        regular(&field, &mut promise)?;
        if field.name == b"host" {
            hosts = hosts.saturating_add(1);
            if !is_authority(field.value) {
                return Err(malformed("host is not host and port"));
            }
        }
    }
    if !(seen.method && seen.scheme && seen.path) {
        return Err(malformed("a pseudo-header field is missing"));
    }
    if seen.connect {
        return Err(malformed("CONNECT has neither :scheme nor :path"));
    }
    if !seen.authority && hosts == 0 {
        return Err(malformed("neither :authority nor host"));
    }
    if hosts > 0 {
        same_host(fields, authority.is_some(), hosts)?;
    }
    Ok(promise)
}

fn same_host(fields: &Fields, has_authority: bool, hosts: u8) -> Result<(), StreamFault> {
    let (mut host, mut authority) = (Vec::new(), Vec::new());
    for field in fields.iter() {
        let into = match field.name {
            b"host" => &mut host,
            b":authority" => &mut authority,
            _ => continue,
        };
        let mut scratch = Vec::new();
        *into = field.value.decode(&mut scratch).to_ascii_lowercase();
    }
    if hosts > 1 || (has_authority && host != authority) {
        return Err(malformed("host differs from :authority"));
    }
    Ok(())
}

/// Checks an answer's head (RFC 9113, 8.3.2).
///
/// # Errors
/// What is malformed; always a stream error PROTOCOL_ERROR.
pub fn answer(fields: &Fields) -> Result<Promise, StreamFault> {
    let mut promise = Promise::default();
    let mut regular_seen = false;
    for field in fields.iter() {
        if field.name.first() == Some(&b':') {
            if field.name != b":status" || regular_seen || promise.status != 0 {
                return Err(malformed("a pseudo-header field that answers do not have there"));
            }
            promise.status = status(&field).ok_or(malformed(":status is no number"))?;
        } else {
            regular_seen = true;
            regular(&field, &mut promise)?;
        }
    }
    if promise.status == 0 {
        return Err(malformed(":status is missing"));
    }
    Ok(promise)
}

/// Checks trailers (RFC 9113, 8.1): no pseudo-header fields at all.
///
/// # Errors
/// What is malformed; always a stream error PROTOCOL_ERROR.
pub fn trailers(fields: &Fields) -> Result<(), StreamFault> {
    let mut promise = Promise::default();
    for field in fields.iter() {
        if field.name.first() == Some(&b':') {
            return Err(malformed("a pseudo-header field in trailers"));
        }
        regular(&field, &mut promise)?;
    }
    Ok(())
}

fn status(field: &Field<'_>) -> Option<u16> {
    let mut scratch = [0; 4];
    let text = field.value.prefix(&mut scratch);
    if text.len() != 3 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u16 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (100..=999).contains(&number).then_some(number)
}

#[derive(Default)]
struct Pseudo {
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
    connect: bool,
    regular: bool,
}

impl Pseudo {
    fn request(&mut self, field: &Field<'_>) -> Result<(), StreamFault> {
        let seen = match field.name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            _ => return Err(malformed("a pseudo-header field that requests do not have")),
        };
        if *seen || self.regular {
            return Err(malformed("a pseudo-header field twice, or after the others"));
        }
        *seen = true;
        if !field.value.is_clean() {
            return Err(malformed("a value has a forbidden octet"));
        }
        if field.value.decoded_len() == 0 {
            return Err(malformed("a pseudo-header field is empty"));
        }
        match field.name {
            b":method" => self.connect = field.value.equals(b"CONNECT"),
            b":scheme" if !is_scheme(field.value) => {
                return Err(malformed(":scheme is not the scheme of a URI"));
            }
            b":authority" if !is_authority(field.value) => {
                return Err(malformed(":authority is not host and port"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A letter, then letters, digits and three signs (RFC 3986, 3.1).
fn is_scheme(value: Text<'_>) -> bool {
    let mut is_first = true;
    !value.has(|octet| {
        let may_follow = matches!(octet, b'0'..=b'9' | b'+' | b'-' | b'.');
        let fits = octet.is_ascii_alphabetic() || (may_follow && !is_first);
        is_first = false;
        !fits
    })
}

/// How far an authority has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Name,
    /// Between the brackets of an address (RFC 3986, 3.2.2).
    Inside,
    Closed,
    Port,
}

/// A host that is not empty, and a port if there is one; no user (RFC 9113, 8.3.1).
fn is_authority(value: Text<'_>) -> bool {
    let mut place = Place::Start;
    let is_broken = value.has(|octet| {
        let next = match (place, octet) {
            (_, b'@' | b'/' | b'?' | b'#' | b'\\' | 0..=b' ' | 0x7f..) => None,
            (Place::Start, b'[') => Some(Place::Inside),
            (Place::Inside, b']') => Some(Place::Closed),
            (_, b'[' | b']') => None,
            (Place::Inside, _) => Some(Place::Inside),
            (Place::Name | Place::Closed, b':') => Some(Place::Port),
            (Place::Start | Place::Port, b':') | (Place::Closed, _) => None,
            (Place::Start | Place::Name, _) => Some(Place::Name),
            (Place::Port, _) => Some(Place::Port),
        };
        place = next.unwrap_or(place);
        next.is_none()
    });
    !is_broken && !matches!(place, Place::Start | Place::Inside)
}

fn regular(field: &Field<'_>, promise: &mut Promise) -> Result<(), StreamFault> {
    if field.name.is_empty() || !field.name.iter().all(|octet| is_name(*octet)) {
        return Err(malformed("a field name has a forbidden octet"));
    }
    if !field.value.is_clean() {
        return Err(malformed("a value has a forbidden octet"));
    }
    match field.name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(malformed("a connection-specific field"))
        }
        b"te" if !field.value.equals(b"trailers") => Err(malformed("te other than trailers")),
        b"content-length" => {
            let length = content_length(field).ok_or(malformed("content-length is no number"))?;
            if promise.content_length.is_some_and(|before| before != length) {
                return Err(malformed("content-length twice"));
            }
            promise.content_length = Some(length);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn content_length(field: &Field<'_>) -> Option<u64> {
    let mut scratch = Vec::new();
    let text = field.value.decode(&mut scratch);
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Field names are tokens (RFC 9110, 5.6.2) without upper case (RFC 9113, 8.2.1).
const fn is_name(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::Indexing;

    fn list(fields: &[(&str, &str)]) -> Fields {
        let mut list = Fields::default();
        for (name, value) in fields {
            list.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
        }
        list
    }

    fn good_and(more: &[(&str, &str)]) -> Fields {
        let mut all =
            vec![(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "h")];
        all.extend_from_slice(more);
        list(&all)
    }

    #[test]
    fn a_good_request_passes() {
        let fields = good_and(&[("te", "trailers"), ("content-length", "7"), ("host", "H")]);
        assert_eq!(request(&fields).unwrap().content_length, Some(7));
    }

    #[test]
    fn every_malformed_request_is_refused() {
        for more in [
            ("Upper", "x"),
            ("b lank", "x"),
            ("", "x"),
            ("caf\u{e9}", "x"),
            ("x", "a\rb"),
            ("x", "a\nb"),
            ("x", "a\0b"),
            ("x", " a"),
            ("x", "a\t"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("te", "gzip"),
            (":path", "/b"),
            (":protocol", "ws"),
            ("content-length", "+1"),
            ("content-length", "-1"),
            ("content-length", ""),
            ("host", "other"),
            ("x:y", "z"),
        ] {
            assert!(request(&good_and(&[more])).is_err(), "{more:?} passed");
        }
        let twice = good_and(&[("content-length", "1"), ("content-length", "2")]);
        assert!(request(&twice).is_err());
    }

    #[test]
    fn pseudo_header_fields_come_first_once_and_all() {
        let bad: [&[(&str, &str)]; 10] = [
            &[(":method", "POST"), (":scheme", "http"), (":path", "/")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a/b")],
            &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            &[(":method", "POST"), (":scheme", "http")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "")],
            &[(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", "/")],
            &[(":method", "POST"), ("x", "y"), (":scheme", "http"), (":path", "/")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":status", "200")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "u@h")],
        ];
        for fields in bad {
            assert!(request(&list(fields)).is_err(), "{fields:?} passed");
        }
    }

    fn with(scheme: &str, authority: &str) -> [Result<Promise, StreamFault>; 2] {
        ["host", ":authority"].map(|name| {
            let fields =
                [(":method", "POST"), (":path", "/"), (":scheme", scheme), (name, authority)];
            request(&list(&fields))
        })
    }

    #[test]
    fn a_scheme_and_an_authority_are_spelt_as_in_a_uri() {
        for scheme in ["http", "HTTPS", "grpc+tls", "a.b-2"] {
            assert!(with(scheme, "h").iter().all(Result::is_ok), "{scheme}");
        }
        for scheme in ["java script", "4ttp", "+http", "http:", "ht_tp", "ht\u{e9}"] {
            assert!(with(scheme, "h").iter().all(Result::is_err), "{scheme}");
        }
        for authority in ["h", "h:80", "h:", "h:https", "127.0.0.1:9", "[::1]", "[::1]:9", "%5B"] {
            assert!(with("http", authority).iter().all(Result::is_ok), "{authority}");
        }
        for authority in [
            "a:b:c",
            "::1",
            ":80",
            "[::1",
            "::1]",
            "[::1]9",
            "[[::1]]",
            "a[::1]",
            "[::1]:9:9",
            "[::1]]",
            "a:[",
            "u@h",
            "h/",
            "a b",
            "",
        ] {
            assert!(with("http", authority).iter().all(Result::is_err), "{authority}");
        }
    }

    #[test]
    fn an_answer_has_one_status_of_three_digits() {
        assert_eq!(answer(&list(&[(":status", "200")])).unwrap().status, 200);
        let bad: [&[(&str, &str)]; 6] = [
            &[],
            &[(":status", "20")],
            &[(":status", "2e2")],
            &[(":status", "200"), (":status", "200")],
            &[("x", "y"), (":status", "200")],
            &[(":status", "200"), (":path", "/")],
        ];
        for fields in bad {
            assert!(answer(&list(fields)).is_err(), "{fields:?} passed");
        }
    }

    #[test]
    fn trailers_have_no_pseudo_header_fields() {
        assert!(trailers(&list(&[("grpc-status", "0")])).is_ok());
        assert!(trailers(&list(&[(":status", "200")])).is_err());
    }
}
