//! DATA: cut through, never gathered. A frame that arrives in pieces is passed on in pieces.

use std::time::Instant;

use crate::wire::connection::{Connection, Event, Parse, Role};
use crate::wire::fault::{Code, Fault, StreamFault};
use crate::wire::frame::{Flags, Head, Kind, StreamId};
use crate::wire::guard::Budget;
use crate::wire::head::{Malformed, Rule};
use crate::wire::outbox::Outbox;
use crate::wire::stream::Ended;

/// Connection credit is given back in pieces of at least so many octets.
const OWED_MIN: u32 = 16_384;
/// To a client it is given back in pieces of this part of the window: what is withheld is missing
/// on a long way. Drivers are near, and get theirs in halves.
const CLIENT_PART: i64 = 4;

/// Where in a DATA frame we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) struct Body {
    stream: StreamId,
    /// Octets of data that are still to come.
    left: u32,
    /// Octets of padding behind them; `None` until the pad length was read.
    padding: Option<u32>,
    /// Whether the stream ends here.
    end: bool,
}

impl Body {
    /// Octets of this frame that are still to come, if it is of this stream; of any, if none is
    /// named.
    pub(in crate::wire) fn arriving(&self, id: Option<StreamId>) -> i64 {
        if id.is_none_or(|id| id == self.stream) { i64::from(self.left) } else { 0 }
    }

    pub(in crate::wire) const fn is_over(&self) -> bool {
        self.left == 0 && self.padding.is_some()
    }
}

impl Connection {
    /// The common case in one step: DATA that is there as a whole, has octets and no padding, and
    /// breaks no rule. Its stream's tag, and whether nothing follows.
    pub(in crate::wire) fn whole_body(&mut self, head: Head) -> Option<(u32, bool)> {
        let credit = i64::from(head.length);
        if credit == 0 || head.flags.has(Flags::PADDED) || credit > self.receive_credit {
            return None;
        }
        let stream = self.streams.find_mut(head.stream)?;
        let is_due = self.role == Role::Server || stream.answered;
        if stream.peer_ended || !is_due || stream.promised.is_some() || credit > stream.receive {
            return None;
        }
        let end = head.flags.has(Flags::END_STREAM);
        stream.receive = stream.receive.saturating_sub(credit);
        stream.peer_ended = end;
        let (tag, is_done) = (stream.tag, end && stream.we_ended);
        self.receive_credit = self.receive_credit.saturating_sub(credit);
        if is_done {
            self.close(head.stream, Ended::Done);
        } else if end {
            self.give_up_window(head.stream);
        }
        if self.role == Role::Server {
            self.owe(head.length);
        }
        Some((tag, end))
    }

    pub(in crate::wire) fn begin_body(
        &mut self,
        head: Head,
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        let length = i64::from(head.length);
        if length > self.receive_credit {
            return Err(Fault::new(Code::FlowControlError, "DATA beyond the connection's window"));
        }
        let padded = head.flags.has(Flags::PADDED);
        if padded && head.length == 0 {
            return Err(Fault::new(Code::FrameSizeError, "padding without a length"));
        }
        self.receive_credit = self.receive_credit.saturating_sub(length);
        let end = head.flags.has(Flags::END_STREAM);
        if head.length == 0 && !end {
            self.spend(Budget::EmptyData, now)?;
        }
        if let Some(fault) = self.accepts_data(head)? {
            self.parse = Parse::Skip(head.length);
            self.owe(head.length);
            if end {
                self.reset_rejected(head.stream);
            }
            return match fault {
                Some(fault) => Ok(Some(self.break_stream(head.stream, fault, now)?)),
                None => self.stray_data(head.length, now).map(|()| None),
            };
        }
        if let Some(stream) = self.streams.find_mut(head.stream) {
            stream.receive = stream.receive.saturating_sub(length);
        }
        if self.role == Role::Server {
            self.owe(head.length);
        }
        self.parse = Parse::Body(Body {
            stream: head.stream,
            left: head.length,
            padding: if padded { None } else { Some(0) },
            end,
        });
        Ok(None)
    }

    /// `None`: go on. `Some(None)`: a stray, read past it. `Some(fault)`: the stream is broken.
    fn accepts_data(&self, head: Head) -> Result<Option<Option<StreamFault>>, Fault> {
        let Some(stream) = self.streams.find(head.stream) else {
            return match self.streams.ended(head.stream) {
                Some(Ended::Done) => {
                    Err(Fault::new(Code::StreamClosed, "DATA on a stream that has ended"))
                }
                Some(Ended::PeerReset) => {
                    Ok(Some(Some(StreamFault::new(Code::StreamClosed, "DATA after RST_STREAM"))))
                }
                Some(Ended::WeReset | Ended::Rejected) => Ok(Some(None)),
                None if self.is_idle(head.stream) => {
                    Err(Fault::new(Code::ProtocolError, "DATA on an idle stream"))
                }
                None => Ok(Some(None)),
            };
        };
        let fault = if stream.peer_ended {
            StreamFault::new(Code::StreamClosed, "DATA after END_STREAM")
        } else if self.role == Role::Client && !stream.answered {
            StreamFault::new(Code::ProtocolError, "DATA before HEADERS")
        } else if i64::from(head.length) > stream.receive {
            StreamFault::new(Code::FlowControlError, "DATA beyond the stream's window")
        } else {
            return Ok(None);
        };
        Ok(Some(Some(fault)))
    }

