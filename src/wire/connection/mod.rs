//! One HTTP/2 connection without its socket.
//!
//! `receive` turns octets into events, `send` writes frames into the write buffer; this file has
//! the shared state. The owner reads and writes the socket, passes the time, and handles events.

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
use crate::wire::memory::ThreadMemory;
use crate::wire::settings::{DEFAULT_INITIAL_WINDOW_SIZE, Settings};
use crate::wire::stream::{ClosedBy, Streams};
use crate::wire::write_buffer::WriteBuffer;

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client.
    Server,
    /// The peer is a server.
    Client,
}

/// The settings and limits of this endpoint.
#[derive(Clone, Copy, Debug)]
pub struct LocalConfig {
    /// The settings to announce.
    pub settings: Settings,
    /// Receive window of the connection, in octets; at least 65,535.
    pub window: u32,
    /// Limits of a received header list.
    pub headers: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParseState {
    /// Inside the client preface, after this number of octets.
    Preface(usize),
    /// Before or inside a frame header.
    FrameHeader,
    /// Inside the payload of a frame that is handled when complete.
    Payload(frame::FrameHeader),
    /// Inside the payload of a DATA frame.
    Data(data::PartialData),
    /// Inside ignored octets, of which this number is left.
    Skip(u32),
}

/// A header block that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderBlock {
    stream: StreamId,
    end_stream: bool,
    continuations: u32,
    /// Whether the priority makes the stream depend on itself (RFC 7540, 5.3.1).
    depends_on_itself: bool,
}

/// A sent SETTINGS frame without an acknowledgement.
#[derive(Clone, Copy, Debug)]
struct UnackedSettings {
    /// Reduction of the receive windows of earlier streams, in octets.
    window_reduction: u32,
    /// The first stream opened after this frame.
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
    /// Arrival of the first octet of the latest frame or header block.
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
    /// Whether a stream may have window to release before the connection becomes idle.
    has_withheld: bool,
    decoder: Decoder,
    encoder: Encoder,
    fields: Rc<Fields>,
    block_cache: Option<Box<block_cache::BlockCache>>,
    /// The octets to write to the peer.
    pub write_buffer: WriteBuffer,
    /// The rate limits of the peer; `None` while every budget is full.
    guard: Option<Box<Guard>>,
    /// Frames that may still arrive on streams after a local RST_STREAM.
    late_frames: LateFrames,
    /// `None` until octets of an upload were released.
    round_trips: Option<Box<RoundTrips>>,
    goaway_last_id: Option<StreamId>,
    unanswered_pings: u32,
}

impl Connection {
    /// A new connection with memory of its own; the write buffer has the connection preface.
    #[must_use]
    pub fn new(role: Role, local_config: LocalConfig, now: Instant) -> Self {
        Self::with_memory(role, local_config, Rc::default(), now)
    }

    /// A new connection that shares the memory of its thread.
    #[must_use]
    pub fn with_memory(
        role: Role,
        local_config: LocalConfig,
        memory: Rc<ThreadMemory>,
        now: Instant,
    ) -> Self {
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
            local_config,
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
            decoder: Decoder::new(local_config.settings.header_table_size),
            encoder: Encoder::new(),
            fields: memory.empty_fields(),
            block_cache: None,
            write_buffer: WriteBuffer::new(memory),
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
        let increment = self.local_config.window.saturating_sub(DEFAULT_INITIAL_WINDOW_SIZE);
        if increment > 0 {
            self.recv_window = self.recv_window.saturating_add(i64::from(increment));
            self.send_window_update(StreamId::CONNECTION, increment);
        }
    }

    /// The memory that the connections of this thread share.
    #[must_use]
    pub fn memory(&self) -> Rc<ThreadMemory> {
        Rc::clone(self.write_buffer.memory())
    }

    /// The fields of the last header block. Consecutive equal blocks share one list, so that
    /// `Rc::ptr_eq` detects a repeated block.
    #[must_use]
    pub fn fields(&self) -> Rc<Fields> {
        Rc::clone(&self.fields)
    }

    /// The peer's settings.
    #[must_use]
    pub fn remote_settings(&self) -> &Settings {
        &self.remote_settings
    }

    /// Whether the first SETTINGS frame of the peer has arrived.
    #[must_use]
    pub fn settings_received(&self) -> bool {
        self.settings_received
    }

    /// Whether no octet of the client preface has arrived (server role).
    #[must_use]
    pub fn awaits_preface(&self) -> bool {
        self.parse == ParseState::Preface(0)
    }

    /// The time of sending of the oldest unacknowledged SETTINGS frame.
    #[must_use]
    pub fn settings_unacked_since(&self) -> Option<Instant> {
        self.unacked_settings.front().map(|unacked| unacked.sent_at)
    }

