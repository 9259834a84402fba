//! What a header of a call says, read without an allocation.

use super::error::TeamError;
use crate::{Metadata, name::NAME_MAX};
use std::fmt;

/// The value of a header, as far as a name could reach and one octet further.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderValue {
    bytes: [u8; NAME_MAX + 1],
    len: usize,
}

/// A caller's words, fit for a message: printable ASCII in quotes, of a name's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Escaped(Box<str>);

/// A header that came more than once and says two things.
pub(super) struct ConflictingValues {
    pub(super) one: Escaped,
    pub(super) other: Escaped,
}

/// What a call says in this header.
pub(super) fn read_header(
    metadata: &dyn Metadata,
    header: &'static str,
) -> Result<Option<HeaderValue>, TeamError> {
    HeaderValue::read(metadata, header)
        .map_err(|found| TeamError::conflicting_headers(header, found))
}

impl HeaderValue {
    /// What a call says in this header, if it says anything.
    pub(super) fn read(
        metadata: &dyn Metadata,
        header: &str,
    ) -> Result<Option<Self>, ConflictingValues> {
        let mut first = None;
        let mut other = None;
        metadata.for_each_value(header, &mut |value| {
            let said = Self::from_bytes(value);
            match first {
                None => first = Some(said),
                Some(one) if one != said => other = Some(said),
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

    /// The beginning of these octets.
    pub(super) fn from_bytes(value: &[u8]) -> Self {
        let mut octets = [0; NAME_MAX + 1];
        let len = value.len().min(octets.len());
        octets.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        Self { bytes: octets, len }
    }

    /// The text, if it is one. Longer than a name can be if the value was.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..self.len)?).ok()
    }

    /// The same, to be shown to people.
    pub(super) fn escaped(&self) -> Escaped {
        let mut text = String::from("'");
        for octet in self.bytes.iter().take(self.len.min(NAME_MAX)) {
            let plain = matches!(octet, b' '..=b'~') && !matches!(octet, b'\'' | b'"' | b'\\');
            text.push(if plain { char::from(*octet) } else { '?' });
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
    fn a_hostile_value_is_shown_without_its_teeth() {
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
    fn a_value_of_a_name_s_length_is_shown_whole_and_a_longer_one_is_not() {
        let shown = |len| HeaderValue::from_bytes(&vec![b'x'; len]).escaped().to_string();
        assert_eq!(shown(NAME_MAX), format!("'{}'", "x".repeat(NAME_MAX)));
        assert_eq!(shown(NAME_MAX + 1), format!("'{}...'", "x".repeat(NAME_MAX)));
    }
}
