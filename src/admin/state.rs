//! What the pages tell: one state, said in one place.
//!
//! Readiness moves one way only: starting, ready, draining. A bad edit of the configuration does
//! not touch it, since the last good plan goes on; it only shows in the text. Neither do keys of an
//! issuer that do not come, once they were waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::keys::JwksProviders;
use crate::telemetry::{ConfigErrorCount, ControlMetrics, Metrics};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Whether calls are welcome, and the metrics.
#[derive(Debug)]
pub struct State {
    stage: AtomicU8,
    keys: JwksProviders,
    metrics: Metrics,
    control: ControlMetrics,
}

/// What `/readyz` answers by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Calls are not welcome yet, while the keys of these issuers have not come.
    Starting { missing: Vec<String> },
    /// Calls are welcome, whatever is wrong with the configuration as last read, and though the
    /// keys of these issuers have not come.
    Ready { missing: Vec<String>, errors: Arc<[ConfigErrorCount]> },
    /// The drain has begun.
    Draining,
}

impl State {
    /// Starting, over these metrics and the keys of identity providers.
    #[must_use]
    pub fn new(metrics: Metrics, keys: JwksProviders) -> Self {
        Self { stage: AtomicU8::new(STARTING), keys, control: metrics.control(), metrics }
    }

    /// A plan is live, the listeners are open, and the keys have come or were waited for. Too late
    /// once the drain has begun.
    pub fn set_ready(&self) {
        let moved =
            self.stage.compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire);
        self.control.set_ready(moved.is_ok() || moved == Err(READY));
    }

    /// The drain begins: `/readyz` answers 503 from now on.
    pub fn set_draining(&self) {
        self.stage.store(DRAINING, Ordering::Release);
        self.control.set_ready(false);
        self.control.set_draining();
    }

    pub(super) fn readiness(&self) -> Readiness {
        match self.stage.load(Ordering::Acquire) {
            STARTING => Readiness::Starting { missing: self.keys.issuers_without_keys() },
            READY => {
                let errors = self.control.config_errors();
                Readiness::Ready { missing: self.keys.issuers_without_keys(), errors }
            }
            _ => Readiness::Draining,
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_not_undone_by_a_late_start() {
        let state = State::new(Metrics::new("1"), JwksProviders::default());
        assert_eq!(state.readiness(), Readiness::Starting { missing: Vec::new() });
        state.set_draining();
        state.set_ready();
        assert_eq!(state.readiness(), Readiness::Draining);
    }

    #[test]
    fn a_bad_edit_leaves_it_ready_and_shows() {
        let metrics = Metrics::new("1");
        let state = State::new(metrics.clone(), JwksProviders::default());
        let ready = |errors| Readiness::Ready { missing: Vec::new(), errors };
        state.set_ready();
        assert_eq!(state.readiness(), ready([].into()));
        let errors = vec![ConfigErrorCount::main_file(2)];
        metrics.control().set_config_errors(errors.clone());
        assert_eq!(state.readiness(), ready(errors.into()));
    }
}
