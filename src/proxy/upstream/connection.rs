//! Upstream connection: one client connection's own connection to a Spark driver, from connect to
//! close.
//!
//! Client connections never share it: a long header list or a flood of one client affects only that
//! client's upstream connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sconce_filters::Attributes;
use tokio::net::TcpStream;

use crate::proxy::keys::StreamKey;
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::net::poll_budget::BatchSize;
use crate::proxy::round_robin::RoundRobin;
use crate::proxy::upstream::connect::{self, Resolver};
use crate::proxy::upstream::header_caches::UpstreamHeaderCaches;
use crate::proxy::upstream::in_flight::{Flushed, InFlight};
use crate::proxy::upstream::keepalive::{Activity, Keepalive};
use crate::proxy::upstream::limits::local_config;
use crate::proxy::upstream::pool::IdleConnection;
use crate::route::Cluster;
use crate::telemetry::ConnectFailure;
use crate::wire::connection::{Connection, Role};
use crate::wire::hpack::Fields;
use crate::wire::settings::Settings;

type ConnectFuture = Pin<Box<dyn Future<Output = Result<TcpStream, ConnectFailure>>>>;

/// The state of an upstream connection.
pub(super) enum UpstreamState {
    /// TCP connect in progress.
    Connecting(ConnectFuture),
    /// Connected.
    Connected(Box<H2Connection>),
}

/// A client connection's own connection to one driver.
pub(crate) struct Upstream {
    pub(super) cluster: Arc<Cluster>,
    /// The latest generation whose route table led a call to this cluster; 0 if none has.
    generation: u64,
    pub(super) state: UpstreamState,
    /// Streams that wait for the connection, or for a free stream on it.
    pub(super) pending: VecDeque<StreamKey>,
    /// Whether a loop is opening pending streams now.
    pub(super) is_opening: bool,
    /// Streams that are open or pending here.
    pub(super) active: usize,
    /// Request octets in the write buffer, in order: they are released to the client when they have
    /// left.
    pub(super) in_flight: InFlight,
    /// Response octets of this connection that are buffered.
    download_buffered: usize,
    /// The round robin over buffered request bodies.
    upload_order: RoundRobin,
    /// Whether bodies wait for what they share, the connection's send window or the write buffer.
    /// Then they are served in round robin, and none overtakes the others.
    is_contended: bool,
    /// Request octets that may wait in the write buffer; further ones are buffered with their
    /// stream.
    write_batch: BatchSize,
    /// Deadline for the driver's first SETTINGS.
    pub(super) settings_deadline: Instant,
    /// Whether the options of the socket are set, which is deferred until the first check.
    pub(super) is_tuned: bool,
    keepalive: Keepalive,
    /// Encoded header blocks; `None` while the connection is idle.
    pub(super) header_caches: Option<Box<UpstreamHeaderCaches>>,
    /// Whether it has failed: it is closed when its last frames are written.
    is_lost: bool,
    /// Since when it has had streams.
    pub(super) busy_since: Instant,
    /// Since when it has had no streams.
    pub(super) idle_since: Instant,
    /// When the connect began.
    connect_started: Instant,
}

impl Upstream {
    pub(crate) fn connect(
        cluster: Arc<Cluster>,
        resolver: &Rc<Resolver>,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        let connecting = connect::connect(Rc::clone(resolver), cluster.driver().clone(), timeout);
        let state = UpstreamState::Connecting(Box::pin(connecting));
        Self { settings_deadline: now + timeout, ..Self::new(cluster, state, now) }
    }

    /// Takes a connection from the idle pool, and adjusts it to this client's settings.
    pub(crate) fn reuse(idle: IdleConnection, remote: &Settings, now: Instant) -> Self {
        let IdleConnection { cluster, mut h2, connect_started, .. } = idle;
        h2.wire.clear_encoder_table();
        h2.wire.set_initial_window(remote.initial_window_size, now);
        Self { connect_started, ..Self::new(cluster, UpstreamState::Connected(h2), now) }
    }

    fn new(cluster: Arc<Cluster>, state: UpstreamState, now: Instant) -> Self {
        Self {
            cluster,
            generation: 0,
            state,
            pending: VecDeque::new(),
            is_opening: false,
            active: 0,
            in_flight: InFlight::default(),
            download_buffered: 0,
            upload_order: RoundRobin::default(),
            is_contended: false,
            write_batch: BatchSize::WRITE_INITIAL,
            settings_deadline: now,
            is_tuned: false,
            keepalive: Keepalive::default(),
            header_caches: None,
            is_lost: false,
            busy_since: now,
            idle_since: now,
            connect_started: now,
        }
    }

