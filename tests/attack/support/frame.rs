//! HTTP/2 frames as octets, written from RFC 9113 and sharing nothing with the code under test.
//!
//! Builders never refuse: a test must be able to say anything, the wrong thing most of all.

/// Frame types of RFC 9113, section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags; ACK and END_STREAM share a bit.
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;

/// Error codes of RFC 9113, section 7.
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const SETTINGS_TIMEOUT: u32 = 4;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings of RFC 9113, section 6.5.2.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a code is called, for messages of failed cases.
pub fn code_name(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).map_or_else(|| format!("code {code}"), |name| (*name).to_string())
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = Vec::with_capacity(9 + payload.len());
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

pub fn data(stream: u32, end: bool, payload: &[u8]) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, payload)
}

/// DATA with a pad length octet and that much padding.
pub fn padded_data(stream: u32, end: bool, payload: &[u8], pad: u8) -> Vec<u8> {
    frame(DATA, PADDED | u8::from(end), stream, &padded(payload, pad))
}

pub fn padded(payload: &[u8], pad: u8) -> Vec<u8> {
    let mut out = vec![pad];
    out.extend_from_slice(payload);
    out.resize(out.len() + usize::from(pad), 0);
    out
}

pub fn headers(stream: u32, end: bool, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(end), stream, block)
}

pub fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (key, value) in values {
        payload.extend_from_slice(&key.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, &[])
}

pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend_from_slice(&code.to_be_bytes());
    frame(GOAWAY, 0, 0, &payload)
}

/// The five octets of a priority: dependency and weight.
pub fn priority_of(depends_on: u32) -> [u8; 5] {
    let id = depends_on.to_be_bytes();
    [id[0], id[1], id[2], id[3], 15]
}

pub fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &priority_of(depends_on))
}

/// A gRPC message: prefix of five octets, then `len` octets.
pub fn message(len: usize) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    out.resize(5 + len, b'm');
    out
}

/// One frame as it was received.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The four octets at `at`, as a number; zero if they are not there.
    pub fn word(&self, at: usize) -> u32 {
        self.payload
            .get(at..at + 4)
            .map_or(0, |octets| u32::from_be_bytes(octets.try_into().unwrap()))
    }

    /// The payload without padding and priority.
    pub fn content(&self) -> &[u8] {
        let mut from = 0;
        let mut to = self.payload.len();
        if self.has(PADDED) && (self.kind == DATA || self.kind == HEADERS) {
            from = 1;
            to = to.saturating_sub(usize::from(self.payload.first().copied().unwrap_or(0)));
        }
        if self.kind == HEADERS && self.has(WITH_PRIORITY) {
            from += 5;
        }
        self.payload.get(from..to).unwrap_or(&[])
    }
}

/// Cuts a run of octets into frames.
#[derive(Default)]
pub struct Parser {
    held: Vec<u8>,
    from: usize,
}

impl Parser {
    pub fn push(&mut self, octets: &[u8]) {
        if self.from > 0 {
            self.held.drain(..self.from);
            self.from = 0;
        }
        self.held.extend_from_slice(octets);
    }

    /// The octets that are not yet a frame.
    pub fn rest(&self) -> &[u8] {
        &self.held[self.from..]
    }

    pub fn skip(&mut self, octets: usize) {
        self.from += octets;
    }

    pub fn next(&mut self) -> Option<Frame> {
        let rest = &self.held[self.from..];
        let head = rest.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(9..9 + length)?.to_vec();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        self.from += 9 + length;
        Some(frame)
    }
}
