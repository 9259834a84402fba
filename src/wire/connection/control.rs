//! Control frames: settings, credit, pings, resets, goodbyes.

use std::time::Instant;

use crate::wire::connection::earned::PROBE;
use crate::wire::connection::{Connection, Event, Role, widen};
use crate::wire::fault::{Code, Fault, StreamFault};
use crate::wire::frame::{Flags, Head, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::settings::Settings;
use crate::wire::stream::Ended;

fn word(payload: &[u8]) -> u32 {
    payload.first_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets))
}

impl Connection {
    pub(in crate::wire) fn settings(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if head.flags.has(Flags::ACK) {
            if !payload.is_empty() {
                return Err(Fault::new(Code::FrameSizeError, "an acknowledgement with a payload"));
            }
            return self.acknowledged(now);
        }
        if self.met {
            self.spend(Budget::Settings, now)?;
        }
        let before = self.theirs;
        self.theirs.apply(payload, self.role == Role::Client)?;
        self.met = true;
        if let Some(smallest) = Settings::smallest_table(payload) {
            // Values hold in their order (RFC 9113, 6.5.3): the peer's table went through both.
            self.encoder.limit_table(smallest);
            self.encoder.limit_table(self.theirs.header_table);
        }
        self.rewindow(before)?;
        self.frame(Kind::Settings, Flags::ACK, StreamId::CONNECTION, &[]);
        Ok(Some(Event::Settings))
    }

    /// A new INITIAL_WINDOW_SIZE moves every open stream's window (RFC 9113, 6.9.2).
    fn rewindow(&mut self, before: Settings) -> Result<(), Fault> {
        let by = i64::from(self.theirs.window).saturating_sub(i64::from(before.window));
        if by == 0 {
            return Ok(());
        }
        for (_, stream) in self.streams.iter_mut() {
            stream.send = widen(stream.send, by).ok_or(Fault::new(
                Code::FlowControlError,
                "INITIAL_WINDOW_SIZE makes a window too large",
            ))?;
        }
        Ok(())
    }

    fn acknowledged(&mut self, now: Instant) -> Result<Option<Event>, Fault> {
        let Some(acknowledged) = self.unacked.pop_front() else {
            return self.spend(Budget::Strays, now).map(|()| None);
        };
        let shrunk = i64::from(acknowledged.shrunk_by);
        if shrunk > 0 {
            self.streams.shrink_windows(acknowledged.before, shrunk);
        }
        if self.offer.settings != self.sent {
            self.send_settings(self.offer.settings, now);
        }
        Ok((shrunk > 0).then_some(Event::WindowsShrunk))
    }

    pub(in crate::wire) fn ping(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if head.flags.has(Flags::ACK) {
            if payload == PROBE && self.round_trip_ended(now) {
                return Ok(None);
            }
            if self.pings == 0 {
                self.spend(Budget::Strays, now)?;
                return Ok(None);
            }
            self.pings = self.pings.saturating_sub(1);
            return Ok((self.pings == 0).then_some(Event::Pong));
        }
        self.spend(Budget::Pings, now)?;
        self.frame(Kind::Ping, Flags::ACK, StreamId::CONNECTION, payload);
        Ok(None)
    }

    pub(in crate::wire) fn goaway(
        &mut self,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        self.spend(Budget::Strays, now)?;
        let last = StreamId::new(word(payload));
        let code = Code::of(word(payload.get(4..).unwrap_or_default()));
        if self.role == Role::Client {
            self.closing = Some(last);
        }
        Ok(Some(Event::GoAway { last, code }))
    }

    pub(in crate::wire) fn priority(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if payload.len() != 5 {
            let fault = StreamFault::new(Code::FrameSizeError, "PRIORITY of the wrong size");
            return self.stream_or_connection(head.stream, fault, now);
        }
        self.spend(Budget::Priorities, now)?;
        if StreamId::new(word(payload)) == head.stream {
            let fault = StreamFault::new(Code::ProtocolError, "a stream depends on itself");
            return self.stream_or_connection(head.stream, fault, now);
        }
        Ok(None)
    }

    /// A stream error, unless the stream is idle: that cannot be reset (RFC 9113, 6.4).
    fn stream_or_connection(
        &mut self,
        id: StreamId,
        fault: StreamFault,
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if self.is_idle(id) {
            return Err(Fault::new(fault.code, fault.what));
        }
        self.break_stream(id, fault, now).map(Some)
    }

    pub(in crate::wire) fn reset(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        if self.is_idle(head.stream) {
            return Err(Fault::new(Code::ProtocolError, "RST_STREAM on an idle stream"));
        }
        if self.streams.find(head.stream).is_none() {
            // The peer has what it wanted to know, and nothing more is to be said.
            self.streams.settle_rejected(head.stream);
            return self.stray_frame(Budget::Resets, now).map(|()| None);
        }
        if self.role == Role::Server {
            self.spend(Budget::Resets, now)?;
        }
        let tag = self.close(head.stream, Ended::PeerReset);
        Ok(tag.map(|tag| Event::Reset { tag, code: Code::of(word(payload)) }))
    }

    pub(in crate::wire) fn credit(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        let more = i64::from(StreamId::new(word(payload)).number());
        if head.stream == StreamId::CONNECTION {
            if more == 0 {
                return Err(Fault::new(Code::ProtocolError, "WINDOW_UPDATE of nothing"));
            }
            self.send_credit = widen(self.send_credit, more).ok_or(Fault::new(
                Code::FlowControlError,
                "the connection's window is too large",
            ))?;
            self.spend(Budget::WindowUpdates, now)?;
            return Ok(Some(Event::Credit { tag: None }));
        }
        if self.is_idle(head.stream) {
            return Err(Fault::new(Code::ProtocolError, "WINDOW_UPDATE on an idle stream"));
        }
        self.spend(Budget::WindowUpdates, now)?;
        let Some(stream) = self.streams.find_mut(head.stream) else { return Ok(None) };
        let fault = if more == 0 {
            StreamFault::new(Code::ProtocolError, "WINDOW_UPDATE of nothing")
        } else if let Some(send) = widen(stream.send, more) {
            stream.send = send;
            return Ok(Some(Event::Credit { tag: Some(stream.tag) }));
        } else {
            StreamFault::new(Code::FlowControlError, "a stream's window is too large")
        };
        self.break_stream(head.stream, fault, now).map(Some)
    }
}
