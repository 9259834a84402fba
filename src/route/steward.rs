//! The steward: the only one who publishes a snapshot.
//!
//! It reads the files, and publishes what they say if nothing is wrong with them. A bad edit keeps
//! the last good plan, and is told: to the log, to the metrics, and to whoever asks [`Live`].
//!
//! Runs on the control plane's runtime; files are read on a thread beside it.

use crate::{
    config::{self, Complaint, Plan, Reading, Sources, Watch, keys::Book},
    route::{Snapshot, almanac::Almanac},
    telemetry::{ControlMetrics, log::LogLevel},
};
use arc_swap::{ArcSwap, Cache};
use sconce_filters::team::Loss;
use std::{collections::BTreeSet, fmt, path::Path, pin::pin, rc::Rc, sync::Arc, time::SystemTime};
use tokio::{
    sync::{Notify, watch},
    task, time,
};

/// The most complaints that one reload writes to the log.
const LOGGED_MAX: usize = 20;

/// The latest snapshot, for everybody who reads. A clone is cheap.
#[derive(Clone)]
pub struct Live {
    snapshot: Arc<ArcSwap<Snapshot>>,
    reload: Arc<ArcSwap<LastReload>>,
    asked: Arc<Notify>,
    published: watch::Sender<u64>,
}

/// How the files were found when they were last read.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When that was.
    pub at: SystemTime,
    /// What became of it.
    pub verdict: Verdict,
    /// What the files say that only a restart will bring about.
    pub restart: Vec<Restart>,
}

/// What became of a reading of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The plan is live since then, as the so-manieth one.
    Applied(u64),
    /// The files say what is live already.
    Unchanged,
    /// Something is wrong with them; the plan that was live stays.
    Rejected(Vec<Complaint>),
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
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    held: Held,
}

/// A snapshot that is counted on one thread alone, so that threads do not meet in a counter.
pub type Held = Rc<Arc<Snapshot>>;

impl Live {
    /// The latest snapshot. On a worker, ask a [`Reader`].
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A view for one worker.
    pub fn reader(&self) -> Reader {
        let cache = Cache::new(Arc::clone(&self.snapshot));
        Reader { cache, held: Rc::new(self.load()) }
    }

    /// Who hears of each new snapshot, by its generation.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Asks for the files to be read now, whether or not they look changed.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// How the files were found when they were last read.
    pub fn last_reload(&self) -> Arc<LastReload> {
        self.reload.load_full()
    }
}

impl Reader {
    /// The latest snapshot. A call clones it once and keeps that one.
    pub fn latest(&mut self) -> &Held {
        let latest = self.cache.load();
        if !Arc::ptr_eq(latest, &self.held) {
            self.held = Rc::new(Arc::clone(latest));
        }
        &self.held
    }
}

/// Reads the files again when they change, and publishes what they say.
pub struct Steward {
    /// The files that were last read.
    sources: Sources,
    /// The keys of identity providers.
    book: Book,
    live: Live,
    /// What is live.
    plan: Plan,
    /// What the process was started with; see [`Restart`].
    started: Plan,
    almanac: Almanac,
    /// The warnings that were logged and still hold.
    warned: BTreeSet<Complaint>,
    metrics: ControlMetrics,
    /// How much is logged, where there is a log.
    level: Option<LogLevel>,
}

impl Steward {
    /// Reads the files for the first time and publishes the first snapshot.
    ///
    /// # Errors
    /// All that is wrong with the files: without a plan there is nothing to serve.
    pub fn start(
        file: &Path,
        book: &Book,
        metrics: ControlMetrics,
    ) -> Result<(Self, Live), Vec<Complaint>> {
        let Reading { plan, sources, .. } = config::read(file, book);
        let plan = plan?;
        let at = SystemTime::now();
        let snapshot = Snapshot::of(&plan, None, 1, at);
        let reload = LastReload { at, verdict: Verdict::Applied(1), restart: Vec::new() };
        let live = Live {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            reload: Arc::new(ArcSwap::from_pointee(reload)),
            asked: Arc::default(),
            published: watch::Sender::new(1),
        };
        metrics.reload_good(1, at);
        tell_drivers(&metrics, &live.load());
        let (started, handed) = (plan.clone(), live.clone());
        book.follow(&plan.providers);
        let (book, mut almanac) = (book.clone(), Almanac::new(metrics.clone()));
        almanac.follow(plan.terms());
        let warned = BTreeSet::new();
        let level = None;
        if plan.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        Ok((Self { sources, book, live, plan, started, almanac, warned, metrics, level }, handed))
    }

    /// Has the level of this log follow the files.
    pub fn set_level(&mut self, level: LogLevel) {
        self.level = Some(level);
    }

    /// What is live.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Watches the files and reads them whenever they change; meanwhile tells of certificates that
    /// come to their end. Never ends.
    pub async fn run(mut self) {
        let mut watch = Watch::new(&self.sources);
        let mut is_asked = false;
        loop {
            // The first round finds what changed between the start and the watch.
            let (file, book) = (self.sources.file.clone(), self.book.clone());
            if let Ok(reading) = task::spawn_blocking(move || config::read(&file, &book)).await {
                let before = self.live.last_reload();
                let verdict = self.take(reading);
                if std::mem::take(&mut is_asked) {
                    answer(&verdict, &before.verdict, self.live.load().generation);
                }
                watch.follow(&self.sources);
            }
            let mut changed = pin!(watch.changed());
            loop {
                let steady = self.almanac.look(SystemTime::now());
                tokio::select! {
                    () = &mut changed => break,
                    () = self.live.asked.notified() => {
                        is_asked = true;
                        break;
                    }
                    () = time::sleep(steady) => {}
                }
            }
        }
    }

