//! The scripted client: a blocking HTTP/2 connection that obeys every rule it was not told to break.
//!
//! It watches the other side as strictly as it behaves itself: what sconce does against RFC 9113 is
//! noted in `faults`, and every case ends by looking there.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::fields::Request;
use super::frame;
use super::protobuf;
use super::reply::Reply;

/// Patience for anything that should happen at once, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(4);

/// How a connection begins and what it does by itself.
#[derive(Clone)]
pub struct Manners {
    pub settings: Vec<(u16, u32)>,
    pub connection_bump: u32,
    pub ack_settings: bool,
    pub ack_pings: bool,
    pub credit: bool,
    pub receive_buffer: Option<usize>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            settings: vec![(frame::ENABLE_PUSH, 0)],
            connection_bump: 0,
            ack_settings: true,
            ack_pings: true,
            credit: true,
            receive_buffer: None,
        }
    }
}

/// What became of a connection or a stream after a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// GOAWAY with this code, then the end of the connection.
    Goaway(u32),
    /// RST_STREAM with this code; the connection lives on.
    Reset(u32),
    /// Nothing at all: the frame is to be ignored or is allowed.
    Fine,
}

pub struct Client {
    socket: TcpStream,
    /// Octets that go out before whatever is sent next.
    held: Vec<u8>,
    pub(super) parser: frame::Parser,
    pub(super) decoder: fluke_hpack::Decoder<'static>,
    pub(super) manners: Manners,
    pub case: String,
    pub streams: HashMap<u32, Reply>,
    pub next_id: u32,
    pub goaway: Option<(u32, u32)>,
    pub goaways: usize,
    pub closed: bool,
    pub peer: HashMap<u16, u32>,
    pub settings_seen: usize,
    pub acks: usize,
    pub pongs: Vec<[u8; 8]>,
    pub pings: usize,
    pub faults: Vec<String>,
    pub received: u64,
    pub(super) block: Option<(u32, u8, Vec<u8>)>,
    /// What the peer may still send us, and we the peer.
    pub(super) allowance: i64,
    pub(super) stream_allowance: i64,
    pub(super) unacked: Vec<Vec<(u16, u32)>>,
    pub budget: i64,
    pub(super) budgets: HashMap<u32, i64>,
}

impl Client {
    /// A TCP connection that has not said anything yet.
    pub fn connect(at: SocketAddr, case: &str, manners: Manners) -> Self {
        let socket = match manners.receive_buffer {
            None => TcpStream::connect_timeout(&at, SOON).unwrap(),
            Some(size) => {
                let socket = socket2::Socket::new(
                    socket2::Domain::for_address(at),
                    socket2::Type::STREAM,
                    None,
                )
                .unwrap();
                socket.set_recv_buffer_size(size).unwrap();
                socket.connect_timeout(&at.into(), SOON).unwrap();
                socket.into()
            }
        };
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let window = setting(&manners.settings, frame::INITIAL_WINDOW_SIZE).unwrap_or(65_535);
        Self {
            socket,
            held: Vec::new(),
            parser: frame::Parser::default(),
            decoder: fluke_hpack::Decoder::new(),
            case: case.to_string(),
            streams: HashMap::new(),
            next_id: 1,
            goaway: None,
            goaways: 0,
            closed: false,
            peer: HashMap::new(),
            settings_seen: 0,
            acks: 0,
            pongs: Vec::new(),
            pings: 0,
            faults: Vec::new(),
            received: 0,
            block: None,
            allowance: 65_535 + i64::from(manners.connection_bump),
            stream_allowance: i64::from(window),
            unacked: vec![manners.settings.clone()],
            budget: 65_535,
            budgets: HashMap::new(),
            manners,
        }
    }

    /// A connection that has greeted and been greeted.
    pub fn open_with(at: SocketAddr, case: &str, manners: Manners) -> Self {
        let mut client = Self::connect(at, case, manners);
        client.greet();
        assert!(client.pump(|c| c.settings_seen > 0, SOON), "no SETTINGS came");
        client
    }

