//! Relay: one client connection with all its streams and upstream connections, as one task.
//!
//! One poll reads, forwards and writes, in the worker's read buffer. Nothing here crosses threads,
//! and no stream has a task of its own.
//!
//! Must never happen here: an await in the middle of a poll, or a queue without a limit.

mod admit;
mod buffering;
mod cleartext;
mod dispatch;
mod download;
mod end;
mod eviction;
mod malformed;
mod read;
mod reauth;
mod recheck;
mod refusal_budget;
mod refusal_log;
mod removals;
mod timers;
mod upload;
mod user_context;

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::Identity;
use tokio::time::Sleep;

use crate::grpc::user_context::UserContextField;
use crate::proxy::budget::gauge::GaugeShare;
use crate::proxy::budget::user_share::UserShare;
use crate::proxy::context::WorkerContext;
use crate::proxy::downstream::DownstreamState;
use crate::proxy::downstream::read_pause::ReadPause;
use crate::proxy::downstream::unauthenticated::Unauthenticated;
use crate::proxy::keys::{KeyedSlab, StreamKey, UpstreamKey};
use crate::proxy::net::h2_connection::H2Connection;
use crate::proxy::net::poll_budget::BatchSize;
use crate::proxy::net::poll_epoch::PollEpoch;
use crate::proxy::round_robin::RoundRobin;
use crate::proxy::stream::ActiveStream;
use crate::proxy::stream::request::ParsedRequest;
use crate::proxy::upstream::connection::Upstream;
use crate::wire::frame::StreamId;

/// Timeout for writing the last frames before the connection is closed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a closed connection is still read, so that the peer receives the last frames.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Shortest interval between two checks of the timers.
const TIMER_MIN: Duration = Duration::from_millis(5);

/// One client connection.
pub(super) struct Relay {
    ctx: Rc<WorkerContext>,
    /// The generation of the snapshot whose removals were recorded last.
    removals_generation: u64,
    peer: SocketAddr,
    /// `None` after the first admitted call.
    unauthenticated: Option<Box<Unauthenticated>>,
    downstream: H2Connection,
    upstreams: KeyedSlab<UpstreamKey, Upstream>,
    streams: KeyedSlab<StreamKey, ActiveStream>,
    state: DownstreamState,
    epoch: PollEpoch,
    now: Instant,
    /// The time of day of the last read from the client.
    last_read_wall: SystemTime,
    /// The same as an instant.
    last_read_at: Instant,
    accepted_at: Instant,
    /// Since when the client has had no streams.
    idle_since: Instant,
    /// Whether buffers are held that an idle connection does not need.
    holds_buffers: bool,
    /// Whether the next check of open streams is scheduled.
    is_tick_scheduled: bool,
    /// The time of the next timer check.
    next_timer: Instant,
    /// Inflated octets that are held for upstreams.
    inflated: GaugeShare,
    /// Octets that are buffered in both directions.
    buffered: GaugeShare,
    /// Octets of window growth that uploads have earned.
    earned_window: GaugeShare,
    /// The user to whom these two are charged, while they are above zero.
    user_share: Option<Box<UserShare>>,
    timer: Pin<Box<Sleep>>,
    waker_key: Option<usize>,
    /// The last parsed request.
    last_request: Option<Rc<ParsedRequest>>,
    /// The last caller, and its encoded user context.
    last_caller: Option<(Rc<Identity>, UserContextField)>,
    /// Streams with a pending filter decision.
    pending_filters: usize,
    /// Octets of the client that the last poll had no budget to parse.
    unparsed: Vec<u8>,
    /// Streams whose requests were rejected before they were complete.
    rejected: Option<Box<RejectedStreams>>,
    /// Octets of refusals written since the write buffer was last empty.
    unread_refusals: usize,
    downstream_batch: BatchSize,
    read_pause: ReadPause,
    upstream_batch: BatchSize,
    /// The upstream that was read last.
    last_read_upstream: UpstreamKey,
    /// Buffered response octets of streams without an upstream.
    detached: usize,
    /// The round robin over buffered responses.
    download_order: RoundRobin,
}

