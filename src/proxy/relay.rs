//! Relay: one client connection with all its exchanges and its legs to drivers, as one task.
//!
//! One poll reads what there is, passes it on, and writes it out, all in the read buffer that
//! belongs to the thread. Nothing here crosses threads, and no stream has a task of its own.
//!
//! Must never happen here: an await in the middle of a batch, or a queue without a bound.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::Identity;
use slab::Slab;
use tokio::time::Sleep;

use crate::grpc::stamp::Tail;
use crate::proxy::admit::{Asked, whole};
use crate::proxy::driver::{Driver, PARKED_MAX};
use crate::proxy::exchange::Exchange;
use crate::proxy::leg::Leg;
use crate::proxy::newcomers::Newcomer;
use crate::proxy::worker::{Share, Turn, Worker};
use crate::telemetry::log_limit::Kind;
use crate::wire::frame::HEAD;

/// Octets that may wait to be written to a client before nothing more is read from it.
const OUT_MAX: usize = 512 * 1024;
/// Reads and writes of one connection before another one of the same worker gets its turn.
const ROUNDS_MAX: usize = 16;
/// How long our last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a connection that we end is read on, so that the peer gets our last words.
const LINGER: Duration = Duration::from_secs(1);

/// The clock is looked at no more often than this.
const TICK_MIN: Duration = Duration::from_millis(5);
/// Octets that are read from a driver at one time, while its worker keeps much for slow clients
/// already: what a client does not take at once must be kept.
const SIP: usize = 16 * 1024;
/// Octets that a worker may keep for slow clients before it takes no more than sips.
const KEPT_MAX: usize = 256 * 1024;

/// How far a client connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything goes.
    Open,
    /// The client was asked to go elsewhere; what is under way may finish. The second GOAWAY,
    /// which names the last stream, follows at this time.
    Leaving(Option<Instant>),
    /// The last words are in the outbox, and must be written by then.
    Closing(Instant),
    /// The last words are written; read on until the client hangs up or this time comes.
    Lingering(Instant),
    /// Nothing is left to do.
    Over,
}

/// One client connection.
pub(super) struct Relay {
    pub(super) worker: Rc<Worker>,
    pub(super) peer: SocketAddr,
    /// Until the first admitted call.
    pub(super) newcomer: Option<Newcomer>,
    pub(super) client: Leg,
    pub(super) drivers: Slab<Driver>,
    pub(super) exchanges: Slab<Exchange>,
    pub(super) phase: Phase,
    turn: Turn,
    pub(super) now: Instant,
    /// The time of day when the client was last read.
    pub(super) wall: SystemTime,
    pub(super) accepted: Instant,
    /// Since when the client has no stream.
    pub(super) idle_since: Instant,
    /// Whether memory is held that an idle connection does not need.
    pub(super) is_warm: bool,
    /// Whether the clock will look at the exchanges.
    pub(super) is_ticking: bool,
    /// When the clock must be looked at.
    pub(super) due: Instant,
    /// Octets that are kept because the client did not take them.
    pub(super) kept: Share,
    /// Octets that are kept for drivers, if any were inflated.
    pub(super) inflated: Share,
    /// Octets that are parked for drivers.
    pub(super) parked: Share,
    timer: Pin<Box<Sleep>>,
    pub(super) waker: Option<usize>,
    /// The last request that was read.
    pub(super) last: Option<Rc<Asked>>,
    /// The last caller, and the stamp of that one.
    pub(super) last_caller: Option<(Rc<Identity>, Tail)>,
    /// Exchanges that wait for a room's answer.
    pub(super) waits: usize,
}

/// Runs the connection to its end.
impl Future for Relay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.get_mut().drive(context)
    }
}

