//! Metrics by team and environment, as lines of the page.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use sconce_filters::Method;

use super::names::{
    self, AnsweredBy, CODES, ConnectFailure, DURATION_BOUNDS_MS, FIRST_BYTE_BOUNDS_MS, Family,
    OTHER, key,
};
use super::page::{Labels, MetricsPage, count_line};
use super::shard::{DurationHistogram, MethodCounters, Shard, TenantCounters, read};
use super::state::{ControlState, MetricsState};
use super::tenants::TenantId;

const METHODS: usize = Method::ALL.len();

/// Open calls of one team and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCalls {
    /// The team; `-` while unknown.
    pub team: String,
    /// The environment; `-` while unknown.
    pub environment: String,
    /// Number of open calls.
    pub calls: u64,
}

/// All counters of one team and environment.
struct ByTeam<'a> {
    id: TenantId,
    team: &'a str,
    environment: &'a str,
    /// One entry for each worker that has counted anything.
    tenants: Vec<&'a TenantCounters>,
}

impl<'a> ByTeam<'a> {
    /// Every team and environment with counters, sorted by name.
    fn all(state: &'a MetricsState, shards: &'a [Arc<Shard>]) -> Vec<Self> {
        let pairs = state.tenants.all().into_iter().map(|(id, (team, environment))| {
            let tenants = shards.iter().filter_map(|shard| shard.existing(id)).collect();
            Self { id, team, environment, tenants }
        });
        pairs.filter(|of| !of.tenants.is_empty()).collect()
    }

    fn labels(&self) -> Labels<'a> {
        vec![(key::TEAM, self.team), (key::ENVIRONMENT, self.environment)]
    }

    fn with_method(&self, method: usize) -> Labels<'a> {
        let method = Method::ALL.get(method).map_or(OTHER, |method| method.label());
        [vec![(key::METHOD, method)], self.labels()].concat()
    }

    fn counts(&self, method: usize) -> impl Iterator<Item = &'a MethodCounters> {
        self.tenants.iter().filter_map(move |tenant| tenant.existing(method))
    }

    fn routed(&self, method: usize) -> u64 {
        self.counts(method).map(|counts| read(&counts.routed)).sum()
    }

    fn ended(&self, method: usize) -> u64 {
        self.counts(method).map(MethodCounters::ended).sum()
    }

    fn sum(&self, figure: impl Fn(&TenantCounters) -> &AtomicU64) -> u64 {
        self.tenants.iter().map(|tenant| read(figure(tenant))).sum()
    }
}

/// Open calls, the largest numbers first.
pub(super) fn open_calls(state: &MetricsState) -> Vec<OpenCalls> {
    let shards = state.shards();
    let all = ByTeam::all(state, &shards);
    let mut sums = BTreeMap::<(&str, &str), u64>::new();
    for (_, at, calls) in active_by_method(state, &shards, &all) {
        *sums.entry(at).or_default() += calls;
    }
    let open = sums.into_iter().filter(|(_, calls)| *calls > 0);
    let mut open: Vec<_> = open
        .map(|((team, environment), calls)| {
            let (team, environment) = (team.to_owned(), environment.to_owned());
            OpenCalls { team, environment, calls }
        })
        .collect();
    open.sort_by_key(|of| std::cmp::Reverse(of.calls));
    open
}

/// Number of open calls by method, team and environment.
fn active_by_method<'a>(
    state: &'a MetricsState,
    shards: &[Arc<Shard>],
    all: &[ByTeam<'a>],
) -> Vec<(usize, (&'a str, &'a str), u64)> {
    let unknown = state.tenants.unknown();
    let mut open = Vec::new();
    for method in 0..METHODS {
        let mut routed_in_all = 0_u64;
        let mut ended_unrouted = 0_u64;
        for of in all {
            let (routed, ended) = (of.routed(method), of.ended(method));
            if of.id == unknown {
                ended_unrouted = ended;
            } else if routed > 0 {
                routed_in_all += routed;
                open.push((method, (of.team, of.environment), routed.saturating_sub(ended)));
            }
        }
        let opened: u64 =
            shards.iter().filter_map(|shard| shard.calls_opened.get(method)).map(read).sum();
        let unrouted = opened.saturating_sub(routed_in_all).saturating_sub(ended_unrouted);
        if let Some(names) = state.tenants.names(unknown).filter(|_| opened > 0) {
            open.push((method, names, unrouted));
        }
    }
    open
}

