//! Driver health: whether the last connection attempt to a driver succeeded.
//!
//! Shared by all workers. A healthy driver costs one relaxed load for each check. Each change is
//! reported to one worker only, which logs it.
//!
//! Must never happen here: waiting for another worker, except while a driver changes its state.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{TenantId, WorkerMetrics};

/// Interval between log lines of one outage.
const REMINDER_INTERVAL: Duration = Duration::from_secs(300);

const UNTRIED: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// No tenant has been looked up yet.
const NO_TENANT: u32 = u32::MAX;

/// Health of one driver address.
#[derive(Debug)]
pub struct DriverHealth {
    state: AtomicU8,
    tenant: AtomicU32,
    /// Locked only while the driver is unreachable, and when it recovers.
    outage: Mutex<Option<Outage>>,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    /// Time of the last log line.
    logged: Option<Instant>,
}

impl Default for DriverHealth {
    /// No connection attempt yet.
    fn default() -> Self {
        let (state, tenant) = (AtomicU8::new(UNTRIED), AtomicU32::new(NO_TENANT));
        Self { state, tenant, outage: Mutex::default() }
    }
}

impl DriverHealth {
    /// Health of a driver that replaces this one at another address. It inherits the state until
    /// its first attempt, so that the end of an outage is detected.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self {
            state: AtomicU8::new(self.state.load(Ordering::Relaxed)),
            tenant: AtomicU32::new(self.tenant.load(Ordering::Relaxed)),
            outage: Mutex::new(*self.outage.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The tenant of the driver's calls. Looked up once.
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

    /// Whether the last attempt succeeded.
    pub fn is_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// Whether the last attempt failed.
    pub fn is_down(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DOWN
    }

    /// Records a successful attempt. Returns the duration of the outage that it ends, if that
    /// outage was logged.
    pub fn connected(&self, now: Instant) -> Option<Duration> {
        if self.is_up() {
            return None;
        }
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.store(UP, Ordering::Relaxed);
        let outage = outage.take()?;
        outage.logged.map(|_| now.saturating_duration_since(outage.since))
    }

    /// Records a failed attempt. Returns the duration of the outage if a log line is due; call
    /// [`DriverHealth::outage_logged`] after logging it.
    pub fn connect_failed(&self, now: Instant) -> Option<Duration> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.store(DOWN, Ordering::Relaxed);
        let outage = outage.get_or_insert(Outage { since: now, logged: None });
        let is_due = outage
            .logged
            .is_none_or(|last| now.saturating_duration_since(last) >= REMINDER_INTERVAL);
        is_due.then(|| now.saturating_duration_since(outage.since))
    }

    /// Whether the current outage was logged.
    pub fn is_outage_logged(&self) -> bool {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.is_some_and(|outage| outage.logged.is_some())
    }

    /// Records that the current outage was logged.
    pub fn outage_logged(&self, now: Instant) {
        if let Some(outage) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            outage.logged = Some(now);
        }
    }

    /// Tenant and state for metrics; `None` before the first attempt.
    pub(super) fn status(&self) -> Option<(TenantId, bool)> {
        let tenant = self.tenant.load(Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        (tenant != NO_TENANT && state != UNTRIED)
            .then_some((TenantId::of_number(tenant), state == UP))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some time")]
mod tests {
    use super::*;

    #[test]
    fn the_start_and_the_end_of_an_outage_are_logged() {
        let health = DriverHealth::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!health.is_up() && !health.is_down());
        assert_eq!(health.connected(at(0)), None, "there was no outage");
        assert_eq!(health.connect_failed(at(1)), Some(Duration::ZERO));
        assert!(!health.is_outage_logged());
        health.outage_logged(at(1));
        assert!(health.is_outage_logged());
        assert_eq!(health.connect_failed(at(2)), None, "it was just logged");
        assert!(health.is_down());
        assert_eq!(health.connected(at(41)), Some(Duration::from_secs(40)));
        assert_eq!(health.connected(at(42)), None);
        assert!(health.is_up() && !health.is_outage_logged());
    }

    #[test]
    fn the_end_of_an_outage_is_logged_only_if_its_start_was() {
        let health = DriverHealth::default();
        let began = Instant::now();
        assert_eq!(health.connect_failed(began), Some(Duration::ZERO));
        let later = began + Duration::from_secs(3);
        assert_eq!(health.connect_failed(later), Some(Duration::from_secs(3)));
        assert_eq!(health.connected(later), None);
    }

    #[test]
    fn a_lasting_outage_is_logged_again_after_the_interval() {
        let health = DriverHealth::default();
        let began = Instant::now();
        health.connect_failed(began);
        health.outage_logged(began);
        assert_eq!(health.connect_failed(began + REMINDER_INTERVAL / 2), None);
        assert_eq!(health.connect_failed(began + REMINDER_INTERVAL), Some(REMINDER_INTERVAL));
    }

    #[test]
    fn a_successor_of_an_unreachable_driver_ends_the_outage() {
        let health = DriverHealth::default();
        let began = Instant::now();
        health.connect_failed(began);
        health.outage_logged(began);
        let next = health.successor();
        assert!(next.is_down());
        let later = began + Duration::from_secs(9);
        assert_eq!(next.connected(later), Some(Duration::from_secs(9)));
        assert!(health.is_down(), "the predecessor is unchanged");
    }
}
