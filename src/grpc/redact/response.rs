//! Scanning of a response to Config, in which hidden values are masked.

use crate::grpc::prefix::{self, MessagePrefix};
use crate::grpc::protobuf::Varint;
use crate::grpc::redact::request::RequestScanner;
use crate::grpc::redact::{HiddenKeys, KEY_MAX};

/// The field number of pairs in `ConfigResponse`, and the field numbers of a pair.
const PAIRS: u64 = 2;
const KEY: u64 = 1;
const VALUE: u64 = 2;
/// Replacement of each octet of a hidden value.
const MASK: u8 = b'*';

/// A response that cannot be redacted: compressed, or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableResponse;

/// The redactor of one Config call.
#[derive(Debug)]
pub struct Redactor {
    hidden: HiddenKeys,
    request: RequestScanner,
    step: Step,
    /// Octets of the message still to come.
    left: u64,
    pair: Option<Pair>,
    varint: Varint,
}

/// The current pair of a key and a value.
#[derive(Debug, Default)]
struct Pair {
    /// Octets of the pair still to come.
    left: u64,
    /// The key, truncated to [`KEY_MAX`] + 1 octets.
    key: Vec<u8>,
    has_key: bool,
}

/// The element that the next octet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prefix(MessagePrefix),
    Tag,
    Number,
    /// The length of a field.
    Length(FieldKind),
    /// The content of a field, of which this number of octets (at least one) is left.
    Octets(FieldKind, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Pair,
    Key,
    Value { hidden: bool },
    Other,
}

impl Redactor {
    /// A redactor at the start of the call.
    #[must_use]
    pub fn new(hidden: HiddenKeys) -> Self {
        let (request, step) = (RequestScanner::new(), Step::Prefix(MessagePrefix::default()));
        Self { hidden, request, step, left: 0, pair: None, varint: Varint::default() }
    }

    /// Scans the next octets of the request.
    pub fn observe_request(&mut self, octets: &[u8]) {
        self.request.scan(octets);
    }

    /// Masks hidden values in the next octets of the response.
    ///
    /// # Errors
    /// The response is unreadable; these and later octets must not be forwarded.
    pub fn redact(&mut self, mut octets: &mut [u8]) -> Result<(), UnreadableResponse> {
        while !octets.is_empty() {
            let taken = match self.step {
                Step::Octets(of, left) => self.octets(of, left, octets)?,
                Step::Prefix(prefix) => self.prefix(prefix, octets)?,
                Step::Tag | Step::Number | Step::Length(_) => self.varint(octets)?,
            };
            octets = octets.get_mut(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn prefix(
        &mut self,
        mut prefix: MessagePrefix,
        octets: &[u8],
    ) -> Result<usize, UnreadableResponse> {
        let filled = prefix.fill(octets);
        if prefix.flag().is_some_and(|flag| flag != 0) {
            return Err(UnreadableResponse);
        }
        match prefix.whole() {
            None => self.step = Step::Prefix(prefix),
            Some(whole) => {
                self.left = u64::from(prefix::length(whole));
                self.next_field();
            }
        }
        Ok(filled)
    }

    /// Handles one octet of a tag, a number or a length.
    fn varint(&mut self, octets: &[u8]) -> Result<usize, UnreadableResponse> {
        let Some(octet) = octets.first() else { return Ok(0) };
        self.spend(1)?;
        let Some(value) = self.varint.push(*octet).map_err(|_| UnreadableResponse)? else {
            return Ok(1);
        };
        self.varint = Varint::default();
        match self.step {
            Step::Tag => self.tag(value)?,
            Step::Length(FieldKind::Pair) => {
                self.check_fits(value)?;
                self.pair = Some(Pair { left: value, ..Pair::default() });
                self.next_field();
            }
            Step::Length(of) => {
                self.check_fits(value)?;
                self.enter_field(of, value);
            }
            Step::Number | Step::Prefix(_) | Step::Octets(..) => self.next_field(),
        }
        Ok(1)
    }

    fn tag(&mut self, tag: u64) -> Result<(), UnreadableResponse> {
        // Some clients ignore the bits of a tag above 32.
        let number = u32::try_from(tag).map_err(|_| UnreadableResponse)? >> 3;
        let of = match (&mut self.pair, u64::from(number)) {
            (None, PAIRS) => FieldKind::Pair,
            // The last key would count, but its value may be forwarded already.
            (Some(pair), KEY) if pair.has_key => return Err(UnreadableResponse),
            (Some(pair), KEY) => {
                pair.has_key = true;
                FieldKind::Key
            }
            (Some(pair), VALUE) => {
                let about = self.request.operation();
                FieldKind::Value {
                    hidden: self.hidden.hides(about, pair.has_key.then_some(&*pair.key)),
                }
            }
            (None | Some(_), _) => FieldKind::Other,
        };
        match (tag & 7, of) {
            (2, of) => self.step = Step::Length(of),
            (0, FieldKind::Other) => self.step = Step::Number,
            (1, FieldKind::Other) => self.enter_field(FieldKind::Other, 8),
            (5, FieldKind::Other) => self.enter_field(FieldKind::Other, 4),
            _ => return Err(UnreadableResponse),
        }
        Ok(())
    }

    /// Handles the content of a length-delimited field.
    fn octets(
        &mut self,
        of: FieldKind,
        left: u64,
        octets: &mut [u8],
    ) -> Result<usize, UnreadableResponse> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let taken = octets.len().min(most);
        let octets = octets.get_mut(..taken).unwrap_or_default();
        match (of, &mut self.pair) {
            (FieldKind::Key, Some(pair)) => {
                let room = KEY_MAX.saturating_add(1).saturating_sub(pair.key.len());
                pair.key.extend(octets.iter().take(room));
            }
            (FieldKind::Value { hidden: true }, _) => octets.fill(MASK),
            (FieldKind::Key | FieldKind::Value { .. } | FieldKind::Pair | FieldKind::Other, _) => {}
        }
        let taken_long = u64::try_from(taken).unwrap_or(left);
        self.spend(taken_long)?;
        self.enter_field(of, left.saturating_sub(taken_long));
        Ok(taken)
    }

    /// Starts or continues a field of which this number of octets is left.
    fn enter_field(&mut self, of: FieldKind, octets: u64) {
        if octets == 0 {
            self.next_field();
        } else {
            self.step = Step::Octets(of, octets);
        }
    }

    /// Subtracts octets from the rest of the message and of the pair.
    fn spend(&mut self, octets: u64) -> Result<(), UnreadableResponse> {
        self.check_fits(octets)?;
        self.left = self.left.saturating_sub(octets);
        if let Some(pair) = &mut self.pair {
            pair.left = pair.left.saturating_sub(octets);
        }
        Ok(())
    }

    /// Checks that this number of octets fits into the message and the pair.
    fn check_fits(&self, octets: u64) -> Result<(), UnreadableResponse> {
        let left = self.pair.as_ref().map_or(self.left, |pair| pair.left.min(self.left));
        if octets <= left { Ok(()) } else { Err(UnreadableResponse) }
    }

    /// Ends a field, and with it the pair or the message if they are complete.
    fn next_field(&mut self) {
        if self.pair.as_ref().is_some_and(|pair| pair.left == 0) {
            self.pair = None;
        }
        self.step = if self.left == 0 { Step::Prefix(MessagePrefix::default()) } else { Step::Tag };
    }
}
