//! Syntax and comparison of `:scheme`, `:authority` and `host`.

use crate::wire::hpack::{Fields, Text};

/// A letter, then letters, digits, `+`, `-` and `.` (RFC 3986, 3.1).
pub(super) fn is_scheme(value: Text<'_>) -> bool {
    let mut is_first = true;
    !value.any(|octet| {
        let may_follow = matches!(octet, b'0'..=b'9' | b'+' | b'-' | b'.');
        let fits = octet.is_ascii_alphabetic() || (may_follow && !is_first);
        is_first = false;
        !fits
    })
}

/// The parser state of an authority.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthorityState {
    Start,
    Name,
    /// Between the brackets of an IPv6 address (RFC 3986, 3.2.2).
    Brackets,
    Closed,
    Port,
}

/// A non-empty host with an optional port, without userinfo (RFC 9113, 8.3.1).
pub(super) fn is_authority(value: Text<'_>) -> bool {
    let mut place = AuthorityState::Start;
    let is_broken = value.any(|octet| {
        let next = match (place, octet) {
            (_, b'@' | b'/' | b'?' | b'#' | b'\\' | 0..=b' ' | 0x7f..) => None,
            (AuthorityState::Start, b'[') => Some(AuthorityState::Brackets),
            (AuthorityState::Brackets, b']') => Some(AuthorityState::Closed),
            (_, b'[' | b']') => None,
            (AuthorityState::Brackets, _) => Some(AuthorityState::Brackets),
            (AuthorityState::Name | AuthorityState::Closed, b':') => Some(AuthorityState::Port),
            (AuthorityState::Start | AuthorityState::Port, b':') | (AuthorityState::Closed, _) => {
                None
            }
            (AuthorityState::Start | AuthorityState::Name, _) => Some(AuthorityState::Name),
            (AuthorityState::Port, _) => Some(AuthorityState::Port),
        };
        place = next.unwrap_or(place);
        next.is_none()
    });
    !is_broken && !matches!(place, AuthorityState::Start | AuthorityState::Brackets)
}

/// Whether the list has one `host`, equal to `:authority` if there is one. The comparison ignores
/// case and the default port of the scheme (RFC 9113, 8.3.1; RFC 3986, 6.2.3).
pub(super) fn same_host(fields: &Fields, has_authority: bool, hosts: u8) -> bool {
    let (mut host, mut authority, mut scheme) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields.iter() {
        let into = match field.name {
            b"host" => &mut host,
            b":authority" => &mut authority,
            b":scheme" => &mut scheme,
            _ => continue,
        };
        let mut scratch = Vec::new();
        *into = field.value.decode(&mut scratch).to_ascii_lowercase();
    }
    let is_same = || without_port(&host, &scheme) == without_port(&authority, &scheme);
    hosts == 1 && (!has_authority || is_same())
}

/// An authority without the default port of its scheme.
fn without_port<'a>(authority: &'a [u8], scheme: &[u8]) -> &'a [u8] {
    let port: &[u8] = match scheme {
        b"https" => b":443",
        b"http" => b":80",
        _ => return authority,
    };
    authority.strip_suffix(port).or_else(|| authority.strip_suffix(b":")).unwrap_or(authority)
}
