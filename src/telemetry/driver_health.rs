//! Whether a driver was reachable when it was last tried.
//!
//! Workers say what they find; a driver that is well costs each of them one load. Who has to log a
//! change learns it here, once for all workers.
//!
//! Must never happen here: a wait for another worker, but for the moment in which a driver changes.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{TenantId, WorkerMetrics};

/// A driver that stays unreachable is worth a line again after so long.
const REMINDER_INTERVAL: Duration = Duration::from_secs(300);

const UNTRIED: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// Stands for a number that was not looked up yet.
const NO_TENANT: u32 = u32::MAX;

/// What is known of a driver. Belongs to one address: another address is another driver.
#[derive(Debug)]
pub struct DriverHealth {
    state: AtomicU8,
    tenant: AtomicU32,
    /// Touched while a driver is unreachable, and when it comes back.
    outage: Mutex<Option<Outage>>,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    /// When it was last logged.
    logged: Option<Instant>,
}

impl Default for DriverHealth {
    /// Never tried.
    fn default() -> Self {
        let (state, tenant) = (AtomicU8::new(UNTRIED), AtomicU32::new(NO_TENANT));
        Self { state, tenant, outage: Mutex::default() }
    }
}

impl DriverHealth {
    /// Of the driver that has come in the place of another one: taken to be as that was, until it
    /// is tried, so that an outage which a new address ends is known to have ended.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self {
            state: AtomicU8::new(self.state.load(Ordering::Relaxed)),
            tenant: AtomicU32::new(self.tenant.load(Ordering::Relaxed)),
            outage: Mutex::new(*self.outage.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// What its calls are counted under. Looked up once.
    pub fn tenant(&self, metrics: &WorkerMetrics, (team, environment): (&str, &str)) -> TenantId {
        match self.tenant.load(Ordering::Relaxed) {
            NO_TENANT => {
                let tenant = metrics.tenant(Some(team), Some(environment));
                self.tenant.store(tenant.number(), Ordering::Relaxed);
                tenant
            }
            known => TenantId::of_number(known),
        }
    }

    /// Whether it was reachable when it was last tried.
    pub fn is_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// Whether it was not.
    pub fn is_down(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DOWN
    }

    /// It was reached. For how long it was not, if it was not and that was logged.
    pub fn connected(&self, now: Instant) -> Option<Duration> {
        if self.is_up() {
            return None;
        }
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.store(UP, Ordering::Relaxed);
        let outage = outage.take()?;
        outage.logged.map(|_| now.saturating_duration_since(outage.since))
    }

    /// It was not reached. For how long it has not been, if that is to be logged now; whoever has
    /// logged it says so ([`DriverHealth::logged`]).
    pub fn connect_failed(&self, now: Instant) -> Option<Duration> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.store(DOWN, Ordering::Relaxed);
        let outage = outage.get_or_insert(Outage { since: now, logged: None });
        let is_due = outage
            .logged
            .is_none_or(|last| now.saturating_duration_since(last) >= REMINDER_INTERVAL);
        is_due.then(|| now.saturating_duration_since(outage.since))
    }

    /// Whether its outage, if it has one, was logged.
    pub fn is_outage_logged(&self) -> bool {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.is_some_and(|outage| outage.logged.is_some())
    }

    /// That it is unreachable was logged.
    pub fn outage_logged(&self, now: Instant) {
        if let Some(outage) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            outage.logged = Some(now);
        }
    }

    /// Under what to show it, and whether it is up; `None` if it was never tried.
    pub(super) fn status(&self) -> Option<(TenantId, bool)> {
        let tenant = self.tenant.load(Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        (tenant != NO_TENANT && state != UNTRIED)
            .then_some((TenantId::of_number(tenant), state == UP))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_when_it_begins_and_when_it_has_ended() {
        let health = DriverHealth::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!health.is_up() && !health.is_down());
        assert_eq!(health.connected(at(0)), None, "nothing was wrong with it");
        assert_eq!(health.connect_failed(at(1)), Some(Duration::ZERO));
        assert!(!health.is_outage_logged());
        health.outage_logged(at(1));
        assert!(health.is_outage_logged());
        assert_eq!(health.connect_failed(at(2)), None, "it is known already");
        assert!(health.is_down());
        assert_eq!(health.connected(at(41)), Some(Duration::from_secs(40)));
        assert_eq!(health.connected(at(42)), None);
        assert!(health.is_up() && !health.is_outage_logged());
    }

    #[test]
    fn an_outage_that_was_not_logged_is_still_to_be_logged_and_its_end_is_not() {
        let health = DriverHealth::default();
        let began = Instant::now();
        assert_eq!(health.connect_failed(began), Some(Duration::ZERO));
        let later = began + Duration::from_secs(3);
        assert_eq!(health.connect_failed(later), Some(Duration::from_secs(3)));
        assert_eq!(health.connected(later), None);
    }

    #[test]
    fn an_outage_that_goes_on_is_logged_again_now_and_then() {
        let health = DriverHealth::default();
        let began = Instant::now();
        health.connect_failed(began);
        health.outage_logged(began);
        assert_eq!(health.connect_failed(began + REMINDER_INTERVAL / 2), None);
        assert_eq!(health.connect_failed(began + REMINDER_INTERVAL), Some(REMINDER_INTERVAL));
    }

    #[test]
    fn a_driver_in_the_place_of_an_unreachable_one_ends_its_outage() {
        let health = DriverHealth::default();
        let began = Instant::now();
        health.connect_failed(began);
        health.outage_logged(began);
        let next = health.successor();
        assert!(next.is_down());
        let later = began + Duration::from_secs(9);
        assert_eq!(next.connected(later), Some(Duration::from_secs(9)));
        assert!(health.is_down(), "the one before is not touched");
    }
}
