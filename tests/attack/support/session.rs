//! One connection of the scripted driver: the reader, the writer, and the books of its streams.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::client::setting;
use super::driver::{Entry, Greeting, Log, Served, Spec};
use super::fields;
use super::frame::{self, Frame};
use super::script;

/// Octets that wait for the socket; scripts wait below this, control frames never do.
const OUTBOX: usize = 262_144;

#[derive(Default)]
pub struct Books {
    outbox: VecDeque<Vec<u8>>,
    outbox_octets: usize,
    /// What the peer lets us send: connection, initial, and per stream.
    window: i64,
    initial: i64,
    streams: HashMap<u32, Stream>,
    /// Plain answers that wait for the connection's window.
    late: Vec<u32>,
    pub closed: bool,
}

struct Stream {
    entry: Entry,
    script: String,
    window: i64,
    owed: u32,
    /// What the peer may still send.
    allowed: i64,
    is_live: bool,
}

/// A connection as its streams' scripts see it.
pub struct Session {
    pub spec: Spec,
    pub log: Arc<Log>,
    books: Mutex<Books>,
    changed: Condvar,
    socket: TcpStream,
    pub deaf: AtomicBool,
}

/// The stream or its connection is gone: the script ends.
pub struct Gone;

pub fn start(socket: TcpStream, spec: Spec, log: Arc<Log>) {
    let _ = socket.set_nodelay(true);
    let session = Arc::new(Session {
        spec,
        log,
        books: Mutex::new(Books { window: 65_535, initial: 65_535, ..Books::default() }),
        changed: Condvar::new(),
        socket,
        deaf: AtomicBool::new(false),
    });
    let writer = session.clone();
    spawn(move || writer.write_out());
    spawn(move || session.run());
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(work).unwrap();
}

impl Session {
    pub fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub fn send(&self, octets: Vec<u8>) {
        let mut books = self.lock();
        books.outbox_octets += octets.len();
        books.outbox.push_back(octets);
        self.changed.notify_all();
    }

    pub fn shut(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.end();
    }

    /// Closes with RST instead of FIN.
    pub fn slam(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        self.shut();
    }

    fn write_out(&self) {
        loop {
            let mut books = self.lock();
            while books.outbox.is_empty() && !books.closed {
                books = self.changed.wait(books).unwrap();
            }
            let Some(octets) = books.outbox.pop_front() else { return };
            books.outbox_octets -= octets.len();
            self.changed.notify_all();
            drop(books);
            let mut rest = &octets[..];
            while !rest.is_empty() {
                match (&self.socket).write(rest) {
                    Ok(count) if count > 0 => {
                        self.log.sent.fetch_add(count as u64, Ordering::Relaxed);
                        rest = &rest[count..];
                    }
                    _ => return self.end(),
                }
            }
        }
    }

    fn run(self: &Arc<Self>) {
        let hello = frame::settings(&self.spec.settings);
        match &self.spec.greeting {
            Greeting::Plain => self.send(self.bump(hello)),
            Greeting::After(octets) => self.send([self.bump(hello), octets.clone()].concat()),
            Greeting::Deaf => {
                self.send(hello);
                self.deaf.store(true, Ordering::SeqCst);
            }
            Greeting::Octets(octets) => {
                self.send(octets.clone());
                return self.swallow();
            }
            Greeting::BlackHole => return self.swallow(),
            Greeting::CloseAtOnce => return self.shut(),
        }
        self.read_on();
        self.shut();
    }

    fn bump(&self, mut hello: Vec<u8>) -> Vec<u8> {
        if self.spec.connection_bump > 0 {
            hello.extend(frame::window_update(0, self.spec.connection_bump));
        }
        hello
    }

    fn swallow(&self) {
        let mut buffer = [0; 4096];
        while (&self.socket).read(&mut buffer).is_ok_and(|count| count > 0) {}
        self.shut();
    }

