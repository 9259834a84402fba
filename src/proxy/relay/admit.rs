//! Admit: turns an opened stream into a call and runs the filter chain on it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use sconce_filters::{Attributes, Call, ChainStep, Code, Cost, EndReason, Method, Refusal};

use crate::grpc::boundary::MessageBoundary;
use crate::grpc::redact::Redactor;
use crate::grpc::request::{self, Request, RequestError};
use crate::grpc::{forward, status};
use crate::proxy::convert::usize_from;
use crate::proxy::relay::Relay;
use crate::proxy::stream::request::ParsedRequest;
use crate::proxy::stream::{ActiveStream, BodyState, LastCheck, PendingRewrite, Progress};
use crate::proxy::upstream::connection::{Upstream, connection_window, header_list_max};
use crate::route::Cluster;
use crate::telemetry::ConnectFailure;
use crate::wire::error;
use crate::wire::frame::StreamId;
use crate::wire::hpack::{Fields, Overflow};

/// Upstream connections that one client connection may have at one time.
const UPSTREAMS_MAX: usize = 32;

impl Relay {
    pub(super) fn on_request(&mut self, stream: StreamId, end: bool) {
        let fields = self.downstream.wire.fields();
        if let Some(overflow) = fields.overflow() {
            return self.refuse_request(stream, &header_list_refusal(overflow));
        }
        if let Some(known) = &self.last_request
            && Rc::ptr_eq(known.head.fields(), &fields)
        {
            return self.begin_stream(stream, end, Rc::clone(known));
        }
        match request::read(&fields) {
            Ok(request) => {
                let asked = Rc::new(ParsedRequest::new(fields, request));
                self.last_request = Some(Rc::clone(&asked));
                self.begin_stream(stream, end, asked);
            }
            Err(RequestError::NotGrpc) => {
                self.send_local_reply(
                    stream,
                    "request.not_grpc",
                    &status::unsupported_media_type(),
                );
            }
            Err(RequestError::Refused(refusal)) => self.refuse_request(stream, &refusal),
        }
    }

    fn refuse_request(&mut self, stream: StreamId, refusal: &Refusal) {
        self.send_local_reply(stream, refusal.label, &status::trailers_only(refusal));
    }

    /// Answers a stream that never became a call.
    fn send_local_reply(&mut self, stream: StreamId, label: &'static str, answer: &Fields) {
        self.record_refused_request(stream, label, None);
        self.write_refusal(stream, answer, Cost::Cheap);
        self.downstream.wire.reset_stream(stream, error::ErrorCode::NoError);
        self.close_if_drained();
    }

    fn begin_stream(&mut self, stream: StreamId, end: bool, asked: Rc<ParsedRequest>) {
        self.drain_if_certificate_withdrawn();
        self.record_removal_sessions();
        let Request { method, timeout } = &asked.request;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        let metadata: Rc<dyn sconce_filters::Metadata> = Rc::clone(&asked.head) as _;
        let call = Call::new(method.clone(), metadata, self.peer, self.now);
        let call = call.with_deadline(deadline).with_wall_time(self.last_read_wall);
        let call = call.with_certificate(self.downstream.certificate());
        self.ctx.metrics.call_opened(asked.label);
        let snapshot = self.ctx.snapshot();
        if !self.is_tick_scheduled {
            self.is_tick_scheduled = true;
            self.schedule(self.next_tick(&snapshot.timeouts));
        }
        if self.streams.capacity() == 0 {
            self.streams.reserve_exact(1);
        }
        let entry = self.streams.vacant_entry();
        let tag = entry.key();
        self.downstream.wire.set_tag(stream, u32::try_from(tag).unwrap_or(u32::MAX));
        entry.insert(ActiveStream {
            id: stream,
            upstream: None,
            upstream_id: None,
            head_end: 0,
            reassignments: 0,
            call,
            method: asked.label,
            tenant: None,
            last_check: LastCheck { at: self.now, generation: snapshot.generation },
            snapshot,
            request: Some(asked),
            pending_filter: None,
            user_context: None,
            pending_rewrite: PendingRewrite::default(),
            token_expiry: None,
            token_standing: None,
            redactor: None,
            is_upload_ended: end,
            upload: BodyState::default(),
            download: BodyState::default(),
            boundary: MessageBoundary::default(),
            is_response_started: false,
            pending_end: None,
            upload_progress: Progress::new(self.now),
            download_progress: Progress::new(self.now),
        });
        if let Some(deadline) = deadline {
            self.schedule(deadline);
        }
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let step = exchange.snapshot.chain.admit(&mut exchange.call);
        self.on_chain_step(tag, step);
    }