impl Relay {
    pub(super) fn new(worker: Rc<Worker>, client: Leg, newcomer: Newcomer, now: Instant) -> Self {
        worker.metrics.connection_opened();
        // Not sooner: a timer that is armed for a short while costs two visits to the system.
        let due = now + worker.latest().timeouts.handshake;
        Self {
            worker,
            peer: newcomer.peer,
            newcomer: Some(newcomer),
            client,
            drivers: Slab::with_capacity(1),
            exchanges: Slab::new(),
            phase: Phase::Open,
            turn: Turn::default(),
            now,
            wall: SystemTime::UNIX_EPOCH,
            accepted: now,
            idle_since: now,
            is_warm: false,
            is_ticking: false,
            due,
            kept: Share::default(),
            inflated: Share::default(),
            parked: Share::default(),
            timer: Box::pin(tokio::time::sleep_until(due.into())),
            waker: None,
            last: None,
            last_caller: None,
            waits: 0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
    fn look_at_clock(&mut self) {
        self.now = Instant::now();
    }

    /// What was read came by now: a deadline that counted from earlier would pass too early.
    fn look_at_clocks(&mut self) {
        self.look_at_clock();
        self.wall = SystemTime::now();
    }

    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let worker = Rc::clone(&self.worker);
        let Ok(mut scratch) = worker.scratch.try_borrow_mut() else { return Poll::Pending };
        self.waker = Some(worker.remember(self.waker, context.waker()));
        self.look_at_clock();
        self.leave_if_told();
        self.turn = worker.begin_turn();
        for round in 1..=ROUNDS_MAX {
            // Reading first: what answers it leaves in one write with what waits already.
            let mut moved = self.read_client(context, &mut scratch);
            moved |= self.read_drivers(context, &mut scratch);
            // All else has its turn when there is nothing more to be read, or after so many rounds.
            if !moved || round == ROUNDS_MAX {
                moved |= self.poll_dials(context);
                moved |= self.poll_waits(context);
                moved |= self.poll_clock(context);
                if moved || self.phase != Phase::Open || self.has_output() {
                    moved |= self.flush(context, &scratch);
                }
            }
            if self.phase == Phase::Over {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.client.wire.shrink();
        for (_, driver) in &mut self.drivers {
            driver.rest();
        }
        self.exchanges = Slab::new();
        self.last = None;
        self.last_caller = None;
    }

    /// Writes everything that waits; what has left gives credit back, which is written too.
    fn flush(&mut self, context: &mut Context<'_>, lent: &[u8]) -> bool {
        let mut moved = self.flush_drivers(context, lent);
        self.credit_uploads();
        match self.client.flush(context, lent, self.now) {
            Ok(more) => moved |= more,
            Err(_) => self.lose_client(),
        }
        self.worker.kept.change(&mut self.kept, self.client.waiting());
        if self.client.waiting() == 0 {
            if self.credit_downloads() {
                moved |= self.flush_drivers(context, lent);
            }
            self.linger(context);
        }
        if self.inflated.is_some() {
            self.count_inflated();
        }
        if self.parked.is_some() {
            self.count_parked();
        }
        moved
    }

    fn flush_drivers(&mut self, context: &mut Context<'_>, lent: &[u8]) -> bool {
        let mut moved = false;
        let (mut broken, mut any_lost) = (None, false);
        for (key, driver) in &mut self.drivers {
            any_lost |= driver.lost;
            let Some(leg) = driver.leg() else { continue };
            match leg.flush(context, lent, self.now) {
                Ok(more) => moved |= more,
                Err(_) => broken = Some(key),
            }
        }
        if let Some(key) = broken {
            self.lose_driver(key, "the connection to it broke");
        }
        if any_lost || broken.is_some() {
            self.drop_lost_drivers();
        }
        moved || broken.is_some()
    }

    /// The last words are out: say so to the kernel, then read on for a while.
    fn linger(&mut self, context: &mut Context<'_>) {
        if matches!(self.phase, Phase::Closing(_))
            && self.exchanges.is_empty()
            && !self.client.poll_shutdown(context).is_pending()
        {
            self.phase = Phase::Lingering(self.now + LINGER);
            self.wake_by(self.now + LINGER);
        }
    }

    fn read_client(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        if self.phase == Phase::Over || self.client.waiting() > OUT_MAX {
            return false;
        }
        if !self.client.is_open() && !self.has_turn(context) {
            return false;
        }
        let into = scratch.get_mut(HEAD..).unwrap_or_default();
        let read = match self.client.poll_read(context, into, (self.turn, self.now)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(read @ 1..)) => read,
            Poll::Ready(ended) => {
                self.hear_end(ended.err());
                return true;
            }
        };
        self.look_at_clocks();
        if !self.is_warm {
            self.rest_later();
        }
        if matches!(self.phase, Phase::Open | Phase::Leaving(_)) {
            self.take_client_octets(HEAD, HEAD.saturating_add(read), scratch);
            self.flush(context, scratch);
        }
        true
    }

    /// The client's socket has ended, well or badly.
    fn hear_end(&mut self, fault: Option<io::Error>) {
        if let Some(fault) = fault.filter(|fault| fault.kind() == io::ErrorKind::InvalidData) {
            if self.may_log(Kind::TlsFailed) {
                tracing::info!(peer = %self.peer, %fault, "TLS failed");
            }
            self.worker.metrics.refused("tls.failed");
        }
        self.lose_client();
    }

    fn take_client_octets(&mut self, mut at: usize, end: usize, scratch: &mut [u8]) {
        loop {
            let octets = scratch.get(at..end).unwrap_or_default();
            match self.client.wire.receive(octets, self.now) {
                Ok((taken, event)) => {
                    let from = at;
                    at = at.saturating_add(taken);
                    if !self.on_client(event, from, scratch) {
                        break;
                    }
                }
                Err(fault) => return self.fail_client(fault),
            }
        }
    }

    fn read_drivers(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        let mut next = 0;
        while let Some(key) = self.drivers.iter().map(|(key, _)| key).find(|key| *key >= next) {
            next = key.saturating_add(1);
            moved |= self.read_driver(key, context, scratch);
        }
        moved
    }

    fn read_driver(&mut self, key: usize, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let Some(most) = self.appetite(key) else { return false };
        let turn = (self.turn, self.now);
        let Some(leg) = self.drivers.get_mut(key).and_then(Driver::leg) else { return false };
        let end = HEAD.saturating_add(most).min(scratch.len());
        let into = scratch.get_mut(HEAD..end).unwrap_or_default();
        let read = match leg.poll_read(context, into, turn) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                self.lose_driver(key, "it closed the connection");
                return true;
            }
            Poll::Ready(Ok(read)) => read,
        };
        self.take_driver_octets(key, HEAD, HEAD.saturating_add(read), scratch);
        self.flush(context, scratch);
        true
    }

