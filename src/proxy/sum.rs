//! Sums over the connections of a thread, and what each of them adds.

use std::cell::Cell;

/// A sum over the connections of a thread.
#[derive(Default)]
pub(super) struct Sum(Cell<usize>);

/// What one connection adds to a sum.
#[derive(Default)]
pub(super) struct Share(usize);

impl Sum {
    pub(super) fn get(&self) -> usize {
        self.0.get()
    }

    /// A connection's share is so large from now on.
    pub(super) fn change(&self, share: &mut Share, now: usize) {
        if share.0 != now {
            let others = self.0.get().saturating_sub(share.0);
            self.0.set(others.saturating_add(now));
            share.0 = now;
        }
    }
}

impl Share {
    pub(super) fn is_some(&self) -> bool {
        self.0 > 0
    }

    pub(super) fn get(&self) -> usize {
        self.0
    }

    /// It is so large from now on. Says what it was.
    pub(super) fn replace(&mut self, now: usize) -> usize {
        std::mem::replace(&mut self.0, now)
    }
}
