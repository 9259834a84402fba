//! What is logged when a driver becomes unreachable, and when it is reachable again.
//!
//! Must never be logged for each call: a change is, once for all workers, and an outage that goes
//! on now and then.

use crate::{
    route::Cluster,
    telemetry::log_limit::{self, Kind},
};
use std::time::{Duration, Instant};
use tracing::field::{DebugValue, debug};

impl Cluster {
    /// Its driver was reached, or has answered.
    pub fn reached(&self, now: Instant) {
        if self.health().is_up() {
            return;
        }
        let Some(duration) = self.health().reached(now) else { return };
        if log_limit::admits(Kind::DriverReachable, &self.name()) {
            let (team, environment, address) = (self.team(), self.environment(), self.driver());
            let duration = shown(duration);
            tracing::info!(%team, %environment, %address, duration, "driver reachable again");
        }
    }

    /// Its driver does not accept sconce's token, or wants one that sconce has not got.
    pub fn rejected_token(&self) {
        if log_limit::admits_now(Kind::DriverCredential, &self.name()) {
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
    pub fn missed(&self, reason: &'static str, now: Instant) {
        let Some(duration) = self.health().missed(now) else { return };
        if log_limit::admits(Kind::DriverUnreachable, &self.name()) {
            self.health().logged(now);
            let (team, environment, address) = (self.team(), self.environment(), self.driver());
            let duration = shown(duration);
            tracing::warn!(%team, %environment, %address, reason, duration, "driver unreachable");
        }
    }
}

/// How long an outage has lasted, to the millisecond; nothing for one that begins.
fn shown(duration: Duration) -> Option<DebugValue<Duration>> {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    (!whole.is_zero()).then(|| debug(whole))
}
