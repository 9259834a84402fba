//! Header values with a name, read without allocation.

use super::error::TeamError;
use crate::{Metadata, name::NAME_MAX};
use std::fmt;

/// The first bytes of a header value: one more than a name may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderValue {
    bytes: [u8; NAME_MAX + 1],
    len: usize,
}

/// A value of the caller for a message: in quotes, printable ASCII, at most as long as a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Escaped(Box<str>);

/// Two different values of one header.
pub(super) struct ConflictingValues {
    pub(super) one: Escaped,
    pub(super) other: Escaped,
}

/// The value of a header, if there is one.
pub(super) fn read_header(
    metadata: &dyn Metadata,
    header: &'static str,
) -> Result<Option<HeaderValue>, TeamError> {
    HeaderValue::read(metadata, header)
        .map_err(|found| TeamError::conflicting_headers(header, found))
}

impl HeaderValue {
    /// The value of a header, if there is one. Several equal values count as one.
    pub(super) fn read(
        metadata: &dyn Metadata,
        header: &str,
    ) -> Result<Option<Self>, ConflictingValues> {
        let mut first = None;
        let mut other = None;
        metadata.for_each_value(header, &mut |value| {
            let value = Self::from_bytes(value);
            match first {
                None => first = Some(value),
                Some(one) if one != value => other = Some(value),
                Some(_) => {}
            }
        });
        match (first, other) {
            (Some(one), Some(other)) => {
                Err(ConflictingValues { one: one.escaped(), other: other.escaped() })
            }
            (first, _) => Ok(first),
        }
    }

    /// The first bytes of a value.
    pub(super) fn from_bytes(value: &[u8]) -> Self {
        let mut bytes = [0; NAME_MAX + 1];
        let len = value.len().min(bytes.len());
        bytes.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        Self { bytes, len }
    }

    /// The value as text, if it is UTF-8. A value longer than a name gives a text longer than a
    /// name.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..self.len)?).ok()
    }

    /// The value for a message.
    pub(super) fn escaped(&self) -> Escaped {
        let mut text = String::from("'");
        for byte in self.bytes.iter().take(self.len.min(NAME_MAX)) {
            let plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'"' | b'\\');
            text.push(if plain { char::from(*byte) } else { '?' });
        }
        text.push_str(if self.len > NAME_MAX { "...'" } else { "'" });
        Escaped(text.into())
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_value_is_escaped() {
        assert_eq!(
            HeaderValue::from_bytes(b"a'b\r\n\x1b[2J\xff").escaped().to_string(),
            "'a?b???[2J?'"
        );
        assert_eq!(
            HeaderValue::from_bytes(&[b'x'; 5000]).escaped().to_string(),
            format!("'{}...'", "x".repeat(63))
        );
    }

    #[test]
    fn only_values_longer_than_a_name_are_truncated() {
        let escaped = |len| HeaderValue::from_bytes(&vec![b'x'; len]).escaped().to_string();
        assert_eq!(escaped(NAME_MAX), format!("'{}'", "x".repeat(NAME_MAX)));
        assert_eq!(escaped(NAME_MAX + 1), format!("'{}...'", "x".repeat(NAME_MAX)));
    }
}