    /// Number of open streams.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.count()
    }

    /// Whether one more stream may be opened (client role).
    #[must_use]
    pub fn can_open_stream(&self) -> bool {
        let streams_max =
            usize::try_from(self.remote_settings.max_concurrent_streams).unwrap_or(usize::MAX);
        self.goaway_last_id.is_none()
            && self.streams.count() < streams_max
            && self.next_local_id < StreamId::MAX
    }

    /// Whether GOAWAY or the end of the stream identifiers forbids new streams (client role).
    #[must_use]
    pub fn is_going_away(&self) -> bool {
        self.goaway_last_id.is_some()
    }

    /// Sets the owner's identifier of a stream.
    pub fn set_tag(&mut self, id: StreamId, tag: u32) {
        if let Some(stream) = self.streams.find_mut(id) {
            stream.tag = tag;
        }
    }

    /// The send window of a stream, in octets; negative after a reduction.
    #[must_use]
    pub fn stream_send_window(&self, id: StreamId) -> i64 {
        self.streams.find(id).map_or(0, |stream| stream.send_window)
    }

    /// The send window of the connection, in octets.
    #[must_use]
    pub fn connection_send_window(&self) -> i64 {
        self.send_window
    }

    /// Octets of DATA that may be sent on a stream now: the smaller one of both send windows.
    #[must_use]
    pub fn send_capacity(&self, id: StreamId) -> usize {
        usize::try_from(self.stream_send_window(id).min(self.send_window)).unwrap_or(0)
    }

    /// The receive window of a stream, in octets, including the rest of a partial DATA frame.
    #[must_use]
    pub fn recv_window(&self, id: StreamId) -> i64 {
        let window = self.streams.find(id).map_or(0, |stream| stream.recv_window);
        window.saturating_add(self.partial_data_octets(Some(id)))
    }

    fn partial_data_octets(&self, id: Option<StreamId>) -> i64 {
        if let ParseState::Data(frame) = self.parse { frame.octets_left(id) } else { 0 }
    }

    /// The receive window of the connection, in octets, including octets consumed but not yet
    /// released and the rest of a partial DATA frame.
    #[must_use]
    pub fn connection_recv_window(&self) -> i64 {
        self.recv_window
            .saturating_add(i64::from(self.unreleased))
            .saturating_add(self.partial_data_octets(None))
    }

    /// The rate limits of the peer; a new guard starts full at `full_at`.
    fn guard(&mut self, full_at: Instant) -> &mut Guard {
        self.guard.get_or_insert_with(|| Box::new(Guard::new(full_at)))
    }

    /// Spends one event of a budget. An exhausted budget is a connection error.
    fn spend(&mut self, budget: Budget, now: Instant) -> Result<(), ConnectionError> {
        if self.guard(now).spend(budget, now) {
            Ok(())
        } else {
            Err(ConnectionError::enhance_your_calm(budget))
        }
    }

    /// Spends `count` events of a budget on behalf of the owner. `false`: the budget is exhausted.
    #[must_use]
    pub fn charge(&mut self, budget: Budget, count: u32, now: Instant) -> bool {
        self.guard(now).spend_many(budget, count, now)
    }

    /// Resets a stream because of a stream error; clients have a budget of such resets.
    fn stream_error(
        &mut self,
        id: StreamId,
        error: StreamError,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        self.write_reset(id, error.code);
        let tag = self.close(id, ClosedBy::LocalReset);
        if self.role == Role::Server {
            self.spend(Budget::ProvokedResets, now)?;
        }
        Ok(tag.map_or(Event::NeedMoreData, |tag| Event::StreamError { tag, error }))
    }

    /// Resets a stream with a malformed response. `end`: the malformed part has END_STREAM.
    fn reject_response(&mut self, id: StreamId, error: MalformedHead, end: bool) -> Option<Event> {
        self.write_reset(id, ErrorCode::ProtocolError);
        let tag = self.close(id, ClosedBy::LocalReset);
        tag.map(|tag| Event::MalformedResponse { tag, error, end })
    }

    fn close(&mut self, id: StreamId, cause: ClosedBy) -> Option<u32> {
        let stream = self.streams.close(id, cause)?;
        if matches!(cause, ClosedBy::LocalReset | ClosedBy::ResetPending) && !stream.remote_closed {
            self.late_frames.expect_from(stream.recv_window);
        }
        self.earned = self.earned.saturating_sub(stream.earned);
        stream.known_to_owner.then_some(stream.tag)
    }

    /// Closes a stream after END_STREAM in both directions.
    fn close_if_ended(&mut self, id: StreamId) {
        if self.streams.find(id).is_some_and(|stream| stream.remote_closed && stream.local_closed) {
            self.close(id, ClosedBy::EndStream);
        }
    }

    /// Frees memory that an idle connection does not need.
    pub fn shrink(&mut self, now: Instant) {
        self.guard.take_if(|guard| guard.is_full(now));
        if self.header_block.is_none() {
            self.fields = self.write_buffer.memory().empty_fields();
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
        let [first, second] = payload;
        let size = first.len().saturating_add(second.len());
        let length = u32::try_from(size).unwrap_or(0);
        let header = frame::FrameHeader { length, kind, flags, stream };
        self.write_buffer.push_frame(header.octets(), payload);
    }
}
