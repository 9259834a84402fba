//! Stamper: the messages of one request stream, chunk by chunk, each with its stamp.
//!
//! It says which octets of a chunk pass and what goes in between; sending is its caller's.

use std::mem;
use std::ops::{Deref, Range};

use sconce_filters::Refusal;

use crate::grpc::envelope::{Found, Scanner, Session};
use crate::grpc::prefix::{self, PREFIX, Prefix};
use crate::grpc::stamp::inflate::Inflater;
use crate::grpc::stamp::{Compressed, Encoding, OnOdd, Policy, Tail, refusals};

/// Octets of a message that is handed over together with its stamp: copying so few costs less than
/// a second frame.
const SHORT: usize = 1_024;

/// One request stream on its way to a driver.
#[derive(Debug)]
pub struct Stamper {
    policy: Policy,
    tail: Tail,
    encoding: Encoding,
    state: State,
    is_reattachable: bool,
    /// That of the message whose stamp was given last.
    session: Session,
}

#[derive(Debug)]
enum State {
    /// Between messages, or in a prefix that comes in parts.
    Prefix(Prefix),
    /// In a message that passes as it comes, or at its end, where the stamp is due.
    Passing(Scanner),
    /// In a compressed message.
    Inflating(Box<Inflater>),
    /// Nothing passes any more. Also what is left behind by whatever goes wrong.
    Refused,
}

/// What is passed on next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These octets of the chunk, as they now are.
    Pass(Range<usize>),
    /// The same, up to the end of a short message, and its stamp.
    Stamped(Range<usize>, Tail),
    /// Octets that are not in the chunk.
    Add(Addition),
}

impl Piece {
    /// Whether the stamp of a message is in it: with it the message is whole.
    #[must_use]
    pub fn ends_message(&self) -> bool {
        match self {
            Self::Stamped(_, _) | Self::Add(Addition::Tail(_) | Addition::Message(_)) => true,
            Self::Pass(_) | Self::Add(Addition::Prefix(_)) => false,
        }
    }
}

/// Octets that a [`Stamper`] adds to a stream, or has kept back. Read them by dereferencing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addition {
    /// The prefix of a message, which came in parts.
    Prefix([u8; PREFIX]),
    /// The stamp at the end of a message.
    Tail(Tail),
    /// A whole message that was compressed, with prefix and stamp.
    Message(Vec<u8>),
}

impl Deref for Addition {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Prefix(octets) => octets,
            Self::Tail(tail) => tail.octets(),
            Self::Message(octets) => octets,
        }
    }
}

