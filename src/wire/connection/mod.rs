//! Connection: one HTTP/2 connection without its socket.
//!
//! `receive` turns octets into events, `send` writes frames into the outbox; what both share
//! stands here. The owner reads and writes the socket, tells the time, and answers events.

mod blocks;
mod body;
mod control;
mod crossing;
mod earned;
mod event;
mod memo;
mod receive;
mod reuse;
mod send;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

pub use crate::wire::connection::event::Event;

use crate::wire::connection::crossing::Crossing;
use crate::wire::connection::earned::RoundTrips;
use crate::wire::fault::{Code, Fault, StreamFault};
use crate::wire::frame::{self, Flags, Kind, StreamId};
use crate::wire::guard::{Budget, Guard};
use crate::wire::head::Malformed;
use crate::wire::hpack::{Decoder, Encoder, Fields, Limits};
use crate::wire::outbox::Outbox;
use crate::wire::settings::{Settings, WINDOW_FLOOR, WINDOW_MAX};
use crate::wire::stream::{Ended, Streams};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We answer: the peer is a client.
    Server,
    /// We ask: the peer is a driver.
    Client,
}

/// What we offer, and how much we take.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Our settings.
    pub settings: Settings,
    /// Credit of the whole connection, in octets; at least the floor of 65,535.
    pub window: u32,
    /// Limits of a header list.
    pub headers: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parse {
    /// So many octets of the client's preface have come.
    Preface(usize),
    /// Between frames.
    Head,
    /// Inside a frame that is understood when it is whole.
    Payload(frame::Head),
    /// Inside DATA.
    Body(body::Body),
    /// Inside octets that nobody wants.
    Skip(u32),
}

/// A header block that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    stream: StreamId,
    end: bool,
    continuations: u32,
    /// The stream depends on itself (RFC 7540, 5.3.1).
    depends_on_itself: bool,
}

/// A SETTINGS frame of ours that is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct Unacked {
    /// Octets that it takes from the windows of the streams that were open.
    shrunk_by: u32,
    /// Streams from this number on were opened after it.
    before: StreamId,
    sent: Instant,
}

/// One HTTP/2 connection without its socket.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    parse: Parse,
    held: Vec<u8>,
    block: Option<Block>,
    block_octets: Vec<u8>,
    /// When the latest frame or header block began.
    since: Instant,
    block_out: Vec<u8>,
    offer: Offer,
    sent: Settings,
    unacked: VecDeque<Unacked>,
    theirs: Settings,
    met: bool,
    streams: Streams,
    peer_last: StreamId,
    own_next: StreamId,
    send_credit: i64,
    receive_credit: i64,
    owed: u32,
    extra: u32,
    /// Whether credit of uploads is withheld that goes back before the connection sleeps.
    is_owing: bool,
    decoder: Decoder,
    encoder: Encoder,
    fields: Rc<Fields>,
    memos: Option<Box<memo::Memos>>,
    /// What is to be written to the peer.
    pub out: Outbox,
    /// What the peer did of late; `None` while every budget is full.
    guard: Option<Box<Guard>>,
    /// What the peer may still send on streams that we have reset, since it was granted before.
    crossing: Crossing,
    /// `None` until something of an upload was passed on.
    trips: Option<Box<RoundTrips>>,
    closing: Option<StreamId>,
    pings: u32,
}

