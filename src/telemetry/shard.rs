//! Counters of one worker: plain atomics with a single writer.
//!
//! A call costs a few relaxed additions on the worker's own cache lines. There is no lock and,
//! after the first call of a team to a method, no allocation and no look-up of a name: calls are
//! counted by [`TenantId`]. Gauges are differences of two counters, so that nothing is decremented;
//! a scrape sums all shards.
//!
//! Memory: 0.5 KiB for each worker, method, and pair of team and environment. With [`TENANTS_MAX`]
//! pairs and six methods each, 3.4 MiB for each worker; with all methods at most
//! [`TENANTS_BYTES_MAX`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sconce_filters::Method;

use super::names::{
    AnsweredBy, CODE_UNKNOWN, CODES, ConnectFailure, DURATION_BOUNDS_MS, FIRST_BYTE_BOUNDS_MS,
    LABELS_MAX, OTHER, PeerSide, TENANTS_MAX,
};
use super::table::Table;
use super::tenants::{TenantId, Tenants};

const METHODS: usize = Method::ALL.len();
const DURATIONS: usize = DURATION_BOUNDS_MS.len() + 1;
const FIRST_BYTES: usize = FIRST_BYTE_BOUNDS_MS.len() + 1;

/// Upper limit of a worker's counters by team and environment, in bytes.
const TENANTS_BYTES_MAX: usize =
    (TENANTS_MAX + 2) * (size_of::<TenantCounters>() + METHODS * size_of::<MethodCounters>());
const _: () = assert!(TENANTS_BYTES_MAX < 8 << 20, "8 MiB for each worker");

/// A worker's handle of its counters. Cheap to clone. For one thread: concurrent writers may lose
/// additions.
#[derive(Clone, Debug)]
pub struct WorkerMetrics(Arc<Shard>);

/// A completed call.
#[derive(Clone, Copy, Debug)]
pub struct CallEnd {
    /// The method.
    pub method: Method,
    /// Team and environment, as passed to [`WorkerMetrics::call_routed`]; `None` if the call ended
    /// before they were known.
    pub tenant: Option<TenantId>,
    /// Source of the status.
    pub answered_by: AnsweredBy,
    /// gRPC status code that the client received.
    pub code: u8,
    /// Time from the request headers to the end of the stream.
    pub duration: Duration,
    /// Bytes of DATA relayed to the driver.
    pub request_bytes: u64,
    /// Bytes of DATA relayed to the client.
    pub response_bytes: u64,
}

impl WorkerMetrics {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self(shard)
    }

    /// The tenant of a team and environment; `None` for unknown.
    pub fn tenant(&self, team: Option<&str>, environment: Option<&str>) -> TenantId {
        self.0.names.find_or_insert(team, environment)
    }

    /// Counts a call whose request headers are complete.
    pub fn call_opened(&self, method: Method) {
        if let Some(opened) = self.0.calls_opened.get(method.index()) {
            add(opened, 1);
        }
    }

    /// Counts a call whose team and environment are known. Once for each call.
    pub fn call_routed(&self, method: Method, tenant: TenantId) {
        self.0.count(tenant, method, |counts| add(&counts.routed, 1));
    }

    /// Counts the first byte of a response, `after` the request headers.
    pub fn call_first_byte(&self, method: Method, tenant: TenantId, after: Duration) {
        self.0.count(tenant, method, |counts| {
            counts.first_byte.record(after, &FIRST_BYTE_BOUNDS_MS);
        });
    }

    /// Counts a completed call. Follows each [`WorkerMetrics::call_opened`] exactly once.
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

    /// Counts a refusal with this label.
    pub fn call_refused(&self, label: &'static str) {
        self.0.refusals.count(label);
    }

    /// Counts an abuse limit that a peer exceeded.
    pub fn abuse_limit_exceeded(&self, guard: &'static str, peer: PeerSide) {
        match peer {
            PeerSide::Downstream => self.0.downstream_abuse.count(guard),
            PeerSide::Upstream => self.0.upstream_abuse.count(guard),
        }
    }

    /// Counts a state that should be impossible. `reason` is its short name in snake_case. Call it
    /// together with a `debug_assert!`.
    #[cold]
    pub fn internal_error(&self, reason: &'static str) {
        self.0.internal_errors.count(reason);
    }

    /// Counts an accepted client connection.
    pub fn downstream_opened(&self) {
        add(&self.0.downstream_opened, 1);
    }

    /// Counts a closed client connection.
    pub fn downstream_closed(&self) {
        add(&self.0.downstream_closed, 1);
    }

    /// Counts an established driver connection.
    pub fn upstream_opened(&self) {
        add(&self.0.upstream_opened, 1);
    }

    /// Counts an idle driver connection that another client connection reuses.
    pub fn upstream_reused(&self) {
        add(&self.0.upstream_reused, 1);
    }

    /// Counts a closed driver connection.
    pub fn upstream_closed(&self, reason: &'static str) {
        self.0.upstream_closed.count(reason);
    }

    /// Counts a failed connection attempt to the driver of a tenant.
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
    /// Opened calls of all tenants.
    pub(super) calls_opened: [AtomicU64; METHODS],
    /// By [`TenantId`].
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

