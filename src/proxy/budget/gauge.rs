//! Gauges: sums over the connections of a thread, and the share of each connection.

use std::cell::Cell;

/// A sum over the connections of a thread.
#[derive(Default)]
pub(crate) struct Gauge(Cell<usize>);

/// The share of one connection in a sum.
#[derive(Default)]
pub(crate) struct GaugeShare(usize);

impl Gauge {
    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }

    /// Sets the share of a connection.
    pub(crate) fn set(&self, share: &mut GaugeShare, now: usize) {
        if share.0 != now {
            let others = self.0.get().saturating_sub(share.0);
            self.0.set(others.saturating_add(now));
            share.0 = now;
        }
    }
}

impl GaugeShare {
    pub(crate) fn is_nonzero(&self) -> bool {
        self.0 > 0
    }

    pub(crate) fn get(&self) -> usize {
        self.0
    }

    /// Sets the share, and returns its previous value.
    pub(crate) fn replace(&mut self, now: usize) -> usize {
        std::mem::replace(&mut self.0, now)
    }
}
