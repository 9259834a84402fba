//! Receive windows of uploads: growth, and release by WINDOW_UPDATE.
//!
//! A stream starts with 65,535 octets, which limits the buffered data of an upstream that does not
//! read. After as many forwarded octets it gets 1 MiB, for long reads. Then its window grows to a
//! few times the bandwidth-delay product, as long as the window limits the throughput: PING
//! measures the round trip, and a stream that forwards half of its window within one round trip is
//! limited by it. A window does not shrink again.
//!
//! PING ACK is delayed by unread DATA in front of it. To exclude this delay, only octets forwarded
//! within twice the shortest round trip count.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::wire::connection::Connection;
use crate::wire::connection::data::write_window_update;
use crate::wire::frame::{Flags, Kind, StreamId};
use crate::wire::settings::DEFAULT_INITIAL_WINDOW_SIZE;
use crate::wire::stream::Stream;

/// Payload of the PINGs that measure round trips.
pub(in crate::wire) const RTT_PING: &[u8; 8] = b"sconce<>";

/// A busy connection releases a stream window in halves: each WINDOW_UPDATE is a write, and wakes
/// the client.
const RELEASE_FRACTION_BUSY: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// Before the connection becomes idle, it releases an eighth of a window or more: withheld window
/// is lost throughput. With half of the window withheld, an upload over a WAN had half its speed.
const RELEASE_FRACTION_IDLE: NonZeroU32 = NonZeroU32::new(8).unwrap();
/// Clients with a shorter round trip are not woken for less than half of a window.
const NEAR_ROUND_TRIP: Duration = Duration::from_millis(1);
/// Minimum increment of a WINDOW_UPDATE for a stream, in octets: small windows must not cost a
/// frame per message.
const STREAM_RELEASE_MIN: u32 = 16 * 1024;
/// Windows below this size, in octets, grow fourfold, larger ones twofold: short uploads last only
/// a few round trips.
const FAST_GROWTH_MAX: u32 = 1 << 20;
/// A window below this size, in octets, grows after as many forwarded octets, without a measured
/// round trip. The size of two reads: smaller windows make reads short.
const COMMON_WINDOW: u32 = 1 << 20;
/// Maximum total growth of all streams of a connection, in multiples of the largest window.
const EARNED_WINDOWS_MAX: u32 = 4;

/// Forwarded octets between two round-trip measurements without growth: initially, and at most.
const MEASURE_INTERVAL: (u32, u32) = (256 << 10, 16 << 20);

/// Round trips of a connection, as measured by PING.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct RoundTrips {
    /// Number of the current or latest round trip.
    number: u32,
    is_measuring: bool,
    /// Start of the current or latest round trip.
    started_at: Option<Instant>,
    /// The shortest round trip; it decays upwards with each measurement.
    shortest: Option<Duration>,
    /// Whether a window has grown in this round trip.
    has_grown: bool,
    /// The largest window of any stream, in octets.
    largest_window: u32,
    /// Octets to forward before the next measurement.
    octets_to_next: u32,
    /// The latest interval between two measurements, in octets.
    interval: u32,
}

impl RoundTrips {
    /// Counts forwarded octets of a stream whose window can grow. `true`: a measurement starts, and
    /// the caller sends PING.
    fn start_if_due(&mut self, octets: u32, now: Instant) -> bool {
        self.octets_to_next = self.octets_to_next.saturating_sub(octets);
        if self.is_measuring || self.octets_to_next > 0 {
            return false;
        }
        (self.is_measuring, self.has_grown) = (true, false);
        self.number = self.number.wrapping_add(1);
        self.started_at = Some(now);
        true
    }

    /// Whether octets forwarded now count for the current round trip.
    fn is_within_round_trip(&self, now: Instant) -> bool {
        let elapsed =
            self.started_at.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        self.is_measuring
            && self.shortest.is_none_or(|shortest| elapsed <= shortest.saturating_mul(2))
    }

    /// Ends the measurement: PING ACK has arrived.
    fn finish(&mut self, now: Instant) {
        self.is_measuring = false;
        let latest = self.started_at.map(|start| now.saturating_duration_since(start));
        // Round trips may become longer.
        let before =
            self.shortest.map(|it| it.saturating_add(it.checked_div(4).unwrap_or_default()));
        self.shortest = [latest, before].into_iter().flatten().min();
        let (first, longest) = MEASURE_INTERVAL;
        self.interval = match self.has_grown {
            true => 0,
            false => self.interval.saturating_mul(2).clamp(first, longest),
        };
        self.octets_to_next = self.interval;
    }
}

