//! Random numbers of a seed, and choices by them.

/// A small generator of numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut out = self.0;
        out = (out ^ (out >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        out = (out ^ (out >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out ^ (out >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Octets: few, some, or many, up to a bound.
    pub(super) fn octets(&mut self, most: usize) -> usize {
        let bound = [16, 1000, 20_000, usize::MAX][self.below(4)].min(most);
        1 + self.below(bound)
    }

    /// How much of a frame goes out at first: all of it, as a rule.
    pub(super) fn front(&mut self, octets: usize) -> usize {
        if self.one_in(4) { 1 + self.below(octets) } else { octets }
    }

    pub(super) fn initial_window(&mut self) -> u32 {
        [0, 1, 500, 16_384, 65_535, 200_000][self.below(6)]
    }
}
