//! Stamper: the messages of one request stream, chunk by chunk, each with its stamp.
//!
//! It says which octets of a chunk pass and what goes in between; sending is its caller's.

use std::mem;
use std::ops::{Deref, Range};

use sconce_filters::Refusal;

use crate::grpc::envelope::{Finding, Scanner, SessionId};
use crate::grpc::prefix::{self, MessagePrefix, PREFIX_LEN};
use crate::grpc::user_context::inflate::Inflater;
use crate::grpc::user_context::{
    AmbiguityPolicy, CompressionPolicy, Encoding, Policy, UserContextField, refusals,
};

/// Octets of a message that is handed over together with its stamp: copying so few costs less than
/// a second frame.
const COPIED_MAX: usize = 1_024;

/// One request stream on its way to a driver.
#[derive(Debug)]
pub struct UserContextWriter {
    policy: Policy,
    user_context: UserContextField,
    encoding: Encoding,
    state: State,
    is_reattachable: bool,
    /// That of the message whose stamp was given last.
    session: SessionId,
}

#[derive(Debug)]
enum State {
    /// Between messages, or in a prefix that comes in parts.
    Prefix(MessagePrefix),
    /// In a message that passes as it comes, or at its end, where the stamp is due.
    Forwarding(Scanner),
    /// In a compressed message.
    Inflating(Box<Inflater>),
    /// Nothing passes any more. Also what is left behind by whatever goes wrong.
    Refused,
}

/// What is passed on next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputChunk {
    /// These octets of the chunk, as they now are.
    Forward(Range<usize>),
    /// The same, up to the end of a short message, and its stamp.
    ForwardWithUserContext(Range<usize>, UserContextField),
    /// Octets that are not in the chunk.
    Insert(Insertion),
}

impl OutputChunk {
    /// Whether the stamp of a message is in it: with it the message is whole.
    #[must_use]
    pub fn ends_message(&self) -> bool {
        match self {
            Self::ForwardWithUserContext(_, _)
            | Self::Insert(Insertion::UserContext(_) | Insertion::Message(_)) => true,
            Self::Forward(_) | Self::Insert(Insertion::Prefix(_)) => false,
        }
    }
}

/// Octets that a [`Stamper`] adds to a stream, or has kept back. Read them by dereferencing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The prefix of a message, which came in parts.
    Prefix([u8; PREFIX_LEN]),
    /// The stamp at the end of a message.
    UserContext(UserContextField),
    /// A whole message that was compressed, with prefix and stamp.
    Message(Vec<u8>),
}

impl Deref for Insertion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Prefix(octets) => octets,
            Self::UserContext(tail) => tail.octets(),
            Self::Message(octets) => octets,
        }
    }
}

impl UserContextWriter {
    /// The stamper of one request stream, at its beginning.
    #[must_use]
    pub fn new(policy: Policy, tail: UserContextField, encoding: Encoding) -> Self {
        let (state, session) = (State::between(), SessionId::default());
        Self { policy, user_context: tail, encoding, state, is_reattachable: false, session }
    }

    /// The session of the message whose stamp was given last: whoever passes the stamp on can ask
    /// before that. None where it names none.
    #[must_use]
    pub fn session(&self) -> Option<&[u8]> {
        self.session.id()
    }

