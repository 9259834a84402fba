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
