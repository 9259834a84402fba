//! Driver: a client connection's own leg to one driver, from the dial to the end.
//!
//! It is never shared among client connections: a fat header or a flood of one client can only
//! cost that client its leg.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{future::Future, pin::Pin};

use sconce_filters::Slots;
use tokio::net::TcpStream;

use crate::grpc::status::{self, Meaning};
use crate::proxy::admit::whole;
use crate::proxy::dial::{self, Resolver};
use crate::proxy::echo::Echo;
use crate::proxy::exchange::Exchange;
use crate::proxy::leg::Leg;
use crate::proxy::rotation::Rotation;
use crate::proxy::shelf::Spare;
use crate::proxy::turn::BatchSize;
use crate::route::Cluster;
use crate::telemetry::DialFailure;
use crate::wire::connection::{Connection, Offer, Role};
use crate::wire::frame::StreamId;
use crate::wire::hpack::{Fields, Limits};
use crate::wire::settings::{Settings, WINDOW_FLOOR};

/// Credit of a whole leg, in octets: what a driver may have under way to one client connection.
const WINDOW: u32 = 4 << 20;
/// Octets of one leg that may be parked.
pub(super) const PARKED_MAX: u32 = 64 * 1024;
/// Octets of a header list that a driver may send at most. It is told what the client takes, so
/// that an answer too long for the client ends as it would without sconce.
const HEADER_LIST_MAX: u32 = 65_536;
/// Fields that a driver may send in one list.
const HEADER_COUNT_MAX: usize = 256;
/// A driver that has sent neither HEADERS nor DATA since minds every PING after the first that
/// comes within five minutes, and closes the connection at the third one that it minds (grpc-java:
/// permitKeepAliveTime, MAX_PING_STRIKES). So it is asked again after so many times the silence,
/// and from then on once in `ASK_AGAIN`.
const ASK_AFTER: [u32; 2] = [2, 6];
/// See `ASK_AFTER`.
const ASK_AGAIN: Duration = Duration::from_secs(301);

type Dial = Pin<Box<dyn Future<Output = Result<TcpStream, DialFailure>>>>;

/// What goes out again and again because of one driver.
#[derive(Default)]
pub(super) struct Echoes {
    /// Requests, to the driver.
    pub(super) requests: Echo,
    /// Heads of answers, to the client.
    pub(super) answers: Answers,
    /// Trailers, to the client.
    pub(super) trailers: Answers,
}

/// Header blocks of a driver that all say the same.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) echo: Echo,
    last: Option<(Rc<Fields>, Meaning)>,
}

impl Answers {
    /// What a block says.
    pub(super) fn read(&mut self, fields: &Rc<Fields>) -> Meaning {
        match &self.last {
            Some((last, meaning)) if Rc::ptr_eq(last, fields) => *meaning,
            Some(_) | None => {
                let meaning = status::read(fields);
                self.last = Some((Rc::clone(fields), meaning));
                meaning
            }
        }
    }
}

/// The line to a driver.
pub(super) enum Line {
    /// Not there yet.
    Dialing(Dial),
    /// There.
    Up(Box<Leg>),
}

/// Octets of one body that are in the outbox.
pub(super) struct Departing {
    /// The client's stream, and the exchange on it.
    pub(super) stream: StreamId,
    pub(super) tag: usize,
    /// Octets whose credit goes back.
    pub(super) octets: u32,
    /// Where in the outbox they end, see `Outbox::end`.
    pub(super) end: u64,
}

