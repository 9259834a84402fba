//! Earned windows: how much a client may have under way on one stream, towards a driver.
//!
//! A stream begins with 65,535 octets, so that one whose driver takes nothing pins no more than
//! that. Once it has passed on as much, it gets one megabyte, so that reads are long. From there
//! on its window grows while the window is what limits it, to a few times the product of
//! bandwidth and round-trip time: PING measures round trips end to end, and a stream that passes
//! on half of its window within one of them was waiting for credit. On a short way that takes a
//! small window, on a long one a large one. What was earned stays.
//!
//! An answer to a PING also waits behind DATA that we have not read yet. Such a wait is no reason
//! to let more come: only what is passed on within twice the shortest round trip counts.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::wire::connection::Connection;
use crate::wire::connection::data::write_window_update;
use crate::wire::frame::{Flags, Kind, StreamId};
use crate::wire::settings::DEFAULT_INITIAL_WINDOW_SIZE;
use crate::wire::stream::Stream;

/// What the PINGs carry that measure round trips.
pub(in crate::wire) const RTT_PING: &[u8; 8] = b"sconce<>";

/// While more is read, credit goes back in pieces of this part of a window: each WINDOW_UPDATE is
/// a write, and wakes the client.
const RELEASE_FRACTION_BUSY: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// Before the connection sleeps, smaller pieces go back too. What is withheld is not under way:
/// with half of a window withheld, an upload over a wide network ran at half the speed.
const RELEASE_FRACTION_IDLE: NonZeroU32 = NonZeroU32::new(8).unwrap();
/// On a way shorter than this a client has the rest of its window under way for long enough, and is
/// not woken for smaller pieces.
const NEAR_ROUND_TRIP: Duration = Duration::from_millis(1);
/// And of at least so many octets, so that small windows do not cost a frame for each message.
const STREAM_RELEASE_MIN: u32 = 16 * 1024;
/// Up to this window, in octets, growth is by four, and above it by two. The first round trips
/// are what short uploads are made of.
const FAST_GROWTH_MAX: u32 = 1 << 20;
/// Up to this window, in octets, growth needs no more than that as much was passed on before: what
/// two reads take. With less under way, each read finds little and costs as much.
const COMMON_WINDOW: u32 = 1 << 20;
/// How many of the largest windows the streams of one connection can earn together.
const EARNED_WINDOWS_MAX: u32 = 4;

/// Octets that are passed on between two measurements that find no reason to grow: at first, and
/// at most.
const MEASURE_INTERVAL: (u32, u32) = (256 << 10, 16 << 20);

/// Round trips of a connection, as measured by PING.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct RoundTrips {
    /// The number of the one that is under way, or was last.
    number: u32,
    is_measuring: bool,
    /// When it began.
    started_at: Option<Instant>,
    /// About the shortest one.
    shortest: Option<Duration>,
    /// Whether a window has grown in it.
    has_grown: bool,
    /// The largest window, in octets, that a stream has earned.
    largest_window: u32,
    /// Octets to be passed on before the next one.
    octets_to_next: u32,
    /// The length of the latest pause.
    interval: u32,
}

impl RoundTrips {
    /// Octets were passed on of a stream whose window could grow. Says whether a round trip begins
    /// that is to be measured.
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

    /// Whether what is passed on now is passed on within one round trip.
    fn is_within_round_trip(&self, now: Instant) -> bool {
        let passed =
            self.started_at.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.is_measuring
            && self.shortest.is_none_or(|shortest| passed <= shortest.saturating_mul(2))
    }

    /// The PING is answered.
    fn finish(&mut self, now: Instant) {
        self.is_measuring = false;
        let took = self.started_at.map(|began| now.saturating_duration_since(began));
        // The way may become longer.
        let before =
            self.shortest.map(|it| it.saturating_add(it.checked_div(4).unwrap_or_default()));
        self.shortest = [took, before].into_iter().flatten().min();
        let (first, longest) = MEASURE_INTERVAL;
        self.interval = match self.has_grown {
            true => 0,
            false => self.interval.saturating_mul(2).clamp(first, longest),
        };
        self.octets_to_next = self.interval;
    }
}

impl Stream {
    /// Octets were passed on in this round trip. Says whether so many were that the window must
    /// have been what limited the stream; once in each round trip.
    fn is_window_limited(&mut self, octets: u32, trip: u32) -> bool {
        if self.round_trip != trip {
            (self.round_trip, self.forwarded_in_round_trip) = (trip, 0);
        }
        let before = self.forwarded_in_round_trip;
        self.forwarded_in_round_trip = before.saturating_add(octets);
        let half = self.current_window() / 2;
        before < half && self.forwarded_in_round_trip >= half
    }

    /// Whether so much is owed that it goes back: so great a part of the window.
    fn should_release(&self, part: NonZeroU32) -> bool {
        self.unreleased >= (self.current_window() / part).max(STREAM_RELEASE_MIN)
    }

    /// What is owed and so much more can be sent from now on. Says how much that is.
    fn release(&mut self, more: u32) -> u32 {
        let grant = std::mem::take(&mut self.unreleased).saturating_add(more);
        self.recv_window = self.recv_window.saturating_add(i64::from(grant));
        grant
    }

    /// The window that the stream has, in octets.
    fn current_window(&self) -> u32 {
        DEFAULT_INITIAL_WINDOW_SIZE.saturating_add(self.earned)
    }
}

