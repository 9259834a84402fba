//! Names of teams and environments: validated once, cheap to clone. A short name is stored inline,
//! so that threads that clone it do not share a counter.
//!
//! A name is a DNS-1035 label: it is valid in a URL, a metric and a Kubernetes object.

use smol_str::SmolStr;
use std::{borrow::Borrow, fmt};

/// Maximum length of a name, in bytes (RFC 1035, 2.3.4).
pub const NAME_MAX: usize = 63;

/// The name of a team.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TeamName(SmolStr);

/// The name of one of a team's environments.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(SmolStr);

/// Why a text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// Longer than [`NAME_MAX`].
    TooLong,
    /// The first character is not a letter a to z.
    InvalidStart,
    /// The last character is a hyphen.
    InvalidEnd,
    /// A character other than a to z, 0 to 9 and the hyphen.
    InvalidCharacter,
}

impl NameError {
    fn check(text: &str) -> Result<(), Self> {
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return Err(Self::Empty);
        };
        if bytes.len() > NAME_MAX {
            return Err(Self::TooLong);
        }
        if !bytes.iter().all(|o| matches!(o, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(Self::InvalidCharacter);
        }
        if !first.is_ascii_lowercase() {
            return Err(Self::InvalidStart);
        }
        if *last == b'-' { Err(Self::InvalidEnd) } else { Ok(()) }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name has at least one letter",
            Self::TooLong => "a name has at most 63 characters",
            Self::InvalidStart => "a name begins with a letter a to z",
            Self::InvalidEnd => "a name does not end in '-'",
            Self::InvalidCharacter => "a name has only a to z, 0 to 9 and '-'",
        })
    }
}

impl std::error::Error for NameError {}

impl TeamName {
    /// Validates a team name.
    ///
    /// # Errors
    /// Why the text is not a valid name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        NameError::check(text).map(|()| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EnvironmentName {
    /// Validates an environment name.
    ///
    /// # Errors
    /// Why the text is not a valid name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        NameError::check(text).map(|()| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TeamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EnvironmentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TeamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TeamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TeamName({})", self.0)
    }
}

impl fmt::Debug for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvironmentName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_label_is_a_name() {
        for text in ["a", "ads", "ads-2", "a1", &"a".repeat(NAME_MAX)] {
            assert_eq!(TeamName::parse(text).unwrap().as_str(), text);
            assert_eq!(EnvironmentName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn each_invalid_name_has_its_own_error() {
        let long = "a".repeat(NAME_MAX + 1);
        let cases = [
            ("", NameError::Empty),
            (&*long, NameError::TooLong),
            ("1a", NameError::InvalidStart),
            ("-a", NameError::InvalidStart),
            ("a-", NameError::InvalidEnd),
            ("Ads", NameError::InvalidCharacter),
            ("a.b", NameError::InvalidCharacter),
            ("a b", NameError::InvalidCharacter),
            ("a/b", NameError::InvalidCharacter),
            ("ä", NameError::InvalidCharacter),
            ("a\n", NameError::InvalidCharacter),
        ];
        for (text, error) in cases {
            assert_eq!(TeamName::parse(text), Err(error), "{text:?}");
            assert_eq!(EnvironmentName::parse(text), Err(error), "{text:?}");
        }
    }
}
