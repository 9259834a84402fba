//! Incremental inflating of compressed messages.
//!
//! The inflated message is scanned and forwarded, so that the driver does not inflate it again and
//! cannot interpret it differently. Work and memory are limited by the received octets and the
//! maximum inflated length; the claimed size of a message has no effect.

use std::io::{self, ErrorKind, Write};

use flate2::write::{GzDecoder, ZlibDecoder};
use sconce_filters::Refusal;

use crate::grpc::user_context::refusals;

/// Maximum number of members of a gzip message. Normal clients send one; each needs a decoder.
const MEMBERS_MAX: usize = 16;
/// Maximum length of a member's header, in octets. Normal headers have 10 octets; the decoder
/// buffers optional parts (name, comment, extra), of up to 64 KiB each.
const MEMBER_HEADER_MAX: usize = 512;
/// Memory of a decoder, in octets, mostly for its window.
pub(super) const DECODER_SIZE: usize = 48 * 1024;

/// The decoder of one compressed message.
#[derive(Debug)]
pub(super) struct Inflater {
    /// Octets of the compressed message still to come.
    left: usize,
    octets_max: usize,
    /// Number of started members.
    members: usize,
    /// Received octets of the latest member's header.
    header_octets: usize,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    Gzip(GzDecoder<InflatedBuffer>),
    Zlib(ZlibDecoder<InflatedBuffer>),
}

/// The inflated message behind its front, with a length limit.
#[derive(Debug)]
struct InflatedBuffer {
    octets: Vec<u8>,
    octets_max: usize,
}

impl Inflater {
    /// A gzip message of this compressed length. It is inflated behind `front`, to at most
    /// `octets_max` octets.
    pub(super) fn gzip(length: usize, front: &[u8], octets_max: usize) -> Self {
        let decoder = Decoder::Gzip(GzDecoder::new(InflatedBuffer::behind(front, octets_max)));
        Self { left: length, octets_max, members: 1, header_octets: 0, decoder }
    }

    /// A zlib message; gRPC calls zlib deflate.
    pub(super) fn zlib(length: usize, front: &[u8], octets_max: usize) -> Self {
        let decoder = Decoder::Zlib(ZlibDecoder::new(InflatedBuffer::behind(front, octets_max)));
        Self { left: length, octets_max, members: 1, header_octets: 0, decoder }
    }

    /// Octets of the compressed message still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Memory of the inflated octets and of the decoder, in octets.
    pub(super) fn buffered(&self) -> usize {
        let buffer = match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zlib(decoder) => decoder.get_ref(),
        };
        buffer.octets.len().saturating_add(DECODER_SIZE)
    }

    /// Inflates octets of the compressed message.
    pub(super) fn inflate(mut self: Box<Self>, octets: &[u8]) -> Result<Box<Self>, Refusal> {
        self.left = self.left.saturating_sub(octets.len());
        let mut rest = octets;
        while !rest.is_empty() {
            let written = match &mut self.decoder {
                Decoder::Gzip(decoder) if decoder.header().is_none() => {
                    let left = MEMBER_HEADER_MAX.saturating_sub(self.header_octets);
                    let written = decoder.write(rest.get(..left).unwrap_or(rest));
                    if decoder.header().is_none() {
                        self.header_octets =
                            self.header_octets.saturating_add(*written.as_ref().unwrap_or(&0));
                    }
                    written
                }
                Decoder::Gzip(decoder) => decoder.write(rest),
                Decoder::Zlib(decoder) => decoder.write(rest),
            };
            let written = written.map_err(|error| self.refusal(&error))?;
            rest = rest.get(written..).unwrap_or_default();
            if written == 0 {
                self = self.next_member()?;
            }
        }
        Ok(self)
    }

    /// Starts the next gzip member (RFC 1952, 2.2). Octets behind zlib are an error.
    fn next_member(self: Box<Self>) -> Result<Box<Self>, Refusal> {
        let Self { left, octets_max, members, decoder, .. } = *self;
        match decoder {
            Decoder::Gzip(decoder) if members < MEMBERS_MAX => {
                let buffer = decoder.finish().map_err(|error| refusal(&error, octets_max))?;
                let decoder = Decoder::Gzip(GzDecoder::new(buffer));
                let members = members.saturating_add(1);
                Ok(Box::new(Self { left, octets_max, members, header_octets: 0, decoder }))
            }
            Decoder::Gzip(_) | Decoder::Zlib(_) => Err(refusals::invalid_compression()),
        }
    }

    /// The front and the inflated message.
    pub(super) fn finish(self) -> Result<Vec<u8>, Refusal> {
        let octets_max = self.octets_max;
        let buffer = match self.decoder {
            Decoder::Gzip(decoder) => decoder.finish(),
            Decoder::Zlib(decoder) => finish_zlib(decoder),
        };
        buffer.map(|buffer| buffer.octets).map_err(|error| refusal(&error, octets_max))
    }

    fn refusal(&self, error: &io::Error) -> Refusal {
        refusal(error, self.octets_max)
    }
}

