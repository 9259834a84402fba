//! Round robin: bodies that share a window or a socket are served in turn, with an equal quantum
//! each.
//!
//! Shared windows open by any number of octets. An interrupted quantum continues when the window
//! opens again: otherwise the body at the end of each step would get the rest of the step for a
//! whole quantum.

/// Octets of one quantum.
pub(super) const QUANTUM: usize = 16 * 1024;

/// The position of a round robin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundRobin {
    /// The body that was served last.
    last: usize,
    /// Octets left of its quantum.
    left: usize,
}

impl RoundRobin {
    /// Rotates the sorted keys of waiting bodies into the order of service.
    pub(super) fn order(self, waiting: &mut [usize]) {
        let is_before = |tag: &usize| *tag < self.last || (*tag == self.last && self.left == 0);
        let first = waiting.partition_point(is_before);
        waiting.rotate_left(first);
    }

    /// The quantum of a body in octets.
    pub(super) fn quantum_of(self, tag: usize) -> usize {
        if tag == self.last && self.left > 0 { self.left } else { QUANTUM }
    }

    pub(super) fn record(&mut self, tag: usize, octets: usize) {
        *self = Self { last: tag, left: self.quantum_of(tag).saturating_sub(octets) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets that each of `bodies` endless bodies gets of a shared window that opens by `step`.
    fn shares(bodies: usize, step: usize, steps: usize) -> Vec<usize> {
        let mut rotation = RoundRobin::default();
        let mut got = vec![0; bodies];
        for _ in 0..steps {
            let mut room = step;
            while room > 0 {
                let mut waiting: Vec<usize> = (0..bodies).collect();
                rotation.order(&mut waiting);
                let octets = rotation.quantum_of(waiting[0]).min(room);
                rotation.record(waiting[0], octets);
                got[waiting[0]] += octets;
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
    fn a_turn_that_was_cut_short_goes_on_first_unless_another_body_was_served() {
        let mut rotation = RoundRobin { last: 3, left: 0 };
        let mut waiting = [1, 3, 5];
        rotation.order(&mut waiting);
        assert_eq!(waiting, [5, 1, 3]);
        rotation.record(5, 1_000);
        waiting.sort_unstable();
        rotation.order(&mut waiting);
        assert_eq!((waiting, rotation.quantum_of(5)), ([5, 1, 3], QUANTUM - 1_000));
        rotation.record(1, QUANTUM);
        assert_eq!(rotation.quantum_of(5), QUANTUM);
    }
}
