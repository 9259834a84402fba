//! What one worker counts: plain atomics that nobody else writes.
//!
//! A call costs a worker a handful of relaxed additions on cache lines of its own. There is no lock
//! and, after the first call of a team to a method, no allocation and no look-up of a name: a call
//! is counted by the number of its team and environment ([`TenantId`]). Gauges are differences of
//! two counters, so that nothing is ever written back; a sum over all shards is made by who
//! scrapes.
//!
//! Memory: 0.5 KiB for each method that a team has called in an environment, by each worker. With
//! [`TENANTS_MAX`] pairs and six methods each that is 3.4 MiB a worker, and with all methods, the
//! most there can be, [`TENANTS_BYTES_MAX`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::names::{
    AnsweredBy, CODE_UNKNOWN, CODES, ConnectFailure, DURATION_BOUNDS_MS, FIRST_BYTE_BOUNDS_MS,
    LABELS_MAX, MethodLabel, OTHER, PeerSide, TENANTS_MAX,
};
use super::table::Table;
use super::tenants::{TenantId, Tenants};

const METHODS: usize = MethodLabel::ALL.len();
const DURATIONS: usize = DURATION_BOUNDS_MS.len() + 1;
const FIRST_BYTES: usize = FIRST_BYTE_BOUNDS_MS.len() + 1;

/// Octets that the counters of one worker by team and environment can have.
const TENANTS_BYTES_MAX: usize =
    (TENANTS_MAX + 2) * (size_of::<TenantCounters>() + METHODS * size_of::<MethodCounters>());
const _: () = assert!(TENANTS_BYTES_MAX < 8 << 20, "8 MiB for each worker");

/// One worker's hand on its counters. Cheap to clone, and for one thread: where two write to the
/// same shard, additions may be lost.
#[derive(Clone, Debug)]
pub struct WorkerMetrics(Arc<Shard>);

/// A call that has ended, however it did.
#[derive(Clone, Copy, Debug)]
pub struct CallEnd {
    /// Which method was called.
    pub method: MethodLabel,
    /// The caller's team and environment, as [`WorkerMetrics::call_placed`] was told; `None` where
    /// the call ended before they were known.
    pub tenant: Option<TenantId>,
    /// Whose status the client saw.
    pub answered_by: AnsweredBy,
    /// The gRPC code the client saw.
    pub code: u8,
    /// From the call's headers to the end of its stream.
    pub duration: Duration,
    /// Octets of DATA relayed to the driver.
    pub request_bytes: u64,
    /// Octets of DATA relayed to the client.
    pub response_bytes: u64,
}

