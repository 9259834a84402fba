//! Runs a workload: warms up, stands at the first gate, measures, stands at the second.
//!
//! The first wrong answer ends the run. Must never retry: what a retry would hide is what the
//! rig looks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::call::Call;
use crate::caller::Caller;
use crate::clock::now;
use crate::fault::Fault;
use crate::gate::Gate;
use crate::line::Line;
use crate::tally::{Abreast, Latency, Outcome, Tally};
use crate::target::Target;
use crate::workload::{Parallel, Scale, Shape, Workload};

/// Idle connections must have been idle for so long before memory is read.
const REST: Duration = Duration::from_secs(1);
/// Calls that are due and not yet made, at most, in the open loop.
const DUE_MAX: usize = 10_000;

/// Calls of a probe begin so long after one another, or else when the one before has ended: without
/// pauses it would make most of its calls while there is nothing to wait for.
const PROBE_EVERY: Duration = Duration::from_millis(5);

type Lanes = JoinSet<Result<Tally, Fault>>;

/// One run of one workload.
#[derive(Debug)]
pub struct Run {
    /// Where the proxy, or the stub driver itself, listens.
    pub target: Target,
    /// Who calls.
    pub caller: Caller,
    /// What to do.
    pub workload: Workload,
    /// How much of it.
    pub scale: Scale,
    /// How long to warm up.
    pub warm: Duration,
    /// Where whoever measures is met.
    pub gate: Gate,
}

impl Run {
    /// Does it.
    ///
    /// # Errors
    /// The first thing that was not as it must be.
    pub async fn go(self) -> Result<Outcome, Fault> {
        let ask = self.workload.ask(self.scale);
        let call = Arc::new(Call::new(&self.target, &self.caller, ask)?);
        match self.workload.shape(self.scale) {
            Shape::Closed { connections, streams } => self.closed(call, connections, streams).await,
            Shape::Idle { connections } => self.idle(call, connections).await,
            Shape::Churn { lanes } => self.churn(call, lanes).await,
            Shape::Open { connections, every } => self.open(call, connections, every).await,
            Shape::Slow { readers } => self.slow(call, readers).await,
            Shape::Probe => self.probe(call).await,
            Shape::Parallel(parallel) => self.parallel(call, parallel).await,
        }
    }

    async fn lines(&self, count: usize) -> Result<Vec<Line>, Fault> {
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            lines.push(Line::open(&self.target).await?);
        }
        Ok(lines)
    }

    async fn closed(
        &self,
        call: Arc<Call>,
        connections: usize,
        streams: usize,
    ) -> Result<Outcome, Fault> {
        let lines = self.lines(connections).await?;
        let start = |length: Duration| {
            let until = now() + length;
            let mut lanes = Lanes::new();
            for line in &lines {
                for _ in 0..streams {
                    lanes.spawn(repeat(Arc::clone(&call), line.sender(), until));
                }
            }
            lanes
        };
        finish(start(self.warm)).await?;
        self.gate.pass("begin").await?;
        let began = now();
        let tally = finish(start(self.scale.measure)).await?;
        let outcome = self.outcome(tally, began, connections);
        self.gate.pass("end").await?;
        goodbye(lines).await?;
        Ok(outcome)
    }

    async fn idle(&self, call: Arc<Call>, connections: usize) -> Result<Outcome, Fault> {
        // What the very first call makes the proxy allocate is no cost of a connection.
        let first = self.lines(1).await?;
        for line in &first {
            call.make(line.sender()).await?;
        }
        self.gate.pass("begin").await?;
        let began = now();
        let mut tally = Tally::default();
        let mut lines = Vec::with_capacity(connections);
        for _ in 0..connections {
            let line = Line::open(&self.target).await?;
            tally.count(call.make(line.sender()).await?.octets);
            lines.push(line);
        }
        tokio::time::sleep(REST).await;
        let outcome = self.outcome(tally, began, connections);
        self.gate.pass("end").await?;
        for line in &lines {
            call.make(line.sender()).await?;
        }
        goodbye(first).await?;
        goodbye(lines).await?;
        Ok(outcome)
    }

    async fn churn(&self, call: Arc<Call>, count: usize) -> Result<Outcome, Fault> {
        let start = |length: Duration| {
            let until = now() + length;
            let mut lanes = Lanes::new();
            for _ in 0..count {
                lanes.spawn(come_and_go(Arc::clone(&call), self.target.clone(), until));
            }
            lanes
        };
        finish(start(self.warm)).await?;
        self.gate.pass("begin").await?;
        let began = now();
        let tally = finish(start(self.scale.measure)).await?;
        let outcome = self.outcome(tally, began, count);
        self.gate.pass("end").await?;
        Ok(outcome)
    }

    async fn open(
        &self,
        call: Arc<Call>,
        connections: usize,
        every: Duration,
    ) -> Result<Outcome, Fault> {
        let lines = self.lines(connections).await?;
        let senders: Vec<_> = lines.iter().map(Line::sender).collect();
        on_time(&call, &senders, every, self.warm).await?;
        self.gate.pass("begin").await?;
        let began = now();
        let tally = on_time(&call, &senders, every, self.scale.measure).await?;
        let outcome = self.outcome(tally, began, connections);
        self.gate.pass("end").await?;
        drop(senders);
        goodbye(lines).await?;
        Ok(outcome)
    }

    async fn slow(&self, call: Arc<Call>, readers: usize) -> Result<Outcome, Fault> {
        let lines = self.lines(readers).await?;
        self.gate.pass("begin").await?;
        let began = now();
        let mut lanes = Lanes::new();
        for line in &lines {
            lanes.spawn(once(Arc::clone(&call), line.sender()));
        }
        let tally = finish(lanes).await?;
        let outcome = self.outcome(tally, began, readers);
        self.gate.pass("end").await?;
        goodbye(lines).await?;
        Ok(outcome)
    }

    async fn probe(&self, call: Arc<Call>) -> Result<Outcome, Fault> {
        let lines = self.lines(1).await?;
        let one_by_one = async |length: Duration| {
            let (until, mut tally) = (now() + length, Tally::default());
            for line in lines.iter().cycle() {
                if now() >= until {
                    break;
                }
                let began = now();
                tally.add(timed(Arc::clone(&call), line.sender(), began).await?);
                tokio::time::sleep(PROBE_EVERY.saturating_sub(now() - began)).await;
            }
            Ok(tally)
        };
        one_by_one(self.warm).await?;
        self.gate.pass("begin").await?;
        let began = now();
        let tally = one_by_one(self.scale.measure).await?;
        let outcome = self.outcome(tally, began, 1);
        self.gate.pass("end").await?;
        goodbye(lines).await?;
        Ok(outcome)
    }

    async fn parallel(&self, call: Arc<Call>, parallel: Parallel) -> Result<Outcome, Fault> {
        let lines = self.lines(1).await?;
        let mut total = Tally::default();
        let mut times = Vec::with_capacity(parallel.times);
        for line in &lines {
            // A client has asked for something before it uploads.
            let first = Call::new(&self.target, &self.caller, Workload::Unary.ask(self.scale))?;
            first.make(line.sender()).await?;
        }
        let began = now();
        for _ in 0..parallel.times {
            let mut lanes = Lanes::new();
            for line in lines.iter().cycle().take(parallel.streams) {
                lanes.spawn(timed(Arc::clone(&call), line.sender(), now()));
            }
            let tally = finish(lanes).await?;
            times.extend(Abreast::of(&tally.latencies));
            total.add(tally);
        }
        let outcome = self.outcome(total, began, 1);
        goodbye(lines).await?;
        Ok(Outcome { times, ..outcome })
    }

    fn outcome(&self, tally: Tally, began: Instant, connections: usize) -> Outcome {
        Outcome {
            workload: self.workload.name(),
            calls: tally.calls,
            octets: tally.octets,
            seconds: (now() - began).as_secs_f64(),
            connections,
            latency: Latency::of(tally.latencies),
            times: Vec::new(),
        }
    }
}

