//! A driver that the case itself plays, frame by frame, from its own thread.
//!
//! It takes the place of the scripted driver of team `ads`. It keeps account of the windows of both
//! directions as strictly as the client does: what sconce does against RFC 9113 is in `faults`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::client::{Client, SOON};
use super::fields::{self, List, Request};
use super::frame::{self, Frame};
use super::script;
use super::world::World;

/// What the upstream announces on each connection.
#[derive(Clone, Default)]
pub struct Offer {
    /// INITIAL_WINDOW_SIZE; HTTP/2's own if absent.
    pub initial: Option<u32>,
    /// Octets of connection window beyond HTTP/2's own.
    pub connection_bump: u32,
    /// Returns the credit of every DATA frame at once.
    pub credit: bool,
}

/// One stream as the upstream sees it.
#[derive(Default)]
pub struct Inbound {
    pub headers: List,
    pub trailers: List,
    pub body: Vec<u8>,
    pub ended: bool,
    pub reset: Option<u32>,
    /// What sconce granted for our DATA less what was sent, beyond its initial window.
    pub window: i64,
    /// What we granted less what has come, beyond our initial window.
    pub allowed: i64,
}

pub struct Upstream {
    connections: Receiver<TcpStream>,
    socket: Option<TcpStream>,
    offer: Offer,
    held: Vec<u8>,
    parser: frame::Parser,
    decoder: fluke_hpack::Decoder<'static>,
    is_greeted: bool,
    block: Option<(u32, u8, Vec<u8>)>,
    pub streams: BTreeMap<u32, Inbound>,
    /// The last stream that the case knows of.
    taken: u32,
    /// What sconce lets us send: on the connection, and on a new stream.
    pub window: i64,
    pub initial: i64,
    /// What we let sconce send: on the connection, and on a new stream by acknowledged settings.
    pub allowed: i64,
    pub own_initial: i64,
    unacked: VecDeque<Option<u32>>,
    pub pongs: usize,
    pub goaway: Option<u32>,
    pub is_closed: bool,
    pub faults: Vec<String>,
}

impl Upstream {
    /// Takes the place of the driver of team `ads`; the world must be the case's own.
    pub fn replace(world: &World, offer: Offer) -> Self {
        Self {
            connections: world.driver.lock().unwrap().succeed(),
            socket: None,
            offer,
            held: Vec::new(),
            parser: frame::Parser::default(),
            decoder: fluke_hpack::Decoder::new(),
            is_greeted: false,
            block: None,
            streams: BTreeMap::new(),
            taken: 0,
            window: 65_535,
            initial: 65_535,
            allowed: 65_535,
            own_initial: 65_535,
            unacked: VecDeque::new(),
            pongs: 0,
            goaway: None,
            is_closed: false,
            faults: Vec::new(),
        }
    }

    /// Waits for sconce's next connection and sends our SETTINGS.
    pub fn accept(&mut self) {
        assert!(self.accept_within(SOON), "sconce did not connect");
    }

    /// The same, if there is one within this time.
    pub fn accept_within(&mut self, patience: Duration) -> bool {
        let Ok(socket) = self.connections.recv_timeout(patience) else { return false };
        socket.set_nodelay(true).unwrap();
        // What the windows allow is written without waiting for sconce to read it.
        socket2::SockRef::from(&socket).set_send_buffer_size(1 << 20).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        self.socket = Some(socket);
        let initial = self.offer.initial;
        let values: Vec<(u16, u32)> =
            initial.iter().map(|octets| (frame::INITIAL_WINDOW_SIZE, *octets)).collect();
        let mut hello = frame::settings(&values);
        self.unacked.push_back(initial);
        if self.offer.connection_bump > 0 {
            hello.extend(frame::window_update(0, self.offer.connection_bump));
            self.allowed += i64::from(self.offer.connection_bump);
        }
        self.send(&hello);
        true
    }

    /// Leaves this connection, and waits for sconce's next one.
    pub fn accept_again(&mut self) {
        self.leave();
        self.accept();
    }

    /// Leaves this connection. The next stream that is awaited comes on another one.
    pub fn leave(&mut self) {
        self.socket = None;
        self.held.clear();
        self.parser = frame::Parser::default();
        self.decoder = fluke_hpack::Decoder::new();
        self.is_greeted = false;
        self.block = None;
        self.streams.clear();
        self.taken = 0;
        [self.window, self.initial, self.allowed, self.own_initial] = [65_535; 4];
        self.unacked.clear();
        self.goaway = None;
        self.is_closed = false;
    }

    /// Waits for the next stream that sconce opens, connection included, and says which it is.
    pub fn await_stream(&mut self) -> u32 {
        if self.socket.is_none() {
            self.accept();
        }
        let taken = self.taken;
        let next = |u: &Self| u.streams.keys().copied().find(|id| *id > taken);
        assert!(self.pump(|u| next(u).is_some(), SOON), "no stream came to the driver");
        self.taken = next(self).unwrap();
        self.taken
    }