impl WorkerMetrics {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self(shard)
    }

    /// What calls of this team and environment are counted under. Either may be unknown.
    pub fn tenant(&self, team: Option<&str>, environment: Option<&str>) -> TenantId {
        self.0.names.find_or_insert(team, environment)
    }

    /// A call has begun: its headers are whole.
    pub fn call_opened(&self, method: MethodLabel) {
        if let Some(opened) = self.0.calls_opened.get(method as usize) {
            add(opened, 1);
        }
    }

    /// It is known whose call it is. Once for each call.
    pub fn call_routed(&self, method: MethodLabel, tenant: TenantId) {
        self.0.count(tenant, method, |counts| add(&counts.routed, 1));
    }

    /// The driver has begun to answer, so long after the call's headers.
    pub fn call_first_byte(&self, method: MethodLabel, tenant: TenantId, after: Duration) {
        self.0.count(tenant, method, |counts| {
            counts.first_byte.record(after, &FIRST_BYTE_BOUNDS_MS);
        });
    }

    /// A call that began has ended. Each [`WorkerMetrics::call_opened`] is followed by one of
    /// these.
    pub fn call_ended(&self, call: &CallEnd) {
        let tenant = self.0.tenant(call.tenant.unwrap_or_else(|| self.0.names.unknown()));
        let Some(tenant) = tenant else { return };
        add(&tenant.request_bytes, call.request_bytes);
        add(&tenant.response_bytes, call.response_bytes);
        let Some(counts) = tenant.counts(call.method) else { return };
        counts.duration.record(call.duration, &DURATION_BOUNDS_MS);
        let code = usize::from(call.code);
        let code = if code < CODES.len() { code } else { CODE_UNKNOWN };
        if let Some(calls) =
            counts.ended_by_code.get(call.answered_by as usize).and_then(|of| of.get(code))
        {
            add(calls, 1);
        }
    }

    /// sconce answered a call itself, with an error of this label.
    pub fn call_refused(&self, label: &'static str) {
        self.0.refusals.count(label);
    }

    /// A peer overran a budget.
    pub fn abuse_limit_exceeded(&self, guard: &'static str, peer: PeerSide) {
        match peer {
            PeerSide::Downstream => self.0.downstream_abuse.count(guard),
            PeerSide::Upstream => self.0.upstream_abuse.count(guard),
        }
    }

    /// A state that should be impossible was reached; `reason` is a short snake_case name of it.
    /// Call it together with a `debug_assert!`.
    #[cold]
    pub fn internal_error(&self, reason: &'static str) {
        self.0.internal_errors.count(reason);
    }

    /// A client's connection was taken.
    pub fn downstream_opened(&self) {
        add(&self.0.downstream_opened, 1);
    }

    /// A client's connection is gone.
    pub fn downstream_closed(&self) {
        add(&self.0.downstream_closed, 1);
    }

    /// A connection to a driver stands.
    pub fn upstream_opened(&self) {
        add(&self.0.upstream_opened, 1);
    }

    /// A connection to a driver that stood goes on with another client connection.
    pub fn upstream_reused(&self) {
        add(&self.0.upstream_reused, 1);
    }

    /// A connection to a driver that stood is gone.
    pub fn upstream_closed(&self, reason: &'static str) {
        self.0.upstream_closed.count(reason);
    }

    /// The driver of this team and environment could not be reached.
    pub fn upstream_connect_failed(&self, tenant: TenantId, reason: ConnectFailure) {
        let failures =
            self.0.tenant(tenant).and_then(|it| it.connect_failures.get(reason as usize));
        if let Some(failures) = failures {
            add(failures, 1);
        }
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub(super) struct Shard {
    names: Arc<Tenants>,
    /// Calls that have begun, whosever they are.
    pub(super) calls_opened: [AtomicU64; METHODS],
    /// By the number of team and environment.
    tenants: Box<[OnceLock<Box<TenantCounters>>]>,
    pub(super) refusals: Reasons,
    pub(super) downstream_abuse: Reasons,
    pub(super) upstream_abuse: Reasons,
    pub(super) upstream_closed: Reasons,
    pub(super) internal_errors: Reasons,
    pub(super) downstream_opened: AtomicU64,
    pub(super) downstream_closed: AtomicU64,
    pub(super) upstream_opened: AtomicU64,
    pub(super) upstream_reused: AtomicU64,
}

/// The calls of one team in one environment.
#[derive(Debug, Default)]
pub(super) struct TenantCounters {
    /// A team uses some of the methods.
    methods: [OnceLock<Box<MethodCounters>>; METHODS],
    pub(super) request_bytes: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    pub(super) connect_failures: [AtomicU64; ConnectFailure::ALL.len()],
}

/// The calls of one method among these.
#[derive(Debug, Default)]
pub(super) struct MethodCounters {
    /// Calls that were found to be of this team and environment; nobody's are not counted here.
    pub(super) routed: AtomicU64,
    pub(super) ended_by_code: [[AtomicU64; CODES.len()]; AnsweredBy::ALL.len()],
    pub(super) duration: DurationHistogram<DURATIONS>,
    pub(super) first_byte: DurationHistogram<FIRST_BYTES>,
}

/// How long something took, in buckets. Microseconds, since nanoseconds of ten thousand open
/// streams would overflow within weeks.
#[derive(Debug)]
pub(super) struct DurationHistogram<const BUCKETS: usize> {
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
    pub(super) fn new(names: Arc<Tenants>) -> Self {
        let tenants = (0..names.len()).map(|_| OnceLock::new()).collect();
        Self {
            names,
            calls_opened: Default::default(),
            tenants,
            refusals: Reasons::new(),
            downstream_abuse: Reasons::new(),
            upstream_abuse: Reasons::new(),
            upstream_closed: Reasons::new(),
            internal_errors: Reasons::new(),
            downstream_opened: AtomicU64::new(0),
            downstream_closed: AtomicU64::new(0),
            upstream_opened: AtomicU64::new(0),
            upstream_reused: AtomicU64::new(0),
        }
    }

    /// The counters under a number, if this worker has counted anything there.
    pub(super) fn existing(&self, tenant: TenantId) -> Option<&TenantCounters> {
        self.tenants.get(tenant.index())?.get().map(|tenant| &**tenant)
    }

    fn tenant(&self, tenant: TenantId) -> Option<&TenantCounters> {
        self.tenants.get(tenant.index()).map(|slot| &**slot.get_or_init(Box::default))
    }

    fn count(&self, tenant: TenantId, method: MethodLabel, count: impl FnOnce(&MethodCounters)) {
        if let Some(counts) = self.tenant(tenant).and_then(|tenant| tenant.counts(method)) {
            count(counts);
        }
    }
}

impl TenantCounters {
    /// The counters of a method, if anything was counted there.
    pub(super) fn existing(&self, method: usize) -> Option<&MethodCounters> {
        self.methods.get(method)?.get().map(|counts| &**counts)
    }

    fn counts(&self, method: MethodLabel) -> Option<&MethodCounters> {
        self.methods.get(method as usize).map(|slot| &**slot.get_or_init(Box::default))
    }
}

impl MethodCounters {
    /// Calls that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended_by_code.iter().flatten().map(read).sum()
    }
}

impl<const BUCKETS: usize> Default for DurationHistogram<BUCKETS> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl<const BUCKETS: usize> DurationHistogram<BUCKETS> {
    fn record(&self, time: Duration, bounds_ms: &[u64]) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = bounds_ms.partition_point(|bound| bound.saturating_mul(1000) < time_us);
        if let Some(bucket) = self.buckets.get(at) {
            add(bucket, 1);
        }
        add(&self.sum_us, time_us);
    }
}

impl Reasons {
    fn new() -> Self {
        Self { rows: Table::new(LABELS_MAX), others: AtomicU64::new(0) }
    }

    fn count(&self, reason: &'static str) {
        let row = self.rows.get_or_insert(reason, |known| *known == reason, || reason);
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
