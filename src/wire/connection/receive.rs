//! Parsing of frames, and the checks of frame headers.

use std::time::Instant;

use crate::wire::connection::{Connection, Event, ParseState, Role};
use crate::wire::error::{ConnectionError, ErrorCode};
use crate::wire::frame::{
    DEFAULT_MAX_FRAME_SIZE, FrameHeader, HEADER_LEN, Kind, PREFACE, StreamId,
};
use crate::wire::guard::Budget;

impl Connection {
    /// Consumes octets from the front of `input` up to the next event. Returns the number of
    /// consumed octets and the event.
    ///
    /// Call it again with the rest until it returns [`Event::NeedMoreData`]: all octets are
    /// consumed.
    ///
    /// # Errors
    /// A connection error: call [`Connection::fail`], flush, and close.
    pub fn receive(
        &mut self,
        input: &[u8],
        now: Instant,
    ) -> Result<(usize, Event), ConnectionError> {
        let mut taken = 0_usize;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            let at = taken;
            if let Some((header, payload)) = self.whole_frame(rest) {
                self.check_frame_header(header)?;
                let all = at.saturating_add(HEADER_LEN).saturating_add(payload.len());
                if header.kind == Kind::Data {
                    if let Some((tag, end)) = self.recv_whole_data(header) {
                        let octets = at.saturating_add(HEADER_LEN)..all;
                        return Ok((all, Event::Data { tag, octets, end }));
                    }
                } else if header.kind != Kind::Unknown {
                    taken = all;
                    self.frame_started(now);
                    match self.dispatch_frame(header, payload, now)? {
                        None | Some(Event::NeedMoreData) => continue,
                        Some(event) => return Ok((taken, event)),
                    }
                }
            }
            if rest.is_empty() && !self.can_step_without_input() {
                return Ok((taken, Event::NeedMoreData));
            }
            let (more, event) = self.step(rest, now)?;
            taken = taken.saturating_add(more);
            match event {
                None if more == 0 && rest.is_empty() => return Ok((taken, Event::NeedMoreData)),
                None | Some(Event::NeedMoreData) => {}
                Some(Event::Data { tag, octets, end }) => {
                    let octets = octets.start.saturating_add(at)..octets.end.saturating_add(at);
                    return Ok((taken, Event::Data { tag, octets, end }));
                }
                Some(event) => return Ok((taken, event)),
            }
        }
    }

    /// Arrival of the first octet of an incomplete frame or header block. DATA does not count.
    #[must_use]
    pub fn partial_frame_since(&self) -> Option<Instant> {
        let is_mid_frame =
            !self.partial_frame.is_empty() || matches!(self.parse, ParseState::Payload(_));
        (is_mid_frame || self.header_block.is_some()).then_some(self.partial_since)
    }

    /// Restarts the time of an incomplete frame, when the delay was ours and not the peer's.
    pub fn reset_read_timer(&mut self, now: Instant) {
        self.partial_since = now;
    }

    /// The common case: a complete frame at the front of `rest`.
    fn whole_frame<'i>(&self, rest: &'i [u8]) -> Option<(FrameHeader, &'i [u8])> {
        if self.parse != ParseState::FrameHeader || !self.partial_frame.is_empty() {
            return None;
        }
        let (octets, after) = rest.split_first_chunk::<HEADER_LEN>()?;
        let header = FrameHeader::parse(*octets);
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        Some((header, after.get(..length)?))
    }

    /// Notes the start of a frame, unless the frame continues a header block.
    fn frame_started(&mut self, now: Instant) {
        if self.header_block.is_none() {
            self.partial_since = now;
        }
    }

    /// Whether the next step needs no input: an empty payload, or the end of DATA.
    fn can_step_without_input(&self) -> bool {
        match self.parse {
            ParseState::Payload(header) => header.length == 0,
            ParseState::Data(body) => body.is_complete(),
            ParseState::Skip(left) => left == 0,
            ParseState::Preface(_) | ParseState::FrameHeader => false,
        }
    }

    fn step(
        &mut self,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), ConnectionError> {
        match self.parse {
            ParseState::Preface(seen) => self.recv_preface(seen, rest).map(|taken| (taken, None)),
            ParseState::FrameHeader => self.recv_frame_header(rest, now),
            ParseState::Payload(header) => self.recv_payload(header, rest, now),
            ParseState::Data(body) => self.recv_data(body, rest, now),
            ParseState::Skip(left) => {
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                self.parse =
                    if left == 0 { ParseState::FrameHeader } else { ParseState::Skip(left) };
                Ok((taken, None))
            }
        }
    }

    fn recv_preface(&mut self, seen: usize, rest: &[u8]) -> Result<usize, ConnectionError> {
        let wanted = PREFACE.get(seen..).unwrap_or_default();
        let taken = wanted.len().min(rest.len());
        if wanted.get(..taken) != rest.get(..taken) {
            return Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "the connection does not start with the HTTP/2 preface",
            ));
        }
        let seen = seen.saturating_add(taken);
        self.parse =
            if seen == PREFACE.len() { ParseState::FrameHeader } else { ParseState::Preface(seen) };
        Ok(taken)
    }

    fn recv_frame_header(
        &mut self,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), ConnectionError> {
        if self.partial_frame.is_empty() {
            self.frame_started(now);
        }
        let (octets, taken) = if self.partial_frame.is_empty() && rest.len() >= HEADER_LEN {
            (rest.first_chunk::<HEADER_LEN>().copied(), HEADER_LEN)
        } else {
            let taken = HEADER_LEN.saturating_sub(self.partial_frame.len()).min(rest.len());
            self.partial_frame.extend_from_slice(rest.get(..taken).unwrap_or_default());
            (self.partial_frame.first_chunk::<HEADER_LEN>().copied(), taken)
        };
        let Some(octets) = octets else { return Ok((taken, None)) };
        self.partial_frame.clear();
        let header = FrameHeader::parse(octets);
        self.check_frame_header(header)?;
        match header.kind {
            Kind::Data => return Ok((taken, self.recv_data_header(header, now)?)),
            Kind::Unknown => {
                self.spend(Budget::Priorities, now)?;
                self.parse = ParseState::Skip(header.length);
            }
            Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::PushPromise
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation => self.parse = ParseState::Payload(header),
        }
        Ok((taken, None))
    }

    /// Checks a frame header before the payload is read.
    fn check_frame_header(&self, header: FrameHeader) -> Result<(), ConnectionError> {
        if !self.settings_received
            && (header.kind != Kind::Settings
                || header.flags.contains(crate::wire::frame::Flags::ACK))
        {
            return Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "the first frame is not SETTINGS",
            ));
        }
        if header.length > DEFAULT_MAX_FRAME_SIZE {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "a frame is longer than SETTINGS_MAX_FRAME_SIZE",
            ));
        }
        let on_connection = header.stream == StreamId::CONNECTION;
        if self.header_block.is_none()
            && matches!(header.kind, Kind::Data | Kind::Headers)
            && !on_connection
        {
            // The common case: no further check applies.
            return Ok(());
        }
        self.check_block_order(header)?;
        let (wanted, size) = match header.kind {
            Kind::Settings => (Some(true), None),
            Kind::Ping => (Some(true), Some(8)),
            Kind::GoAway => (Some(true), None),
            Kind::Reset => (Some(false), Some(4)),
            Kind::WindowUpdate => (None, Some(4)),
            Kind::Data | Kind::Headers | Kind::Priority | Kind::Continuation => (Some(false), None),
            Kind::PushPromise => {
                return Err(ConnectionError::new(
                    ErrorCode::ProtocolError,
                    "PUSH_PROMISE although server push is disabled",
                ));
            }
            Kind::Unknown => (None, None),
        };
        if wanted.is_some_and(|wanted| wanted != on_connection) {
            return Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "a frame type is not allowed on this stream identifier",
            ));
        }
        if size.is_some_and(|size| size != header.length)
            || (header.kind == Kind::GoAway && header.length < 8)
        {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "a frame has the wrong length for its type",
            ));
        }
        Ok(())
    }

    /// Checks that frames of a header block are consecutive.
    fn check_block_order(&self, header: FrameHeader) -> Result<(), ConnectionError> {
        match (self.header_block, header.kind) {
            (Some(block), Kind::Continuation) if block.stream == header.stream => Ok(()),
            (Some(_), _) => Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "another frame interrupts a header block",
            )),
            (None, Kind::Continuation) => Err(ConnectionError::new(
                ErrorCode::ProtocolError,
                "CONTINUATION without a header block",
            )),
            (None, _) => Ok(()),
        }
    }

    /// Collects the payload of a frame that arrives in parts.
    fn recv_payload(
        &mut self,
        header: FrameHeader,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), ConnectionError> {
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let taken = length.saturating_sub(self.partial_frame.len()).min(rest.len());
        self.partial_frame.extend_from_slice(rest.get(..taken).unwrap_or_default());
        if self.partial_frame.len() < length {
            return Ok((taken, None));
        }
        let mut payload = std::mem::take(&mut self.partial_frame);
        self.parse = ParseState::FrameHeader;
        let event = self.dispatch_frame(header, &payload, now)?;
        payload.clear();
        self.partial_frame = payload;
        Ok((taken, event))
    }

    #[inline]
    fn dispatch_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        match header.kind {
            Kind::Headers => self.recv_headers(header, payload, now),
            Kind::Continuation => self.recv_continuation(header, payload, now),
            Kind::Priority => self.recv_priority(header, payload, now),
            Kind::Reset => self.recv_reset(header, payload, now),
            Kind::Settings => self.recv_settings(header, payload, now),
            Kind::Ping => self.recv_ping(header, payload, now),
            Kind::GoAway => self.recv_goaway(payload, now),
            Kind::WindowUpdate => self.recv_window_update(header, payload, now),
            Kind::Data | Kind::PushPromise | Kind::Unknown => Ok(None),
        }
    }

    /// Whether the stream is in state "idle": no frame has opened it (RFC 9113, 5.1).
    pub(in crate::wire) fn is_idle(&self, id: StreamId) -> bool {
        match self.role {
            Role::Server => !id.is_client_initiated() || id > self.last_remote_id,
            Role::Client => !id.is_client_initiated() || id >= self.next_local_id,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::connection::LocalConfig;
    use crate::wire::frame::Flags;
    use crate::wire::hpack::Limits;
    use crate::wire::settings::Settings;

    fn frame(kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = payload.len().try_into().unwrap();
        let header = FrameHeader { length, kind, flags, stream: StreamId::new(stream) };
        [&header.octets()[..], payload].concat()
    }

    #[test]
    fn a_header_block_is_incomplete_from_its_first_octet_to_its_last() {
        let limits = Limits { octets: 1_000, count: 10 };
        let offer = LocalConfig { settings: Settings::INITIAL, window: 65_535, headers: limits };
        let first = Instant::now();
        let mut connection = Connection::new(Role::Client, offer, first);
        let mut octets = frame(Kind::Settings, Flags::NONE, 0, &[]);
        octets.extend(frame(Kind::Ping, Flags::NONE, 0, &[0; 8]));
        assert_eq!(connection.open_stream(7, &[], false).number(), 1);
        connection.receive(&octets, first).unwrap();
        connection.receive(&octets[9..], first).unwrap();
        let block = [
            frame(Kind::Headers, Flags::NONE, 1, &[0x88, 0x88]),
            frame(Kind::Continuation, Flags::NONE, 1, &[]),
            frame(Kind::Continuation, Flags::END_HEADERS, 1, &[0x88]),
        ]
        .concat();
        for (at, octet) in (1..).zip(&block) {
            assert_eq!(connection.partial_frame_since(), (at > 1).then_some(first), "{at}");
            let now = first + Duration::from_secs(at - 1);
            connection.receive(&[*octet], now).unwrap();
        }
        assert_eq!(connection.partial_frame_since(), None);
    }

    #[test]
    fn the_time_of_an_incomplete_frame_starts_at_its_own_first_octet() {
        let limits = Limits { octets: 1_000, count: 10 };
        let offer = LocalConfig { settings: Settings::INITIAL, window: 65_535, headers: limits };
        let now = Instant::now();
        let mut connection = Connection::new(Role::Client, offer, now);
        let mut octets = frame(Kind::Settings, Flags::NONE, 0, &[]);
        octets.extend(frame(Kind::Ping, Flags::NONE, 0, &[0; 8]).repeat(9));
        for (at, piece) in (0..).zip(octets.chunks(19)) {
            let now = now + Duration::from_secs(at);
            let mut piece = piece;
            while !piece.is_empty() {
                let (taken, _) = connection.receive(piece, now).unwrap();
                piece = &piece[taken..];
            }
            assert!(connection.partial_frame_since().is_none_or(|since| since == now), "{at}");
        }
    }
}
