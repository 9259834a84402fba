//! Receiving of DATA. Partial frames produce events at once; nothing is buffered.

use std::time::Instant;

use crate::wire::connection::{Connection, Event, ParseState, Role};
use crate::wire::error::{ConnectionError, ErrorCode, StreamError};
use crate::wire::frame::{Flags, FrameHeader, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::head::{MalformedHead, Rule};
use crate::wire::stream::ClosedBy;
use crate::wire::write_buffer::WriteBuffer;

/// Minimum increment of a WINDOW_UPDATE for the connection, in octets.
const CONNECTION_RELEASE_MIN: u32 = 16_384;
/// A client gets WINDOW_UPDATEs of a quarter of the connection window, since withheld window limits
/// the throughput of long round trips. Servers are near and get halves.
const CLIENT_RELEASE_FRACTION: i64 = 4;

/// A DATA frame whose payload has not arrived completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) struct PartialData {
    stream: StreamId,
    /// Octets of data still to come.
    left: u32,
    /// Octets of padding; `None` before the pad length is known.
    padding: Option<u32>,
    /// The END_STREAM flag.
    end_stream: bool,
}

impl PartialData {
    /// Octets still to come if the frame belongs to stream `id`; for any stream if `id` is `None`.
    pub(in crate::wire) fn octets_left(&self, id: Option<StreamId>) -> i64 {
        if id.is_none_or(|id| id == self.stream) { i64::from(self.left) } else { 0 }
    }

    pub(in crate::wire) const fn is_complete(&self) -> bool {
        self.left == 0 && self.padding.is_some()
    }
}

impl Connection {
    /// The fast path: a complete and legal DATA frame with payload and without padding. Returns the
    /// tag of its stream and END_STREAM; `None` for any other frame.
    pub(in crate::wire) fn recv_whole_data(&mut self, header: FrameHeader) -> Option<(u32, bool)> {
        let octets = i64::from(header.length);
        if octets == 0 || header.flags.contains(Flags::PADDED) || octets > self.recv_window {
            return None;
        }
        let stream = self.streams.find_mut(header.stream)?;
        let is_expected = self.role == Role::Server || stream.response_received;
        if stream.remote_closed
            || !is_expected
            || stream.content_length_left.is_some()
            || octets > stream.recv_window
        {
            return None;
        }
        let end = header.flags.contains(Flags::END_STREAM);
        stream.recv_window = stream.recv_window.saturating_sub(octets);
        stream.remote_closed = end;
        let (tag, is_closed) = (stream.tag, end && stream.local_closed);
        self.recv_window = self.recv_window.saturating_sub(octets);
        if is_closed {
            self.close(header.stream, ClosedBy::EndStream);
        } else if end {
            self.drop_earned_window(header.stream);
        }
        if self.role == Role::Server {
            self.defer_window_update(header.length);
        }
        Some((tag, end))
    }