    pub(in crate::wire) fn body(
        &mut self,
        mut body: Body,
        rest: &[u8],
        now: Instant,
    ) -> Result<(usize, Option<Event>), Fault> {
        let Some(padding) = body.padding else {
            let Some(octet) = rest.first() else { return Ok((0, None)) };
            let padding = u32::from(*octet);
            let inside = body.left.saturating_sub(1);
            let Some(left) = inside.checked_sub(padding) else {
                return Err(Fault::new(Code::ProtocolError, "more padding than payload"));
            };
            if left == 0 && !body.end {
                self.spend(Budget::EmptyData, now)?;
            }
            body.padding = Some(padding);
            body.left = left;
            self.repay(body.stream, padding.saturating_add(1));
            self.parse = Parse::Body(body);
            return Ok((1, None));
        };
        let taken = rest.len().min(usize::try_from(body.left).unwrap_or(usize::MAX));
        body.left = body.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        let end = body.left == 0 && body.end;
        self.parse = if body.left > 0 { Parse::Body(body) } else { Parse::Skip(padding) };
        if self.count(body.stream, taken, end).is_err() {
            let left = body.left.saturating_add(padding);
            self.parse = Parse::Skip(left);
            if self.role == Role::Client {
                self.owe(body.left.saturating_add(u32::try_from(taken).unwrap_or(0)));
            }
            return Ok((taken, self.break_body(body.stream, now)?));
        }
        let Some(stream) = self.streams.find_mut(body.stream) else {
            // We reset it while its frame was still arriving.
            if self.role == Role::Client {
                self.owe(u32::try_from(taken).unwrap_or(0));
            }
            return Ok((taken, None));
        };
        stream.peer_ended = end;
        let tag = stream.tag;
        if end {
            self.give_up_window(body.stream);
        }
        self.close_if_done(body.stream);
        if taken == 0 && !end {
            return Ok((0, None));
        }
        Ok((taken, Some(Event::Data { tag, octets: 0..taken, end })))
    }

    /// Holds a body against its `content-length`.
    fn count(&mut self, id: StreamId, taken: usize, end: bool) -> Result<(), Malformed> {
        let Some(stream) = self.streams.find_mut(id) else { return Ok(()) };
        let Some(promised) = stream.promised else { return Ok(()) };
        let left = promised.checked_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        stream.promised = left;
        match left {
            Some(0) => Ok(()),
            Some(_) if !end => Ok(()),
            // An answer that ends here has no trailers, and may have been cut short.
            Some(_) if self.role == Role::Client => Ok(()),
            Some(_) | None => Err(Malformed::of(Rule::BodyLength)),
        }
    }

    /// A body does not keep what its `content-length` promised.
    fn break_body(&mut self, id: StreamId, now: Instant) -> Result<Option<Event>, Fault> {
        let fault = Malformed::of(Rule::BodyLength);
        match self.role {
            Role::Server => self.break_stream(id, fault.into(), now).map(Some),
            Role::Client => Ok(self.reject_answer(id, fault, false)),
        }
    }

    /// Padding is credit that nobody else will give back.
    fn repay(&mut self, id: StreamId, octets: u32) {
        if self.role == Role::Client {
            self.owe(octets);
        }
        let Some(stream) = self.streams.find_mut(id) else { return };
        stream.receive = stream.receive.saturating_add(i64::from(octets));
        self.window_update(id, octets);
    }

    /// Connection credit goes back to the peer, in pieces worth a frame.
    pub(in crate::wire) fn owe(&mut self, octets: u32) {
        self.owed = self.owed.saturating_add(octets);
        let part = if self.role == Role::Server { CLIENT_PART } else { 2 };
        let others = i64::from(self.owed).saturating_mul(part.saturating_sub(1));
        if self.owed >= OWED_MIN && others >= self.receive_credit {
            let owed = std::mem::take(&mut self.owed);
            self.receive_credit = self.receive_credit.saturating_add(i64::from(owed));
            self.window_update(StreamId::CONNECTION, owed);
        }
    }

    pub(in crate::wire) fn window_update(&mut self, stream: StreamId, octets: u32) {
        if octets > 0 {
            write_window_update(&mut self.out, stream, octets);
        }
    }
}

/// Writes WINDOW_UPDATE, of at least one octet (RFC 9113, 6.9).
pub(in crate::wire) fn write_window_update(out: &mut Outbox, stream: StreamId, octets: u32) {
    let head = Head { length: 4, kind: Kind::WindowUpdate, flags: Flags::NONE, stream };
    let payload: &[u8] = &octets.to_be_bytes();
    out.frame(head.octets(), [payload, &[]]);
}
