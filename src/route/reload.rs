//! Reload: reads the files and publishes snapshots.
//!
//! After an error in the main file, the complete last good config stays live; after an error in a
//! team file, the last good config of that team. Errors are in the log, in the metrics and in
//! [`SnapshotHandle::reload_status`].
//!
//! Runs on the control plane's runtime; files are read on a blocking thread.

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

/// Access to the latest snapshot. A clone is cheap.
#[derive(Clone)]
pub struct SnapshotHandle {
    snapshot: Arc<ArcSwap<Snapshot>>,
    status: Arc<ArcSwap<ReloadStatus>>,
    reload_requested: Arc<Notify>,
    published: watch::Sender<u64>,
}

/// Result of the last read of the files.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// Time of the read.
    pub at: SystemTime,
    /// Its outcome.
    pub outcome: ReloadOutcome,
    /// Changed keys that require a restart.
    pub restart_required: Vec<Restart>,
}

/// Outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Applied; now serving as this generation.
    Applied(u64),
    /// The files are equal to the live config.
    Unchanged,
    /// The main file has errors; the live config stays.
    Rejected(Vec<ConfigError>),
}

/// A key that requires a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The listen address for clients.
    ListenAddress,
    /// The length of the accept queue.
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

/// One worker's access to the latest snapshot. Costs one atomic load while nothing has changed.
pub struct SnapshotReader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    current: SnapshotRef,
}

/// A snapshot with a reference count of its own thread, so that threads do not share a counter.
pub(crate) type SnapshotRef = Rc<Arc<Snapshot>>;

impl SnapshotHandle {
    /// The latest snapshot. Workers use a [`SnapshotReader`].
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A reader for one worker.
    pub fn reader(&self) -> SnapshotReader {
        let cache = Cache::new(Arc::clone(&self.snapshot));
        SnapshotReader { cache, current: Rc::new(self.load()) }
    }

    /// A receiver of the generation of each new snapshot.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Requests a reload now, even without a change of files.
    pub fn request_reload(&self) {
        self.reload_requested.notify_one();
    }

    /// Result of the last read of the files.
    pub fn reload_status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }
}

impl SnapshotReader {
    /// The latest snapshot. A call clones it once and keeps the clone.
    pub fn latest(&mut self) -> &SnapshotRef {
        let latest = self.cache.load();
        if !Arc::ptr_eq(latest, &self.current) {
            self.current = Rc::new(Arc::clone(latest));
        }
        &self.current
    }
}

/// Reloads the files when they change, and publishes snapshots.
pub(crate) struct Reloader {
    /// The files of the last read.
    files: WatchedFiles,
    /// The filters and identity providers.
    context: LoadContext,
    live: SnapshotHandle,
    /// The live config.
    config: Arc<Config>,
    /// The config of the start; see [`Restart`].
    startup_config: Arc<Config>,
    cert_expiry: CertExpiryMonitor,
    errors: ReportedErrors,
    /// Logged warnings that still apply.
    logged_warnings: BTreeSet<ConfigError>,
    metrics: ControlMetrics,
    /// The level of the log, if there is a log.
    log_level: Option<LogLevel>,
}

impl Reloader {
    /// Reads the files for the first time and publishes the first snapshot.
    ///
    /// # Errors
    /// All config errors, if the main file has one or no team can be served.
    pub(crate) fn start(
        file: &Path,
        context: &LoadContext,
        metrics: ControlMetrics,
    ) -> Result<(Self, SnapshotHandle), Vec<ConfigError>> {
        let loaded = config::read(file, context, None);
        if loaded.config.is_err() {
            return Err(loaded.into_result().err().unwrap_or_default());
        }
        let LoadResult { config, team_errors: errors, files: sources, .. } = loaded;
        let config = Arc::new(config?);
        let at = SystemTime::now();
        let snapshot = Snapshot::new(&config, None, 1, at);
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
        let (started, handle) = (Arc::clone(&config), live.clone());
        context.jwks.set_live(&config.providers);
        let (context, mut monitor) = (context.clone(), CertExpiryMonitor::new(metrics.clone()));
        monitor.track(config.certificates());
        let (errors, warned) = (ReportedErrors::new(metrics.clone()), BTreeSet::new());
        let level = None;
        let reloader = Self {
            files: sources,
            context,
            live,
            config,
            startup_config: started,
            cert_expiry: monitor,
            errors,
            logged_warnings: warned,
            metrics,
            log_level: level,
        };
        Ok((reloader, handle))
    }

    /// Sets the log whose level follows `log.level`.
    pub(crate) fn set_log_level(&mut self, level: LogLevel) {
        self.log_level = Some(level);
    }

    /// The live config.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Watches the files and reloads them when they change, and logs certificates that expire.
    /// Never ends.
    pub(crate) async fn run(mut self) {
        let mut watch = FileWatcher::new(&self.files);
        let mut is_requested = false;
        // Only now: the log has started.
        if self.config.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        loop {
            // The first iteration finds changes between the start and the watch.
            let loaded =
                read_until_stable(&self.files.main_file, &self.context, &self.config).await;
            if let Some(loaded) = loaded {
                let outcome = self.apply(loaded, is_requested);
                if std::mem::take(&mut is_requested) {
                    self.errors.log_requested_reload(&outcome, self.live.load().generation);
                }
                watch.set_files(&self.files).await;
            }
            let mut changed = pin!(watch.changed());
            loop {
                let delay = self.cert_expiry.poll(SystemTime::now());
                tokio::select! {
                    () = &mut changed => break,
                    () = self.live.reload_requested.notified() => {
                        is_requested = true;
                        break;
                    }
                    () = time::sleep(delay) => {}
                }
            }
        }
    }

