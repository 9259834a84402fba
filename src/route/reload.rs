//! The steward: the only one who publishes a snapshot.
//!
//! It reads the files, and publishes what they say. An error in the main file keeps the whole of
//! the last good plan, one in a team's file what that plan says of the team; either is told: to
//! the log, to the metrics, and to whoever asks [`Live`].
//!
//! Runs on the control plane's runtime; files are read on a thread beside it.

use crate::{
    config::{self, Config, ConfigError, FileWatcher, LoadContext, LoadResult, WatchedFiles},
    route::{
        Snapshot,
        cert_expiry::CertExpiryMonitor,
        error_report::{self, LOGGED_MAX, ReportedErrors},
        stable_read::read_until_stable,
    },
    telemetry::{ControlMetrics, log::LogLevel},
};
use arc_swap::{ArcSwap, Cache};
use sconce_filters::team::RemovalKind;
use std::{collections::BTreeSet, fmt, path::Path, pin::pin, rc::Rc, sync::Arc, time::SystemTime};
use tokio::{
    sync::{Notify, watch},
    time,
};

/// The latest snapshot, for everybody who reads. A clone is cheap.
#[derive(Clone)]
pub struct SnapshotHandle {
    snapshot: Arc<ArcSwap<Snapshot>>,
    status: Arc<ArcSwap<ReloadStatus>>,
    reload_requested: Arc<Notify>,
    published: watch::Sender<u64>,
}

/// How the files were found when they were last read.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// When that was.
    pub at: SystemTime,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// What the files say that only a restart will bring about.
    pub restart_required: Vec<Restart>,
}

/// What became of a reading of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The plan is live since then, as the so-manieth one.
    Applied(u64),
    /// The files say what is live already.
    Unchanged,
    /// Something is wrong with the main file; the plan that was live stays.
    Rejected(Vec<ConfigError>),
}

/// A part of the plan that a running process cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The address that clients dial.
    ListenAddress,
    /// How many connections may wait to be accepted.
    ListenBacklog,
    /// The address of the admin pages.
    AdminAddress,
    /// The number of worker threads.
    Workers,
    /// The format of the log.
    LogFormat,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ListenAddress => "listen.address",
            Self::ListenBacklog => "listen.backlog",
            Self::AdminAddress => "admin.address",
            Self::Workers => "workers",
            Self::LogFormat => "log.format",
        })
    }
}

/// One worker's view of the latest snapshot. Asking it costs one load while nothing has changed.
pub struct SnapshotReader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    current: SnapshotRef,
}

/// A snapshot that is counted on one thread alone, so that threads do not meet in a counter.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

impl SnapshotHandle {
    /// The latest snapshot. On a worker, ask a [`Reader`].
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A view for one worker.
    pub fn reader(&self) -> SnapshotReader {
        let cache = Cache::new(Arc::clone(&self.snapshot));
        SnapshotReader { cache, current: Rc::new(self.load()) }
    }

    /// Who hears of each new snapshot, by its generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Asks for the files to be read now, whether or not they look changed.
    pub fn request_reload(&self) {
        self.reload_requested.notify_one();
    }

    /// How the files were found when they were last read.
    pub fn reload_status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }
}

impl SnapshotReader {
    /// The latest snapshot. A call clones it once and keeps that one.
    pub fn latest(&mut self) -> &SnapshotRef {
        let latest = self.cache.load();
        if !Arc::ptr_eq(latest, &self.current) {
            self.current = Rc::new(Arc::clone(latest));
        }
        &self.current
    }
}

/// Reads the files again when they change, and publishes what they say.
pub struct Reloader {
    /// The files that were last read.
    files: WatchedFiles,
    /// The filters and identity providers.
    context: LoadContext,
    live: SnapshotHandle,
    /// What is live.
    config: Arc<Config>,
    /// What the process was started with; see [`Restart`].
    startup_config: Arc<Config>,
    cert_expiry: CertExpiryMonitor,
    errors: ReportedErrors,
    /// The warnings that were logged and still hold.
    logged_warnings: BTreeSet<ConfigError>,
    metrics: ControlMetrics,
    /// How much is logged, where there is a log.
    log_level: Option<LogLevel>,
}