    /// The connection for the idle pool, if another client connection may use it.
    pub(crate) fn into_idle(mut self, now: Instant) -> Option<IdleConnection> {
        let is_settled = self.active == 0
            && !self.is_lost
            && self.keepalive.is_reset()
            && self.download_buffered == 0
            && self.h2().is_some_and(H2Connection::can_write);
        self.shrink(now);
        match self.state {
            UpstreamState::Connected(h2) if is_settled && h2.wire.is_reusable() => {
                let Self { cluster, connect_started, idle_since, .. } = self;
                Some(IdleConnection { cluster, h2, connect_started, idle_since })
            }
            UpstreamState::Connected(_) | UpstreamState::Connecting(_) => None,
        }
    }

    /// Polls the connect; `Ready(Ok)` once, when the connection is established.
    pub(crate) fn poll_connect(
        &mut self,
        context: &mut Context<'_>,
        (downstream, detached): (&Connection, usize),
        now: Instant,
    ) -> Poll<Result<(), ConnectFailure>> {
        let UpstreamState::Connecting(connecting) = &mut self.state else { return Poll::Pending };
        match connecting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(reason)) => Poll::Ready(Err(reason)),
            Poll::Ready(Ok(socket)) => {
                let config = local_config(downstream, detached);
                let wire = Connection::with_memory(Role::Client, config, downstream.memory(), now);
                self.state =
                    UpstreamState::Connected(Box::new(H2Connection::new(socket, None, wire, now)));
                Poll::Ready(Ok(()))
            }
        }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The route table of this generation has led a call to this cluster.
    pub(crate) fn route_found(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    /// Marks the connection as lost: it accepts no streams, and is closed after its last frames.
    pub(crate) fn mark_lost(&mut self) {
        self.is_lost = true;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether the connection is draining and has no streams.
    pub(crate) fn is_drained(&self) -> bool {
        let is_draining = self.h2().is_some_and(|h2| h2.wire.is_going_away());
        self.active == 0 && is_draining && !self.is_lost
    }

    /// Whether the connection has no streams, and could have some.
    pub(crate) fn is_idle(&self) -> bool {
        self.active == 0 && self.accepts_streams()
    }

    /// Buffered response octets of its streams.
    pub(crate) fn download_buffered(&self) -> usize {
        self.download_buffered
    }

    /// Response octets were buffered.
    pub(crate) fn download_buffer_grown(&mut self, octets: usize) {
        self.download_buffered = self.download_buffered.saturating_add(octets);
    }

    /// Buffered response octets were forwarded or dropped.
    pub(crate) fn download_buffer_shrunk(&mut self, octets: usize) {
        self.download_buffered = self.download_buffered.saturating_sub(octets);
    }

    /// Whether bodies wait for what they share, and are served in round robin.
    pub(crate) fn is_contended(&self) -> bool {
        self.is_contended
    }

    pub(crate) fn set_contended(&mut self, is_contended: bool) {
        self.is_contended = is_contended;
    }

    /// The round robin over buffered request bodies.
    pub(crate) fn upload_order(&self) -> RoundRobin {
        self.upload_order
    }

    pub(crate) fn set_upload_order(&mut self, order: RoundRobin) {
        self.upload_order = order;
    }

    /// The write side for request bodies: the octets in flight, the connection, and whether the
    /// write buffer accepts more.
    pub(crate) fn upload_side(&mut self) -> Option<(&mut InFlight, &mut H2Connection, bool)> {
        let UpstreamState::Connected(h2) = &mut self.state else { return None };
        let has_space = h2.wire.write_buffer.len() < self.write_batch.octets();
        Some((&mut self.in_flight, h2, has_space))
    }

    /// The header block that the driver has just sent, and the caches for its encoding.
    pub(crate) fn response_fields(
        &mut self,
        now: Instant,
    ) -> Option<(Rc<Fields>, &mut UpstreamHeaderCaches)> {
        self.keepalive.reset();
        self.cluster.driver_reachable(now);
        let UpstreamState::Connected(h2) = &self.state else { return None };
        Some((h2.wire.fields(), self.header_caches.get_or_insert_default()))
    }

    /// Writes all output that the socket accepts, and adjusts the size of batches. Returns true if
    /// octets were written, or discarded because the driver is gone.
    pub(crate) fn flush(
        &mut self,
        context: &mut Context<'_>,
        borrowed: &[u8],
        now: Instant,
    ) -> bool {
        let UpstreamState::Connected(h2) = &mut self.state else { return false };
        let waited = h2.wire.write_buffer.len();
        let has_moved = match h2.flush(context, borrowed, now) {
            Ok(has_moved) => has_moved,
            // Octets that it has sent are read first: they may contain a response.
            Err(_) => h2.abandon_writes(),
        };
        if has_moved && h2.write_blocked_since().is_some() {
            self.write_batch.shrink();
        } else if has_moved && waited >= self.write_batch.octets() {
            self.write_batch.grow();
        }
        has_moved
    }

    pub(crate) fn h2_mut(&mut self) -> Option<&mut H2Connection> {
        match &mut self.state {
            UpstreamState::Connected(h2) => Some(h2),
            UpstreamState::Connecting(_) => None,
        }
    }

    /// Whether a flush would make progress: octets to write, bodies that wait for the write buffer,
    /// or octets to release.
    pub(crate) fn has_output(&self) -> bool {
        let Some(h2) = self.h2() else { return false };
        !h2.wire.write_buffer.is_empty() || self.has_flushed() || self.can_resume_uploads()
    }

    /// Whether request octets have left that are not yet released to the client.
    fn has_flushed(&self) -> bool {
        self.h2().is_some_and(|h2| self.in_flight.has_flushed(|end| h2.has_flushed(end)))
    }

    /// Whether bodies wait, and the connection's send window and write buffer have capacity.
    pub(crate) fn can_resume_uploads(&self) -> bool {
        self.is_contended
            && self.h2().is_some_and(|h2| {
                h2.wire.connection_send_window() > 0
                    && h2.wire.write_buffer.len() < self.write_batch.octets()
            })
    }

    /// Releases buffers that an idle connection does not need.
    pub(crate) fn shrink(&mut self, now: Instant) {
        self.header_caches = None;
        self.in_flight.clear();
        if let Some(h2) = self.h2_mut() {
            h2.wire.shrink(now);
        }
    }

    pub(crate) fn h2(&self) -> Option<&H2Connection> {
        match &self.state {
            UpstreamState::Connected(h2) => Some(h2),
            UpstreamState::Connecting(_) => None,
        }
    }

    /// Whether a new stream to this cluster may be enqueued here.
    pub(crate) fn accepts_streams_for(&self, cluster: &Arc<Cluster>) -> bool {
        self.accepts_streams() && self.cluster == *cluster
    }

    /// The same for a call of a team and environment that this generation has already led here.
    /// False for calls that a removal may lead elsewhere.
    pub(crate) fn matches_route_of(&self, generation: u64, attributes: &Attributes) -> bool {
        let Attributes { team, environment, revoked, .. } = attributes;
        self.generation == generation
            && revoked.is_none()
            && self.accepts_streams()
            && team.as_ref() == Some(self.cluster.team())
            && environment.as_ref() == Some(self.cluster.environment())
    }

    /// Whether a new stream may be enqueued here.
    pub(super) fn accepts_streams(&self) -> bool {
        !self.is_lost
            && match &self.state {
                UpstreamState::Connecting(_) => true,
                UpstreamState::Connected(h2) => !h2.wire.is_going_away() && h2.can_write(),
            }
    }

    /// Removes the next request octets that have left, to be released to the client.
    pub(crate) fn pop_flushed(&mut self) -> Option<Flushed> {
        let UpstreamState::Connected(h2) = &self.state else { return None };
        self.in_flight.pop_flushed(|end| h2.has_flushed(end))
    }

    /// HEADERS or DATA have arrived: the keepalive may begin anew.
    pub(crate) fn response_received(&mut self) {
        self.keepalive.reset();
    }

    /// Sends a keepalive PING to a silent driver, unless it would count as a strike.
    pub(super) fn send_keepalive(&mut self, now: Instant, time: Duration) {
        let UpstreamState::Connected(h2) = &mut self.state else { return };
        let activity = Activity {
            silent_since: h2.last_read().max(self.busy_since),
            last_read: h2.last_read(),
            ping_sent_at: h2.ping_sent_at(),
        };
        if self.keepalive.is_due(activity, now, time) {
            h2.send_ping(now);
            self.keepalive.ping_sent();
        }
    }
}