impl Stream {
    /// Counts forwarded octets. `true` once in a round trip: half of the window was forwarded in
    /// it, so that the window limits the throughput.
    fn is_window_limited(&mut self, octets: u32, round_trip: u32) -> bool {
        if self.round_trip != round_trip {
            (self.round_trip, self.forwarded_in_round_trip) = (round_trip, 0);
        }
        let before = self.forwarded_in_round_trip;
        self.forwarded_in_round_trip = before.saturating_add(octets);
        let half = self.current_window() / 2;
        before < half && self.forwarded_in_round_trip >= half
    }

    /// Whether the unreleased octets are at least this fraction of the window.
    fn should_release(&self, fraction: NonZeroU32) -> bool {
        self.unreleased >= (self.current_window() / fraction).max(STREAM_RELEASE_MIN)
    }

    /// Releases the unreleased octets plus `growth`. Returns the increment for WINDOW_UPDATE.
    fn release(&mut self, growth: u32) -> u32 {
        let increment = std::mem::take(&mut self.unreleased).saturating_add(growth);
        self.recv_window = self.recv_window.saturating_add(i64::from(increment));
        increment
    }

    /// The full window of the stream, in octets.
    fn current_window(&self) -> u32 {
        DEFAULT_INITIAL_WINDOW_SIZE.saturating_add(self.earned)
    }
}

impl Connection {
    /// Releases stream window of forwarded octets (uploads). The window may grow to `window_max`
    /// octets.
    pub fn release_stream_capacity(
        &mut self,
        id: StreamId,
        octets: u32,
        window_max: u32,
        now: Instant,
    ) {
        let budget = window_max.saturating_mul(EARNED_WINDOWS_MAX).saturating_sub(self.earned);
        let Some(stream) = self.streams.find_mut(id) else { return };
        if stream.remote_closed {
            return;
        }
        stream.unreleased = stream.unreleased.saturating_add(octets);
        let window = stream.current_window();
        let factor = if window < FAST_GROWTH_MAX { 4 } else { 2 };
        // All streams have the same round trip: the largest window so far suits this one too.
        let trips = self.round_trips.get_or_insert_default();
        let next = window.saturating_mul(factor).max(trips.largest_window).min(window_max);
        let growth_max = next.saturating_sub(window).min(budget);
        let starts = growth_max > 0 && trips.start_if_due(octets, now);
        stream.forwarded_since_growth = stream.forwarded_since_growth.saturating_add(octets);
        // Concurrent streams get equal windows, otherwise their throughput would be unequal.
        let common = trips.largest_window.max(COMMON_WINDOW).min(window_max);
        let is_behind = window < common && stream.forwarded_since_growth >= window;
        let is_limited =
            trips.is_within_round_trip(now) && stream.is_window_limited(octets, trips.number);
        let growth = match (is_limited, is_behind) {
            (true, _) => growth_max,
            (false, true) => growth_max.min(common.saturating_sub(window)),
            (false, false) => 0,
        };
        let grows = growth > 0;
        trips.has_grown |= grows;
        trips.largest_window = trips.largest_window.max(window.saturating_add(growth));
        self.has_withheld |= stream.should_release(RELEASE_FRACTION_IDLE);
        if grows || stream.should_release(RELEASE_FRACTION_BUSY) {
            stream.earned = stream.earned.saturating_add(growth);
            stream.forwarded_since_growth = if grows { 0 } else { stream.forwarded_since_growth };
            self.earned = self.earned.saturating_add(growth);
            let increment = stream.release(growth);
            self.send_window_update(id, increment);
        }
        if starts {
            self.write_frame(Kind::Ping, Flags::NONE, StreamId::CONNECTION, RTT_PING);
        }
    }

    /// Releases withheld window of uploads before the connection becomes idle, unless the amount is
    /// small or the client is near. Returns whether any WINDOW_UPDATE was written.
    pub fn release_withheld(&mut self) -> bool {
        if !std::mem::take(&mut self.has_withheld) || self.is_peer_near() {
            return false;
        }
        let before = self.write_buffer.len();
        let Self { streams, write_buffer, .. } = self;
        for (id, stream) in streams.iter_mut() {
            if !stream.remote_closed && stream.should_release(RELEASE_FRACTION_IDLE) {
                write_window_update(write_buffer, id, stream.release(0));
            }
        }
        self.write_buffer.len() > before
    }

