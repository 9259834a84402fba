//! Admit: a stream that has opened becomes an exchange, passes the chain, and finds its driver.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use sconce_filters::{Call, Code, Cost, Ending, Method, Refusal, Slots, Step};

use crate::grpc::boundary::Boundary;
use crate::grpc::forward::{self};
use crate::grpc::redact::Redactor;
use crate::grpc::request::{self, Head, Request, Unserved};
use crate::grpc::stamp::Encoding;
use crate::grpc::status;
use crate::proxy::driver::{Driver, allowance, header_list};
use crate::proxy::exchange::{Exchange, Progress, Unstamped, Way};
use crate::proxy::recheck::Checked;
use crate::proxy::relay::Relay;
use crate::route::Cluster;
use crate::telemetry::{DialFailure, MethodLabel};
use crate::wire::fault;
use crate::wire::frame::StreamId;
use crate::wire::hpack::{Fields, Overflow};

/// Drivers that one client connection may have legs to at one time.
const DRIVERS_MAX: usize = 32;

/// A request that was read. Equal ones in a row share one.
pub(super) struct Asked {
    pub(super) head: Rc<Head>,
    request: Request,
    label: MethodLabel,
    /// Octets of what travels on, as HPACK counts.
    size: usize,
    /// How its messages are compressed.
    pub(super) encoding: Encoding,
}

impl Asked {
    fn new(fields: Rc<Fields>, request: Request) -> Self {
        let label = MethodLabel::of_path(request.method.path().as_bytes());
        let (size, encoding) = (forward::size(&fields), Encoding::said_by(&fields));
        Self { head: Rc::new(Head::new(fields)), request, label, size, encoding }
    }
}

impl Relay {
    pub(super) fn open(&mut self, stream: StreamId, end: bool) {
        let fields = self.client.wire.fields();
        if let Some(overflow) = fields.overflow() {
            return self.refuse_head(stream, &too_long(overflow));
        }
        if let Some(known) = &self.last
            && Rc::ptr_eq(known.head.fields(), &fields)
        {
            return self.enter(stream, end, Rc::clone(known));
        }
        match request::read(&fields) {
            Ok(request) => {
                let asked = Rc::new(Asked::new(fields, request));
                self.last = Some(Rc::clone(&asked));
                self.enter(stream, end, asked);
            }
            Err(Unserved::NotGrpc) => {
                self.turn_away(stream, "request.not_grpc", &status::unsupported_media_type());
            }
            Err(Unserved::Refused(refusal)) => self.refuse_head(stream, &refusal),
        }
    }

    fn refuse_head(&mut self, stream: StreamId, refusal: &Refusal) {
        self.turn_away(stream, refusal.label, &status::trailers_only(refusal));
    }

    /// Answers a stream that never became an exchange.
    fn turn_away(&mut self, stream: StreamId, label: &'static str, answer: &Fields) {
        self.note_turned_away(stream, label, None);
        self.write_refusal(stream, answer, Cost::Cheap);
        self.client.wire.reset_stream(stream, fault::Code::NoError);
        self.close_if_done();
    }

    fn enter(&mut self, stream: StreamId, end: bool, asked: Rc<Asked>) {
        self.leave_if_withdrawn();
        self.note_removals();
        let Request { method, timeout } = &asked.request;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        let metadata: Rc<dyn sconce_filters::Metadata> = Rc::clone(&asked.head) as _;
        let call = Call::new(method.clone(), metadata, self.peer, self.now);
        let call = call.with_deadline(deadline).with_wall(self.wall);
        let call = call.with_certificate(self.client.certificate());
        self.worker.metrics.call_opened(asked.label);
        let snapshot = self.worker.latest();
        if !self.is_ticking {
            self.is_ticking = true;
            self.wake_by(self.next_tick(&snapshot.timeouts));
        }
        if self.exchanges.capacity() == 0 {
            // Not four at once, as it would be by itself: many connections make one call and rest.
            self.exchanges.reserve_exact(1);
        }
        let entry = self.exchanges.vacant_entry();
        let tag = entry.key();
        self.client.wire.tag(stream, u32::try_from(tag).unwrap_or(u32::MAX));
        entry.insert(Exchange {
            stream,
            driver: None,
            driver_stream: None,
            head_ends: 0,
            redirects: 0,
            call,
            method: asked.label,
            tenant: None,
            checked: Checked { at: self.now, generation: snapshot.generation },
            snapshot,
            asked: Some(asked),
            wait: None,
            stamper: None,
            unstamped: Unstamped::default(),
            lease: None,
            tenure: None,
            redactor: None,
            uploaded: end,
            up: Way::default(),
            down: Way::default(),
            boundary: Boundary::default(),
            answered: false,
            end: None,
            sent: Progress::new(self.now),
            taken: Progress::new(self.now),
        });
        if let Some(deadline) = deadline {
            self.wake_by(deadline);
        }
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        let step = exchange.snapshot.chain.admit(&mut exchange.call);
        self.step(tag, step);
    }

