//! The writer that appends `user_context` to each message of one request stream.
//!
//! It returns the ranges to forward and the octets to insert; the caller sends them.

use std::mem;
use std::ops::{Deref, Range};

use sconce_filters::Refusal;

use crate::grpc::envelope::{Finding, Scanner, SessionId};
use crate::grpc::prefix::{self, MessagePrefix, PREFIX_LEN};
use crate::grpc::user_context::inflate::Inflater;
use crate::grpc::user_context::{
    AmbiguityPolicy, CompressionPolicy, Encoding, Policy, UserContextField, refusals,
};

/// Maximum length of a range that is returned together with its `user_context`, in octets: a copy
/// is cheaper than a second frame.
const COPIED_MAX: usize = 1_024;

/// The writer of one request stream.
#[derive(Debug)]
pub struct UserContextWriter {
    policy: Policy,
    user_context: UserContextField,
    encoding: Encoding,
    state: State,
    is_reattachable: bool,
    /// The session of the message whose `user_context` was returned last.
    session: SessionId,
}

#[derive(Debug)]
enum State {
    /// Between messages, or inside a prefix.
    Prefix(MessagePrefix),
    /// Inside an uncompressed message, or at its end, before its `user_context`.
    Forwarding(Scanner),
    /// Inside a compressed message.
    Inflating(Box<Inflater>),
    /// After a refusal: nothing is forwarded. Every call starts in this state until it succeeds.
    Refused,
}

/// The next octets to forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputChunk {
    /// A range of the chunk.
    Forward(Range<usize>),
    /// A range of the chunk up to the end of a short message, and its `user_context`.
    ForwardWithUserContext(Range<usize>, UserContextField),
    /// Octets outside of the chunk.
    Insert(Insertion),
}

impl OutputChunk {
    /// Whether it ends with the `user_context` of a message, which completes the message.
    #[must_use]
    pub fn ends_message(&self) -> bool {
        match self {
            Self::ForwardWithUserContext(_, _)
            | Self::Insert(Insertion::UserContext(_) | Insertion::Message(_)) => true,
            Self::Forward(_) | Self::Insert(Insertion::Prefix(_)) => false,
        }
    }
}

/// Octets that a [`UserContextWriter`] adds to a stream, or has buffered. Dereference them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The prefix of a message, which arrived in parts.
    Prefix([u8; PREFIX_LEN]),
    /// The `user_context` at the end of a message.
    UserContext(UserContextField),
    /// A complete inflated message with prefix and `user_context`.
    Message(Vec<u8>),
}

impl Deref for Insertion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Prefix(octets) => octets,
            Self::UserContext(field) => field.octets(),
            Self::Message(octets) => octets,
        }
    }
}

impl UserContextWriter {
    /// The writer at the start of a request stream.
    #[must_use]
    pub fn new(policy: Policy, user_context: UserContextField, encoding: Encoding) -> Self {
        let (state, session) = (State::between(), SessionId::default());
        Self { policy, user_context, encoding, state, is_reattachable: false, session }
    }

    /// The session id of the message whose `user_context` was returned last, to check before it is
    /// sent. `None`: the message has no valid session id.
    #[must_use]
    pub fn session(&self) -> Option<&[u8]> {
        self.session.id()
    }

