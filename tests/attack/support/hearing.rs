//! How the scripted client takes what it receives, and keeps the books of both sides' windows.

use super::client::{Client, setting};
use super::fields::{self, List};
use super::frame::{self, Frame};

impl Client {
    fn fault(&mut self, what: impl Into<String>) {
        if self.faults.len() < 10 {
            self.faults.push(what.into());
        }
    }

    pub(super) fn take(&mut self, frame: &Frame) {
        if frame.payload.len() > 16_384 {
            let limit = self.unacked.iter().chain([&self.manners.settings]);
            if !limit.flatten().any(|(key, _)| *key == frame::MAX_FRAME_SIZE) {
                self.fault(format!("a frame of {} octets", frame.payload.len()));
            }
        }
        if self.settings_seen == 0 && frame.kind != frame::SETTINGS {
            self.fault(format!("the first frame was of type {}", frame.kind));
        }
        if self.block.is_some() && frame.kind != frame::CONTINUATION {
            self.fault("a header block was interrupted");
        }
        match frame.kind {
            frame::DATA => self.take_data(frame),
            frame::HEADERS | frame::CONTINUATION => self.take_headers(frame),
            frame::RST_STREAM => {
                let reply = self.streams.entry(frame.stream).or_default();
                // RFC 9113, 8.1: after a whole answer NO_ERROR only stops the rest of the request.
                if !(reply.ended && frame.word(0) == frame::NO_ERROR) {
                    reply.reset.get_or_insert(frame.word(0));
                }
            }
            frame::SETTINGS => self.take_settings(frame),
            frame::PING if frame.has(frame::ACK) => {
                self.pongs.push(frame.payload[..8].try_into().unwrap());
            }
            frame::PING => {
                self.pings += 1;
                if self.manners.ack_pings {
                    self.send(&frame::frame(frame::PING, frame::ACK, 0, &frame.payload));
                }
            }
            frame::GOAWAY => {
                self.goaways += 1;
                self.goaway = Some((frame.word(0), frame.word(4)));
            }
            frame::WINDOW_UPDATE => {
                let increment = i64::from(frame.word(0));
                match frame.stream {
                    0 => self.budget += increment,
                    id => *self.budgets.entry(id).or_default() += increment,
                }
            }
            other => self.fault(format!("a frame of type {other}")),
        }
    }

    fn take_settings(&mut self, frame: &Frame) {
        if frame.has(frame::ACK) {
            self.acks += 1;
            if self.unacked.is_empty() {
                return;
            }
            let applied = self.unacked.remove(0);
            if let Some(window) = setting(&applied, frame::INITIAL_WINDOW_SIZE) {
                self.stream_allowance = i64::from(window);
            }
            return;
        }
        self.settings_seen += 1;
        for entry in frame.payload.chunks_exact(6) {
            let key = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes(entry[2..6].try_into().unwrap());
            self.peer.insert(key, value);
        }
        if self.manners.ack_settings {
            self.send(&frame::settings_ack());
        }
    }

    fn take_data(&mut self, frame: &Frame) {
        let flow = i64::try_from(frame.payload.len()).unwrap();
        self.allowance -= flow;
        let initial = self.stream_allowance;
        let reply = self.streams.entry(frame.stream).or_default();
        let early = reply.heads.is_empty();
        let late = reply.ended;
        reply.body.extend_from_slice(frame.content());
        reply.frames += 1;
        reply.allowance -= flow;
        reply.ended |= frame.has(frame::END_STREAM);
        let overdrawn = initial + reply.allowance < 0 && flow > 0;
        let credit = self.manners.credit && flow > 0;
        if credit {
            reply.allowance += flow;
            self.allowance += flow;
        }
        if early || late {
            self.fault(format!("DATA on stream {} {}", frame.stream, reason(early)));
        }
        if self.allowance < 0 || overdrawn {
            self.fault("DATA beyond our window");
        }
        if credit {
            let size = u32::try_from(flow).unwrap();
            let mut out = frame::window_update(0, size);
            if !frame.has(frame::END_STREAM) {
                out.extend(frame::window_update(frame.stream, size));
            }
            self.send(&out);
        }
    }

    fn take_headers(&mut self, frame: &Frame) {
        let (stream, flags, mut block) =
            self.block.take().unwrap_or((frame.stream, frame.flags, Vec::new()));
        block.extend_from_slice(frame.content());
        if !frame.has(frame::END_HEADERS) {
            self.block = Some((stream, flags, block));
            return;
        }
        let list: List = match self.decoder.decode(&block) {
            Ok(list) => fields::text(list),
            Err(error) => {
                self.fault(format!("an undecodable header block: {error:?}"));
                return;
            }
        };
        let reply = self.streams.entry(stream).or_default();
        let late = reply.ended;
        reply.ended |= flags & frame::END_STREAM != 0;
        let lacks_status = reply.is_opening() && fields::find(&list, ":status").is_none();
        reply.heads.push(list);
        if late || lacks_status {
            self.fault(format!(
                "HEADERS on stream {stream}: late {late}, status {}",
                !lacks_status
            ));
        }
    }
}

fn reason(early: bool) -> &'static str {
    if early { "before its HEADERS" } else { "after its end" }
}