    /// Preface, SETTINGS, and the connection window if it is to grow.
    pub fn greet(&mut self) {
        let mut out = frame::PREFACE.to_vec();
        out.extend(frame::settings(&self.manners.settings));
        if self.manners.connection_bump > 0 {
            out.extend(frame::window_update(0, self.manners.connection_bump));
        }
        self.send(&out);
    }

    pub fn request(&self) -> Request {
        Request::new(&self.case)
    }

    /// Sends octets as they are; a connection that is gone shows by `closed`.
    pub fn send(&mut self, octets: &[u8]) {
        let held = std::mem::take(&mut self.held);
        let is_written = held.is_empty() || self.socket.write_all(&held).is_ok();
        if !is_written || self.socket.write_all(octets).is_err() {
            self.closed |= self.goaway.is_some();
            self.pump(|c| c.closed, Duration::from_millis(300));
        }
    }

    /// Sends the front of these octets; the rest goes out before whatever is sent next.
    pub fn send_front(&mut self, octets: &[u8], front: usize) {
        self.send(&octets[..front]);
        self.held = octets[front..].to_vec();
    }

    /// Changes settings in the middle of a connection.
    pub fn change(&mut self, values: &[(u16, u32)]) {
        self.unacked.push(values.to_vec());
        self.send(&frame::settings(values));
    }

    /// Gives credit and keeps the books.
    pub fn grant(&mut self, id: u32, increment: u32) {
        match id {
            0 => self.allowance += i64::from(increment),
            id => self.streams.entry(id).or_default().allowance += i64::from(increment),
        }
        self.send(&frame::window_update(id, increment));
    }