    /// Takes one plain call and answers it: from then on sconce knows our settings.
    pub fn meet(&mut self, client: &mut Client) {
        let request = client.request();
        self.meet_with(client, &request);
    }

    /// The same with a call that is as the world wants it.
    pub fn meet_with(&mut self, client: &mut Client, request: &Request) {
        let id = client.start(request, true);
        let stream = self.await_stream();
        assert!(self.pump(Self::is_settled, SOON), "our SETTINGS were not acknowledged");
        self.answer(stream);
        self.finish(stream, 0);
        assert_eq!(client.finish(id).status(), Some(0), "the first call failed");
    }

    pub fn send(&mut self, octets: &[u8]) {
        let octets = [&std::mem::take(&mut self.held), octets].concat();
        let written = self.socket.as_mut().map(|socket| socket.write_all(&octets));
        self.is_closed |= !matches!(written, Some(Ok(())));
    }

    /// Sends the front of these octets; the rest goes out before whatever is sent next.
    pub fn send_front(&mut self, octets: &[u8], front: usize) {
        self.send(&octets[..front]);
        self.held = octets[front..].to_vec();
    }

    /// HEADERS of an answer.
    pub fn answer(&mut self, id: u32) {
        self.send(&frame::headers(id, false, &script::answer_block()));
    }

    /// Trailers with a gRPC status.
    pub fn finish(&mut self, id: u32, status: u32) {
        let status = fields::literal(b"grpc-status", status.to_string().as_bytes());
        self.send(&frame::headers(id, true, &status));
    }

    /// DATA in frames of at most 16 KiB as far as the windows are open; says how much was sent.
    pub fn speak(&mut self, id: u32, mut octets: &[u8]) -> usize {
        let mut sent = 0;
        while !octets.is_empty() && self.room(id) > 0 {
            let now = octets.len().min(self.room(id)).min(16_384);
            self.spend(id, now);
            self.send(&frame::data(id, false, &octets[..now]));
            octets = &octets[now..];
            sent += now;
        }
        sent
    }

    /// Octets that sconce lets us send on a stream now.
    pub fn room(&self, id: u32) -> usize {
        let window = self.streams.get(&id).map_or(0, |stream| stream.window);
        usize::try_from(self.window.min(self.initial + window)).unwrap_or(0)
    }

    /// Notes octets of DATA that are sent by hand.
    pub fn spend(&mut self, id: u32, octets: usize) {
        let spent = i64::try_from(octets).unwrap();
        self.window -= spent;
        self.streams.entry(id).or_default().window -= spent;
    }

    /// WINDOW_UPDATE.
    pub fn grant(&mut self, id: u32, octets: u32) {
        match id {
            0 => self.allowed += i64::from(octets),
            id => self.streams.entry(id).or_default().allowed += i64::from(octets),
        }
        self.send(&frame::window_update(id, octets));
    }

    /// SETTINGS with another INITIAL_WINDOW_SIZE.
    pub fn change(&mut self, initial: u32) {
        self.unacked.push_back(Some(initial));
        self.send(&frame::settings(&[(frame::INITIAL_WINDOW_SIZE, initial)]));
    }

    /// SETTINGS with another MAX_CONCURRENT_STREAMS.
    pub fn limit(&mut self, streams: u32) {
        self.unacked.push_back(None);
        self.send(&frame::settings(&[(frame::MAX_CONCURRENT_STREAMS, streams)]));
    }

    /// Whether every SETTINGS frame of ours was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Octets that sconce may send on a stream now.
    pub fn open(&self, id: u32) -> i64 {
        let allowed = self.streams.get(&id).map_or(0, |stream| stream.allowed);
        self.allowed.min(self.own_initial + allowed)
    }

    /// Octets that sconce lets us send on a stream, whatever the connection's window is.
    pub fn stream_window(&self, id: u32) -> i64 {
        self.initial + self.streams.get(&id).map_or(0, |stream| stream.window)
    }