    fn on_chain_step(&mut self, tag: usize, step: ChainStep) {
        match step {
            ChainStep::Admitted => match self.check_revoked(tag, false) {
                Ok(()) => {
                    self.mark_authenticated();
                    self.begin_user_context(tag);
                    self.dispatch(tag);
                }
                Err(refusal) => self.refuse(tag, &refusal, EndReason::Refused),
            },
            ChainStep::Refused(refusal) => self.refuse(tag, &refusal, EndReason::Refused),
            ChainStep::Pending(wait) => {
                if let Some(exchange) = self.streams.get_mut(tag) {
                    exchange.pending_filter = Some(wait);
                    self.pending_filters = self.pending_filters.saturating_add(1);
                }
            }
        }
    }

    /// Polls pending filters, and acts on their decisions.
    pub(super) fn poll_filters(&mut self, context: &mut Context<'_>) -> bool {
        if self.pending_filters == 0 {
            return false;
        }
        let mut answers: Vec<(usize, Result<Attributes, Refusal>)> = Vec::new();
        for (tag, exchange) in &mut self.streams {
            let Some(wait) = &mut exchange.pending_filter else { continue };
            if let Poll::Ready(answer) = std::pin::Pin::new(wait).poll(context) {
                answers.push((tag, answer));
            }
        }
        let moved = !answers.is_empty();
        for (tag, answer) in answers {
            let Some(exchange) = self.streams.get_mut(tag) else { continue };
            exchange.pending_filter = None;
            self.pending_filters = self.pending_filters.saturating_sub(1);
            let step = exchange.snapshot.chain.resume(&mut exchange.call, answer);
            self.on_chain_step(tag, step);
        }
        moved
    }

    /// Selects the upstream connection of an admitted call, and enqueues the call there.
    pub(super) fn dispatch(&mut self, tag: usize) {
        match self.upstream_for(tag) {
            Ok(Some(key)) => self.enqueue_on(tag, key),
            Ok(None) => {}
            Err(refusal) => self.refuse(tag, &refusal, EndReason::Refused),
        }
    }

    /// The upstream connection for an admitted call.
    fn upstream_for(&mut self, tag: usize) -> Result<Option<usize>, Refusal> {
        let Some(exchange) = self.streams.get(tag) else { return Ok(None) };
        let known = self.upstreams.iter().find(|(_, driver)| {
            driver.matches_route_of(exchange.snapshot.generation, exchange.call.attributes())
        });
        if let Some((key, driver)) = known {
            return check_header_list(exchange, &driver.cluster).map(|()| Some(key));
        }
        let cluster = find_cluster(exchange)?;
        // A removal may lead to another cluster than the route table, so the generation proves
        // nothing.
        let is_revoked = exchange.call.attributes().revoked.is_some();
        let generation = if is_revoked { 0 } else { exchange.snapshot.generation };
        check_header_list(exchange, &cluster)?;
        self.select_upstream(&cluster, generation).map(Some)
    }

    /// The upstream connection to a cluster's driver; connects if there is none. `generation` is
    /// that of the snapshot whose route table has the cluster; 0 if none has.
    fn select_upstream(
        &mut self,
        cluster: &Arc<Cluster>,
        generation: u64,
    ) -> Result<usize, Refusal> {
        let known =
            self.upstreams.iter_mut().find(|(_, driver)| driver.accepts_streams_for(cluster));
        if let Some((key, driver)) = known {
            driver.generation = driver.generation.max(generation);
            return Ok(key);
        }
        self.close_idle_upstreams();
        if self.upstreams.len() >= UPSTREAMS_MAX {
            let message =
                "this connection has open calls on too many clusters; use another connection";
            return Err(Refusal::new(Code::ResourceExhausted, "route.clusters", message));
        }
        let mut driver = self.connect_or_reuse(cluster);
        driver.generation = generation;
        Ok(self.upstreams.insert(driver))
    }

    /// Enqueues a call on an upstream connection.
    fn enqueue_on(&mut self, tag: usize, key: usize) {
        if let (Some(driver), Some(exchange)) =
            (self.upstreams.get_mut(key), self.streams.get_mut(tag))
        {
            exchange.upstream = Some(key);
            exchange.redactor = new_redactor(exchange, &driver.cluster);
            if exchange.tenant.is_none() {
                let tenant = driver.cluster.tenant(&self.ctx.metrics);
                self.ctx.metrics.call_routed(exchange.method, tenant);
                exchange.tenant = Some(tenant);
            }
            if driver.active == 0 {
                driver.busy_since = self.now;
            }
            driver.active = driver.active.saturating_add(1);
            driver.pending.push_back(tag);
        }
        self.open_pending(key);
    }

