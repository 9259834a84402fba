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
use crate::proxy::keys::{StreamKey, UpstreamKey};
use crate::proxy::relay::Relay;
use crate::proxy::stream::body::{BodyState, Progress};
use crate::proxy::stream::request::ParsedRequest;
use crate::proxy::stream::{ActiveStream, LastCheck, PendingRewrite};
use crate::proxy::upstream::connection::Upstream;
use crate::proxy::upstream::limits::{connection_window, header_list_max};
use crate::route::Cluster;
use crate::telemetry::ConnectFailure;
use crate::wire::error;
use crate::wire::frame::StreamId;
use crate::wire::hpack::{Fields, Overflow};

/// Upstream connections that one client connection may have at one time.
const UPSTREAMS_MAX: usize = 32;

impl Relay {
    pub(super) fn on_request(&mut self, id: StreamId, end: bool) {
        let fields = self.downstream.wire.fields();
        if let Some(overflow) = fields.overflow() {
            return self.refuse_request(id, &header_list_refusal(overflow));
        }
        if let Some(known) = &self.last_request
            && Rc::ptr_eq(known.head.fields(), &fields)
        {
            return self.begin_stream(id, end, Rc::clone(known));
        }
        match request::read(&fields) {
            Ok(request) => {
                let parsed = Rc::new(ParsedRequest::new(fields, request));
                self.last_request = Some(Rc::clone(&parsed));
                self.begin_stream(id, end, parsed);
            }
            Err(RequestError::NotGrpc) => {
                self.send_local_reply(id, "request.not_grpc", &status::unsupported_media_type());
            }
            Err(RequestError::Refused(refusal)) => self.refuse_request(id, &refusal),
        }
    }

    fn refuse_request(&mut self, id: StreamId, refusal: &Refusal) {
        self.send_local_reply(id, refusal.label, &status::trailers_only(refusal));
    }

    /// Answers a stream that never became a call.
    fn send_local_reply(&mut self, id: StreamId, label: &'static str, answer: &Fields) {
        self.record_refused_request(id, label, None);
        self.write_refusal(id, answer, Cost::Cheap);
        self.downstream.wire.reset_stream(id, error::ErrorCode::NoError);
        self.close_if_drained();
    }

