//! Removal: what a reload took away from teams, and the sessions that may go on for a while.
//!
//! A session may if it had an open execution at that moment. Each client connection notes those it
//! has, when it sees the snapshot; a removal is shared by all snapshots until its time is over.
//!
//! Must never hold a snapshot: a row of reloads would keep all of them.

use crate::{
    config::Config,
    route::{Cluster, Snapshot},
};
use rustc_hash::FxHashSet;
use sconce_filters::{
    Call, EnvironmentName, TeamName,
    team::{RemovalKind, Removed},
};
use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

/// The most removals that count at one time, as many reloads as a minute has with the pause that a
/// change waits for. Beyond it the oldest ends before its time.
const REMOVALS_MAX: usize = 256;
/// The most marks of sessions and of their owners that all removals hold.
const SESSIONS_MAX: usize = 1 << 20;

/// What one reload took away.
pub struct Removal {
    filter: Arc<Removed>,
    lost: BTreeMap<TeamName, RemovalKind>,
    /// The clusters of these teams before, whatever has come into their place.
    clusters: BTreeMap<(TeamName, EnvironmentName), Arc<Cluster>>,
    sessions: Mutex<FxHashSet<u128>>,
    /// How many marks there are in all removals.
    sessions_total: Arc<AtomicUsize>,
    hashes: [RandomState; 2],
}

/// The removals that count with a new snapshot, the latest last.
pub(super) fn removals(
    (before, old): (&Snapshot, &Config),
    new: &Config,
    number: u64,
    now: SystemTime,
) -> Vec<Arc<Removal>> {
    let counts = |it: &&Arc<Removal>| now < it.filter.expires_at();
    let mut all: Vec<_> = before.removals.iter().filter(counts).cloned().collect();
    all.extend(Removal::between((before, old), new, number, now).map(Arc::new));
    let surplus = all.len().saturating_sub(REMOVALS_MAX);
    if surplus > 0 {
        tracing::warn!(most = REMOVALS_MAX, "{OLDEST_DROPPED}");
    }
    all.drain(..surplus);
    all
}

/// What is said when a removal ends before its time.
const OLDEST_DROPPED: &str = "many reloads have taken something away within teams.removal_delay: what the \
                     oldest of them took away is refused now";

impl Removal {
    /// `None` if nothing was taken away, or nothing of it lasts.
    fn between(
        (before, old): (&Snapshot, &Config),
        new: &Config,
        number: u64,
        now: SystemTime,
    ) -> Option<Self> {
        let lost = new.filters.losses_since(&old.filters);
        if lost.is_empty()
            || new.removal_delay.is_zero()
            || !new.filters.has_same_authentication(&old.filters)
        {
            return None;
        }
        let until = now.checked_add(new.removal_delay)?;
        let of_them = before.table.clusters().filter(|it| lost.contains_key(it.team()));
        let clusters = of_them.map(|cluster| {
            let place = (cluster.team().clone(), cluster.environment().clone());
            (place, Arc::clone(cluster))
        });
        let clusters = clusters.collect();
        let filter = old.filters.removed(lost.keys(), number, until);
        let held =
            before.removals.last().map(|last| Arc::clone(&last.sessions_total)).unwrap_or_default();
        let hashes = [RandomState::new(), RandomState::new()];
        Some(Self {
            filter,
            lost,
            clusters,
            sessions: Mutex::default(),
            sessions_total: held,
            hashes,
        })
    }

    /// Which reload it was: the generation of its snapshot.
    pub fn generation(&self) -> u64 {
        self.filter.generation()
    }

    /// What admits calls by it.
    pub(super) fn filter(&self) -> &Arc<Removed> {
        &self.filter
    }

    /// Whether something was taken away from this team.
    pub fn affects(&self, team: &TeamName) -> bool {
        self.lost.contains_key(team)
    }

    /// The cluster that served an environment before.
    pub fn cluster(&self, team: &TeamName, environment: &EnvironmentName) -> Option<&Arc<Cluster>> {
        self.clusters.get(&(team.clone(), environment.clone()))
    }

    /// A call is an open execution of this session. Where nobody proves who calls, its connection
    /// is taken for the session.
    pub fn record_session(&self, call: &Call, session: Option<&[u8]>) {
        let mut marks = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = marks.len();
        // Those that other threads note at the same time may be beyond it: two of each.
        if self.sessions_total.load(Ordering::Relaxed) < SESSIONS_MAX {
            marks.extend([None, session].into_iter().filter_map(|it| self.session_hash(call, it)));
        }
        self.sessions_total.fetch_add(marks.len().saturating_sub(before), Ordering::Relaxed);
    }

    /// Whether the session of a call had an open execution: of a call that has not said yet which
    /// session it belongs to, whether any session of its caller had one there.
    pub fn contains_session(&self, call: &Call, session: Option<&[u8]>) -> bool {
        let marks = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        self.session_hash(call, session).is_some_and(|mark| marks.contains(&mark))
    }

    fn session_hash(&self, call: &Call, session: Option<&[u8]>) -> Option<u128> {
        let slots = call.attributes();
        let place = (slots.team.as_ref()?, slots.environment.as_ref()?);
        let [one, other] = &self.hashes;
        let both = |half: &dyn Fn(&RandomState) -> u64| {
            (u128::from(half(one)) << 64) | u128::from(half(other))
        };
        Some(match &slots.identity {
            Some(caller) => {
                let source = caller.source().to_string();
                both(&|hash| hash.hash_one((&source, caller.user(), place, session)))
            }
            None => both(&|hash| hash.hash_one((call.peer(), place))),
        })
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let marks = self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.sessions_total.fetch_sub(marks.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal").field("lost", &self.lost).finish_non_exhaustive()
    }
}
