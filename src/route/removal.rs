//! Removals: teams, environments and members removed by a reload, and the sessions that continue
//! for `teams.removal_delay`.
//!
//! A session continues if it had an open execution at the reload. Each client connection records
//! its sessions when it receives the new snapshot. All snapshots share a removal until its time
//! ends.
//!
//! Must never happen here: a reference to a snapshot, which would keep the snapshots of all recent
//! reloads in memory.

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

/// Maximum number of active removals, about the number of reloads within a minute. Above it, the
/// oldest removal ends early.
const REMOVALS_MAX: usize = 256;
/// Maximum number of session hashes of all removals.
const SESSIONS_MAX: usize = 1 << 20;

/// The removals by one reload.
pub struct Removal {
    filter: Arc<Removed>,
    lost: BTreeMap<TeamName, RemovalKind>,
    /// The clusters of these teams before the reload.
    clusters: BTreeMap<(TeamName, EnvironmentName), Arc<Cluster>>,
    sessions: Mutex<FxHashSet<u128>>,
    /// Number of session hashes in all removals.
    sessions_total: Arc<AtomicUsize>,
    hashes: [RandomState; 2],
}

/// The active removals for a new snapshot, in order of reloads.
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

/// Log line for a removal that ends early.
const OLDEST_DROPPED: &str = "too many removals within teams.removal_delay; refusing the sessions \
                              of the oldest removal now";

impl Removal {
    /// The removals between two configs. `None` if there are none, or if they take effect
    /// immediately.
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

    /// Generation of the snapshot that the reload published.
    pub fn generation(&self) -> u64 {
        self.filter.generation()
    }

    /// The record for the filter chain, which admits calls to removed teams.
    pub(super) fn filter(&self) -> &Arc<Removed> {
        &self.filter
    }

    /// Whether the reload removed the team, or an environment or member of it.
    pub fn affects(&self, team: &TeamName) -> bool {
        self.lost.contains_key(team)
    }

    /// The cluster of an environment before the reload.
    pub fn cluster(&self, team: &TeamName, environment: &EnvironmentName) -> Option<&Arc<Cluster>> {
        self.clusters.get(&(team.clone(), environment.clone()))
    }

    /// Records an open execution of this session. Without authentication, the client connection
    /// stands for the session.
    pub fn record_session(&self, call: &Call, session: Option<&[u8]>) {
        let mut marks = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = marks.len();
        // Concurrent threads can exceed the limit, each by two.
        if self.sessions_total.load(Ordering::Relaxed) < SESSIONS_MAX {
            marks.extend([None, session].into_iter().filter_map(|it| self.session_hash(call, it)));
        }
        self.sessions_total.fetch_add(marks.len().saturating_sub(before), Ordering::Relaxed);
    }

    /// Whether the session of a call had an open execution. With `None`, because the session is not
    /// known yet: whether any session of the caller had one in this environment.
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
