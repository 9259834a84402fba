//! Huffman strings (RFC 7541, 5.2): validation and decoding.
//!
//! Every received value is validated; decoding happens on demand. Only validated strings may be
//! decoded: the decoder relies on the validated length.

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::codes::{
    BLANK_LAST, COUNT, DIRTY, EOS_SEEN, LONG, PADDED_MAX, SHORT, STEPS,
};

/// The result of validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Length of the decoded text, in octets.
    pub(super) decoded: usize,
    /// Whether it has no NUL, CR or LF, and no SP or HTAB at its ends.
    pub(super) clean: bool,
}

/// Validates a Huffman string.
pub(super) fn check(octets: &[u8]) -> Result<Checked, DecodeError> {
    let run = check_in_lanes(octets).unwrap_or_else(|| Run::default().over(octets));
    if run.seen & EOS_SEEN != 0 {
        return Err(DecodeError::HuffmanEos);
    }
    if run.state >> 8 > PADDED_MAX {
        return Err(DecodeError::HuffmanPadding);
    }
    // Padding is shorter than an octet, so the last symbol ended in the last step.
    let blank = run.state & BLANK_LAST != 0 || begins_blank(octets);
    Ok(Checked { decoded: run.count, clean: run.seen & DIRTY == 0 && !blank })
}

/// The state machine of [`STEPS`] with its accumulated events.
#[derive(Clone, Copy, Default)]
struct Run {
    /// The state in the high octet, the events of the last step in the low octet.
    state: u16,
    /// The union of all events.
    seen: u16,
    count: usize,
}

impl Run {
    fn over(mut self, octets: &[u8]) -> Self {
        for &octet in octets {
            self.step(octet);
        }
        self
    }

    #[inline]
    fn step(&mut self, octet: u8) {
        let at = (self.state & 0xff00) | u16::from(octet);
        // The table has an entry for every `u16`, so there is no branch here.
        let step = STEPS.get(usize::from(at)).copied().unwrap_or(EOS_SEEN);
        self.state = step;
        self.seen |= step;
        self.count = self.count.wrapping_add(usize::from(step & COUNT));
    }

    /// A run without events that starts in the state of this one.
    fn continued(self) -> Self {
        Self { state: self.state, ..Self::default() }
    }

    /// Joins two runs. `None`: `next` started with the wrong `guess` of this run's final state.
    fn joined(self, guess: Self, next: Self) -> Option<Self> {
        (self.state >> 8 == guess.state >> 8).then_some(Self {
            state: next.state,
            seen: self.seen | next.seen,
            count: self.count.wrapping_add(next.count),
        })
    }
}

/// Minimum length for four lanes, in octets.
const LANES_MIN: usize = 128;
/// Octets in front of a lane that synchronise its state.
const LANE_OVERLAP: usize = 24;

/// Validates the four quarters of a string in parallel: the steps of one lane depend on each
/// other, the lanes do not.
///
/// The initial state of a lane is unknown. Since Huffman codes are self-synchronising, each lane
/// starts a few octets earlier and guesses its state. `None`: a guess was wrong, or the string is
/// too short.
fn check_in_lanes(octets: &[u8]) -> Option<Run> {
    if octets.len() < LANES_MIN {
        return None;
    }
    let (first, second) = octets.split_at_checked(octets.len() >> 1)?;
    let ((a, b), (c, d)) = (halves(first)?, halves(second)?);
    let [mut ahead_b, mut ahead_c, mut ahead_d] = [Run::default(); 3];
    for ((&a, &b), &c) in tail(a)?.iter().zip(tail(b)?).zip(tail(c)?) {
        ahead_b.step(a);
        ahead_c.step(b);
        ahead_d.step(c);
    }
    let [mut run_a, mut run_b, mut run_c, mut run_d] =
        [Run::default(), ahead_b.continued(), ahead_c.continued(), ahead_d.continued()];
    // The halves of an odd length differ by one octet.
    let shared = a.len();
    let (b, rest_b) = b.split_at_checked(shared)?;
    let (c, rest_c) = c.split_at_checked(shared)?;
    let (d, rest_d) = d.split_at_checked(shared)?;
    for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
        run_a.step(a);
        run_b.step(b);
        run_c.step(c);
        run_d.step(d);
    }
    let [run_b, run_c] = [run_b.over(rest_b), run_c.over(rest_c)];
    run_a.joined(ahead_b, run_b)?.joined(ahead_c, run_c)?.joined(ahead_d, run_d.over(rest_d))
}

fn halves(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    octets.split_at_checked(octets.len() >> 1)
}

fn tail(octets: &[u8]) -> Option<&[u8]> {
    octets.get(octets.len().checked_sub(LANE_OVERLAP)?..)
}

/// Whether the first symbol is SP (six bits, 010100) or HTAB (24 bits, ff ff ea).
fn begins_blank(octets: &[u8]) -> bool {
    octets.first().is_some_and(|first| first >> 2 == 0b01_0100)
        || octets.starts_with(&[0xff, 0xff, 0xea])
}

/// Appends the decoded text of a validated string; `decoded` is its length.
pub(super) fn append(octets: &[u8], decoded: usize, out: &mut Vec<u8>) {
    out.reserve(decoded);
    let mut symbols = Symbols::new(octets, decoded);
    // In blocks, so that the capacity of the vector is checked once per block.
    let mut block = [0; 32];
    loop {
        let filled = block.iter_mut().zip(&mut symbols).map(|(to, symbol)| *to = symbol).count();
        out.extend_from_slice(block.get(..filled).unwrap_or_default());
        if filled < block.len() {
            return;
        }
    }
}

