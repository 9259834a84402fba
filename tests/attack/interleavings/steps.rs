//! What the peers do: each step within the windows that sconce has granted.

use std::time::{Duration, Instant};

use super::call::Call;
use super::model::Model;
use super::{PATIENCE, SETTINGS_MAX, request};
use crate::support::frame;
use crate::support::proof::ANN;
use crate::support::protobuf::{context, field, framed};

impl Model {
    pub(super) fn step(&mut self) {
        self.meet_streams();
        let choice = self.random.below(100);
        let (at, is_client) = (self.pick(), choice.is_multiple_of(2));
        match (choice, at) {
            (0..8, _) => self.open(),
            (8..12, _) => self.change(is_client),
            (12..22, _) => self.grant_connection(is_client),
            (22..38, Some(at)) => self.grant_stream(at, is_client),
            (38..62, Some(at)) if self.is_stamped => self.upload_message(at),
            (38..62, Some(at)) => self.upload(at),
            (62..64, Some(at)) => self.end_request(at),
            (64, Some(at)) => self.cancel(at),
            (65..70, Some(at)) => self.answer(at),
            (70..96, Some(at)) => self.download(at),
            (96..99, Some(at)) => self.end_response(at),
            (99, Some(at)) => self.drop_at_driver(at),
            _ => {}
        }
    }

    pub(super) fn open(&mut self) {
        let live = self.calls.iter().filter(|call| !self.is_over(call)).count();
        if live >= self.calls_max || self.last.is_some() {
            return;
        }
        let number = self.calls.len();
        let request = request(&self.client, self.is_stamped).with("x-call", number.to_string());
        let id = self.client.start(&request, false);
        self.calls.push(Call::of(number, id));
        self.log(format!("client: opens stream {id} for call {number}"));
    }

    pub(super) fn change(&mut self, is_client: bool) {
        let side = usize::from(is_client);
        if self.settings[side] >= SETTINGS_MAX {
            return;
        }
        self.settings[side] += 1;
        if !is_client && self.random.one_in(3) {
            let calls = [1, 2, 4, 100][self.random.below(4)];
            return self.limit(calls);
        }
        let initial = self.random.initial_window();
        match is_client {
            true => self.client.change(&[(frame::INITIAL_WINDOW_SIZE, initial)]),
            false => self.driver.change(initial),
        }
        self.log(format!("{}: INITIAL_WINDOW_SIZE {initial}", side_name(is_client)));
    }

    /// The driver takes so many calls at one time; others wait.
    pub(super) fn limit(&mut self, calls: u32) {
        self.limit = usize::try_from(calls).unwrap();
        self.driver.limit(calls);
        self.log(format!("driver: MAX_CONCURRENT_STREAMS {calls}"));
    }

    pub(super) fn grant_connection(&mut self, is_client: bool) {
        let open = if is_client { self.client.connection_open() } else { self.driver.allowed };
        let most = usize::try_from(self.window_max - open).unwrap_or(0);
        if most > 0 {
            let octets = u32::try_from(self.random.octets(most)).unwrap();
            match is_client {
                true => self.client.grant(0, octets),
                false => self.driver.grant(0, octets),
            }
            self.log(format!("{}: connection window +{octets}", side_name(is_client)));
        }
    }

    pub(super) fn grant_stream(&mut self, at: usize, is_client: bool) {
        let (id, stream) = (self.calls[at].id, self.live_stream(at));
        let number = self.calls[at].number;
        let open = match (is_client, stream) {
            (true, _) => self.client.stream_open(id),
            (false, Some(stream)) => self.driver.own_initial + self.driver.streams[&stream].allowed,
            (false, None) => return,
        };
        let most = usize::try_from(self.window_max - open).unwrap_or(0);
        if most > 0 {
            let octets = u32::try_from(self.random.octets(most)).unwrap();
            match stream.filter(|_| !is_client) {
                Some(stream) => self.driver.grant(stream, octets),
                None => self.client.grant(id, octets),
            }
            self.log(format!("{}: window of call {number} +{octets}", side_name(is_client)));
        }
    }

