//! Random interleavings of everything that opens, closes or uses a flow-control window, on both
//! sides at once: DATA, WINDOW_UPDATE, SETTINGS, RST_STREAM, and GOAWAY of the driver.
//!
//! A seed makes the steps of one connection. The peers obey the windows that sconce grants; a model
//! of both sides is compared whenever they stand still. Four things must hold:
//!
//! 1. Nothing waits in sconce while the receiver's windows, of the stream and of the connection,
//!    are open: neither octets nor what ends them.
//! 2. Nothing comes twice, out of order or beyond a window: octets tell where they belong.
//! 3. No credit is lost and none is given twice: what sconce grants is what the receiver takes.
//!    Credit may be held back as long as less than half of a window is.
//! 4. After GOAWAY the streams up to the last one end as they would have.
//!
//! The steps of a seed are always the same, the timing of the sockets is not. `ATTACK_SEEDS=40..200`
//! runs these seeds too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Manners};
use crate::support::fields;
use crate::support::frame;
use crate::support::reply::Reply;
use crate::support::runner::Cases;
use crate::support::upstream::{Inbound, Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.room("interleavings");
    for seed in seeds() {
        let name = format!("no_octet_waits_and_no_credit_is_lost_with_seed_{seed}");
        cases.own(name, Spec::default(), move |world| run(world, seed));
    }
}

fn seeds() -> Vec<u64> {
    let more = std::env::var("ATTACK_SEEDS").unwrap_or_default();
    let range = more.split_once("..").map(|(from, to)| from.parse().unwrap()..to.parse().unwrap());
    (0..SEEDS).chain(range.unwrap_or(0..0).skip_while(|seed| *seed < SEEDS)).collect()
}

const SEEDS: u64 = 40;
const STEPS: usize = 400;
/// Calls that are under way at one time.
const CALLS_MAX: usize = 6;
/// Octets by which a peer opens a window at most.
const WINDOW_MAX: i64 = 300_000;
/// SETTINGS frames of each peer; more of them are a flood.
const SETTINGS_MAX: usize = 60;
/// What sconce may buffer of the responses of one driver beyond the client's connection window.
const BUFFERED_MAX: i64 = 65_536;
/// The window that a client's stream has at least, and the largest one that it can earn.
const STREAM_WINDOW: [i64; 2] = [65_535, 1 << 20];
/// How long something that is due may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(6);

