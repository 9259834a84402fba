//! What must hold: never something wrong, and nothing that is due when the peers stand still.

use std::time::{Duration, Instant};

use super::call::Call;
use super::model::Model;
use super::{BUFFERED_MAX, PATIENCE, STREAM_WINDOW};
use crate::support::frame;
use crate::support::proof::ANN;
use crate::support::protobuf;
use crate::support::reply::Reply;

impl Model {
    /// Reads until nothing is due any more; something that stays due is a fault.
    pub(super) fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.log("all: stand still".to_string());
        self.client.send(&[]);
        self.driver.send(&[]);
        loop {
            self.client.pump(|_| false, Duration::from_millis(1));
            self.driver.pump(|_| false, Duration::from_millis(1));
            self.meet_streams();
            self.compare();
            let Some(due) = self.due() else { return };
            if Instant::now() >= deadline {
                self.fail(&due);
            }
        }
    }

    /// What must never be, at no time.
    pub(super) fn compare(&mut self) {
        if self.is_stamped {
            self.compare_messages();
        }
        let faults = [&self.client.faults[..], &self.driver.faults[..]].concat();
        if let Some(fault) = faults.first() {
            self.fail(&format!("against the protocol: {fault}"));
        }
        if self.client.closed || self.client.goaway.is_some() {
            self.fail(&format!("the client's connection was ended: {:?}", self.client.goaway));
        }
        // After GOAWAY it is closed with its last call.
        let is_used = |call: &Call| !self.is_over(call) && !call.is_over_at_driver();
        if self.driver.is_closed && (self.last.is_none() || self.calls.iter().any(is_used)) {
            self.fail(&format!("the driver's connection was ended: {:?}", self.driver.goaway));
        }
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let up: &[u8] = self.inbound(call).map_or(&[], |inbound| &inbound.body);
            let down: &[u8] = self.reply(call).map_or(&[], |reply| &reply.body);
            if up.len() > call.up || down.len() > call.down {
                self.fail(&format!("call {}: more octets came than were sent", call.number));
            }
            let is_same = |body: &[u8], from: usize, octet: &dyn Fn(usize) -> u8| {
                body.iter().enumerate().skip(from).all(|(at, it)| *it == octet(at))
            };
            if !self.is_stamped && !is_same(up, call.compared[0], &|at| call.request_octet(at)) {
                self.fail(&format!("call {}: other octets of the request came", call.number));
            }
            if !is_same(down, call.compared[1], &|at| call.response_octet(at)) {
                self.fail(&format!("call {}: other octets of the response came", call.number));
            }
            let compared = [if self.is_stamped { call.compared[0] } else { up.len() }, down.len()];
            self.calls[at].compared = compared;
        }
    }

    /// Messages that have come are those that were sent, with a stamp.
    pub(super) fn compare_messages(&mut self) {
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let body: &[u8] = self.inbound(call).map_or(&[], |inbound| &inbound.body);
            if body.len() == call.up && call.compared[0] < call.up {
                let mut arrived = protobuf::messages(body);
                let new = arrived.split_off(arrived.len() - call.messages.len());
                for (sent, arrived) in call.messages.iter().zip(&new) {
                    protobuf::assert_stamped(sent, arrived, ANN.names());
                }
                self.calls[at].compared[0] = body.len();
                self.calls[at].messages.clear();
            }
        }
    }

    /// Something that must come, and has not come yet.
    pub(super) fn due(&self) -> Option<String> {
        let is_settled = self.driver.is_settled() || self.driver.is_closed;
        if !self.client.is_settled() || !is_settled {
            return Some("SETTINGS are not acknowledged".to_string());
        }
        let each = self.calls.iter().find_map(|call| {
            let what = self.due_request(call).or_else(|| self.due_response(call))?;
            let (up, down) = (call.compared[0], call.compared[1]);
            Some(format!(
                "call {} (stream {}, at the driver {:?}): {what}; request {up} of {}, response \
                 {down} of {}, windows of its receivers {:?} and {}, connections {} and {}",
                call.number,
                call.id,
                call.stream,
                call.up,
                call.down,
                call.stream.map(|id| self.driver.open(id)),
                self.client.stream_open(call.id),
                self.driver.allowed,
                self.client.connection_open(),
            ))
        });
        each.or_else(|| self.due_credit())
    }

    pub(super) fn due_request(&self, call: &Call) -> Option<&'static str> {
        if call.is_over_at_driver() || self.driver.is_closed {
            return None;
        }
        let Some(inbound) = self.inbound(call) else {
            let waits = call.is_cancelled || self.is_full();
            return (!waits).then_some("the call does not come to the driver");
        };
        if call.is_cancelled {
            return inbound.reset.is_none().then_some("the driver does not hear of the cancel");
        }
        if inbound.reset.is_some() {
            return Some("sconce has reset the driver's stream");
        }
        let stream = call.stream?;
        if inbound.body.len() < call.up {
            return (self.driver.open(stream) > 0).then_some("octets of the request wait");
        }
        if call.is_whole {
            return (!inbound.ended).then_some("the end of the request waits");
        }
        let window = self.client.peer.get(&4).copied().unwrap_or(65_535);
        let window = i64::from(window) + self.client.budgets_of(call.id);
        if window < STREAM_WINDOW[0] / 2 {
            return Some("the client's stream gets no credit back");
        }
        (window > STREAM_WINDOW[1]).then_some("the client's stream has got too much credit")
    }

    pub(super) fn due_response(&self, call: &Call) -> Option<&'static str> {
        if call.is_cancelled {
            return None;
        }
        let none = Reply::default();
        let reply = self.reply(call).unwrap_or(&none);
        let open = self.client.stream_open(call.id).min(self.client.connection_open());
        if call.is_answered && reply.heads.is_empty() && !reply.is_over() {
            return Some("HEADERS wait");
        }
        if reply.body.len() < call.down {
            if reply.is_over() {
                return Some("the stream ended before its octets");
            }
            return (open > 0).then_some("octets of the response wait");
        }
        if self.driver.is_closed && !reply.is_over() {
            return Some("the end waits");
        }
        match (call.status, call.is_dropped) {
            (Some(status), _) if reply.status() == Some(status) => None,
            (Some(_), _) if reply.is_over() => Some("another status came"),
            (Some(_), _) => Some("trailers wait"),
            (None, true) if !reply.is_over() => Some("the error waits"),
            (None, true) if reply.status() == Some(0) => Some("success was invented"),
            (None, true) => None,
            (None, false) if reply.is_over() => Some("the stream has ended"),
            (None, false) => {
                let window = self.driver.stream_window(call.stream?);
                match window - self.client.stream_open(call.id) {
                    ..0 => Some("the driver's stream lacks credit"),
                    0 => None,
                    1.. => Some("the driver's stream has got too much credit"),
                }
            }
        }
    }

    /// The windows of the connections.
    pub(super) fn due_credit(&self) -> Option<String> {
        let budget = self.client.budget;
        if budget < self.granted / 2 || budget > self.granted {
            return Some(format!("of {} octets the client has {budget}", self.granted));
        }
        if self.driver.is_closed {
            return None;
        }
        let counts = |call: &&Call| !call.is_cancelled;
        let kept = self.calls.iter().filter(counts).map(|call| call.down - call.compared[1]);
        let kept = i64::try_from(kept.sum::<usize>()).unwrap();
        let most = self.client.connection_open() + BUFFERED_MAX - kept;
        let least = most - (most / 2).max(16_384);
        let window = self.driver.window;
        // A new connection has HTTP/2's own window, whatever is buffered of an old one's responses.
        let most = if self.has_reconnected { most.max(65_535) } else { most };
        let fits = (least..=most).contains(&window);
        (!fits).then(|| {
            format!("the driver has {window} octets, not {least} to {most}, with {kept} buffered")
        })
    }

    /// Everything opens, everything ends.
    pub(super) fn finish(&mut self) {
        self.limit(1000);
        self.settle();
        self.client.change(&[(frame::INITIAL_WINDOW_SIZE, 1 << 20)]);
        self.driver.change(1 << 20);
        self.client.grant(0, 1 << 20);
        self.driver.grant(0, 1 << 20);
        self.settle();
        for at in 0..self.calls.len() {
            if !self.is_over(&self.calls[at]) {
                self.end_request(at);
            }
            self.settle();
            self.end_response(at);
        }
        self.settle();
        for call in &self.calls {
            if !self.is_over(call) {
                self.fail(&format!("call {} never ended", call.number));
            }
            let owed = call.down - call.compared[1];
            if !call.is_cancelled && owed > 0 {
                self.fail(&format!("call {}: {owed} octets are lost", call.number));
            }
        }
    }
}
