//! Encodes the sums of all workers' counters as one page.
//!
//! Runs on the control plane's thread. Workers continue to count meanwhile: each value is correct,
//! two values may differ by one call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::config_errors;
use super::names::{self, PeerSide, key};
use super::page::{Labels, MetricsPage, count_line};
use super::process::Process;
use super::shard::{Reasons, Shard, read};
use super::state::{CertificateExpiry, ControlState, MetricsState};

/// Collector of all metrics.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<MetricsState>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let shards = self.0.shards();
        let mut page = MetricsPage(encoder);
        page.by_team(&self.0, &shards)?;
        page.connections(&shards)?;
        page.reasons(&shards)?;
        page.control(&self.0)?;
        page.process(&Process::read())
    }
}

impl MetricsPage<'_> {
    fn connections(&mut self, shards: &[Arc<Shard>]) -> fmt::Result {
        let total = |figure: fn(&Shard) -> u64| shards.iter().map(|shard| figure(shard)).sum();
        let closed: u64 = total(|shard| read(&shard.downstream_closed));
        let opened: u64 = total(|shard| read(&shard.downstream_opened));
        self.gauge(&names::DOWNSTREAM_CONNECTIONS_ACTIVE, opened.saturating_sub(closed))?;
        self.counter(&names::DOWNSTREAM_CONNECTIONS, &opened)?;
        let closed: u64 =
            total(|shard| shard.upstream_closed.counts().map(|(_, count)| count).sum());
        let opened: u64 = total(|shard| read(&shard.upstream_opened));
        self.gauge(&names::UPSTREAM_CONNECTIONS_ACTIVE, opened.saturating_sub(closed))?;
        self.counter(&names::UPSTREAM_CONNECTIONS, &opened)?;
        self.counter(
            &names::UPSTREAM_CONNECTIONS_REUSED,
            &total(|shard| read(&shard.upstream_reused)),
        )
    }

    fn reasons(&mut self, shards: &[Arc<Shard>]) -> fmt::Result {
        let reason = |reason| vec![(key::REASON, reason)];
        let closed = by_reason(shards, |shard| &shard.upstream_closed);
        self.counter_by_label(&names::UPSTREAM_CONNECTIONS_CLOSED, closed, reason)?;
        let refusals = by_reason(shards, |shard| &shard.refusals);
        self.counter_by_label(&names::REFUSALS, refusals, |label| vec![(key::LABEL, label)])?;
        let internal = by_reason(shards, |shard| &shard.internal_errors);
        self.counter_by_label(&names::INTERNAL_ERRORS, internal, reason)?;
        let mut family = self.family(&names::ABUSE_LIMIT_EXCEEDED)?;
        let clients = by_reason(shards, |shard| &shard.downstream_abuse);
        let drivers = by_reason(shards, |shard| &shard.upstream_abuse);
        for (side, counts) in [(PeerSide::Downstream, clients), (PeerSide::Upstream, drivers)] {
            for (limit, count) in counts {
                let labels = vec![(key::LIMIT, limit), (key::SIDE, side.as_str())];
                count_line(&mut family, labels, &count)?;
            }
        }
        Ok(())
    }

    fn control(&mut self, state: &MetricsState) -> fmt::Result {
        let control = &state.control;
        let outcomes =
            [("failure", &control.reloads_failed), ("success", &control.reloads_succeeded)];
        let outcomes = outcomes.map(|(outcome, count)| (outcome, read(count)));
        self.counter_by_label(&names::CONFIG_RELOADS, outcomes, |label| {
            vec![(key::OUTCOME, label)]
        })?;
        let outcomes = [
            ("failure", &control.jwks_fetches_failed),
            ("success", &control.jwks_fetches_succeeded),
        ];
        let outcomes = outcomes.map(|(outcome, count)| (outcome, read(count)));
        self.counter_by_label(&names::JWKS_FETCHES, outcomes, |label| vec![(key::OUTCOME, label)])?;
        self.issuers(control)?;
        self.gauge(&names::CONFIG_GENERATION, read(&control.generation))?;
        self.gauge(&names::CONFIG_LAST_RELOAD_SUCCESS, read(&control.last_reload_success_s))?;
        self.config_errors(control)?;
        self.certificates(control)?;
        self.gauge(&names::READY, u64::from(control.ready.load(Ordering::Relaxed)))?;
        self.gauge(&names::DRAINING, u64::from(control.draining.load(Ordering::Relaxed)))?;
        self.counter(&names::LOG_DROPPED, &read(&control.log_lines_dropped))?;
        let version: Labels<'_> = vec![(key::VERSION, state.version)];
        self.family(&names::BUILD_INFO)?.encode_family(&version)?.encode_gauge(&1_u64)
    }

    fn config_errors(&mut self, control: &ControlState) -> fmt::Result {
        let all = control.config_errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = self.family(&names::CONFIG_ERRORS)?;
        config_errors::counts(&all).iter().try_for_each(|(team, count)| {
            let labels: Labels<'_> = vec![(key::TEAM, team)];
            let count = u64::try_from(*count).unwrap_or(u64::MAX);
            family.encode_family(&labels)?.encode_gauge(&count)
        })
    }

    /// After a change of its key location an issuer has several entries: exports one.
    fn issuers(&mut self, control: &ControlState) -> fmt::Result {
        let all = control.issuers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut known = BTreeMap::new();
        for issuer in all.iter().filter_map(Weak::upgrade) {
            let (fetched, refresh) = known.entry(issuer.name.clone()).or_insert((0, 0));
            *fetched = read(&issuer.last_fetch_s).max(*fetched);
            *refresh = read(&issuer.refresh_interval_s);
        }
        let mut family = self.family(&names::JWKS_LAST_FETCH)?;
        for (issuer, (fetched, _)) in &known {
            let labels: Labels<'_> = vec![(key::ISSUER, issuer)];
            family.encode_family(&labels)?.encode_gauge(fetched)?;
        }
        let mut family = self.family(&names::JWKS_REFRESH_INTERVAL)?;
        known.iter().try_for_each(|(issuer, (_, refresh))| {
            let labels: Labels<'_> = vec![(key::ISSUER, issuer)];
            family.encode_family(&labels)?.encode_gauge(refresh)
        })
    }

    fn certificates(&mut self, control: &ControlState) -> fmt::Result {
        let all = control.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = self.family(&names::CERTIFICATE_EXPIRY)?;
        all.iter().try_for_each(|CertificateExpiry { usage: used, file, not_after: ends }| {
            let labels: Labels<'_> = vec![(key::USE, used), (key::FILE, file)];
            family.encode_family(&labels)?.encode_gauge(ends)
        })
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        if let Some(seconds) = process.cpu {
            self.counter(&names::PROCESS_CPU, &seconds)?;
        }
        let gauges = [
            (&names::PROCESS_RESIDENT, process.resident),
            (&names::PROCESS_FDS, process.descriptors),
            (&names::PROCESS_FDS_MAX, process.descriptors_max),
        ];
        for (family, figure) in gauges {
            if let Some(figure) = figure {
                self.gauge(family, figure)?;
            }
        }
        match process.start {
            Some(at) => self.family(&names::PROCESS_START)?.encode_gauge(&at),
            None => Ok(()),
        }
    }
}

fn by_reason(
    shards: &[Arc<Shard>],
    reasons: fn(&Shard) -> &Reasons,
) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in shards.iter().flat_map(|shard| reasons(shard).counts()) {
        *sums.entry(reason).or_default() += count;
    }
    sums
}
