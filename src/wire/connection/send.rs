//! Sending of frames.

use std::ops::Range;
use std::time::Instant;

use crate::wire::connection::{Connection, Role, UnackedSettings};
use crate::wire::error::{ConnectionError, ErrorCode};
use crate::wire::frame::{DEFAULT_MAX_FRAME_SIZE, Flags, FrameHeader, HEADER_LEN, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::hpack::Field;
use crate::wire::settings::Settings;
use crate::wire::stream::{ClosedBy, Stream};

/// Maximum number of unacknowledged SETTINGS frames.
const UNACKED_SETTINGS_MAX: usize = 4;
/// Maximum length of DATA that is copied into the write buffer instead of borrowed, in octets.
const COPIED_MAX: usize = 1_024;

impl Connection {
    /// A number that changes with every change of the encoder's table.
    #[must_use]
    pub fn encoder_generation(&self) -> u64 {
        self.encoder.generation()
    }

    /// Encodes a header block. It must be the next one sent; it may be sent repeatedly while
    /// [`Connection::encoder_generation`] is unchanged.
    pub fn encode<'f>(&mut self, fields: impl IntoIterator<Item = Field<'f>>, into: &mut Vec<u8>) {
        self.encoder.encode(fields, into);
    }

    /// Opens a stream with a block of [`Connection::encode`] (client role). Check
    /// [`Connection::can_open_stream`] first.
    pub fn open_stream(&mut self, tag: u32, block: &[u8], end: bool) -> StreamId {
        let id = self.next_local_id;
        self.next_local_id = StreamId::new(id.number().saturating_add(2));
        if self.next_local_id >= StreamId::MAX {
            // The identifiers are used up: as after GOAWAY, new streams need another connection.
            self.goaway_last_id.get_or_insert(id);
        }
        let mut stream = Stream::new(
            self.remote_settings.initial_window_size,
            self.sent_settings.initial_window_size,
        );
        stream.tag = tag;
        stream.known_to_owner = true;
        self.streams.open(id, stream);
        self.send_encoded_headers(id, block, end);
        id
    }

    /// Sends a header block: a response head, or trailers.
    pub fn send_headers<'f>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = Field<'f>>,
        end: bool,
    ) {
        let mut octets = std::mem::take(&mut self.encode_buffer);
        octets.clear();
        self.encoder.encode(fields, &mut octets);
        self.send_encoded_headers(id, &octets, end);
        self.encode_buffer = octets;
    }

    /// Sends a header block of [`Connection::encode`].
    pub fn send_encoded_headers(&mut self, id: StreamId, octets: &[u8], end: bool) {
        // Every peer accepts frames of this length (RFC 9113, 6.5.2).
        let size = usize::try_from(DEFAULT_MAX_FRAME_SIZE).unwrap_or(usize::MAX);
        let mut flags = Flags::NONE.with(Flags::END_STREAM, end);
        let (mut kind, mut rest) = (Kind::Headers, octets);
        while rest.len() > size {
            let (fragment, after) = rest.split_at_checked(size).unwrap_or_default();
            self.write_frame(kind, flags, id, fragment);
            (kind, flags, rest) = (Kind::Continuation, Flags::NONE, after);
        }
        self.write_frame(kind, flags.with(Flags::END_HEADERS, true), id, rest);
        if end {
            self.end_local_side(id);
        }
    }

    /// Sends a copy of octets as DATA, at most [`Connection::send_capacity`].
    pub fn send_data(&mut self, id: StreamId, octets: &[u8], end: bool) {
        let mut rest = octets;
        loop {
            let size =
                usize::try_from(DEFAULT_MAX_FRAME_SIZE).unwrap_or(usize::MAX).min(rest.len());
            let (piece, behind) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            let last = behind.is_empty();
            self.consume_send_window(id, piece.len());
            self.write_frame(
                Kind::Data,
                Flags::NONE.with(Flags::END_STREAM, end && last),
                id,
                piece,
            );
            rest = behind;
            if last {
                break;
            }
        }
        if end {
            self.end_local_side(id);
        }
    }

    /// Sends a copy of two slices as DATA, in one frame if they fit; at most
    /// [`Connection::send_capacity`].
    pub fn send_data_joined(&mut self, id: StreamId, [first, second]: [&[u8]; 2], end: bool) {
        let size = first.len().saturating_add(second.len());
        if second.is_empty() {
            return self.send_data(id, first, end);
        }
        if size > usize::try_from(DEFAULT_MAX_FRAME_SIZE).unwrap_or(usize::MAX) {
            self.send_data(id, first, false);
            return self.send_data(id, second, end);
        }
        self.consume_send_window(id, size);
        let flags = Flags::NONE.with(Flags::END_STREAM, end);
        self.write_frame_joined(Kind::Data, flags, id, [first, second]);
        if end {
            self.end_local_side(id);
        }
    }

    /// Sends one DATA frame out of the read buffer, at most [`Connection::send_capacity`] and at
    /// most one frame.
    ///
    /// The frame header overwrites the nine octets in front of `octets`, which must be consumed
    /// already. Short DATA is copied instead.
    pub fn send_data_in_place(
        &mut self,
        id: StreamId,
        buffer: &mut [u8],
        octets: Range<usize>,
        end: bool,
    ) {
        let start = octets.start.checked_sub(HEADER_LEN);
        let (Some(start), true) = (start, octets.len() > COPIED_MAX) else {
            let piece = buffer.get(octets).unwrap_or_default();
            return self.send_data(id, piece, end);
        };
        let header = FrameHeader {
            length: u32::try_from(octets.len()).unwrap_or(0),
            kind: Kind::Data,
            flags: Flags::NONE.with(Flags::END_STREAM, end),
            stream: id,
        };
        if let Some(place) = buffer.get_mut(start..octets.start) {
            place.copy_from_slice(&header.octets());
        }
        self.consume_send_window(id, octets.len());
        self.write_buffer.push_borrowed(start..octets.end);
        if end {
            self.end_local_side(id);
        }
    }

    fn consume_send_window(&mut self, id: StreamId, octets: usize) {
        let spent = i64::try_from(octets).unwrap_or(i64::MAX);
        self.send_window = self.send_window.saturating_sub(spent);
        if let Some(stream) = self.streams.find_mut(id) {
            stream.send_window = stream.send_window.saturating_sub(spent);
        }
        self.guard(self.partial_since).data_sent(octets);
    }

    fn end_local_side(&mut self, id: StreamId) {
        let Some(stream) = self.streams.find_mut(id) else { return };
        stream.local_closed = true;
        if stream.remote_closed {
            self.close(id, ClosedBy::EndStream);
        }
    }

    /// Resets a stream, if it is open.
    pub fn reset_stream(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.find(id).is_some() {
            self.write_reset(id, code);
            self.close(id, ClosedBy::LocalReset);
        }
    }

    /// Resets the stream of a malformed request, which may have a response (server role).
    ///
    /// gRPC clients discard a response if RST_STREAM arrives before they have sent END_STREAM, so
    /// that RST_STREAM is delayed until then. Returns whether it is delayed;
    /// [`Connection::send_pending_reset`] ends the delay.
    pub fn reject_request(&mut self, id: StreamId) -> bool {
        let is_delayed =
            self.streams.find(id).is_some_and(|it| it.local_closed && !it.remote_closed);
        if !is_delayed {
            self.write_reset(id, ErrorCode::ProtocolError);
        }
        self.close(id, if is_delayed { ClosedBy::ResetPending } else { ClosedBy::LocalReset });
        is_delayed
    }

    /// Sends the delayed RST_STREAM of a malformed request, if it is still pending.
    pub fn send_pending_reset(&mut self, id: StreamId) {
        if self.streams.take_pending_reset(id) {
            self.write_reset(id, ErrorCode::ProtocolError);
        }
    }

    pub(in crate::wire) fn write_reset(&mut self, id: StreamId, code: ErrorCode) {
        self.write_frame(Kind::Reset, Flags::NONE, id, &code.number().to_be_bytes());
    }

    /// Grows the receive window of a stream (downloads: by the window of the downstream stream).
    pub fn grow_recv_window(&mut self, id: StreamId, octets: u32) {
        let Some(stream) = self.streams.find_mut(id) else { return };
        if stream.remote_closed || octets == 0 {
            return;
        }
        stream.recv_window = stream.recv_window.saturating_add(i64::from(octets));
        self.send_window_update(id, octets);
    }

    /// Releases connection window of forwarded octets (client role).
    pub fn release_connection_capacity(&mut self, octets: u32) {
        self.defer_window_update(octets);
    }

    /// Changes SETTINGS_INITIAL_WINDOW_SIZE, for open streams too.
    pub fn set_initial_window(&mut self, window: u32, now: Instant) {
        self.local_config.settings.initial_window_size = window;
        if self.local_config.settings != self.sent_settings {
            self.send_settings(self.local_config.settings, now);
        }
    }

    pub(in crate::wire) fn send_settings(&mut self, wanted: Settings, now: Instant) {
        if self.unacked_settings.len() >= UNACKED_SETTINGS_MAX {
            return;
        }
        let mut payload = Vec::new();
        wanted.encode_changes(&self.sent_settings, &mut payload);
        self.write_frame(Kind::Settings, Flags::NONE, StreamId::CONNECTION, &payload);
        // A larger window is in effect at once, a smaller one from the acknowledgement on.
        let growth = i64::from(wanted.initial_window_size)
            .saturating_sub(i64::from(self.sent_settings.initial_window_size));
        if growth > 0 {
            for (_, stream) in self.streams.iter_mut() {
                stream.recv_window = stream.recv_window.saturating_add(growth);
            }
        }
        let shrunk_by =
            self.sent_settings.initial_window_size.saturating_sub(wanted.initial_window_size);
        self.sent_settings = wanted;
        self.unacked_settings.push_back(UnackedSettings {
            window_reduction: shrunk_by,
            first_stream_after: self.next_local_id,
            sent_at: now,
        });
    }

    /// Sends PING. [`Event::PingAck`](crate::wire::connection::Event::PingAck) follows.
    pub fn send_ping(&mut self) {
        self.unanswered_pings = self.unanswered_pings.saturating_add(1);
        self.write_frame(Kind::Ping, Flags::NONE, StreamId::CONNECTION, b"sconce??");
    }

    /// Sends GOAWAY. A graceful one still accepts streams in flight; the final one follows after a
    /// round trip (RFC 9113, 6.8).
    pub fn send_goaway(&mut self, is_graceful: bool) {
        let last = if is_graceful { StreamId::MAX } else { self.last_processed() };
        self.write_goaway(last, ErrorCode::NoError, "");
        if self.role == Role::Server && !is_graceful {
            self.goaway_last_id = Some(last);
        }
    }

    /// Sends GOAWAY because of an exhausted budget. Open streams continue.
    pub fn send_goaway_for(&mut self, budget: Budget) {
        let last = self.last_processed();
        self.write_goaway(last, ErrorCode::EnhanceYourCalm, budget.name());
        self.goaway_last_id = Some(last);
    }

    /// Sends GOAWAY with a connection error. The owner flushes and closes.
    pub fn fail(&mut self, error: ConnectionError) {
        let last = self.last_processed();
        self.write_goaway(last, error.code, error.reason);
        self.goaway_last_id = Some(last);
    }

    /// The last stream of the peer that was not ignored; never above an earlier GOAWAY's
    /// (RFC 9113, 6.8).
    fn last_processed(&self) -> StreamId {
        self.goaway_last_id.map_or(self.last_remote_id, |last| last.min(self.last_remote_id))
    }

    fn write_goaway(&mut self, last: StreamId, code: ErrorCode, debug_data: &str) {
        let mut payload = last.number().to_be_bytes().to_vec();
        payload.extend_from_slice(&code.number().to_be_bytes());
        payload.extend_from_slice(debug_data.as_bytes());
        self.write_frame(Kind::GoAway, Flags::NONE, StreamId::CONNECTION, &payload);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;
    use crate::wire::connection::Event;
    use crate::wire::connection::tests::{POST, Peer, feed, frames, local_config};
    use crate::wire::head::Rule;
    use crate::wire::hpack::{Fields, Indexing};

    /// A connection with a response on the malformed stream 1, and its peer.
    fn answered(end: bool, now: Instant) -> (Connection, Peer) {
        let mut connection = Connection::new(Role::Server, local_config(), now);
        let hello = Peer::client();
        feed(&mut connection, &hello.octets, usize::MAX, now).unwrap();
        let bad = [POST, &[("x", "y ")]].concat();
        let peer = Peer { octets: Vec::new(), ..hello }.headers(1, &bad, end);
        let (taken, event) = connection.receive(&peer.octets, now).unwrap();
        assert_eq!(taken, peer.octets.len());
        let Event::MalformedRequest { stream, error } = event else { panic!("{event:?}") };
        assert_eq!((error.rule, error.field_index), (Rule::Space, Some(POST.len())));
        let mut response = Fields::default();
        response.push(b":status", b"200", Indexing::Indexed);
        connection.send_headers(stream, response.iter(), true);
        assert_eq!(connection.reject_request(stream), !end);
        assert_eq!(connection.open_streams(), 0);
        (connection, Peer { octets: Vec::new(), ..peer })
    }

    fn kinds(connection: &Connection) -> Vec<Kind> {
        let own = |header: &FrameHeader| header.stream != StreamId::CONNECTION;
        let frames = frames(connection).into_iter().map(|(header, _)| header);
        frames.filter(own).map(|header| header.kind).collect()
    }

    #[test]
    fn a_complete_malformed_request_gets_a_response_and_rst_stream() {
        let (connection, _) = answered(true, Instant::now());
        assert_eq!(kinds(&connection), [Kind::Headers, Kind::Reset]);
    }

    #[test]
    fn rst_stream_of_an_incomplete_malformed_request_follows_its_end_stream() {
        let now = Instant::now();
        for is_trailers in [false, true] {
            let (mut connection, peer) = answered(false, now);
            let peer = peer.data(1, b"late", false);
            assert_eq!(feed(&mut connection, &peer.octets, 99, now).unwrap(), [""; 0]);
            assert_eq!(kinds(&connection), [Kind::Headers]);
            let peer = Peer { octets: Vec::new(), ..peer };
            let last =
                if is_trailers { peer.headers(1, &[], true) } else { peer.data(1, b"", true) };
            assert_eq!(feed(&mut connection, &last.octets, 99, now).unwrap(), [""; 0]);
            connection.send_pending_reset(StreamId::new(1));
            assert_eq!(kinds(&connection), [Kind::Headers, Kind::Reset]);
        }
    }

    #[test]
    fn a_pending_reset_is_sent_once_unless_the_peer_has_reset_the_stream() {
        let now = Instant::now();
        let (mut connection, peer) = answered(false, now);
        connection.send_pending_reset(StreamId::new(1));
        connection.send_pending_reset(StreamId::new(1));
        assert_eq!(kinds(&connection), [Kind::Headers, Kind::Reset]);
        let (mut connection, _) = answered(false, now);
        let peer = peer.reset(1);
        assert_eq!(feed(&mut connection, &peer.octets, 99, now).unwrap(), [""; 0]);
        connection.send_pending_reset(StreamId::new(1));
        assert_eq!(kinds(&connection), [Kind::Headers]);
    }
}