impl MetricsPage<'_> {
    /// Writes all metrics by team and environment.
    pub(super) fn by_team(&mut self, state: &MetricsState, shards: &[Arc<Shard>]) -> fmt::Result {
        let all = ByTeam::all(state, shards);
        self.calls(&all)?;
        self.duration_histogram(&names::CALL_DURATION, &all, &DURATION_BOUNDS_MS, |counts| {
            &counts.duration
        })?;
        self.duration_histogram(&names::FIRST_BYTE, &all, &FIRST_BYTE_BOUNDS_MS, |counts| {
            &counts.first_byte
        })?;
        self.active_calls(active_by_method(state, shards, &all))?;
        self.bytes(&all)?;
        self.connect_failures(&all)?;
        self.drivers(state, &state.control)
    }

    fn calls(&mut self, all: &[ByTeam<'_>]) -> fmt::Result {
        let mut family = self.family(&names::CALLS)?;
        for of in all {
            for method in 0..METHODS {
                let mut sums = [[0_u64; CODES.len()]; AnsweredBy::ALL.len()];
                for counts in of.counts(method) {
                    let pairs =
                        sums.iter_mut().flatten().zip(counts.ended_by_code.iter().flatten());
                    pairs.for_each(|(sum, count)| *sum += read(count));
                }
                for (by, sums) in AnsweredBy::ALL.into_iter().zip(sums) {
                    for (code, count) in CODES.iter().zip(sums).filter(|(_, count)| *count > 0) {
                        let outcome = vec![(key::CODE, *code), (key::ANSWERED_BY, by.as_str())];
                        let labels = [of.with_method(method), outcome].concat();
                        count_line(&mut family, labels, &count)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn duration_histogram<const BUCKETS: usize>(
        &mut self,
        family: &'static Family,
        all: &[ByTeam<'_>],
        bounds_ms: &[u64],
        times: fn(&MethodCounters) -> &DurationHistogram<BUCKETS>,
    ) -> fmt::Result {
        let mut family = self.family(family)?;
        for of in all {
            for method in 0..METHODS {
                let (buckets, sum) = sum_histograms(of.counts(method).map(times), bounds_ms);
                let count: u64 = buckets.iter().map(|(_, count)| count).sum();
                if count > 0 {
                    let labels = of.with_method(method);
                    let mut line = family.encode_family(&labels)?;
                    line.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }

    fn active_calls(&mut self, open: Vec<(usize, (&str, &str), u64)>) -> fmt::Result {
        let mut family = self.family(&names::CALLS_ACTIVE)?;
        for (method, (team, environment), calls) in open {
            let method = Method::ALL.get(method).map_or(OTHER, |method| method.label());
            let labels: Labels<'_> =
                vec![(key::METHOD, method), (key::TEAM, team), (key::ENVIRONMENT, environment)];
            family.encode_family(&labels)?.encode_gauge(&calls)?;
        }
        Ok(())
    }

    fn bytes(&mut self, all: &[ByTeam<'_>]) -> fmt::Result {
        let mut family = self.family(&names::CALL_BYTES)?;
        for of in all {
            let request = of.sum(|tenant| &tenant.request_bytes);
            let response = of.sum(|tenant| &tenant.response_bytes);
            for (direction, bytes) in [("request", request), ("response", response)] {
                let labels = [vec![(key::DIRECTION, direction)], of.labels()].concat();
                count_line(&mut family, labels, &bytes)?;
            }
        }
        Ok(())
    }

    fn connect_failures(&mut self, all: &[ByTeam<'_>]) -> fmt::Result {
        let mut family = self.family(&names::UPSTREAM_CONNECT_FAILURES)?;
        for of in all {
            for (at, reason) in ConnectFailure::ALL.into_iter().enumerate() {
                let failures = of.tenants.iter().filter_map(|it| it.connect_failures.get(at));
                let count: u64 = failures.map(read).sum();
                if count > 0 {
                    let labels = [of.labels(), vec![(key::REASON, reason.as_str())]].concat();
                    count_line(&mut family, labels, &count)?;
                }
            }
        }
        Ok(())
    }

    /// Several drivers share names beyond the limit of tenants: 0 if any of them is down.
    fn drivers(&mut self, state: &MetricsState, control: &ControlState) -> fmt::Result {
        let all = control.drivers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut up = BTreeMap::<(&str, &str), bool>::new();
        for (tenant, is_up) in all.iter().filter_map(|driver| driver.status()) {
            let Some(names) = state.tenants.names(tenant) else { continue };
            let all_up = up.entry(names).or_insert(true);
            *all_up = *all_up && is_up;
        }
        let mut family = self.family(&names::DRIVER_UP)?;
        up.into_iter().try_for_each(|((team, environment), is_up)| {
            let labels: Labels<'_> = vec![(key::TEAM, team), (key::ENVIRONMENT, environment)];
            family.encode_family(&labels)?.encode_gauge(&u64::from(is_up))
        })
    }
}

/// Sums of the buckets with their upper bounds in seconds, and the total in seconds.
fn sum_histograms<'a, const BUCKETS: usize>(
    all: impl Iterator<Item = &'a DurationHistogram<BUCKETS>>,
    bounds_ms: &[u64],
) -> (Vec<(f64, u64)>, f64) {
    let seconds = bounds_ms.iter().map(|ms| std::time::Duration::from_millis(*ms).as_secs_f64());
    let bounds = seconds.chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
    let mut sum_us = 0_u64;
    for times in all {
        for ((_, sum), bucket) in buckets.iter_mut().zip(&times.buckets) {
            *sum += read(bucket);
        }
        sum_us = sum_us.saturating_add(read(&times.sum_us));
    }
    (buckets, std::time::Duration::from_micros(sum_us).as_secs_f64())
}