    /// Consumes octets from the front of `rest`, a range of `chunk`, and returns the next octets to
    /// forward. Call it until it returns `None`: the chunk is used up, and no output is pending.
    ///
    /// # Errors
    /// The refusal of the call. Parts of the message may be forwarded already; its end is not, and
    /// no later call returns output.
    pub fn next_chunk(
        &mut self,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<OutputChunk>, Refusal> {
        match mem::replace(&mut self.state, State::Refused) {
            State::Prefix(partial) => self.prefix(partial, chunk, rest),
            State::Forwarding(scanner) if scanner.left() == 0 => {
                self.end_message(&scanner);
                Ok(Some(OutputChunk::Insert(Insertion::UserContext(self.user_context.clone()))))
            }
            State::Forwarding(scanner) => self.forward(scanner, chunk, (rest.start, rest)),
            State::Inflating(inflater) => self.inflate(inflater, chunk, rest),
            State::Refused => Err(refusals::already_refused()),
        }
    }

    /// Whether a message so far has the option of `ExecutePlanRequest` that makes its stream
    /// reattachable.
    #[must_use]
    pub fn is_reattachable(&self) -> bool {
        self.is_reattachable
    }

    /// Whether messages may be compressed, so that the output may be longer than the input.
    #[must_use]
    pub fn may_inflate(&self) -> bool {
        self.encoding != Encoding::Identity
    }

    /// Whether a `user_context` is pending although all input is consumed: the output so far does
    /// not end the message.
    #[must_use]
    pub fn expects_more(&self) -> bool {
        matches!(&self.state, State::Forwarding(scanner) if scanner.left() == 0)
    }

    /// Memory of an incomplete inflated message, in octets.
    #[must_use]
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Inflating(inflater) => inflater.buffered(),
            State::Prefix(_) | State::Forwarding(_) | State::Refused => 0,
        }
    }

    /// The refusal of a compressed message above the limit of its connection.
    #[must_use]
    pub fn over_connection_limit() -> Refusal {
        refusals::over_connection_limit()
    }

    /// The refusal of a compressed message above the limit of its worker.
    #[must_use]
    pub fn over_worker_limit() -> Refusal {
        refusals::over_worker_limit()
    }

    /// Handles END_STREAM. Call it before the last output is sent with END_STREAM.
    ///
    /// # Errors
    /// The request ends inside a message, or before its `user_context`.
    pub fn end(&mut self) -> Result<(), Refusal> {
        match mem::replace(&mut self.state, State::Refused) {
            State::Prefix(prefix) if prefix.is_empty() => {
                self.state = State::between();
                Ok(())
            }
            State::Prefix(_) | State::Forwarding(_) | State::Inflating(_) => {
                Err(refusals::truncated())
            }
            State::Refused => Err(refusals::already_refused()),
        }
    }

    fn prefix(
        &mut self,
        mut partial: MessagePrefix,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<OutputChunk>, Refusal> {
        let start = rest.start;
        let octets = chunk.get_mut(rest.clone()).unwrap_or_default();
        if partial.is_empty()
            && let Some(place) = octets.first_chunk_mut()
        {
            rest.start = start.saturating_add(PREFIX_LEN);
            return match self.start_message(*place)? {
                MessageStart::Forwarding(scanner, prefix) => {
                    *place = prefix;
                    self.forward(scanner, chunk, (start, rest))
                }
                MessageStart::Inflating(inflater) => self.inflate(inflater, chunk, rest),
            };
        }
        rest.start = start.saturating_add(partial.fill(octets));
        let Some(whole) = partial.whole() else {
            self.state = State::Prefix(partial);
            return Ok(None);
        };
        match self.start_message(whole)? {
            MessageStart::Forwarding(scanner, prefix) => {
                self.state = State::Forwarding(scanner);
                Ok(Some(OutputChunk::Insert(Insertion::Prefix(prefix))))
            }
            MessageStart::Inflating(inflater) => self.inflate(inflater, chunk, rest),
        }
    }

    /// Handles the prefix of a message.
    fn start_message(&self, whole: [u8; PREFIX_LEN]) -> Result<MessageStart, Refusal> {
        let ([flag, ..], length) = (whole, prefix::length(whole));
        let octets = usize::try_from(length).map_err(|_| refusals::too_long())?;
        match flag {
            0 => Ok(MessageStart::Forwarding(Scanner::new(length), self.extended_prefix(octets)?)),
            1 => self.start_compressed(octets).map(|it| MessageStart::Inflating(Box::new(it))),
            _ => Err(refusals::invalid_flag()),
        }
    }

    fn start_compressed(&self, octets: usize) -> Result<Inflater, Refusal> {
        let front = &[0; PREFIX_LEN];
        match (self.encoding, self.policy.compressed) {
            (Encoding::Identity, _) => Err(refusals::unnamed_encoding()),
            (_, CompressionPolicy::Refuse) => Err(refusals::compressed()),
            (Encoding::Other, _) => Err(refusals::unknown_encoding()),
            (_, CompressionPolicy::Inflate { octets_max }) if octets > octets_max => {
                Err(refusals::too_large(octets_max))
            }
            (Encoding::Gzip, CompressionPolicy::Inflate { octets_max }) => {
                Ok(Inflater::gzip(octets, front, octets_max))
            }
            (Encoding::Deflate, CompressionPolicy::Inflate { octets_max }) => {
                Ok(Inflater::zlib(octets, front, octets_max))
            }
        }
    }

    /// The prefix of a message of `octets` octets plus `user_context`.
    fn extended_prefix(&self, octets: usize) -> Result<[u8; PREFIX_LEN], Refusal> {
        let octets = octets.checked_add(self.user_context.octets().len());
        let length = octets.and_then(|octets| u32::try_from(octets).ok());
        let [a, b, c, d] = length.ok_or_else(refusals::too_long)?.to_be_bytes();
        Ok([0, a, b, c, d])
    }

    /// Ends a message: its `user_context` is returned.
    fn end_message(&mut self, scanner: &Scanner) {
        self.state = State::between();
        self.session = scanner.session();
    }

    /// Forwards the octets from `start`, and those of the message at the front of `rest`.
    fn forward(
        &mut self,
        mut scanner: Scanner,
        chunk: &[u8],
        (start, rest): (usize, &mut Range<usize>),
    ) -> Result<Option<OutputChunk>, Refusal> {
        let mut octets = chunk.get(rest.clone()).unwrap_or_default();
        let available = octets.len();
        self.scan(&mut scanner, &mut octets)?;
        rest.start = rest.start.saturating_add(available.saturating_sub(octets.len()));
        let scanned = start..rest.start;
        if scanner.left() == 0 && scanned.len() <= COPIED_MAX {
            self.end_message(&scanner);
            return Ok(Some(OutputChunk::ForwardWithUserContext(
                scanned,
                self.user_context.clone(),
            )));
        }
        self.state = State::Forwarding(scanner);
        Ok((!scanned.is_empty()).then_some(OutputChunk::Forward(scanned)))
    }

    /// Scans octets of a message, and refuses findings as the policy says.
    fn scan(&mut self, scanner: &mut Scanner, octets: &mut &[u8]) -> Result<(), Refusal> {
        while let Some(found) = scanner.scan(octets).map_err(refusals::malformed)? {
            let (rule, refusal): (AmbiguityPolicy, fn() -> Refusal) = match found {
                Finding::Repeated => (self.policy.repeated, refusals::repeated),
                Finding::Extensions => (self.policy.extensions, refusals::extensions_present),
                Finding::Unknown => (self.policy.unknown, refusals::unknown_field),
                Finding::Reattachable => {
                    self.is_reattachable = true;
                    continue;
                }
            };
            match rule {
                AmbiguityPolicy::Refuse => return Err(refusal()),
                AmbiguityPolicy::Pass => {}
            }
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        inflater: Box<Inflater>,
        chunk: &[u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<OutputChunk>, Refusal> {
        let octets = chunk.get(rest.clone()).unwrap_or_default();
        let octets = octets.get(..inflater.left()).unwrap_or(octets);
        rest.start = rest.start.saturating_add(octets.len());
        let inflater = inflater.inflate(octets)?;
        if inflater.left() > 0 {
            self.state = State::Inflating(inflater);
            return Ok(None);
        }
        let message = self.rewrite_inflated(inflater.finish()?)?;
        Ok(Some(OutputChunk::Insert(Insertion::Message(message))))
    }

    /// Scans an inflated message, fills in its prefix and appends `user_context`.
    fn rewrite_inflated(&mut self, mut message: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let (place, mut octets) = match message.split_first_chunk_mut() {
            Some((place, octets)) => (place, &*octets),
            None => return Err(refusals::invalid_compression()),
        };
        *place = self.extended_prefix(octets.len())?;
        let length = u32::try_from(octets.len()).map_err(|_| refusals::too_long())?;
        let mut scanner = Scanner::new(length);
        self.scan(&mut scanner, &mut octets)?;
        self.end_message(&scanner);
        message.extend_from_slice(self.user_context.octets());
        Ok(message)
    }
}

/// The handling of a message.
enum MessageStart {
    /// Forward it behind this prefix.
    Forwarding(Scanner, [u8; PREFIX_LEN]),
    Inflating(Box<Inflater>),
}

impl State {
    fn between() -> Self {
        Self::Prefix(MessagePrefix::default())
    }
}