impl Connection {
    /// A connection that has just begun; our preface waits in the outbox.
    #[must_use]
    pub fn new(role: Role, offer: Offer, now: Instant) -> Self {
        let mut connection = Self {
            role,
            parse: if role == Role::Server { Parse::Preface(0) } else { Parse::Head },
            held: Vec::new(),
            block: None,
            block_octets: Vec::new(),
            since: now,
            block_out: Vec::new(),
            offer,
            sent: Settings::INITIAL,
            unacked: VecDeque::new(),
            theirs: Settings::INITIAL,
            met: false,
            streams: Streams::default(),
            peer_last: StreamId::CONNECTION,
            own_next: StreamId::new(1),
            send_credit: i64::from(WINDOW_FLOOR),
            receive_credit: i64::from(WINDOW_FLOOR),
            owed: 0,
            extra: 0,
            is_owing: false,
            decoder: Decoder::new(offer.settings.header_table),
            encoder: Encoder::new(),
            fields: memo::none(),
            memos: None,
            out: Outbox::default(),
            guard: None,
            crossing: Crossing::default(),
            trips: None,
            closing: None,
            pings: 0,
        };
        connection.greet(now);
        connection
    }

    fn greet(&mut self, now: Instant) {
        if self.role == Role::Client {
            self.out.copy(frame::PREFACE);
        }
        self.send_settings(self.offer.settings, now);
        let more = self.offer.window.saturating_sub(WINDOW_FLOOR);
        if more > 0 {
            self.receive_credit = self.receive_credit.saturating_add(i64::from(more));
            self.window_update(StreamId::CONNECTION, more);
        }
    }

    /// The fields of the last header block. Equal blocks in a row share one list: whoever keeps it
    /// can tell by `Rc::ptr_eq` that nothing has changed.
    #[must_use]
    pub fn fields(&self) -> Rc<Fields> {
        Rc::clone(&self.fields)
    }

    /// The peer's settings.
    #[must_use]
    pub fn theirs(&self) -> &Settings {
        &self.theirs
    }

    /// Whether the peer's first SETTINGS have come.
    #[must_use]
    pub fn has_met(&self) -> bool {
        self.met
    }

    /// Whether nothing of the client's preface has come (server role).
    #[must_use]
    pub fn awaits_preface(&self) -> bool {
        self.parse == Parse::Preface(0)
    }

    /// Since when a SETTINGS frame of ours waits for its acknowledgement.
    #[must_use]
    pub fn unacknowledged_since(&self) -> Option<Instant> {
        self.unacked.front().map(|unacked| unacked.sent)
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.streams.count()
    }

    /// Whether one more stream may be opened (client role).
    #[must_use]
    pub fn can_open(&self) -> bool {
        let most = usize::try_from(self.theirs.streams).unwrap_or(usize::MAX);
        self.closing.is_none() && self.streams.count() < most && self.own_next < StreamId::MAX
    }

