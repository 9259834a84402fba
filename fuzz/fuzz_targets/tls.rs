//! TLS: real clients, with octets between client and server that are split, delayed, corrupted,
//! duplicated, lost or injected.
//!
//! The server decrypts only what the client has encrypted, in order; buffered data is limited; and
//! without corruption all data arrives on both sides.
//!
//! Input: two octets of options, then operations of two octets, kind and amount. Two connections
//! share the buffer of the thread, as in a worker. Keys differ between runs, so the effect of an
//! input past the first records may differ a little.

#![no_main]

#[path = "tls/fixture.rs"]
mod fixture;

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use fixture::FIXTURE;
use libfuzzer_sys::fuzz_target;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use sconce::proxy::tls::{Decrypted, PARTIAL_RECORD_MAX, TlsBuffer, TlsStream};

/// Length of the read buffer, in octets.
const SCRATCH: usize = 256 * 1024 - 9;
/// Maximum of unsent octets: those encrypted for one write, and replies to the peer.
const UNSENT_MAX: usize = 112 * 1024;
/// Maximum of plain octets that one side writes.
const WRITTEN_MAX: usize = 1 << 20;
/// Maximum number of consecutive key updates of a client.
const CHANGES_MAX: usize = 30;

thread_local! {
    static TLS_BUFFER: TlsBuffer = TlsBuffer::default();
    static INTO: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

fuzz_target!(|data: &[u8]| {
    let Some(([kinds, hosts], operations)) = data.split_first_chunk() else { return };
    let two = hosts & 4 != 0;
    let mut pairs = vec![Pair::new(*kinds, hosts & 1 != 0)];
    if two {
        pairs.push(Pair::new(kinds.rotate_left(3), hosts & 2 != 0));
    }
    for pair_of_octets in operations.chunks_exact(2) {
        let (operation, amount) = (pair_of_octets[0], usize::from(pair_of_octets[1]));
        let at = usize::from(operation >> 7) % pairs.len();
        let amount = match operation >> 5 & 3 {
            0 => amount,
            1 => amount * 16,
            2 => amount * 257,
            _ => amount % 4 + 1,
        };
        pairs[at].run(operation & 31, amount);
        pairs[at].check();
    }
    for pair in &mut pairs {
        pair.finish();
    }
});

/// A client, a server stream, and the octets in flight between them.
struct Pair {
    client: ClientConnection,
    stream: TlsStream,
    up: Vec<u8>,
    down: Vec<u8>,
    upload_written: usize,
    upload_read: usize,
    download_written: usize,
    download_read: usize,
    /// Whether the server must accept the client.
    is_valid: bool,
    /// Whether octets were corrupted, lost or injected.
    is_corrupted: bool,
    /// Whether the socket or the server stream has ended.
    is_over: bool,
    client_is_over: bool,
    /// Whether the client has sent close_notify.
    client_closed: bool,
    changes: usize,
}

impl Pair {
    fn new(kind: u8, is_large: bool) -> Self {
        let config = Arc::clone(&FIXTURE.clients[usize::from(kind & 63)]);
        let is_valid = !config.alpn_protocols.is_empty();
        let host = if is_large { "large.example" } else { "small.example" };
        let host = ServerName::try_from(host).expect("a name");
        let buffer = TLS_BUFFER.with(TlsBuffer::clone);
        let stream = TlsStream::new(Arc::clone(&FIXTURE.server), buffer).expect("a stream");
        Self {
            client: ClientConnection::new(config, host).expect("a client"),
            stream,
            up: Vec::new(),
            down: Vec::new(),
            upload_written: 0,
            upload_read: 0,
            download_written: 0,
            download_read: 0,
            is_valid,
            is_corrupted: false,
            is_over: false,
            client_is_over: false,
            client_closed: false,
            changes: 0,
        }
    }

    fn run(&mut self, operation: u8, amount: usize) {
        match operation {
            0..=3 => self.client_write(amount),
            4..=6 => self.server_write(amount),
            7..=10 => self.transfer_up(amount),
            11..=13 => self.transfer_down(amount),
            14 => self.transfer_all(),
            15 => self.client_close(),
            16 => self.server_close(),
            17 => self.change_keys(),
            18 => self.end(),
            19 | 20 => self.corrupt(|up, at| up[at] ^= 1 << (at % 8), amount),
            21 => self.corrupt(|up, at| up[at] = 0, amount),
            22 => self.corrupt(|up, at| up.drain(at..at + 1).for_each(drop), amount),
            23 => self.corrupt(|up, at| up.truncate(at), amount),
            24 => self.corrupt(|up, at| up.extend_from_within(at..), amount),
            25 => self.inject(&vec![amount as u8; amount % 64]),
            26 => self.inject_short_records(22, amount),
            27 => self.inject_short_records(20, amount % 64),
            28 => self.inject_short_records(21, amount % 64),
            29 => self.inject(&[22, 3, 3, 0, 0].repeat(amount)),
            30 => self.inject_long_hello(amount),
            _ => self.corrupt_down(amount),
        }
    }

    fn client_write(&mut self, octets: usize) {
        let octets = octets.min(WRITTEN_MAX - self.upload_written);
        if self.client_is_over || self.client_closed || self.client.is_handshaking() {
            return self.client_flush();
        }
        let plain: Vec<u8> =
            (self.upload_written..self.upload_written + octets).map(pattern).collect();
        let taken = self.client.writer().write(&plain).expect("a writer that accepts");
        self.upload_written += taken;
        self.changes = if taken > 0 { 0 } else { self.changes };
        self.client_flush();
    }

    fn client_flush(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.up).expect("a vector accepts all");
        }
    }

    /// Encrypts, like a connection, only when nothing is unsent.
    fn server_write(&mut self, octets: usize) {
        let can_write = self.stream.is_established() && self.stream.unsent().is_empty();
        if self.is_finished() || !can_write {
            return;
        }
        let octets = octets.min(WRITTEN_MAX - self.download_written);
        let plain: Vec<u8> =
            (self.download_written..self.download_written + octets).map(pattern).collect();
        let (front, back) = plain.split_at(octets / 3);
        let down = &mut self.down;
        let write = |encrypted: &[u8]| {
            let taken = if octets % 2 == 0 { encrypted.len() } else { encrypted.len() / 3 };
            down.extend_from_slice(&encrypted[..taken]);
            Ok(taken)
        };
        let encrypted = self.stream.encrypt(&[IoSlice::new(front), IoSlice::new(back)], write);
        match encrypted {
            Ok(taken) => self.download_written += taken,
            Err(error) => assert!(self.is_corrupted, "encrypting failed: {error}"),
        }
    }

    /// Passes at most `most` octets to the server stream.
    fn transfer_up(&mut self, most: usize) {
        self.client_flush();
        if self.is_finished() || most == 0 {
            return;
        }
        let up = &mut self.up;
        let mut received = 0;
        let decrypted = INTO.with_borrow_mut(|into| {
            let decrypted = self.stream.decrypt(into, |buffer| {
                received = buffer.len().min(up.len()).min(most);
                if received == 0 && !buffer.is_empty() {
                    return Err(ErrorKind::WouldBlock.into());
                }
                buffer[..received].copy_from_slice(&up[..received]);
                Ok(received)
            });
            if let Ok(Decrypted::Octets(octets)) = decrypted {
                let octets_read = into[..octets].iter().enumerate();
                let pattern =
                    octets_read.map(|(at, octet)| *octet == pattern(self.upload_read + at));
                assert!(pattern.fold(true, |all, one| all & one), "other octets than written");
                self.upload_read += octets;
            }
            decrypted
        });
        up.drain(..received);
        assert!(self.upload_read <= self.upload_written, "more octets than written");
        match decrypted {
            Ok(Decrypted::Octets(octets)) => assert!(octets == 0 || self.stream.is_established()),
            Ok(Decrypted::Cleartext(_)) => {
                assert!(self.is_corrupted || !self.is_valid, "not recognised as TLS");
                self.is_over = true;
            }
            Ok(Decrypted::Eof) => panic!("an end without a closed socket"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                assert!(self.is_corrupted || !self.is_valid, "rejected: {error}");
                self.is_over = true;
            }
        }
    }

    /// Sends at most `most` unsent octets to the client, which reads all of them.
    fn transfer_down(&mut self, most: usize) {
        let taken = self.stream.unsent().len().min(most);
        self.down.extend_from_slice(&self.stream.unsent()[..taken]);
        self.stream.mark_sent(taken);
        // The client's library expects no error after its close_notify.
        self.client_is_over |= self.client_closed && self.is_corrupted;
        while !self.down.is_empty() && !self.client_is_over {
            let read = self.client.read_tls(&mut &self.down[..]);
            let Ok(read @ 1..) = read else { break };
            self.down.drain(..read);
            if let Err(error) = self.client.process_new_packets() {
                assert!(self.is_corrupted || !self.is_valid, "the client rejects: {error}");
                self.client_is_over = true;
            }
            self.client_read();
        }
        self.client_flush();
    }

    fn client_read(&mut self) {
        let mut plain = Vec::new();
        match self.client.reader().read_to_end(&mut plain) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => assert!(self.is_corrupted, "the client reads {error}"),
        }
        for octet in plain {
            assert_eq!(octet, pattern(self.download_read), "the client reads other octets");
            self.download_read += 1;
        }
        assert!(self.download_read <= self.download_written);
    }

    /// Transfers octets in both directions until nothing moves.
    fn transfer_all(&mut self) {
        for _ in 0..10_000 {
            let before = (self.up.len(), self.down.len(), self.stream.unsent().len());
            self.transfer_up(usize::MAX);
            self.transfer_down(usize::MAX);
            self.check();
            let after = (self.up.len(), self.down.len(), self.stream.unsent().len());
            let is_still = before == after && (self.up.is_empty() || self.is_finished());
            if is_still {
                return;
            }
        }
        panic!("the transfer does not end");
    }

    fn is_finished(&self) -> bool {
        self.is_over || self.stream.is_peer_closed() || self.stream.has_sent_close_notify()
    }

    fn client_close(&mut self) {
        self.client.send_close_notify();
        self.client_closed = true;
        self.client_flush();
        // During a handshake close_notify may be an error, and nothing follows.
        self.client_is_over |= self.client.is_handshaking();
        self.is_valid &= !self.client.is_handshaking();
    }

    fn server_close(&mut self) {
        if !self.is_over && self.stream.unsent().is_empty() {
            self.stream.send_close_notify();
        }
    }

    fn change_keys(&mut self) {
        if self.changes < CHANGES_MAX && !self.client_closed && !self.client_is_over {
            self.changes += usize::from(self.client.refresh_traffic_keys().is_ok());
            self.client_flush();
        }
    }

    /// The client's socket ends, with all octets in flight.
    fn end(&mut self) {
        if self.is_finished() {
            return;
        }
        let ended = self.stream.decrypt(&mut vec![0; SCRATCH], |_| Ok(0));
        assert_eq!(ended.expect("an end is not an error"), Decrypted::Eof);
        self.is_corrupted = true;
        self.is_over = true;
    }

    fn corrupt(&mut self, how: impl FnOnce(&mut Vec<u8>, usize), amount: usize) {
        self.client_flush();
        if !self.up.is_empty() {
            self.is_corrupted = true;
            let at = amount % self.up.len();
            how(&mut self.up, at);
            self.up.truncate(WRITTEN_MAX);
        }
    }

    fn corrupt_down(&mut self, amount: usize) {
        if !self.down.is_empty() {
            self.is_corrupted = true;
            let at = amount % self.down.len();
            self.down[at] ^= 1 << (amount % 8);
        }
    }

    fn inject(&mut self, octets: &[u8]) {
        self.is_corrupted = true;
        self.up.extend_from_slice(octets);
        self.up.truncate(WRITTEN_MAX);
    }

    /// Injects records of one octet.
    fn inject_short_records(&mut self, kind: u8, count: usize) {
        self.inject(&[kind, 3, 3, 0, 1, 1].repeat(count));
    }

    /// Injects the beginning of a long ClientHello.
    fn inject_long_hello(&mut self, length: usize) {
        let length = (length as u32).to_be_bytes();
        let message = [22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 3, length[1], length[2], length[3]];
        self.inject(&message);
    }

    fn check(&self) {
        assert!(
            self.stream.partial_record_len() <= PARTIAL_RECORD_MAX,
            "{} octets are buffered",
            self.stream.partial_record_len()
        );
        let unsent = self.stream.unsent().len();
        assert!(unsent <= UNSENT_MAX, "{unsent} octets are unsent");
        assert!(self.stream.certificate().is_none() || self.stream.is_established());
    }

    /// Transfers everything, and checks it unless octets were corrupted.
    fn finish(&mut self) {
        self.transfer_all();
        if self.is_corrupted || !self.is_valid {
            return;
        }
        if self.stream.has_sent_close_notify() {
            return;
        }
        if !self.client_closed {
            assert!(self.stream.is_established() && !self.client.is_handshaking(), "no handshake");
            self.client_write(777);
            self.server_write(70_000);
            self.transfer_all();
        }
        assert_eq!(
            (self.upload_read, self.download_read),
            (self.upload_written, self.download_written)
        );
        assert_eq!(self.stream.partial_record_len(), 0, "octets are still buffered");
        assert_eq!(self.stream.is_peer_closed(), self.client_closed);
    }
}

/// The plain octet at this offset.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}
