//! Connection: one HTTP/2 connection without its socket.
//!
//! `receive` turns octets into events, `send` writes frames into the outbox; what both share
//! stands here. The owner reads and writes the socket, tells the time, and answers events.

mod block_cache;
mod control;
mod data;
mod event;
mod header_block;
mod late_frames;
mod receive;
mod reuse;
mod send;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests;
mod window_growth;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

pub use crate::wire::connection::event::Event;

use crate::wire::connection::late_frames::LateFrames;
use crate::wire::connection::window_growth::RoundTrips;
use crate::wire::error::{ConnectionError, ErrorCode, StreamError};
use crate::wire::frame::{self, Flags, Kind, StreamId};
use crate::wire::guard::{Budget, Guard};
use crate::wire::head::MalformedHead;
use crate::wire::hpack::{Decoder, Encoder, Fields, Limits};
use crate::wire::settings::{DEFAULT_INITIAL_WINDOW_SIZE, Settings, WINDOW_MAX};
use crate::wire::stream::{ClosedBy, Streams};
use crate::wire::write_buffer::WriteBuffer;

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
pub struct LocalConfig {
    /// Our settings.
    pub settings: Settings,
    /// Credit of the whole connection, in octets; at least the floor of 65,535.
    pub window: u32,
    /// Limits of a header list.
    pub headers: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParseState {
    /// So many octets of the client's preface have come.
    Preface(usize),
    /// Between frames.
    FrameHeader,
    /// Inside a frame that is understood when it is whole.
    Payload(frame::FrameHeader),
    /// Inside DATA.
    Data(data::PartialData),
    /// Inside octets that nobody wants.
    Skip(u32),
}

/// A header block that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderBlock {
    stream: StreamId,
    end_stream: bool,
    continuations: u32,
    /// The stream depends on itself (RFC 7540, 5.3.1).
    depends_on_itself: bool,
}

/// A SETTINGS frame of ours that is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct UnackedSettings {
    /// Octets that it takes from the windows of the streams that were open.
    window_reduction: u32,
    /// Streams from this number on were opened after it.
    first_stream_after: StreamId,
    sent_at: Instant,
}

/// One HTTP/2 connection without its socket.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    parse: ParseState,
    partial_frame: Vec<u8>,
    header_block: Option<HeaderBlock>,
    block_buffer: Vec<u8>,
    /// When the latest frame or header block began.
    partial_since: Instant,
    encode_buffer: Vec<u8>,
    local_config: LocalConfig,
    sent_settings: Settings,
    unacked_settings: VecDeque<UnackedSettings>,
    remote_settings: Settings,
    settings_received: bool,
    streams: Streams,
    last_remote_id: StreamId,
    next_local_id: StreamId,
    send_window: i64,
    recv_window: i64,
    unreleased: u32,
    earned: u32,
    /// Whether credit of uploads is withheld that goes back before the connection sleeps.
    has_withheld: bool,
    decoder: Decoder,
    encoder: Encoder,
    fields: Rc<Fields>,
    block_cache: Option<Box<block_cache::BlockCache>>,
    /// What is to be written to the peer.
    pub write_buffer: WriteBuffer,
    /// What the peer did of late; `None` while every budget is full.
    guard: Option<Box<Guard>>,
    /// What the peer may still send on streams that we have reset, since it was granted before.
    late_frames: LateFrames,
    /// `None` until something of an upload was passed on.
    round_trips: Option<Box<RoundTrips>>,
    goaway_last_id: Option<StreamId>,
    unanswered_pings: u32,
}