    fn step(&mut self, tag: usize, step: Step) {
        match step {
            Step::Admitted => match self.check_revoked(tag, false) {
                Ok(()) => {
                    self.be_known();
                    self.begin_stamp(tag);
                    self.route(tag);
                }
                Err(refusal) => self.refuse(tag, &refusal, Ending::Refused),
            },
            Step::Refused(refusal) => self.refuse(tag, &refusal, Ending::Refused),
            Step::Waiting(wait) => {
                if let Some(exchange) = self.exchanges.get_mut(tag) {
                    exchange.wait = Some(wait);
                    self.waits = self.waits.saturating_add(1);
                }
            }
        }
    }

    /// Goes on with calls that wait for a room.
    pub(super) fn poll_waits(&mut self, context: &mut Context<'_>) -> bool {
        if self.waits == 0 {
            return false;
        }
        let mut answers: Vec<(usize, Result<Slots, Refusal>)> = Vec::new();
        for (tag, exchange) in &mut self.exchanges {
            let Some(wait) = &mut exchange.wait else { continue };
            if let Poll::Ready(answer) = std::pin::Pin::new(wait).poll(context) {
                answers.push((tag, answer));
            }
        }
        let moved = !answers.is_empty();
        for (tag, answer) in answers {
            let Some(exchange) = self.exchanges.get_mut(tag) else { continue };
            exchange.wait = None;
            self.waits = self.waits.saturating_sub(1);
            let step = exchange.snapshot.chain.resume(&mut exchange.call, answer);
            self.step(tag, step);
        }
        moved
    }

    /// Finds the driver of an admitted call.
    pub(super) fn route(&mut self, tag: usize) {
        match self.leg_for(tag) {
            Ok(Some(key)) => self.join(tag, key),
            Ok(None) => {}
            Err(refusal) => self.refuse(tag, &refusal, Ending::Refused),
        }
    }

    /// The leg that an admitted call goes to.
    fn leg_for(&mut self, tag: usize) -> Result<Option<usize>, Refusal> {
        let Some(exchange) = self.exchanges.get(tag) else { return Ok(None) };
        let known = self.drivers.iter().find(|(_, driver)| driver.was_found_for(exchange));
        if let Some((key, driver)) = known {
            return unless_too_long(exchange, &driver.cluster).map(|()| Some(key));
        }
        let cluster = find(exchange)?;
        // What a removal leads elsewhere says nothing of where the table leads.
        let is_revoked = exchange.call.slots().revoked.is_some();
        let generation = if is_revoked { 0 } else { exchange.snapshot.generation };
        unless_too_long(exchange, &cluster)?;
        self.place(&cluster, generation).map(Some)
    }

    /// The leg to a cluster's driver, which is dialled if there is none. `generation` is that of
    /// the snapshot whose table has it; 0 if none has.
    fn place(&mut self, cluster: &Arc<Cluster>, generation: u64) -> Result<usize, Refusal> {
        let known = self.drivers.iter_mut().find(|(_, driver)| driver.takes_calls_for(cluster));
        if let Some((key, driver)) = known {
            driver.generation = driver.generation.max(generation);
            return Ok(key);
        }
        self.drop_idle_drivers();
        if self.drivers.len() >= DRIVERS_MAX {
            let message = "this connection has calls on too many clusters at one time";
            return Err(Refusal::new(Code::ResourceExhausted, "route.clusters", message));
        }
        let mut driver = self.reach(cluster);
        driver.generation = generation;
        Ok(self.drivers.insert(driver))
    }

