//! Huffman strings (RFC 7541 5.2): checking one without decoding it, and decoding one.
//!
//! The check runs on every value that arrives, the decoding only on what somebody reads. Never
//! decode what was not checked: the decoder trusts the length that the check found.

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::codes::{
    BLANK_LAST, COUNT, DIRTY, EOS_SEEN, LONG, PADDED_MAX, SHORT, STEPS,
};

/// What the check learned of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Octets of the text.
    pub(super) decoded: usize,
    /// No NUL, CR, LF in it, no SP or HTAB at either end.
    pub(super) clean: bool,
}

/// Checks a Huffman string.
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

/// The machine of [`STEPS`], and what it has seen.
#[derive(Clone, Copy, Default)]
struct Run {
    /// In the high octet; what the last step brought is below it.
    state: u16,
    /// All events so far.
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

    /// A run from this one's state that has seen nothing yet.
    fn continued(self) -> Self {
        Self { state: self.state, ..Self::default() }
    }

    /// Both runs as one, if the `next` began, at `guess`, in the state that this one ended in.
    fn joined(self, guess: Self, next: Self) -> Option<Self> {
        (self.state >> 8 == guess.state >> 8).then_some(Self {
            state: next.state,
            seen: self.seen | next.seen,
            count: self.count.wrapping_add(next.count),
        })
    }
}

/// From so many octets on, four lanes are faster than one.
const LANES_MIN: usize = 128;
/// How many octets a lane goes back to find its footing.
const LANE_OVERLAP: usize = 24;

/// Checks the four quarters of a string side by side, since one step must wait for the one before
/// it and four need not wait for each other.
///
/// A lane cannot know the state it starts in. But runs that start in different states soon meet
/// in the same one, so each begins a little earlier and guesses. `None` if a guess was wrong, or
/// if the string is not worth it.
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
    // The halves of an odd number differ by one octet.
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

/// Appends the text of a string that has been checked and holds `decoded` octets of text.
pub(super) fn append(octets: &[u8], decoded: usize, out: &mut Vec<u8>) {
    out.reserve(decoded);
    let mut symbols = Symbols::new(octets, decoded);
    // By the piece: the vector's room is looked at once for each, and not once for each octet.
    let mut piece = [0; 32];
    loop {
        let filled = piece.iter_mut().zip(&mut symbols).map(|(to, symbol)| *to = symbol).count();
        out.extend_from_slice(piece.get(..filled).unwrap_or_default());
        if filled < piece.len() {
            return;
        }
    }
}

/// The text of a string that has been checked and holds `left` octets of text.
pub(super) struct Symbols<'a> {
    rest: &'a [u8],
    left: usize,
    /// The bits that come next, from the top; zeros below.
    window: u64,
    /// How many bits of it are filled.
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
    fn every_pair_of_octets_comes_back() {
        for pair in 0..=u16::MAX {
            let pair = pair.to_be_bytes();
            let coded = huffman(&pair);
            assert_eq!(check(&coded), Ok(Checked { decoded: 2, clean: clean(&pair) }), "{pair:?}");
            assert_eq!(text(&coded), pair);
        }
    }

    #[test]
    fn eos_is_refused_wherever_it_stands() {
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
    fn lanes_find_their_footing_in_text() {
        let token: Vec<u8> =
            (0..900_u32).map(|n| b"Az0-_9eyJ"[(n * n % 89 % 9) as usize]).collect();
        assert!(check_in_lanes(&huffman(&token)).is_some());
    }

    #[test]
    fn lanes_and_one_run_see_the_same_at_every_length() {
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
        fn text_comes_back(plain in prop::collection::vec(any::<u8>(), 0..600)) {
            let coded = huffman(&plain);
            let checked = Checked { decoded: plain.len(), clean: clean(&plain) };
            prop_assert_eq!(check(&coded), Ok(checked));
            prop_assert_eq!(text(&coded), plain);
        }

        #[test]
        fn what_the_check_admits_codes_back_to_itself(
            octets in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            if check(&octets).is_ok() {
                prop_assert_eq!(huffman(&text(&octets)), octets);
            }
        }
    }
}
