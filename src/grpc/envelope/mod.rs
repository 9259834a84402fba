//! Incremental scanning of the top-level fields of one request message.
//!
//! The scanner skips fields by their length and enters `user_context` only: a Spark plan is neither
//! buffered nor parsed, and costs nothing per octet. It reports findings; the caller decides about
//! them.
//!
//! Encodings that parsers interpret differently (tags and lengths above 32 bits, overflowing
//! varints, groups) are malformed.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use crate::grpc::protobuf::Varint;
use std::fmt;

mod session;
#[cfg(test)]
mod tests;

pub use session::SessionId;

/// The field number of the session in every request.
const SESSION_ID: u64 = 1;

/// The field number of `user_context` in every request.
const USER_CONTEXT: u64 = 2;
/// The field numbers of `UserContext`.
const USER_ID: u64 = 1;
const USER_NAME: u64 = 2;
const EXTENSIONS: u64 = 999;
/// The field number of the options in `ExecutePlanRequest`.
const REQUEST_OPTIONS: u64 = 5;
/// The option `reattach_options { reattachable: true }`, as every client encodes it.
const REATTACHABLE: [u8; 4] = [0x0a, 0x02, 0x08, 0x01];

/// A finding in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A second or later `user_context`.
    Repeated,
    /// `extensions` in a `user_context`.
    Extensions,
    /// A field of `user_context` other than `user_id`, `user_name` and `extensions`.
    Unknown,
    /// The option of an `ExecutePlanRequest` that makes its stream reattachable.
    Reattachable,
}

/// An encoding without one meaning for all parsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedMessage {
    /// A varint above 64 bits, or of more than ten octets.
    Varint,
    /// A tag whose field number is 0 or has more than 29 bits.
    FieldNumber,
    /// A group, or a wire type that protobuf does not define.
    WireType,
    /// `user_context`, `user_id` or `user_name` with the wrong wire type.
    UserContext,
    /// A field longer than the message around it.
    Length,
    /// A message that ends inside a field.
    Truncated,
}

impl fmt::Display for MalformedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "a varint is longer than 64 bits",
            Self::FieldNumber => "a field number is out of range",
            Self::WireType => "a field has an unsupported wire type",
            Self::UserContext => "user_context, or its user_id or user_name, has the wrong type",
            Self::Length => "a field is longer than the message around it",
            Self::Truncated => "the message ends inside a field",
        })
    }
}

/// The scanner of one message.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// Length of the message, in octets.
    length: u64,
    /// Number of scanned octets.
    at: u64,
    /// End of the current `user_context`.
    user_context_end: Option<u64>,
    /// Whether a `user_context` has occurred.
    has_user_context: bool,
    step: Step,
    varint: Varint,
    session: SessionId,
}

/// The element that the next octet belongs to. All except `Option`, `Session` and `Skip` are
/// varints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Tag,
    Number,
    Length,
    /// The length of a `user_context`.
    UserContextLength,
    /// The length of an option.
    OptionLength,
    /// An option whose first octets, this number, equal [`REATTACHABLE`].
    Option(usize),
    /// The length of a session id.
    SessionLength,
    /// A session id, of which this number of octets (at least one) is left.
    Session(u64),
    /// A skipped field, of which this number of octets (at least one) is left.
    Skip(u64),
}

impl Scanner {
    /// A scanner for a message of this length.
    #[must_use]
    pub fn new(length: u32) -> Self {
        Self {
            length: u64::from(length),
            at: 0,
            user_context_end: None,
            has_user_context: false,
            step: Step::Tag,
            varint: Varint::default(),
            session: SessionId::default(),
        }
    }

    /// The session id among the scanned octets. The last one counts, as for every parser.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Octets of the message still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }

