//! Queue: calls that wait for a leg, or for a place on it.

use crate::grpc::forward::{self, Onward};
use crate::proxy::downward::pass_window;
use crate::proxy::driver::Line;
use crate::proxy::relay::Relay;

impl Relay {
    /// Takes a call off a leg that will not begin it, and finds another. That has an end: a new leg
    /// opens the streams of all calls that wait for it as soon as it is there, or fails them. Only
    /// the worker's spare legs can send a call on, and legs that end before its head has left.
    pub(super) fn redirect(&mut self, tag: usize) {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        let Some(key) = exchange.driver.take() else { return };
        if let Some(driver) = self.drivers.get_mut(key) {
            driver.calls = driver.calls.saturating_sub(1);
            driver.queue.retain(|queued| *queued != tag);
        }
        self.route(tag);
    }

    /// Calls that wait for a leg which takes no new ones find another.
    pub(super) fn redirect_queued(&mut self, key: usize) {
        while let Some(tag) = self.drivers.get_mut(key).and_then(|it| it.queue.pop_front()) {
            self.redirect(tag);
        }
    }

    /// Opens the streams of calls that wait for a leg, as far as the driver takes them. One that is
    /// refused meanwhile makes room for the next: that one is opened by the loop that is under way,
    /// since a loop inside of it for each of them could use up the stack.
    pub(super) fn start_queued(&mut self, key: usize) {
        let Some(driver) = self.drivers.get_mut(key) else { return };
        if std::mem::replace(&mut driver.is_starting, true) {
            return;
        }
        self.start_all_queued(key);
        if let Some(driver) = self.drivers.get_mut(key) {
            driver.is_starting = false;
        }
    }

    fn start_all_queued(&mut self, key: usize) {
        loop {
            let Some(driver) = self.drivers.get_mut(key) else { return };
            let Line::Up(leg) = &mut driver.line else { return };
            if driver.lost || !leg.can_write() || leg.wire.is_leaving() {
                return self.redirect_queued(key);
            }
            if !leg.wire.can_open() {
                return;
            }
            let Some(tag) = driver.queue.pop_front() else { return };
            if !self.may_leave_queue(key, tag) {
                continue;
            }
            let Self { exchanges, drivers, client, .. } = self;
            let Some(driver) = drivers.get_mut(key) else { return };
            let Line::Up(leg) = &mut driver.line else { return };
            let Some(exchange) = exchanges.get_mut(tag) else { continue };
            let Some(asked) = exchange.asked.clone() else { continue };
            let end = exchange.uploaded && exchange.up.parked.is_empty();
            let id = u32::try_from(tag).unwrap_or(u32::MAX);
            let requests = &mut driver.echoes.get_or_insert_default().requests;
            let is_read = exchange.redactor.is_some();
            let onward = Onward { credential: driver.cluster.credential(), is_read };
            let what = |fields| forward::fields(fields, onward);
            let block = requests.block(&mut leg.wire, asked.head.fields(), what);
            exchange.driver_stream = Some(leg.wire.open(id, block, end));
            exchange.head_ends = leg.wire.out.end();
            pass_window(client, leg, exchange);
            if exchange.is_behind() {
                self.resume_upload(tag);
            }
        }
    }
}
