//! The address that a client dialled, reduced to what tells teams apart: the host.

use std::{borrow::Cow, fmt};

/// The most octets that a host may have (RFC 1035, 2.3.4).
pub const HOST_MAX: usize = 255;

/// A host that belongs to one environment of one team: lower case, without port and final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority(Box<str>);

/// Why a text is no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// Nothing before the port.
    Empty,
    /// More octets than [`HOST_MAX`].
    TooLong,
    /// A scheme stands before it.
    Scheme,
    /// A user stands before it.
    User,
    /// A wildcard: authorities are matched exactly.
    Wildcard,
    /// An octet that no host has.
    InvalidCharacter,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it names no host",
            Self::TooLong => "a host has at most 255 characters",
            Self::Scheme => "it has a scheme: write the host alone",
            Self::User => "it has a user: write the host alone",
            Self::Wildcard => "hosts are matched exactly: write one line for each host",
            Self::InvalidCharacter => "a host has only letters, digits, '-', '_' and '.'",
        })
    }
}

impl std::error::Error for AuthorityError {}

impl Authority {
    /// The only way to an authority: `host` or `host:port`, where the port counts for nothing.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.contains("://") {
            return Err(AuthorityError::Scheme);
        }
        if text.contains('@') {
            return Err(AuthorityError::User);
        }
        if text.contains('*') {
            return Err(AuthorityError::Wildcard);
        }
        let host = host_of(text);
        if host.is_empty() {
            return Err(AuthorityError::Empty);
        }
        if host.len() > HOST_MAX {
            return Err(AuthorityError::TooLong);
        }
        let plain = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_' | b'.');
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let sound = match literal {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(plain),
        };
        if sound { Ok(Self(host.into())) } else { Err(AuthorityError::InvalidCharacter) }
    }

    /// The host.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Authority {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host in an `:authority`: lower case, without port and final dot. Copies only when it must
/// change a letter.
pub fn host_of(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|o| o.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|o| o.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_case_and_final_dot_count_for_nothing() {
        for text in
            ["ads.example.com", "ads.example.com:15009", "ADS.Example.com.", "ads.example.com.:1"]
        {
            assert_eq!(host_of(text), "ads.example.com", "{text}");
            assert_eq!(Authority::parse(text).unwrap().as_str(), "ads.example.com");
        }
    }

    #[test]
    fn an_ipv6_literal_keeps_its_brackets_and_loses_its_port() {
        assert_eq!(host_of("[::1]:15009"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
        assert_eq!(Authority::parse("[::1]:15009").unwrap().as_str(), "[::1]");
    }

    #[test]
    fn the_longest_host_is_taken_and_shown_as_it_is_matched() {
        let longest = "a".repeat(HOST_MAX);
        let authority = Authority::parse(&format!("{longest}:443")).unwrap();
        assert_eq!(authority.to_string(), longest);
    }

    #[test]
    fn each_fault_says_what_would_be_right() {
        let said = |text: &str| Authority::parse(text).unwrap_err().to_string();
        assert_eq!(said(""), "it names no host");
        assert_eq!(said(&"a".repeat(HOST_MAX + 1)), "a host has at most 255 characters");
        assert_eq!(said("sc://ads"), "it has a scheme: write the host alone");
        assert_eq!(said("me@ads"), "it has a user: write the host alone");
        assert_eq!(said("*.ads"), "hosts are matched exactly: write one line for each host");
        assert_eq!(said("ads/x"), "a host has only letters, digits, '-', '_' and '.'");
    }

    #[test]
    fn what_can_never_match_is_refused_with_its_reason() {
        let long = "a".repeat(HOST_MAX + 1);
        let cases = [
            ("", AuthorityError::Empty),
            (":15009", AuthorityError::Empty),
            (".", AuthorityError::Empty),
            (&*long, AuthorityError::TooLong),
            ("sc://ads", AuthorityError::Scheme),
            ("me@ads", AuthorityError::User),
            ("*.ads", AuthorityError::Wildcard),
            ("ads/x", AuthorityError::InvalidCharacter),
            ("ads:x", AuthorityError::InvalidCharacter),
            ("[::g]", AuthorityError::InvalidCharacter),
            ("::1", AuthorityError::InvalidCharacter),
        ];
        for (text, fault) in cases {
            assert_eq!(Authority::parse(text), Err(fault), "{text:?}");
        }
    }
}
