//! Header blocks: gathered, decoded, held against the rules, and turned into events.

use std::rc::Rc;
use std::time::Instant;

use crate::wire::connection::memo::Part;
use crate::wire::connection::{Block, Connection, Event, Role};
use crate::wire::fault::{Code, Fault, StreamFault};
use crate::wire::frame::{Flags, Head, StreamId};
use crate::wire::guard::{Budget, CONTINUATIONS_MAX, INTERIMS_MAX};
use crate::wire::head::{Malformed, Promise, Rule};
use crate::wire::hpack::Fields;
use crate::wire::stream::{Ended, Stream};

/// An encoded block may be so many times as long as the list it may decode to.
const BLOCK_FACTOR: usize = 4;

/// What a header block came to: nothing, an event, or a fault of its stream.
type Outcome = Result<Option<Event>, BadBlock>;

/// Why a header block breaks its stream.
enum BadBlock {
    /// It cannot come there, or cannot be read.
    Stream(StreamFault),
    /// Its list breaks a rule.
    List(Malformed),
}

impl From<StreamFault> for BadBlock {
    fn from(fault: StreamFault) -> Self {
        Self::Stream(fault)
    }
}

impl From<Malformed> for BadBlock {
    fn from(fault: Malformed) -> Self {
        Self::List(fault)
    }
}

impl Connection {
    pub(in crate::wire) fn headers(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        let (fragment, depends_on) = unpad(head, payload)?;
        let block = Block {
            stream: head.stream,
            end: head.flags.has(Flags::END_STREAM),
            continuations: 0,
            depends_on_itself: depends_on == Some(head.stream),
        };
        if head.flags.has(Flags::END_HEADERS) {
            return self.whole_block(block, fragment, now);
        }
        self.block_octets.clear();
        self.block_octets.extend_from_slice(fragment);
        self.block = Some(block);
        Ok(None)
    }