impl Connection {
    /// So many octets of a stream's DATA have left for good (uploads): its credit goes back, and
    /// its window may grow to `most` octets.
    pub fn release_stream_capacity(&mut self, id: StreamId, octets: u32, most: u32, now: Instant) {
        let budget = most.saturating_mul(EARNED_WINDOWS_MAX).saturating_sub(self.earned);
        let Some(stream) = self.streams.find_mut(id) else { return };
        if stream.remote_closed {
            return;
        }
        stream.unreleased = stream.unreleased.saturating_add(octets);
        let window = stream.current_window();
        let factor = if window < FAST_GROWTH_MAX { 4 } else { 2 };
        // The way is as long for this stream as for those before it.
        let trips = self.round_trips.get_or_insert_default();
        let next = window.saturating_mul(factor).max(trips.largest_window).min(most);
        let more = next.saturating_sub(window).min(budget);
        let begins = more > 0 && trips.start_if_due(octets, now);
        stream.forwarded_since_growth = stream.forwarded_since_growth.saturating_add(octets);
        // Streams side by side get equal windows, or what they share would go by their windows.
        let common = trips.largest_window.max(COMMON_WINDOW).min(most);
        let is_behind = window < common && stream.forwarded_since_growth >= window;
        let is_limited =
            trips.is_within_round_trip(now) && stream.is_window_limited(octets, trips.number);
        let more = match (is_limited, is_behind) {
            (true, _) => more,
            (false, true) => more.min(common.saturating_sub(window)),
            (false, false) => 0,
        };
        let grows = more > 0;
        trips.has_grown |= grows;
        trips.largest_window = trips.largest_window.max(window.saturating_add(more));
        self.has_withheld |= stream.should_release(RELEASE_FRACTION_IDLE);
        if grows || stream.should_release(RELEASE_FRACTION_BUSY) {
            stream.earned = stream.earned.saturating_add(more);
            stream.forwarded_since_growth = if grows { 0 } else { stream.forwarded_since_growth };
            self.earned = self.earned.saturating_add(more);
            let grant = stream.release(more);
            self.send_window_update(id, grant);
        }
        if begins {
            self.write_frame(Kind::Ping, Flags::NONE, StreamId::CONNECTION, RTT_PING);
        }
    }

    /// The connection will sleep: what is owed to uploads goes back, unless it is next to nothing
    /// or the client is near. Says whether anything was.
    pub fn release_withheld(&mut self) -> bool {
        if !std::mem::take(&mut self.has_withheld) || self.is_peer_near() {
            return false;
        }
        let before = self.write_buffer.len();
        let Self { streams, write_buffer: out, .. } = self;
        for (id, stream) in streams.iter_mut() {
            if !stream.remote_closed && stream.should_release(RELEASE_FRACTION_IDLE) {
                write_window_update(out, id, stream.release(0));
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

    /// The peer has ended a stream: its window is of no use any more.
    pub(in crate::wire) fn drop_earned_window(&mut self, id: StreamId) {
        if self.earned == 0 {
            return;
        }
        let extra =
            self.streams.find_mut(id).map_or(0, |stream| std::mem::take(&mut stream.earned));
        self.earned = self.earned.saturating_sub(extra);
    }

    /// Octets of windows that uploads which go on have earned beyond their first ones.
    #[must_use]
    pub fn earned_octets(&self) -> u32 {
        self.earned
    }

    /// A PING that measured a round trip is answered. Says whether there was one.
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

    /// A connection to which 49,152 octets of an upload have come.
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
    fn an_upload_that_moves_earns_a_larger_window_and_one_that_stands_does_not() {
        let now = Instant::now();
        let mut connection = uploading(now);
        let id = StreamId::new(1);
        assert_eq!(connection.recv_window(id), 65_535 - 49_152);
        connection.release_stream_capacity(id, 49_152, 1 << 20, now);
        assert_eq!(connection.recv_window(id), 4 * 65_535);
        connection.release_stream_capacity(id, 10, 0, now);
        assert_eq!(connection.recv_window(id), 4 * 65_535);
    }

    /// An upload that passes on `octets` of its window in each of so many round trips, evenly:
    /// the window, in octets, that it has at the end. How long each takes is up to `takes`.
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
    fn a_round_trip_that_is_long_since_data_waits_to_be_read_is_no_reason_to_grow() {
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
    fn a_window_grows_on_a_way_that_has_become_longer() {
        let longer = |trip| match trip {
            0 => Duration::from_millis(1),
            _ => Duration::from_millis(8),
        };
        assert_eq!(earned_in(|window| window, 24, longer), 4 << 20);
    }

    #[test]
    fn credit_is_withheld_while_more_is_read_and_goes_back_before_the_connection_sleeps() {
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
        assert_eq!(connection.recv_window(id), 65_535, "half of the window goes back at once");
    }

    #[test]
    fn a_client_that_is_near_gets_its_credit_back_in_halves_of_its_window() {
        for (trip, repays) in [(900, false), (1_000, true)] {
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
            assert_eq!(connection.release_withheld(), repays, "{trip} us");
            assert_eq!(connection.recv_window(id) == window, repays, "{trip} us");
        }
    }

    #[test]
    fn a_window_that_limits_its_upload_grows_to_the_limit_within_a_few_round_trips() {
        assert_eq!(earned(|window| window, 5), 4 << 20);
        assert!(earned(|window| window, 3) >= 1 << 20);
    }

    #[test]
    fn what_was_earned_is_given_back_when_the_upload_has_ended() {
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
    fn a_window_that_does_not_limit_its_upload_stays() {
        assert_eq!(earned(|_| 15_000, 3), 65_535);
        assert!(earned(|_| 15_000, 500) <= 1 << 20);
        let far = earned(|window| window.min(300_000), 200);
        assert!((600_000..1_400_000).contains(&far), "{far} for 300,000 octets in a round trip");
    }
}
