//! Clock: everything that takes too long. One timer a connection, looked at when it is due.

use std::time::{Duration, Instant};

use sconce_filters::{Code, Ending, Refusal};

use crate::config::{Timeouts, bounds::spell};
use crate::proxy::driver::Line;
use crate::proxy::endings::{NO_HTTP2, SILENT};
use crate::proxy::relay::{Phase, Relay};
use crate::telemetry::log_limit::Kind;
use crate::wire::fault::{self, Fault};

/// Streams are looked at no less often than this while there are any.
const TICK_MAX: Duration = Duration::from_secs(2);
/// A connection without streams gives its memory back after so long: what goes on at once needs it
/// again, and thousands that come one after another should not hold it at one time.
const REST_AFTER: Duration = Duration::from_millis(10);
/// A leg that nobody uses is kept for so long.
const DRIVER_IDLE: Duration = Duration::from_secs(300);

impl Relay {
    /// When streams must be looked at again.
    pub(super) fn next_tick(&self, timeouts: &Timeouts) -> Instant {
        let shortest = timeouts
            .body_progress
            .min(timeouts.window_closed)
            .min(timeouts.driver_silence)
            .min(timeouts.driver_ack);
        self.now + (shortest / 4).clamp(Duration::from_millis(10), TICK_MAX)
    }

    /// Ends what took too long; says when to look again.
    pub(super) fn check_clock(&mut self) -> Instant {
        let timeouts = self.worker.latest().timeouts;
        match self.phase {
            Phase::Lingering(until) | Phase::Closing(until) if self.now >= until => {
                self.lose_client();
            }
            Phase::Leaving(Some(at)) if self.now >= at => self.say_goodbye(),
            Phase::Open
            | Phase::Leaving(_)
            | Phase::Closing(_)
            | Phase::Lingering(_)
            | Phase::Over => {}
        }
        let mut due = self.check_client(&timeouts).min(self.check_rest());
        due = due.min(self.pause_ends().unwrap_or(due));
        due = due.min(self.reset_rejected().unwrap_or(due));
        due = due.min(self.end_cleartext(timeouts.handshake).unwrap_or(due));
        due = due.min(self.check_exchanges(&timeouts));
        due = due.min(self.check_drivers(&timeouts));
        match self.phase {
            Phase::Lingering(until) | Phase::Leaving(Some(until)) | Phase::Closing(until) => {
                due.min(until)
            }
            Phase::Open | Phase::Leaving(None) | Phase::Over => due,
        }
    }

    /// Sees to it that memory is given back if nothing else follows.
    pub(super) fn rest_later(&mut self) {
        self.is_warm = true;
        self.wake_by(self.now + REST_AFTER);
    }

    fn check_rest(&mut self) -> Instant {
        let pause = self.idle_since + REST_AFTER;
        if self.is_warm && self.exchanges.is_empty() {
            if self.now < pause {
                return pause;
            }
            self.is_warm = false;
            self.rest();
        }
        self.now + Duration::from_secs(600)
    }