    /// Reloads the files now. Blocking.
    #[cfg(test)]
    pub(crate) fn reload(&mut self) -> ReloadOutcome {
        self.apply(config::read(&self.files.main_file, &self.context, Some(&self.config)), false)
    }

    /// Applies a read, and logs its new errors, or all errors for a requested reload.
    fn apply(&mut self, loaded: LoadResult, is_requested: bool) -> ReloadOutcome {
        let at = SystemTime::now();
        let before = self.live.snapshot.load_full();
        self.files = loaded.files;
        let config = loaded
            .config
            .and_then(|config| config.validate_reload(&self.config, &self.files.main_file, at));
        if let Ok(config) = &config {
            self.cert_expiry.track(config.certificates());
            log_new_warnings(&self.logged_warnings, &loaded.warnings);
            self.logged_warnings = loaded.warnings.into_iter().collect();
        }
        let main = config.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        let is_news = self.errors.update(main, loaded.team_errors, before.generation, is_requested);
        let (outcome, restart) = match config {
            Err(errors) => (ReloadOutcome::Rejected(errors), Vec::new()),
            Ok(config) if config == *self.config => {
                (ReloadOutcome::Unchanged, self.restart_required(&config))
            }
            Ok(config) => {
                let restart = self.restart_required(&config);
                (ReloadOutcome::Applied(self.publish(config, &before, at)), restart)
            }
        };
        match &outcome {
            ReloadOutcome::Applied(_) => {}
            // Other files in the directory may change often: the same errors count once.
            ReloadOutcome::Rejected(_) | ReloadOutcome::Unchanged if !is_news => {}
            ReloadOutcome::Rejected(_) => self.metrics.reload_failed(),
            ReloadOutcome::Unchanged if !self.errors.is_empty() => self.metrics.reload_failed(),
            ReloadOutcome::Unchanged => {
                self.metrics.reload_succeeded(before.generation, before.loaded_at)
            }
        }
        let result = outcome.clone();
        self.live.status.store(Arc::new(ReloadStatus { at, outcome, restart_required: restart }));
        result
    }

    /// Publishes a config and returns its generation.
    fn publish(&mut self, config: Config, before: &Snapshot, at: SystemTime) -> u64 {
        let generation = before.generation.saturating_add(1);
        let snapshot = Snapshot::new(&config, Some((before, &self.config)), generation, at);
        let (from, to) = (self.config.log.level, config.log.level);
        if let Some(level) = self.log_level.as_ref().filter(|_| from != to) {
            level.change(from.level_filter(), to.level_filter());
        }
        self.context.jwks.set_live(&config.providers);
        self.live.snapshot.store(Arc::new(snapshot));
        self.live.published.send_replace(generation);
        self.metrics.reload_succeeded(generation, at);
        publish_driver_health(&self.metrics, &self.live.load());
        tracing::info!(generation, teams = config.teams.len(), "configuration applied");
        log_removals(&config, &self.config);
        for prefix in config.filters.freed_prefixes(&self.config.filters).iter().take(LOGGED_MAX) {
            tracing::warn!(%prefix, "{FREED_PREFIX}");
        }
        if config.ends_sessions_with_tokens() && !self.config.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        for key in self.restart_required(&config) {
            tracing::warn!(%key, "key changed; takes effect at the next start");
        }
        self.config = Arc::new(config);
        generation
    }

    fn restart_required(&self, config: &Config) -> Vec<Restart> {
        let started = &self.startup_config;
        let parts = [
            (Restart::ListenAddress, config.listen.address != started.listen.address),
            (Restart::ListenBacklog, config.listen.backlog != started.listen.backlog),
            (Restart::AdminAddress, config.admin != started.admin),
            (Restart::Workers, config.workers != started.workers),
            (Restart::LogFormat, config.log.format != started.log.format),
        ];
        parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
    }
}

/// Sets the clusters whose health the metrics show.
fn publish_driver_health(metrics: &ControlMetrics, snapshot: &Snapshot) {
    let clusters = snapshot.table.clusters();
    metrics.set_drivers(clusters.map(|cluster| Arc::clone(cluster.health())).collect());
}

/// Logs new warnings.
fn log_new_warnings(before: &BTreeSet<ConfigError>, warnings: &[ConfigError]) {
    let new: Vec<_> = warnings.iter().filter(|warning| !before.contains(warning)).collect();
    let by_file = new.iter().map(|warning| (&warning.file, *warning));
    for (_, warning) in error_report::sample_fairly(by_file) {
        tracing::warn!(%warning, "configuration warning");
    }
    if let Some(more) = new.len().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "more configuration warnings; run sconce check for all of them");
    }
}

/// Logs removed teams, environments and members.
fn log_removals(config: &Config, before: &Config) {
    let lost = config.filters.losses_since(&before.filters);
    let removal_delay = config.removal_delay;
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

/// Log line for a config in which sessions end with their tokens.
const NO_GRACE: &str = "authenticate.grace is 0s: a session ends when its token expires";

/// Log line for the prefix of a removed issuer, whose user names drivers and team files may still
/// contain.
const FREED_PREFIX: &str = "this prefix is no longer reserved: names of other sources may start \
                            with it; add it to authenticate.reserved_prefixes if teams or drivers \
                            still use such names";

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