    pub fn received(&self, id: u32) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.body.len())
    }

    /// Sends a PING and waits for its answer: sconce has read what was sent before it.
    pub fn round_trip(&mut self) -> bool {
        let pongs = self.pongs;
        self.send(&frame::ping(*b"upstream"));
        self.pump(|u| u.pongs > pongs || u.is_closed, SOON) && self.pongs > pongs
    }

    /// Closes the connection: by FIN if everything that came was read.
    pub fn close(&mut self) {
        self.socket = None;
        self.is_closed = true;
    }

    /// Closes the connection by RST.
    pub fn abort(&mut self) {
        if let Some(socket) = &self.socket {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        self.close();
    }

    /// Reads until the condition holds or time is up; says whether it holds.
    pub fn pump(&mut self, until: impl Fn(&Self) -> bool, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            self.take_frames();
            if until(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_closed || left.is_zero() {
                return false;
            }
            self.read(left);
        }
    }

    /// Reads what is there now, without waiting.
    pub fn poll(&mut self) {
        self.pump(|_| false, Duration::from_micros(200));
    }

    /// Reads at most so many octets, if there are any within the time; says how many.
    pub fn sip(&mut self, most: usize, patience: Duration) -> usize {
        let Some(socket) = &mut self.socket else { return 0 };
        let mut buffer = vec![0; most];
        socket.set_read_timeout(Some(patience)).unwrap();
        let count = socket.read(&mut buffer).unwrap_or(0);
        self.parser.push(&buffer[..count]);
        self.take_frames();
        count
    }

    fn read(&mut self, wait: Duration) {
        let Some(socket) = &mut self.socket else { return };
        let mut buffer = [0; 65_536];
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(100)))).unwrap();
        match socket.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.parser.push(&buffer[..count]),
            Err(error) => {
                let waiting = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                self.is_closed |= !waiting.contains(&error.kind());
            }
        }
    }

    fn take_frames(&mut self) {
        if !self.is_greeted && self.parser.rest().len() >= frame::PREFACE.len() {
            assert!(self.parser.rest().starts_with(frame::PREFACE), "no preface");
            self.parser.skip(frame::PREFACE.len());
            self.is_greeted = true;
        }
        while self.is_greeted
            && let Some(frame) = self.parser.next()
        {
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &Frame) {
        match frame.kind {
            frame::DATA => self.take_data(frame),
            frame::HEADERS | frame::CONTINUATION => self.take_headers(frame),
            frame::RST_STREAM => {
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.reset.get_or_insert(frame.word(0));
                }
            }
            frame::SETTINGS if frame.has(frame::ACK) => match self.unacked.pop_front() {
                Some(Some(initial)) => self.own_initial = i64::from(initial),
                Some(None) => {}
                None => self.fault("an acknowledgement of nothing"),
            },
            frame::SETTINGS => {
                for entry in frame.payload.chunks_exact(6) {
                    if u16::from_be_bytes([entry[0], entry[1]]) == frame::INITIAL_WINDOW_SIZE {
                        let value = u32::from_be_bytes(entry[2..6].try_into().unwrap());
                        self.initial = i64::from(value);
                    }
                }
                self.send(&frame::settings_ack());
            }
            frame::PING if frame.has(frame::ACK) => self.pongs += 1,
            frame::PING => {
                self.send(&frame::frame(frame::PING, frame::ACK, 0, &frame.payload));
            }
            frame::GOAWAY => self.goaway = Some(frame.word(4)),
            frame::WINDOW_UPDATE => {
                let increment = i64::from(frame.word(0));
                match frame.stream {
                    0 => self.window += increment,
                    id => {
                        if let Some(stream) = self.streams.get_mut(&id) {
                            stream.window += increment;
                        }
                    }
                }
            }
            other => self.fault(format!("a frame of type {other}")),
        }
    }

    fn take_headers(&mut self, frame: &Frame) {
        let (id, flags, mut block) =
            self.block.take().unwrap_or((frame.stream, frame.flags, Vec::new()));
        block.extend_from_slice(frame.content());
        if !frame.has(frame::END_HEADERS) {
            self.block = Some((id, flags, block));
            return;
        }
        let list = fields::text(self.decoder.decode(&block).unwrap());
        let is_new = !self.streams.contains_key(&id);
        let stream = self.streams.entry(id).or_default();
        stream.ended |= flags & frame::END_STREAM != 0;
        match is_new {
            true => stream.headers = list,
            false => stream.trailers = list,
        }
    }

    fn take_data(&mut self, frame: &Frame) {
        let flow = i64::try_from(frame.payload.len()).unwrap();
        self.allowed -= flow;
        let initial = self.own_initial;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.fault(format!("DATA on idle stream {}", frame.stream));
        };
        stream.allowed -= flow;
        let is_late = stream.ended;
        stream.ended |= frame.has(frame::END_STREAM);
        stream.body.extend_from_slice(frame.content());
        let is_beyond = flow > 0 && (self.allowed < 0 || initial + stream.allowed < 0);
        if is_late {
            self.fault(format!("DATA after the end of stream {}", frame.stream));
        }
        if is_beyond {
            self.fault(format!("DATA beyond the windows, on stream {}", frame.stream));
        }
        if self.offer.credit && flow > 0 {
            let octets = u32::try_from(flow).unwrap();
            self.grant(0, octets);
            if !frame.has(frame::END_STREAM) {
                self.grant(frame.stream, octets);
            }
        }
    }

    fn fault(&mut self, what: impl Into<String>) {
        if self.faults.len() < 10 {
            self.faults.push(what.into());
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.faults.is_empty(), "sconce broke the protocol: {:?}", self.faults);
        }
    }
}
