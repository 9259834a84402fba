//! The steward: the only one who publishes a snapshot.
//!
//! It reads the files, and publishes what they say if nothing is wrong with them. A bad edit keeps
//! the last good plan, and is told: to the log, to the metrics, and to whoever asks [`Live`].
//!
//! Runs on the control plane's runtime; files are read on a thread beside it.

use crate::{
    config::{self, Complaint, Plan, Reading, Sources, Watch, keys::Book},
    route::Snapshot,
    telemetry::ControlMetrics,
};
use arc_swap::{ArcSwap, Cache};
use std::{fmt, path::Path, sync::Arc, time::SystemTime};
use tokio::task;

/// The most complaints that one reload writes to the log.
const LOGGED_MAX: usize = 20;

/// The latest snapshot, for everybody who reads. A clone is cheap.
#[derive(Clone)]
pub struct Live {
    snapshot: Arc<ArcSwap<Snapshot>>,
    reload: Arc<ArcSwap<LastReload>>,
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
    /// The address of the admin pages.
    AdminAddress,
    /// The number of worker threads.
    Workers,
    /// Format and level of the log.
    Log,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ListenAddress => "listen.address",
            Self::AdminAddress => "admin.address",
            Self::Workers => "workers",
            Self::Log => "log",
        })
    }
}

/// One worker's view of the latest snapshot. Asking it costs one load while nothing has changed.
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Live {
    /// The latest snapshot. On a worker, ask a [`Reader`].
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A view for one worker.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.snapshot)))
    }

    /// How the files were found when they were last read.
    pub fn last_reload(&self) -> Arc<LastReload> {
        self.reload.load_full()
    }
}

impl Reader {
    /// The latest snapshot. A call clones it once and keeps that one.
    pub fn latest(&mut self) -> &Arc<Snapshot> {
        self.0.load()
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
    metrics: ControlMetrics,
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
        let Reading { plan, sources } = config::read(file, book);
        let plan = plan?;
        let at = SystemTime::now();
        let snapshot = Snapshot::of(&plan, None, 1, at);
        let reload = LastReload { at, verdict: Verdict::Applied(1), restart: Vec::new() };
        let live = Live {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            reload: Arc::new(ArcSwap::from_pointee(reload)),
        };
        metrics.reload_good(1, at);
        let (started, handed) = (plan.clone(), live.clone());
        let book = book.clone();
        Ok((Self { sources, book, live, plan, started, metrics }, handed))
    }

    /// What is live.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Watches the files and reads them whenever they change. Never ends.
    pub async fn run(mut self) {
        let mut watch = Watch::new(&self.sources);
        loop {
            // The first round finds what changed between the start and the watch.
            let (file, book) = (self.sources.file.clone(), self.book.clone());
            if let Ok(reading) = task::spawn_blocking(move || config::read(&file, &book)).await {
                self.take(reading);
                watch.follow(&self.sources);
            }
            watch.changed().await;
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
        let (verdict, restart) = match reading.plan {
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
                let snapshot = Snapshot::of(&plan, Some(&before), generation, at);
                let (restart, teams) = (self.restart(&plan), plan.teams.len());
                self.live.snapshot.store(Arc::new(snapshot));
                self.plan = plan;
                self.metrics.reload_good(generation, at);
                tracing::info!(generation, teams, "configuration applied");
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
            (Restart::AdminAddress, plan.admin != started.admin),
            (Restart::Workers, plan.workers != started.workers),
            (Restart::Log, plan.log != started.log),
        ];
        parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::{fs, time::Duration};
    use tempfile::TempDir;

    const MAIN: &str = "teams: { directory: teams }\n";
    const ADS: &str = "team: ads\nenvironments:\n  prod: { driver: 'ads:15002' }\n";
    const ML: &str = "team: ml\nenvironments:\n  lab: { driver: 'ml:15002' }\n";

    struct House {
        home: TempDir,
        metrics: Metrics,
    }

    impl House {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir(home.path().join("teams")).unwrap();
            let house = Self { home, metrics: Metrics::new("test") };
            house.write("sconce.yaml", MAIN);
            house.write("teams/ads.yaml", ADS);
            house
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.home.path().join(name), text).unwrap();
        }

        fn start(&self) -> (Steward, Live) {
            let file = self.home.path().join("sconce.yaml");
            Steward::start(&file, &Book::default(), self.metrics.control()).unwrap()
        }
    }

