//! Frame headers (RFC 9113, 4.1), frame types, flags and stream identifiers.
//!
//! Syntax only; [`connection`](crate::wire::connection) handles the meaning of frames.

/// Length of a frame header, in octets.
pub const HEADER_LEN: usize = 9;
/// Initial and smallest value of SETTINGS_MAX_FRAME_SIZE, in octets; sconce advertises no more.
pub const DEFAULT_MAX_FRAME_SIZE: u32 = 16_384;
/// The client connection preface, sent before the first frame (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream identifier; 0 is the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);
    /// The largest stream identifier.
    pub const MAX: Self = Self(0x7fff_ffff);

    /// The identifier without the reserved bit, which receivers ignore (RFC 9113, 4.1).
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & 0x7fff_ffff)
    }

    /// The identifier as a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether the number is odd: a stream opened by the client (RFC 9113, 5.1.1).
    #[must_use]
    pub const fn is_client_initiated(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A frame's type (RFC 9113, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// DATA.
    Data = 0,
    /// HEADERS: a header block, or its first fragment.
    Headers = 1,
    /// PRIORITY: deprecated and ignored.
    Priority = 2,
    /// RST_STREAM.
    Reset = 3,
    /// SETTINGS, or its acknowledgement.
    Settings = 4,
    /// PUSH_PROMISE: always an error, since sconce disables server push.
    PushPromise = 5,
    /// PING, or its acknowledgement.
    Ping = 6,
    /// GOAWAY.
    GoAway = 7,
    /// WINDOW_UPDATE.
    WindowUpdate = 8,
    /// CONTINUATION: a further fragment of a header block.
    Continuation = 9,
    /// Any other type: ignored (RFC 9113, 5.5).
    Unknown = 0xff,
}

impl Kind {
    const fn from_octet(octet: u8) -> Self {
        match octet {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    const fn octet(self) -> u8 {
        self as u8
    }
}

/// A frame's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// ACK of SETTINGS and PING.
    pub const ACK: Self = Self(0x1);
    /// END_STREAM of DATA and HEADERS.
    pub const END_STREAM: Self = Self(0x1);
    /// END_HEADERS of HEADERS and CONTINUATION.
    pub const END_HEADERS: Self = Self(0x4);
    /// PADDED of DATA and HEADERS.
    pub const PADDED: Self = Self(0x8);
    /// PRIORITY of HEADERS.
    pub const PRIORITY: Self = Self(0x20);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the flags of `other` if `wanted`.
    #[must_use]
    pub const fn with(self, other: Self, wanted: bool) -> Self {
        if wanted { Self(self.0 | other.0) } else { self }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the payload, in octets.
    pub length: u32,
    /// The frame type.
    pub kind: Kind,
    /// The flags; their meaning depends on the frame type.
    pub flags: Flags,
    /// The stream, or [`StreamId::CONNECTION`].
    pub stream: StreamId,
}

impl FrameHeader {
    /// Reads a frame header.
    #[must_use]
    pub const fn parse(octets: [u8; HEADER_LEN]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = octets;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind: Kind::from_octet(kind),
            flags: Flags(flags),
            stream: StreamId::new(u32::from_be_bytes([s0, s1, s2, s3])),
        }
    }

    /// Writes a frame header. The length must be below 2^24.
    #[must_use]
    pub const fn octets(self) -> [u8; HEADER_LEN] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.number().to_be_bytes();
        [a, b, c, self.kind.octet(), self.flags.0, s0, s1, s2, s3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_header_survives_writing_and_parsing() {
        let head = FrameHeader {
            length: 0x01_02_03,
            kind: Kind::Headers,
            flags: Flags::END_STREAM.with(Flags::END_HEADERS, true),
            stream: StreamId::new(77),
        };
        assert_eq!(FrameHeader::parse(head.octets()), head);
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let head = FrameHeader::parse([0, 0, 0, 0, 0, 0x80, 0, 0, 5]);
        assert_eq!(head.stream, StreamId::new(5));
    }
}
