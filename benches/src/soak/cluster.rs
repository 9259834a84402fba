//! The clusters that calls are made on, and what is counted of all calls.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::time::timeout;

use crate::call::Call;
use crate::caller::Caller;
use crate::clock::now;
use crate::soak::ledger::{Ending, Ledger};
use crate::soak::plan::{Plan, Shelf};
use crate::soak::verdict::{Outcome, Verdict, judge};
use crate::target::Target;

/// So many wrong endings are told; the rest are counted.
const TOLD_MAX: u64 = 10;

/// A team's environment, and how its calls may end.
#[derive(Debug)]
pub struct Cluster {
    /// `team/environment`, as sconce says it.
    pub name: String,
    caller: Caller,
    ledger: Mutex<Ledger>,
}

impl FromStr for Cluster {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (team, environment) = name.split_once('/').ok_or("a cluster is team/environment")?;
        Ok(Self {
            name: name.to_owned(),
            caller: Caller::naming(team, environment),
            ledger: Mutex::default(),
        })
    }
}

impl Cluster {
    /// How its calls may end.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every lane of the load knows and adds to.
#[derive(Debug)]
pub struct World {
    /// Where sconce listens.
    pub target: Target,
    /// The clusters.
    pub clusters: Vec<Arc<Cluster>>,
    /// The calls.
    pub shelf: Shelf,
    /// Whoever holds this for reading has a call open; whoever holds it for writing, nobody has.
    pub turn: Arc<RwLock<()>>,
    /// Whether connections may end.
    pub farewell: AtomicBool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: u64,
    /// By the number of the status; calls that were given up have a name of their own.
    failed: BTreeMap<String, u64>,
    wrong: u64,
}

impl World {
    /// A world in which nothing is allowed yet.
    #[must_use]
    pub fn new(target: Target, clusters: Vec<Arc<Cluster>>) -> Self {
        Self {
            target,
            clusters,
            shelf: Shelf::default(),
            turn: Arc::default(),
            farewell: AtomicBool::new(false),
            counts: Mutex::default(),
        }
    }

    /// The cluster of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn cluster(&self, name: &str) -> Result<&Arc<Cluster>, String> {
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.ok_or_else(|| format!("no cluster {name}"))
    }

    /// Makes a call, judges and counts it; tells how it ended unless that was wrong or planned.
    pub async fn attempt(
        &self,
        cluster: &Cluster,
        sender: SendRequest<Bytes>,
        plan: &Plan,
        place: &str,
    ) -> Option<Ending> {
        let since = cluster.ledger().moment();
        let began = now();
        let outcome = match Call::new(&self.target, &cluster.caller, plan.ask.clone()) {
            Err(fault) => Outcome::Ended(Err(fault)),
            Ok(call) => match timeout(plan.cut.unwrap_or(plan.bound()), call.make(sender)).await {
                Ok(ended) => Outcome::Ended(ended),
                Err(_) if plan.cut.is_some() => Outcome::Cut,
                Err(_) => Outcome::Hung,
            },
        };
        let took = now() - began;
        let ledger = cluster.ledger();
        let verdict = judge(plan, &outcome, &cluster.name, (&ledger, since), took);
        let wrong = matches!(verdict, Verdict::Wrong(..));
        let allowed = if wrong { ledger.told(since) } else { String::new() };
        drop(ledger);
        self.count(&verdict);
        match verdict {
            Verdict::Right(ending) => return Some(ending),
            Verdict::Cut => {}
            Verdict::Wrong(claim, why) => {
                let number = plan.ask.number.unwrap_or_default();
                let call = format!("{} {number} on {} by {place}", plan.kind, cluster.name);
                self.wrong(claim, &format!("{call}: {why}; expected {allowed}"));
            }
        }
        None
    }

    fn count(&self, verdict: &Verdict) {
        let mut counts = self.counts();
        let failed = match verdict {
            Verdict::Right(Ending::Driver(_)) => {
                counts.answered += 1;
                return;
            }
            Verdict::Right(Ending::Status(code)) => code.to_string(),
            Verdict::Cut => "cut".to_owned(),
            Verdict::Wrong(..) => return,
        };
        *counts.failed.entry(failed).or_default() += 1;
    }

    /// Something is wrong: says so, with the claim that it breaks.
    pub fn wrong(&self, claim: &str, why: &str) {
        let mut counts = self.counts();
        counts.wrong += 1;
        if counts.wrong <= TOLD_MAX {
            println!("wrong {}", json!({ "claim": claim, "why": why }));
        }
    }

    /// All counts, as JSON.
    #[must_use]
    pub fn told(&self) -> String {
        let counts = self.counts();
        let (answered, failed, wrong) = (counts.answered, &counts.failed, counts.wrong);
        json!({ "answered": answered, "failed": failed, "wrong": wrong }).to_string()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on connections may end, as long as they do so in good order.
    pub fn say_farewell(&self) {
        self.farewell.store(true, Ordering::Relaxed);
    }
}