    fn begin_stream(&mut self, id: StreamId, end: bool, parsed: Rc<ParsedRequest>) {
        self.drain_if_certificate_withdrawn();
        self.record_removal_sessions();
        let Request { method, timeout } = &parsed.request;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        let metadata: Rc<dyn sconce_filters::Metadata> = Rc::clone(&parsed.head) as _;
        let call = Call::new(*method, metadata, self.peer, self.now);
        let call = call.with_deadline(deadline).with_wall_time(self.last_read_wall);
        let mut call = call.with_certificate(self.downstream.certificate());
        self.ctx.metrics.call_opened(parsed.label);
        let snapshot = self.ctx.snapshot();
        if !self.is_tick_scheduled {
            self.is_tick_scheduled = true;
            self.schedule(self.next_tick(&snapshot.timeouts));
        }
        let step = snapshot.chain.admit(&mut call);
        let key = self.streams.insert(ActiveStream {
            id,
            upstream: None,
            upstream_id: None,
            head_end: 0,
            reassignments: 0,
            call,
            method: parsed.label,
            tenant: None,
            last_check: LastCheck { at: self.now, generation: snapshot.generation },
            snapshot,
            request: Some(parsed),
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
        self.downstream.wire.set_tag(id, key.tag());
        if let Some(deadline) = deadline {
            self.schedule(deadline);
        }
        self.on_chain_step(key, step);
    }

    fn on_chain_step(&mut self, key: StreamKey, step: ChainStep) {
        match step {
            ChainStep::Admitted => match self.check_revoked(key, false) {
                Ok(()) => {
                    self.mark_authenticated();
                    self.begin_user_context(key);
                    self.dispatch(key);
                }
                Err(refusal) => self.refuse(key, &refusal, EndReason::Refused),
            },
            ChainStep::Refused(refusal) => self.refuse(key, &refusal, EndReason::Refused),
            ChainStep::Pending(wait) => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.pending_filter = Some(wait);
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
        let mut answers: Vec<(StreamKey, Result<Attributes, Refusal>)> = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            let Some(wait) = &mut stream.pending_filter else { continue };
            if let Poll::Ready(answer) = std::pin::Pin::new(wait).poll(context) {
                answers.push((key, answer));
            }
        }
        let moved = !answers.is_empty();
        for (key, answer) in answers {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.pending_filter = None;
            self.pending_filters = self.pending_filters.saturating_sub(1);
            let step = stream.snapshot.chain.resume(&mut stream.call, answer);
            self.on_chain_step(key, step);
        }
        moved
    }

    /// Selects the upstream connection of an admitted call, and enqueues the call there.
    pub(super) fn dispatch(&mut self, key: StreamKey) {
        match self.upstream_for(key) {
            Ok(Some(up)) => self.enqueue_on(key, up),
            Ok(None) => {}
            Err(refusal) => self.refuse(key, &refusal, EndReason::Refused),
        }
    }

    /// The upstream connection for an admitted call.
    fn upstream_for(&mut self, key: StreamKey) -> Result<Option<UpstreamKey>, Refusal> {
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        let known = self.upstreams.iter().find(|(_, upstream)| {
            upstream.matches_route_of(stream.snapshot.generation, stream.call.attributes())
        });
        if let Some((up, upstream)) = known {
            return check_header_list(stream, upstream.cluster()).map(|()| Some(up));
        }
        let cluster = find_cluster(stream)?;
        // A removal may lead to another cluster than the route table, so the generation proves
        // nothing.
        let is_revoked = stream.call.attributes().revoked.is_some();
        let generation = if is_revoked { 0 } else { stream.snapshot.generation };
        check_header_list(stream, &cluster)?;
        self.select_upstream(&cluster, generation).map(Some)
    }

    /// The upstream connection to a cluster's driver; connects if there is none. `generation` is
    /// that of the snapshot whose route table has the cluster; 0 if none has.
    fn select_upstream(
        &mut self,
        cluster: &Arc<Cluster>,
        generation: u64,
    ) -> Result<UpstreamKey, Refusal> {
        let known =
            self.upstreams.iter_mut().find(|(_, upstream)| upstream.accepts_streams_for(cluster));
        if let Some((up, upstream)) = known {
            upstream.route_found(generation);
            return Ok(up);
        }
        self.close_idle_upstreams();
        if self.upstreams.len() >= UPSTREAMS_MAX {
            let message =
                "this connection has open calls on too many clusters; use another connection";
            return Err(Refusal::new(Code::ResourceExhausted, "route.clusters", message));
        }
        let mut upstream = self.connect_or_reuse(cluster);
        upstream.route_found(generation);
        Ok(self.upstreams.insert(upstream))
    }

    /// Enqueues a call on an upstream connection.
    fn enqueue_on(&mut self, key: StreamKey, up: UpstreamKey) {
        if let (Some(upstream), Some(stream)) =
            (self.upstreams.get_mut(up), self.streams.get_mut(key))
        {
            stream.upstream = Some(up);
            stream.redactor = new_redactor(stream, upstream.cluster());
            if stream.tenant.is_none() {
                let tenant = upstream.cluster().tenant(&self.ctx.metrics);
                self.ctx.metrics.call_routed(stream.method, tenant);
                stream.tenant = Some(tenant);
            }
            upstream.enqueue(key, self.now);
        }
        self.open_pending(up);
    }

    /// An upstream connection to a cluster's driver: an idle one of the pool, or a new one.
    fn connect_or_reuse(&self, cluster: &Arc<Cluster>) -> Upstream {
        let Self { ctx, downstream, now, .. } = self;
        let remote = downstream.wire.remote_settings();
        let wanted = (header_list_max(remote), connection_window(&downstream.wire, self.detached));
        match ctx.idle_pool.take(cluster, wanted, *now) {
            Some(idle) => Upstream::reuse(idle, remote, *now),
            None => {
                let timeout = ctx.snapshot().timeouts.connect;
                Upstream::connect(Arc::clone(cluster), &ctx.resolver, timeout, *now)
            }
        }
    }

    /// Polls connects in progress, and acts on their results.
    pub(super) fn poll_connects(&mut self, context: &mut Context<'_>) -> bool {
        let mut ready = Vec::new();
        for (up, upstream) in self.upstreams.iter_mut() {
            let downstream = (&self.downstream.wire, self.detached);
            if let Poll::Ready(outcome) = upstream.poll_connect(context, downstream, self.now) {
                ready.push((up, outcome));
            }
        }
        let moved = !ready.is_empty();
        for (up, outcome) in ready {
            match outcome {
                Ok(()) => {
                    self.ctx.metrics.upstream_opened();
                    self.open_pending(up);
                }
                Err(reason) => self.connect_failed(up, reason),
            }
        }
        moved
    }

    fn connect_failed(&mut self, up: UpstreamKey, reason: ConnectFailure) {
        if let Some(upstream) = self.upstreams.get(up) {
            let tenant = upstream.cluster().tenant(&self.ctx.metrics);
            self.ctx.metrics.upstream_connect_failed(tenant, reason);
            upstream.cluster().driver_unreachable(reason.as_str(), self.now);
        }
        let what = match reason {
            ConnectFailure::Unresolved => "its host name cannot be resolved",
            ConnectFailure::Refused => "connecting to it failed",
            ConnectFailure::TimedOut => "connecting to it timed out",
        };
        self.fail_upstream_streams(up, "driver.unreachable", what);
        self.upstreams.try_remove(up);
    }
}

/// The cluster of an admitted call.
fn find_cluster(stream: &ActiveStream) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (stream.call.team()?, stream.call.environment()?);
    stream.snapshot.cluster(stream.call.attributes()).map(Arc::clone).ok_or_else(|| {
        let message = format!("team {team} has no cluster in environment {environment}");
        Refusal::new(Code::NotFound, "route.missing", message)
    })
}

/// Refuses a header list above the driver's limit: the driver would close the connection.
fn check_header_list(stream: &ActiveStream, cluster: &Cluster) -> Result<(), Refusal> {
    let limit = usize_from(stream.snapshot.limits.driver_header_list);
    let limit = limit.saturating_sub(forward::credential_size(cluster.credential()));
    let size = stream.request.as_ref().map_or(0, |parsed| parsed.size);
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
fn new_redactor(stream: &ActiveStream, cluster: &Cluster) -> Option<Box<Redactor>> {
    let answers = stream.call.method() == Method::Config && !cluster.hidden_keys().is_empty();
    answers.then(|| {
        let mut redactor = Box::new(Redactor::new(cluster.hidden_keys().clone()));
        redactor.observe_request(stream.upload.buffered());
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