    pub fn take_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        id
    }

    /// Opens a stream with HEADERS; the id is the next one.
    pub fn start(&mut self, request: &Request, end: bool) -> u32 {
        let id = self.take_id();
        self.send(&frame::headers(id, end, &request.block()));
        id
    }

    /// A whole unary request in one write, with an empty plan.
    pub fn call(&mut self, request: &Request) -> u32 {
        let id = self.take_id();
        let mut out = frame::headers(id, false, &request.block());
        out.extend(frame::data(id, true, &protobuf::framed(&[0x1a, 0])));
        self.budget -= 7;
        self.send(&out);
        id
    }

    /// Sends `len` octets of body within the windows, reading meanwhile; false if they stay shut.
    pub fn upload(&mut self, id: u32, mut len: usize, end: bool) -> bool {
        while len > 0 {
            let initial = i64::from(self.peer.get(&4).copied().unwrap_or(65_535));
            let opened = |c: &Self| c.budget.min(initial + c.budgets.get(&id).unwrap_or(&0));
            let over = |c: &Self| c.closed || c.streams.get(&id).is_some_and(Reply::is_over);
            if !self.pump(|c| opened(c) > 0 || over(c), SOON) || over(self) {
                return false;
            }
            let chunk = usize::try_from(opened(self)).unwrap().min(len).min(16_384);
            len -= chunk;
            let spent = i64::try_from(chunk).unwrap();
            self.budget -= spent;
            *self.budgets.entry(id).or_default() -= spent;
            self.send(&frame::data(id, end && len == 0, &vec![b'u'; chunk]));
        }
        true
    }

    /// Sends so much body if the windows allow it now; false if they do not.
    pub fn upload_now(&mut self, id: u32, len: usize) -> bool {
        let initial = i64::from(self.peer.get(&4).copied().unwrap_or(65_535));
        let spent = i64::try_from(len).unwrap();
        if self.budget < spent || initial + self.budgets.get(&id).unwrap_or(&0) < spent {
            return false;
        }
        self.budget -= spent;
        *self.budgets.entry(id).or_default() -= spent;
        self.send(&frame::data(id, false, &vec![b'u'; len]));
        true
    }

    /// Octets that sconce lets us send on a stream now, whatever the connection's window is.
    pub fn window(&self, id: u32) -> i64 {
        let initial = i64::from(self.peer.get(&4).copied().unwrap_or(65_535));
        initial + self.budgets.get(&id).unwrap_or(&0)
    }

    /// Waits for the end of a stream.
    pub fn finish(&mut self, id: u32) -> Reply {
        self.finish_within(id, SOON)
    }

    pub fn finish_within(&mut self, id: u32, patience: Duration) -> Reply {
        let over = |c: &Self| c.streams.get(&id).is_some_and(Reply::is_over) || c.closed;
        self.pump(over, patience);
        self.streams.get(&id).cloned().unwrap_or_default()
    }

    /// A unary call that must end well, as the proof that a connection still works.
    pub fn must_work(&mut self) {
        let request = self.request();
        self.must_succeed(&request);
    }

    pub fn must_succeed(&mut self, request: &Request) -> Reply {
        let id = self.call(request);
        let reply = self.finish(id);
        assert_eq!(
            reply.status(),
            Some(0),
            "a plain call failed: {reply:?}, goaway {:?}, closed {}",
            self.goaway,
            self.closed
        );
        reply
    }

    /// Sends a PING and waits for its answer: what was sent before it has been read by then.
    pub fn round_trip(&mut self) -> bool {
        let mark = u64::try_from(self.pongs.len()).unwrap().wrapping_add(0x7075_6d70_0000_0000);
        let mark = mark.to_be_bytes();
        self.send(&frame::ping(mark));
        self.pump(|c| c.pongs.contains(&mark) || c.closed, SOON) && self.pongs.contains(&mark)
    }

    /// Waits for one of the verdicts the RFC allows, and proves its scope.
    pub fn expect(&mut self, id: u32, allowed: &[Verdict]) {
        if allowed.contains(&Verdict::Fine) {
            let answered = self.round_trip();
            if answered && self.verdict(id).is_none() {
                self.must_work();
                return;
            }
        }
        self.pump(|c| c.verdict(id).is_some() || c.closed, SOON);
        let verdict = self.verdict(id);
        let allows = verdict.is_some_and(|verdict| allowed.contains(&verdict));
        assert!(allows, "expected one of {}, {}", wanted(allowed), self.seen(id));
        match verdict {
            Some(Verdict::Goaway(_)) => {
                assert!(self.pump(|c| c.closed, SOON), "the connection stayed open after GOAWAY");
            }
            Some(Verdict::Reset(_) | Verdict::Fine) | None => self.must_work(),
        }
    }

    fn verdict(&self, id: u32) -> Option<Verdict> {
        if let Some((_, code)) = self.goaway {
            return Some(Verdict::Goaway(code));
        }
        self.streams.get(&id).and_then(|reply| reply.reset).map(Verdict::Reset)
    }

    fn seen(&self, id: u32) -> String {
        format!(
            "saw goaway {:?}, stream {:?}, closed {}",
            self.goaway.map(|(last, code)| (last, frame::code_name(code))),
            self.streams.get(&id),
            self.closed
        )
    }

    /// Reads until the condition holds or time is up; says whether it holds.
    pub fn pump(&mut self, until: impl Fn(&Self) -> bool, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            while let Some(frame) = self.parser.next() {
                self.take(&frame);
            }
            if until(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.closed || left.is_zero() {
                return false;
            }
            self.read(left);
        }
    }

    /// Reads what is there now, without waiting.
    pub fn poll(&mut self) {
        self.pump(|_| false, Duration::from_micros(200));
    }

    fn read(&mut self, wait: Duration) {
        let mut buffer = [0u8; 65_536];
        self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(100)))).unwrap();
        match self.socket.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.received += count as u64;
                self.parser.push(&buffer[..count]);
            }
            Err(error) => {
                let waiting = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                self.closed |= !waiting.contains(&error.kind());
            }
        }
    }
}

impl Drop for Client {
    /// A client that went through its case in peace says what it did not like about the other side.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.faults.is_empty(), "sconce broke the protocol: {:?}", self.faults);
        }
    }
}

pub(super) fn setting(values: &[(u16, u32)], key: u16) -> Option<u32> {
    values.iter().rev().find(|(have, _)| *have == key).map(|(_, value)| *value)
}

fn wanted(allowed: &[Verdict]) -> String {
    let names: Vec<String> = allowed
        .iter()
        .map(|verdict| match verdict {
            Verdict::Goaway(code) => format!("GOAWAY({})", frame::code_name(*code)),
            Verdict::Reset(code) => format!("RST_STREAM({})", frame::code_name(*code)),
            Verdict::Fine => "nothing".to_string(),
        })
        .collect();
    names.join(" or ")
}
