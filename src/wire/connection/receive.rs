//! From octets to frames: where in the grammar we are, and what must hold before a frame is read.

use std::time::Instant;

use crate::wire::connection::{Connection, Event, Parse, Role};
use crate::wire::fault::{Code, Fault};
use crate::wire::frame::{HEAD, Head, Kind, PREFACE, SIZE_FLOOR, StreamId};
use crate::wire::guard::Budget;

impl Connection {
    /// Takes octets from the front of `input` until something happened; says how many it took.
    ///
    /// Call it again with the rest until it says `Event::Starved`, which means that all was taken.
    ///
    /// # Errors
    /// A connection error: tell the peer by `fail`, flush, and close.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> Result<(usize, Event), Fault> {
        let mut taken = 0_usize;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            let at = taken;
            if let Some((head, payload)) = self.whole_frame(rest) {
                self.check_head(head)?;
                let all = at.saturating_add(HEAD).saturating_add(payload.len());
                if head.kind == Kind::Data {
                    if let Some((tag, end)) = self.whole_body(head) {
                        let octets = at.saturating_add(HEAD)..all;
                        return Ok((all, Event::Data { tag, octets, end }));
                    }
                } else if head.kind != Kind::Unknown {
                    taken = all;
                    self.begin(now);
                    match self.understand(head, payload, now)? {
                        None | Some(Event::Starved) => continue,
                        Some(event) => return Ok((taken, event)),
                    }
                }
            }
            if rest.is_empty() && !self.is_between() {
                return Ok((taken, Event::Starved));
            }
            let (more, event) = self.step(rest, now)?;
            taken = taken.saturating_add(more);
            match event {
                None if more == 0 && rest.is_empty() => return Ok((taken, Event::Starved)),
                None | Some(Event::Starved) => {}
                Some(Event::Data { tag, octets, end }) => {
                    let octets = octets.start.saturating_add(at)..octets.end.saturating_add(at);
                    return Ok((taken, Event::Data { tag, octets, end }));
                }
                Some(event) => return Ok((taken, event)),
            }
        }
    }

    /// When a frame or header block began that is not whole yet; DATA is none of them.
    #[must_use]
    pub fn mid_block_since(&self) -> Option<Instant> {
        let is_mid_frame = !self.held.is_empty() || matches!(self.parse, Parse::Payload(_));
        (is_mid_frame || self.block.is_some()).then_some(self.since)
    }

    /// What is under way was not read until now: that is not the peer's fault.
    pub fn excuse(&mut self, now: Instant) {
        self.since = now;
    }

    /// The frame that begins here, if it is there as a whole: the common case.
    fn whole_frame<'i>(&self, rest: &'i [u8]) -> Option<(Head, &'i [u8])> {
        if self.parse != Parse::Head || !self.held.is_empty() {
            return None;
        }
        let (octets, behind) = rest.split_first_chunk::<HEAD>()?;
        let head = Head::parse(*octets);
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        Some((head, behind.get(..length)?))
    }

    /// A frame begins, and with it what it is part of, unless that is under way.
    fn begin(&mut self, now: Instant) {
        if self.block.is_none() {
            self.since = now;
        }
    }

    /// Whether a step can be made without any octets: a payload of none, or the end of a body.
    fn is_between(&self) -> bool {
        match self.parse {
            Parse::Payload(head) => head.length == 0,
            Parse::Body(body) => body.is_over(),
            Parse::Skip(left) => left == 0,
            Parse::Preface(_) | Parse::Head => false,
        }
    }

    fn step(&mut self, rest: &[u8], now: Instant) -> Result<(usize, Option<Event>), Fault> {
        match self.parse {
            Parse::Preface(seen) => self.preface(seen, rest).map(|taken| (taken, None)),
            Parse::Head => self.frame_head(rest, now),
            Parse::Payload(head) => self.payload(head, rest, now),
            Parse::Body(body) => self.body(body, rest, now),
            Parse::Skip(left) => {
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                self.parse = if left == 0 { Parse::Head } else { Parse::Skip(left) };
                Ok((taken, None))
            }
        }
    }

    fn preface(&mut self, seen: usize, rest: &[u8]) -> Result<usize, Fault> {
        let wanted = PREFACE.get(seen..).unwrap_or_default();
        let taken = wanted.len().min(rest.len());
        if wanted.get(..taken) != rest.get(..taken) {
            return Err(Fault::new(Code::ProtocolError, "this is not HTTP/2"));
        }
        let seen = seen.saturating_add(taken);
        self.parse = if seen == PREFACE.len() { Parse::Head } else { Parse::Preface(seen) };
        Ok(taken)
    }

    fn frame_head(&mut self, rest: &[u8], now: Instant) -> Result<(usize, Option<Event>), Fault> {
        if self.held.is_empty() {
            self.begin(now);
        }
        let (octets, taken) = if self.held.is_empty() && rest.len() >= HEAD {
            (rest.first_chunk::<HEAD>().copied(), HEAD)
        } else {
            let taken = HEAD.saturating_sub(self.held.len()).min(rest.len());
            self.held.extend_from_slice(rest.get(..taken).unwrap_or_default());
            (self.held.first_chunk::<HEAD>().copied(), taken)
        };
        let Some(octets) = octets else { return Ok((taken, None)) };
        self.held.clear();
        let head = Head::parse(octets);
        self.check_head(head)?;
        match head.kind {
            Kind::Data => return Ok((taken, self.begin_body(head, now)?)),
            Kind::Unknown => {
                self.spend(Budget::Priorities, now)?;
                self.parse = Parse::Skip(head.length);
            }
            Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::PushPromise
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation => self.parse = Parse::Payload(head),
        }
        Ok((taken, None))
    }

    /// What must hold for any frame, before a single octet of its payload is looked at.
    fn check_head(&self, head: Head) -> Result<(), Fault> {
        if !self.met
            && (head.kind != Kind::Settings || head.flags.has(crate::wire::frame::Flags::ACK))
        {
            return Err(Fault::new(Code::ProtocolError, "the first frame is not SETTINGS"));
        }
        if head.length > SIZE_FLOOR {
            return Err(Fault::new(Code::FrameSizeError, "a frame is too large"));
        }
        let on_connection = head.stream == StreamId::CONNECTION;
        if self.block.is_none() && matches!(head.kind, Kind::Data | Kind::Headers) && !on_connection
        {
            // The common case, of which nothing more is asked.
            return Ok(());
        }
        match (self.block, head.kind) {
            (Some(block), Kind::Continuation) if block.stream == head.stream => {}
            (Some(_), _) => {
                return Err(Fault::new(Code::ProtocolError, "a header block was interrupted"));
            }
            (None, Kind::Continuation) => {
                return Err(Fault::new(Code::ProtocolError, "CONTINUATION of nothing"));
            }
            (None, _) => {}
        }
        let (wanted, size) = match head.kind {
            Kind::Settings => (Some(true), None),
            Kind::Ping => (Some(true), Some(8)),
            Kind::GoAway => (Some(true), None),
            Kind::Reset => (Some(false), Some(4)),
            Kind::WindowUpdate => (None, Some(4)),
            Kind::Data | Kind::Headers | Kind::Priority | Kind::Continuation => (Some(false), None),
            Kind::PushPromise => {
                return Err(Fault::new(Code::ProtocolError, "PUSH_PROMISE is not wanted"));
            }
            Kind::Unknown => (None, None),
        };
        if wanted.is_some_and(|wanted| wanted != on_connection) {
            return Err(Fault::new(Code::ProtocolError, "a frame on the wrong stream"));
        }
        if size.is_some_and(|size| size != head.length)
            || (head.kind == Kind::GoAway && head.length < 8)
        {
            return Err(Fault::new(Code::FrameSizeError, "a frame of the wrong size"));
        }
        Ok(())
    }

    /// The payload of a frame that comes in parts.
    fn payload(
        &mut self,
        head: Head,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), Fault> {
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let taken = length.saturating_sub(self.held.len()).min(rest.len());
        self.held.extend_from_slice(rest.get(..taken).unwrap_or_default());
        if self.held.len() < length {
            return Ok((taken, None));
        }
        let mut payload = std::mem::take(&mut self.held);
        self.parse = Parse::Head;
        let event = self.understand(head, &payload, now)?;
        payload.clear();
        self.held = payload;
        Ok((taken, event))
    }

    #[inline]
    fn understand(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        match head.kind {
            Kind::Headers => self.headers(head, payload, now),
            Kind::Continuation => self.continuation(head, payload, now),
            Kind::Priority => self.priority(head, payload, now),
            Kind::Reset => self.reset(head, payload, now),
            Kind::Settings => self.settings(head, payload, now),
            Kind::Ping => self.ping(head, payload, now),
            Kind::GoAway => self.goaway(payload, now),
            Kind::WindowUpdate => self.credit(head, payload, now),
            Kind::Data | Kind::PushPromise | Kind::Unknown => Ok(None),
        }
    }

    /// Whether nobody has opened a stream of this number yet.
    pub(in crate::wire) fn is_idle(&self, id: StreamId) -> bool {
        match self.role {
            Role::Server => !id.is_clients() || id > self.peer_last,
            Role::Client => !id.is_clients() || id >= self.own_next,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::connection::Offer;
    use crate::wire::frame::Flags;
    use crate::wire::hpack::Limits;
    use crate::wire::settings::Settings;

    fn frame(kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = payload.len().try_into().unwrap();
        let head = Head { length, kind, flags, stream: StreamId::new(stream) };
        [&head.octets()[..], payload].concat()
    }

    #[test]
    fn a_header_block_counts_from_its_first_octet_to_its_last() {
        let limits = Limits { octets: 1_000, count: 10 };
        let offer = Offer { settings: Settings::INITIAL, window: 65_535, headers: limits };
        let first = Instant::now();
        let mut connection = Connection::new(Role::Client, offer, first);
        let mut octets = frame(Kind::Settings, Flags::NONE, 0, &[]);
        octets.extend(frame(Kind::Ping, Flags::NONE, 0, &[0; 8]));
        assert_eq!(connection.open(7, &[], false).number(), 1);
        connection.receive(&octets, first).unwrap();
        connection.receive(&octets[9..], first).unwrap();
        let block = [
            frame(Kind::Headers, Flags::NONE, 1, &[0x88, 0x88]),
            frame(Kind::Continuation, Flags::NONE, 1, &[]),
            frame(Kind::Continuation, Flags::END_HEADERS, 1, &[0x88]),
        ]
        .concat();
        for (at, octet) in (1..).zip(&block) {
            assert_eq!(connection.mid_block_since(), (at > 1).then_some(first), "{at}");
            let now = first + Duration::from_secs(at - 1);
            connection.receive(&[*octet], now).unwrap();
        }
        assert_eq!(connection.mid_block_since(), None);
    }

    #[test]
    fn a_frame_that_begins_where_another_ends_counts_for_itself() {
        let limits = Limits { octets: 1_000, count: 10 };
        let offer = Offer { settings: Settings::INITIAL, window: 65_535, headers: limits };
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
            assert!(connection.mid_block_since().is_none_or(|since| since == now), "{at}");
        }
    }
}
