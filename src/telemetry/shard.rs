//! What one worker counts: plain atomics that nobody else writes.
//!
//! A call costs a worker a handful of relaxed additions on cache lines of its own. There is no lock
//! and, after the first call of a team, no allocation. Gauges are differences of two counters, so
//! that nothing is ever written back; a sum over all shards is made by who scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::names::{
    CODE_UNKNOWN, CODES, DURATION_BOUNDS_MS, Guarded, LABELS_MAX, MethodLabel, NOBODY, OTHER,
    TENANTS_MAX,
};
use super::table::Table;

const METHODS: usize = MethodLabel::ALL.len();
const BUCKETS: usize = DURATION_BOUNDS_MS.len() + 1;

/// One worker's hand on its counters. Cheap to clone, and for one thread: where two write to the
/// same shard, additions may be lost.
#[derive(Clone, Debug)]
pub struct WorkerMetrics(Arc<Shard>);

/// A call that has ended, however it did.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Which method was called.
    pub method: MethodLabel,
    /// The caller's team, `None` where the call ended before it was known.
    pub team: Option<&'a str>,
    /// The caller's environment, `None` where the call ended before it was known.
    pub environment: Option<&'a str>,
    /// The gRPC code the client saw.
    pub code: u8,
    /// From the call's headers to the end of its stream.
    pub duration: Duration,
    /// Octets of DATA relayed to the driver.
    pub octets_up: u64,
    /// Octets of DATA relayed to the client.
    pub octets_down: u64,
}

impl WorkerMetrics {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self(shard)
    }

    /// A call has begun: its headers are whole.
    pub fn call_opened(&self, method: MethodLabel) {
        if let Some(opened) = self.0.opened.get(method as usize) {
            add(opened, 1);
        }
    }

    /// A call that began has ended. Each [`WorkerMetrics::call_opened`] is followed by one of
    /// these.
    pub fn call_ended(&self, call: &Ended<'_>) {
        if let Some(life) = self.0.lives.get(call.method as usize) {
            life.record(call.duration);
        }
        let key = (call.team.unwrap_or(NOBODY), call.environment.unwrap_or(NOBODY));
        let tenant = self.0.tenant(key);
        let code = usize::from(call.code);
        let code = if code < CODES.len() { code } else { CODE_UNKNOWN };
        if let Some(calls) = tenant.calls.get(call.method as usize).and_then(|of| of.get(code)) {
            add(calls, 1);
        }
        add(&tenant.up, call.octets_up);
        add(&tenant.down, call.octets_down);
    }

    /// sconce answered a call itself, with an error of this label.
    pub fn refused(&self, label: &'static str) {
        self.0.refusals.count(label);
    }

    /// A peer overran a budget.
    pub fn guard_fired(&self, guard: &'static str, peer: Guarded) {
        match peer {
            Guarded::Client => self.0.client_guards.count(guard),
            Guarded::Driver => self.0.driver_guards.count(guard),
        }
    }

    /// A client's connection was taken.
    pub fn connection_opened(&self) {
        add(&self.0.connections_opened, 1);
    }

    /// A client's connection is gone.
    pub fn connection_closed(&self) {
        add(&self.0.connections_closed, 1);
    }

    /// A connection to a driver stands.
    pub fn leg_opened(&self) {
        add(&self.0.legs_opened, 1);
    }

    /// A connection to a driver that stood goes on with another client connection.
    pub fn leg_reused(&self) {
        add(&self.0.legs_reused, 1);
    }

    /// A connection to a driver that stood is gone.
    pub fn leg_closed(&self, reason: &'static str) {
        self.0.legs_closed.count(reason);
    }

    /// A driver could not be reached.
    pub fn dial_failed(&self, reason: &'static str) {
        self.0.dial_failures.count(reason);
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) opened: [AtomicU64; METHODS],
    pub(super) lives: [Lives; METHODS],
    pub(super) tenants: Table<(Box<str>, Box<str>), Tenant>,
    pub(super) crowd: Tenant,
    pub(super) refusals: Reasons,
    pub(super) client_guards: Reasons,
    pub(super) driver_guards: Reasons,
    pub(super) legs_closed: Reasons,
    pub(super) dial_failures: Reasons,
    pub(super) connections_opened: AtomicU64,
    pub(super) connections_closed: AtomicU64,
    pub(super) legs_opened: AtomicU64,
    pub(super) legs_reused: AtomicU64,
}

/// The calls of one team in one environment.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub(super) calls: [[AtomicU64; CODES.len()]; METHODS],
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

/// How long the calls of one method lived. Microseconds, since nanoseconds of ten thousand open
/// streams would overflow within weeks.
#[derive(Debug, Default)]
pub(super) struct Lives {
    pub(super) buckets: [AtomicU64; BUCKETS],
    pub(super) sum_us: AtomicU64,
}

/// Counts by reason, where the code itself states the reasons.
#[derive(Debug)]
pub(super) struct Reasons {
    rows: Table<&'static str, AtomicU64>,
    others: AtomicU64,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            opened: Default::default(),
            lives: Default::default(),
            tenants: Table::new(TENANTS_MAX),
            crowd: Tenant::default(),
            refusals: Reasons::new(),
            client_guards: Reasons::new(),
            driver_guards: Reasons::new(),
            legs_closed: Reasons::new(),
            dial_failures: Reasons::new(),
            connections_opened: AtomicU64::new(0),
            connections_closed: AtomicU64::new(0),
            legs_opened: AtomicU64::new(0),
            legs_reused: AtomicU64::new(0),
        }
    }

    fn tenant(&self, (team, environment): (&str, &str)) -> &Tenant {
        let row = self.tenants.row(
            (team, environment),
            |(known, at)| **known == *team && **at == *environment,
            || (team.into(), environment.into()),
        );
        row.unwrap_or(&self.crowd)
    }
}

impl Lives {
    fn record(&self, life: Duration) {
        let life_us = u64::try_from(life.as_micros()).unwrap_or(u64::MAX);
        let at = DURATION_BOUNDS_MS.partition_point(|bound| bound.saturating_mul(1000) < life_us);
        if let Some(bucket) = self.buckets.get(at) {
            add(bucket, 1);
        }
        add(&self.sum_us, life_us);
    }
}

impl Reasons {
    fn new() -> Self {
        Self { rows: Table::new(LABELS_MAX), others: AtomicU64::new(0) }
    }

    fn count(&self, reason: &'static str) {
        let row = self.rows.row(reason, |known| *known == reason, || reason);
        add(row.unwrap_or(&self.others), 1);
    }

    /// Each reason that was stated, with its count.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let others = (OTHER, read(&self.others));
        let rows = self.rows.rows().map(|(reason, count)| (*reason, read(count)));
        rows.chain(std::iter::once(others).filter(|(_, count)| *count > 0))
    }
}

/// Adds to a counter that this thread alone writes: so without the price of an atomic addition.
fn add(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}

pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
