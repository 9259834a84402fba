//! Round robin: bodies that share a window or a socket are served in turn, with an equal quantum
//! each.
//!
//! Shared windows open by any number of octets. An interrupted quantum continues when the window
//! opens again: otherwise the body at the end of each step would get the rest of the step for a
//! whole quantum.

use crate::proxy::keys::StreamKey;

/// Octets of one quantum.
pub(super) const QUANTUM: usize = 16 * 1024;

/// The position of a round robin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundRobin {
    /// The body that was served last.
    last: StreamKey,
    /// Octets left of its quantum.
    left: usize,
}

impl RoundRobin {
    /// Rotates the sorted keys of waiting bodies into the order of service.
    pub(super) fn order(self, waiting: &mut [StreamKey]) {
        let is_before = |key: &StreamKey| *key < self.last || (*key == self.last && self.left == 0);
        let first = waiting.partition_point(is_before);
        waiting.rotate_left(first);
    }

    /// The quantum of a body in octets.
    pub(super) fn quantum_of(self, key: StreamKey) -> usize {
        if key == self.last && self.left > 0 { self.left } else { QUANTUM }
    }

    pub(super) fn record(&mut self, key: StreamKey, octets: usize) {
        *self = Self { last: key, left: self.quantum_of(key).saturating_sub(octets) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::keys::Key;

    fn keys<const N: usize>(indices: [usize; N]) -> [StreamKey; N] {
        indices.map(StreamKey::from_index)
    }

    /// Octets that each of `bodies` endless bodies gets of a shared window that opens by `step`.
    fn shares(bodies: usize, step: usize, steps: usize) -> Vec<usize> {
        let mut position = RoundRobin::default();
        let mut got = vec![0; bodies];
        for _ in 0..steps {
            let mut room = step;
            while room > 0 {
                let mut waiting: Vec<_> = (0..bodies).map(StreamKey::from_index).collect();
                position.order(&mut waiting);
                let octets = position.quantum_of(waiting[0]).min(room);
                position.record(waiting[0], octets);
                got[waiting[0].index()] += octets;
                room -= octets;
            }
        }
        got
    }

    #[test]
    fn bodies_get_equal_shares_whatever_the_steps_are() {
        for step in [1, 1_000, QUANTUM - 1, QUANTUM, QUANTUM + 1, 20_000, 3 * QUANTUM / 2, 100_000]
        {
            let got = shares(4, step, 40_000_000 / step);
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!(most - least <= QUANTUM, "{got:?} by steps of {step}");
        }
    }

    #[test]
    fn an_interrupted_quantum_continues_first_unless_another_body_was_served() {
        let [one, three, five] = keys([1, 3, 5]);
        let mut position = RoundRobin { last: three, left: 0 };
        let mut waiting = [one, three, five];
        position.order(&mut waiting);
        assert_eq!(waiting, [five, one, three]);
        position.record(five, 1_000);
        waiting.sort_unstable();
        position.order(&mut waiting);
        assert_eq!(waiting, [five, one, three]);
        assert_eq!(position.quantum_of(five), QUANTUM - 1_000);
        position.record(one, QUANTUM);
        assert_eq!(position.quantum_of(five), QUANTUM);
    }
}