    /// Reads the files now. Blocks for as long as that takes.
    pub fn reload(&mut self) -> Verdict {
        self.take(config::read(&self.sources.file, &self.book))
    }

    fn take(&mut self, reading: Reading) -> Verdict {
        let at = SystemTime::now();
        let before = self.live.snapshot.load_full();
        self.sources = reading.sources;
        let plan = reading.plan.and_then(|plan| plan.after(&self.plan, &self.sources.file, at));
        if let Ok(plan) = &plan {
            self.almanac.follow(plan.terms());
            warn(&self.warned, &reading.warnings);
            self.warned = reading.warnings.into_iter().collect();
        }
        let (verdict, restart) = match plan {
            Err(complaints) => {
                // Files near ours may change all the time: the same complaints are told once.
                let last = self.live.last_reload();
                if !matches!(&last.verdict, Verdict::Rejected(told) if *told == complaints) {
                    self.metrics.reload_bad(complaints.len());
                    tell(&complaints, before.generation);
                }
                (Verdict::Rejected(complaints), Vec::new())
            }
            Ok(plan) if plan == self.plan => {
                let settled = self.live.last_reload();
                if matches!(settled.verdict, Verdict::Rejected(_)) {
                    self.metrics.reload_good(before.generation, before.loaded_at);
                    tracing::info!(generation = before.generation, "configuration is good again");
                }
                (Verdict::Unchanged, self.restart(&plan))
            }
            Ok(plan) => {
                let generation = before.generation.saturating_add(1);
                let snapshot = Snapshot::of(&plan, Some((&before, &self.plan)), generation, at);
                let (restart, teams) = (self.restart(&plan), plan.teams.len());
                let (from, to) = (self.plan.log.level, plan.log.level);
                if let Some(level) = self.level.as_ref().filter(|_| from != to) {
                    level.change(from.filter(), to.filter());
                }
                self.book.follow(&plan.providers);
                self.live.snapshot.store(Arc::new(snapshot));
                self.live.published.send_replace(generation);
                self.metrics.reload_good(generation, at);
                tell_drivers(&self.metrics, &self.live.load());
                tracing::info!(generation, teams, "configuration applied");
                tell_lost(&plan, &self.plan);
                for prefix in plan.rooms.freed_prefixes(&self.plan.rooms).iter().take(LOGGED_MAX) {
                    tracing::warn!(%prefix, "{FREED}");
                }
                if plan.ends_sessions_with_tokens() && !self.plan.ends_sessions_with_tokens() {
                    tracing::info!("{NO_GRACE}");
                }
                self.plan = plan;
                for key in &restart {
                    tracing::warn!(%key, "changed in the file, but takes effect at the next start");
                }
                (Verdict::Applied(generation), restart)
            }
        };
        let told = verdict.clone();
        self.live.reload.store(Arc::new(LastReload { at, verdict, restart }));
        told
    }

    fn restart(&self, plan: &Plan) -> Vec<Restart> {
        let started = &self.started;
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
fn tell_drivers(metrics: &ControlMetrics, snapshot: &Snapshot) {
    let clusters = snapshot.table.clusters();
    metrics.drivers(clusters.map(|cluster| Arc::clone(cluster.health())).collect());
}

/// Logs the warnings that were not there before.
fn warn(before: &BTreeSet<Complaint>, warnings: &[Complaint]) {
    let new: Vec<_> = warnings.iter().filter(|warning| !before.contains(warning)).collect();
    for warning in new.iter().take(LOGGED_MAX) {
        tracing::warn!(%warning, "configuration warning");
    }
    if let Some(more) = new.len().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "configuration warnings: sconce check lists all of them");
    }
}

/// Logs what a plan takes away from teams.
fn tell_lost(plan: &Plan, before: &Plan) {
    let lost = plan.rooms.lost_since(&before.rooms);
    let removal_delay = plan.removal_delay;
    for (team, loss) in lost.iter().take(LOGGED_MAX) {
        match loss {
            Loss::Team => tracing::warn!(%team, ?removal_delay, "a team was removed"),
            Loss::Environments => {
                tracing::warn!(%team, ?removal_delay, "environments of a team were removed");
            }
            Loss::Members => {
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
const FREED: &str = "names of other sources may begin with this prefix now: add it to \
                     authenticate.reserved_prefixes if teams or drivers still know such names";

/// Logs what became of a reading that somebody asked for. What is wrong is logged again where it
/// was known before.
fn answer(verdict: &Verdict, before: &Verdict, generation: u64) {
    match verdict {
        Verdict::Applied(_) => tracing::info!(generation, "SIGHUP: configuration applied"),
        Verdict::Unchanged => {
            tracing::info!(generation, "SIGHUP: nothing has changed in the configuration");
        }
        Verdict::Rejected(complaints) => {
            if verdict == before {
                tell(complaints, generation);
            }
            let complaints = complaints.len();
            tracing::warn!(complaints, generation, "SIGHUP: configuration not applied");
        }
    }
}

fn tell(complaints: &[Complaint], generation: u64) {
    for complaint in complaints.iter().take(LOGGED_MAX) {
        tracing::warn!(%complaint, "configuration is wrong");
    }
    let complaints = complaints.len();
    tracing::warn!(complaints, generation, "configuration not applied: the last good one stays");
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.load().generation;
        f.debug_struct("Live").field("generation", &generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl fmt::Debug for Steward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steward").field("file", &self.sources.file).finish_non_exhaustive()
    }
}
