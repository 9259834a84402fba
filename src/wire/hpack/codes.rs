//! The Huffman code of RFC 7541, appendix B, and tables computed from it at compile time.
//!
//! The code is canonical: codes of one length increase in the order of their symbols, so that the
//! lengths define the code. A wrong index fails the build.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time, where an error fails the build"
)]

/// Code length of each symbol, in bits; the last symbol is EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS: u16 = 256;
const LONGEST: u8 = 30;

/// A symbol and the bits of its code, the highest bit of the code at bit 31.
#[derive(Clone, Copy)]
struct Code {
    symbol: u16,
    bits: u32,
    length: u8,
}

/// Every code, the lowest first.
const CODES: [Code; 257] = codes();

const fn codes() -> [Code; 257] {
    let mut all = [Code { symbol: 0, bits: 0, length: 0 }; 257];
    let (mut length, mut next, mut filled) = (1, 0_u64, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                all[filled] = Code { symbol: symbol as u16, bits: next as u32, length };
                next += 1 << (32 - length);
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    all
}

/// For the next eight bits: the symbol and its code length in bits; length 0 means a longer code.
pub(super) static SHORT: [(u8, u8); 256] = short();

const fn short() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let mut at = 0;
    while CODES[at].length <= 8 {
        let code = CODES[at];
        let mut tail = 0;
        while tail < 1 << (8 - code.length) {
            table[(code.bits >> 24) as usize + tail] = (code.symbol as u8, code.length);
            tail += 1;
        }
        at += 1;
    }
    table
}

/// The codes above eight bits without EOS, lowest first: the symbol, the highest 32-bit value with
/// this code as prefix, and the code length in bits.
pub(super) static LONG: [(u8, u32, u8); LONG_COUNT] = long();

const LONG_COUNT: usize = {
    let mut count = 0;
    let mut symbol = 0;
    while symbol < EOS as usize {
        if LENGTHS[symbol] > 8 {
            count += 1;
        }
        symbol += 1;
    }
    count
};

const fn long() -> [(u8, u32, u8); LONG_COUNT] {
    let mut table = [(0, 0, 0); LONG_COUNT];
    let mut at = 0;
    while at < LONG_COUNT {
        let code = CODES[256 - LONG_COUNT + at];
        table[at] = (code.symbol as u8, code.bits | (u32::MAX >> code.length), code.length);
        at += 1;
    }
    table
}

/// The state machine of validation. Index: the state (high octet) and the next octet of input (low
/// octet). Value: the next state (high octet) and the events (low octet): [`COUNT`], [`DIRTY`],
/// [`EOS_SEEN`], [`BLANK_LAST`].
///
/// A state is an inner node of the code tree. State n of 0 to 7 is reached from the root by n ones;
/// these are the valid final states (RFC 7541, 5.2).
pub(super) static STEPS: [u16; 65_536] = steps();

/// Number of symbols completed by this octet: 0, 1 or 2.
pub(super) const COUNT: u16 = 0b11;
/// One of them is NUL, CR or LF.
pub(super) const DIRTY: u16 = 1 << 2;
/// One of them is EOS.
pub(super) const EOS_SEEN: u16 = 1 << 3;
/// The last of them is SP or HTAB.
pub(super) const BLANK_LAST: u16 = 1 << 4;
/// The highest valid final state.
pub(super) const PADDED_MAX: u16 = 7;

/// The code tree. A child below `LEAF` is a state, any other is `LEAF` plus a symbol.
type Tree = [[u16; 2]; 256];
const LEAF: u16 = 1 << 9;

const fn tree() -> Tree {
    let mut nodes = [[0; 2]; 256];
    let mut used = 0;
    while used < PADDED_MAX {
        nodes[used as usize][1] = used + 1;
        used += 1;
    }
    let mut at = 0;
    while at < CODES.len() {
        let code = CODES[at];
        let (mut node, mut depth) = (0, 1);
        while depth < code.length {
            let bit = (code.bits >> (32 - depth) & 1) as usize;
            if nodes[node][bit] == 0 {
                used += 1;
                nodes[node][bit] = used;
            }
            node = nodes[node][bit] as usize;
            depth += 1;
        }
        nodes[node][(code.bits >> (32 - depth) & 1) as usize] = LEAF + code.symbol;
        at += 1;
    }
    nodes
}

const fn steps() -> [u16; 65_536] {
    let halves = halves();
    let mut table = [0; 65_536];
    let mut at = 0;
    while at < table.len() {
        let first = halves[at >> 8][at >> 4 & 15];
        let second = halves[(first >> 8) as usize][at & 15];
        // At most one symbol is completed by four bits, so that the sum of counts is at most 2.
        let events = (first & (DIRTY | EOS_SEEN)) | (second & (DIRTY | EOS_SEEN));
        let last = if second & COUNT == 0 { first } else { second };
        let count = (first & COUNT) + (second & COUNT);
        table[at] = (second & 0xff00) | events | (last & BLANK_LAST) | count;
        at += 1;
    }
    table
}

/// Like [`STEPS`], for four bits of input.
const fn halves() -> [[u16; 16]; 256] {
    let tree = tree();
    let mut table = [[0; 16]; 256];
    let mut state = 0;
    while state < table.len() {
        let mut bits = 0;
        while bits < 16 {
            let (mut node, mut events, mut turn) = (state, 0, 0);
            while turn < 4 {
                let child = tree[node][bits >> (3 - turn) & 1];
                node = if child < LEAF { child as usize } else { 0 };
                if child >= LEAF {
                    events |= symbol_events(child - LEAF);
                }
                turn += 1;
            }
            table[state][bits] = (node as u16) << 8 | events;
            bits += 1;
        }
        state += 1;
    }
    table
}

const fn symbol_events(symbol: u16) -> u16 {
    match symbol {
        0 | 0x0a | 0x0d => 1 | DIRTY,
        0x09 | 0x20 => 1 | BLANK_LAST,
        EOS => 1 | EOS_SEEN,
        1..=0xff | 0x101.. => 1,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Huffman-codes a text for tests; the encoder itself never does.
    pub(in crate::wire::hpack) fn huffman(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut window, mut filled) = (0_u64, 0);
        for &octet in text {
            let code = CODES.iter().find(|code| code.symbol == u16::from(octet)).unwrap();
            window |= u64::from(code.bits) << 32 >> filled;
            filled += u32::from(code.length);
            while filled >= 8 {
                out.push((window >> 56) as u8);
                window <<= 8;
                filled -= 8;
            }
        }
        if filled > 0 {
            out.push((window >> 56) as u8 | 0xff >> filled);
        }
        out
    }

    #[test]
    fn the_code_is_complete() {
        let last = CODES[256];
        assert_eq!((last.symbol, last.bits, last.length), (EOS, 0x3fff_ffff << 2, 30));
    }

    #[test]
    fn codes_equal_those_of_the_rfc() {
        for (symbol, bits, length) in [
            (b'0', 0x0, 5),
            (b'&', 0xf8, 8),
            (b'\\', 0x7fff0, 19),
            (199, 0x1ff_ffec, 25),
            (10, 0x3fff_fffc, 30),
        ] {
            let code = CODES.iter().find(|code| code.symbol == u16::from(symbol)).unwrap();
            assert_eq!((code.bits >> (32 - length), u32::from(code.length)), (bits, length));
        }
    }

    #[test]
    fn the_tree_has_256_states() {
        let tree = tree();
        let leaves = tree.iter().flatten().filter(|&&child| child >= LEAF).count();
        assert_eq!(leaves, 257);
        assert!(tree.iter().flatten().all(|&child| child != 0), "a node without a child");
    }
}
