//! What a header of a call says, read without an allocation.

use super::denial::Denial;
use crate::{Metadata, name::NAME_MAX};
use std::fmt;

/// The value of a header, as far as a name could reach and one octet further.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    octets: [u8; NAME_MAX + 1],
    len: usize,
}

/// A caller's words, fit for a message: printable ASCII in quotes, of a name's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown(Box<str>);

/// A header that came more than once and says two things.
pub(super) struct Contradiction {
    pub(super) one: Shown,
    pub(super) other: Shown,
}

/// What a call says in this header.
pub(super) fn said(metadata: &dyn Metadata, header: &'static str) -> Result<Option<Said>, Denial> {
    Said::by(metadata, header).map_err(|found| Denial::contradiction(header, found))
}

impl Said {
    /// What a call says in this header, if it says anything.
    pub(super) fn by(metadata: &dyn Metadata, header: &str) -> Result<Option<Self>, Contradiction> {
        let mut first = None;
        let mut other = None;
        metadata.all(header, &mut |value| {
            let said = Self::of(value);
            match first {
                None => first = Some(said),
                Some(one) if one != said => other = Some(said),
                Some(_) => {}
            }
        });
        match (first, other) {
            (Some(one), Some(other)) => {
                Err(Contradiction { one: one.shown(), other: other.shown() })
            }
            (first, _) => Ok(first),
        }
    }

    /// The beginning of these octets.
    pub(super) fn of(value: &[u8]) -> Self {
        let mut octets = [0; NAME_MAX + 1];
        let len = value.len().min(octets.len());
        octets.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        Self { octets, len }
    }

    /// The text, if it is one. Longer than a name can be if the value was.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.octets.get(..self.len)?).ok()
    }

    /// The same, to be shown to people.
    pub(super) fn shown(&self) -> Shown {
        let mut text = String::from("'");
        for octet in self.octets.iter().take(self.len.min(NAME_MAX)) {
            let plain = matches!(octet, b' '..=b'~') && !matches!(octet, b'\'' | b'"' | b'\\');
            text.push(if plain { char::from(*octet) } else { '?' });
        }
        text.push_str(if self.len > NAME_MAX { "...'" } else { "'" });
        Shown(text.into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_value_is_shown_without_its_teeth() {
        assert_eq!(Said::of(b"a'b\r\n\x1b[2J\xff").shown().to_string(), "'a?b???[2J?'");
        assert_eq!(Said::of(&[b'x'; 5000]).shown().to_string(), format!("'{}...'", "x".repeat(63)));
    }

    #[test]
    fn a_value_of_a_name_s_length_is_shown_whole_and_a_longer_one_is_not() {
        let shown = |len| Said::of(&vec![b'x'; len]).shown().to_string();
        assert_eq!(shown(NAME_MAX), format!("'{}'", "x".repeat(NAME_MAX)));
        assert_eq!(shown(NAME_MAX + 1), format!("'{}...'", "x".repeat(NAME_MAX)));
    }
}
