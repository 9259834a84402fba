//! gRPC messages whose every octet is known beforehand, and the check that they came unharmed.
//!
//! A message is the five-octet prefix and a payload: a pattern with an odd period, so that a frame
//! left out, doubled or swapped with its neighbour shows; in a request there is an envelope of
//! Spark Connect around it. Nothing here allocates for each message: a rig that is slow measures
//! itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::envelope::{Method, Stamp};
use crate::fault::Fault;

/// Octets before each gRPC message: one flag, four of length.
pub const PREFIX: usize = 5;
/// The longest pattern that a stub driver will make: 64 MiB.
pub const SIZE_MAX: usize = 64 << 20;
/// A prime, so that no frame size is a multiple of it.
const PERIOD: usize = 251;
/// So many messages in a row differ from one another.
const VARIANTS: usize = 3;

/// The messages of one kind and size, made once and shared.
#[derive(Clone, Debug)]
pub struct Messages {
    variants: [Bytes; VARIANTS],
    size: usize,
}

impl Messages {
    /// Answers: nothing but a pattern of `size` octets, [`SIZE_MAX`] at most.
    #[must_use]
    pub fn answers(size: usize) -> Self {
        Self::of(size, |pattern| pattern)
    }

    /// Requests of a method with a pattern of `size` octets in them, [`SIZE_MAX`] at most, as their
    /// client sends them or as a driver must get them.
    #[must_use]
    pub fn requests(method: Method, size: usize, stamp: Option<&Stamp>) -> Self {
        let stamp = stamp.map_or(&[][..], Stamp::octets);
        Self::of(size, |pattern| [&method.request(&pattern), stamp].concat())
    }

    fn of(size: usize, payload: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let size = size.min(SIZE_MAX);
        let make = |variant| framed(&payload(pattern(size, variant)));
        Self { variants: std::array::from_fn(make), size }
    }

    /// Octets of the pattern in each message.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Message number `index` of a body, prefix included.
    #[must_use]
    pub fn number(&self, index: u64) -> &Bytes {
        let [first, second, third] = &self.variants;
        match index % 3 {
            0 => first,
            1 => second,
            _ => third,
        }
    }

    /// Octets of each message, prefix included.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.number(0).len()
    }
}

fn pattern(size: usize, variant: usize) -> Vec<u8> {
    let first = variant * 83;
    let octet = |at: usize| u8::try_from((first + at) % PERIOD).unwrap_or_default();
    (0..size).map(octet).collect()
}

fn framed(payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + payload.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    message.extend_from_slice(payload);
    message.freeze()
}

/// Compares a body, in whatever pieces it comes, with the messages it should consist of.
#[derive(Debug)]
pub struct Check {
    messages: Messages,
    first: u64,
    complete: u64,
    at: usize,
}

impl Check {
    /// Expects a body of `messages`, from number `first` on.
    #[must_use]
    pub fn new(messages: Messages, first: u64) -> Self {
        Self { messages, first, complete: 0, at: 0 }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// [`Fault::Content`] at the first octet that is not the one expected.
    pub fn take(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        while !piece.is_empty() {
            let message = self.messages.number(self.first.wrapping_add(self.complete));
            let rest = message.get(self.at..).unwrap_or_default();
            let (now, later) = piece.split_at(rest.len().min(piece.len()));
            if rest.get(..now.len()) != Some(now) {
                let same = rest.iter().zip(now).take_while(|(a, b)| a == b).count();
                return Err(Fault::Content { message: self.complete, offset: self.at + same });
            }
            self.at += now.len();
            if self.at == self.messages.octets() {
                self.at = 0;
                self.complete += 1;
            }
            piece = later;
        }
        Ok(())
    }

    /// Octets of each message.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.messages.octets()
    }

    /// How many whole messages came so far.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// How many whole messages came, once the body has ended.
    ///
    /// # Errors
    /// [`Fault::Count`] if the body ended within a message.
    pub fn end(&self) -> Result<u64, Fault> {
        if self.at == 0 {
            return Ok(self.complete);
        }
        let (wanted, got) = (self.messages.octets() as u64, self.at as u64);
        Err(Fault::Count { what: "octets of the last message", wanted, got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(messages: &Messages, count: u64) -> Vec<u8> {
        (0..count).flat_map(|index| messages.number(index).to_vec()).collect()
    }

    #[test]
    fn a_body_is_accepted_however_it_is_cut() {
        let messages = Messages::answers(700);
        let whole = body(&messages, 5);
        for cut in [1, 4, 5, 6, 704, 705, 706, 3525] {
            let mut check = Check::new(messages.clone(), 0);
            for piece in whole.chunks(cut) {
                check.take(piece).unwrap();
            }
            assert_eq!(check.end().unwrap(), 5, "pieces of {cut}");
        }
    }

    #[test]
    fn the_prefix_tells_the_length_of_the_payload() {
        assert_eq!(&Messages::answers(0x0102).number(0)[..PREFIX], &[0, 0, 0, 1, 2]);
    }

    #[test]
    fn one_wrong_octet_is_named_by_its_place() {
        let messages = Messages::answers(300);
        let mut wrong = body(&messages, 2);
        wrong[305 + 7] ^= 1;
        let fault = Check::new(messages, 0).take(&wrong).unwrap_err();
        assert!(matches!(fault, Fault::Content { message: 1, offset: 7 }), "{fault}");
    }

    #[test]
    fn frames_in_the_wrong_order_are_found() {
        let messages = Messages::answers(1 << 16);
        let whole = messages.number(0);
        let mut check = Check::new(messages.clone(), 0);
        check.take(&whole[..16384]).unwrap();
        assert!(check.take(&whole[32768..49152]).is_err());
    }

    #[test]
    fn messages_in_the_wrong_order_are_found() {
        let messages = Messages::answers(64);
        assert!(Check::new(messages.clone(), 0).take(messages.number(1)).is_err());
    }

    #[test]
    fn a_body_is_counted_from_where_it_should_begin() {
        let messages = Messages::answers(64);
        assert!(Check::new(messages.clone(), 7).take(messages.number(7)).is_ok());
        assert!(Check::new(messages.clone(), 7).take(messages.number(6)).is_err());
    }

    #[test]
    fn a_body_that_ends_early_is_found() {
        let messages = Messages::answers(64);
        let mut check = Check::new(messages.clone(), 0);
        check.take(&messages.number(0)[..40]).unwrap();
        assert!(matches!(check.end(), Err(Fault::Count { wanted: 69, got: 40, .. })));
    }

    #[test]
    fn a_stamp_that_is_missing_wrong_or_too_much_is_found() {
        let (ann, bob) = (Stamp::of("ann", "Ann"), Stamp::of("bob", "Bob"));
        let requests = |stamp: Option<&Stamp>| Messages::requests(Method::Config, 64, stamp);
        let found = |came: Option<&Stamp>, due: Option<&Stamp>| {
            Check::new(requests(due), 0).take(requests(came).number(0)).is_err()
        };
        assert!(!found(Some(&ann), Some(&ann)) && !found(None, None));
        assert!(found(None, Some(&ann)));
        assert!(found(Some(&bob), Some(&ann)));
        assert!(found(Some(&ann), None));
    }
}
