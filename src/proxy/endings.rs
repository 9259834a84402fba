//! Endings: every way in which an exchange, a leg or the whole connection comes to its end.
//!
//! An exchange ends once: the client is told, the driver is told, the rooms and the metrics hear
//! it. Must never happen here: an invented success, or REFUSED_STREAM for work that a driver may
//! have begun.

use std::time::Duration;

use sconce_filters::{Code, Ending, Refusal};

use crate::grpc::status;
use crate::proxy::driver::{Driver, Line};
use crate::proxy::relay::{Phase, Relay};
use crate::proxy::worker::Told;
use crate::telemetry::Guarded;
use crate::telemetry::log_limit::{self, Kind};
use crate::wire::fault::{self, Fault};

/// How long new streams may still be on their way after we have asked for none, if the client
/// does not answer our PING.
const CROSSING: Duration = Duration::from_secs(1);
/// Why a driver is unreachable that takes connections and does not begin to speak HTTP/2.
pub(super) const NO_HTTP2: &str = "no_http2";
/// Why one is that had calls and did not answer a PING.
pub(super) const SILENT: &str = "silent";
/// How often a call may go to another leg since one ended before its head had left.
const REDIRECTS_MAX: u8 = 3;

impl Relay {
    /// Ends an exchange with a status of ours: trailers only, or trailers of the answer that has
    /// begun.
    pub(super) fn refuse(&mut self, tag: usize, refusal: &Refusal, how: Ending) {
        let Some(exchange) = self.exchanges.get(tag) else { return };
        self.worker.metrics.refused(refusal.label);
        self.log_refused(tag, refusal);
        let fields = if exchange.answered {
            status::trailers(refusal)
        } else {
            status::trailers_only(refusal)
        };
        let stream = exchange.stream;
        if how == Ending::Refused {
            self.write_refusal(stream, &fields, refusal.cost);
        } else {
            self.client.wire.head(stream, fields.iter(), true);
        }
        self.finish(tag, refusal.code, how);
    }

    /// The client has got its last frame: nothing more is wanted from either side.
    pub(super) fn finish(&mut self, tag: usize, code: Code, how: Ending) {
        if let Some(exchange) = self.exchanges.get(tag) {
            self.client.wire.reset_stream(exchange.stream, fault::Code::NoError);
        }
        self.release_driver(tag, fault::Code::Cancel);
        self.settle(tag, code, how);
    }