/// Resolves when the connection is closed.
impl Future for Relay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.get_mut().drive(context)
    }
}

impl Relay {
    pub(super) fn new(
        ctx: Rc<WorkerContext>,
        downstream: H2Connection,
        unauthenticated: Unauthenticated,
        now: Instant,
    ) -> Self {
        ctx.metrics.downstream_opened();
        // Not sooner: a timer for a short time costs two system calls.
        let patience = match downstream.awaits_preface() {
            true => PREFACE_WAIT,
            false => ctx.snapshot().timeouts.handshake,
        };
        let due = now + patience;
        Self {
            removals_generation: ctx.generation(),
            ctx,
            peer: unauthenticated.peer,
            unauthenticated: Some(Box::new(unauthenticated)),
            downstream,
            upstreams: KeyedSlab::with_capacity(1),
            streams: KeyedSlab::new(),
            state: DownstreamState::Open,
            epoch: PollEpoch::default(),
            now,
            last_read_wall: SystemTime::UNIX_EPOCH,
            last_read_at: now,
            accepted_at: now,
            idle_since: now,
            holds_buffers: false,
            is_tick_scheduled: false,
            next_timer: due,
            inflated: GaugeShare::default(),
            buffered: GaugeShare::default(),
            earned_window: GaugeShare::default(),
            user_share: None,
            timer: Box::pin(tokio::time::sleep_until(due.into())),
            waker_key: None,
            last_request: None,
            last_caller: None,
            pending_filters: 0,
            unparsed: Vec::new(),
            rejected: None,
            unread_refusals: 0,
            downstream_batch: BatchSize::default(),
            read_pause: ReadPause::default(),
            upstream_batch: BatchSize::default(),
            last_read_upstream: UpstreamKey::default(),
            detached: 0,
            download_order: RoundRobin::default(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
    fn update_now(&mut self) {
        self.now = Instant::now();
    }

    /// Read after the octets: a deadline that counted from an earlier time would pass too early.
    fn update_clocks(&mut self) {
        self.update_now();
        (self.last_read_wall, self.last_read_at) = (SystemTime::now(), self.now);
    }

    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let ctx = Rc::clone(&self.ctx);
        let Ok(mut scratch) = ctx.scratch.try_borrow_mut() else {
            self.ctx.internal_error("scratch_borrowed");
            return Poll::Pending;
        };
        self.waker_key = Some(ctx.register_waker(self.waker_key, context.waker()));
        self.update_now();
        self.apply_shutdown();
        self.drain_if_certificate_withdrawn();
        self.record_removal_sessions();
        self.epoch = ctx.begin_poll(self.now);
        loop {
            // Reads come first, so that answers leave together with output that waits. Upstreams
            // come before the client, so that no call is dispatched to a connection that has ended.
            let mut moved = self.read_upstreams(context, &mut scratch);
            moved |= self.read_downstream(context, &mut scratch);
            // Poll connects, filters and timers once there is nothing more to read, or at the end
            // of the poll.
            let is_over = moved && ctx.must_yield(self.now);
            if !moved || is_over {
                moved |= self.release_deferred_uploads();
                moved |= self.poll_connects(context);
                moved |= self.poll_filters(context);
                moved |= self.poll_timer(context);
                if moved || self.state != DownstreamState::Open || self.has_output() {
                    moved |= self.flush(context, &scratch);
                }
            }
            if self.state == DownstreamState::Closed {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
            if is_over || ctx.must_yield(self.now) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Releases memory that an idle connection does not need.
    fn shrink(&mut self) {
        self.downstream.wire.shrink(self.now);
        for (_, upstream) in self.upstreams.iter_mut() {
            upstream.shrink(self.now);
        }
        self.streams = KeyedSlab::new();
        self.last_request = None;
        self.last_caller = None;
    }

    /// Writes all output. Octets that have left are released to the peers, and the WINDOW_UPDATEs
    /// are written, too.
    fn flush(&mut self, context: &mut Context<'_>, borrowed: &[u8]) -> bool {
        let mut moved = self.flush_upstreams(context, borrowed);
        moved |= self.release_uploads();
        let flushed = match self.awaits_first_bytes() {
            true => Ok(false),
            false => self.downstream.flush(context, borrowed, self.now),
        };
        match flushed {
            Ok(more) => moved |= more,
            Err(_) => self.abort_downstream(),
        }
        if self.unread_refusals > 0 {
            self.limit_unread_refusals();
        }
        if self.downstream.pending_bytes() == 0 {
            if self.release_downloads() {
                moved |= self.flush_upstreams(context, borrowed);
            }
            self.linger_close(context);
        }
        if self.inflated.is_nonzero() {
            self.update_inflated();
        }
        if self.buffered.is_nonzero() {
            self.update_buffered();
        }
        moved
    }

    fn flush_upstreams(&mut self, context: &mut Context<'_>, borrowed: &[u8]) -> bool {
        let mut moved = false;
        let mut any_lost = false;
        for (_, upstream) in self.upstreams.iter_mut() {
            any_lost |= upstream.is_lost();
            moved |= upstream.flush(context, borrowed, self.now);
        }
        if any_lost {
            self.close_lost_upstreams();
        }
        moved
    }

    /// Shuts down writing once the last frames are written, then reads on for `LINGER_TIMEOUT`.
    fn linger_close(&mut self, context: &mut Context<'_>) {
        if matches!(self.state, DownstreamState::Closing(_))
            && self.streams.is_empty()
            && !self.downstream.poll_shutdown(context).is_pending()
        {
            self.state = DownstreamState::Lingering(self.now + LINGER_TIMEOUT);
            self.schedule(self.now + LINGER_TIMEOUT);
        }
    }

    /// Closes the connection after its output is written, or after `FLUSH_TIMEOUT`.
    fn close_downstream(&mut self) {
        if !self.downstream.is_established() {
            return self.abort_downstream();
        }
        let by = self.now + FLUSH_TIMEOUT;
        self.state = DownstreamState::Closing(by);
        self.schedule(by);
    }

    /// The keys of streams with this property.
    fn streams_where(&self, is_meant: impl Fn(&ActiveStream) -> bool) -> Vec<StreamKey> {
        let all = self.streams.iter().filter(|(_, stream)| is_meant(stream));
        all.map(|(key, _)| key).collect()
    }

    fn has_output(&self) -> bool {
        self.downstream.pending_bytes() > 0
            || self.upstreams.iter().any(|(_, upstream)| upstream.has_output())
    }

    /// Ensures that the timers are checked at this time or before.
    fn schedule(&mut self, at: Instant) {
        self.next_timer = self.next_timer.min(at);
    }

    /// Checks the timers when they are due. Returns true if they were.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        if self.timer.deadline().into_std() != self.next_timer {
            let due = self.next_timer;
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        self.next_timer = self.now + Duration::from_secs(3_600);
        let due = self.check_timeouts().max(self.now + TIMER_MIN);
        self.schedule(due);
        true
    }
}

/// Time without output on a clear-text connection while the client has sent nothing. Clients of
/// HTTP/2 and of TLS send their first octets without waiting (RFC 9113, 3.4).
const PREFACE_WAIT: Duration = Duration::from_millis(100);

/// Answered streams that are reset at this time, in order.
type RejectedStreams = VecDeque<(StreamId, Instant)>;

impl Relay {
    /// Serves bodies in turn while any makes progress. `serve` forwards about the given number of
    /// octets of one body, and returns the number.
    fn serve_round_robin(
        &mut self,
        mut waiting: Vec<StreamKey>,
        mut order: RoundRobin,
        serve: fn(&mut Self, StreamKey, usize) -> usize,
    ) -> RoundRobin {
        order.order(&mut waiting);
        while !waiting.is_empty() {
            waiting.retain(|key| {
                let octets = serve(self, *key, order.quantum_of(*key));
                if octets > 0 {
                    order.record(*key, octets);
                }
                octets > 0
            });
        }
        order
    }
}