async fn finish(mut lanes: Lanes) -> Result<Tally, Fault> {
    let mut total = Tally::default();
    while let Some(lane) = lanes.join_next().await {
        total.add(settle(lane)?);
    }
    Ok(total)
}

fn settle(lane: Result<Result<Tally, Fault>, JoinError>) -> Result<Tally, Fault> {
    lane.map_err(Fault::Task)?
}

async fn goodbye(lines: Vec<Line>) -> Result<(), Fault> {
    for line in lines {
        line.close().await?;
    }
    Ok(())
}

async fn once(call: Arc<Call>, sender: SendRequest<Bytes>) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    tally.count(call.make(sender).await?.octets);
    Ok(tally)
}

async fn repeat(
    call: Arc<Call>,
    sender: SendRequest<Bytes>,
    until: Instant,
) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    while now() < until {
        tally.count(call.make(sender.clone()).await?.octets);
    }
    Ok(tally)
}

async fn come_and_go(call: Arc<Call>, target: Target, until: Instant) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    while now() < until {
        let line = Line::open(&target).await?;
        tally.count(call.make(line.sender()).await?.octets);
        line.close().await?;
    }
    Ok(tally)
}

/// Makes each call when it is due. The timer of the runtime counts in milliseconds, too coarse
/// for latencies of a fraction of one, so a thread of its own tells when.
async fn on_time(
    call: &Arc<Call>,
    senders: &[SendRequest<Bytes>],
    every: Duration,
    length: Duration,
) -> Result<Tally, Fault> {
    let (tell, mut due) = mpsc::channel(DUE_MAX);
    let pacer = std::thread::spawn(move || pace(&tell, every, length));
    let mut lanes = Lanes::new();
    let mut turn = senders.iter().cycle();
    let mut total = Tally::default();
    loop {
        tokio::select! {
            at = due.recv() => {
                let (Some(at), Some(sender)) = (at, turn.next()) else { break };
                lanes.spawn(timed(Arc::clone(call), sender.clone(), at));
            }
            Some(lane) = lanes.join_next() => total.add(settle(lane)?),
        }
    }
    total.add(finish(lanes).await?);
    if pacer.join().is_err() {
        return Err(Fault::Request("the pacing thread died".to_owned()));
    }
    Ok(total)
}

fn pace(tell: &mpsc::Sender<Instant>, every: Duration, length: Duration) {
    let began = now();
    let mut at = began;
    while at - began < length {
        at += every;
        std::thread::sleep(at.saturating_duration_since(now()));
        if tell.blocking_send(at).is_err() {
            return;
        }
    }
}

async fn timed(call: Arc<Call>, sender: SendRequest<Bytes>, due: Instant) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    tally.count(call.make(sender).await?.octets);
    tally.latencies.push(now().saturating_duration_since(due));
    Ok(tally)
}
