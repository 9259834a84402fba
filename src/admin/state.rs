//! The state behind the pages.
//!
//! Readiness changes in one direction: starting, ready, draining. Config errors do not change it,
//! because the last good configuration stays; the page only shows them. The same holds for an
//! issuer without keys after the initial fetch timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::keys::JwksProviders;
use crate::telemetry::{ConfigErrorCount, ControlMetrics, Metrics};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Readiness, identity providers and metrics.
#[derive(Debug)]
pub(crate) struct State {
    stage: AtomicU8,
    keys: JwksProviders,
    metrics: Metrics,
    control: ControlMetrics,
}

/// Content of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Not ready: these issuers have no usable keys yet.
    Starting { missing: Vec<String> },
    /// Ready, even with config errors since the last reload and with issuers without keys.
    Ready { missing: Vec<String>, errors: Arc<[ConfigErrorCount]> },
    /// The drain has started.
    Draining,
}

impl State {
    /// The state of a starting process.
    #[must_use]
    pub(crate) fn new(metrics: Metrics, keys: JwksProviders) -> Self {
        Self { stage: AtomicU8::new(STARTING), keys, control: metrics.control(), metrics }
    }

    /// Marks the process as ready: the configuration is live, the listeners are open, and the
    /// issuers' keys are present or the initial fetch timeout has expired. No effect after the
    /// start of the drain.
    pub(crate) fn set_ready(&self) {
        let moved =
            self.stage.compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire);
        self.control.set_ready(moved.is_ok() || moved == Err(READY));
    }

    /// Marks the process as draining: `/readyz` answers 503 from now on.
    pub(crate) fn set_draining(&self) {
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
    fn set_ready_during_a_drain_has_no_effect() {
        let state = State::new(Metrics::new("1"), JwksProviders::default());
        assert_eq!(state.readiness(), Readiness::Starting { missing: Vec::new() });
        state.set_draining();
        state.set_ready();
        assert_eq!(state.readiness(), Readiness::Draining);
    }

    #[test]
    fn config_errors_do_not_change_readiness() {
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
