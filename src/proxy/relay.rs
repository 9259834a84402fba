//! Relay: one client connection with all its exchanges and its legs to drivers, as one task.
//!
//! One poll reads what there is, passes it on, and writes it out, all in the read buffer that
//! belongs to the thread. Nothing here crosses threads, and no stream has a task of its own.
//!
//! Must never happen here: an await in the middle of a batch, or a queue without a bound.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::Identity;
use slab::Slab;
use tokio::time::Sleep;

use crate::grpc::stamp::Tail;
use crate::proxy::admit::Asked;
use crate::proxy::cleartext::EARLY;
use crate::proxy::driver::{Driver, Line};
use crate::proxy::exchange::Exchange;
use crate::proxy::leg::Leg;
use crate::proxy::malformed::Rejected;
use crate::proxy::newcomers::Newcomer;
use crate::proxy::pause::Pause;
use crate::proxy::rotation::Rotation;
use crate::proxy::turn::BatchSize;
use crate::proxy::user_share::User;
use crate::proxy::worker::{Share, Turn, Worker};

/// How long our last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a connection that we end is read on, so that the peer gets our last words.
const LINGER: Duration = Duration::from_secs(1);

/// The clock is looked at no more often than this.
const TICK_MIN: Duration = Duration::from_millis(5);
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
    /// The generation of the snapshot whose removals were noted last.
    pub(super) noted: u64,
    pub(super) peer: SocketAddr,
    /// Until the first admitted call.
    pub(super) newcomer: Option<Box<Newcomer>>,
    pub(super) client: Leg,
    pub(super) drivers: Slab<Driver>,
    pub(super) exchanges: Slab<Exchange>,
    pub(super) phase: Phase,
    pub(super) turn: Turn,
    pub(super) now: Instant,
    /// The time of day when the client was last read.
    pub(super) wall: SystemTime,
    /// When that was.
    pub(super) wall_at: Instant,
    pub(super) accepted: Instant,
    /// Since when the client has no stream.
    pub(super) idle_since: Instant,
    /// Whether memory is held that an idle connection does not need.
    pub(super) is_warm: bool,
    /// Whether the clock will look at the exchanges.
    pub(super) is_ticking: bool,
    /// When the clock must be looked at.
    pub(super) due: Instant,
    /// Octets that are kept for drivers, if any were inflated.
    pub(super) inflated: Share,
    /// Octets that are parked for drivers.
    pub(super) parked: Share,
    /// Octets of windows that uploads have earned.
    pub(super) earned: Share,
    /// Whom these two count for, while they are more than nothing.
    pub(super) user: Option<Box<User>>,
    timer: Pin<Box<Sleep>>,
    pub(super) waker: Option<usize>,
    /// The last request that was read.
    pub(super) last: Option<Rc<Asked>>,
    /// The last caller, and the stamp of that one.
    pub(super) last_caller: Option<(Rc<Identity>, Tail)>,
    /// Exchanges that wait for a room's answer.
    pub(super) waits: usize,
    /// Octets of the client that the last turn had no time for.
    pub(super) unparsed: Vec<u8>,
    /// Streams whose requests were rejected before they were whole.
    pub(super) rejected: Option<Box<Rejected>>,
    /// Octets of refusals that were written since the client last had read everything.
    pub(super) unread_refusals: usize,
    pub(super) upload_reads: BatchSize,
    pub(super) pause: Pause,
    pub(super) download_reads: BatchSize,
    /// The driver that was read last.
    pub(super) last_driver: usize,
    /// Octets that are parked of answers whose drivers are not needed any more.
    pub(super) detached: usize,
    /// Whose answer is resumed next.
    pub(super) downloads: Rotation,
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
        let patience = match client.awaits_preface() {
            true => EARLY,
            false => worker.latest().timeouts.handshake,
        };
        let due = now + patience;
        Self {
            noted: worker.generation(),
            worker,
            peer: newcomer.peer,
            newcomer: Some(Box::new(newcomer)),
            client,
            drivers: Slab::with_capacity(1),
            exchanges: Slab::new(),
            phase: Phase::Open,
            turn: Turn::default(),
            now,
            wall: SystemTime::UNIX_EPOCH,
            wall_at: now,
            accepted: now,
            idle_since: now,
            is_warm: false,
            is_ticking: false,
            due,
            inflated: Share::default(),
            parked: Share::default(),
            earned: Share::default(),
            user: None,
            timer: Box::pin(tokio::time::sleep_until(due.into())),
            waker: None,
            last: None,
            last_caller: None,
            waits: 0,
            unparsed: Vec::new(),
            rejected: None,
            unread_refusals: 0,
            upload_reads: BatchSize::default(),
            pause: Pause::default(),
            download_reads: BatchSize::default(),
            last_driver: 0,
            detached: 0,
            downloads: Rotation::default(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
    pub(super) fn look_at_clock(&mut self) {
        self.now = Instant::now();
    }

    /// What was read came by now: a deadline that counted from earlier would pass too early.
    pub(super) fn look_at_clocks(&mut self) {
        self.look_at_clock();
        (self.wall, self.wall_at) = (SystemTime::now(), self.now);
    }

    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let worker = Rc::clone(&self.worker);
        let Ok(mut scratch) = worker.scratch.try_borrow_mut() else { return Poll::Pending };
        self.waker = Some(worker.remember(self.waker, context.waker()));
        self.look_at_clock();
        self.leave_if_told();
        self.leave_if_withdrawn();
        self.note_removals();
        self.turn = worker.begin_turn(self.now);
        loop {
            // Reading first: what answers it leaves in one write with what waits already. And first
            // of the drivers: no call goes onto a leg whose end has come.
            let mut moved = self.read_drivers(context, &mut scratch);
            moved |= self.read_client(context, &mut scratch);
            // All else has its turn when there is nothing more to be read, or when the turn is
            // over.
            let is_over = moved && worker.is_turn_over(self.now);
            if !moved || is_over {
                moved |= self.repay_uploads();
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
            if is_over || worker.is_turn_over(self.now) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.client.wire.shrink(self.now);
        for (_, driver) in &mut self.drivers {
            driver.rest(self.now);
        }
        self.exchanges = Slab::new();
        self.last = None;
        self.last_caller = None;
    }

    /// Writes everything that waits; what has left gives credit back, which is written too.
    pub(super) fn flush(&mut self, context: &mut Context<'_>, lent: &[u8]) -> bool {
        let mut moved = self.flush_drivers(context, lent);
        moved |= self.credit_uploads();
        let flushed = match self.is_early() {
            true => Ok(false),
            false => self.client.flush(context, lent, self.now),
        };
        match flushed {
            Ok(more) => moved |= more,
            Err(_) => self.lose_client(),
        }
        if self.unread_refusals > 0 {
            self.limit_unread_refusals();
        }
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
        let mut any_lost = false;
        for (_, driver) in &mut self.drivers {
            any_lost |= driver.lost;
            let Line::Up(leg) = &mut driver.line else { continue };
            let waited = leg.wire.out.len();
            let has_moved = match leg.flush(context, lent, self.now) {
                Ok(has_moved) => has_moved,
                // What it has sent before is read first: an answer may be among it.
                Err(_) => leg.give_up_writing(),
            };
            if has_moved && leg.blocked.is_some() {
                driver.batch.shrink();
            } else if has_moved && waited >= driver.batch.octets() {
                driver.batch.grow();
            }
            moved |= has_moved;
        }
        if any_lost {
            self.drop_lost_drivers();
        }
        moved
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

    /// Nothing more will be said; what waits has a while to be written.
    pub(super) fn close(&mut self) {
        if !self.client.is_open() {
            return self.lose_client();
        }
        let by = self.now + LAST_WORDS;
        self.phase = Phase::Closing(by);
        self.wake_by(by);
    }

    /// The exchanges of which this is true.
    pub(super) fn tags(&self, is_meant: impl Fn(&Exchange) -> bool) -> Vec<usize> {
        let all = self.exchanges.iter().filter(|(_, exchange)| is_meant(exchange));
        all.map(|(tag, _)| tag).collect()
    }

    fn has_output(&self) -> bool {
        self.client.waiting() > 0 || self.drivers.iter().any(|(_, driver)| driver.has_output())
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
