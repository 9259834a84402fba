//! DATA: cut through, never gathered. A frame that arrives in pieces is passed on in pieces.

use std::time::Instant;

use crate::wire::connection::{Connection, Event, ParseState, Role};
use crate::wire::error::{ConnectionError, ErrorCode, StreamError};
use crate::wire::frame::{Flags, FrameHeader, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::head::{MalformedHead, Rule};
use crate::wire::stream::ClosedBy;
use crate::wire::write_buffer::WriteBuffer;

/// Connection credit is given back in pieces of at least so many octets.
const CONNECTION_RELEASE_MIN: u32 = 16_384;
/// To a client it is given back in pieces of this part of the window: what is withheld is missing
/// on a long way. Drivers are near, and get theirs in halves.
const CLIENT_RELEASE_FRACTION: i64 = 4;

/// Where in a DATA frame we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) struct PartialData {
    stream: StreamId,
    /// Octets of data that are still to come.
    left: u32,
    /// Octets of padding behind them; `None` until the pad length was read.
    padding: Option<u32>,
    /// Whether the stream ends here.
    end_stream: bool,
}

impl PartialData {
    /// Octets of this frame that are still to come, if it is of this stream; of any, if none is
    /// named.
    pub(in crate::wire) fn octets_left(&self, id: Option<StreamId>) -> i64 {
        if id.is_none_or(|id| id == self.stream) { i64::from(self.left) } else { 0 }
    }

    pub(in crate::wire) const fn is_complete(&self) -> bool {
        self.left == 0 && self.padding.is_some()
    }
}

impl Connection {
    /// The common case in one step: DATA that is there as a whole, has octets and no padding, and
    /// breaks no rule. Its stream's tag, and whether nothing follows.
    pub(in crate::wire) fn recv_whole_data(&mut self, head: FrameHeader) -> Option<(u32, bool)> {
        let credit = i64::from(head.length);
        if credit == 0 || head.flags.contains(Flags::PADDED) || credit > self.recv_window {
            return None;
        }
        let stream = self.streams.find_mut(head.stream)?;
        let is_due = self.role == Role::Server || stream.response_received;
        if stream.remote_closed
            || !is_due
            || stream.content_length_left.is_some()
            || credit > stream.recv_window
        {
            return None;
        }
        let end = head.flags.contains(Flags::END_STREAM);
        stream.recv_window = stream.recv_window.saturating_sub(credit);
        stream.remote_closed = end;
        let (tag, is_done) = (stream.tag, end && stream.local_closed);
        self.recv_window = self.recv_window.saturating_sub(credit);
        if is_done {
            self.close(head.stream, ClosedBy::EndStream);
        } else if end {
            self.drop_earned_window(head.stream);
        }
        if self.role == Role::Server {
            self.defer_window_update(head.length);
        }
        Some((tag, end))
    }

