//! What the soak's client is told to do, one order a line: a number, a word, and what belongs to
//! it. Each is answered by `done NUMBER`, as soon as it is carried out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::soak::cluster::{Cluster, World};
use crate::soak::fleet::Fleet;
use crate::soak::ledger::Ending;

/// A cluster must be as it should within this time, on every connection.
const PATIENCE: Duration = Duration::from_secs(12);
/// Between two probes of one connection.
const PROBE_PAUSE: Duration = Duration::from_millis(10);
/// Calls of a probe and of `fill` are numbered from here.
const FIRST: u64 = 1 << 50;

type Senders = Vec<(SendRequest<Bytes>, String)>;

/// Carries out orders.
pub struct Desk {
    world: Arc<World>,
    fleet: Fleet,
    /// Orders that take a while: others may come meanwhile.
    errands: JoinSet<()>,
}

impl Desk {
    /// A desk that commands a fleet.
    #[must_use]
    pub fn new(world: Arc<World>, fleet: Fleet) -> Self {
        Self { world, fleet, errands: JoinSet::new() }
    }

    /// Carries out one order.
    ///
    /// # Errors
    /// When there is no such order.
    pub async fn obey(&mut self, line: &str) -> Result<(), String> {
        while self.errands.try_join_next().is_some() {}
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, order @ ..] = words.as_slice() else { return Err("an empty line".to_owned()) };
        let mut told = String::new();
        match order {
            ["allow", cluster, ending] => {
                self.world.cluster(cluster)?.ledger().allow(ending.parse()?);
            }
            ["forbid", cluster, ending] => {
                self.world.cluster(cluster)?.ledger().forbid(ending.parse()?);
            }
            ["settle", cluster, ending] => {
                let cluster = Arc::clone(self.world.cluster(cluster)?);
                let (world, senders) = (Arc::clone(&self.world), self.fleet.senders());
                let (wanted, number) = (ending.parse()?, (*number).to_owned());
                self.errands.spawn(async move {
                    settle(&world, &cluster, &wanted, senders).await;
                    println!("done {number}");
                });
                return Ok(());
            }
            ["fill", count, delay, clusters @ ..] => {
                let count = count.parse().map_err(|e| format!("{line}: {e}"))?;
                let delay = Duration::from_millis(delay.parse().map_err(|e| format!("{e}"))?);
                let clusters = clusters.iter().map(|name| self.world.cluster(name).cloned());
                let clusters: Vec<_> = clusters.collect::<Result<_, _>>()?;
                fill(&self.world, &clusters, &self.fleet.senders(), (count, delay)).await;
            }
            ["open"] => self.fleet.open().await.map_err(|fault| fault.to_string())?,
            ["pause"] => self.fleet.pause().await,
            ["resume"] => self.fleet.resume(),
            ["close"] => self.fleet.close().await,
            ["farewell", delay, clusters @ ..] => {
                let delay = Duration::from_millis(delay.parse().map_err(|e| format!("{e}"))?);
                let clusters = clusters.iter().map(|name| self.world.cluster(name).cloned());
                let clusters: Vec<_> = clusters.collect::<Result<_, _>>()?;
                self.fleet.disband().await;
                self.world.say_farewell();
                fill(&self.world, &clusters, &self.fleet.senders(), (1, delay)).await;
                self.fleet.ended().await;
            }
            ["count"] => told = self.world.told(),
            _ => return Err(format!("no such order: {line}")),
        }
        println!("done {number} {told}");
        Ok(())
    }
}

/// Waits until a call on every connection has ended so.
async fn settle(world: &Arc<World>, cluster: &Arc<Cluster>, wanted: &Ending, senders: Senders) {
    let mut probes = JoinSet::new();
    for (sender, place) in senders {
        let (world, cluster, wanted) = (Arc::clone(world), Arc::clone(cluster), wanted.clone());
        probes.spawn(async move {
            for number in FIRST.. {
                let plan = world.shelf.probe(number, Duration::ZERO);
                let ended = world.attempt(&cluster, sender.clone(), &plan, &place).await;
                if ended.as_ref() == Some(&wanted) {
                    return;
                }
                sleep(PROBE_PAUSE).await;
            }
        });
    }
    let all = async { while probes.join_next().await.is_some() {} };
    if timeout(PATIENCE, all).await.is_err() {
        let why = format!("{} does not come to {wanted} on every connection", cluster.name);
        world.wrong("recovery", &why);
    }
}

/// Makes so many calls, with such a delay each, on every connection to all clusters at once.
async fn fill(
    world: &Arc<World>,
    clusters: &[Arc<Cluster>],
    senders: &Senders,
    (count, delay): (u64, Duration),
) {
    let mut lanes = JoinSet::new();
    for (sender, place) in senders {
        for cluster in clusters {
            let (world, cluster) = (Arc::clone(world), Arc::clone(cluster));
            let (sender, place) = (sender.clone(), place.clone());
            lanes.spawn(async move {
                for number in 0..count {
                    let plan = world.shelf.probe(FIRST + number, delay);
                    world.attempt(&cluster, sender.clone(), &plan, &place).await;
                }
            });
        }
    }
    while lanes.join_next().await.is_some() {}
}
