//! Receiving of header blocks: joining, decoding, validation, and the resulting events.

use std::rc::Rc;
use std::time::Instant;

use crate::wire::connection::block_cache::BlockKind;
use crate::wire::connection::{Connection, Event, HeaderBlock, Role};
use crate::wire::error::{ConnectionError, ErrorCode, StreamError};
use crate::wire::frame::{Flags, FrameHeader, StreamId};
use crate::wire::guard::{Budget, CONTINUATIONS_MAX, INFORMATIONAL_MAX};
use crate::wire::head::{MalformedHead, Promise, Rule};
use crate::wire::hpack::Fields;
use crate::wire::stream::{ClosedBy, Stream};

/// Maximum size of an encoded block, in multiples of the maximum size of the decoded list.
const ENCODED_FACTOR_MAX: usize = 4;

/// The outcome of a header block: no event, an event, or an error of its stream.
type BlockResult = Result<Option<Event>, BlockError>;

/// An error of the stream of a header block.
enum BlockError {
    /// The block is not allowed in this state, or too long.
    Stream(StreamError),
    /// The field list is malformed.
    Malformed(MalformedHead),
}

impl From<StreamError> for BlockError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<MalformedHead> for BlockError {
    fn from(error: MalformedHead) -> Self {
        Self::Malformed(error)
    }
}

