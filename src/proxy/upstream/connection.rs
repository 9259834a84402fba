//! Driver: a client connection's own leg to one driver, from the dial to the end.
//!
//! It is never shared among client connections: a fat header or a flood of one client can only
//! cost that client its leg.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sconce_filters::Attributes;
use tokio::net::TcpStream;

use crate::grpc::status::{self, ResponseStatus};
use crate::proxy::budget::DOWNLOAD_BUFFER_MAX;
use crate::proxy::convert::usize_from;
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::net::header_cache::HeaderBlockCache;
use crate::proxy::net::poll_budget::BatchSize;
use crate::proxy::round_robin::RoundRobin;
use crate::proxy::upstream::connect::{self, Resolver};
use crate::proxy::upstream::pool::IdleConnection;
use crate::route::Cluster;
use crate::telemetry::ConnectFailure;
use crate::wire::connection::{Connection, LocalConfig, Role};
use crate::wire::frame::StreamId;
use crate::wire::hpack::{Fields, Limits};
use crate::wire::settings::{DEFAULT_INITIAL_WINDOW_SIZE, Settings};

/// Credit of a whole leg, in octets: what a driver may have under way to one client connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Octets of a header list that a driver may send at most. It is told what the client takes, so
/// that an answer too long for the client ends as it would without sconce.
const HEADER_LIST_MAX: u32 = 65_536;
/// Fields that a driver may send in one list.
const HEADER_COUNT_MAX: usize = 256;
/// A driver that has sent neither HEADERS nor DATA since minds every PING after the first that
/// comes within five minutes, and closes the connection at the third one that it minds (grpc-java:
/// permitKeepAliveTime, MAX_PING_STRIKES). So it is asked again after so many times the silence,
/// and from then on once in `ASK_AGAIN`.
const PING_BACKOFF: [u32; 2] = [2, 6];
/// See `ASK_AFTER`.
const PING_BACKOFF_MAX: Duration = Duration::from_secs(301);

type ConnectFuture = Pin<Box<dyn Future<Output = Result<TcpStream, ConnectFailure>>>>;

/// What goes out again and again because of one driver.
#[derive(Default)]
pub(crate) struct UpstreamHeaderCaches {
    /// Requests, to the driver.
    pub(crate) requests: HeaderBlockCache,
    /// Heads of answers, to the client.
    pub(crate) responses: ResponseHeaderCache,
    /// Trailers, to the client.
    pub(crate) trailers: ResponseHeaderCache,
}

/// Header blocks of a driver that all say the same.
#[derive(Default)]
pub(crate) struct ResponseHeaderCache {
    pub(crate) cache: HeaderBlockCache,
    last: Option<(Rc<Fields>, ResponseStatus)>,
}

impl ResponseHeaderCache {
    /// What a block says.
    pub(crate) fn status_of(&mut self, fields: &Rc<Fields>) -> ResponseStatus {
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
pub(crate) enum UpstreamState {
    /// Not there yet.
    Connecting(ConnectFuture),
    /// There.
    Connected(Box<H2Connection>),
}

/// Octets of one body that are in the outbox.
pub(crate) struct InFlightChunk {
    /// The client's stream, and the exchange on it.
    pub(crate) stream: StreamId,
    pub(crate) key: usize,
    /// Octets whose credit goes back.
    pub(crate) octets: u32,
    /// Where in the outbox they end, see `Outbox::end`.
    pub(crate) end: u64,
}

/// A client connection's leg to one driver.
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<Cluster>,
    /// The latest snapshot whose table led a call to this cluster; 0 if none has.
    pub(crate) generation: u64,
    pub(crate) state: UpstreamState,
    /// Exchanges that wait for the line, or for a place on it.
    pub(crate) pending: VecDeque<usize>,
    /// Whether a loop opens the streams of those now.
    pub(crate) is_opening: bool,
    /// Exchanges that are on it or wait for it.
    pub(crate) active: usize,
    /// Octets of the client's streams that are in the outbox, in their order: their credit goes
    /// back when they have left.
    pub(crate) in_flight: VecDeque<InFlightChunk>,
    /// Octets of this leg that are parked.
    pub(crate) download_buffered: usize,
    /// Whose body is resumed next.
    pub(crate) upload_order: RoundRobin,
    /// Whether bodies wait for what they share on the way to this driver, its connection's window
    /// or the outbox: then they are served in turn, and none passes by the others.
    pub(crate) is_contended: bool,
    /// Octets of bodies that may wait in the outbox; what comes on top is parked with its stream.
    pub(crate) write_batch: BatchSize,
    /// By when its first SETTINGS must have come.
    pub(crate) settings_deadline: Instant,
    /// Whether its socket's options are set: that is left until the leg has lived for a while.
    pub(crate) is_tuned: bool,
    /// How often we have asked whether it is there since HEADERS or DATA last came.
    pub(crate) pings_sent: usize,
    /// The last requests that were forwarded on it, and what was last answered on it; not while it
    /// rests.
    pub(crate) header_caches: Option<Box<UpstreamHeaderCaches>>,
    /// Whether it is of no use any more: it goes when its last words are written.
    pub(crate) is_lost: bool,
    /// Since when somebody uses it.
    pub(crate) busy_since: Instant,
    /// Since when nobody uses it.
    pub(crate) idle_since: Instant,
    /// When its dial began.
    connect_started: Instant,
}

impl Upstream {
    pub(crate) fn connect(
        cluster: Arc<Cluster>,
        resolver: &Rc<Resolver>,
        patience: Duration,
        now: Instant,
    ) -> Self {
        let dial = connect::connect(Rc::clone(resolver), cluster.driver().clone(), patience);
        let line = UpstreamState::Connecting(Box::pin(dial));
        Self { settings_deadline: now + patience, ..Self::new(cluster, line, now) }
    }