/// An iterator over the decoded text of a validated string; `left` octets of text remain.
pub(super) struct Symbols<'a> {
    rest: &'a [u8],
    left: usize,
    /// The next bits, from the top; zeros below.
    window: u64,
    /// Number of valid bits in `window`.
    filled: u32,
}

impl<'a> Symbols<'a> {
    pub(super) fn new(octets: &'a [u8], decoded: usize) -> Self {
        Self { rest: octets, left: decoded, window: 0, filled: 0 }
    }

    fn refill(&mut self) {
        if let Some(octets) = self.rest.first_chunk::<4>() {
            let more = u64::from(u32::from_be_bytes(*octets));
            self.window |= more << 32_u32.saturating_sub(self.filled);
            self.filled = self.filled.saturating_add(32);
            self.rest = self.rest.get(4..).unwrap_or_default();
            return;
        }
        while self.filled <= 56 {
            let Some((&octet, tail)) = self.rest.split_first() else { return };
            self.window |= u64::from(octet) << 56_u32.saturating_sub(self.filled);
            self.filled = self.filled.saturating_add(8);
            self.rest = tail;
        }
    }

    #[inline]
    fn consume(&mut self, bits: u8) {
        self.window <<= bits & 63;
        self.filled = self.filled.saturating_sub(bits.into());
    }
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        if self.filled < 32 {
            self.refill();
        }
        let [top, ..] = self.window.to_be_bytes();
        let (symbol, bits) = SHORT.get(usize::from(top)).copied()?;
        if bits != 0 {
            self.consume(bits);
            return Some(symbol);
        }
        let [a, b, c, d, ..] = self.window.to_be_bytes();
        let ahead = u32::from_be_bytes([a, b, c, d]);
        let at = LONG.partition_point(|&(_, highest, _)| highest < ahead);
        let &(symbol, _, bits) = LONG.get(at)?;
        self.consume(bits);
        Some(symbol)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::codes::tests::huffman;
    use proptest::prelude::*;

    fn text(octets: &[u8]) -> Vec<u8> {
        let decoded = check(octets).unwrap().decoded;
        Symbols::new(octets, decoded).collect()
    }

    fn clean(text: &[u8]) -> bool {
        let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
        let dirty = text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
        !(dirty || blank(text.first()) || blank(text.last()))
    }

    #[test]
    fn the_example_of_rfc_7541_c_4_1() {
        let octets = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(text(&octets), b"www.example.com");
        assert_eq!(huffman(b"www.example.com"), octets);
    }

    #[test]
    fn every_pair_of_octets_survives_encoding_and_decoding() {
        for pair in 0..=u16::MAX {
            let pair = pair.to_be_bytes();
            let coded = huffman(&pair);
            assert_eq!(check(&coded), Ok(Checked { decoded: 2, clean: clean(&pair) }), "{pair:?}");
            assert_eq!(text(&coded), pair);
        }
    }

    #[test]
    fn eos_is_rejected_at_any_position() {
        assert_eq!(check(&[0xff; 4]), Err(DecodeError::HuffmanEos));
        let mut coded = vec![0b0001_1000];
        coded.extend([0xff; 200]);
        assert_eq!(check(&coded), Err(DecodeError::HuffmanEos));
        coded.extend(huffman(&[b'a'; 200]));
        assert_eq!(check(&coded), Err(DecodeError::HuffmanEos));
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        assert_eq!(check(&[]), Ok(Checked { decoded: 0, clean: true }));
        assert_eq!(check(&[0b0001_1111]).map(|checked| checked.decoded), Ok(1));
        assert_eq!(check(&[0b0001_1110]), Err(DecodeError::HuffmanPadding));
        assert_eq!(check(&[0b0001_1000]), Err(DecodeError::HuffmanPadding));
        assert_eq!(check(&[0xff]), Err(DecodeError::HuffmanPadding));
        assert_eq!(check(&[0b0001_1111, 0xff]), Err(DecodeError::HuffmanPadding));
        // Seven bits: the code of '*' (eight bits) before and one bit into the next octet.
        assert_eq!(check(&[0b0000_0000, 0b0011_1111]).map(|checked| checked.decoded), Ok(2));
    }

    #[test]
    fn lanes_synchronise_in_text() {
        let token: Vec<u8> =
            (0..900_u32).map(|n| b"Az0-_9eyJ"[(n * n % 89 % 9) as usize]).collect();
        assert!(check_in_lanes(&huffman(&token)).is_some());
    }

    #[test]
    fn lanes_and_a_single_run_agree_at_every_length() {
        let coded =
            huffman(&[&b"Bearer eyJhbGciOiJSUzI1NiJ9."[..], b"\xff\xfe 0\n9"].concat().repeat(40));
        let mut lanes = 0;
        for end in LANES_MIN..coded.len() {
            let one = Run::default().over(&coded[..end]);
            let Some(four) = check_in_lanes(&coded[..end]) else { continue };
            assert_eq!((four.state, four.seen, four.count), (one.state, one.seen, one.count));
            lanes += 1;
        }
        assert!(lanes > 100, "{lanes}");
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip(plain in prop::collection::vec(any::<u8>(), 0..600)) {
            let coded = huffman(&plain);
            let checked = Checked { decoded: plain.len(), clean: clean(&plain) };
            prop_assert_eq!(check(&coded), Ok(checked));
            prop_assert_eq!(text(&coded), plain);
        }

        #[test]
        fn a_valid_string_equals_the_encoding_of_its_text(
            octets in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            if check(&octets).is_ok() {
                prop_assert_eq!(huffman(&text(&octets)), octets);
            }
        }
    }
}
