//! The client connections, and the lanes of calls on them.
//!
//! A connection is opened once and must last: that it ends is wrong, whatever is done to drivers
//! and files. Beside them visitors come and go, some without a goodbye.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{OwnedRwLockWriteGuard, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fault::Fault;
use crate::line::Line;
use crate::soak::cluster::{Cluster, World};
use crate::soak::dice::Dice;
use crate::soak::ledger::Ending;
use crate::soak::plan::Plan;

/// Every so-manieth connection makes all its calls on one cluster.
const NARROW_EVERY: usize = 4;
/// So many lanes a narrow connection has.
const NARROW_LANES: usize = 3;
/// After an error a lane waits so many times as long, as clients do.
const BACKOFF: u64 = 5;
/// Connections that come and go, at one time.
const VISITORS: usize = 2;
/// Calls of one visit, at most.
const VISIT_MAX: u64 = 6;
/// To connect and to close takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(12);

/// How large the load is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections that last.
    pub connections: usize,
    /// The mean time between two calls of a lane, in milliseconds.
    pub pause: u64,
    /// What the calls are drawn by.
    pub seed: u64,
}

struct Berth {
    sender: SendRequest<Bytes>,
    /// Dropped with the rest when the connection is to be closed.
    _leave: oneshot::Sender<()>,
}

/// All connections, and the load on them.
pub struct Fleet {
    world: Arc<World>,
    size: Size,
    berths: Vec<Berth>,
    lanes: JoinSet<()>,
    watchers: JoinSet<()>,
    paused: Option<OwnedRwLockWriteGuard<()>>,
}

impl Fleet {
    /// A fleet that has not put to sea.
    #[must_use]
    pub fn new(world: Arc<World>, size: Size) -> Self {
        let (berths, lanes, watchers) = (Vec::new(), JoinSet::new(), JoinSet::new());
        Self { world, size, berths, lanes, watchers, paused: None }
    }

    /// Opens the connections; their lanes wait for [`Fleet::resume`].
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn open(&mut self) -> Result<(), Fault> {
        self.pause().await;
        for index in 0..self.size.connections {
            let line = Line::open(&self.world.target).await?;
            let (leave, left) = oneshot::channel();
            let place = format!("connection {index}");
            for (lane, cluster) in clusters_of(index, &self.world.clusters).enumerate() {
                let dice = self.dice(index * 100 + lane);
                let (world, sender) = (Arc::clone(&self.world), line.sender());
                let pause = self.size.pause;
                self.lanes.spawn(sail(world, cluster, (sender, place.clone()), pause, dice));
            }
            self.berths.push(Berth { sender: line.sender(), _leave: leave });
            self.watchers.spawn(watch(Arc::clone(&self.world), line, left, place));
        }
        for index in 0..VISITORS {
            let dice = self.dice(1_000_000 + index);
            self.lanes.spawn(visit(Arc::clone(&self.world), self.size.pause, dice));
        }
        Ok(())
    }

    fn dice(&self, lane: usize) -> Dice {
        Dice::new(self.size.seed, u64::try_from(lane).unwrap_or_default())
    }

    /// Waits until every call of the lanes has ended, and lets none begin.
    pub async fn pause(&mut self) {
        if self.paused.is_none() {
            self.paused = Some(Arc::clone(&self.world.turn).write_owned().await);
        }
    }

    /// Lets the lanes go on.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// Something to make calls with on each connection, and the connection's name.
    #[must_use]
    pub fn senders(&self) -> Vec<(SendRequest<Bytes>, String)> {
        let named =
            |(index, berth): (usize, &Berth)| (berth.sender.clone(), format!("connection {index}"));
        self.berths.iter().enumerate().map(named).collect()
    }

    /// Says goodbye on every connection.
    pub async fn close(&mut self) {
        self.pause().await;
        self.lanes.shutdown().await;
        self.berths.clear();
        self.ended().await;
    }

