//! The credential of sconce for a Spark driver.

use std::fmt;
use std::sync::Arc;

/// Maximum length of a token, in octets.
pub const TOKEN_MAX: usize = 2_048;

/// The value of `authorization` for a driver: its `spark.connect.authenticate.token` as a bearer
/// token (Spark 4.0 and later). Clones share the octets.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Arc<str>);

impl Credential {
    /// The credential with this token. `None`: the token is empty, longer than [`TOKEN_MAX`], or
    /// has other characters than visible ASCII.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let is_valid = (1..=TOKEN_MAX).contains(&token.len())
            && token.bytes().all(|octet| octet.is_ascii_graphic());
        is_valid.then(|| Self(format!("Bearer {token}").into()))
    }

    /// The field value.
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
    fn a_token_has_visible_ascii_only_and_debug_does_not_show_it() {
        let credential = Credential::from_token("s3cret~!").unwrap();
        assert_eq!(credential.value(), b"Bearer s3cret~!");
        assert!(!format!("{credential:?}").contains("s3cret"));
        assert!(Credential::from_token(&"x".repeat(TOKEN_MAX)).is_some());
        for token in ["", "two words", "line\n", "tab\t", "ümlaut", &"x".repeat(TOKEN_MAX + 1)] {
            assert_eq!(Credential::from_token(token), None, "{token:?}");
        }
    }
}