    /// Puts a call on a leg.
    fn join(&mut self, tag: usize, key: usize) {
        if let (Some(driver), Some(exchange)) =
            (self.drivers.get_mut(key), self.exchanges.get_mut(tag))
        {
            exchange.driver = Some(key);
            exchange.redactor = redactor(exchange, &driver.cluster);
            if exchange.tenant.is_none() {
                let tenant = driver.cluster.tenant(&self.worker.metrics);
                self.worker.metrics.call_placed(exchange.method, tenant);
                exchange.tenant = Some(tenant);
            }
            if driver.calls == 0 {
                driver.busy_since = self.now;
            }
            driver.calls = driver.calls.saturating_add(1);
            driver.queue.push_back(tag);
        }
        self.start_queued(key);
    }

    /// A leg to a cluster's driver: one that another client connection has left, or a new one.
    fn reach(&self, cluster: &Arc<Cluster>) -> Driver {
        let Self { worker, client, now, .. } = self;
        let theirs = client.wire.theirs();
        let wanted = (header_list(theirs), allowance(&client.wire, self.detached));
        match worker.shelf.take(cluster, wanted, *now) {
            Some(spare) => Driver::again(spare, theirs, *now),
            None => {
                let patience = worker.latest().timeouts.connect;
                Driver::dial(Arc::clone(cluster), &worker.resolver, patience, *now)
            }
        }
    }

    /// Goes on with the dials.
    pub(super) fn poll_dials(&mut self, context: &mut Context<'_>) -> bool {
        let mut ready = Vec::new();
        for (key, driver) in &mut self.drivers {
            let client = (&self.client.wire, self.detached);
            if let Poll::Ready(outcome) = driver.poll_dial(context, client, self.now) {
                ready.push((key, outcome));
            }
        }
        let moved = !ready.is_empty();
        for (key, outcome) in ready {
            match outcome {
                Ok(()) => {
                    self.worker.metrics.leg_opened();
                    self.start_queued(key);
                }
                Err(why) => self.fail_dial(key, why),
            }
        }
        moved
    }

    fn fail_dial(&mut self, key: usize, why: DialFailure) {
        if let Some(driver) = self.drivers.get(key) {
            let tenant = driver.cluster.tenant(&self.worker.metrics);
            self.worker.metrics.dial_failed(tenant, why);
            driver.cluster.missed(why.as_str(), self.now);
        }
        let what = match why {
            DialFailure::Unresolved => "its name is not known",
            DialFailure::Refused => "it cannot be reached",
            DialFailure::TimedOut => "it did not answer in time",
        };
        self.fail_all_on(key, "driver.unreachable", what);
        self.drivers.try_remove(key);
    }
}

/// The cluster of an admitted call.
fn find(exchange: &Exchange) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (exchange.call.team()?, exchange.call.environment()?);
    exchange.snapshot.cluster(exchange.call.slots()).map(Arc::clone).ok_or_else(|| {
        let message = format!("team {team} has no cluster in environment {environment}");
        Refusal::new(Code::NotFound, "route.missing", message)
    })
}

/// Refuses what would make the driver close the connection.
fn unless_too_long(exchange: &Exchange, cluster: &Cluster) -> Result<(), Refusal> {
    let limit = whole(exchange.snapshot.limits.driver_header_list);
    let limit = limit.saturating_sub(forward::added(cluster.credential()));
    let size = exchange.asked.as_ref().map_or(0, |asked| asked.size);
    if size <= limit {
        return Ok(());
    }
    let message =
        format!("the request's metadata has {size} octets and a driver takes {limit}: send less");
    Err(Refusal::new(Code::ResourceExhausted, "request.metadata", message))
}

/// What hides values in the answer to a call, if there are any to be hidden. It has heard what came
/// of the request by now.
fn redactor(exchange: &Exchange, cluster: &Cluster) -> Option<Box<Redactor>> {
    let answers = *exchange.call.method() == Method::Config && !cluster.hidden().is_empty();
    answers.then(|| {
        let mut redactor = Box::new(Redactor::new(cluster.hidden().clone()));
        redactor.hear(&exchange.up.parked);
        redactor
    })
}

/// A limit as a size in memory.
pub(super) fn whole(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn too_long(overflow: Overflow) -> Refusal {
    let message = match overflow {
        Overflow::Octets => {
            "the request's metadata, the token included, is too long: send less, or ask those who \
             run this service to raise limits.header_list"
        }
        Overflow::Count => {
            "the request has too many metadata fields: send fewer, or ask those who run this \
             service to raise limits.header_count"
        }
    };
    Refusal::new(Code::ResourceExhausted, "request.header_list", message)
}
