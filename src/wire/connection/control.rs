//! Receiving of SETTINGS, PING, GOAWAY, PRIORITY, RST_STREAM and WINDOW_UPDATE.

use std::time::Instant;

use crate::wire::connection::window_growth::RTT_PING;
use crate::wire::connection::{Connection, Event, Role};
use crate::wire::error::{ConnectionError, ErrorCode, StreamError};
use crate::wire::frame::{Flags, FrameHeader, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::settings::{Settings, WINDOW_MAX};
use crate::wire::stream::ClosedBy;

fn read_u32(payload: &[u8]) -> u32 {
    payload.first_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets))
}

impl Connection {
    pub(in crate::wire) fn recv_settings(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if header.flags.contains(Flags::ACK) {
            if !payload.is_empty() {
                return Err(ConnectionError::new(
                    ErrorCode::FrameSizeError,
                    "an acknowledgement of SETTINGS has a payload",
                ));
            }
            return self.recv_settings_ack(now);
        }
        if self.settings_received {
            self.spend(Budget::Settings, now)?;
        }
        let before = self.remote_settings;
        self.remote_settings.apply(payload, self.role == Role::Client)?;
        self.settings_received = true;
        if let Some(smallest) = Settings::smallest_header_table_size(payload) {
            // Values apply in order (RFC 9113, 6.5.3): the peer's table had both sizes.
            self.encoder.limit_table(smallest);
            self.encoder.limit_table(self.remote_settings.header_table_size);
        }
        self.apply_initial_window(before)?;
        self.write_frame(Kind::Settings, Flags::ACK, StreamId::CONNECTION, &[]);
        Ok(Some(Event::Settings))
    }

    /// Applies a new SETTINGS_INITIAL_WINDOW_SIZE to every open stream (RFC 9113, 6.9.2).
    fn apply_initial_window(&mut self, before: Settings) -> Result<(), ConnectionError> {
        let by = i64::from(self.remote_settings.initial_window_size)
            .saturating_sub(i64::from(before.initial_window_size));
        if by == 0 {
            return Ok(());
        }
        for (_, stream) in self.streams.iter_mut() {
            stream.send_window =
                grow_window(stream.send_window, by).ok_or(ConnectionError::new(
                    ErrorCode::FlowControlError,
                    "SETTINGS_INITIAL_WINDOW_SIZE grows a window above 2^31 - 1",
                ))?;
        }
        Ok(())
    }

    fn recv_settings_ack(&mut self, now: Instant) -> Result<Option<Event>, ConnectionError> {
        let Some(acknowledged) = self.unacked_settings.pop_front() else {
            return self.spend(Budget::UnexpectedFrames, now).map(|()| None);
        };
        let shrunk = i64::from(acknowledged.window_reduction);
        if shrunk > 0 {
            self.streams.shrink_windows(acknowledged.first_stream_after, shrunk);
        }
        if self.local_config.settings != self.sent_settings {
            self.send_settings(self.local_config.settings, now);
        }
        Ok((shrunk > 0).then_some(Event::WindowsShrunk))
    }

    pub(in crate::wire) fn recv_ping(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if header.flags.contains(Flags::ACK) {
            if payload == RTT_PING && self.recv_rtt_ping_ack(now) {
                return Ok(None);
            }
            if self.unanswered_pings == 0 {
                self.spend(Budget::UnexpectedFrames, now)?;
                return Ok(None);
            }
            self.unanswered_pings = self.unanswered_pings.saturating_sub(1);
            return Ok((self.unanswered_pings == 0).then_some(Event::PingAck));
        }
        self.spend(Budget::Pings, now)?;
        self.write_frame(Kind::Ping, Flags::ACK, StreamId::CONNECTION, payload);
        Ok(None)
    }

    pub(in crate::wire) fn recv_goaway(
        &mut self,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        self.spend(Budget::UnexpectedFrames, now)?;
        let last = StreamId::new(read_u32(payload));
        let code = ErrorCode::from_number(read_u32(payload.get(4..).unwrap_or_default()));
        if self.role == Role::Client {
            self.goaway_last_id = Some(last);
        }
        Ok(Some(Event::GoAway { last, code }))
    }

    pub(in crate::wire) fn recv_priority(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if payload.len() != 5 {
            let error =
                StreamError::new(ErrorCode::FrameSizeError, "PRIORITY payload is not 5 octets");
            return self.stream_or_connection(header.stream, error, now);
        }
        self.spend(Budget::Priorities, now)?;
        if StreamId::new(read_u32(payload)) == header.stream {
            let error = StreamError::new(ErrorCode::ProtocolError, "a stream depends on itself");
            return self.stream_or_connection(header.stream, error, now);
        }
        Ok(None)
    }

    /// A stream error, or a connection error on an idle stream, which RST_STREAM does not allow
    /// (RFC 9113, 6.4).
    fn stream_or_connection(
        &mut self,
        id: StreamId,
        error: StreamError,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::new(error.code, error.reason));
        }
        self.stream_error(id, error, now).map(Some)
    }

    pub(in crate::wire) fn recv_reset(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if self.is_idle(header.stream) {
            return Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "RST_STREAM on an idle stream",
            ));
        }
        if self.streams.find(header.stream).is_none() {
            // The peer has closed the stream: a pending reset is no longer needed.
            self.streams.take_pending_reset(header.stream);
            return self.unexpected_frame(Budget::Resets, now).map(|()| None);
        }
        if self.role == Role::Server {
            self.spend(Budget::Resets, now)?;
        }
        let tag = self.close(header.stream, ClosedBy::RemoteReset);
        Ok(tag.map(|tag| Event::Reset { tag, code: ErrorCode::from_number(read_u32(payload)) }))
    }

    pub(in crate::wire) fn recv_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let increment = i64::from(StreamId::new(read_u32(payload)).number());
        if header.stream == StreamId::CONNECTION {
            if increment == 0 {
                return Err(ConnectionError::new(
                    ErrorCode::ProtocolError,
                    "WINDOW_UPDATE with an increment of 0",
                ));
            }
            self.send_window =
                grow_window(self.send_window, increment).ok_or(ConnectionError::new(
                    ErrorCode::FlowControlError,
                    "WINDOW_UPDATE grows the connection's window above 2^31 - 1",
                ))?;
            self.spend(Budget::WindowUpdates, now)?;
            return Ok(Some(Event::WindowUpdate { tag: None }));
        }
        if self.is_idle(header.stream) {
            return Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "WINDOW_UPDATE on an idle stream",
            ));
        }
        self.spend(Budget::WindowUpdates, now)?;
        let Some(stream) = self.streams.find_mut(header.stream) else { return Ok(None) };
        let error = if increment == 0 {
            StreamError::new(ErrorCode::ProtocolError, "WINDOW_UPDATE with an increment of 0")
        } else if let Some(send) = grow_window(stream.send_window, increment) {
            stream.send_window = send;
            return Ok(Some(Event::WindowUpdate { tag: Some(stream.tag) }));
        } else {
            StreamError::new(
                ErrorCode::FlowControlError,
                "WINDOW_UPDATE grows a stream's window above 2^31 - 1",
            )
        };
        self.stream_error(header.stream, error, now).map(Some)
    }
}

/// Adds to a window; `None` above the maximum of 2^31 - 1 (RFC 9113, 6.9.1).
fn grow_window(window: i64, by: i64) -> Option<i64> {
    window.checked_add(by).filter(|sum| *sum <= i64::from(WINDOW_MAX))
}
