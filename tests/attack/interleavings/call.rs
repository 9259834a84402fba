//! One call, as its peers mean it: what each of them has sent.

use std::collections::VecDeque;

/// One call, as its peers meant it.
pub(super) struct Call {
    pub(super) number: usize,
    /// The client's stream, and the driver's once it has come there.
    pub(super) id: u32,
    pub(super) stream: Option<u32>,
    /// Octets of the request and of the response that were sent, and how many of them were compared.
    pub(super) up: usize,
    pub(super) down: usize,
    pub(super) compared: [usize; 2],
    /// Messages that are to come to the driver with a stamp.
    pub(super) messages: VecDeque<Vec<u8>>,
    /// The client has ended its request, or reset the stream.
    pub(super) is_whole: bool,
    pub(super) is_cancelled: bool,
    pub(super) is_answered: bool,
    /// The driver has sent trailers with this status.
    pub(super) status: Option<u32>,
    /// The driver has reset the stream, or named a lower one in GOAWAY.
    pub(super) is_dropped: bool,
}

impl Call {
    pub(super) fn of(number: usize, id: u32) -> Self {
        Self {
            number,
            id,
            stream: None,
            up: 0,
            down: 0,
            compared: [0; 2],
            messages: VecDeque::new(),
            is_whole: false,
            is_cancelled: false,
            is_answered: false,
            status: None,
            is_dropped: false,
        }
    }

    /// Octets of a message of the response, without its prefix.
    pub(super) fn message(&self) -> usize {
        200 + self.number * 379 % 4000
    }

    /// Octets that the response lacks to the end of a message.
    pub(super) fn to_boundary(&self) -> usize {
        let whole = 5 + self.message();
        (whole - self.down % whole) % whole
    }

    pub(super) fn request_octet(&self, at: usize) -> u8 {
        u8::try_from((at * 31 + self.number * 17) % 251).unwrap()
    }

    pub(super) fn response_octet(&self, at: usize) -> u8 {
        let length = u32::try_from(self.message()).unwrap().to_be_bytes();
        match at % (5 + self.message()) {
            0 => 0,
            place @ 1..5 => length[place - 1],
            _ => u8::try_from((at * 29 + self.number * 13 + 7) % 251).unwrap(),
        }
    }

    /// The driver says nothing more on the stream.
    pub(super) fn is_over_at_driver(&self) -> bool {
        self.is_dropped || self.status.is_some()
    }
}