/// Counters of one team and environment.
#[derive(Debug, Default)]
pub(super) struct TenantCounters {
    /// Allocated at the first call of each method.
    methods: [OnceLock<Box<MethodCounters>>; METHODS],
    pub(super) request_bytes: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    pub(super) connect_failures: [AtomicU64; ConnectFailure::ALL.len()],
}

/// Counters of one method of a tenant.
#[derive(Debug, Default)]
pub(super) struct MethodCounters {
    /// Calls routed to this tenant; calls without a known team are not counted here.
    pub(super) routed: AtomicU64,
    pub(super) ended_by_code: [[AtomicU64; CODES.len()]; AnsweredBy::ALL.len()],
    pub(super) duration: DurationHistogram<DURATIONS>,
    pub(super) first_byte: DurationHistogram<FIRST_BYTES>,
}

/// Duration histogram. In microseconds: nanoseconds of 10,000 open streams would overflow within
/// weeks.
#[derive(Debug)]
pub(super) struct DurationHistogram<const BUCKETS: usize> {
    pub(super) buckets: [AtomicU64; BUCKETS],
    pub(super) sum_us: AtomicU64,
}

/// Counters by reason, where the reasons are literals in the code.
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

    /// The counters of a tenant, if this worker has counted anything for it.
    pub(super) fn existing(&self, tenant: TenantId) -> Option<&TenantCounters> {
        self.tenants.get(tenant.index())?.get().map(|tenant| &**tenant)
    }

    fn tenant(&self, tenant: TenantId) -> Option<&TenantCounters> {
        self.tenants.get(tenant.index()).map(|slot| &**slot.get_or_init(Box::default))
    }

    fn count(&self, tenant: TenantId, method: Method, count: impl FnOnce(&MethodCounters)) {
        if let Some(counts) = self.tenant(tenant).and_then(|tenant| tenant.counts(method)) {
            count(counts);
        }
    }
}

impl TenantCounters {
    /// The counters of a method, if anything was counted for it.
    pub(super) fn existing(&self, method: usize) -> Option<&MethodCounters> {
        self.methods.get(method)?.get().map(|counts| &**counts)
    }

    fn counts(&self, method: Method) -> Option<&MethodCounters> {
        self.methods.get(method.index()).map(|slot| &**slot.get_or_init(Box::default))
    }
}

impl MethodCounters {
    /// Completed calls.
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

    /// Each reason with its count.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let others = (OTHER, read(&self.others));
        let rows = self.rows.rows().map(|(reason, count)| (*reason, read(count)));
        rows.chain(std::iter::once(others).filter(|(_, count)| *count > 0))
    }
}

/// Adds to a counter that only this thread writes: cheaper than an atomic addition.
fn add(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}

pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
