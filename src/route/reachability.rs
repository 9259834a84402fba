//! Log lines about the reachability of drivers.
//!
//! Must never happen here: a line for each call. A change is logged once for all workers, and a
//! continuing outage from time to time.

use crate::{
    route::Cluster,
    telemetry::log_limit::{self, LineKind},
};
use std::time::{Duration, Instant};
use tracing::field::{DebugValue, debug};

impl Cluster {
    /// Records that the driver was reached or has responded.
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

    /// Logs that the driver rejects sconce's token, or requires one that is not configured.
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

    /// Records that the driver was unreachable. `reason` is one of the documented log values.
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

/// Duration of an outage in milliseconds; `None` at its start.
fn rounded(duration: Duration) -> Option<DebugValue<Duration>> {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    (!whole.is_zero()).then(|| debug(whole))
}