impl Connection {
    pub(in crate::wire) fn recv_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let (fragment, depends_on) = strip_padding(header, payload)?;
        let block = HeaderBlock {
            stream: header.stream,
            end_stream: header.flags.contains(Flags::END_STREAM),
            continuations: 0,
            depends_on_itself: depends_on == Some(header.stream),
        };
        if header.flags.contains(Flags::END_HEADERS) {
            return self.recv_block(block, fragment, now);
        }
        self.block_buffer.clear();
        self.block_buffer.extend_from_slice(fragment);
        self.header_block = Some(block);
        Ok(None)
    }

    pub(in crate::wire) fn recv_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let Some(mut block) = self.header_block else {
            debug_assert!(false, "check_frame_header passed CONTINUATION without a header block");
            return Ok(None);
        };
        block.continuations = block.continuations.saturating_add(1);
        if block.continuations > CONTINUATIONS_MAX {
            return Err(ConnectionError::enhance_your_calm(Budget::Continuations));
        }
        let octets_max = self.local_config.headers.octets.saturating_mul(ENCODED_FACTOR_MAX);
        if self.block_buffer.len().saturating_add(payload.len()) > octets_max {
            return Err(ConnectionError::enhance_your_calm(Budget::HeaderBlock));
        }
        self.block_buffer.extend_from_slice(payload);
        self.header_block = Some(block);
        if !header.flags.contains(Flags::END_HEADERS) {
            return Ok(None);
        }
        self.header_block = None;
        let octets = std::mem::take(&mut self.block_buffer);
        self.recv_block(block, &octets, now)
    }

    fn recv_block(
        &mut self,
        block: HeaderBlock,
        octets: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if !self.find_cached_block(octets) {
            self.decode(octets, now)?;
        }
        let outcome = match self.role {
            Role::Server => self.request_block(block, now)?,
            Role::Client => self.response_block(block, now)?,
        };
        match outcome {
            Ok(event) => Ok(event),
            Err(BlockError::Malformed(error)) if self.role == Role::Client => {
                Ok(self.reject_response(block.stream, error, block.end_stream))
            }
            Err(BlockError::Malformed(error)) => {
                self.stream_error(block.stream, error.into(), now).map(Some)
            }
            Err(BlockError::Stream(error)) => self.stream_error(block.stream, error, now).map(Some),
        }
    }

    fn decode(&mut self, octets: &[u8], now: Instant) -> Result<(), ConnectionError> {
        let before = self.decoder.generation();
        let mut fresh = Fields::default();
        let fields = Rc::get_mut(&mut self.fields).unwrap_or(&mut fresh);
        let limits = self.local_config.headers;
        self.decoder.decode(octets, limits, fields).map_err(|_| {
            ConnectionError::new(
                ErrorCode::CompressionError,
                "HPACK decoding of a header block failed",
            )
        })?;
        if Rc::get_mut(&mut self.fields).is_none() {
            self.fields = Rc::new(fresh);
        }
        if self.fields.overflow().is_some() {
            self.spend(Budget::HeaderLists, now)?;
        } else if before == self.decoder.generation() {
            self.cache_block(octets, before);
        }
        Ok(())
    }

    fn request_block(
        &mut self,
        block: HeaderBlock,
        now: Instant,
    ) -> Result<BlockResult, ConnectionError> {
        if self.streams.find(block.stream).is_some() {
            return Ok(self.trailer_block(block));
        }
        if let Some(stray) = self.block_without_stream(block.stream, now)? {
            if block.end_stream {
                self.send_pending_reset(block.stream);
            }
            return Ok(stray);
        }
        self.last_remote_id = block.stream;
        if self.goaway_last_id.is_some_and(|last| block.stream > last) {
            self.streams.record_closed(block.stream, ClosedBy::LocalReset);
            self.spend(Budget::UnexpectedFrames, now)?;
            self.late_frames.expect_from(i64::from(self.sent_settings.initial_window_size));
            return Ok(Ok(None));
        }
        let streams_max = usize::try_from(self.local_config.settings.max_concurrent_streams)
            .unwrap_or(usize::MAX);
        if self.streams.count() >= streams_max {
            self.write_reset(block.stream, ErrorCode::RefusedStream);
            self.streams.record_closed(block.stream, ClosedBy::LocalReset);
            self.late_frames.expect_from(i64::from(self.sent_settings.initial_window_size));
            if self.unacked_settings.is_empty() {
                self.spend(Budget::ProvokedResets, now)?;
            }
            return Ok(Ok(None));
        }
        let mut stream = Stream::new(
            self.remote_settings.initial_window_size,
            self.local_config.settings.initial_window_size,
        );
        stream.remote_closed = block.end_stream;
        let promise = if block.depends_on_itself {
            Err(MalformedHead::of(Rule::Priority))
        } else if self.fields.overflow().is_some() {
            Ok(Promise::default())
        } else {
            self.validate_fields(BlockKind::Request)
                .and_then(|promise| check_empty_body(promise, block.end_stream))
        };
        let event = match promise {
            Ok(promise) => {
                stream.content_length_left = promise.content_length;
                stream.known_to_owner = true;
                Event::Request { stream: block.stream, end: block.end_stream }
            }
            Err(error) => {
                // The owner responds and resets the stream.
                self.spend(Budget::ProvokedResets, now)?;
                Event::MalformedRequest { stream: block.stream, error }
            }
        };
        self.streams.open(block.stream, stream);
        Ok(Ok(Some(event)))
    }

    fn response_block(
        &mut self,
        block: HeaderBlock,
        now: Instant,
    ) -> Result<BlockResult, ConnectionError> {
        let Some(stream) = self.streams.find(block.stream) else {
            let stray = self.block_without_stream(block.stream, now)?;
            return Ok(stray.unwrap_or(Ok(None)));
        };
        if stream.remote_closed || stream.response_received {
            return Ok(self.trailer_block(block));
        }
        if self.fields.overflow().is_some() {
            let error = StreamError::new(
                ErrorCode::EnhanceYourCalm,
                "the response's header list exceeds the size limit",
            );
            return Ok(Err(error.into()));
        }
        let judged = self.validate_fields(BlockKind::Response);
        let promise = match judged.and_then(|promise| check_empty_body(promise, block.end_stream)) {
            Ok(promise) => promise,
            Err(error) => return Ok(Err(error.into())),
        };
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(Ok(None)) };
        let tag = stream.tag;
        if promise.status < 200 {
            stream.informational_count = stream.informational_count.saturating_add(1);
            if block.end_stream
                || promise.status == 101
                || stream.informational_count > INFORMATIONAL_MAX
            {
                let error = StreamError::new(
                    ErrorCode::ProtocolError,
                    "invalid or too many informational responses",
                );
                return Ok(Err(error.into()));
            }
            return Ok(Ok(Some(Event::Informational { tag })));
        }
        stream.content_length_left = promise.content_length;
        stream.response_received = true;
        stream.remote_closed = block.end_stream;
        if block.end_stream && stream.local_closed {
            self.close(block.stream, ClosedBy::EndStream);
        }
        Ok(Ok(Some(Event::Response { tag, status: promise.status, end: block.end_stream })))
    }

    /// The second and last header block of an open stream.
    fn trailer_block(&mut self, block: HeaderBlock) -> BlockResult {
        let overflow = self.fields.overflow().is_some();
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(None) };
        if stream.remote_closed {
            return Err(
                StreamError::new(ErrorCode::StreamClosed, "HEADERS after END_STREAM").into()
            );
        }
        if !block.end_stream {
            let error = StreamError::new(ErrorCode::ProtocolError, "trailers lack END_STREAM");
            return Err(error.into());
        }
        if overflow {
            let error =
                StreamError::new(ErrorCode::EnhanceYourCalm, "the trailers exceed the size limit");
            return Err(error.into());
        }
        let is_short = stream.content_length_left.is_some_and(|left| left > 0);
        self.validate_fields(BlockKind::Trailers)?;
        if is_short {
            return Err(MalformedHead::of(Rule::BodyLength).into());
        }
        let Some(stream) = self.streams.find_mut(block.stream) else { return Ok(None) };
        stream.remote_closed = true;
        let (tag, is_done) = (stream.tag, stream.local_closed);
        self.drop_earned_window(block.stream);
        if is_done {
            self.close(block.stream, ClosedBy::EndStream);
        }
        Ok(Some(Event::Trailers { tag }))
    }

    /// A header block without an open stream. `None`: the block opens a new stream.
    fn block_without_stream(
        &mut self,
        id: StreamId,
        now: Instant,
    ) -> Result<Option<BlockResult>, ConnectionError> {
        if self.role == Role::Server && id.is_client_initiated() && self.is_idle(id) {
            return Ok(None);
        }
        match self.streams.closed_by(id) {
            Some(ClosedBy::LocalReset | ClosedBy::ResetPending) => {
                self.unexpected_frame(Budget::UnexpectedFrames, now)?;
                Ok(Some(Ok(None)))
            }
            Some(ClosedBy::RemoteReset) => {
                let error = StreamError::new(ErrorCode::StreamClosed, "HEADERS after RST_STREAM");
                Ok(Some(Err(error.into())))
            }
            Some(ClosedBy::EndStream) => {
                Err(ConnectionError::new(ErrorCode::StreamClosed, "HEADERS on a closed stream"))
            }
            None if self.role == Role::Client && !self.is_idle(id) => {
                self.unexpected_frame(Budget::UnexpectedFrames, now)?;
                Ok(Some(Ok(None)))
            }
            None => Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "HEADERS on a stream that the peer cannot open",
            )),
        }
    }
}

