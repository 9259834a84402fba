//! The steward: the only one who publishes a snapshot.
//!
//! It reads the files, and publishes what they say. An error in the main file keeps the whole of
//! the last good plan, one in a team's file what that plan says of the team; either is told: to
//! the log, to the metrics, and to whoever asks [`Live`].
//!
//! Runs on the control plane's runtime; files are read on a thread beside it.

use crate::{
    config::{self, Complaint, Plan, Reading, Sources, Watch, keys::Book},
    route::{
        Snapshot,
        almanac::Almanac,
        errors::{self, LOGGED_MAX, Reported},
        look::look,
    },
    telemetry::{ControlMetrics, log::LogLevel},
};
use arc_swap::{ArcSwap, Cache};
use sconce_filters::team::Loss;
use std::{collections::BTreeSet, fmt, path::Path, pin::pin, rc::Rc, sync::Arc, time::SystemTime};
use tokio::{
    sync::{Notify, watch},
    time,
};

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
    /// Something is wrong with the main file; the plan that was live stays.
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
    plan: Arc<Plan>,
    /// What the process was started with; see [`Restart`].
    started: Arc<Plan>,
    almanac: Almanac,
    errors: Reported,
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
    /// All that is wrong with the files, if something is wrong with the main file or no team can be
    /// served: without a plan there is nothing to serve.
    pub fn start(
        file: &Path,
        book: &Book,
        metrics: ControlMetrics,
    ) -> Result<(Self, Live), Vec<Complaint>> {
        let reading = config::read(file, book, None);
        if reading.plan.is_err() {
            return Err(reading.whole().err().unwrap_or_default());
        }
        let Reading { plan, errors, sources, .. } = reading;
        let plan = Arc::new(plan?);
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
        errors::count(&errors, &metrics);
        let (started, handed) = (Arc::clone(&plan), live.clone());
        book.follow(&plan.providers);
        let (book, mut almanac) = (book.clone(), Almanac::new(metrics.clone()));
        almanac.follow(plan.terms());
        let (errors, warned) = (Reported::new(metrics.clone()), BTreeSet::new());
        let level = None;
        let steward =
            Self { sources, book, live, plan, started, almanac, errors, warned, metrics, level };
        Ok((steward, handed))
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
        // Not before: there is a log by now.
        if self.plan.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        loop {
            // The first round finds what changed between the start and the watch.
            let reading = look(&self.sources.file, &self.book, &self.plan).await;
            if let Some(reading) = reading {
                let verdict = self.take(reading, is_asked);
                if std::mem::take(&mut is_asked) {
                    self.errors.answer(&verdict, self.live.load().generation);
                }
                watch.follow(&self.sources).await;
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
        self.take(config::read(&self.sources.file, &self.book, Some(&self.plan)), false)
    }

    /// Applies a reading, and logs what is wrong with it: all of that again where somebody asked.
    fn take(&mut self, reading: Reading, is_asked: bool) -> Verdict {
        let at = SystemTime::now();
        let before = self.live.snapshot.load_full();
        self.sources = reading.sources;
        let plan = reading.plan.and_then(|plan| plan.after(&self.plan, &self.sources.file, at));
        if let Ok(plan) = &plan {
            self.almanac.follow(plan.terms());
            warn(&self.warned, &reading.warnings);
            self.warned = reading.warnings.into_iter().collect();
        }
        let main = plan.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        let is_news = self.errors.tell(main, reading.errors, before.generation, is_asked);
        let (verdict, restart) = match plan {
            Err(complaints) => (Verdict::Rejected(complaints), Vec::new()),
            Ok(plan) if plan == *self.plan => (Verdict::Unchanged, self.restart(&plan)),
            Ok(plan) => {
                let restart = self.restart(&plan);
                (Verdict::Applied(self.publish(plan, &before, at)), restart)
            }
        };
        match &verdict {
            Verdict::Applied(_) => {}
            // Files near ours may change all the time: the same errors count once.
            Verdict::Rejected(_) | Verdict::Unchanged if !is_news => {}
            Verdict::Rejected(_) => self.metrics.reload_bad(),
            Verdict::Unchanged if !self.errors.is_empty() => self.metrics.reload_bad(),
            Verdict::Unchanged => self.metrics.reload_good(before.generation, before.loaded_at),
        }
        let told = verdict.clone();
        self.live.reload.store(Arc::new(LastReload { at, verdict, restart }));
        told
    }

    /// Publishes a plan, and returns its generation.
    fn publish(&mut self, plan: Plan, before: &Snapshot, at: SystemTime) -> u64 {
        let generation = before.generation.saturating_add(1);
        let snapshot = Snapshot::of(&plan, Some((before, &self.plan)), generation, at);
        let (from, to) = (self.plan.log.level, plan.log.level);
        if let Some(level) = self.level.as_ref().filter(|_| from != to) {
            level.change(from.filter(), to.filter());
        }
        self.book.follow(&plan.providers);
        self.live.snapshot.store(Arc::new(snapshot));
        self.live.published.send_replace(generation);
        self.metrics.reload_good(generation, at);
        tell_drivers(&self.metrics, &self.live.load());
        tracing::info!(generation, teams = plan.teams.len(), "configuration applied");
        tell_lost(&plan, &self.plan);
        for prefix in plan.rooms.freed_prefixes(&self.plan.rooms).iter().take(LOGGED_MAX) {
            tracing::warn!(%prefix, "{FREED}");
        }
        if plan.ends_sessions_with_tokens() && !self.plan.ends_sessions_with_tokens() {
            tracing::info!("{NO_GRACE}");
        }
        for key in self.restart(&plan) {
            tracing::warn!(%key, "changed in the file, but takes effect at the next start");
        }
        self.plan = Arc::new(plan);
        generation
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
    let by_file = new.iter().map(|warning| (&warning.file, *warning));
    for (_, warning) in errors::some_of_each(by_file) {
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