    fn check_client(&mut self, timeouts: &Timeouts) -> Instant {
        let now = self.now;
        let open = matches!(self.phase, Phase::Open | Phase::Leaving(_));
        let mut due = now + Duration::from_secs(600);
        let mut by = |at: Instant| {
            due = due.min(at);
            at <= now
        };
        let met = self.client.wire.has_met();
        let late_preface = !met && by(self.accepted + timeouts.handshake);
        let block_since = self.client.wire.mid_block_since();
        let late_block = block_since.is_some_and(|since| by(since + timeouts.handshake));
        let unacknowledged = self.client.wire.unacknowledged_since().filter(|_| met);
        let late_ack = unacknowledged.is_some_and(|since| by(since + timeouts.settings_ack));
        let stuck = self.client.blocked.is_some_and(|since| by(since + timeouts.window_closed));
        let asked = self.client.asked.filter(|asked| self.client.heard <= *asked);
        let gone = asked.is_some_and(|asked| by(asked + timeouts.keepalive_ack));
        let silent = asked.is_none() && by(self.client.heard + timeouts.keepalive);
        let unknown = self.newcomer.is_some();
        let idle = self.exchanges.is_empty()
            && ((unknown && by(self.accepted + timeouts.unauthenticated))
                || by(self.idle_since + timeouts.idle));
        if stuck || gone {
            self.lose_client();
        } else if open && (late_preface || late_block) {
            let what = "the client did not send a whole request head in time";
            self.fail_slow_client(fault::Code::ProtocolError, what);
        } else if open && late_ack {
            let what = "SETTINGS were not acknowledged in time";
            self.fail_slow_client(fault::Code::SettingsTimeout, what);
        } else if open && idle {
            if unknown {
                self.worker.metrics.refused("client.unauthenticated");
            }
            self.say_goodbye();
        } else if open && silent && met {
            self.client.ask(now);
            due = due.min(now + timeouts.keepalive_ack);
        }
        if self.client.blocked.is_some() { due.min(now + TICK_MAX) } else { due }
    }

    fn fail_slow_client(&mut self, code: fault::Code, what: &'static str) {
        if self.may_log(Kind::ClientEnded) {
            tracing::info!(peer = %self.peer, what, "client connection ended");
        }
        self.worker.metrics.refused("client.slow");
        self.client.wire.fail(Fault::new(code, what));
        self.cancel_all();
        self.close();
    }

    fn check_exchanges(&mut self, timeouts: &Timeouts) -> Instant {
        let mut due = self.now + Duration::from_secs(600);
        self.is_ticking = !self.exchanges.is_empty();
        if !self.is_ticking {
            return due;
        }
        let (mut late, mut expired) = (Vec::new(), Vec::new());
        let connection_open = self.client.wire.connection_credit() > 0;
        for (tag, exchange) in &mut self.exchanges {
            if let Some(deadline) = exchange.call.deadline() {
                due = due.min(deadline);
                if deadline <= self.now {
                    late.push((tag, Late::Deadline));
                    continue;
                }
            }
            if let Some(lease) = exchange.lease.as_ref().filter(|lease| !lease.is_over) {
                due = due.min(lease.until);
                if lease.until <= self.now {
                    expired.push(tag);
                }
            }
            if !exchange.has_come() {
                let aged = exchange.call.opened_at() + timeouts.body_age;
                due = due.min(aged);
                if aged <= self.now {
                    late.push((tag, Late::Age(timeouts.body_age)));
                    continue;
                }
            }
            let octets = exchange.up.octets;
            if exchange.has_come() || self.client.wire.granted(exchange.stream) <= 0 {
                exchange.sent.excuse(octets, self.now);
            } else if exchange.sent.is_stuck(octets, self.now, timeouts.body_progress) {
                late.push((tag, Late::Body));
                continue;
            }
            let open = connection_open && self.client.wire.stream_credit(exchange.stream) > 0;
            let octets = exchange.down.passed();
            if open || !exchange.answered {
                exchange.taken.excuse(octets, self.now);
            } else if exchange.taken.is_stuck(octets, self.now, timeouts.window_closed) {
                late.push((tag, Late::Window));
            }
        }
        for (tag, late) in late {
            let (refusal, how) = late.refusal();
            self.refuse(tag, &refusal, how);
        }
        for tag in expired {
            self.end_lease(tag);
        }
        self.mind_all_parked();
        due.min(self.next_tick(timeouts))
    }

    /// How a call ends whose deadline has passed, though the clock has not come to it yet.
    pub(super) fn overdue(&self, tag: usize) -> Option<(Refusal, Ending)> {
        let deadline = self.exchanges.get(tag)?.call.deadline()?;
        (deadline <= self.now).then(|| Late::Deadline.refusal())
    }