    /// Consumes octets from the front up to a finding. `None`: the octets are used up, or the
    /// message is complete.
    ///
    /// # Errors
    /// The message is malformed; the scanner must not be used again.
    pub fn scan(&mut self, octets: &mut &[u8]) -> Result<Option<Finding>, MalformedMessage> {
        loop {
            if let Step::Skip(left) | Step::Session(left) = self.step {
                let here = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (content, rest) = octets.split_at_checked(here).unwrap_or_default();
                *octets = rest;
                self.skip_octets(left, content);
                if here == 0 {
                    return Ok(None);
                }
                continue;
            }
            if self.is_at_field_start() {
                self.skip_whole_fields(octets);
                // A message ends between two fields, or is malformed.
                if self.left() == 0 {
                    return Ok(None);
                }
            }
            let Some((octet, rest)) = octets.split_first() else { return Ok(None) };
            *octets = rest;
            let found = if let Step::Option(at) = self.step {
                self.option_octet(at, *octet)
            } else {
                self.varint_octet(*octet)?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The fast path: skips complete fields with one-octet tags and lengths and without findings.
    /// It leaves all other fields to the scan by octets.
    fn skip_whole_fields(&mut self, octets: &mut &[u8]) {
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let here = octets.get(..left).unwrap_or(octets);
        let mut rest = here;
        // Number of octets behind the current `user_context`.
        let mut behind = match self.user_context_end {
            None => None,
            Some(_) => match rest
                .len()
                .checked_sub(usize::try_from(self.octets_left_inside()).unwrap_or(left))
            {
                Some(behind) => Some(behind),
                None => return,
            },
        };
        while let [tag, length, field @ ..] = rest {
            let number = u64::from(tag >> 3);
            if tag & 0x87 != 2 || number == 0 || *length > 0x7f {
                break;
            }
            let Some(next) = field.get(usize::from(*length)..) else { break };
            match behind {
                Some(end) if next.len() < end || !is_known(number) => break,
                Some(end) => {
                    rest = next;
                    behind = behind.filter(|_| rest.len() > end);
                }
                None if number == REQUEST_OPTIONS
                    || (number == USER_CONTEXT && self.has_user_context) =>
                {
                    break;
                }
                None if number == SESSION_ID => {
                    self.session.clear();
                    self.session.push(field.get(..usize::from(*length)).unwrap_or_default());
                    rest = next;
                }
                None if number == USER_CONTEXT => {
                    self.has_user_context = true;
                    rest = field;
                    behind = Some(next.len()).filter(|end| rest.len() > *end);
                }
                None => rest = next,
            }
        }
        let walked = here.len().saturating_sub(rest.len());
        *octets = octets.get(walked..).unwrap_or_default();
        self.at = self.at.saturating_add(u64::try_from(walked).unwrap_or(u64::MAX));
        self.user_context_end = behind.map(|end| {
            let inside = rest.len().saturating_sub(end);
            self.at.saturating_add(u64::try_from(inside).unwrap_or(u64::MAX))
        });
    }

    /// Skips content of a field of which `left` octets were left.
    fn skip_octets(&mut self, left: u64, octets: &[u8]) {
        let walked = u64::try_from(octets.len()).unwrap_or(left);
        self.at = self.at.saturating_add(walked);
        let left = left.saturating_sub(walked);
        let is_session = matches!(self.step, Step::Session(_));
        if is_session {
            self.session.push(octets);
        }
        self.step = match left {
            0 => Step::Tag,
            left if is_session => Step::Session(left),
            left => Step::Skip(left),
        };
        self.leave_user_context();
    }

    /// Handles an octet of an option that equals [`REATTACHABLE`] so far.
    fn option_octet(&mut self, at: usize, octet: u8) -> Option<Finding> {
        self.at = self.at.saturating_add(1);
        let next = at.saturating_add(1);
        let left = u64::try_from(REATTACHABLE.len().saturating_sub(next)).unwrap_or(0);
        if REATTACHABLE.get(at) != Some(&octet) {
            self.step = Step::skip(left);
            return None;
        }
        self.step = if left == 0 { Step::Tag } else { Step::Option(next) };
        (left == 0).then_some(Finding::Reattachable)
    }

    /// Handles an octet of a varint.
    fn varint_octet(&mut self, octet: u8) -> Result<Option<Finding>, MalformedMessage> {
        self.at = self.at.saturating_add(1);
        let mut found = None;
        if let Some(value) = self.varint.push(octet).map_err(|_| MalformedMessage::Varint)? {
            self.varint = Varint::default();
            match self.step {
                Step::Tag => found = self.tag(value)?,
                Step::Number | Step::Skip(_) | Step::Session(_) | Step::Option(_) => {
                    self.step = Step::Tag;
                }
                Step::Length => self.step = Step::skip(self.check_fits(value)?),
                Step::OptionLength => {
                    let length = self.check_fits(value)?;
                    let same = usize::try_from(length) == Ok(REATTACHABLE.len());
                    self.step = if same { Step::Option(0) } else { Step::skip(length) };
                }
                Step::SessionLength => {
                    let length = self.check_fits(value)?;
                    self.session.clear();
                    self.step = if length == 0 { Step::Tag } else { Step::Session(length) };
                }
                Step::UserContextLength => {
                    self.user_context_end = Some(self.at.saturating_add(self.check_fits(value)?));
                    self.step = Step::Tag;
                }
            }
        }
        if self.octets_left_inside() == 0 && !self.is_at_field_start() {
            return Err(MalformedMessage::Truncated);
        }
        self.leave_user_context();
        Ok(found)
    }

    fn tag(&mut self, tag: u64) -> Result<Option<Finding>, MalformedMessage> {
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 || u32::try_from(tag).is_err() {
            return Err(MalformedMessage::FieldNumber);
        }
        self.step = match wire_type {
            0 => Step::Number,
            1 => Step::Skip(self.check_fits(8)?),
            2 => Step::Length,
            5 => Step::Skip(self.check_fits(4)?),
            _ => return Err(MalformedMessage::WireType),
        };
        let ours = match self.user_context_end {
            Some(_) => is_known(number),
            None => number == USER_CONTEXT,
        };
        if ours && self.step != Step::Length {
            return Err(MalformedMessage::UserContext);
        }
        if self.user_context_end.is_some() {
            return Ok(match number {
                EXTENSIONS => Some(Finding::Extensions),
                number if is_known(number) => None,
                _ => Some(Finding::Unknown),
            });
        }
        if !ours {
            if self.step == Step::Length {
                self.step = match number {
                    REQUEST_OPTIONS => Step::OptionLength,
                    SESSION_ID => Step::SessionLength,
                    _ => Step::Length,
                };
            }
            return Ok(None);
        }
        self.step = Step::UserContextLength;
        let again = self.has_user_context;
        self.has_user_context = true;
        Ok(again.then_some(Finding::Repeated))
    }

    /// Returns `octets` if this number fits into the current message.
    fn check_fits(&self, octets: u64) -> Result<u64, MalformedMessage> {
        if octets <= self.octets_left_inside() { Ok(octets) } else { Err(MalformedMessage::Length) }
    }

    /// Octets up to the end of the current `user_context` or message.
    fn octets_left_inside(&self) -> u64 {
        self.user_context_end.unwrap_or(self.length).saturating_sub(self.at)
    }

    fn is_at_field_start(&self) -> bool {
        self.step == Step::Tag && self.varint.is_empty()
    }

    /// Leaves the `user_context` at its end.
    fn leave_user_context(&mut self) {
        if self.user_context_end == Some(self.at) && self.is_at_field_start() {
            self.user_context_end = None;
        }
    }
}

/// Whether the appended `user_context` overrides this field.
fn is_known(number: u64) -> bool {
    matches!(number, USER_ID | USER_NAME)
}

impl Step {
    fn skip(octets: u64) -> Self {
        if octets == 0 { Self::Tag } else { Self::Skip(octets) }
    }
}