impl Connection {
    /// A connection that has just begun; our preface waits in the outbox.
    #[must_use]
    pub fn new(role: Role, offer: LocalConfig, now: Instant) -> Self {
        let mut connection = Self {
            role,
            parse: if role == Role::Server {
                ParseState::Preface(0)
            } else {
                ParseState::FrameHeader
            },
            partial_frame: Vec::new(),
            header_block: None,
            block_buffer: Vec::new(),
            partial_since: now,
            encode_buffer: Vec::new(),
            local_config: offer,
            sent_settings: Settings::INITIAL,
            unacked_settings: VecDeque::new(),
            remote_settings: Settings::INITIAL,
            settings_received: false,
            streams: Streams::default(),
            last_remote_id: StreamId::CONNECTION,
            next_local_id: StreamId::new(1),
            send_window: i64::from(DEFAULT_INITIAL_WINDOW_SIZE),
            recv_window: i64::from(DEFAULT_INITIAL_WINDOW_SIZE),
            unreleased: 0,
            earned: 0,
            has_withheld: false,
            decoder: Decoder::new(offer.settings.header_table_size),
            encoder: Encoder::new(),
            fields: block_cache::empty_fields(),
            block_cache: None,
            write_buffer: WriteBuffer::default(),
            guard: None,
            late_frames: LateFrames::default(),
            round_trips: None,
            goaway_last_id: None,
            unanswered_pings: 0,
        };
        connection.send_preface(now);
        connection
    }

