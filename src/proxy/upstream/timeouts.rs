//! Timeouts: when an upstream connection is idle, or its driver does not respond.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::proxy::upstream::connect::{NO_HTTP2, SILENT};
use crate::proxy::upstream::connection::{Upstream, UpstreamState};

/// Time after which an upstream connection without streams is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamCheck {
    /// Nothing to do until this time, if there is one.
    Healthy(Option<Instant>),
    /// To be closed: it has had no streams for `IDLE_TIMEOUT`.
    Idle,
    /// To be closed, for this reason.
    Dead(&'static str),
}

impl Upstream {
    /// Checks the timeouts of a connection, and sends a keepalive PING if it is due. `is_unread`:
    /// the connection is not read now.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        timeouts: &Timeouts,
        is_unread: bool,
    ) -> UpstreamCheck {
        let UpstreamState::Connected(h2) = &mut self.state else {
            return UpstreamCheck::Healthy(None);
        };
        if !self.is_tuned {
            self.is_tuned = true;
            if h2.tune(timeouts.driver_keepalive, timeouts.driver_keepalive_ack).is_err() {
                return UpstreamCheck::Dead("the connection to it is broken");
            }
        }
        if !h2.wire.settings_received() {
            if self.settings_deadline > now {
                return UpstreamCheck::Healthy(Some(self.settings_deadline));
            }
            self.cluster.driver_unreachable(NO_HTTP2, now);
            return UpstreamCheck::Dead("it sent no HTTP/2 SETTINGS in time");
        }
        if self.active == 0 {
            let idle_at = self.idle_since + IDLE_TIMEOUT;
            return if idle_at <= now {
                UpstreamCheck::Idle
            } else {
                UpstreamCheck::Healthy(Some(idle_at))
            };
        }
        if is_unread {
            // The upstream is not read while its client is behind, so its silence means nothing.
            h2.reset_silence(now);
        } else if let Some(since) = h2.wire.partial_frame_since()
            && since + timeouts.handshake <= now
        {
            return UpstreamCheck::Dead("it did not send a complete header list in time");
        } else if h2.is_ping_overdue(now, timeouts.driver_keepalive_ack) {
            self.cluster.driver_unreachable(SILENT, now);
            return UpstreamCheck::Dead("it did not acknowledge a keepalive PING");
        } else {
            self.send_keepalive(now, timeouts.driver_keepalive);
        }
        UpstreamCheck::Healthy(None)
    }
}