    pub(in crate::wire) fn recv_data_header(
        &mut self,
        head: FrameHeader,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let length = i64::from(head.length);
        if length > self.recv_window {
            return Err(ConnectionError::new(
                ErrorCode::FlowControlError,
                "DATA beyond the connection's window",
            ));
        }
        let padded = head.flags.contains(Flags::PADDED);
        if padded && head.length == 0 {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "padding without a length",
            ));
        }
        self.recv_window = self.recv_window.saturating_sub(length);
        let end = head.flags.contains(Flags::END_STREAM);
        if head.length == 0 && !end {
            self.spend(Budget::EmptyData, now)?;
        }
        if let Some(fault) = self.check_data_allowed(head)? {
            self.parse = ParseState::Skip(head.length);
            self.defer_window_update(head.length);
            if end {
                self.send_pending_reset(head.stream);
            }
            return match fault {
                Some(fault) => Ok(Some(self.stream_error(head.stream, fault, now)?)),
                None => self.unexpected_data(head.length, now).map(|()| None),
            };
        }
        if let Some(stream) = self.streams.find_mut(head.stream) {
            stream.recv_window = stream.recv_window.saturating_sub(length);
        }
        if self.role == Role::Server {
            self.defer_window_update(head.length);
        }
        self.parse = ParseState::Data(PartialData {
            stream: head.stream,
            left: head.length,
            padding: if padded { None } else { Some(0) },
            end_stream: end,
        });
        Ok(None)
    }

    /// `None`: go on. `Some(None)`: a stray, read past it. `Some(fault)`: the stream is broken.
    fn check_data_allowed(
        &self,
        head: FrameHeader,
    ) -> Result<Option<Option<StreamError>>, ConnectionError> {
        let Some(stream) = self.streams.find(head.stream) else {
            return match self.streams.closed_by(head.stream) {
                Some(ClosedBy::EndStream) => Err(ConnectionError::new(
                    ErrorCode::StreamClosed,
                    "DATA on a stream that has ended",
                )),
                Some(ClosedBy::RemoteReset) => Ok(Some(Some(StreamError::new(
                    ErrorCode::StreamClosed,
                    "DATA after RST_STREAM",
                )))),
                Some(ClosedBy::LocalReset | ClosedBy::ResetPending) => Ok(Some(None)),
                None if self.is_idle(head.stream) => {
                    Err(ConnectionError::new(ErrorCode::ProtocolError, "DATA on an idle stream"))
                }
                None => Ok(Some(None)),
            };
        };
        let fault = if stream.remote_closed {
            StreamError::new(ErrorCode::StreamClosed, "DATA after END_STREAM")
        } else if self.role == Role::Client && !stream.response_received {
            StreamError::new(ErrorCode::ProtocolError, "DATA before HEADERS")
        } else if i64::from(head.length) > stream.recv_window {
            StreamError::new(ErrorCode::FlowControlError, "DATA beyond the stream's window")
        } else {
            return Ok(None);
        };
        Ok(Some(Some(fault)))
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
                    "more padding than payload",
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
            // We reset it while its frame was still arriving.
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

    /// Holds a body against its `content-length`.
    fn count_against_length(
        &mut self,
        id: StreamId,
        taken: usize,
        end: bool,
    ) -> Result<(), MalformedHead> {
        let Some(stream) = self.streams.find_mut(id) else { return Ok(()) };
        let Some(promised) = stream.content_length_left else { return Ok(()) };
        let left = promised.checked_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        stream.content_length_left = left;
        match left {
            Some(0) => Ok(()),
            Some(_) if !end => Ok(()),
            // An answer that ends here has no trailers, and may have been cut short.
            Some(_) if self.role == Role::Client => Ok(()),
            Some(_) | None => Err(MalformedHead::of(Rule::BodyLength)),
        }
    }

    /// A body does not keep what its `content-length` promised.
    fn reject_body(
        &mut self,
        id: StreamId,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let fault = MalformedHead::of(Rule::BodyLength);
        match self.role {
            Role::Server => self.stream_error(id, fault.into(), now).map(Some),
            Role::Client => Ok(self.reject_response(id, fault, false)),
        }
    }

    /// Padding is credit that nobody else will give back.
    fn release_padding(&mut self, id: StreamId, octets: u32) {
        if self.role == Role::Client {
            self.defer_window_update(octets);
        }
        let Some(stream) = self.streams.find_mut(id) else { return };
        stream.recv_window = stream.recv_window.saturating_add(i64::from(octets));
        self.send_window_update(id, octets);
    }

    /// Connection credit goes back to the peer, in pieces worth a frame.
    pub(in crate::wire) fn defer_window_update(&mut self, octets: u32) {
        self.unreleased = self.unreleased.saturating_add(octets);
        let part = if self.role == Role::Server { CLIENT_RELEASE_FRACTION } else { 2 };
        let others = i64::from(self.unreleased).saturating_mul(part.saturating_sub(1));
        if self.unreleased >= CONNECTION_RELEASE_MIN && others >= self.recv_window {
            let owed = std::mem::take(&mut self.unreleased);
            self.recv_window = self.recv_window.saturating_add(i64::from(owed));
            self.send_window_update(StreamId::CONNECTION, owed);
        }
    }

    pub(in crate::wire) fn send_window_update(&mut self, stream: StreamId, octets: u32) {
        if octets > 0 {
            write_window_update(&mut self.write_buffer, stream, octets);
        }
    }
}

/// Writes WINDOW_UPDATE, of at least one octet (RFC 9113, 6.9).
pub(in crate::wire) fn write_window_update(out: &mut WriteBuffer, stream: StreamId, octets: u32) {
    let head = FrameHeader { length: 4, kind: Kind::WindowUpdate, flags: Flags::NONE, stream };
    let payload: &[u8] = &octets.to_be_bytes();
    out.push_frame(head.octets(), [payload, &[]]);
}