fn check_empty_body(promise: Promise, end: bool) -> Result<Promise, MalformedHead> {
    if end && promise.content_length.is_some_and(|length| length > 0) {
        return Err(MalformedHead::of(Rule::BodyLength));
    }
    Ok(promise)
}

/// Removes padding and priority from a HEADERS payload. Also returns the parent of the priority.
fn strip_padding(
    header: FrameHeader,
    payload: &[u8],
) -> Result<(&[u8], Option<StreamId>), ConnectionError> {
    let mut rest = payload;
    let mut padding = 0_usize;
    if header.flags.contains(Flags::PADDED) {
        let Some((octet, inside)) = rest.split_first() else {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "a padded frame lacks the pad length",
            ));
        };
        padding = usize::from(*octet);
        rest = inside;
    }
    let mut depends_on = None;
    if header.flags.contains(Flags::PRIORITY) {
        let Some((octets, inside)) = rest.split_first_chunk::<5>() else {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "HEADERS is too short for its priority",
            ));
        };
        let [a, b, c, d, _] = *octets;
        depends_on = Some(StreamId::new(u32::from_be_bytes([a, b, c, d])));
        rest = inside;
    }
    match rest.len().checked_sub(padding).and_then(|length| rest.get(..length)) {
        Some(fragment) => Ok((fragment, depends_on)),
        None => Err(ConnectionError::new(
            ErrorCode::ProtocolError,
            "padding is longer than the payload",
        )),
    }
}
