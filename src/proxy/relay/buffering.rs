//! Buffering: keeps the octets that a connection buffers within the buffer budget.

use std::time::Duration;

use sconce_filters::{Code, EndReason, Refusal};

use crate::proxy::budget::user_share::UserShare;
use crate::proxy::connection_limits;
use crate::proxy::convert::usize_from;
use crate::proxy::keys::StreamKey;
use crate::proxy::relay::Relay;
use crate::telemetry::PeerSide;

/// Delay before a refused call may be retried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Relay {
    /// Refuses a call if its buffered octets exceed the budget.
    pub(super) fn enforce_buffer_limit(&mut self, key: StreamKey) {
        let buffered = self.streams.get(key).map_or(0, |stream| stream.buffered_bytes());
        if buffered == 0 && !self.buffered.is_nonzero() {
            return;
        }
        self.update_buffered();
        if buffered > 0 && self.is_exceeded(buffered) {
            self.refuse_buffered(key);
        }
    }

    /// Refuses the calls that buffer most while the connection exceeds the budget: other users may
    /// need the memory.
    pub(super) fn enforce_buffer_limits(&mut self) {
        if !self.buffered.is_nonzero() {
            return;
        }
        self.update_buffered();
        for _ in 0..self.streams.len() {
            let all = self.streams.iter().map(|(key, stream)| (stream.buffered_bytes(), key));
            match all.max().filter(|(buffered, _)| *buffered > 0 && self.is_exceeded(*buffered)) {
                Some((_, key)) => self.refuse_buffered(key),
                None => break,
            }
        }
    }

    fn is_exceeded(&self, call: usize) -> bool {
        self.ctx.buffer_budget.is_exceeded(call, self.buffered.get(), self.user_share.as_deref())
    }

    fn refuse_buffered(&mut self, key: StreamKey) {
        let message =
            "sconce is buffering too much request data for slow Spark drivers; retry in 1 s";
        let refusal = Refusal::new(Code::ResourceExhausted, "request.parked", message);
        self.ctx.metrics.abuse_limit_exceeded("parked", PeerSide::Downstream);
        self.refuse(key, &refusal.with_retry_after(RETRY_AFTER), EndReason::Refused);
        self.update_buffered();
    }

    /// Updates the buffered octets of this connection in the budget.
    pub(super) fn update_buffered(&mut self) {
        let all = self.streams.iter().map(|(_, stream)| {
            stream.buffered_bytes().saturating_add(stream.download.buffered().len())
        });
        let buffered = all.fold(0, usize::saturating_add);
        if buffered != self.buffered.get() {
            self.set_budget_shares([buffered, self.earned_window.get()]);
        }
    }

    /// Updates the earned window growth of this connection in the budget.
    pub(super) fn update_earned(&mut self) {
        let earned = usize_from(self.downstream.wire.earned_octets());
        if earned != self.earned_window.get() {
            self.set_budget_shares([self.buffered.get(), earned]);
        }
    }

    /// Sets the buffered and earned octets of this connection, in the totals and in its user's
    /// share.
    pub(super) fn set_budget_shares(&mut self, [buffered, earned]: [usize; 2]) {
        let pool = &self.ctx.buffer_budget;
        pool.set_buffered(&mut self.buffered, buffered);
        pool.set_earned(&mut self.earned_window, earned);
        if buffered == 0 && earned == 0 {
            self.user_share = None;
            return;
        }
        let caller = self.last_caller.as_ref().map(|(caller, _)| &**caller);
        let is_right = |user: &UserShare| user.is_known() || caller.is_none();
        if !self.user_share.as_deref().is_some_and(is_right) {
            let source = connection_limits::source(self.peer.ip());
            self.user_share = Some(Box::new(pool.join(caller, source)));
        }
        if let Some(user) = &mut self.user_share {
            user.set([buffered, earned]);
        }
    }
}
