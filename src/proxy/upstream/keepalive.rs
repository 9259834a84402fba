//! Keepalive: when a silent upstream connection gets a PING.

use std::time::{Duration, Instant};

/// grpc-java counts a strike for a PING within permitKeepAliveTime (5 min) of the last one without
/// HEADERS or DATA between, and closes the connection at more than MAX_PING_STRIKES (2). So the
/// second and third PING wait for these multiples of the keepalive time, and further ones for
/// `PING_BACKOFF_MAX`.
const PING_BACKOFF: [u32; 2] = [2, 6];
/// See `PING_BACKOFF`.
const PING_BACKOFF_MAX: Duration = Duration::from_secs(301);

/// The PINGs of one upstream connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keepalive {
    /// PINGs sent since HEADERS or DATA last arrived.
    sent: usize,
}

/// What an upstream connection has sent and received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// Since when the connection is silent: the last octets that arrived, or its first stream.
    pub(crate) silent_since: Instant,
    /// When octets last arrived.
    pub(crate) last_read: Instant,
    pub(crate) ping_sent_at: Option<Instant>,
}

impl Keepalive {
    /// HEADERS or DATA have arrived.
    pub(crate) fn reset(&mut self) {
        self.sent = 0;
    }

    /// Whether no PING was sent since HEADERS or DATA last arrived.
    pub(crate) fn is_reset(self) -> bool {
        self.sent == 0
    }

    /// Whether a PING is due, with this keepalive time.
    pub(crate) fn is_due(self, activity: Activity, now: Instant, keepalive: Duration) -> bool {
        let backoff = match self.sent.checked_sub(1).map(|sent| PING_BACKOFF.get(sent)) {
            None => Duration::ZERO,
            Some(Some(multiple)) => keepalive * *multiple,
            Some(None) => PING_BACKOFF_MAX,
        };
        // An unanswered PING is not repeated: that would restart the wait for its acknowledgement.
        let must_wait = activity
            .ping_sent_at
            .is_some_and(|sent| activity.last_read <= sent || now < sent + backoff);
        now.saturating_duration_since(activity.silent_since) >= keepalive && !must_wait
    }

    /// A PING was sent.
    pub(crate) fn ping_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(20);

    /// The seconds at which PINGs are sent to a driver that acknowledges each after one second, and
    /// sends nothing else.
    fn pings(seconds: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut activity = Activity { silent_since: start, last_read: start, ping_sent_at: None };
        let (mut keepalive, mut pings) = (Keepalive::default(), Vec::new());
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if activity.ping_sent_at == Some(now - Duration::from_secs(1)) {
                (activity.silent_since, activity.last_read) = (now, now);
            }
            if keepalive.is_due(activity, now, KEEPALIVE) {
                activity.ping_sent_at = Some(now);
                keepalive.ping_sent();
                pings.push(second);
            }
        }
        pings
    }

    #[test]
    fn pings_back_off_so_that_grpc_java_counts_at_most_two_strikes() {
        assert_eq!(pings(900), [20, 60, 180, 481, 782]);
    }

    #[test]
    fn an_unanswered_ping_is_not_repeated() {
        let start = Instant::now();
        let activity =
            Activity { silent_since: start, last_read: start, ping_sent_at: Some(start) };
        let mut keepalive = Keepalive::default();
        keepalive.ping_sent();
        assert!(!keepalive.is_due(activity, start + Duration::from_secs(10_000), KEEPALIVE));
    }

    #[test]
    fn headers_or_data_reset_the_backoff() {
        let mut keepalive = Keepalive::default();
        keepalive.ping_sent();
        assert!(!keepalive.is_reset());
        keepalive.reset();
        assert!(keepalive.is_reset());
    }
}