    fn send_preface(&mut self, now: Instant) {
        if self.role == Role::Client {
            self.write_buffer.push_copy(frame::PREFACE);
        }
        self.send_settings(self.local_config.settings, now);
        let more = self.local_config.window.saturating_sub(DEFAULT_INITIAL_WINDOW_SIZE);
        if more > 0 {
            self.recv_window = self.recv_window.saturating_add(i64::from(more));
            self.send_window_update(StreamId::CONNECTION, more);
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
    pub fn remote_settings(&self) -> &Settings {
        &self.remote_settings
    }

    /// Whether the peer's first SETTINGS have come.
    #[must_use]
    pub fn settings_received(&self) -> bool {
        self.settings_received
    }

    /// Whether nothing of the client's preface has come (server role).
    #[must_use]
    pub fn awaits_preface(&self) -> bool {
        self.parse == ParseState::Preface(0)
    }

    /// Since when a SETTINGS frame of ours waits for its acknowledgement.
    #[must_use]
    pub fn settings_unacked_since(&self) -> Option<Instant> {
        self.unacked_settings.front().map(|unacked| unacked.sent_at)
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.count()
    }

    /// Whether one more stream may be opened (client role).
    #[must_use]
    pub fn can_open_stream(&self) -> bool {
        let most =
            usize::try_from(self.remote_settings.max_concurrent_streams).unwrap_or(usize::MAX);
        self.goaway_last_id.is_none()
            && self.streams.count() < most
            && self.next_local_id < StreamId::MAX
    }

    /// Whether the peer has said that it takes no new streams (client role).
    #[must_use]
    pub fn is_going_away(&self) -> bool {
        self.goaway_last_id.is_some()
    }

    /// Every open stream and its tag.
    pub fn tags(&self) -> impl Iterator<Item = (StreamId, u32)> {
        self.streams.ids()
    }

    /// Gives a stream the owner's name for it.
    pub fn set_tag(&mut self, id: StreamId, tag: u32) {
        if let Some(stream) = self.streams.find_mut(id) {
            stream.tag = tag;
        }
    }

    /// Octets of DATA that the stream's own window still takes; negative after it shrank.
    #[must_use]
    pub fn stream_send_window(&self, id: StreamId) -> i64 {
        self.streams.find(id).map_or(0, |stream| stream.send_window)
    }

    /// Octets of DATA that the connection's window still takes.
    #[must_use]
    pub fn connection_send_window(&self) -> i64 {
        self.send_window
    }

    /// Octets of DATA that may be sent on a stream now.
    #[must_use]
    pub fn send_capacity(&self, id: StreamId) -> usize {
        usize::try_from(self.stream_send_window(id).min(self.send_window)).unwrap_or(0)
    }

    /// Octets that the peer may still send on a stream, those of a frame that has come in part
    /// included.
    #[must_use]
    pub fn recv_window(&self, id: StreamId) -> i64 {
        let receive = self.streams.find(id).map_or(0, |stream| stream.recv_window);
        receive.saturating_add(self.partial_data_octets(Some(id)))
    }

    fn partial_data_octets(&self, id: Option<StreamId>) -> i64 {
        if let ParseState::Data(body) = self.parse { body.octets_left(id) } else { 0 }
    }

    /// Octets that the peer may still send on the connection, those owed to it and those of a frame
    /// that has come in part included.
    #[must_use]
    pub fn connection_recv_window(&self) -> i64 {
        self.recv_window
            .saturating_add(i64::from(self.unreleased))
            .saturating_add(self.partial_data_octets(None))
    }

    /// The budgets of the peer; `born` is when they were full, if nothing was spent since.
    fn guard(&mut self, born: Instant) -> &mut Guard {
        self.guard.get_or_insert_with(|| Box::new(Guard::new(born)))
    }

    /// Counts one event; over the budget it is a connection error.
    fn spend(&mut self, budget: Budget, now: Instant) -> Result<(), ConnectionError> {
        if self.guard(now).spend(budget, now) {
            Ok(())
        } else {
            Err(ConnectionError::enhance_your_calm(budget))
        }
    }

    /// Takes so many from a budget of the peer for what the owner did for it; `false` when it is
    /// empty.
    #[must_use]
    pub fn charge(&mut self, budget: Budget, count: u32, now: Instant) -> bool {
        self.guard(now).spend_many(budget, count, now)
    }

    /// Resets a stream for what the peer did. Provoked resets have a budget of their own.
    fn stream_error(
        &mut self,
        id: StreamId,
        fault: StreamError,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        self.write_reset(id, fault.code);
        let tag = self.close(id, ClosedBy::LocalReset);
        if self.role == Role::Server {
            self.spend(Budget::ProvokedResets, now)?;
        }
        Ok(tag.map_or(Event::NeedMoreData, |tag| Event::StreamError { tag, error: fault }))
    }

    /// Resets a stream whose answer breaks a rule. `end` says whether the answer would end there.
    fn reject_response(&mut self, id: StreamId, fault: MalformedHead, end: bool) -> Option<Event> {
        self.write_reset(id, ErrorCode::ProtocolError);
        let tag = self.close(id, ClosedBy::LocalReset);
        tag.map(|tag| Event::MalformedResponse { tag, error: fault, end })
    }

    fn close(&mut self, id: StreamId, how: ClosedBy) -> Option<u32> {
        let stream = self.streams.close(id, how)?;
        if matches!(how, ClosedBy::LocalReset | ClosedBy::ResetPending) && !stream.remote_closed {
            self.late_frames.expect_from(stream.recv_window);
        }
        self.earned = self.earned.saturating_sub(stream.earned);
        stream.known_to_owner.then_some(stream.tag)
    }

    /// Closes a stream that both sides have ended.
    fn close_if_ended(&mut self, id: StreamId) {
        if self.streams.find(id).is_some_and(|stream| stream.remote_closed && stream.local_closed) {
            self.close(id, ClosedBy::EndStream);
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self, now: Instant) {
        self.guard.take_if(|guard| guard.is_full(now));
        if self.header_block.is_none() {
            self.fields = block_cache::empty_fields();
            self.block_cache = None;
            self.block_buffer = Vec::new();
            self.encode_buffer = Vec::new();
        }
        if self.partial_frame.is_empty() {
            self.partial_frame = Vec::new();
        }
        if self.unacked_settings.is_empty() {
            self.unacked_settings = VecDeque::new();
        }
        self.decoder.shrink();
        self.encoder.shrink();
        self.streams.shrink();
        self.write_buffer.shrink();
    }

    fn write_frame(&mut self, kind: Kind, flags: Flags, stream: StreamId, payload: &[u8]) {
        self.write_frame_joined(kind, flags, stream, [payload, &[]]);
    }

    fn write_frame_joined(
        &mut self,
        kind: Kind,
        flags: Flags,
        stream: StreamId,
        payload: [&[u8]; 2],
    ) {
        let [front, behind] = payload;
        let size = front.len().saturating_add(behind.len());
        let length = u32::try_from(size).unwrap_or(0);
        let head = frame::FrameHeader { length, kind, flags, stream };
        self.write_buffer.push_frame(head.octets(), payload);
    }
}

/// Adds to a window; `None` above the largest one there is (RFC 9113, 6.9.1).
fn grow_window(credit: i64, by: i64) -> Option<i64> {
    credit.checked_add(by).filter(|sum| *sum <= i64::from(WINDOW_MAX))
}