    /// An upstream connection to a cluster's driver: an idle one of the pool, or a new one.
    fn connect_or_reuse(&self, cluster: &Arc<Cluster>) -> Upstream {
        let Self { ctx: worker, downstream: client, now, .. } = self;
        let theirs = client.wire.remote_settings();
        let wanted = (header_list_max(theirs), connection_window(&client.wire, self.detached));
        match worker.idle_pool.take(cluster, wanted, *now) {
            Some(spare) => Upstream::reuse(spare, theirs, *now),
            None => {
                let patience = worker.snapshot().timeouts.connect;
                Upstream::connect(Arc::clone(cluster), &worker.resolver, patience, *now)
            }
        }
    }

    /// Polls connects in progress, and acts on their results.
    pub(super) fn poll_connects(&mut self, context: &mut Context<'_>) -> bool {
        let mut ready = Vec::new();
        for (key, driver) in &mut self.upstreams {
            let client = (&self.downstream.wire, self.detached);
            if let Poll::Ready(outcome) = driver.poll_connect(context, client, self.now) {
                ready.push((key, outcome));
            }
        }
        let moved = !ready.is_empty();
        for (key, outcome) in ready {
            match outcome {
                Ok(()) => {
                    self.ctx.metrics.upstream_opened();
                    self.open_pending(key);
                }
                Err(why) => self.connect_failed(key, why),
            }
        }
        moved
    }

    fn connect_failed(&mut self, key: usize, why: ConnectFailure) {
        if let Some(driver) = self.upstreams.get(key) {
            let tenant = driver.cluster.tenant(&self.ctx.metrics);
            self.ctx.metrics.upstream_connect_failed(tenant, why);
            driver.cluster.driver_unreachable(why.as_str(), self.now);
        }
        let what = match why {
            ConnectFailure::Unresolved => "its host name cannot be resolved",
            ConnectFailure::Refused => "connecting to it failed",
            ConnectFailure::TimedOut => "connecting to it timed out",
        };
        self.fail_upstream_streams(key, "driver.unreachable", what);
        self.upstreams.try_remove(key);
    }
}

/// The cluster of an admitted call.
fn find_cluster(exchange: &ActiveStream) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (exchange.call.team()?, exchange.call.environment()?);
    exchange.snapshot.cluster(exchange.call.attributes()).map(Arc::clone).ok_or_else(|| {
        let message = format!("team {team} has no cluster in environment {environment}");
        Refusal::new(Code::NotFound, "route.missing", message)
    })
}

/// Refuses a header list above the driver's limit: the driver would close the connection.
fn check_header_list(exchange: &ActiveStream, cluster: &Cluster) -> Result<(), Refusal> {
    let limit = usize_from(exchange.snapshot.limits.driver_header_list);
    let limit = limit.saturating_sub(forward::credential_size(cluster.credential()));
    let size = exchange.request.as_ref().map_or(0, |asked| asked.size);
    if size <= limit {
        return Ok(());
    }
    let message = format!(
        "the request's metadata has {size} bytes and the driver accepts {limit}: send less"
    );
    Err(Refusal::new(Code::ResourceExhausted, "request.metadata", message))
}

/// The redactor for the response of a Config call, if the cluster hides keys. It observes the part
/// of the request that has already arrived.
fn new_redactor(exchange: &ActiveStream, cluster: &Cluster) -> Option<Box<Redactor>> {
    let answers = *exchange.call.method() == Method::Config && !cluster.hidden_keys().is_empty();
    answers.then(|| {
        let mut redactor = Box::new(Redactor::new(cluster.hidden_keys().clone()));
        redactor.observe_request(&exchange.upload.buffered);
        redactor
    })
}

fn header_list_refusal(overflow: Overflow) -> Refusal {
    let message = match overflow {
        Overflow::Octets => {
            "the request's metadata, including the token, is too long: send less, or ask the \
             operators to raise limits.header_list"
        }
        Overflow::Count => {
            "the request has too many metadata fields: send fewer, or ask the operators to raise \
             limits.header_count"
        }
    };
    Refusal::new(Code::ResourceExhausted, "request.header_list", message)
}
