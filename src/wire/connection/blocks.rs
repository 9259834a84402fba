//! Header blocks: gathered, decoded, held against the rules, and turned into events.

use std::rc::Rc;
use std::time::Instant;

use crate::wire::connection::{Block, Connection, Event, Role};
use crate::wire::fault::{Code, Fault, StreamFault};
use crate::wire::frame::{Flags, Head, StreamId};
use crate::wire::guard::{Budget, CONTINUATIONS_MAX, INTERIMS_MAX};
use crate::wire::head;
use crate::wire::hpack::Fields;
use crate::wire::stream::{Ended, Stream};

/// An encoded block may be so many times as long as the list it may decode to.
const BLOCK_FACTOR: usize = 4;

/// Blocks that are remembered: requests alternate between two methods, answers between heads and
/// trailers.
const MEMOS: usize = 2;

thread_local! {
    static NONE: Rc<Fields> = Rc::default();
}

/// The fields of a connection that has none, which those of a thread share.
pub(in crate::wire) fn none() -> Rc<Fields> {
    NONE.with(Rc::clone)
}

/// A block that did not touch the table: the same octets, while the table is the same, are the
/// same fields.
#[derive(Debug)]
pub(in crate::wire) struct Memo {
    octets: Vec<u8>,
    generation: u64,
    fields: Rc<Fields>,
    /// As what it was held against the rules and found good.
    judged: Option<(Part, head::Promise)>,
}

/// The blocks that are remembered.
#[derive(Debug, Default)]
pub(in crate::wire) struct Memos {
    all: Vec<Memo>,
    /// Which of them holds the latest fields.
    latest: Option<usize>,
}

/// What a header block is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Request,
    Answer,
    Trailers,
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
            Err(fault) => self.break_stream(block.stream, fault, now).map(Some),
        }
    }

    /// Takes the fields that the same octets gave before, if nothing has changed since.
    fn recall(&mut self, octets: &[u8]) -> bool {
        let generation = self.decoder.generation();
        let same = |memo: &Memo| memo.generation == generation && memo.octets == octets;
        let memos = self.memos.get_or_insert_default();
        memos.latest = memos.all.iter().position(same);
        let Some(memo) = memos.latest.and_then(|at| memos.all.get(at)) else {
            return false;
        };
        self.fields = Rc::clone(&memo.fields);
        true
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

    /// Remembers the block of the latest fields in place of the oldest one.
    fn remember(&mut self, octets: &[u8], generation: u64) {
        let fields = Rc::clone(&self.fields);
        let mut memo = Memo { octets: Vec::new(), generation, fields, judged: None };
        let memos = self.memos.get_or_insert_default();
        let all = &mut memos.all;
        if all.len() >= MEMOS {
            memo.octets = all.remove(0).octets;
            memo.octets.clear();
        }
        memo.octets.extend_from_slice(octets);
        memos.latest = Some(all.len());
        all.push(memo);
    }

    /// Holds the latest fields against the rules, unless the same block was found good before.
    fn judge(&mut self, part: Part) -> Result<head::Promise, StreamFault> {
        let memos = self.memos.as_mut();
        let memo = memos.and_then(|memos| memos.latest.and_then(|at| memos.all.get_mut(at)));
        if let Some(Memo { judged: Some((known, promise)), .. }) = &memo
            && *known == part
        {
            return Ok(*promise);
        }
        let promise = match part {
            Part::Request => head::request(&self.fields),
            Part::Answer => head::answer(&self.fields),
            Part::Trailers => head::trailers(&self.fields).map(|()| head::Promise::default()),
        }?;
        if let Some(memo) = memo {
            memo.judged = Some((part, promise));
        }
        Ok(promise)
    }

    fn request_block(
        &mut self,
        block: Block,
        now: Instant,
    ) -> Result<Result<Option<Event>, StreamFault>, Fault> {
        if self.streams.find(block.stream).is_some() {
            return Ok(self.trailer_block(block));
        }
        if let Some(stray) = self.stray_block(block.stream, now)? {
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
        let promise = if block.depends_on_itself {
            Err(StreamFault::new(Code::ProtocolError, "a stream depends on itself"))
        } else if self.fields.overflow().is_some() {
            Ok(head::Promise::default())
        } else {
            self.judge(Part::Request).and_then(|promise| unless_empty(promise, block.end))
        };
        if let Ok(promise) = promise {
            stream.promised = promise.content_length;
            stream.known = true;
        }
        stream.peer_ended = block.end;
        self.streams.open(block.stream, stream);
        Ok(promise.map(|_| Some(Event::Opened { stream: block.stream, end: block.end })))
    }

    fn answer_block(
        &mut self,
        block: Block,
        now: Instant,
    ) -> Result<Result<Option<Event>, StreamFault>, Fault> {
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
            return Ok(Err(fault));
        }
        let promise = match self.judge(Part::Answer) {
            Ok(promise) => promise,
            Err(fault) => return Ok(Err(fault)),
        };
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(Ok(None)) };
        let tag = stream.tag;
        if promise.status < 200 {
            stream.interims = stream.interims.saturating_add(1);
            if block.end || promise.status == 101 || stream.interims > INTERIMS_MAX {
                let fault =
                    StreamFault::new(Code::ProtocolError, "informational answers without end");
                return Ok(Err(fault));
            }
            return Ok(Ok(Some(Event::Interim { tag })));
        }
        if let Err(fault) = unless_empty(promise, block.end) {
            return Ok(Err(fault));
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
    fn trailer_block(&mut self, block: Block) -> Result<Option<Event>, StreamFault> {
        let overflow = self.fields.overflow().is_some();
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(None) };
        if stream.peer_ended {
            return Err(StreamFault::new(Code::StreamClosed, "HEADERS after END_STREAM"));
        }
        if !block.end {
            return Err(StreamFault::new(Code::ProtocolError, "trailers without END_STREAM"));
        }
        if overflow {
            return Err(StreamFault::new(Code::EnhanceYourCalm, "the trailers are too long"));
        }
        if stream.promised.is_some_and(|left| left > 0) {
            return Err(StreamFault::new(
                Code::ProtocolError,
                "the body is not as long as promised",
            ));
        }
        self.judge(Part::Trailers)?;
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
    fn stray_block(
        &mut self,
        id: StreamId,
        now: Instant,
    ) -> Result<Option<Result<Option<Event>, StreamFault>>, Fault> {
        if self.role == Role::Server && id.is_clients() && self.is_idle(id) {
            return Ok(None);
        }
        match self.streams.ended(id) {
            Some(Ended::WeReset) => {
                self.stray_frame(Budget::Strays, now)?;
                Ok(Some(Ok(None)))
            }
            Some(Ended::PeerReset) => {
                Ok(Some(Err(StreamFault::new(Code::StreamClosed, "HEADERS after RST_STREAM"))))
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

fn unless_empty(promise: head::Promise, end: bool) -> Result<head::Promise, StreamFault> {
    if end && promise.content_length.is_some_and(|length| length > 0) {
        return Err(StreamFault::new(Code::ProtocolError, "the body is not as long as promised"));
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