    /// Waits until every connection has ended.
    pub async fn ended(&mut self) {
        let all = async { while self.watchers.join_next().await.is_some() {} };
        if timeout(PATIENCE, all).await.is_err() {
            self.world.wrong("connections", "a connection does not end");
        }
    }

    /// Stops the lanes, which may not call any more.
    pub async fn disband(&mut self) {
        self.pause().await;
        self.lanes.shutdown().await;
    }
}

/// Which clusters the lanes of a connection call.
fn clusters_of(index: usize, all: &[Arc<Cluster>]) -> impl Iterator<Item = Arc<Cluster>> {
    let narrow = index % NARROW_EVERY == NARROW_EVERY - 1;
    let (from, step, count) =
        if narrow { (index / NARROW_EVERY, 0, NARROW_LANES) } else { (0, 1, all.len()) };
    let chosen = (0..count).filter_map(move |lane| all.get((from + lane * step) % all.len()));
    chosen.cloned().collect::<Vec<_>>().into_iter()
}

/// Makes one call after another.
async fn sail(
    world: Arc<World>,
    cluster: Arc<Cluster>,
    (sender, place): (SendRequest<Bytes>, String),
    pause: u64,
    mut dice: Dice,
) {
    loop {
        let plan = world.shelf.draw(&mut dice);
        for _ in 0..plan.times {
            let turn = world.turn.read().await;
            let ended = world.attempt(&cluster, sender.clone(), &plan, &place).await;
            drop(turn);
            let refused = matches!(ended, Some(Ending::Status(_)));
            let times = if refused { BACKOFF } else { 1 };
            sleep(dice.millis(0, pause * 2 * times)).await;
        }
    }
}

/// Connects, makes some calls and goes, politely or not, over and over.
async fn visit(world: Arc<World>, pause: u64, mut dice: Dice) {
    loop {
        let turn = world.turn.read().await;
        match timeout(PATIENCE, Line::open(&world.target)).await {
            Err(_) => world.wrong("hangs", "a visitor cannot connect"),
            Ok(Err(fault)) => world.wrong("connections", &format!("visitor: {fault}")),
            Ok(Ok(line)) => stay(&world, line, &mut dice).await,
        }
        drop(turn);
        sleep(dice.millis(0, pause * 2)).await;
    }
}

async fn stay(world: &World, line: Line, dice: &mut Dice) {
    for _ in 0..dice.between(0, VISIT_MAX) {
        let last = u64::try_from(world.clusters.len().saturating_sub(1)).unwrap_or_default();
        let at = usize::try_from(dice.between(0, last)).unwrap_or_default();
        let Some(cluster) = world.clusters.get(at) else { return };
        let plan = world.shelf.draw(dice);
        world.attempt(cluster, line.sender(), &plan, "a visitor").await;
    }
    if dice.percent(50) {
        // Gone in the middle of a call, without a word.
        let plan = Plan { cut: Some(dice.millis(0, 20)), ..world.shelf.draw(dice) };
        if let Some(cluster) = world.clusters.first() {
            world.attempt(cluster, line.sender(), &plan, "a visitor").await;
        }
    } else if let Err(fault) = line.close().await {
        world.wrong("connections", &format!("visitor: {fault}"));
    }
}

/// Sees to it that a connection lasts until it is to be closed.
async fn watch(world: Arc<World>, mut line: Line, left: oneshot::Receiver<()>, place: String) {
    let ended = tokio::select! {
        ended = line.ended() => match ended {
            Ok(()) if world.farewell.load(Ordering::Relaxed) => Ok(()),
            Ok(()) => Err("ended by sconce".to_owned()),
            Err(fault) => Err(fault.to_string()),
        },
        _ = left => line.close().await.map_err(|fault| fault.to_string()),
    };
    if let Err(why) = ended {
        world.wrong("connections", &format!("{place}: {why}"));
    }
}