/// A client connection's leg to one driver.
pub(super) struct Driver {
    pub(super) cluster: Arc<Cluster>,
    /// The latest snapshot whose table led a call to this cluster; 0 if none has.
    pub(super) generation: u64,
    pub(super) line: Line,
    /// Exchanges that wait for the line, or for a place on it.
    pub(super) queue: VecDeque<usize>,
    /// Whether a loop opens the streams of those now.
    pub(super) is_starting: bool,
    /// Exchanges that are on it or wait for it.
    pub(super) calls: usize,
    /// Octets of the client's streams that are in the outbox, in their order: their credit goes
    /// back when they have left.
    pub(super) departing: VecDeque<Departing>,
    /// Octets of this leg that are parked.
    pub(super) parked: usize,
    /// Whose body is resumed next.
    pub(super) uploads: Rotation,
    /// Whether bodies wait for what they share on the way to this driver, its connection's window
    /// or the outbox: then they are served in turn, and none passes by the others.
    pub(super) is_contended: bool,
    /// Octets of bodies that may wait in the outbox; what comes on top is parked with its stream.
    pub(super) batch: BatchSize,
    /// By when its first SETTINGS must have come.
    pub(super) meet_by: Instant,
    /// Whether its socket's options are set: that is left until the leg has lived for a while.
    pub(super) is_tuned: bool,
    /// How often we have asked whether it is there since HEADERS or DATA last came.
    pub(super) asked: usize,
    /// The last requests that were forwarded on it, and what was last answered on it; not while it
    /// rests.
    pub(super) echoes: Option<Box<Echoes>>,
    /// Whether it is of no use any more: it goes when its last words are written.
    pub(super) lost: bool,
    /// Since when somebody uses it.
    pub(super) busy_since: Instant,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
    /// When its dial began.
    dialled: Instant,
}

impl Driver {
    pub(super) fn dial(
        cluster: Arc<Cluster>,
        resolver: &Rc<Resolver>,
        patience: Duration,
        now: Instant,
    ) -> Self {
        let dial = dial::connect(Rc::clone(resolver), cluster.driver().clone(), patience);
        let line = Line::Dialing(Box::pin(dial));
        Self { meet_by: now + patience, ..Self::new(cluster, line, now) }
    }

    /// A leg that another client connection has left. `theirs` is what this one's client said.
    pub(super) fn again(spare: Spare, theirs: &Settings, now: Instant) -> Self {
        let Spare { cluster, mut leg, dialled, .. } = spare;
        leg.wire.forget_sent();
        leg.wire.retune(theirs.window, now);
        Self { dialled, ..Self::new(cluster, Line::Up(leg), now) }
    }

    fn new(cluster: Arc<Cluster>, line: Line, now: Instant) -> Self {
        Self {
            cluster,
            generation: 0,
            line,
            queue: VecDeque::new(),
            is_starting: false,
            calls: 0,
            departing: VecDeque::new(),
            parked: 0,
            uploads: Rotation::default(),
            is_contended: false,
            batch: BatchSize::WIDE,
            meet_by: now,
            is_tuned: false,
            asked: 0,
            echoes: None,
            lost: false,
            busy_since: now,
            idle_since: now,
            dialled: now,
        }
    }

    /// The leg, if it is in such good order that another client connection may have it.
    pub(super) fn spare(mut self, now: Instant) -> Option<Spare> {
        let is_settled = self.calls == 0
            && !self.lost
            && self.asked == 0
            && self.parked == 0
            && self.leg_ref().is_some_and(Leg::can_write);
        self.rest(now);
        match self.line {
            Line::Up(leg) if is_settled && leg.wire.is_spotless() => {
                let Self { cluster, dialled, idle_since, .. } = self;
                Some(Spare { cluster, leg, dialled, idle_since })
            }
            Line::Up(_) | Line::Dialing(_) => None,
        }
    }