    /// A leg that another client connection has left. `theirs` is what this one's client said.
    pub(crate) fn reuse(spare: IdleConnection, theirs: &Settings, now: Instant) -> Self {
        let IdleConnection { cluster, h2: mut leg, connect_started: dialled, .. } = spare;
        leg.wire.clear_encoder_table();
        leg.wire.set_initial_window(theirs.initial_window_size, now);
        Self { connect_started: dialled, ..Self::new(cluster, UpstreamState::Connected(leg), now) }
    }

    fn new(cluster: Arc<Cluster>, line: UpstreamState, now: Instant) -> Self {
        Self {
            cluster,
            generation: 0,
            state: line,
            pending: VecDeque::new(),
            is_opening: false,
            active: 0,
            in_flight: VecDeque::new(),
            download_buffered: 0,
            upload_order: RoundRobin::default(),
            is_contended: false,
            write_batch: BatchSize::WRITE_INITIAL,
            settings_deadline: now,
            is_tuned: false,
            pings_sent: 0,
            header_caches: None,
            is_lost: false,
            busy_since: now,
            idle_since: now,
            connect_started: now,
        }
    }

    /// The leg, if it is in such good order that another client connection may have it.
    pub(crate) fn into_idle(mut self, now: Instant) -> Option<IdleConnection> {
        let is_settled = self.active == 0
            && !self.is_lost
            && self.pings_sent == 0
            && self.download_buffered == 0
            && self.h2().is_some_and(H2Connection::can_write);
        self.shrink(now);
        match self.state {
            UpstreamState::Connected(leg) if is_settled && leg.wire.is_reusable() => {
                let Self { cluster, connect_started: dialled, idle_since, .. } = self;
                Some(IdleConnection { cluster, h2: leg, connect_started: dialled, idle_since })
            }
            UpstreamState::Connected(_) | UpstreamState::Connecting(_) => None,
        }
    }

    /// Goes on with the dial; `Ready(Ok)` once, when the line is up. `client` says what is passed
    /// through.
    pub(crate) fn poll_connect(
        &mut self,
        context: &mut Context<'_>,
        (client, detached): (&Connection, usize),
        now: Instant,
    ) -> Poll<Result<(), ConnectFailure>> {
        let UpstreamState::Connecting(dial) = &mut self.state else { return Poll::Pending };
        match dial.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
            Poll::Ready(Ok(socket)) => {
                let wire = Connection::new(Role::Client, local_config(client, detached), now);
                self.state =
                    UpstreamState::Connected(Box::new(H2Connection::new(socket, None, wire, now)));
                Poll::Ready(Ok(()))
            }
        }
    }

    pub(crate) fn h2_mut(&mut self) -> Option<&mut H2Connection> {
        match &mut self.state {
            UpstreamState::Connected(leg) => Some(leg),
            UpstreamState::Connecting(_) => None,
        }
    }

    /// Whether a flush would move something: octets that wait, bodies that wait for their place in
    /// the outbox, or credit of octets that have left.
    pub(crate) fn has_output(&self) -> bool {
        let Some(leg) = self.h2() else { return false };
        !leg.wire.write_buffer.is_empty() || self.has_flushed() || self.can_resume_uploads()
    }

