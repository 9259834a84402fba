//! Validation of field lists (RFC 9113, 8.2 and 8.3).
//!
//! A malformed list must not be forwarded, since the next recipient may interpret it differently
//! (request smuggling). Malformed requests are refused; responses are repaired if the repair is
//! unambiguous.

mod authority;
mod repair;
mod rule;
#[cfg(test)]
mod tests;

pub use repair::repaired;
pub use rule::{MalformedHead, Rule};

use crate::wire::head::authority::{is_authority, is_scheme, same_host};
use crate::wire::hpack::{Field, Fields};

/// The values of a head that affect the rest of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The value of `content-length`.
    pub content_length: Option<u64>,
    /// The value of `:status`; 0 for requests and trailers.
    pub status: u16,
}

/// Checks a request's head (RFC 9113, 8.3.1).
///
/// # Errors
/// The first broken rule.
pub fn check_request(fields: &Fields) -> Result<Promise, MalformedHead> {
    let mut seen = Pseudo::default();
    let mut promise = Promise::default();
    let mut last_host = None;
    let mut hosts = 0_u8;
    for (at, field) in fields.iter().enumerate() {
        if field.name.first() == Some(&b':') {
            seen.record(&field, at)?;
            continue;
        }
        seen.regular = true;
        check_regular(&field, at, &mut promise)?;
        if field.name == b"host" {
            hosts = hosts.saturating_add(1);
            last_host = Some(at);
            if !is_authority(field.value) {
                return Err(MalformedHead::at(Rule::Authority, at));
            }
        }
    }
    if seen.connect {
        return Err(MalformedHead::of(Rule::Connect));
    }
    if let Some(name) = seen.missing() {
        return Err(MalformedHead::of(Rule::PseudoMissing(name)));
    }
    if !seen.authority && hosts == 0 {
        return Err(MalformedHead::of(Rule::AuthorityMissing));
    }
    if hosts > 0 && !same_host(fields, seen.authority, hosts) {
        return Err(MalformedHead { rule: Rule::Host, field_index: last_host });
    }
    Ok(promise)
}

/// Checks a response head (RFC 9113, 8.3.2).
///
/// # Errors
/// The first broken rule.
pub fn check_response(fields: &Fields) -> Result<Promise, MalformedHead> {
    let mut promise = Promise::default();
    let mut regular_seen = false;
    for (at, field) in fields.iter().enumerate() {
        if field.name.first() == Some(&b':') {
            if field.name != b":status" {
                return Err(MalformedHead::at(Rule::Pseudo, at));
            }
            if regular_seen || promise.status != 0 {
                return Err(MalformedHead::at(Rule::PseudoOrder, at));
            }
            promise.status = parse_status(&field).ok_or(MalformedHead::at(Rule::Status, at))?;
        } else {
            regular_seen = true;
            check_regular(&field, at, &mut promise)?;
        }
    }
    if promise.status == 0 {
        return Err(MalformedHead::of(Rule::PseudoMissing(":status")));
    }
    Ok(promise)
}

/// Checks trailers (RFC 9113, 8.1): no pseudo-header fields at all.
///
/// # Errors
/// The first broken rule.
pub fn check_trailers(fields: &Fields) -> Result<(), MalformedHead> {
    let mut promise = Promise::default();
    for (at, field) in fields.iter().enumerate() {
        if field.name.first() == Some(&b':') {
            return Err(MalformedHead::at(Rule::Pseudo, at));
        }
        check_regular(&field, at, &mut promise)?;
    }
    Ok(())
}

fn parse_status(field: &Field<'_>) -> Option<u16> {
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
    /// The first missing pseudo-header field that is mandatory.
    fn missing(&self) -> Option<&'static str> {
        let all = [(self.method, ":method"), (self.scheme, ":scheme"), (self.path, ":path")];
        all.into_iter().find_map(|(is_there, name)| (!is_there).then_some(name))
    }

    fn record(&mut self, field: &Field<'_>, at: usize) -> Result<(), MalformedHead> {
        let seen = match field.name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            _ => return Err(MalformedHead::at(Rule::Pseudo, at)),
        };
        if *seen || self.regular {
            return Err(MalformedHead::at(Rule::PseudoOrder, at));
        }
        *seen = true;
        check_value(field, at)?;
        if field.value.decoded_len() == 0 {
            return Err(MalformedHead::at(Rule::PseudoEmpty, at));
        }
        match field.name {
            b":method" => self.connect = field.value.equals(b"CONNECT"),
            b":scheme" if !is_scheme(field.value) => {
                return Err(MalformedHead::at(Rule::Scheme, at));
            }
            b":authority" if !is_authority(field.value) => {
                return Err(MalformedHead::at(Rule::Authority, at));
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_value(field: &Field<'_>, at: usize) -> Result<(), MalformedHead> {
    if field.value.is_clean() {
        return Ok(());
    }
    let has_forbidden = field.value.any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
    Err(MalformedHead::at(if has_forbidden { Rule::Octet } else { Rule::Space }, at))
}

fn check_regular(field: &Field<'_>, at: usize, promise: &mut Promise) -> Result<(), MalformedHead> {
    if field.name.is_empty() || !field.name.iter().all(|octet| is_name_octet(*octet)) {
        return Err(MalformedHead::at(Rule::Name, at));
    }
    check_value(field, at)?;
    match field.name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(MalformedHead::at(Rule::Connection, at))
        }
        b"te" if !field.value.equals(b"trailers") => Err(MalformedHead::at(Rule::Te, at)),
        b"content-length" => {
            let length =
                parse_content_length(field).ok_or(MalformedHead::at(Rule::ContentLength, at))?;
            if promise.content_length.is_some_and(|before| before != length) {
                return Err(MalformedHead::at(Rule::ContentLength, at));
            }
            promise.content_length = Some(length);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn parse_content_length(field: &Field<'_>) -> Option<u64> {
    let mut scratch = Vec::new();
    let text = field.value.decode(&mut scratch);
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Field names are tokens (RFC 9110, 5.6.2) without upper case (RFC 9113, 8.2.1).
const fn is_name_octet(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}
