//! Tls: real clients whose octets are cut, delayed, flipped, doubled, lost or mixed with others on
//! their way to a session and back; and clients that never were any.
//!
//! Whatever comes, nothing is opened that a client has not sealed, in its order; what is kept stays
//! bounded; and where nobody has touched the octets, everything arrives on either side.
//!
//! Input: an octet of choices, then orders of two octets, what and how much. Two connections share
//! the buffer of the thread, as they do in a worker. The keys of each run are its own, so that what
//! an input does past the first records may differ a little from run to run.

#![no_main]

#[path = "tls/house.rs"]
mod house;

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use house::HOUSE;
use libfuzzer_sys::fuzz_target;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use sconce::proxy::tls::{BEGUN_MAX, Opened, Room, Session};

/// What a relay reads into.
const SCRATCH: usize = 256 * 1024 - 9;
/// What waits for the socket at most: what is sealed for one write, and what answers the peer.
const UNSENT_MAX: usize = 112 * 1024;
/// Plain octets that one side says at most.
const SAID_MAX: usize = 1 << 20;
/// Changes of keys in a row that a client may make.
const CHANGES_MAX: usize = 30;

thread_local! {
    static ROOM: Room = Room::default();
    static INTO: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

fuzz_target!(|data: &[u8]| {
    let Some(([kinds, hosts], orders)) = data.split_first_chunk() else { return };
    let two = hosts & 4 != 0;
    let mut lines = vec![Line::new(*kinds, hosts & 1 != 0)];
    if two {
        lines.push(Line::new(kinds.rotate_left(3), hosts & 2 != 0));
    }
    for order in orders.chunks_exact(2) {
        let (what, much) = (order[0], usize::from(order[1]));
        let at = usize::from(what >> 7) % lines.len();
        let much = match what >> 5 & 3 {
            0 => much,
            1 => much * 16,
            2 => much * 257,
            _ => much % 4 + 1,
        };
        lines[at].obey(what & 31, much);
        lines[at].check();
    }
    for line in &mut lines {
        line.settle();
    }
});

/// A client, a session, and what is on its way between them.
struct Line {
    client: ClientConnection,
    session: Session,
    up: Vec<u8>,
    down: Vec<u8>,
    /// What the client has said, and how much of it was heard.
    up_said: usize,
    up_heard: usize,
    down_said: usize,
    down_heard: usize,
    /// Whether the session has no reason to refuse the client.
    is_sound: bool,
    /// Whether somebody has touched the octets.
    is_spoilt: bool,
    /// The socket has ended, or the session has.
    is_over: bool,
    client_is_over: bool,
    /// The client has said that nothing more will come.
    client_said_goodbye: bool,
    changes: usize,
}

impl Line {
    fn new(kind: u8, is_large: bool) -> Self {
        let config = Arc::clone(&HOUSE.clients[usize::from(kind & 63)]);
        let is_sound = !config.alpn_protocols.is_empty();
        let host = if is_large { "large.example" } else { "small.example" };
        let host = ServerName::try_from(host).expect("a name");
        let room = ROOM.with(Room::clone);
        let session = Session::new(Arc::clone(&HOUSE.server), room).expect("a session");
        Self {
            client: ClientConnection::new(config, host).expect("a client"),
            session,
            up: Vec::new(),
            down: Vec::new(),
            up_said: 0,
            up_heard: 0,
            down_said: 0,
            down_heard: 0,
            is_sound,
            is_spoilt: false,
            is_over: false,
            client_is_over: false,
            client_said_goodbye: false,
            changes: 0,
        }
    }

    fn obey(&mut self, what: u8, much: usize) {
        match what {
            0..=3 => self.client_says(much),
            4..=6 => self.says(much),
            7..=10 => self.carry_up(much),
            11..=13 => self.carry_down(much),
            14 => self.carry_all(),
            15 => self.client_says_goodbye(),
            16 => self.say_goodbye(),
            17 => self.change_keys(),
            18 => self.end(),
            19 | 20 => self.spoil(|up, at| up[at] ^= 1 << (at % 8), much),
            21 => self.spoil(|up, at| up[at] = 0, much),
            22 => self.spoil(|up, at| up.drain(at..at + 1).for_each(drop), much),
            23 => self.spoil(|up, at| up.truncate(at), much),
            24 => self.spoil(|up, at| up.extend_from_within(at..), much),
            25 => self.mix_in(&vec![much as u8; much % 64]),
            26 => self.dribble(22, much),
            27 => self.dribble(20, much % 64),
            28 => self.dribble(21, much % 64),
            29 => self.mix_in(&[22, 3, 3, 0, 0].repeat(much)),
            30 => self.claim(much),
            _ => self.spoil_down(much),
        }
    }

    fn client_says(&mut self, octets: usize) {
        let octets = octets.min(SAID_MAX - self.up_said);
        if self.client_is_over || self.client_said_goodbye || self.client.is_handshaking() {
            return self.client_writes();
        }
        let plain: Vec<u8> = (self.up_said..self.up_said + octets).map(said).collect();
        let taken = self.client.writer().write(&plain).expect("a writer that takes");
        self.up_said += taken;
        self.changes = if taken > 0 { 0 } else { self.changes };
        self.client_writes();
    }

    fn client_writes(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.up).expect("a vector takes all");
        }
    }

    /// Seals, as a leg does: only when nothing waits.
    fn says(&mut self, octets: usize) {
        let is_ready = self.session.is_open() && self.session.unsent().is_empty();
        if self.stands_still() || !is_ready {
            return;
        }
        let octets = octets.min(SAID_MAX - self.down_said);
        let plain: Vec<u8> = (self.down_said..self.down_said + octets).map(said).collect();
        let (front, back) = plain.split_at(octets / 3);
        let down = &mut self.down;
        let write = |sealed: &[u8]| {
            let taken = if octets % 2 == 0 { sealed.len() } else { sealed.len() / 3 };
            down.extend_from_slice(&sealed[..taken]);
            Ok(taken)
        };
        let sealed = self.session.seal(&[IoSlice::new(front), IoSlice::new(back)], write);
        match sealed {
            Ok(taken) => self.down_said += taken,
            Err(fault) => assert!(self.is_spoilt, "nothing can be sealed: {fault}"),
        }
    }

    /// Gives the session what has come, as far as `most` octets.
    fn carry_up(&mut self, most: usize) {
        self.client_writes();
        if self.stands_still() || most == 0 {
            return;
        }
        let up = &mut self.up;
        let mut came = 0;
        let opened = INTO.with_borrow_mut(|into| {
            let opened = self.session.open(into, |room| {
                came = room.len().min(up.len()).min(most);
                if came == 0 && !room.is_empty() {
                    return Err(ErrorKind::WouldBlock.into());
                }
                room[..came].copy_from_slice(&up[..came]);
                Ok(came)
            });
            if let Ok(Opened::Octets(octets)) = opened {
                let heard = into[..octets].iter().enumerate();
                let said = heard.map(|(at, octet)| *octet == said(self.up_heard + at));
                assert!(said.fold(true, |all, one| all & one), "not what was said");
                self.up_heard += octets;
            }
            opened
        });
        up.drain(..came);
        assert!(self.up_heard <= self.up_said, "more was heard than was said");
        match opened {
            Ok(Opened::Octets(octets)) => assert!(octets == 0 || self.session.is_open()),
            Ok(Opened::Cleartext(_)) => {
                assert!(self.is_spoilt || !self.is_sound, "taken for a client without TLS");
                self.is_over = true;
            }
            Ok(Opened::End) => panic!("an end that nobody made"),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
            Err(fault) => {
                assert_eq!(fault.kind(), ErrorKind::InvalidData);
                assert!(self.is_spoilt || !self.is_sound, "refused: {fault}");
                self.is_over = true;
            }
        }
    }

    /// The socket takes so many octets of what waits, and the client reads all that came.
    fn carry_down(&mut self, most: usize) {
        let taken = self.session.unsent().len().min(most);
        self.down.extend_from_slice(&self.session.unsent()[..taken]);
        self.session.sent(taken);
        // The client's library trusts that no fault is found once it has said goodbye.
        self.client_is_over |= self.client_said_goodbye && self.is_spoilt;
        while !self.down.is_empty() && !self.client_is_over {
            let read = self.client.read_tls(&mut &self.down[..]);
            let Ok(read @ 1..) = read else { break };
            self.down.drain(..read);
            if let Err(fault) = self.client.process_new_packets() {
                assert!(self.is_spoilt || !self.is_sound, "the client refuses: {fault}");
                self.client_is_over = true;
            }
            self.client_hears();
        }
        self.client_writes();
    }

    fn client_hears(&mut self) {
        let mut plain = Vec::new();
        match self.client.reader().read_to_end(&mut plain) {
            Ok(_) => {}
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
            Err(fault) => assert!(self.is_spoilt, "the client hears {fault}"),
        }
        for octet in plain {
            assert_eq!(octet, said(self.down_heard), "the client hears something else");
            self.down_heard += 1;
        }
        assert!(self.down_heard <= self.down_said);
    }

    /// Carries octets both ways until nothing moves any more.
    fn carry_all(&mut self) {
        for _ in 0..10_000 {
            let before = (self.up.len(), self.down.len(), self.session.unsent().len());
            self.carry_up(usize::MAX);
            self.carry_down(usize::MAX);
            self.check();
            let after = (self.up.len(), self.down.len(), self.session.unsent().len());
            let is_still = before == after && (self.up.is_empty() || self.stands_still());
            if is_still {
                return;
            }
        }
        panic!("octets go round and round");
    }

    fn stands_still(&self) -> bool {
        self.is_over || self.session.is_closed() || self.session.has_said_goodbye()
    }

    fn client_says_goodbye(&mut self) {
        self.client.send_close_notify();
        self.client_said_goodbye = true;
        self.client_writes();
        // In the middle of a handshake it may be taken for a fault, and nothing follows.
        self.client_is_over |= self.client.is_handshaking();
        self.is_sound &= !self.client.is_handshaking();
    }

    fn say_goodbye(&mut self) {
        if !self.is_over && self.session.unsent().is_empty() {
            self.session.say_goodbye();
        }
    }

    fn change_keys(&mut self) {
        if self.changes < CHANGES_MAX && !self.client_said_goodbye && !self.client_is_over {
            self.changes += usize::from(self.client.refresh_traffic_keys().is_ok());
            self.client_writes();
        }
    }

    /// The client's socket ends, with all that is on its way.
    fn end(&mut self) {
        if self.stands_still() {
            return;
        }
        let ended = self.session.open(&mut vec![0; SCRATCH], |_| Ok(0));
        assert_eq!(ended.expect("an end is no fault"), Opened::End);
        self.is_spoilt = true;
        self.is_over = true;
    }

    fn spoil(&mut self, how: impl FnOnce(&mut Vec<u8>, usize), much: usize) {
        self.client_writes();
        if !self.up.is_empty() {
            self.is_spoilt = true;
            let at = much % self.up.len();
            how(&mut self.up, at);
            self.up.truncate(SAID_MAX);
        }
    }

    fn spoil_down(&mut self, much: usize) {
        if !self.down.is_empty() {
            self.is_spoilt = true;
            let at = much % self.down.len();
            self.down[at] ^= 1 << (much % 8);
        }
    }

    fn mix_in(&mut self, octets: &[u8]) {
        self.is_spoilt = true;
        self.up.extend_from_slice(octets);
        self.up.truncate(SAID_MAX);
    }

    /// Records of one octet each.
    fn dribble(&mut self, kind: u8, count: usize) {
        self.mix_in(&[kind, 3, 3, 0, 1, 1].repeat(count));
    }

    /// The beginning of a long hello.
    fn claim(&mut self, length: usize) {
        let length = (length as u32).to_be_bytes();
        let message = [22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 3, length[1], length[2], length[3]];
        self.mix_in(&message);
    }

    fn check(&self) {
        assert!(self.session.begun() <= BEGUN_MAX, "{} are kept", self.session.begun());
        let unsent = self.session.unsent().len();
        assert!(unsent <= UNSENT_MAX, "{unsent} wait for the socket");
        assert!(self.session.certificate().is_none() || self.session.is_open());
    }

    /// Lets everything arrive, if nobody has touched it.
    fn settle(&mut self) {
        self.carry_all();
        if self.is_spoilt || !self.is_sound {
            return;
        }
        if self.session.has_said_goodbye() {
            return;
        }
        if !self.client_said_goodbye {
            assert!(self.session.is_open() && !self.client.is_handshaking(), "no handshake");
            self.client_says(777);
            self.says(70_000);
            self.carry_all();
        }
        assert_eq!((self.up_heard, self.down_heard), (self.up_said, self.down_said));
        assert_eq!(self.session.begun(), 0, "something is kept of nothing");
        assert_eq!(self.session.is_closed(), self.client_said_goodbye);
    }
}

/// The octet that stands at this place of what a side says.
fn said(at: usize) -> u8 {
    (at % 251) as u8
}