    fn check_drivers(&mut self, timeouts: &Timeouts) -> Instant {
        let now = self.now;
        let mut due = now + Duration::from_secs(600);
        let behind = self.client.blocked.is_some();
        let (parked_max, detached) = (self.worker.pool.download_max(), self.detached);
        let mut dead: Vec<(usize, &str)> = Vec::new();
        let mut idle = Vec::new();
        for (key, driver) in &mut self.drivers {
            let Line::Up(leg) = &mut driver.line else { continue };
            if !driver.is_tuned {
                driver.is_tuned = true;
                if leg.tune(timeouts.driver_silence, timeouts.driver_ack).is_err() {
                    dead.push((key, "the connection to it broke"));
                    continue;
                }
            }
            if !leg.wire.has_met() {
                due = due.min(driver.meet_by);
                if driver.meet_by <= now {
                    driver.cluster.missed(NO_HTTP2, now);
                    dead.push((key, "it does not speak HTTP/2"));
                }
            } else if driver.calls == 0 {
                due = due.min(driver.idle_since + DRIVER_IDLE);
                if driver.idle_since + DRIVER_IDLE <= now {
                    idle.push(key);
                }
            } else if behind || driver.parked.saturating_add(detached) > parked_max {
                // Nothing is read from it while its client is behind.
                leg.heard = now;
                leg.wire.excuse(now);
            } else if let Some(by) = leg.wire.mid_block_since().map(|at| at + timeouts.handshake)
                && by <= now
            {
                dead.push((key, "it did not send a whole head in time"));
            } else if leg.is_silent_since_asked(now, timeouts.driver_ack) {
                driver.cluster.missed(SILENT, now);
                dead.push((key, "it does not answer any more"));
            } else {
                driver.ask_if_silent(now, timeouts.driver_silence);
            }
        }
        // First: calls that move may need another connection, which may take over such a key.
        for key in idle {
            self.remove_driver(key, "idle");
        }
        self.fail_silent(&dead);
        due
    }

    fn fail_silent(&mut self, dead: &[(usize, &str)]) {
        for (key, _) in dead {
            if let Some(driver) = self.drivers.get_mut(*key) {
                driver.lost = true;
            }
        }
        for (key, what) in dead {
            self.fail_all_on(*key, "driver.silent", what);
        }
        self.drop_lost_drivers();
    }
}

/// What an exchange is late with.
#[derive(Clone, Copy)]
enum Late {
    Deadline,
    Body,
    Age(Duration),
    Window,
}

impl Late {
    fn refusal(self) -> (Refusal, Ending) {
        match self {
            Self::Deadline => (
                Refusal::new(
                    Code::DeadlineExceeded,
                    "call.deadline",
                    "the deadline that the client set for this call has passed",
                ),
                Ending::DeadlinePassed,
            ),
            Self::Body => (
                Refusal::new(
                    Code::Unavailable,
                    "client.body_slow",
                    "the request's body did not move on in time",
                ),
                Ending::ClientLost,
            ),
            Self::Age(most) => (
                Refusal::new(
                    Code::DeadlineExceeded,
                    "client.body_age",
                    format!(
                        "the request's body was not complete within {} (timeouts.body_age): send \
                         less in one call, or have the limit raised",
                        spell(most)
                    ),
                ),
                Ending::ClientLost,
            ),
            Self::Window => (
                Refusal::new(
                    Code::Unavailable,
                    "client.window_closed",
                    "the client did not take the answer in time",
                ),
                Ending::ClientLost,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bounds::{DRIVER_ACK, DRIVER_SILENCE};

    #[test]
    fn by_default_a_driver_may_stand_still_for_30_s_and_a_dead_host_is_found_in_a_minute() {
        assert!(DRIVER_ACK.usual >= Duration::from_secs(35));
        let found = DRIVER_SILENCE.usual + DRIVER_ACK.usual + 2 * TICK_MAX;
        assert!(found < Duration::from_secs(60), "{found:?}");
    }
}
