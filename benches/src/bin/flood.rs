//! One client that floods a server with requests which cost it much and the client little.
//!
//! A request is a HEADERS frame of 16 octets: the token, which will be refused, is in the HPACK table
//! since the first one. It reads what is answered and gives it no thought. Whenever its connection
//! is closed it opens the next.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use sconce_benches::clock::now;
use serde_json::json;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Server push off; nothing else differs from the defaults.
const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;
/// `:method POST`, `:scheme http`, then the entries of the table from the oldest to the newest.
const INDEXED: &[u8] = &[0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];
/// Requests that are written at a time.
const BATCH: u32 = 1024;
/// The last stream of a connection is about this one.
const STREAM_MAX: u32 = 0x7fff_0000;
/// How long a write or read waits before it looks whether the flood is over.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause before the next connection when one failed at once.
const PAUSE: Duration = Duration::from_millis(5);

/// Floods until it gets a line, and then tells in one line of JSON what it did.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    target: SocketAddr,
    /// The file of the token.
    #[arg(long)]
    token: PathBuf,
}

/// What was done so far.
#[derive(Debug, Default)]
struct Flood {
    over: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    answers: AtomicU64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let token = match std::fs::read_to_string(&arguments.token) {
        Ok(token) => token,
        Err(error) => {
            eprintln!("flood: {}: {error}", arguments.token.display());
            return ExitCode::FAILURE;
        }
    };
    let (flood, began) = (Flood::default(), now());
    let first = first_block(token.trim());
    thread::scope(|threads| {
        threads.spawn(|| flood.run(arguments.target, &first));
        println!("flooding");
        // The end of the input is as good as a line.
        io::stdin().read_line(&mut String::new()).unwrap_or_default();
        flood.over.store(true, Ordering::Relaxed);
    });
    let told = json!({
        "connections": flood.connections,
        "requests": flood.requests,
        "answers": flood.answers,
        "seconds": (now() - began).as_secs_f64(),
    });
    println!("{told}");
    ExitCode::SUCCESS
}

impl Flood {
    fn run(&self, target: SocketAddr, first: &[u8]) {
        while !self.is_over() {
            // That a connection ends is what is waited for.
            let Ok(stream) = TcpStream::connect(target) else {
                thread::sleep(PAUSE);
                continue;
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            let acks = AtomicU64::new(0);
            thread::scope(|threads| {
                threads.spawn(|| self.read(&stream, &acks));
                let ended = self.write(&stream, first, &acks);
                stream.shutdown(Shutdown::Both).unwrap_or_default();
                if ended.is_err() {
                    thread::sleep(PAUSE);
                }
            });
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn write(&self, stream: &TcpStream, first: &[u8], acks: &AtomicU64) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream_id = 1;
        let mut buf = [PREFACE, SETTINGS].concat();
        push(&mut buf, stream_id, first);
        while !self.is_over() && stream_id < STREAM_MAX {
            for _ in 0..acks.swap(0, Ordering::Relaxed) {
                buf.extend_from_slice(SETTINGS_ACK);
            }
            for _ in 0..BATCH {
                stream_id += 2;
                push(&mut buf, stream_id, INDEXED);
            }
            self.write_all(stream, &buf)?;
            buf.clear();
            self.requests.fetch_add(BATCH.into(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_all(&self, mut stream: &TcpStream, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() && !self.is_over() {
            match stream.write(buf) {
                Ok(sent) => buf = buf.get(sent..).unwrap_or_default(),
                Err(error) if is_patience(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts the ends of answers, resets among them, and the SETTINGS that are to be acknowledged.
    fn read(&self, mut stream: &TcpStream, acks: &AtomicU64) {
        let mut buf = vec![0; 1 << 18];
        let mut frames = Frames::default();
        if stream.set_read_timeout(Some(PATIENCE)).is_err() {
            return;
        }
        while !self.is_over() {
            let got = match stream.read(&mut buf) {
                Ok(got @ 1..) => got,
                Err(error) if is_patience(&error) => continue,
                Ok(0) | Err(_) => break,
            };
            frames.take(buf.get(..got).unwrap_or_default(), |kind, flags| match (kind, flags) {
                (0 | 1, ended) if ended & 1 == 1 => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                }
                (3, _) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                }
                (4, 0) => {
                    acks.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            });
        }
        // Whoever writes learns of it so.
        stream.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Finds the heads of frames in what comes in pieces.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    skip: usize,
}

impl Frames {
    fn take(&mut self, mut piece: &[u8], mut found: impl FnMut(u8, u8)) {
        const HEAD: usize = 9;
        while !piece.is_empty() {
            let skipped = self.skip.min(piece.len());
            self.skip -= skipped;
            let (head, rest) = piece.split_at(piece.len().min(skipped + HEAD - self.head.len()));
            self.head.extend_from_slice(head.get(skipped..).unwrap_or_default());
            piece = rest;
            if let [high, middle, low, kind, flags, ..] = *self.head
                && self.head.len() == HEAD
            {
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.skip = usize::try_from(length).unwrap_or_default();
                self.head.clear();
                found(kind, flags);
            }
        }
    }
}

fn push(buf: &mut Vec<u8>, stream_id: u32, block: &[u8]) {
    let length = u32::try_from(block.len()).unwrap_or_default().to_be_bytes();
    buf.extend_from_slice(length.get(1..).unwrap_or_default());
    buf.extend_from_slice(&[1, WHOLE]);
    buf.extend_from_slice(&stream_id.to_be_bytes());
    buf.extend_from_slice(block);
}

/// The first block of a connection: every field but the two of the static table is a literal that
/// goes into the table.
fn first_block(token: &str) -> Vec<u8> {
    const PATH: (u8, &str) = (4, "/spark.connect.SparkConnectService/Config");
    let mut block = vec![0x83, 0x86];
    for (name, value) in [PATH, (1, "spark.example.com"), (31, "application/grpc")] {
        block.push(0x40 | name);
        text(&mut block, value);
    }
    block.push(0x40);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block.push(0x40 | 23);
    text(&mut block, &format!("Bearer {token}"));
    block
}

/// A string without Huffman coding, its length as an integer of 7 bits and more.
fn text(block: &mut Vec<u8>, value: &str) {
    let mut length = value.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap_or_default());
    } else {
        block.push(127);
        length -= 127;
        while length > 127 {
            block.push(u8::try_from(length & 127).unwrap_or_default() | 128);
            length >>= 7;
        }
        block.push(u8::try_from(length).unwrap_or_default());
    }
    block.extend_from_slice(value.as_bytes());
}
