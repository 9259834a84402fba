//! What is logged when a driver becomes unreachable, and when it is reachable again.
//!
//! Must never be logged for each call: a change is, once for all workers, and an outage that goes
//! on now and then.

use crate::{
    route::Cluster,
    telemetry::log_limit::{self, LineKind},
};
use std::time::{Duration, Instant};
use tracing::field::{DebugValue, debug};

impl Cluster {
    /// Its driver was reached, or has answered.
    pub fn driver_reachable(&self, now: Instant) {
        if self.health().is_up() {
            return;
        }
        let Some(duration) = self.health().connected(now) else { return };
        if log_limit::allow(LineKind::DriverReachable, &self.name()) {
            let (team, environment, address) = (self.team(), self.environment(), self.driver());
            let duration = rounded(duration);
            tracing::info!(%team, %environment, %address, duration, "driver reachable again");
        }
    }

    /// Its driver does not accept sconce's token, or wants one that sconce has not got.
    pub fn driver_rejected_token(&self) {
        if log_limit::try_allow(LineKind::DriverCredential, &self.name()) {
            let (team, environment, address) = (self.team(), self.environment(), self.driver());
            let has_token = self.credential().is_some();
            tracing::warn!(
                %team,
                %environment,
                %address,
                has_token,
                "driver rejects sconce's token"
            );
        }
    }

    /// Its driver could not be reached, for a reason that the documentation lists.
    pub fn driver_unreachable(&self, reason: &'static str, now: Instant) {
        let Some(duration) = self.health().connect_failed(now) else { return };
        if log_limit::allow(LineKind::DriverUnreachable, &self.name()) {
            self.health().outage_logged(now);
            let (team, environment, address) = (self.team(), self.environment(), self.driver());
            let duration = rounded(duration);
            tracing::warn!(%team, %environment, %address, reason, duration, "driver unreachable");
        }
    }
}

/// How long an outage has lasted, to the millisecond; nothing for one that begins.
fn rounded(duration: Duration) -> Option<DebugValue<Duration>> {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    (!whole.is_zero()).then(|| debug(whole))
}