    /// Waits while the driver is deaf; false once the connection is closed.
    fn hears_again(&self) -> bool {
        while self.deaf.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            if self.lock().closed {
                return false;
            }
        }
        true
    }

    fn read_on(self: &Arc<Self>) {
        let mut parser = frame::Parser::default();
        let mut decoder = fluke_hpack::Decoder::new();
        let mut buffer = vec![0; 65_536];
        let mut greeted = false;
        let mut block: Option<(u32, u8, Vec<u8>)> = None;
        loop {
            if !self.hears_again() {
                return;
            }
            match (&self.socket).read(&mut buffer) {
                Ok(count) if count > 0 => parser.push(&buffer[..count]),
                _ => return,
            }
            // What came while it was deaf is not answered before it hears again.
            if !self.hears_again() {
                return;
            }
            if !greeted && parser.rest().len() >= frame::PREFACE.len() {
                if !parser.rest().starts_with(frame::PREFACE) {
                    self.log.fault("a connection without the preface");
                    return;
                }
                parser.skip(frame::PREFACE.len());
                greeted = true;
            }
            while let Some(frame) = parser.next().filter(|_| greeted) {
                if frame.kind != frame::HEADERS && frame.kind != frame::CONTINUATION {
                    self.take(&frame);
                    continue;
                }
                let (id, flags, mut octets) =
                    block.take().unwrap_or((frame.stream, frame.flags, Vec::new()));
                octets.extend_from_slice(frame.content());
                if !frame.has(frame::END_HEADERS) {
                    block = Some((id, flags, octets));
                    continue;
                }
                match decoder.decode(&octets) {
                    Ok(list) => self.take_headers(id, flags & frame::END_STREAM != 0, list),
                    Err(error) => self.log.fault(format!("undecodable header block: {error:?}")),
                }
            }
        }
    }

    fn take(&self, frame: &Frame) {
        match frame.kind {
            frame::DATA => self.take_data(frame),
            frame::RST_STREAM => {
                self.log.resets.fetch_add(1, Ordering::SeqCst);
                self.note(frame.stream, |served| served.reset = Some(frame.word(0)));
            }
            frame::SETTINGS if !frame.has(frame::ACK) => {
                let mut books = self.lock();
                for entry in frame.payload.chunks_exact(6) {
                    if u16::from_be_bytes([entry[0], entry[1]]) == frame::INITIAL_WINDOW_SIZE {
                        let value = u32::from_be_bytes(entry[2..6].try_into().unwrap());
                        books.initial = i64::from(value);
                    }
                }
                drop(books);
                self.send(frame::settings_ack());
                self.changed.notify_all();
            }
            frame::PING if !frame.has(frame::ACK) => {
                self.log.pings.fetch_add(1, Ordering::SeqCst);
                self.send(frame::frame(frame::PING, frame::ACK, 0, &frame.payload));
            }
            frame::GOAWAY => self.log.goaways.lock().unwrap().push(frame.word(4)),
            frame::WINDOW_UPDATE => {
                let increment = i64::from(frame.word(0));
                let mut books = self.lock();
                match frame.stream {
                    0 => books.window += increment,
                    id => {
                        if let Some(stream) = books.streams.get_mut(&id) {
                            stream.window += increment;
                        }
                    }
                }
                let late = std::mem::take(&mut books.late);
                drop(books);
                late.into_iter().for_each(|id| self.answer_plainly(id));
                self.changed.notify_all();
            }
            _ => {}
        }
    }

    fn take_headers(self: &Arc<Self>, id: u32, end: bool, list: Vec<(Vec<u8>, Vec<u8>)>) {
        let list = fields::text(list);
        if self.lock().streams.contains_key(&id) {
            self.note(id, |served| {
                served.trailers = list;
                served.ended |= end;
            });
            return;
        }
        let get = |name: &str| fields::find(&list, name).unwrap_or_default().to_string();
        let (case, script) = (get("x-case"), get("x-script"));
        let served = Served { headers: list, ended: end, ..Served::default() };
        let entry: Entry = Arc::new((Mutex::new(served), Condvar::new()));
        self.log.remember(case, entry.clone());
        self.log.opened.fetch_add(1, Ordering::SeqCst);
        let live = self.log.live.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.live_peak.fetch_max(live, Ordering::SeqCst);
        let plain = script.is_empty();
        let initial = setting(&self.spec.settings, frame::INITIAL_WINDOW_SIZE).unwrap_or(65_535);
        let allowed = i64::from(initial);
        let stream = Stream { entry, script, window: 0, owed: 0, allowed, is_live: true };
        self.lock().streams.insert(id, stream);
        if plain {
            self.answer_plainly(id);
        } else {
            let session = self.clone();
            spawn(move || {
                let _ = script::play(&session, id);
            });
        }
    }

    /// The plain answer, straight from the reader: what most calls get.
    fn answer_plainly(&self, id: u32) {
        let mut books = self.lock();
        let Some(stream) = books.streams.get(&id) else { return };
        let ready =
            stream.is_live && stream.script.is_empty() && stream.entry.0.lock().unwrap().ended;
        let octets = i64::try_from(5 + self.spec.name.len()).unwrap();
        if ready && books.window < octets {
            // It waits for a window like any other.
            books.late.push(id);
        } else if ready {
            books.window -= octets;
            drop(books);
            self.send(script::plain_answer(id, self.spec.name));
            self.forget(id);
        }
    }

    fn take_data(&self, frame: &Frame) {
        let length = u32::try_from(frame.payload.len()).unwrap();
        let mut books = self.lock();
        let Some(stream) = books.streams.get_mut(&frame.stream) else {
            drop(books);
            if length > 0 {
                self.send(frame::window_update(0, length));
            }
            return;
        };
        let starves = stream.script.contains("starve");
        let holds = starves || stream.script.contains("nocredit");
        if holds {
            stream.owed += length;
        }
        let wants = stream.is_live && !frame.has(frame::END_STREAM);
        stream.allowed -= i64::from(length);
        let is_over = stream.allowed < 0;
        if length > 0 && wants && !holds {
            stream.allowed += i64::from(length);
        }
        drop(books);
        if is_over {
            self.log.fault(format!("DATA beyond the window of stream {}", frame.stream));
        }
        self.note(frame.stream, |served| {
            if served.ended {
                self.log.fault(format!("DATA after the end of stream {}", frame.stream));
            }
            served.received += frame.content().len();
            let room = self.spec.keeps.saturating_sub(served.body.len());
            served.body.extend(frame.content().iter().take(room));
            served.frames += 1;
            served.ended |= frame.has(frame::END_STREAM);
        });
        if length > 0 && !starves {
            let mut out = frame::window_update(0, length);
            if wants && !holds {
                out.extend(frame::window_update(frame.stream, length));
            }
            self.send(out);
        }
        if frame.has(frame::END_STREAM) {
            self.answer_plainly(frame.stream);
        }
    }

    fn note(&self, id: u32, change: impl FnOnce(&mut Served)) {
        let mut books = self.lock();
        let Some(stream) = books.streams.get_mut(&id) else { return };
        let mut served = stream.entry.0.lock().unwrap();
        change(&mut served);
        let dropped = served.is_dropped();
        if dropped {
            served.over_at.get_or_insert_with(Instant::now);
        }
        drop(served);
        if dropped {
            self.retire(stream);
        }
        self.changed.notify_all();
        let ends = books.streams.get(&id).is_some_and(|s| s.script.is_empty() && s.is_live);
        drop(books);
        if ends {
            self.answer_plainly(id);
        }
    }

    fn retire(&self, stream: &mut Stream) {
        if stream.is_live {
            stream.is_live = false;
            self.log.live.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The driver has answered: the stream is no longer alive, but stays known.
    pub fn forget(&self, id: u32) {
        let mut books = self.lock();
        if let Some(mut stream) = books.streams.remove(&id) {
            self.retire(&mut stream);
            if !stream.entry.0.lock().unwrap().is_dropped() && books.streams.len() < 4096 {
                books.streams.insert(id, stream);
            }
        }
    }

    fn end(&self) {
        let mut books = self.lock();
        books.closed = true;
        books.outbox.clear();
        books.outbox_octets = 0;
        for stream in books.streams.values_mut().filter(|stream| stream.is_live) {
            let mut served = stream.entry.0.lock().unwrap();
            served.cut = true;
            served.over_at.get_or_insert_with(Instant::now);
            drop(served);
            self.retire(stream);
        }
        self.changed.notify_all();
    }

    pub fn script_of(&self, id: u32) -> String {
        self.lock().streams.get(&id).map(|stream| stream.script.clone()).unwrap_or_default()
    }

    /// Waits for something to become true of the stream; the script ends if the stream does.
    pub fn wait(&self, id: u32, until: impl Fn(&Served) -> bool) -> Result<(), Gone> {
        let mut books = self.lock();
        loop {
            let Some(stream) = books.streams.get(&id).filter(|_| !books.closed) else {
                return Err(Gone);
            };
            let served = stream.entry.0.lock().unwrap();
            if served.is_dropped() {
                return Err(Gone);
            }
            if until(&served) {
                return Ok(());
            }
            drop(served);
            books = self.changed.wait(books).unwrap();
        }
    }

    /// Gives the credit that was held back, and no longer holds any.
    pub fn repay(&self, id: u32) {
        let mut books = self.lock();
        let Some(stream) = books.streams.get_mut(&id) else { return };
        stream.script = stream.script.replace("nocredit", "");
        drop(books);
        self.sip(id, u32::MAX);
    }

    /// Gives at most so much of the credit that was held back.
    pub fn sip(&self, id: u32, most: u32) {
        let mut books = self.lock();
        let Some(stream) = books.streams.get_mut(&id) else { return };
        let given = stream.owed.min(most);
        stream.owed -= given;
        stream.allowed += i64::from(given);
        drop(books);
        if given > 0 {
            self.send(frame::window_update(id, given));
        }
    }

    /// Sends frames as they are; what is DATA of them counts, whether or not there is a window.
    pub fn send_counted(&self, octets: Vec<u8>) {
        let mut rest = &octets[..];
        while let Some((head, behind)) = rest.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            if head[3] == 0 {
                self.lock().window -= i64::from(length);
            }
            rest = behind.get(length as usize..).unwrap_or_default();
        }
        self.send(octets);
    }

    /// Takes up to `want` octets of window once any is there and the outbox has room.
    pub fn spend(&self, id: u32, want: usize) -> Result<usize, Gone> {
        let mut books = self.lock();
        loop {
            let initial = books.initial;
            let (window, room) = (books.window, books.outbox_octets < OUTBOX);
            let gone = books.closed;
            let Some(stream) = books.streams.get_mut(&id).filter(|s| s.is_live && !gone) else {
                return Err(Gone);
            };
            let open = (initial + stream.window).min(window).min(16_384);
            let open = usize::try_from(open).unwrap_or(0).min(want);
            if room && (open > 0 || want == 0) {
                let spent = i64::try_from(open).unwrap();
                stream.window -= spent;
                books.window -= spent;
                return Ok(open);
            }
            books = self.changed.wait(books).unwrap();
        }
    }
}