    pub(in crate::wire) fn recv_data_header(
        &mut self,
        header: FrameHeader,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let length = i64::from(header.length);
        if length > self.recv_window {
            return Err(ConnectionError::new(
                ErrorCode::FlowControlError,
                "DATA exceeds the connection's flow-control window",
            ));
        }
        let padded = header.flags.contains(Flags::PADDED);
        if padded && header.length == 0 {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "a padded frame lacks the pad length",
            ));
        }
        self.recv_window = self.recv_window.saturating_sub(length);
        let end = header.flags.contains(Flags::END_STREAM);
        if header.length == 0 && !end {
            self.spend(Budget::EmptyData, now)?;
        }
        if let Some(error) = self.check_data_allowed(header)? {
            self.parse = ParseState::Skip(header.length);
            self.defer_window_update(header.length);
            if end {
                self.send_pending_reset(header.stream);
            }
            return match error {
                Some(error) => Ok(Some(self.stream_error(header.stream, error, now)?)),
                None => self.unexpected_data(header.length, now).map(|()| None),
            };
        }
        if let Some(stream) = self.streams.find_mut(header.stream) {
            stream.recv_window = stream.recv_window.saturating_sub(length);
        }
        if self.role == Role::Server {
            self.defer_window_update(header.length);
        }
        self.parse = ParseState::Data(PartialData {
            stream: header.stream,
            left: header.length,
            padding: if padded { None } else { Some(0) },
            end_stream: end,
        });
        Ok(None)
    }

    /// `None`: the frame is legal. `Some(None)`: a late frame to ignore. `Some(error)`: a stream
    /// error.
    fn check_data_allowed(
        &self,
        header: FrameHeader,
    ) -> Result<Option<Option<StreamError>>, ConnectionError> {
        let Some(stream) = self.streams.find(header.stream) else {
            return match self.streams.closed_by(header.stream) {
                Some(ClosedBy::EndStream) => {
                    Err(ConnectionError::new(ErrorCode::StreamClosed, "DATA on a closed stream"))
                }
                Some(ClosedBy::RemoteReset) => Ok(Some(Some(StreamError::new(
                    ErrorCode::StreamClosed,
                    "DATA after RST_STREAM",
                )))),
                Some(ClosedBy::LocalReset | ClosedBy::ResetPending) => Ok(Some(None)),
                None if self.is_idle(header.stream) => {
                    Err(ConnectionError::new(ErrorCode::ProtocolError, "DATA on an idle stream"))
                }
                None => Ok(Some(None)),
            };
        };
        let error = if stream.remote_closed {
            StreamError::new(ErrorCode::StreamClosed, "DATA after END_STREAM")
        } else if self.role == Role::Client && !stream.response_received {
            StreamError::new(ErrorCode::ProtocolError, "DATA before HEADERS")
        } else if i64::from(header.length) > stream.recv_window {
            StreamError::new(
                ErrorCode::FlowControlError,
                "DATA exceeds the stream's flow-control window",
            )
        } else {
            return Ok(None);
        };
        Ok(Some(Some(error)))
    }

    pub(in crate::wire) fn recv_data(
        &mut self,
        mut body: PartialData,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), ConnectionError> {
        let Some(padding) = body.padding else {
            let Some(octet) = rest.first() else { return Ok((0, None)) };
            let padding = u32::from(*octet);
            let inside = body.left.saturating_sub(1);
            let Some(left) = inside.checked_sub(padding) else {
                return Err(ConnectionError::new(
                    ErrorCode::ProtocolError,
                    "padding is longer than the payload",
                ));
            };
            if left == 0 && !body.end_stream {
                self.spend(Budget::EmptyData, now)?;
            }
            body.padding = Some(padding);
            body.left = left;
            self.release_padding(body.stream, padding.saturating_add(1));
            self.parse = ParseState::Data(body);
            return Ok((1, None));
        };
        let taken = rest.len().min(usize::try_from(body.left).unwrap_or(usize::MAX));
        body.left = body.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        let end = body.left == 0 && body.end_stream;
        self.parse = if body.left > 0 { ParseState::Data(body) } else { ParseState::Skip(padding) };
        if self.count_against_length(body.stream, taken, end).is_err() {
            let left = body.left.saturating_add(padding);
            self.parse = ParseState::Skip(left);
            if self.role == Role::Client {
                self.defer_window_update(
                    body.left.saturating_add(u32::try_from(taken).unwrap_or(0)),
                );
            }
            return Ok((taken, self.reject_body(body.stream, now)?));
        }
        let Some(stream) = self.streams.find_mut(body.stream) else {
            // The stream was reset while the frame was arriving.
            if self.role == Role::Client {
                self.defer_window_update(u32::try_from(taken).unwrap_or(0));
            }
            return Ok((taken, None));
        };
        stream.remote_closed = end;
        let tag = stream.tag;
        if end {
            self.drop_earned_window(body.stream);
        }
        self.close_if_ended(body.stream);
        if taken == 0 && !end {
            return Ok((0, None));
        }
        Ok((taken, Some(Event::Data { tag, octets: 0..taken, end })))
    }

    /// Checks the length of a body against its `content-length`.
    fn count_against_length(
        &mut self,
        id: StreamId,
        taken: usize,
        end: bool,
    ) -> Result<(), MalformedHead> {
        let Some(stream) = self.streams.find_mut(id) else { return Ok(()) };
        let Some(expected) = stream.content_length_left else { return Ok(()) };
        let left = expected.checked_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        stream.content_length_left = left;
        match left {
            Some(0) => Ok(()),
            Some(_) if !end => Ok(()),
            // A response without trailers: the owner treats it as truncated.
            Some(_) if self.role == Role::Client => Ok(()),
            Some(_) | None => Err(MalformedHead::of(Rule::BodyLength)),
        }
    }

    /// Resets a stream whose body differs from its `content-length`.
    fn reject_body(
        &mut self,
        id: StreamId,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let error = MalformedHead::of(Rule::BodyLength);
        match self.role {
            Role::Server => self.stream_error(id, error.into(), now).map(Some),
            Role::Client => Ok(self.reject_response(id, error, false)),
        }
    }

    /// Releases the window of padding, which produces no event.
    fn release_padding(&mut self, id: StreamId, octets: u32) {
        if self.role == Role::Client {
            self.defer_window_update(octets);
        }
        let Some(stream) = self.streams.find_mut(id) else { return };
        stream.recv_window = stream.recv_window.saturating_add(i64::from(octets));
        self.send_window_update(id, octets);
    }

    /// Releases connection window: the WINDOW_UPDATE follows when the sum is worth a frame.
    pub(in crate::wire) fn defer_window_update(&mut self, octets: u32) {
        self.unreleased = self.unreleased.saturating_add(octets);
        let fraction = if self.role == Role::Server { CLIENT_RELEASE_FRACTION } else { 2 };
        let threshold = i64::from(self.unreleased).saturating_mul(fraction.saturating_sub(1));
        if self.unreleased >= CONNECTION_RELEASE_MIN && threshold >= self.recv_window {
            let increment = std::mem::take(&mut self.unreleased);
            self.recv_window = self.recv_window.saturating_add(i64::from(increment));
            self.send_window_update(StreamId::CONNECTION, increment);
        }
    }

    pub(in crate::wire) fn send_window_update(&mut self, stream: StreamId, octets: u32) {
        if octets > 0 {
            write_window_update(&mut self.write_buffer, stream, octets);
        }
    }
}

/// Writes WINDOW_UPDATE; the increment must not be 0 (RFC 9113, 6.9).
pub(in crate::wire) fn write_window_update(out: &mut WriteBuffer, stream: StreamId, octets: u32) {
    let header = FrameHeader { length: 4, kind: Kind::WindowUpdate, flags: Flags::NONE, stream };
    let payload: &[u8] = &octets.to_be_bytes();
    out.push_frame(header.octets(), [payload, &[]]);
}
