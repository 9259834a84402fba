//! Envelope: a walk over the top-level fields of one request message, fed piece by piece.
//!
//! It steps over every field by its length and looks into `user_context` alone, with the same
//! step: a plan is never kept, never read, and costs nothing for each of its octets. It says what
//! it finds and what parsers could not agree on; what may pass is not decided here.
//!
//! Where parsers are known to differ (tags and lengths beyond 32 bits, varints that overflow,
//! groups), nothing is guessed: such a message is malformed.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use crate::grpc::protobuf::Varint;
use std::fmt;

/// The field of every request in which a client names its user.
const USER_CONTEXT: u64 = 2;
/// Its fields that are text.
const USER_ID: u64 = 1;
const USER_NAME: u64 = 2;
/// Its field that may hold anything.
const EXTENSIONS: u64 = 999;
/// The field of an `ExecutePlanRequest` that holds its options.
const REQUEST_OPTIONS: u64 = 5;
/// An option that says `reattach_options { reattachable: true }`, as every client writes it.
const REATTACHABLE: [u8; 4] = [0x0a, 0x02, 0x08, 0x01];

/// What a message holds that somebody may want to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// One more `user_context` than the first.
    Repeated,
    /// A `user_context` with `extensions`.
    Extensions,
    /// A field 5 that says, in an `ExecutePlanRequest`, that its stream may be taken up again.
    Reattachable,
}

/// Why an encoding has no meaning that all parsers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A varint above 64 bits, or of more than ten octets.
    Varint,
    /// A tag whose field number is 0 or has more than 29 bits.
    FieldNumber,
    /// A group, or a wire type that protobuf does not define.
    WireType,
    /// `user_context`, or a name inside of it, that is something else.
    UserContext,
    /// A field that is longer than what it is in.
    Length,
    /// A message that ends in the middle of a field.
    Cut,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "a varint is longer than 64 bits",
            Self::FieldNumber => "a field's number is out of range",
            Self::WireType => "a field has a wire type that is not in use",
            Self::UserContext => "user_context, or its user_id or user_name, has the wrong type",
            Self::Length => "a field is longer than the message around it",
            Self::Cut => "the message ends in the middle of a field",
        })
    }
}

/// Where the walk is: one for each message.
#[derive(Clone, Copy, Debug)]
pub struct Scanner {
    /// Octets of the message.
    length: u64,
    /// Octets that were walked over.
    at: u64,
    /// Where the `user_context` ends that the walk is in.
    inside: Option<u64>,
    /// Whether there was a `user_context` already.
    named: bool,
    step: Step,
    varint: Varint,
}

/// What the next octet belongs to. Those that are not said to hold octets are varints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Tag,
    Number,
    Length,
    /// The length of a `user_context`.
    Open,
    /// The length of an option.
    OptionLength,
    /// So many octets of an option have come, all as in [`REATTACHABLE`].
    Option(usize),
    /// So many octets of a field that nobody asks for, at least one.
    Skip(u64),
}

impl Scanner {
    /// A walk over a message of this length.
    #[must_use]
    pub fn new(length: u32) -> Self {
        Self {
            length: u64::from(length),
            at: 0,
            inside: None,
            named: false,
            step: Step::Tag,
            varint: Varint::default(),
        }
    }

    /// Octets of the message that are still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }

    /// Takes octets from the front, as far as they belong to the message or up to a finding. When
    /// nothing is found, either the octets are used up or the message was walked to its end.
    ///
    /// # Errors
    /// The message is malformed; the walk is over.
    pub fn take(&mut self, octets: &mut &[u8]) -> Result<Option<Found>, Malformed> {
        while self.left() > 0 {
            if let Step::Skip(left) = self.step {
                let skipped = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                *octets = octets.get(skipped..).unwrap_or_default();
                self.skip(left, u64::try_from(skipped).unwrap_or(left));
                if skipped == 0 {
                    return Ok(None);
                }
            } else if !self.stride(octets) {
                let Some((octet, rest)) = octets.split_first() else { return Ok(None) };
                *octets = rest;
                let found = if let Step::Option(at) = self.step {
                    self.option(at, *octet)
                } else {
                    self.octet(*octet)?
                };
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// Takes a whole tag and a whole length at once, where both are short and nothing is to be
    /// found: the common case. Says whether it did; whatever is odd is left to a walk by octets.
    fn stride(&mut self, octets: &mut &[u8]) -> bool {
        let [tag, length, rest @ ..] = octets else { return false };
        let (number, length) = (u64::from(tag >> 3), u64::from(*length));
        let is_plain = tag & 0x87 == 2 && length < 0x80 && number > 0 && self.is_between();
        let is_asked_for = match self.inside {
            Some(_) => false,
            None => number == REQUEST_OPTIONS || (number == USER_CONTEXT && self.named),
        };
        if !is_plain || is_asked_for || self.room() < length.saturating_add(2) {
            return false;
        }
        *octets = rest;
        self.at = self.at.saturating_add(2);
        if self.inside.is_none() && number == USER_CONTEXT {
            self.named = true;
            self.inside = Some(self.at.saturating_add(length));
        } else {
            self.step = Step::over(length);
        }
        self.leave();
        true
    }

    fn skip(&mut self, left: u64, skipped: u64) {
        self.at = self.at.saturating_add(skipped);
        self.step = Step::over(left.saturating_sub(skipped));
        self.leave();
    }

    /// An octet of an option that has been [`REATTACHABLE`] so far.
    fn option(&mut self, at: usize, octet: u8) -> Option<Found> {
        self.at = self.at.saturating_add(1);
        let next = at.saturating_add(1);
        let left = u64::try_from(REATTACHABLE.len().saturating_sub(next)).unwrap_or(0);
        if REATTACHABLE.get(at) != Some(&octet) {
            self.step = Step::over(left);
            return None;
        }
        self.step = if left == 0 { Step::Tag } else { Step::Option(next) };
        (left == 0).then_some(Found::Reattachable)
    }

    /// An octet of a varint.
    fn octet(&mut self, octet: u8) -> Result<Option<Found>, Malformed> {
        self.at = self.at.saturating_add(1);
        let mut found = None;
        if let Some(value) = self.varint.push(octet).map_err(|_| Malformed::Varint)? {
            self.varint = Varint::default();
            match self.step {
                Step::Tag => found = self.tag(value)?,
                Step::Number | Step::Skip(_) | Step::Option(_) => self.step = Step::Tag,
                Step::Length => self.step = Step::over(self.fitting(value)?),
                Step::OptionLength => {
                    let length = self.fitting(value)?;
                    let same = usize::try_from(length) == Ok(REATTACHABLE.len());
                    self.step = if same { Step::Option(0) } else { Step::over(length) };
                }
                Step::Open => {
                    self.inside = Some(self.at.saturating_add(self.fitting(value)?));
                    self.step = Step::Tag;
                }
            }
        }
        if self.room() == 0 && !self.is_between() {
            return Err(Malformed::Cut);
        }
        self.leave();
        Ok(found)
    }

    fn tag(&mut self, tag: u64) -> Result<Option<Found>, Malformed> {
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 || u32::try_from(tag).is_err() {
            return Err(Malformed::FieldNumber);
        }
        self.step = match wire_type {
            0 => Step::Number,
            1 => Step::Skip(self.fitting(8)?),
            2 => Step::Length,
            5 => Step::Skip(self.fitting(4)?),
            _ => return Err(Malformed::WireType),
        };
        let ours = match self.inside {
            Some(_) => number == USER_ID || number == USER_NAME,
            None => number == USER_CONTEXT,
        };
        if ours && self.step != Step::Length {
            return Err(Malformed::UserContext);
        }
        if self.inside.is_some() {
            return Ok((number == EXTENSIONS).then_some(Found::Extensions));
        }
        if !ours {
            if number == REQUEST_OPTIONS && self.step == Step::Length {
                self.step = Step::OptionLength;
            }
            return Ok(None);
        }
        self.step = Step::Open;
        let again = self.named;
        self.named = true;
        Ok(again.then_some(Found::Repeated))
    }

    /// The same number, if so many octets may follow here.
    fn fitting(&self, octets: u64) -> Result<u64, Malformed> {
        if octets <= self.room() { Ok(octets) } else { Err(Malformed::Length) }
    }

    /// Octets up to the end of what the walk is in.
    fn room(&self) -> u64 {
        self.inside.unwrap_or(self.length).saturating_sub(self.at)
    }

    fn is_between(&self) -> bool {
        self.step == Step::Tag && self.varint.is_empty()
    }

    /// Leaves a `user_context` at its end.
    fn leave(&mut self) {
        if self.inside == Some(self.at) && self.is_between() {
            self.inside = None;
        }
    }
}

impl Step {
    fn over(octets: u64) -> Self {
        if octets == 0 { Self::Tag } else { Self::Skip(octets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a message that comes in pieces of so many octets.
    fn walk(message: &[u8], piece: usize) -> Result<Vec<Found>, Malformed> {
        let mut scanner = Scanner::new(u32::try_from(message.len()).unwrap());
        let mut all = Vec::new();
        for mut octets in message.chunks(piece) {
            while let Some(found) = scanner.take(&mut octets)? {
                all.push(found);
            }
            assert!(octets.is_empty());
        }
        assert_eq!(scanner.left(), 0);
        Ok(all)
    }

    /// The same for every size of the pieces.
    fn found(message: &[u8]) -> Result<Vec<Found>, Malformed> {
        let whole = walk(message, message.len().max(1));
        for piece in 1..message.len() {
            assert_eq!(walk(message, piece), whole, "pieces of {piece}");
        }
        whole
    }

    #[test]
    fn an_honest_request_is_walked_and_nothing_is_found() {
        let mut request = vec![0x0a, 3, b'i', b'd', b's'];
        request.extend([0x12, 6, 0x0a, 1, b'a', 0x12, 1, b'A']);
        request.extend([0x1a, 4, 0x12, 0xff, 0x0b, 0]);
        request.extend([0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        request.extend([0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x35, 1, 2, 3, 4]);
        assert_eq!(found(&request), Ok(Vec::new()));
        assert_eq!(found(&[]), Ok(Vec::new()));
        assert_eq!(found(&[0x12, 0]), Ok(Vec::new()));
    }

    #[test]
    fn one_more_user_context_is_found_wherever_it_stands() {
        let request = [0x12, 0, 0x1a, 2, 0x12, 0, 0x92, 0x00, 2, 0x0a, 0, 0x12, 0];
        assert_eq!(found(&request), Ok(vec![Found::Repeated, Found::Repeated]));
    }

    #[test]
    fn extensions_are_found_in_a_user_context_and_nowhere_else() {
        let request = [0x12, 4, 0xba, 0x3e, 1, 0x0a, 0xba, 0x3e, 1, 7];
        assert_eq!(found(&request), Ok(vec![Found::Extensions]));
        assert_eq!(found(&[0x12, 3, 0xb8, 0x3e, 1]), Ok(vec![Found::Extensions]));
    }

    #[test]
    fn what_parsers_read_differently_is_malformed() {
        use Malformed::{Cut, FieldNumber, Length, UserContext, Varint, WireType};
        let cases: &[(&[u8], Malformed)] = &[
            (&[0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], Varint),
            (&[0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x81, 0], Varint),
            (&[0x80, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0], Varint),
            (&[0x02, 0], FieldNumber),
            (&[0x92, 0x80, 0x80, 0x80, 0x10, 0], FieldNumber),
            (&[0x0b, 0x0c], WireType),
            (&[0x0c], WireType),
            (&[0x0e], WireType),
            (&[0x0f], WireType),
            (&[0x10, 1], UserContext),
            (&[0x12, 2, 0x08, 1], UserContext),
            (&[0x12, 5, 0x15, 1, 2, 3, 4], UserContext),
            (&[0x0a, 2, 0], Length),
            (&[0x0a, 0x81, 0x80, 0x80, 0x80, 0x10, 0], Length),
            (&[0x12, 2, 0x0a, 1, 0], Length),
            (&[0x12, 3, 0], Length),
            (&[0x1d, 1, 2, 3], Length),
            (&[0x12, 2, 0x19, 0, 0, 0, 0, 0, 0, 0, 0], Length),
            (&[0x0a], Cut),
            (&[0x20, 0x80], Cut),
            (&[0x92], Cut),
            (&[0x12, 1, 0x0a, 0], Cut),
            (&[0x12, 1, 0x8a, 0], Cut),
        ];
        for (message, why) in cases {
            assert_eq!(found(message), Err(*why), "{message:02x?}");
        }
    }

    #[test]
    fn octets_behind_the_message_are_left_alone() {
        let mut scanner = Scanner::new(2);
        let mut octets: &[u8] = &[0x0a, 0, 0xff, 0xff];
        assert_eq!(scanner.take(&mut octets), Ok(None));
        assert_eq!((octets, scanner.left()), (&[0xff, 0xff][..], 0));
    }

    #[test]
    fn a_long_field_is_stepped_over_without_being_read() {
        let mut scanner = Scanner::new(u32::MAX);
        let mut octets: &[u8] = &[0x1a, 0xf9, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(scanner.take(&mut octets), Ok(None));
        let mut octets: &[u8] = &[0xff; 1 << 16];
        assert_eq!(scanner.take(&mut octets), Ok(None));
        assert_eq!((octets.len(), scanner.left()), (0, u64::from(u32::MAX) - 6 - (1 << 16)));
    }
}