/// A small generator of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut out = self.0;
        out = (out ^ (out >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        out = (out ^ (out >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out ^ (out >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Octets: few, some, or many, up to a bound.
    fn octets(&mut self, most: usize) -> usize {
        let bound = [16, 1000, 20_000, usize::MAX][self.below(4)].min(most);
        1 + self.below(bound)
    }

    /// How much of a frame goes out at first: all of it, as a rule.
    fn front(&mut self, octets: usize) -> usize {
        if self.one_in(4) { 1 + self.below(octets) } else { octets }
    }

    /// A socket's buffer that is small, at times.
    fn buffer(&mut self) -> Option<usize> {
        self.one_in(4).then_some(8192)
    }

    fn initial_window(&mut self) -> u32 {
        [0, 1, 500, 16_384, 65_535, 200_000][self.below(6)]
    }
}

/// One call, as its peers meant it.
struct Call {
    number: usize,
    /// The client's stream, and the driver's once it has come there.
    id: u32,
    stream: Option<u32>,
    /// Octets of the request and of the response that were sent, and how many of them were compared.
    up: usize,
    down: usize,
    compared: [usize; 2],
    /// The client has ended its request, or reset the stream.
    is_whole: bool,
    is_cancelled: bool,
    is_answered: bool,
    /// The driver has sent trailers with this status.
    status: Option<u32>,
    /// The driver has reset the stream, or named a lower one in GOAWAY.
    is_dropped: bool,
}

impl Call {
    fn of(number: usize, id: u32) -> Self {
        Self {
            number,
            id,
            stream: None,
            up: 0,
            down: 0,
            compared: [0; 2],
            is_whole: false,
            is_cancelled: false,
            is_answered: false,
            status: None,
            is_dropped: false,
        }
    }

    /// Octets of a message of the response, without its prefix.
    fn message(&self) -> usize {
        200 + self.number * 379 % 4000
    }

    /// Octets that the response lacks to the end of a message.
    fn to_boundary(&self) -> usize {
        let whole = 5 + self.message();
        (whole - self.down % whole) % whole
    }

    fn request_octet(&self, at: usize) -> u8 {
        u8::try_from((at * 31 + self.number * 17) % 251).unwrap()
    }

    fn response_octet(&self, at: usize) -> u8 {
        let length = u32::try_from(self.message()).unwrap().to_be_bytes();
        match at % (5 + self.message()) {
            0 => 0,
            place @ 1..5 => length[place - 1],
            _ => u8::try_from((at * 29 + self.number * 13 + 7) % 251).unwrap(),
        }
    }

    /// The driver says nothing more on the stream.
    fn is_over_at_driver(&self) -> bool {
        self.is_dropped || self.status.is_some()
    }
}

struct Model {
    seed: u64,
    random: Random,
    client: Client,
    driver: Upstream,
    calls: Vec<Call>,
    /// The last stream that the driver's GOAWAY has named.
    last: Option<u32>,
    settings: [usize; 2],
    /// What sconce granted for the client's connection at first.
    granted: i64,
    steps: VecDeque<String>,
}

fn run(world: &World, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x00d1_342d_543d_e82e).wrapping_add(seed));
    let [initial, other] = [random.initial_window(), random.initial_window()];
    let bump = u32::try_from(random.below(100_000)).unwrap();
    let receive_buffer = random.buffer();
    let offer =
        Offer { initial: Some(other), connection_bump: bump, receive_buffer, ..Offer::default() };
    let mut driver = Upstream::replace(world, offer);
    let mut client = world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, initial)],
        connection_bump: u32::try_from(random.below(100_000)).unwrap(),
        credit: false,
        receive_buffer: random.buffer(),
        ..Manners::default()
    });
    driver.meet(&mut client);
    assert!(client.round_trip());
    let granted = client.budget;
    let calls = Vec::new();
    let steps = VecDeque::new();
    let mut model =
        Model { seed, random, client, driver, calls, last: None, settings: [0; 2], granted, steps };
    // How often the peers read: the less, the more is on its way.
    let reads = [2, 4, 10][model.random.below(3)];
    let leaves = (!model.random.one_in(3)).then(|| STEPS / 2 + model.random.below(STEPS / 2));
    for step in 0..STEPS {
        model.step();
        if model.random.one_in(reads) {
            model.client.poll();
        }
        if model.random.one_in(reads) {
            model.driver.poll();
        }
        if step % 50 == 49 {
            model.settle();
        }
        if leaves == Some(step) {
            if model.random.one_in(2) { model.leave() } else { model.close() }
        }
    }
    model.finish();
}

impl Model {
    fn log(&mut self, what: String) {
        if self.steps.len() == 60 {
            self.steps.pop_front();
        }
        self.steps.push_back(what);
    }

    fn step(&mut self) {
        self.meet_streams();
        let choice = self.random.below(100);
        let (at, is_client) = (self.pick(), choice.is_multiple_of(2));
        match (choice, at) {
            (0..8, _) => self.open(),
            (8..12, _) => self.change(is_client),
            (12..22, _) => self.grant_connection(is_client),
            (22..38, Some(at)) => self.grant_stream(at, is_client),
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

    /// Some call that has not ended.
    fn pick(&mut self) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.calls.len()).filter(|at| !self.is_over(&self.calls[*at])).collect();
        (!live.is_empty()).then(|| live[self.random.below(live.len())])
    }

    /// The client sends nothing more, and takes nothing more that counts.
    fn is_over(&self, call: &Call) -> bool {
        call.is_cancelled || self.reply(call).is_some_and(Reply::is_over)
    }

    fn reply(&self, call: &Call) -> Option<&Reply> {
        self.client.streams.get(&call.id)
    }

    fn inbound(&self, call: &Call) -> Option<&Inbound> {
        self.driver.streams.get(&call.stream?)
    }