    pub(super) fn upload(&mut self, at: usize) {
        let id = self.calls[at].id;
        let window = usize::try_from(self.client.window_of(id)).unwrap_or(0).min(16_384);
        if self.calls[at].is_whole || window == 0 {
            return;
        }
        let octets = self.random.octets(window);
        let pad = u8::try_from(self.random.below(256)).unwrap();
        let is_padded = self.random.one_in(8) && octets + usize::from(pad) < window;
        let call = &mut self.calls[at];
        let body: Vec<u8> = (call.up..call.up + octets).map(|at| call.request_octet(at)).collect();
        call.up += octets;
        let number = call.number;
        self.client.spend(id, octets + if is_padded { usize::from(pad) + 1 } else { 0 });
        let octets_sent = match is_padded {
            true => frame::padded_data(id, false, &body, pad),
            false => frame::data(id, false, &body),
        };
        let front = self.random.front(octets_sent.len());
        self.client.send_front(&octets_sent, front);
        self.log(format!("client: call {number} DATA {octets}, padded {is_padded}"));
    }

    /// A whole message in some frames: what is held back of a part of it is not told here.
    pub(super) fn upload_message(&mut self, at: usize) {
        let id = self.calls[at].id;
        let window = usize::try_from(self.client.window_of(id)).unwrap_or(0).min(60_000);
        if self.calls[at].is_whole || window < 100 {
            return;
        }
        let plan: Vec<u8> = (0..self.random.octets(window - 20))
            .map(|place| self.calls[at].request_octet(place))
            .collect();
        let message = field(3, plan);
        let body = framed(&message);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let octets = self.random.octets(rest.len().min(16_384));
            let data = frame::data(id, false, &rest[..octets]);
            let front = self.random.front(data.len());
            self.client.send_front(&data, front);
            rest = &rest[octets..];
        }
        self.client.spend(id, body.len());
        let call = &mut self.calls[at];
        call.up += body.len() + context(ANN.user, ANN.display).len();
        call.messages.push_back(message);
        let number = call.number;
        self.log(format!("client: call {number} message of {}", body.len()));
    }

    pub(super) fn end_request(&mut self, at: usize) {
        let call = &mut self.calls[at];
        if !std::mem::replace(&mut call.is_whole, true) {
            let (number, end) = (call.number, frame::data(call.id, true, &[]));
            self.client.send(&end);
            self.log(format!("client: call {number} ends its request"));
        }
    }

    pub(super) fn cancel(&mut self, at: usize) {
        let call = &mut self.calls[at];
        call.is_cancelled = true;
        let (number, reset) = (call.number, frame::rst(call.id, frame::CANCEL));
        self.client.send(&reset);
        self.log(format!("client: call {number} RST_STREAM"));
    }

    pub(super) fn answer(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        let call = &mut self.calls[at];
        if !std::mem::replace(&mut call.is_answered, true) {
            let number = call.number;
            self.driver.answer(stream);
            self.log(format!("driver: call {number} HEADERS"));
        }
    }

    pub(super) fn download(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        let window = self.driver.room(stream).min(16_384);
        if window == 0 {
            return;
        }
        self.answer(at);
        let octets = self.random.octets(window);
        let pad = u8::try_from(self.random.below(256)).unwrap();
        let is_padded = self.random.one_in(8) && octets + usize::from(pad) < window;
        self.respond(at, stream, octets, is_padded.then_some(pad));
    }

    pub(super) fn respond(&mut self, at: usize, stream: u32, octets: usize, pad: Option<u8>) {
        let call = &mut self.calls[at];
        let from = call.down;
        let body: Vec<u8> = (from..from + octets).map(|at| call.response_octet(at)).collect();
        call.down += octets;
        let number = call.number;
        self.driver.spend(stream, octets + pad.map_or(0, |pad| usize::from(pad) + 1));
        let octets_sent = match pad {
            Some(pad) => frame::padded_data(stream, false, &body, pad),
            None => frame::data(stream, false, &body),
        };
        let front = self.random.front(octets_sent.len());
        self.driver.send_front(&octets_sent, front);
        self.log(format!("driver: call {number} DATA {octets}, padding {pad:?}"));
    }

    /// Trailers: OK if the last message can be made whole.
    pub(super) fn end_response(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        self.answer(at);
        let rest = self.calls[at].to_boundary();
        let is_whole = rest <= self.driver.room(stream);
        if is_whole && rest > 0 {
            self.respond(at, stream, rest, None);
        }
        let status = if is_whole { 0 } else { 5 };
        let call = &mut self.calls[at];
        call.status = Some(status);
        let number = call.number;
        self.driver.finish(stream, status);
        // RFC 9113, 8.1: a driver that has answered may say that it wants no more of the request.
        let is_whole = self.driver.streams[&stream].ended;
        let resets = !is_whole && self.random.one_in(2);
        if resets {
            self.driver.send(&frame::rst(stream, frame::NO_ERROR));
        }
        self.log(format!("driver: call {number} trailers {status}, then a reset {resets}"));
    }

    pub(super) fn drop_at_driver(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        let code = [frame::INTERNAL_ERROR, frame::CANCEL, frame::NO_ERROR][self.random.below(3)];
        let call = &mut self.calls[at];
        call.is_dropped = true;
        let number = call.number;
        self.driver.send(&frame::rst(stream, code));
        self.log(format!("driver: call {number} RST_STREAM {code}"));
    }

    /// GOAWAY: with the last stream there is, or with one before it.
    pub(super) fn leave(&mut self) {
        self.limit(1000);
        self.settle();
        let streams: Vec<u32> = self.driver.streams.keys().copied().collect();
        let back = if self.random.one_in(2) { 0 } else { self.random.below(6) };
        let last = streams[streams.len().saturating_sub(1 + back)];
        self.last = Some(last);
        for call in &mut self.calls {
            call.is_dropped |= call.stream > self.last;
        }
        self.driver.send(&frame::goaway(last, frame::NO_ERROR));
        self.log(format!("driver: GOAWAY {last}"));
    }

    /// The next call makes sconce open another connection, on which the driver goes on.
    fn reconnect(&mut self) {
        for call in &mut self.calls {
            call.stream = None;
        }
        self.last = None;
        self.limit = usize::MAX;
        self.has_reconnected = true;
        // By then sconce has seen the end of the old connection.
        self.client.pump(|_| false, Duration::from_millis(50));
        self.calls_max = self.calls.len() + 1;
        self.open();
        self.driver.accept_again();
        self.log("driver: has another connection".to_string());
    }

    /// The driver closes its connection by FIN or by RST, with responses on their way.
    pub(super) fn close(&mut self) {
        self.limit(1000);
        self.settle();
        for _ in 0..20 {
            match (self.random.below(6), self.pick()) {
                (0, Some(at)) => self.answer(at),
                (1, Some(at)) => self.end_response(at),
                (_, Some(at)) => self.download(at),
                (_, None) => {}
            }
        }
        // All of it has been read by sconce then: RST takes along what has not.
        let pongs = self.driver.pongs;
        self.driver.send(&frame::ping(*b"upstream"));
        let deadline = Instant::now() + PATIENCE;
        while self.driver.pongs == pongs && Instant::now() < deadline {
            self.client.poll();
            self.driver.poll();
        }
        self.meet_streams();
        self.last = Some(u32::MAX);
        for call in &mut self.calls {
            call.is_dropped |= call.status.is_none();
        }
        let aborts = self.random.one_in(2);
        if aborts {
            self.driver.abort()
        } else {
            self.driver.close()
        }
        self.log(format!("driver: closes its connection, by RST {aborts}"));
        if self.random.one_in(2) {
            self.reconnect();
        }
    }
}

fn side_name(is_client: bool) -> &'static str {
    if is_client { "client" } else { "driver" }
}