    /// Whether octets of a body have left whose credit has not gone back yet.
    pub(crate) fn has_flushed(&self) -> bool {
        self.h2().zip(self.in_flight.front()).is_some_and(|(leg, first)| leg.has_flushed(first.end))
    }

    /// Whether bodies wait for their turn and there is room for them.
    pub(crate) fn can_resume_uploads(&self) -> bool {
        self.is_contended
            && self.h2().is_some_and(|leg| {
                leg.wire.connection_send_window() > 0
                    && leg.wire.write_buffer.len() < self.write_batch.octets()
            })
    }

    /// Gives back what an idle leg does not need.
    pub(crate) fn shrink(&mut self, now: Instant) {
        self.header_caches = None;
        self.in_flight = VecDeque::new();
        if let Some(leg) = self.h2_mut() {
            leg.wire.shrink(now);
        }
    }

    pub(crate) fn h2(&self) -> Option<&H2Connection> {
        match &self.state {
            UpstreamState::Connected(leg) => Some(leg),
            UpstreamState::Connecting(_) => None,
        }
    }

    /// Whether a new call may be put on this line, now or when a place is free.
    pub(crate) fn accepts_streams_for(&self, cluster: &Arc<Cluster>) -> bool {
        self.accepts_streams() && self.cluster == *cluster
    }

    /// The same for a call whose snapshot has led one of the same team and environment here
    /// before. A removal may lead calls of its sessions elsewhere.
    pub(crate) fn matches_route_of(&self, generation: u64, attributes: &Attributes) -> bool {
        let Attributes { team, environment, revoked, .. } = attributes;
        self.generation == generation
            && revoked.is_none()
            && self.accepts_streams()
            && team.as_ref() == Some(self.cluster.team())
            && environment.as_ref() == Some(self.cluster.environment())
    }

    fn accepts_streams(&self) -> bool {
        !self.is_lost
            && match &self.state {
                UpstreamState::Connecting(_) => true,
                UpstreamState::Connected(leg) => !leg.wire.is_going_away() && leg.can_write(),
            }
    }

    /// Asks a silent driver whether it is there, unless it would mind.
    pub(crate) fn keepalive(&mut self, now: Instant, silence: Duration) {
        let (times, busy_since) = (self.pings_sent, self.busy_since);
        let Some(leg) = self.h2_mut() else { return };
        let silent = now.saturating_duration_since(leg.last_read.max(busy_since)) >= silence;
        let again = match times.checked_sub(1).map(|times| PING_BACKOFF.get(times)) {
            None => Duration::ZERO,
            Some(Some(times)) => silence * *times,
            Some(None) => PING_BACKOFF_MAX,
        };
        // A question without an answer is not asked again: that would begin the wait for it anew.
        let minds =
            leg.ping_sent_at.is_some_and(|asked| leg.last_read <= asked || now < asked + again);
        if silent && !minds {
            leg.send_ping(now);
            self.pings_sent = times.saturating_add(1);
        }
    }
}

/// Octets of a header list that a client's drivers are told to send at most.
pub(crate) fn header_list_max(theirs: &Settings) -> u32 {
    theirs.max_header_list_size.min(HEADER_LIST_MAX)
}

/// Octets that the driver at the end of a leg may have under way: what the client takes and, so
/// that the leg can always be read, what may be parked.
/// `detached` octets of answers whose drivers are not needed any more wait for the same client.
pub(crate) fn connection_window(client: &Connection, detached: usize) -> i64 {
    let detached = i64::try_from(detached).unwrap_or(i64::MAX);
    let most = client.connection_send_window().saturating_add(i64::from(DOWNLOAD_BUFFER_MAX));
    most.saturating_sub(detached).min(i64::from(CONNECTION_WINDOW))
}

fn local_config(client: &Connection, detached: usize) -> LocalConfig {
    let theirs = client.remote_settings();
    let window = u32::try_from(connection_window(client, detached))
        .unwrap_or(0)
        .max(DEFAULT_INITIAL_WINDOW_SIZE);
    let settings = Settings {
        enable_push: false,
        max_concurrent_streams: 0,
        initial_window_size: theirs.initial_window_size,
        max_header_list_size: header_list_max(theirs),
        ..Settings::INITIAL
    };
    let headers = Limits { octets: usize_from(HEADER_LIST_MAX), count: HEADER_COUNT_MAX };
    LocalConfig { settings, window, headers }
}