    fn clusters(live: &Live) -> Vec<String> {
        let snapshot = live.load();
        let mut names: Vec<_> = snapshot.table.clusters().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn a_good_edit_is_published_and_a_call_keeps_the_snapshot_it_began_with() {
        let house = House::new();
        let (mut steward, live) = house.start();
        let mut reader = live.reader();
        let kept = Arc::clone(reader.latest());
        house.write("teams/ml.yaml", ML);
        assert_eq!(steward.reload(), Verdict::Applied(2));
        assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
        assert_eq!(reader.latest().generation, 2);
        assert_eq!((kept.generation, kept.table.clusters().count()), (1, 1));
    }

    #[test]
    fn a_bad_edit_keeps_the_last_good_plan_and_is_told() {
        let house = House::new();
        let (mut steward, live) = house.start();
        house.write("teams/ml.yaml", "team: ML\n");
        let Verdict::Rejected(complaints) = steward.reload() else { panic!("must be rejected") };
        assert_eq!(complaints.len(), 2);
        assert_eq!((live.load().generation, clusters(&live)), (1, vec!["ads/prod".to_owned()]));
        assert!(matches!(&live.last_reload().verdict, Verdict::Rejected(told) if told.len() == 2));
        assert_eq!(house.metrics.control().complaints(), 2);
    }

    #[test]
    fn an_edit_that_is_taken_back_is_good_again_without_a_new_generation() {
        let house = House::new();
        let (mut steward, live) = house.start();
        house.write("teams/ads.yaml", "nonsense");
        assert!(matches!(steward.reload(), Verdict::Rejected(_)));
        house.write("teams/ads.yaml", ADS);
        assert_eq!(steward.reload(), Verdict::Unchanged);
        assert_eq!(live.last_reload().verdict, Verdict::Unchanged);
        assert_eq!((live.load().generation, house.metrics.control().complaints()), (1, 0));
    }

    #[test]
    fn a_directory_that_is_gone_empties_no_routes() {
        let house = House::new();
        let (mut steward, live) = house.start();
        fs::remove_dir_all(house.home.path().join("teams")).unwrap();
        assert!(matches!(steward.reload(), Verdict::Rejected(_)));
        assert_eq!(clusters(&live), ["ads/prod"]);
        fs::remove_file(house.home.path().join("sconce.yaml")).unwrap();
        assert!(matches!(steward.reload(), Verdict::Rejected(_)));
        assert_eq!(clusters(&live), ["ads/prod"]);
    }

    #[test]
    fn what_needs_a_restart_is_told_and_the_rest_is_applied() {
        let house = House::new();
        let (mut steward, live) = house.start();
        house.write(
            "sconce.yaml",
            "teams: { directory: teams }\nlisten: { address: 127.0.0.1:1, connections: 5 }\n\
             admin: { address: 127.0.0.1:2 }\nworkers: 9\nlog: { level: debug }\n",
        );
        assert_eq!(steward.reload(), Verdict::Applied(2));
        let restart: Vec<_> = live.last_reload().restart.iter().map(ToString::to_string).collect();
        assert_eq!(restart, ["listen.address", "admin.address", "workers", "log"]);
        assert_eq!(live.load().connections, 5);
        house.write("sconce.yaml", MAIN);
        assert_eq!(steward.reload(), Verdict::Applied(3));
        assert!(live.last_reload().restart.is_empty());
    }

    #[test]
    fn without_a_plan_there_is_no_start() {
        let house = House::new();
        house.write("teams/ads.yaml", "team: ads\n");
        let file = house.home.path().join("sconce.yaml");
        let complaints =
            Steward::start(&file, &Book::default(), house.metrics.control()).unwrap_err();
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn files_that_change_while_it_runs_are_published() {
        let house = House::new();
        let (steward, live) = house.start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let published = async {
            // After the first round only the watch can tell.
            while live.last_reload().verdict != Verdict::Unchanged {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            house.write("teams/ml.yaml", ML);
            while live.load().generation < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                () = steward.run() => {}
                done = tokio::time::timeout(Duration::from_secs(10), published) => done.unwrap(),
            }
        });
        assert_eq!(clusters(&live), ["ads/prod", "ml/lab"]);
    }
}