    /// Takes an exchange off its leg; a stream that is still open there is reset.
    pub(super) fn release_driver(&mut self, tag: usize, code: fault::Code) {
        let Self { exchanges, drivers, now, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some(key) = exchange.driver.take() else { return };
        let Some(driver) = drivers.get_mut(key) else { return };
        let parked = exchange.down.parked.len();
        driver.parked = driver.parked.saturating_sub(parked);
        driver.calls = driver.calls.saturating_sub(1);
        if driver.calls == 0 {
            driver.idle_since = *now;
        }
        match (exchange.driver_stream.take(), driver.leg()) {
            (Some(stream), Some(leg)) => leg.wire.reset_stream(stream, code),
            (None, _) => driver.queue.retain(|queued| *queued != tag),
            (Some(_), None) => {}
        }
        if !driver.queue.is_empty() {
            self.start_queued(key);
        }
        self.drop_driver_if_done(key);
    }

    /// The rooms and the metrics hear how an exchange ended; then it is gone.
    pub(super) fn settle(&mut self, tag: usize, code: Code, how: Ending) {
        self.note_removals();
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        if exchange.wait.is_some() {
            self.waits = self.waits.saturating_sub(1);
        }
        exchange.settle(code, how, self.now, &self.worker.metrics);
        if exchange.end.is_some() {
            self.detached = self.detached.saturating_sub(exchange.down.parked.len());
        }
        self.exchanges.try_remove(tag);
        if self.exchanges.is_empty() {
            self.idle_since = self.now;
            self.rest_later();
            self.close_if_done();
        }
    }

    /// The client went away: its exchanges end, and with its legs everything on them.
    pub(super) fn lose_client(&mut self) {
        self.phase = Phase::Over;
        self.cancel_all();
    }

    /// All exchanges end: none that waits for a place on a leg takes that of one that ended first.
    fn forget_queued(&mut self) {
        self.drivers.iter_mut().for_each(|(_, driver)| driver.queue.clear());
    }

    /// Every exchange ends without a word to the client.
    pub(super) fn cancel_all(&mut self) {
        self.forget_queued();
        for tag in self.tags(|_| true) {
            self.drop_exchange(tag, Code::Cancelled, Ending::ClientLost);
        }
    }

    /// A leg's socket broke or ended.
    pub(super) fn lose_driver(&mut self, key: usize, what: &str) {
        self.missed_unless_met(key);
        self.redirect_unsent(key);
        self.fail_all_on(key, "driver.lost", what);
        self.remove_driver(key, "lost");
    }

    /// The client broke a rule of the connection.
    pub(super) fn fail_client(&mut self, fault: Fault) {
        if self.may_log(Kind::ClientMalformed) {
            tracing::info!(peer = %self.peer, what = fault.what, "client connection refused");
        }
        if let Some(budget) = fault.guard {
            self.worker.metrics.guard_fired(budget.name(), Guarded::Client);
        }
        self.client.wire.fail(fault);
        self.cancel_all();
        self.close();
    }

    /// A driver broke a rule of the connection: its calls fail, it is told, and the leg goes.
    pub(super) fn fail_driver(&mut self, key: usize, fault: Fault) {
        if let Some(budget) = fault.guard {
            self.worker.metrics.guard_fired(budget.name(), Guarded::Driver);
        }
        self.missed_unless_met(key);
        if let Some(driver) = self.drivers.get_mut(key) {
            let cluster = &driver.cluster;
            if log_limit::admits(Kind::DriverMalformed, &(cluster.team(), cluster.environment())) {
                tracing::warn!(%cluster, what = fault.what, "driver malformed");
            }
            if let Some(leg) = driver.leg() {
                leg.wire.fail(fault);
            }
        }
        self.fail_all_on(key, "driver.malformed", fault.what);
    }

    /// What is at the other end of a leg that fails before its SETTINGS have come is no driver.
    fn missed_unless_met(&self, key: usize) {
        let Some(driver) = self.drivers.get(key) else { return };
        if driver.leg_ref().is_some_and(|leg| !leg.wire.has_met()) {
            driver.cluster.missed(NO_HTTP2, self.now);
        }
    }

    /// A leg has ended, and nothing more is written there: calls whose heads have not left go to
    /// another leg, unless something of their bodies is on its way too.
    fn redirect_unsent(&mut self, key: usize) {
        let Self { drivers, exchanges, .. } = self;
        let Some(driver) = drivers.get_mut(key) else { return };
        driver.lost = true;
        let Driver { departing, line: Line::Up(leg), .. } = driver else { return };
        let unsent = exchanges.iter_mut().filter(|(_, exchange)| {
            exchange.driver == Some(key)
                && exchange.driver_stream.is_some()
                && !leg.has_left(exchange.head_ends)
                && !exchange.answered
                && exchange.redirects < REDIRECTS_MAX
                && departing.iter().all(|it| it.stream != exchange.stream)
        });
        let unsent = unsent.map(|(tag, exchange)| {
            exchange.driver_stream = None;
            exchange.redirects = exchange.redirects.saturating_add(1);
            tag
        });
        for tag in unsent.collect::<Vec<_>>() {
            self.redirect(tag);
        }
    }

    /// Every exchange on a leg fails, and no new one gets onto it. Those that waited for a place on
    /// a leg that was there go to another one: their driver knows nothing of them.
    pub(super) fn fail_all_on(&mut self, key: usize, label: &'static str, what: &str) {
        let Some(driver) = self.drivers.get_mut(key) else { return };
        driver.lost = true;
        if driver.leg_ref().is_some() {
            self.redirect_queued(key);
        }
        for tag in self.tags(|exchange| exchange.driver == Some(key)) {
            // It may have ended with another one.
            if self.exchanges.get(tag).is_some_and(|exchange| exchange.driver == Some(key)) {
                self.fail_exchange(tag, Code::Unavailable, label, what);
            }
        }
    }

    pub(super) fn remove_driver(&mut self, key: usize, reason: &'static str) {
        if let Some(mut driver) = self.drivers.try_remove(key)
            && driver.leg().is_some()
        {
            self.worker.metrics.leg_closed(reason);
        }
    }

    /// Legs that are lost go once their last words were written.
    pub(super) fn drop_lost_drivers(&mut self) {
        let lost = |(key, driver): (usize, &Driver)| driver.lost.then_some(key);
        while let Some(key) = self.drivers.iter().find_map(lost) {
            self.remove_driver(key, "lost");
        }
    }

    /// A driver that takes no new calls keeps its leg until the last one has ended, and one that is
    /// lost until its last words were written.
    pub(super) fn drop_driver_if_done(&mut self, key: usize) {
        let Some(driver) = self.drivers.get(key) else { return };
        let is_leaving = driver.leg_ref().is_some_and(|leg| leg.wire.is_leaving());
        if driver.calls == 0 && is_leaving && !driver.lost {
            self.remove_driver(key, "left");
        }
    }

    /// Those that end anyway are left to who ends them: their keys may be in use further up.
    pub(super) fn drop_idle_drivers(&mut self) {
        let ends = |driver: &Driver| {
            let leg = driver.leg_ref();
            driver.lost || leg.is_some_and(|leg| leg.wire.is_leaving() || !leg.can_write())
        };
        let idle =
            |(key, driver): (usize, &Driver)| (driver.calls == 0 && !ends(driver)).then_some(key);
        while let Some(key) = self.drivers.iter().find_map(idle) {
            self.remove_driver(key, "idle");
        }
    }

    /// Legs in good order are left to the next client connection.
    fn leave_drivers(&mut self) {
        let Self { worker, drivers, now, .. } = self;
        for driver in drivers.drain() {
            let Line::Up(_) = driver.line else { continue };
            match driver.spare(*now).filter(|_| worker.told.get() == Told::Serve) {
                Some(spare) => worker.shelf.put(spare),
                None => worker.metrics.leg_closed("idle"),
            }
        }
    }

    /// Does what the worker was told: drain, or end now.
    pub(super) fn leave_if_told(&mut self) {
        self.make_room_if_asked();
        match (self.worker.told.get(), self.phase) {
            (Told::Serve, _)
            | (_, Phase::Closing(_) | Phase::Lingering(_) | Phase::Over)
            | (Told::Leave, Phase::Leaving(_)) => {}
            (Told::Leave, Phase::Open) => self.ask_to_leave(),
            (Told::End, Phase::Open | Phase::Leaving(_)) => {
                let refusal = Refusal::new(
                    Code::Unavailable,
                    "drain.grace",
                    "this gateway shuts down: the call may be made again",
                );
                self.forget_queued();
                for tag in self.tags(|_| true) {
                    self.refuse(tag, &refusal, Ending::Drained);
                }
                self.say_goodbye();
            }
        }
    }

    /// The first GOAWAY: streams that are on their way still count.
    pub(super) fn ask_to_leave(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        self.client.wire.goodbye(true);
        self.client.wire.ask();
        self.phase = Phase::Leaving(Some(self.now + CROSSING));
        self.wake_by(self.now + CROSSING);
    }

    /// The client has answered the PING behind our first GOAWAY: no stream is on its way any more.
    pub(super) fn hear_crossing(&mut self) {
        if matches!(self.phase, Phase::Leaving(Some(_))) {
            self.say_goodbye();
        }
    }

    /// The second GOAWAY, which names the last stream that counts.
    pub(super) fn say_goodbye(&mut self) {
        self.client.wire.goodbye(false);
        if self.exchanges.is_empty() {
            self.close();
        } else {
            self.phase = Phase::Leaving(None);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cancel_all();
        self.leave_drivers();
        self.worker.inflated.change(&mut self.inflated, 0);
        self.change_shares([0; 2]);
        self.worker.metrics.connection_closed();
        self.worker.forget(self.waker.take());
    }
}