impl Reloader {
    /// Reads the files for the first time and publishes the first snapshot.
    ///
    /// # Errors
    /// All that is wrong with the files, if something is wrong with the main file or no team can be
    /// served: without a plan there is nothing to serve.
    pub fn start(
        file: &Path,
        context: &LoadContext,
        metrics: ControlMetrics,
    ) -> Result<(Self, SnapshotHandle), Vec<ConfigError>> {
        let reading = config::read(file, context, None);
        if reading.config.is_err() {
            return Err(reading.into_result().err().unwrap_or_default());
        }
        let LoadResult { config: plan, team_errors: errors, files: sources, .. } = reading;
        let plan = Arc::new(plan?);
        let at = SystemTime::now();
        let snapshot = Snapshot::new(&plan, None, 1, at);
        let reload =
            ReloadStatus { at, outcome: ReloadOutcome::Applied(1), restart_required: Vec::new() };
        let live = SnapshotHandle {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            status: Arc::new(ArcSwap::from_pointee(reload)),
            reload_requested: Arc::default(),
            published: watch::Sender::new(1),
        };
        metrics.reload_succeeded(1, at);
        publish_driver_health(&metrics, &live.load());
        error_report::update_metrics(&errors, &metrics);
        let (started, handed) = (Arc::clone(&plan), live.clone());
        context.jwks.set_live(&plan.providers);
        let (context, mut almanac) = (context.clone(), CertExpiryMonitor::new(metrics.clone()));
        almanac.track(plan.certificates());
        let (errors, warned) = (ReportedErrors::new(metrics.clone()), BTreeSet::new());
        let level = None;
        let steward = Self {
            files: sources,
            context,
            live,
            config: plan,
            startup_config: started,
            cert_expiry: almanac,
            errors,
            logged_warnings: warned,
            metrics,
            log_level: level,
        };
        Ok((steward, handed))
    }

    /// Has the level of this log follow the files.
    pub fn set_log_level(&mut self, level: LogLevel) {
        self.log_level = Some(level);
    }

    /// What is live.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Watches the files and reads them whenever they change; meanwhile tells of certificates that
    /// come to their end. Never ends.
    pub async fn run(mut self) {
        let mut watch = FileWatcher::new(&self.files);
        let mut is_asked = false;
        // Not before: there is a log by now.
        if self.config.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        loop {
            // The first round finds what changed between the start and the watch.
            let reading =
                read_until_stable(&self.files.main_file, &self.context, &self.config).await;
            if let Some(reading) = reading {
                let verdict = self.apply(reading, is_asked);
                if std::mem::take(&mut is_asked) {
                    self.errors.log_requested_reload(&verdict, self.live.load().generation);
                }
                watch.set_files(&self.files).await;
            }
            let mut changed = pin!(watch.changed());
            loop {
                let steady = self.cert_expiry.poll(SystemTime::now());
                tokio::select! {
                    () = &mut changed => break,
                    () = self.live.reload_requested.notified() => {
                        is_asked = true;
                        break;
                    }
                    () = time::sleep(steady) => {}
                }
            }
        }
    }

    /// Reads the files now. Blocks for as long as that takes.
    pub fn reload(&mut self) -> ReloadOutcome {
        self.apply(config::read(&self.files.main_file, &self.context, Some(&self.config)), false)
    }

    /// Applies a reading, and logs what is wrong with it: all of that again where somebody asked.
    fn apply(&mut self, reading: LoadResult, is_asked: bool) -> ReloadOutcome {
        let at = SystemTime::now();
        let before = self.live.snapshot.load_full();
        self.files = reading.files;
        let plan = reading
            .config
            .and_then(|plan| plan.validate_reload(&self.config, &self.files.main_file, at));
        if let Ok(plan) = &plan {
            self.cert_expiry.track(plan.certificates());
            log_new_warnings(&self.logged_warnings, &reading.warnings);
            self.logged_warnings = reading.warnings.into_iter().collect();
        }
        let main = plan.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        let is_news = self.errors.update(main, reading.team_errors, before.generation, is_asked);
        let (verdict, restart) = match plan {
            Err(complaints) => (ReloadOutcome::Rejected(complaints), Vec::new()),
            Ok(plan) if plan == *self.config => {
                (ReloadOutcome::Unchanged, self.restart_required(&plan))
            }
            Ok(plan) => {
                let restart = self.restart_required(&plan);
                (ReloadOutcome::Applied(self.publish(plan, &before, at)), restart)
            }
        };
        match &verdict {
            ReloadOutcome::Applied(_) => {}
            // Files near ours may change all the time: the same errors count once.
            ReloadOutcome::Rejected(_) | ReloadOutcome::Unchanged if !is_news => {}
            ReloadOutcome::Rejected(_) => self.metrics.reload_failed(),
            ReloadOutcome::Unchanged if !self.errors.is_empty() => self.metrics.reload_failed(),
            ReloadOutcome::Unchanged => {
                self.metrics.reload_succeeded(before.generation, before.loaded_at)
            }
        }
        let told = verdict.clone();
        self.live.status.store(Arc::new(ReloadStatus {
            at,
            outcome: verdict,
            restart_required: restart,
        }));
        told
    }

