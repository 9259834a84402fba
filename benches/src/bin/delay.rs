//! A long way, made in user space: a TCP relay that delivers every octet a fixed time after it
//! came, in each direction.
//!
//! Its bandwidth is not limited: each direction has a thread that does nothing but read, and one
//! that writes what is due, with a queue of [`QUEUE_MAX`] octets between them. That is far more than
//! any sender here may have in flight, so windows alone decide how fast an upload is. It models
//! neither loss nor slow start, and not the round trip of connecting.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use sconce_benches::clock::now;

/// A read takes so many octets at most.
const READ_MAX: usize = 256 << 10;
/// Octets of one direction that are on their way, at most; then the sender waits.
const QUEUE_MAX: usize = 64 << 20;

/// Relays every connection to one address, late.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where every connection goes.
    #[arg(long)]
    to: SocketAddr,
    /// The round-trip time that is added, in milliseconds: half of it in each direction.
    #[arg(long)]
    rtt_ms: f64,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("delay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let delay = Duration::try_from_secs_f64(arguments.rtt_ms / 2e3)?;
    let listener = TcpListener::bind(arguments.listen)?;
    println!("listening {}", listener.local_addr()?);
    for client in listener.incoming() {
        relay(client?, arguments.to, delay)?;
    }
    Ok(())
}

fn relay(client: TcpStream, to: SocketAddr, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let reads = Arc::new(Way::default());
        let writes = Arc::clone(&reads);
        thread::spawn(move || reads.read(from, delay));
        thread::spawn(move || writes.write(to));
    }
    Ok(())
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is on its way; an empty piece is the end.
#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    octets: usize,
    /// Nobody takes any more of it.
    broken: bool,
}

impl Way {
    fn read(&self, mut from: TcpStream, delay: Duration) {
        let mut buf = vec![0; READ_MAX];
        loop {
            // A connection that broke ends like one that was closed: late.
            let got = from.read(&mut buf).unwrap_or(0);
            let piece = buf.get(..got).unwrap_or_default().to_vec();
            if !self.push(now() + delay, piece) || got == 0 {
                return;
            }
        }
    }

    /// Waits until there is room; tells whether anybody still takes it.
    fn push(&self, due: Instant, piece: Vec<u8>) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |queue: &mut Queue| queue.octets > QUEUE_MAX && !queue.broken;
        let waited = self.changed.wait_while(queue, full);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        queue.octets += piece.len();
        queue.pieces.push_back((due, piece));
        self.changed.notify_all();
        !queue.broken
    }

    fn write(&self, mut to: TcpStream) {
        loop {
            let (due, piece) = self.pop();
            thread::sleep(due.saturating_duration_since(now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        // The other side may be gone already, which is what this says.
        to.shutdown(Shutdown::Write).unwrap_or_default();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).broken = true;
        self.changed.notify_all();
    }

    fn pop(&self) -> (Instant, Vec<u8>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((due, piece)) = queue.pieces.pop_front() {
                queue.octets -= piece.len();
                self.changed.notify_all();
                return (due, piece);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