    /// Goes on with the dial; `Ready(Ok)` once, when the line is up. `client` says what is passed
    /// through.
    pub(super) fn poll_dial(
        &mut self,
        context: &mut Context<'_>,
        (client, detached): (&Connection, usize),
        now: Instant,
    ) -> Poll<Result<(), DialFailure>> {
        let Line::Dialing(dial) = &mut self.line else { return Poll::Pending };
        match dial.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
            Poll::Ready(Ok(socket)) => {
                let wire = Connection::new(Role::Client, offer(client, detached), now);
                self.line = Line::Up(Box::new(Leg::new(socket, None, wire, now)));
                Poll::Ready(Ok(()))
            }
        }
    }

    pub(super) fn leg(&mut self) -> Option<&mut Leg> {
        match &mut self.line {
            Line::Up(leg) => Some(leg),
            Line::Dialing(_) => None,
        }
    }

    /// Whether a flush would move something: octets that wait, bodies that wait for their place in
    /// the outbox, or credit of octets that have left.
    pub(super) fn has_output(&self) -> bool {
        let Some(leg) = self.leg_ref() else { return false };
        !leg.wire.out.is_empty() || self.has_left() || self.may_resume()
    }

    /// Whether octets of a body have left whose credit has not gone back yet.
    pub(super) fn has_left(&self) -> bool {
        self.leg_ref()
            .zip(self.departing.front())
            .is_some_and(|(leg, first)| leg.has_left(first.end))
    }

    /// Whether bodies wait for their turn and there is room for them.
    pub(super) fn may_resume(&self) -> bool {
        self.is_contended
            && self.leg_ref().is_some_and(|leg| {
                leg.wire.connection_credit() > 0 && leg.wire.out.len() < self.batch.octets()
            })
    }

    /// Gives back what an idle leg does not need.
    pub(super) fn rest(&mut self, now: Instant) {
        self.echoes = None;
        self.departing = VecDeque::new();
        if let Some(leg) = self.leg() {
            leg.wire.shrink(now);
        }
    }

    pub(super) fn leg_ref(&self) -> Option<&Leg> {
        match &self.line {
            Line::Up(leg) => Some(leg),
            Line::Dialing(_) => None,
        }
    }

    /// Whether a new call may be put on this line, now or when a place is free.
    pub(super) fn takes_calls_for(&self, cluster: &Arc<Cluster>) -> bool {
        self.takes_calls() && self.cluster == *cluster
    }

    /// The same for a call whose snapshot has led one of the same team and environment here
    /// before. A removal may lead calls of its sessions elsewhere.
    pub(super) fn was_found_for(&self, exchange: &Exchange) -> bool {
        let Slots { team, environment, revoked, .. } = exchange.call.slots();
        self.generation == exchange.snapshot.generation
            && revoked.is_none()
            && self.takes_calls()
            && team.as_ref() == Some(self.cluster.team())
            && environment.as_ref() == Some(self.cluster.environment())
    }

    fn takes_calls(&self) -> bool {
        !self.lost
            && match &self.line {
                Line::Dialing(_) => true,
                Line::Up(leg) => !leg.wire.is_leaving() && leg.can_write(),
            }
    }

    /// Asks a silent driver whether it is there, unless it would mind.
    pub(super) fn ask_if_silent(&mut self, now: Instant, silence: Duration) {
        let (times, busy_since) = (self.asked, self.busy_since);
        let Some(leg) = self.leg() else { return };
        let silent = now.saturating_duration_since(leg.heard.max(busy_since)) >= silence;
        let again = match times.checked_sub(1).map(|times| ASK_AFTER.get(times)) {
            None => Duration::ZERO,
            Some(Some(times)) => silence * *times,
            Some(None) => ASK_AGAIN,
        };
        // A question without an answer is not asked again: that would begin the wait for it anew.
        let minds = leg.asked.is_some_and(|asked| leg.heard <= asked || now < asked + again);
        if silent && !minds {
            leg.ask(now);
            self.asked = times.saturating_add(1);
        }
    }
}

/// Octets of a header list that a client's drivers are told to send at most.
pub(super) fn header_list(theirs: &Settings) -> u32 {
    theirs.header_list.min(HEADER_LIST_MAX)
}

/// Octets that the driver at the end of a leg may have under way: what the client takes and, so
/// that the leg can always be read, what may be parked.
/// `detached` octets of answers whose drivers are not needed any more wait for the same client.
pub(super) fn allowance(client: &Connection, detached: usize) -> i64 {
    let detached = i64::try_from(detached).unwrap_or(i64::MAX);
    let most = client.connection_credit().saturating_add(i64::from(PARKED_MAX));
    most.saturating_sub(detached).min(i64::from(WINDOW))
}

fn offer(client: &Connection, detached: usize) -> Offer {
    let theirs = client.theirs();
    let window = u32::try_from(allowance(client, detached)).unwrap_or(0).max(WINDOW_FLOOR);
    let settings = Settings {
        push: false,
        streams: 0,
        window: theirs.window,
        header_list: header_list(theirs),
        ..Settings::INITIAL
    };
    let headers = Limits { octets: whole(HEADER_LIST_MAX), count: HEADER_COUNT_MAX };
    Offer { settings, window, headers }
}