    /// Takes octets from the front of `rest`, a range of `chunk`, and says what is passed on.
    /// To be called until it is [`None`]: then the chunk is used up, and nothing is owed.
    ///
    /// # Errors
    /// Why the call is turned away. Parts of the message may have passed; its end never does, and
    /// nothing ever passes after it.
    pub fn next_chunk(
        &mut self,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<OutputChunk>, Refusal> {
        match mem::replace(&mut self.state, State::Refused) {
            State::Prefix(held) => self.prefix(held, chunk, rest),
            State::Forwarding(scanner) if scanner.left() == 0 => {
                self.end_message(&scanner);
                Ok(Some(OutputChunk::Insert(Insertion::UserContext(self.user_context.clone()))))
            }
            State::Forwarding(scanner) => self.forward(scanner, chunk, (rest.start, rest)),
            State::Inflating(inflater) => self.inflate(inflater, chunk, rest),
            State::Refused => Err(refusals::already_refused()),
        }
    }

    /// Whether a message said so far, in the way of an `ExecutePlanRequest`, that its stream may be
    /// taken up again.
    #[must_use]
    pub fn is_reattachable(&self) -> bool {
        self.is_reattachable
    }

    /// Whether its messages may be compressed: what it passes on is longer than what came, then.
    #[must_use]
    pub fn may_inflate(&self) -> bool {
        self.encoding != Encoding::Identity
    }

    /// Whether a stamp is due though all octets are taken: the piece before it is not the last.
    #[must_use]
    pub fn expects_more(&self) -> bool {
        matches!(&self.state, State::Forwarding(scanner) if scanner.left() == 0)
    }

    /// Octets of an inflated message that are kept until it is whole.
    #[must_use]
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Inflating(inflater) => inflater.buffered(),
            State::Prefix(_) | State::Forwarding(_) | State::Refused => 0,
        }
    }

    /// The refusal of a compressed message that there is no room for, since its connection keeps
    /// too many.
    #[must_use]
    pub fn over_connection_limit() -> Refusal {
        refusals::over_connection_limit()
    }

    /// The refusal of a compressed message that there is no room for, since others keep too many.
    #[must_use]
    pub fn over_worker_limit() -> Refusal {
        refusals::over_worker_limit()
    }

    /// The client has ended its side. To be asked before the last piece is sent as the last.
    ///
    /// # Errors
    /// It did so in the middle of a message, or before it was given the stamp.
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
        mut held: MessagePrefix,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<OutputChunk>, Refusal> {
        let start = rest.start;
        let octets = chunk.get_mut(rest.clone()).unwrap_or_default();
        if held.is_empty()
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
        rest.start = start.saturating_add(held.fill(octets));
        let Some(whole) = held.whole() else {
            self.state = State::Prefix(held);
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

    /// A message begins: what becomes of it.
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

    /// The prefix of a message of so many octets, once it has its stamp.
    fn extended_prefix(&self, octets: usize) -> Result<[u8; PREFIX_LEN], Refusal> {
        let octets = octets.checked_add(self.user_context.octets().len());
        let length = octets.and_then(|octets| u32::try_from(octets).ok());
        let [a, b, c, d] = length.ok_or_else(refusals::too_long)?.to_be_bytes();
        Ok([0, a, b, c, d])
    }

    /// A message was walked to its end, and its stamp is given.
    fn end_message(&mut self, scanner: &Scanner) {
        self.state = State::between();
        self.session = scanner.session();
    }

    /// Passes on what begins at `start`, and what there is of the message at the front of `rest`.
    fn forward(
        &mut self,
        mut scanner: Scanner,
        chunk: &[u8],
        (start, rest): (usize, &mut Range<usize>),
    ) -> Result<Option<OutputChunk>, Refusal> {
        let mut octets = chunk.get(rest.clone()).unwrap_or_default();
        let there = octets.len();
        self.scan(&mut scanner, &mut octets)?;
        rest.start = rest.start.saturating_add(there.saturating_sub(octets.len()));
        let passed = start..rest.start;
        if scanner.left() == 0 && passed.len() <= COPIED_MAX {
            self.end_message(&scanner);
            return Ok(Some(OutputChunk::ForwardWithUserContext(
                passed,
                self.user_context.clone(),
            )));
        }
        self.state = State::Forwarding(scanner);
        Ok((!passed.is_empty()).then_some(OutputChunk::Forward(passed)))
    }

    /// Walks over octets of a message, and stops at what may not pass.
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

    /// An inflated message with its stamp, behind the prefix that there is room for.
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

/// What becomes of a message.
enum MessageStart {
    /// It passes as it comes, behind this prefix.
    Forwarding(Scanner, [u8; PREFIX_LEN]),
    Inflating(Box<Inflater>),
}

impl State {
    fn between() -> Self {
        Self::Prefix(MessagePrefix::default())
    }
}