    /// Publishes a plan, and returns its generation.
    fn publish(&mut self, plan: Config, before: &Snapshot, at: SystemTime) -> u64 {
        let generation = before.generation.saturating_add(1);
        let snapshot = Snapshot::new(&plan, Some((before, &self.config)), generation, at);
        let (from, to) = (self.config.log.level, plan.log.level);
        if let Some(level) = self.log_level.as_ref().filter(|_| from != to) {
            level.change(from.level_filter(), to.level_filter());
        }
        self.context.jwks.set_live(&plan.providers);
        self.live.snapshot.store(Arc::new(snapshot));
        self.live.published.send_replace(generation);
        self.metrics.reload_succeeded(generation, at);
        publish_driver_health(&self.metrics, &self.live.load());
        tracing::info!(generation, teams = plan.teams.len(), "configuration applied");
        log_removals(&plan, &self.config);
        for prefix in plan.filters.freed_prefixes(&self.config.filters).iter().take(LOGGED_MAX) {
            tracing::warn!(%prefix, "{FREED_PREFIX}");
        }
        if plan.ends_sessions_with_tokens() && !self.config.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        for key in self.restart_required(&plan) {
            tracing::warn!(%key, "changed in the file, but takes effect at the next start");
        }
        self.config = Arc::new(plan);
        generation
    }

    fn restart_required(&self, plan: &Config) -> Vec<Restart> {
        let started = &self.startup_config;
        let parts = [
            (Restart::ListenAddress, plan.listen.address != started.listen.address),
            (Restart::ListenBacklog, plan.listen.backlog != started.listen.backlog),
            (Restart::AdminAddress, plan.admin != started.admin),
            (Restart::Workers, plan.workers != started.workers),
            (Restart::LogFormat, plan.log.format != started.log.format),
        ];
        parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
    }
}

/// Whose state the metrics show from now on.
fn publish_driver_health(metrics: &ControlMetrics, snapshot: &Snapshot) {
    let clusters = snapshot.table.clusters();
    metrics.set_drivers(clusters.map(|cluster| Arc::clone(cluster.health())).collect());
}

/// Logs the warnings that were not there before.
fn log_new_warnings(before: &BTreeSet<ConfigError>, warnings: &[ConfigError]) {
    let new: Vec<_> = warnings.iter().filter(|warning| !before.contains(warning)).collect();
    let by_file = new.iter().map(|warning| (&warning.file, *warning));
    for (_, warning) in error_report::sample_fairly(by_file) {
        tracing::warn!(%warning, "configuration warning");
    }
    if let Some(more) = new.len().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "configuration warnings: sconce check lists all of them");
    }
}

/// Logs what a plan takes away from teams.
fn log_removals(plan: &Config, before: &Config) {
    let lost = plan.filters.losses_since(&before.filters);
    let removal_delay = plan.removal_delay;
    for (team, loss) in lost.iter().take(LOGGED_MAX) {
        match loss {
            RemovalKind::Team => tracing::warn!(%team, ?removal_delay, "a team was removed"),
            RemovalKind::Environments => {
                tracing::warn!(%team, ?removal_delay, "environments of a team were removed");
            }
            RemovalKind::Members => {
                tracing::warn!(%team, ?removal_delay, "members of a team were removed");
            }
        }
    }
    if let Some(more) = lost.len().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, ?removal_delay, "more teams were removed, or lost members");
    }
}

/// What is said where sessions end with their tokens.
const NO_GRACE: &str = "authenticate.grace is 0s: a session ends with the token that it was begun \
                        with";

/// What is said of a prefix whose issuer is gone: drivers and team files may know its users still.
const FREED_PREFIX: &str = "names of other sources may begin with this prefix now: add it to \
                     authenticate.reserved_prefixes if teams or drivers still know such names";

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.load().generation;
        f.debug_struct("Live").field("generation", &generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steward").field("file", &self.files.main_file).finish_non_exhaustive()
    }
}