    pub(in crate::wire) fn continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        let Some(mut block) = self.block else { return Ok(None) };
        block.continuations = block.continuations.saturating_add(1);
        if block.continuations > CONTINUATIONS_MAX {
            return Err(Fault::calm(Budget::Continuations));
        }
        let most = self.offer.headers.octets.saturating_mul(BLOCK_FACTOR);
        if self.block_octets.len().saturating_add(payload.len()) > most {
            return Err(Fault::calm(Budget::HeaderBlock));
        }
        self.block_octets.extend_from_slice(payload);
        self.block = Some(block);
        if !head.flags.has(Flags::END_HEADERS) {
            return Ok(None);
        }
        self.block = None;
        let octets = std::mem::take(&mut self.block_octets);
        self.whole_block(block, &octets, now)
    }

    fn whole_block(
        &mut self,
        block: Block,
        octets: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if !self.recall(octets) {
            self.decode(octets, now)?;
        }
        let outcome = match self.role {
            Role::Server => self.request_block(block, now)?,
            Role::Client => self.answer_block(block, now)?,
        };
        match outcome {
            Ok(event) => Ok(event),
            Err(BadBlock::List(fault)) if self.role == Role::Client => {
                Ok(self.reject_answer(block.stream, fault, block.end))
            }
            Err(BadBlock::List(fault)) => {
                self.break_stream(block.stream, fault.into(), now).map(Some)
            }
            Err(BadBlock::Stream(fault)) => self.break_stream(block.stream, fault, now).map(Some),
        }
    }

    fn decode(&mut self, octets: &[u8], now: Instant) -> Result<(), Fault> {
        let before = self.decoder.generation();
        let mut fresh = Fields::default();
        let fields = Rc::get_mut(&mut self.fields).unwrap_or(&mut fresh);
        let limits = self.offer.headers;
        self.decoder
            .decode(octets, limits, fields)
            .map_err(|_| Fault::new(Code::CompressionError, "a header block cannot be decoded"))?;
        if Rc::get_mut(&mut self.fields).is_none() {
            self.fields = Rc::new(fresh);
        }
        if self.fields.overflow().is_some() {
            self.spend(Budget::HeaderLists, now)?;
        } else if before == self.decoder.generation() {
            self.remember(octets, before);
        }
        Ok(())
    }

    fn request_block(&mut self, block: Block, now: Instant) -> Result<Outcome, Fault> {
        if self.streams.find(block.stream).is_some() {
            return Ok(self.trailer_block(block));
        }
        if let Some(stray) = self.stray_block(block.stream, now)? {
            if block.end {
                self.reset_rejected(block.stream);
            }
            return Ok(stray);
        }
        self.peer_last = block.stream;
        if self.closing.is_some_and(|last| block.stream > last) {
            self.streams.remember(block.stream, Ended::WeReset);
            self.spend(Budget::Strays, now)?;
            self.crossing.expect(i64::from(self.sent.window));
            return Ok(Ok(None));
        }
        let most = usize::try_from(self.offer.settings.streams).unwrap_or(usize::MAX);
        if self.streams.count() >= most {
            self.write_reset(block.stream, Code::RefusedStream);
            self.streams.remember(block.stream, Ended::WeReset);
            self.crossing.expect(i64::from(self.sent.window));
            if self.unacked.is_empty() {
                self.spend(Budget::ProvokedResets, now)?;
            }
            return Ok(Ok(None));
        }
        let mut stream = Stream::new(self.theirs.window, self.offer.settings.window);
        stream.peer_ended = block.end;
        let promise = if block.depends_on_itself {
            Err(Malformed::of(Rule::Priority))
        } else if self.fields.overflow().is_some() {
            Ok(Promise::default())
        } else {
            self.judge(Part::Request).and_then(|promise| unless_empty(promise, block.end))
        };
        let event = match promise {
            Ok(promise) => {
                stream.promised = promise.content_length;
                stream.known = true;
                Event::Opened { stream: block.stream, end: block.end }
            }
            Err(fault) => {
                // The owner answers it, and resets the stream.
                self.spend(Budget::ProvokedResets, now)?;
                Event::MalformedRequest { stream: block.stream, fault }
            }
        };
        self.streams.open(block.stream, stream);
        Ok(Ok(Some(event)))
    }

    fn answer_block(&mut self, block: Block, now: Instant) -> Result<Outcome, Fault> {
        let Some(stream) = self.streams.find(block.stream) else {
            let stray = self.stray_block(block.stream, now)?;
            return Ok(stray.unwrap_or(Ok(None)));
        };
        if stream.peer_ended || stream.answered {
            return Ok(self.trailer_block(block));
        }
        if self.fields.overflow().is_some() {
            let fault =
                StreamFault::new(Code::EnhanceYourCalm, "the answer's header list is too long");
            return Ok(Err(fault.into()));
        }
        let judged = self.judge(Part::Answer);
        let promise = match judged.and_then(|promise| unless_empty(promise, block.end)) {
            Ok(promise) => promise,
            Err(fault) => return Ok(Err(fault.into())),
        };
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(Ok(None)) };
        let tag = stream.tag;
        if promise.status < 200 {
            stream.interims = stream.interims.saturating_add(1);
            if block.end || promise.status == 101 || stream.interims > INTERIMS_MAX {
                let fault =
                    StreamFault::new(Code::ProtocolError, "informational answers without end");
                return Ok(Err(fault.into()));
            }
            return Ok(Ok(Some(Event::Interim { tag })));
        }
        stream.promised = promise.content_length;
        stream.answered = true;
        stream.peer_ended = block.end;
        if block.end && stream.we_ended {
            self.close(block.stream, Ended::Done);
        }
        Ok(Ok(Some(Event::Answered { tag, status: promise.status, end: block.end })))
    }

    /// A second (last) header block of a stream that is open.
    fn trailer_block(&mut self, block: Block) -> Outcome {
        let overflow = self.fields.overflow().is_some();
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(None) };
        if stream.peer_ended {
            return Err(StreamFault::new(Code::StreamClosed, "HEADERS after END_STREAM").into());
        }
        if !block.end {
            let fault = StreamFault::new(Code::ProtocolError, "trailers without END_STREAM");
            return Err(fault.into());
        }
        if overflow {
            let fault = StreamFault::new(Code::EnhanceYourCalm, "the trailers are too long");
            return Err(fault.into());
        }
        let is_short = stream.promised.is_some_and(|left| left > 0);
        self.judge(Part::Trailers)?;
        if is_short {
            return Err(Malformed::of(Rule::BodyLength).into());
        }
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(None) };
        stream.peer_ended = true;
        let (tag, is_done) = (stream.tag, stream.we_ended);
        self.give_up_window(block.stream);
        if is_done {
            self.close(block.stream, Ended::Done);
        }
        Ok(Some(Event::Trailers { tag }))
    }

    /// A header block for a stream that is not open: a new one (`None`), a crossing, or a fault.
    fn stray_block(&mut self, id: StreamId, now: Instant) -> Result<Option<Outcome>, Fault> {
        if self.role == Role::Server && id.is_clients() && self.is_idle(id) {
            return Ok(None);
        }
        match self.streams.ended(id) {
            Some(Ended::WeReset | Ended::Rejected) => {
                self.stray_frame(Budget::Strays, now)?;
                Ok(Some(Ok(None)))
            }
            Some(Ended::PeerReset) => {
                let fault = StreamFault::new(Code::StreamClosed, "HEADERS after RST_STREAM");
                Ok(Some(Err(fault.into())))
            }
            Some(Ended::Done) => {
                Err(Fault::new(Code::StreamClosed, "HEADERS on a stream that has ended"))
            }
            None if self.role == Role::Client && !self.is_idle(id) => {
                self.stray_frame(Budget::Strays, now)?;
                Ok(Some(Ok(None)))
            }
            None => Err(Fault::new(Code::ProtocolError, "HEADERS on a stream that cannot be")),
        }
    }
}

fn unless_empty(promise: Promise, end: bool) -> Result<Promise, Malformed> {
    if end && promise.content_length.is_some_and(|length| length > 0) {
        return Err(Malformed::of(Rule::BodyLength));
    }
    Ok(promise)
}

/// Takes padding and priority off a HEADERS payload; the stream it depends on, if it says.
fn unpad(head: Head, payload: &[u8]) -> Result<(&[u8], Option<StreamId>), Fault> {
    let mut rest = payload;
    let mut padding = 0_usize;
    if head.flags.has(Flags::PADDED) {
        let Some((octet, inside)) = rest.split_first() else {
            return Err(Fault::new(Code::FrameSizeError, "padding without a length"));
        };
        padding = usize::from(*octet);
        rest = inside;
    }
    let mut depends_on = None;
    if head.flags.has(Flags::PRIORITY) {
        let Some((octets, inside)) = rest.split_first_chunk::<5>() else {
            return Err(Fault::new(Code::FrameSizeError, "HEADERS too short for its priority"));
        };
        let [a, b, c, d, _] = *octets;
        depends_on = Some(StreamId::new(u32::from_be_bytes([a, b, c, d])));
        rest = inside;
    }
    match rest.len().checked_sub(padding).and_then(|length| rest.get(..length)) {
        Some(fragment) => Ok((fragment, depends_on)),
        None => Err(Fault::new(Code::ProtocolError, "more padding than payload")),
    }
}
