//! Both peers of sconce, and all calls between them.

use std::collections::VecDeque;

use super::call::Call;
use super::random::Random;
use crate::support::client::Client;
use crate::support::fields;
use crate::support::reply::Reply;
use crate::support::upstream::{Inbound, Upstream};

pub(super) struct Model {
    pub(super) seed: u64,
    /// Requests are messages that sconce stamps with their caller.
    pub(super) is_stamped: bool,
    pub(super) random: Random,
    pub(super) client: Client,
    pub(super) driver: Upstream,
    pub(super) calls: Vec<Call>,
    /// The last stream that the driver's GOAWAY has named.
    pub(super) last: Option<u32>,
    /// Calls that the driver takes at one time.
    pub(super) limit: usize,
    pub(super) calls_max: usize,
    pub(super) window_max: i64,
    /// The driver has closed a connection, and sconce has opened another one.
    pub(super) has_reconnected: bool,
    pub(super) settings: [usize; 2],
    /// What sconce granted for the client's connection at first.
    pub(super) granted: i64,
    pub(super) steps: VecDeque<String>,
}

impl Model {
    pub(super) fn log(&mut self, what: String) {
        if self.steps.len() == 60 {
            self.steps.pop_front();
        }
        self.steps.push_back(what);
    }

    /// Some call that has not ended.
    pub(super) fn pick(&mut self) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.calls.len()).filter(|at| !self.is_over(&self.calls[*at])).collect();
        (!live.is_empty()).then(|| live[self.random.below(live.len())])
    }

    /// The client sends nothing more, and takes nothing more that counts.
    pub(super) fn is_over(&self, call: &Call) -> bool {
        call.is_cancelled || self.reply(call).is_some_and(Reply::is_over)
    }

    pub(super) fn reply(&self, call: &Call) -> Option<&Reply> {
        self.client.streams.get(&call.id)
    }

    pub(super) fn inbound(&self, call: &Call) -> Option<&Inbound> {
        self.driver.streams.get(&call.stream?)
    }

    /// The stream of a call at the driver, if the driver may send on it.
    pub(super) fn live_stream(&self, at: usize) -> Option<u32> {
        let call = &self.calls[at];
        let inbound = self.inbound(call)?;
        (!call.is_over_at_driver() && inbound.reset.is_none()).then_some(call.stream?)
    }

    /// Which streams of the driver belong to which calls.
    pub(super) fn meet_streams(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.stream.is_none()) {
            let number = call.number.to_string();
            let found = self.driver.streams.iter().find(|(_, inbound)| {
                fields::find(&inbound.headers, "x-call") == Some(number.as_str())
            });
            call.stream = found.map(|(stream, _)| *stream);
            call.is_dropped |= self.last.is_some() && call.stream > self.last;
        }
    }

    /// Whether the driver takes no more calls until one of them has ended.
    pub(super) fn is_full(&self) -> bool {
        let is_open = |call: &&Call| {
            let Some(inbound) = self.inbound(call) else { return false };
            let is_done = inbound.ended && call.status.is_some();
            inbound.reset.is_none() && !call.is_dropped && !is_done
        };
        self.calls.iter().filter(is_open).count() >= self.limit
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        let steps: Vec<&str> = self.steps.iter().map(String::as_str).collect();
        panic!("seed {}: {what}; the last steps:\n{}", self.seed, steps.join("\n"));
    }
}