/// Finishes a zlib message. The library accepts truncated messages; a complete one is recognised
/// because it consumes no further octet.
fn finish_zlib(mut decoder: ZlibDecoder<InflatedBuffer>) -> io::Result<InflatedBuffer> {
    if decoder.write(&[0])? == 0 { decoder.finish() } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn refusal(error: &io::Error, octets_max: usize) -> Refusal {
    if error.kind() == ErrorKind::QuotaExceeded {
        refusals::too_large(octets_max)
    } else {
        refusals::invalid_compression()
    }
}

impl InflatedBuffer {
    fn behind(front: &[u8], octets_max: usize) -> Self {
        Self { octets: front.to_vec(), octets_max: octets_max.saturating_add(front.len()) }
    }
}

impl Write for InflatedBuffer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.octets_max.saturating_sub(self.octets.len()) < octets.len() {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::user_context::samples::{gzip, zlib};
    use sconce_filters::Code;

    fn inflated(inflater: Inflater, octets: &[u8], piece: usize) -> Result<Vec<u8>, Refusal> {
        let mut inflater = Box::new(inflater);
        for octets in octets.chunks(piece) {
            inflater = inflater.inflate(octets)?;
        }
        assert_eq!(inflater.left(), 0);
        inflater.finish()
    }

    /// The inflated message, equal for every split.
    fn ungzip(octets: &[u8], octets_max: usize) -> Result<Vec<u8>, Code> {
        let inflate = |piece| {
            let inflater = Inflater::gzip(octets.len(), b"<", octets_max);
            inflated(inflater, octets, piece).map_err(|refusal| refusal.code)
        };
        let whole = inflate(octets.len().max(1));
        (1..octets.len()).for_each(|piece| assert_eq!(inflate(piece), whole));
        whole
    }

    fn unzlib(octets: &[u8], octets_max: usize) -> Result<Vec<u8>, Code> {
        let inflate = |piece| {
            let inflater = Inflater::zlib(octets.len(), b"<", octets_max);
            inflated(inflater, octets, piece).map_err(|refusal| refusal.code)
        };
        let whole = inflate(octets.len().max(1));
        (1..octets.len()).for_each(|piece| assert_eq!(inflate(piece), whole));
        whole
    }

    #[test]
    fn a_message_is_inflated_behind_its_front() {
        assert_eq!(ungzip(&gzip(b"a plan"), 6), Ok(b"<a plan".to_vec()));
        assert_eq!(unzlib(&zlib(b"a plan"), 6), Ok(b"<a plan".to_vec()));
        assert_eq!(ungzip(&gzip(b""), 0), Ok(b"<".to_vec()));
        assert_eq!(unzlib(&zlib(b""), 0), Ok(b"<".to_vec()));
    }

    #[test]
    fn all_gzip_members_are_inflated_up_to_the_maximum_number() {
        let two = [gzip(b"a "), gzip(b"plan")].concat();
        assert_eq!(ungzip(&two, 6), Ok(b"<a plan".to_vec()));
        let most = gzip(b"x").repeat(MEMBERS_MAX);
        assert_eq!(ungzip(&most, 99).map(|octets| octets.len()), Ok(MEMBERS_MAX + 1));
        let more = gzip(b"x").repeat(MEMBERS_MAX + 1);
        assert_eq!(ungzip(&more, 99), Err(Code::InvalidArgument));
    }

    #[test]
    fn a_member_with_a_long_header_is_refused() {
        let whole = gzip(b"a plan");
        let named = |length: usize| {
            let mut octets = whole[..10].to_vec();
            octets[3] = 8;
            octets.extend(vec![b'n'; length]);
            [&octets, &b"\0"[..], &whole[10..]].concat()
        };
        assert_eq!(ungzip(&named(500), 6), Ok(b"<a plan".to_vec()));
        assert_eq!(ungzip(&named(600), 6), Err(Code::InvalidArgument));
        assert_eq!(ungzip(&[named(500), named(500)].concat(), 12).map(|all| all.len()), Ok(13));
        let endless = [&named(600)[..600]].concat();
        let mut inflater = Box::new(Inflater::gzip(1 << 20, &[], 99));
        for octets in endless.chunks(100) {
            match inflater.inflate(octets) {
                Ok(more) => inflater = more,
                Err(refusal) => return assert_eq!(refusal.code, Code::InvalidArgument),
            }
        }
        panic!("a header without an end is accepted");
    }

    #[test]
    fn octets_behind_a_message_are_refused() {
        for garbage in [&b"\0"[..], b"\x1f", b"\x1f\x8b\x08\0", b"garbage, and enough of it"] {
            let octets = [&gzip(b"a plan"), garbage].concat();
            assert_eq!(ungzip(&octets, 99), Err(Code::InvalidArgument), "{garbage:?}");
            let octets = [&zlib(b"a plan"), garbage].concat();
            assert_eq!(unzlib(&octets, 99), Err(Code::InvalidArgument), "{garbage:?}");
        }
    }

    #[test]
    fn a_truncated_or_corrupt_message_is_refused() {
        let (gzip, zlib) = (gzip(b"a plan, a plan, a plan"), zlib(b"a plan, a plan, a plan"));
        for length in 0..gzip.len() {
            assert_eq!(ungzip(&gzip[..length], 99), Err(Code::InvalidArgument), "{length}");
        }
        for length in 0..zlib.len() {
            assert_eq!(unzlib(&zlib[..length], 99), Err(Code::InvalidArgument), "{length}");
        }
        let last = |octets: &[u8]| [&octets[..octets.len() - 1], &[0xee]].concat();
        assert_eq!(ungzip(&last(&gzip), 99), Err(Code::InvalidArgument));
        assert_eq!(unzlib(&last(&zlib), 99), Err(Code::InvalidArgument));
    }

    #[test]
    fn a_message_that_inflates_above_the_limit_is_refused() {
        let bomb = vec![0; 1 << 20];
        let inflate = |octets: &[u8], inflater| inflated(inflater, octets, 100);
        let octets = gzip(&bomb);
        let refusal = inflate(&octets, Inflater::gzip(octets.len(), &[], 5_000)).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::ResourceExhausted, "envelope.inflated"));
        let octets = zlib(&bomb);
        assert_eq!(inflate(&octets, Inflater::zlib(octets.len(), &[], 5_000)), Err(refusal));
        assert_eq!(ungzip(&gzip(b"a plan"), 5), Err(Code::ResourceExhausted));
    }
}
