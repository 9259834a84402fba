//! The scripted driver: speaks HTTP/2 as the request's `x-script` tells it, or misspeaks.
//!
//! One thread reads a connection, one writes, and each stream whose script is not the plain one has a
//! thread that plays it. Everything that was asked of the driver is in its log, by `x-case`.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::fields::List;
use super::frame;

/// What a driver says on a new connection.
#[derive(Clone, Default)]
pub enum Greeting {
    /// SETTINGS, and then it serves.
    #[default]
    Plain,
    /// Accepts and never says a word.
    BlackHole,
    /// Closes as soon as it has accepted.
    CloseAtOnce,
    /// Says these octets instead of SETTINGS, and listens on.
    Octets(Vec<u8>),
    /// SETTINGS, these octets, and then it serves.
    After(Vec<u8>),
    /// SETTINGS, and then it never reads again.
    Deaf,
}

#[derive(Clone)]
pub struct Spec {
    pub name: &'static str,
    pub settings: Vec<(u16, u32)>,
    pub connection_bump: u32,
    pub greeting: Greeting,
    /// Octets of a request's body that are kept for the case.
    pub keeps: usize,
    /// Size of the kernel's receive buffer of each connection.
    pub receive_buffer: Option<usize>,
}

impl Default for Spec {
    /// The settings of a real Spark Connect server.
    fn default() -> Self {
        Self {
            name: "ads",
            settings: vec![
                (frame::INITIAL_WINDOW_SIZE, 1_048_576),
                (frame::MAX_HEADER_LIST_SIZE, 8192),
            ],
            connection_bump: 983_041,
            greeting: Greeting::Plain,
            keeps: 0,
            receive_buffer: None,
        }
    }
}

/// One stream as the driver saw it.
#[derive(Debug, Clone, Default)]
pub struct Served {
    pub headers: List,
    pub trailers: List,
    pub received: usize,
    /// The body, as far as the driver keeps bodies.
    pub body: Vec<u8>,
    pub frames: usize,
    pub ended: bool,
    pub reset: Option<u32>,
    /// The connection went while the stream was open.
    pub cut: bool,
    pub over_at: Option<Instant>,
}

impl Served {
    /// The driver knows that nobody waits for this any more.
    pub fn is_dropped(&self) -> bool {
        self.reset.is_some() || self.cut
    }
}

pub type Entry = Arc<(Mutex<Served>, Condvar)>;

/// What all connections of one driver share.
#[derive(Default)]
pub struct Log {
    pub cases: Mutex<HashMap<String, Vec<Entry>>>,
    pub opened: AtomicUsize,
    pub live: AtomicUsize,
    pub live_peak: AtomicUsize,
    pub resets: AtomicUsize,
    pub sent: AtomicU64,
    pub connections: AtomicUsize,
    pub pings: AtomicUsize,
    pub goaways: Mutex<Vec<u32>>,
    pub faults: Mutex<Vec<String>>,
}

impl Log {
    pub fn fault(&self, what: impl Into<String>) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < 20 {
            faults.push(what.into());
        }
    }

    /// Keeps the stream for the case that waits for it; a flood is counted, not kept.
    pub fn remember(&self, case: String, entry: Entry) {
        let mut cases = self.cases.lock().unwrap();
        let entries = cases.entry(case).or_default();
        if entries.len() < 8192 {
            entries.push(entry);
        }
    }

    /// Waits until the last stream of a case satisfies the condition.
    pub fn wait(&self, case: &str, patience: Duration, until: impl Fn(&Served) -> bool) -> Served {
        let deadline = Instant::now() + patience;
        loop {
            let last = self.entries(case).last().cloned();
            let seen = last.map(|entry| entry.0.lock().unwrap().clone());
            if let Some(served) = seen.as_ref().filter(|served| until(served)) {
                return served.clone();
            }
            assert!(Instant::now() < deadline, "the driver never saw it; it saw {seen:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so few streams of the case are alive.
    pub fn wait_for_live(&self, at_most: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.live.load(Ordering::SeqCst) > at_most {
            let live = self.live.load(Ordering::SeqCst);
            assert!(Instant::now() < deadline, "{live} streams are still alive at the driver");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn entries(&self, case: &str) -> Vec<Entry> {
        self.cases.lock().unwrap().get(case).cloned().unwrap_or_default()
    }
}

pub struct Driver {
    pub address: SocketAddr,
    pub log: Arc<Log>,
    spec: Spec,
    stop: Arc<AtomicBool>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    /// Who gets new connections in the place of the script.
    successor: Arc<Mutex<Option<Sender<TcpStream>>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Driver {
    pub fn start(at: SocketAddr, spec: Spec) -> Self {
        let listener = bind(at, spec.receive_buffer);
        let address = listener.local_addr().unwrap();
        let mut driver = Self {
            address,
            log: Arc::default(),
            spec,
            stop: Arc::default(),
            sockets: Arc::default(),
            successor: Arc::default(),
            thread: None,
        };
        driver.serve(listener);
        driver
    }

    fn serve(&mut self, listener: TcpListener) {
        let (log, stop, spec) = (self.log.clone(), self.stop.clone(), self.spec.clone());
        let (sockets, successor) = (self.sockets.clone(), self.successor.clone());
        self.thread = Some(std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(socket) = socket else { continue };
                log.connections.fetch_add(1, Ordering::SeqCst);
                if let Some(successor) = &*successor.lock().unwrap() {
                    let _ = successor.send(socket);
                    continue;
                }
                let mut held = sockets.lock().unwrap();
                held.retain(|socket| socket.peer_addr().is_ok());
                held.push(socket.try_clone().unwrap());
                drop(held);
                super::session::start(socket, spec.clone(), log.clone());
            }
        }));
    }

    /// From now on new connections go to the receiver.
    pub fn succeed(&self) -> Receiver<TcpStream> {
        let (sender, receiver) = std::sync::mpsc::channel();
        *self.successor.lock().unwrap() = Some(sender);
        receiver
    }

    /// Stops listening and cuts every connection, as a driver that is killed.
    pub fn kill(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Listens again where it listened before.
    pub fn revive(&mut self) {
        self.stop = Arc::default();
        let listener = bind(self.address, self.spec.receive_buffer);
        self.serve(listener);
    }

    pub fn was_asked(&self, case: &str) -> usize {
        self.log.entries(case).len()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Binds with address reuse, so that a driver can come back at once.
fn bind(at: SocketAddr, receive_buffer: Option<usize>) -> TcpListener {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)
            .unwrap();
    socket.set_reuse_address(true).unwrap();
    // Inherited by what is accepted: little must hide in the driver's own kernel buffer.
    socket.set_send_buffer_size(65_536).unwrap();
    if let Some(octets) = receive_buffer {
        socket.set_recv_buffer_size(octets).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Err(error) = socket.bind(&at.into()) {
        assert!(Instant::now() < deadline, "cannot bind {at}: {error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    socket.listen(1024).unwrap();
    socket.into()
}