    /// Whether the peer has said that it takes no new streams (client role).
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.closing.is_some()
    }

    /// Every open stream and its tag.
    pub fn tags(&self) -> impl Iterator<Item = (StreamId, u32)> {
        self.streams.ids()
    }

    /// Gives a stream the owner's name for it.
    pub fn tag(&mut self, id: StreamId, tag: u32) {
        if let Some(stream) = self.streams.find_mut(id) {
            stream.tag = tag;
        }
    }

    /// Octets of DATA that the stream's own window still takes; negative after it shrank.
    #[must_use]
    pub fn stream_credit(&self, id: StreamId) -> i64 {
        self.streams.find(id).map_or(0, |stream| stream.send)
    }

    /// Octets of DATA that the connection's window still takes.
    #[must_use]
    pub fn connection_credit(&self) -> i64 {
        self.send_credit
    }

    /// Octets of DATA that may be sent on a stream now.
    #[must_use]
    pub fn room(&self, id: StreamId) -> usize {
        usize::try_from(self.stream_credit(id).min(self.send_credit)).unwrap_or(0)
    }

    /// Octets that the peer may still send on a stream, those of a frame that has come in part
    /// included.
    #[must_use]
    pub fn granted(&self, id: StreamId) -> i64 {
        let receive = self.streams.find(id).map_or(0, |stream| stream.receive);
        receive.saturating_add(self.arriving(Some(id)))
    }

    fn arriving(&self, id: Option<StreamId>) -> i64 {
        if let Parse::Body(body) = self.parse { body.arriving(id) } else { 0 }
    }

    /// Octets that the peer may still send on the connection, those owed to it and those of a frame
    /// that has come in part included.
    #[must_use]
    pub fn granted_connection(&self) -> i64 {
        self.receive_credit.saturating_add(i64::from(self.owed)).saturating_add(self.arriving(None))
    }

    /// The budgets of the peer; `born` is when they were full, if nothing was spent since.
    fn guard(&mut self, born: Instant) -> &mut Guard {
        self.guard.get_or_insert_with(|| Box::new(Guard::new(born)))
    }

    /// Counts one event; over the budget it is a connection error.
    fn spend(&mut self, budget: Budget, now: Instant) -> Result<(), Fault> {
        if self.guard(now).spend(budget, now) { Ok(()) } else { Err(Fault::calm(budget)) }
    }

    /// Takes so many from a budget of the peer for what the owner did for it; `false` when it is
    /// empty.
    #[must_use]
    pub fn charge(&mut self, budget: Budget, count: u32, now: Instant) -> bool {
        self.guard(now).spend_some(budget, count, now)
    }

    /// Resets a stream for what the peer did. Provoked resets have a budget of their own.
    fn break_stream(
        &mut self,
        id: StreamId,
        fault: StreamFault,
        now: Instant,
    ) -> Result<Event, Fault> {
        self.write_reset(id, fault.code);
        let tag = self.close(id, Ended::WeReset);
        if self.role == Role::Server {
            self.spend(Budget::ProvokedResets, now)?;
        }
        Ok(tag.map_or(Event::Starved, |tag| Event::Broken { tag, fault }))
    }

    /// Resets a stream whose answer breaks a rule. `end` says whether the answer would end there.
    fn reject_answer(&mut self, id: StreamId, fault: Malformed, end: bool) -> Option<Event> {
        self.write_reset(id, Code::ProtocolError);
        let tag = self.close(id, Ended::WeReset);
        tag.map(|tag| Event::MalformedAnswer { tag, fault, end })
    }

    fn close(&mut self, id: StreamId, how: Ended) -> Option<u32> {
        let stream = self.streams.close(id, how)?;
        if matches!(how, Ended::WeReset | Ended::Rejected) && !stream.peer_ended {
            self.crossing.expect(stream.receive);
        }
        self.extra = self.extra.saturating_sub(stream.extra);
        stream.known.then_some(stream.tag)
    }

    /// Closes a stream that both sides have ended.
    fn close_if_done(&mut self, id: StreamId) {
        if self.streams.find(id).is_some_and(|stream| stream.peer_ended && stream.we_ended) {
            self.close(id, Ended::Done);
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self, now: Instant) {
        self.guard.take_if(|guard| guard.is_full(now));
        if self.block.is_none() {
            self.fields = memo::none();
            self.memos = None;
            self.block_octets = Vec::new();
            self.block_out = Vec::new();
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
        self.decoder.shrink();
        self.encoder.shrink();
        self.streams.shrink();
        self.out.shrink();
    }

    fn frame(&mut self, kind: Kind, flags: Flags, stream: StreamId, payload: &[u8]) {
        self.frame_joined(kind, flags, stream, [payload, &[]]);
    }

    fn frame_joined(&mut self, kind: Kind, flags: Flags, stream: StreamId, payload: [&[u8]; 2]) {
        let [front, behind] = payload;
        let size = front.len().saturating_add(behind.len());
        let length = u32::try_from(size).unwrap_or(0);
        let head = frame::Head { length, kind, flags, stream };
        self.out.frame(head.octets(), payload);
    }
}

/// Adds to a window; `None` above the largest one there is (RFC 9113, 6.9.1).
fn widen(credit: i64, by: i64) -> Option<i64> {
    credit.checked_add(by).filter(|sum| *sum <= i64::from(WINDOW_MAX))
}