    /// The stream of a call at the driver, if the driver may send on it.
    fn live_stream(&self, at: usize) -> Option<u32> {
        let call = &self.calls[at];
        let inbound = self.inbound(call)?;
        (!call.is_over_at_driver() && inbound.reset.is_none()).then_some(call.stream?)
    }

    /// Which streams of the driver belong to which calls.
    fn meet_streams(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.stream.is_none()) {
            let number = call.number.to_string();
            let found = self.driver.streams.iter().find(|(_, inbound)| {
                fields::find(&inbound.headers, "x-call") == Some(number.as_str())
            });
            call.stream = found.map(|(stream, _)| *stream);
            call.is_dropped |= self.last.is_some() && call.stream > self.last;
        }
    }

    fn open(&mut self) {
        let live = self.calls.iter().filter(|call| !self.is_over(call)).count();
        if live >= CALLS_MAX || self.last.is_some() {
            return;
        }
        let number = self.calls.len();
        let request = self.client.request().with("x-call", number.to_string());
        let id = self.client.start(&request, false);
        self.calls.push(Call::of(number, id));
        self.log(format!("client: opens stream {id} for call {number}"));
    }

    fn change(&mut self, is_client: bool) {
        let side = usize::from(is_client);
        if self.settings[side] >= SETTINGS_MAX {
            return;
        }
        self.settings[side] += 1;
        let initial = self.random.initial_window();
        match is_client {
            true => self.client.change(&[(frame::INITIAL_WINDOW_SIZE, initial)]),
            false => self.driver.change(initial),
        }
        self.log(format!("{}: INITIAL_WINDOW_SIZE {initial}", side_name(is_client)));
    }

    fn grant_connection(&mut self, is_client: bool) {
        let open = if is_client { self.client.connection_open() } else { self.driver.allowed };
        let most = usize::try_from(WINDOW_MAX - open).unwrap_or(0);
        if most > 0 {
            let octets = u32::try_from(self.random.octets(most)).unwrap();
            match is_client {
                true => self.client.grant(0, octets),
                false => self.driver.grant(0, octets),
            }
            self.log(format!("{}: connection window +{octets}", side_name(is_client)));
        }
    }

    fn grant_stream(&mut self, at: usize, is_client: bool) {
        let (id, stream) = (self.calls[at].id, self.live_stream(at));
        let number = self.calls[at].number;
        let open = match (is_client, stream) {
            (true, _) => self.client.stream_open(id),
            (false, Some(stream)) => self.driver.own_initial + self.driver.streams[&stream].allowed,
            (false, None) => return,
        };
        let most = usize::try_from(WINDOW_MAX - open).unwrap_or(0);
        if most > 0 {
            let octets = u32::try_from(self.random.octets(most)).unwrap();
            match stream.filter(|_| !is_client) {
                Some(stream) => self.driver.grant(stream, octets),
                None => self.client.grant(id, octets),
            }
            self.log(format!("{}: window of call {number} +{octets}", side_name(is_client)));
        }
    }

    fn upload(&mut self, at: usize) {
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

    fn end_request(&mut self, at: usize) {
        let call = &mut self.calls[at];
        if !std::mem::replace(&mut call.is_whole, true) {
            let (number, end) = (call.number, frame::data(call.id, true, &[]));
            self.client.send(&end);
            self.log(format!("client: call {number} ends its request"));
        }
    }

    fn cancel(&mut self, at: usize) {
        let call = &mut self.calls[at];
        call.is_cancelled = true;
        let (number, reset) = (call.number, frame::rst(call.id, frame::CANCEL));
        self.client.send(&reset);
        self.log(format!("client: call {number} RST_STREAM"));
    }

    fn answer(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        let call = &mut self.calls[at];
        if !std::mem::replace(&mut call.is_answered, true) {
            let number = call.number;
            self.driver.answer(stream);
            self.log(format!("driver: call {number} HEADERS"));
        }
    }

    fn download(&mut self, at: usize) {
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

    fn respond(&mut self, at: usize, stream: u32, octets: usize, pad: Option<u8>) {
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
    fn end_response(&mut self, at: usize) {
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

    fn drop_at_driver(&mut self, at: usize) {
        let Some(stream) = self.live_stream(at) else { return };
        let code = [frame::INTERNAL_ERROR, frame::CANCEL, frame::NO_ERROR][self.random.below(3)];
        let call = &mut self.calls[at];
        call.is_dropped = true;
        let number = call.number;
        self.driver.send(&frame::rst(stream, code));
        self.log(format!("driver: call {number} RST_STREAM {code}"));
    }

    /// GOAWAY: with the last stream there is, or with one before it.
    fn leave(&mut self) {
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

    /// The driver closes its connection by FIN or by RST, with responses on their way.
    fn close(&mut self) {
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
    }

    /// Reads until nothing is due any more; something that stays due is a fault.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.log("all: stand still".to_string());
        self.client.send(&[]);
        self.driver.send(&[]);
        loop {
            self.client.pump(|_| false, Duration::from_millis(1));
            self.driver.pump(|_| false, Duration::from_millis(1));
            self.meet_streams();
            self.compare();
            let Some(due) = self.due() else { return };
            if Instant::now() >= deadline {
                self.fail(&due);
            }
        }
    }

    fn fail(&self, what: &str) -> ! {
        let steps: Vec<&str> = self.steps.iter().map(String::as_str).collect();
        panic!("seed {}: {what}; the last steps:\n{}", self.seed, steps.join("\n"));
    }

    /// What must never be, at no time.
    fn compare(&mut self) {
        let faults = [&self.client.faults[..], &self.driver.faults[..]].concat();
        if let Some(fault) = faults.first() {
            self.fail(&format!("against the protocol: {fault}"));
        }
        if self.client.closed || self.client.goaway.is_some() {
            self.fail(&format!("the client's connection was ended: {:?}", self.client.goaway));
        }
        // After GOAWAY it is closed with its last call.
        let is_used = |call: &Call| !self.is_over(call) && !call.is_over_at_driver();
        if self.driver.is_closed && (self.last.is_none() || self.calls.iter().any(is_used)) {
            self.fail(&format!("the driver's connection was ended: {:?}", self.driver.goaway));
        }
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let up: &[u8] = self.inbound(call).map_or(&[], |inbound| &inbound.body);
            let down: &[u8] = self.reply(call).map_or(&[], |reply| &reply.body);
            if up.len() > call.up || down.len() > call.down {
                self.fail(&format!("call {}: more octets came than were sent", call.number));
            }
            let is_same = |body: &[u8], from: usize, octet: &dyn Fn(usize) -> u8| {
                body.iter().enumerate().skip(from).all(|(at, it)| *it == octet(at))
            };
            if !is_same(up, call.compared[0], &|at| call.request_octet(at)) {
                self.fail(&format!("call {}: other octets of the request came", call.number));
            }
            if !is_same(down, call.compared[1], &|at| call.response_octet(at)) {
                self.fail(&format!("call {}: other octets of the response came", call.number));
            }
            let compared = [up.len(), down.len()];
            self.calls[at].compared = compared;
        }
    }

    /// Something that must come, and has not come yet.
    fn due(&self) -> Option<String> {
        let is_settled = self.driver.is_settled() || self.driver.is_closed;
        if !self.client.is_settled() || !is_settled {
            return Some("SETTINGS are not acknowledged".to_string());
        }
        let each = self.calls.iter().find_map(|call| {
            let what = self.due_request(call).or_else(|| self.due_response(call))?;
            let (up, down) = (call.compared[0], call.compared[1]);
            Some(format!(
                "call {} (stream {}, at the driver {:?}): {what}; request {up} of {}, response \
                 {down} of {}, windows of its receivers {:?} and {}, connections {} and {}",
                call.number,
                call.id,
                call.stream,
                call.up,
                call.down,
                call.stream.map(|id| self.driver.open(id)),
                self.client.stream_open(call.id),
                self.driver.allowed,
                self.client.connection_open(),
            ))
        });
        each.or_else(|| self.due_credit())
    }

    fn due_request(&self, call: &Call) -> Option<&'static str> {
        if call.is_over_at_driver() || self.driver.is_closed {
            return None;
        }
        let Some(inbound) = self.inbound(call) else {
            return (!call.is_cancelled).then_some("the call does not come to the driver");
        };
        if call.is_cancelled {
            return inbound.reset.is_none().then_some("the driver does not hear of the cancel");
        }
        if inbound.reset.is_some() {
            return Some("sconce has reset the driver's stream");
        }
        let stream = call.stream?;
        if inbound.body.len() < call.up {
            return (self.driver.open(stream) > 0).then_some("octets of the request wait");
        }
        if call.is_whole {
            return (!inbound.ended).then_some("the end of the request waits");
        }
        let window = self.client.peer.get(&4).copied().unwrap_or(65_535);
        let window = i64::from(window) + self.client.budgets_of(call.id);
        if window < STREAM_WINDOW[0] / 2 {
            return Some("the client's stream gets no credit back");
        }
        (window > STREAM_WINDOW[1]).then_some("the client's stream has got too much credit")
    }

    fn due_response(&self, call: &Call) -> Option<&'static str> {
        if call.is_cancelled {
            return None;
        }
        let none = Reply::default();
        let reply = self.reply(call).unwrap_or(&none);
        let open = self.client.stream_open(call.id).min(self.client.connection_open());
        if call.is_answered && reply.heads.is_empty() && !reply.is_over() {
            return Some("HEADERS wait");
        }
        if reply.body.len() < call.down {
            if reply.is_over() {
                return Some("the stream ended before its octets");
            }
            return (open > 0).then_some("octets of the response wait");
        }
        if self.driver.is_closed && !reply.is_over() {
            return Some("the end waits");
        }
        match (call.status, call.is_dropped) {
            (Some(status), _) if reply.status() == Some(status) => None,
            (Some(_), _) if reply.is_over() => Some("another status came"),
            (Some(_), _) => Some("trailers wait"),
            (None, true) if !reply.is_over() => Some("the error waits"),
            (None, true) if reply.status() == Some(0) => Some("success was invented"),
            (None, true) => None,
            (None, false) if reply.is_over() => Some("the stream has ended"),
            (None, false) => {
                let window = self.driver.stream_window(call.stream?);
                match window - self.client.stream_open(call.id) {
                    ..0 => Some("the driver's stream lacks credit"),
                    0 => None,
                    1.. => Some("the driver's stream has got too much credit"),
                }
            }
        }
    }

    /// The windows of the connections.
    fn due_credit(&self) -> Option<String> {
        let budget = self.client.budget;
        if budget < self.granted / 2 || budget > self.granted {
            return Some(format!("of {} octets the client has {budget}", self.granted));
        }
        if self.driver.is_closed {
            return None;
        }
        let counts = |call: &&Call| !call.is_cancelled;
        let kept = self.calls.iter().filter(counts).map(|call| call.down - call.compared[1]);
        let kept = i64::try_from(kept.sum::<usize>()).unwrap();
        let most = self.client.connection_open() + BUFFERED_MAX - kept;
        let least = most - (most / 2).max(16_384);
        let window = self.driver.window;
        let fits = (least..=most).contains(&window);
        (!fits).then(|| {
            format!("the driver has {window} octets, not {least} to {most}, with {kept} buffered")
        })
    }

    /// Everything opens, everything ends.
    fn finish(&mut self) {
        self.settle();
        self.client.change(&[(frame::INITIAL_WINDOW_SIZE, 1 << 20)]);
        self.driver.change(1 << 20);
        self.client.grant(0, 1 << 20);
        self.driver.grant(0, 1 << 20);
        self.settle();
        for at in 0..self.calls.len() {
            if !self.is_over(&self.calls[at]) {
                self.end_request(at);
            }
            self.settle();
            self.end_response(at);
        }
        self.settle();
        for call in &self.calls {
            if !self.is_over(call) {
                self.fail(&format!("call {} never ended", call.number));
            }
            let owed = call.down - call.compared[1];
            if !call.is_cancelled && owed > 0 {
                self.fail(&format!("call {}: {owed} octets are lost", call.number));
            }
        }
    }
}

fn side_name(is_client: bool) -> &'static str {
    if is_client { "client" } else { "driver" }
}
