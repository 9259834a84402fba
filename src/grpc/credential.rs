//! Credential: what sconce shows a driver so that the driver takes its calls.

use std::fmt;
use std::sync::Arc;

/// Octets of the longest token that is taken.
pub const TOKEN_MAX: usize = 2_048;

/// The value of `authorization` towards a driver: its `spark.connect.authenticate.token` as a
/// bearer token (Spark 4.0 and later). Clones share the octets.
///
/// Must never be shown: `Debug` says only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Arc<str>);

impl Credential {
    /// The credential of this token. `None` if it cannot stand in a header, or is longer than
    /// [`TOKEN_MAX`]: a token has one visible ASCII character or more, and nothing else.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let sound = (1..=TOKEN_MAX).contains(&token.len())
            && token.bytes().all(|octet| octet.is_ascii_graphic());
        sound.then(|| Self(format!("Bearer {token}").into()))
    }

    /// The octets of the field.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_can_stand_in_a_header_and_is_never_shown() {
        let credential = Credential::from_token("s3cret~!").unwrap();
        assert_eq!(credential.value(), b"Bearer s3cret~!");
        assert!(!format!("{credential:?}").contains("s3cret"));
        assert!(Credential::from_token(&"x".repeat(TOKEN_MAX)).is_some());
        for token in ["", "two words", "line\n", "tab\t", "ümlaut", &"x".repeat(TOKEN_MAX + 1)] {
            assert_eq!(Credential::from_token(token), None, "{token:?}");
        }
    }
}