impl Stamper {
    /// The stamper of one request stream, at its beginning.
    #[must_use]
    pub fn new(policy: Policy, tail: Tail, encoding: Encoding) -> Self {
        let (state, session) = (State::between(), Session::default());
        Self { policy, tail, encoding, state, is_reattachable: false, session }
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
    pub fn next(
        &mut self,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<Piece>, Refusal> {
        match mem::replace(&mut self.state, State::Refused) {
            State::Prefix(held) => self.prefix(held, chunk, rest),
            State::Passing(scanner) if scanner.left() == 0 => {
                self.finish(&scanner);
                Ok(Some(Piece::Add(Addition::Tail(self.tail.clone()))))
            }
            State::Passing(scanner) => self.pass(scanner, chunk, (rest.start, rest)),
            State::Inflating(inflater) => self.inflate(inflater, chunk, rest),
            State::Refused => Err(refusals::over()),
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
    pub fn inflates(&self) -> bool {
        self.encoding != Encoding::Identity
    }

    /// Whether a stamp is due though all octets are taken: the piece before it is not the last.
    #[must_use]
    pub fn owes(&self) -> bool {
        matches!(&self.state, State::Passing(scanner) if scanner.left() == 0)
    }

    /// Octets of an inflated message that are kept until it is whole.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Inflating(inflater) => inflater.held(),
            State::Prefix(_) | State::Passing(_) | State::Refused => 0,
        }
    }

    /// The refusal of a compressed message that there is no room for, since its connection keeps
    /// too many.
    #[must_use]
    pub fn crowded() -> Refusal {
        refusals::crowded()
    }

    /// The refusal of a compressed message that there is no room for, since others keep too many.
    #[must_use]
    pub fn crowded_out() -> Refusal {
        refusals::crowded_out()
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
            State::Prefix(_) | State::Passing(_) | State::Inflating(_) => Err(refusals::cut()),
            State::Refused => Err(refusals::over()),
        }
    }

    fn prefix(
        &mut self,
        mut held: Prefix,
        chunk: &mut [u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<Piece>, Refusal> {
        let start = rest.start;
        let octets = chunk.get_mut(rest.clone()).unwrap_or_default();
        if held.is_empty()
            && let Some(place) = octets.first_chunk_mut()
        {
            rest.start = start.saturating_add(PREFIX);
            return match self.begin(*place)? {
                Begun::Passing(scanner, prefix) => {
                    *place = prefix;
                    self.pass(scanner, chunk, (start, rest))
                }
                Begun::Inflating(inflater) => self.inflate(inflater, chunk, rest),
            };
        }
        rest.start = start.saturating_add(held.fill(octets));
        let Some(whole) = held.whole() else {
            self.state = State::Prefix(held);
            return Ok(None);
        };
        match self.begin(whole)? {
            Begun::Passing(scanner, prefix) => {
                self.state = State::Passing(scanner);
                Ok(Some(Piece::Add(Addition::Prefix(prefix))))
            }
            Begun::Inflating(inflater) => self.inflate(inflater, chunk, rest),
        }
    }

    /// A message begins: what becomes of it.
    fn begin(&self, whole: [u8; PREFIX]) -> Result<Begun, Refusal> {
        let ([flag, ..], length) = (whole, prefix::length(whole));
        let octets = usize::try_from(length).map_err(|_| refusals::too_long())?;
        match flag {
            0 => Ok(Begun::Passing(Scanner::new(length), self.stamped(octets)?)),
            1 => self.begin_compressed(octets).map(|it| Begun::Inflating(Box::new(it))),
            _ => Err(refusals::flag()),
        }
    }

    fn begin_compressed(&self, octets: usize) -> Result<Inflater, Refusal> {
        let front = &[0; PREFIX];
        match (self.encoding, self.policy.compressed) {
            (Encoding::Identity, _) => Err(refusals::unnamed_encoding()),
            (_, Compressed::Refuse) => Err(refusals::compressed()),
            (Encoding::Other, _) => Err(refusals::unknown_encoding()),
            (_, Compressed::Inflate { octets_max }) if octets > octets_max => {
                Err(refusals::too_large(octets_max))
            }
            (Encoding::Gzip, Compressed::Inflate { octets_max }) => {
                Ok(Inflater::gzip(octets, front, octets_max))
            }
            (Encoding::Deflate, Compressed::Inflate { octets_max }) => {
                Ok(Inflater::zlib(octets, front, octets_max))
            }
        }
    }

    /// The prefix of a message of so many octets, once it has its stamp.
    fn stamped(&self, octets: usize) -> Result<[u8; PREFIX], Refusal> {
        let octets = octets.checked_add(self.tail.octets().len());
        let length = octets.and_then(|octets| u32::try_from(octets).ok());
        let [a, b, c, d] = length.ok_or_else(refusals::too_long)?.to_be_bytes();
        Ok([0, a, b, c, d])
    }

    /// A message was walked to its end, and its stamp is given.
    fn finish(&mut self, scanner: &Scanner) {
        self.state = State::between();
        self.session = scanner.session();
    }

    /// Passes on what begins at `start`, and what there is of the message at the front of `rest`.
    fn pass(
        &mut self,
        mut scanner: Scanner,
        chunk: &[u8],
        (start, rest): (usize, &mut Range<usize>),
    ) -> Result<Option<Piece>, Refusal> {
        let mut octets = chunk.get(rest.clone()).unwrap_or_default();
        let there = octets.len();
        self.scan(&mut scanner, &mut octets)?;
        rest.start = rest.start.saturating_add(there.saturating_sub(octets.len()));
        let passed = start..rest.start;
        if scanner.left() == 0 && passed.len() <= SHORT {
            self.finish(&scanner);
            return Ok(Some(Piece::Stamped(passed, self.tail.clone())));
        }
        self.state = State::Passing(scanner);
        Ok((!passed.is_empty()).then_some(Piece::Pass(passed)))
    }

    /// Walks over octets of a message, and stops at what may not pass.
    fn scan(&mut self, scanner: &mut Scanner, octets: &mut &[u8]) -> Result<(), Refusal> {
        while let Some(found) = scanner.take(octets).map_err(refusals::malformed)? {
            let (rule, refusal): (OnOdd, fn() -> Refusal) = match found {
                Found::Repeated => (self.policy.repeated, refusals::repeated),
                Found::Extensions => (self.policy.extensions, refusals::extensions),
                Found::Unknown => (self.policy.unknown, refusals::unknown),
                Found::Reattachable => {
                    self.is_reattachable = true;
                    continue;
                }
            };
            match rule {
                OnOdd::Refuse => return Err(refusal()),
                OnOdd::Pass => {}
            }
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        inflater: Box<Inflater>,
        chunk: &[u8],
        rest: &mut Range<usize>,
    ) -> Result<Option<Piece>, Refusal> {
        let octets = chunk.get(rest.clone()).unwrap_or_default();
        let octets = octets.get(..inflater.left()).unwrap_or(octets);
        rest.start = rest.start.saturating_add(octets.len());
        let inflater = inflater.take(octets)?;
        if inflater.left() > 0 {
            self.state = State::Inflating(inflater);
            return Ok(None);
        }
        let message = self.rewritten(inflater.finish()?)?;
        Ok(Some(Piece::Add(Addition::Message(message))))
    }

    /// An inflated message with its stamp, behind the prefix that there is room for.
    fn rewritten(&mut self, mut message: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let (place, mut octets) = match message.split_first_chunk_mut() {
            Some((place, octets)) => (place, &*octets),
            None => return Err(refusals::unsound()),
        };
        *place = self.stamped(octets.len())?;
        let length = u32::try_from(octets.len()).map_err(|_| refusals::too_long())?;
        let mut scanner = Scanner::new(length);
        self.scan(&mut scanner, &mut octets)?;
        self.finish(&scanner);
        message.extend_from_slice(self.tail.octets());
        Ok(message)
    }
}

/// What becomes of a message.
enum Begun {
    /// It passes as it comes, behind this prefix.
    Passing(Scanner, [u8; PREFIX]),
    Inflating(Box<Inflater>),
}

impl State {
    fn between() -> Self {
        Self::Prefix(Prefix::default())
    }
}