    fn is_peer_near(&self) -> bool {
        self.round_trips
            .as_ref()
            .and_then(|trips| trips.shortest)
            .is_some_and(|it| it < NEAR_ROUND_TRIP)
    }

    /// Subtracts the window growth of a stream that the peer has ended.
    pub(in crate::wire) fn drop_earned_window(&mut self, id: StreamId) {
        if self.earned == 0 {
            return;
        }
        let earned =
            self.streams.find_mut(id).map_or(0, |stream| std::mem::take(&mut stream.earned));
        self.earned = self.earned.saturating_sub(earned);
    }

    /// Total growth of the windows of open uploads beyond their initial size, in octets.
    #[must_use]
    pub fn earned_octets(&self) -> u32 {
        self.earned
    }

    /// Handles PING ACK of a round-trip measurement. `false`: no measurement was active.
    pub(in crate::wire) fn recv_rtt_ping_ack(&mut self, now: Instant) -> bool {
        let Some(trips) = self.round_trips.as_mut().filter(|trips| trips.is_measuring) else {
            return false;
        };
        trips.finish(now);
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;
    use crate::wire::connection::Role;
    use crate::wire::connection::tests::{POST, Peer, feed, local_config};

    fn frames() -> Peer {
        let mut peer = Peer::server();
        peer.octets.clear();
        peer
    }

    /// A connection that has received 49,152 octets of an upload.
    fn uploading(now: Instant) -> Connection {
        let mut connection = Connection::new(Role::Server, local_config(), now);
        let mut peer = Peer::client().headers(1, POST, false);
        for _ in 0..3 {
            peer = peer.data(1, &[0; 16_384], false);
        }
        feed(&mut connection, &peer.octets, 1_000, now).unwrap();
        connection
    }

    #[test]
    fn the_window_grows_when_octets_are_forwarded_up_to_the_maximum() {
        let now = Instant::now();
        let mut connection = uploading(now);
        let id = StreamId::new(1);
        assert_eq!(connection.recv_window(id), 65_535 - 49_152);
        connection.release_stream_capacity(id, 49_152, 1 << 20, now);
        assert_eq!(connection.recv_window(id), 4 * 65_535);
        connection.release_stream_capacity(id, 10, 0, now);
        assert_eq!(connection.recv_window(id), 4 * 65_535);
    }

    /// The final window of an upload, in octets. In each round trip, of duration `takes`, it
    /// forwards `octets` of its window evenly.
    fn earned_in(
        octets: impl Fn(u32) -> u32,
        trips: usize,
        takes: impl Fn(usize) -> Duration,
    ) -> u32 {
        let mut now = Instant::now();
        let mut connection = Connection::new(Role::Server, local_config(), now);
        let peer = Peer::client().headers(1, POST, false);
        feed(&mut connection, &peer.octets, 1_000, now).unwrap();
        let id = StreamId::new(1);
        let mut window = 65_535;
        for trip in 0..trips {
            let all = octets(window);
            let mut left = all;
            while left > 0 {
                let piece = left.min(16_384);
                now += takes(trip) * piece / all;
                let size = usize::try_from(piece).unwrap();
                feed(
                    &mut connection,
                    &frames().data(1, &vec![0; size], false).octets,
                    100_000,
                    now,
                )
                .unwrap();
                connection.release_stream_capacity(id, piece, 4 << 20, now);
                left -= piece;
                let trips = connection.round_trips.as_ref().filter(|trips| trips.is_measuring);
                if trips.is_some_and(|it| it.started_at.is_some_and(|at| now >= at + takes(trip))) {
                    let pong = frames().frame(Kind::Ping, Flags::ACK, 0, RTT_PING);
                    feed(&mut connection, &pong.octets, 100, now).unwrap();
                }
            }
            window = connection.streams.find(id).unwrap().earned + 65_535;
        }
        window
    }

    fn earned(octets: impl Fn(u32) -> u32, trips: usize) -> u32 {
        earned_in(octets, trips, |_| Duration::from_millis(50))
    }

    #[test]
    fn a_round_trip_delayed_by_unread_data_does_not_grow_the_window() {
        let trips = std::cell::Cell::new(0);
        let few_first = |window| {
            trips.set(trips.get() + 1);
            if trips.get() <= 6 { 8_000 } else { window }
        };
        let short_first = |trip| match trip {
            0..6 => Duration::from_micros(100),
            _ => Duration::from_millis(100),
        };
        assert_eq!(earned_in(few_first, 16, short_first), 1 << 20);
    }

    #[test]
    fn a_window_grows_when_the_round_trip_becomes_longer() {
        let longer = |trip| match trip {
            0 => Duration::from_millis(1),
            _ => Duration::from_millis(8),
        };
        assert_eq!(earned_in(|window| window, 24, longer), 4 << 20);
    }

    #[test]
    fn window_is_withheld_on_a_busy_connection_and_released_before_it_becomes_idle() {
        let now = Instant::now();
        let mut connection = Connection::new(Role::Server, local_config(), now);
        let peer = Peer::client().headers(1, POST, false);
        feed(&mut connection, &peer.octets, 1_000, now).unwrap();
        let id = StreamId::new(1);
        let send = |connection: &mut Connection, octets: u32| {
            let data = vec![0; usize::try_from(octets).unwrap()];
            feed(connection, &frames().data(1, &data, false).octets, 100_000, now).unwrap();
            connection.release_stream_capacity(id, octets, 0, now);
        };
        assert!(!connection.release_withheld());
        for _ in 0..2 {
            send(&mut connection, 10_000);
        }
        assert_eq!(connection.recv_window(id), 65_535 - 20_000);
        assert!(connection.release_withheld());
        assert_eq!(connection.recv_window(id), 65_535);
        assert!(!connection.release_withheld());
        for _ in 0..4 {
            send(&mut connection, 10_000);
        }
        assert_eq!(connection.recv_window(id), 65_535, "half of the window is released at once");
    }

    #[test]
    fn a_near_client_gets_window_updates_of_half_of_its_window() {
        for (trip, releases) in [(900, false), (1_000, true)] {
            let began = Instant::now();
            let mut connection = uploading(began);
            let id = StreamId::new(1);
            connection.release_stream_capacity(id, 49_152, 1 << 20, began);
            let pong = frames().frame(Kind::Ping, Flags::ACK, 0, RTT_PING);
            let now = began + Duration::from_micros(trip);
            feed(&mut connection, &pong.octets, 100, now).unwrap();
            connection.release_withheld();
            let window = connection.recv_window(id);
            for _ in 0..4 {
                feed(&mut connection, &frames().data(1, &[0; 16_000], false).octets, 1_000, now)
                    .unwrap();
                connection.release_stream_capacity(id, 16_000, 0, now);
            }
            assert_eq!(connection.release_withheld(), releases, "{trip} us");
            assert_eq!(connection.recv_window(id) == window, releases, "{trip} us");
        }
    }

    #[test]
    fn a_window_that_limits_its_upload_grows_to_the_maximum_within_a_few_round_trips() {
        assert_eq!(earned(|window| window, 5), 4 << 20);
        assert!(earned(|window| window, 3) >= 1 << 20);
    }

    #[test]
    fn window_growth_is_subtracted_at_the_end_of_the_upload() {
        let endings: [fn(Peer) -> Peer; 3] = [
            |peer| peer.data(1, &[0; 2_000], true),
            |peer| peer.data(1, &[], true),
            |peer| peer.headers(1, &[], true),
        ];
        for end in endings {
            let now = Instant::now();
            let mut connection = uploading(now);
            connection.release_stream_capacity(StreamId::new(1), 49_152, 1 << 20, now);
            assert!(connection.earned_octets() > 0);
            feed(&mut connection, &end(frames()).octets, 100_000, now).unwrap();
            assert_eq!(connection.earned_octets(), 0);
        }
    }

    #[test]
    fn a_window_that_does_not_limit_its_upload_does_not_grow() {
        assert_eq!(earned(|_| 15_000, 3), 65_535);
        assert!(earned(|_| 15_000, 500) <= 1 << 20);
        let far = earned(|window| window.min(300_000), 200);
        assert!((600_000..1_400_000).contains(&far), "{far} for 300,000 octets in a round trip");
    }
}
