//! The host of an `:authority`, which may select a team and an environment.

use std::{borrow::Cow, fmt};

/// Maximum length of a host, in bytes (RFC 1035, 2.3.4).
pub const HOST_MAX: usize = 255;

/// A host of one environment: lower case, without port and final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority(Box<str>);

/// Why a text is not a valid authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// No host before the port.
    Empty,
    /// Longer than [`HOST_MAX`].
    TooLong,
    /// A scheme precedes the host.
    Scheme,
    /// A user precedes the host.
    User,
    /// A wildcard: hosts are matched exactly.
    Wildcard,
    /// A character that no host has.
    InvalidCharacter,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::TooLong => "a host has at most 255 characters",
            Self::Scheme => "it has a scheme: write only the host",
            Self::User => "it has a user: write only the host",
            Self::Wildcard => "hosts are matched exactly: write one line for each host",
            Self::InvalidCharacter => "a host may contain only letters, digits, '-', '_' and '.'",
        })
    }
}

impl std::error::Error for AuthorityError {}

impl Authority {
    /// Validates `host` or `host:port`; the port is ignored.
    ///
    /// # Errors
    /// Why the text is not a valid authority.
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

/// The host of an `:authority`: lower case, without port and final dot. Copies only if a letter
/// changes.
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
    fn port_case_and_final_dot_are_ignored() {
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
    fn the_longest_host_is_accepted_and_displayed_in_lower_case() {
        let longest = "a".repeat(HOST_MAX);
        let authority = Authority::parse(&format!("{longest}:443")).unwrap();
        assert_eq!(authority.to_string(), longest);
    }

    #[test]
    fn each_error_names_the_valid_form() {
        let error_text = |text: &str| Authority::parse(text).unwrap_err().to_string();
        assert_eq!(error_text(""), "the host is empty");
        assert_eq!(error_text(&"a".repeat(HOST_MAX + 1)), "a host has at most 255 characters");
        assert_eq!(error_text("sc://ads"), "it has a scheme: write only the host");
        assert_eq!(error_text("me@ads"), "it has a user: write only the host");
        assert_eq!(error_text("*.ads"), "hosts are matched exactly: write one line for each host");
        assert_eq!(
            error_text("ads/x"),
            "a host may contain only letters, digits, '-', '_' and '.'"
        );
    }

    #[test]
    fn hosts_that_never_match_are_errors() {
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
        for (text, error) in cases {
            assert_eq!(Authority::parse(text), Err(error), "{text:?}");
        }
    }
}