    /// Nothing more will be said; what waits has a while to be written.
    pub(super) fn close(&mut self) {
        if !self.client.is_open() {
            return self.lose_client();
        }
        let by = self.now + LAST_WORDS;
        self.phase = Phase::Closing(by);
        self.wake_by(by);
    }

    fn take_driver_octets(&mut self, key: usize, mut at: usize, end: usize, scratch: &mut [u8]) {
        loop {
            let now = self.now;
            let Some(leg) = self.drivers.get_mut(key).and_then(Driver::leg) else { return };
            let octets = scratch.get(at..end).unwrap_or_default();
            match leg.wire.receive(octets, now) {
                Ok((taken, event)) => {
                    let from = at;
                    at = at.saturating_add(taken);
                    if !self.on_driver(key, event, from, scratch) {
                        return;
                    }
                }
                Err(fault) => return self.fail_driver(key, fault),
            }
        }
    }

    /// How many octets may be read from a driver now; `None` while its client is behind.
    fn appetite(&self, key: usize) -> Option<usize> {
        let driver = self.drivers.get(key)?;
        let behind = self.client.waiting() > 0 || driver.parked > 0;
        if !behind {
            return Some(if self.worker.kept.get() < KEPT_MAX { usize::MAX } else { SIP });
        }
        // A frame that is there in part is granted again before it is parked.
        let most = whole(PARKED_MAX).saturating_add(SIP);
        (self.client.waiting() == 0 && driver.parked <= most).then_some(SIP)
    }

    fn has_output(&self) -> bool {
        let waits = |driver: &Driver| driver.leg_ref().is_some_and(|leg| !leg.wire.out.is_empty());
        self.client.waiting() > 0 || self.drivers.iter().any(|(_, driver)| waits(driver))
    }

    /// Sees to it that the clock is looked at by then.
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.due = self.due.min(at);
    }

    /// Looks at the clock when that is due; says whether it was.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> bool {
        if self.timer.deadline().into_std() != self.due {
            let due = self.due;
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        self.due = self.now + Duration::from_secs(3_600);
        let due = self.check_clock().max(self.now + TICK_MIN);
        self.wake_by(due);
        true
    }
}
