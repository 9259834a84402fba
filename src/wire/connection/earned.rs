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
use crate::wire::connection::body::write_window_update;
use crate::wire::frame::{Flags, Kind, StreamId};
use crate::wire::settings::WINDOW_FLOOR;
use crate::wire::stream::Stream;

/// What the PINGs carry that measure round trips.
pub(in crate::wire) const PROBE: &[u8; 8] = b"sconce<>";

/// While more is read, credit goes back in pieces of this part of a window: each WINDOW_UPDATE is
/// a write, and wakes the client.
const PART_BUSY: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// Before the connection sleeps, smaller pieces go back too. What is withheld is not under way:
/// with half of a window withheld, an upload over a wide network ran at half the speed.
const PART_ASLEEP: NonZeroU32 = NonZeroU32::new(8).unwrap();
/// On a way shorter than this a client has the rest of its window under way for long enough, and is
/// not woken for smaller pieces.
const NEAR: Duration = Duration::from_millis(1);
/// And of at least so many octets, so that small windows do not cost a frame for each message.
const PIECE_MIN: u32 = 16 * 1024;
/// Up to this window, in octets, growth is by four, and above it by two. The first round trips
/// are what short uploads are made of.
const FAST_MAX: u32 = 1 << 20;
/// Up to this window, in octets, growth needs no more than that as much was passed on before: what
/// two reads take. With less under way, each read finds little and costs as much.
const COMMON: u32 = 1 << 20;
/// How many of the largest windows the streams of one connection can earn together.
const SHARE: u32 = 4;

/// Octets that are passed on between two measurements that find no reason to grow: at first, and
/// at most.
const PAUSE: (u32, u32) = (256 << 10, 16 << 20);

/// Round trips of a connection, as measured by PING.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct RoundTrips {
    /// The number of the one that is under way, or was last.
    number: u32,
    is_measuring: bool,
    /// When it began.
    began: Option<Instant>,
    /// About the shortest one.
    shortest: Option<Duration>,
    /// Whether a window has grown in it.
    has_grown: bool,
    /// The largest window, in octets, that a stream has earned.
    widest: u32,
    /// Octets to be passed on before the next one.
    pause: u32,
    /// The length of the latest pause.
    last_pause: u32,
}

impl RoundTrips {
    /// Octets were passed on of a stream whose window could grow. Says whether a round trip begins
    /// that is to be measured.
    fn begins(&mut self, octets: u32, now: Instant) -> bool {
        self.pause = self.pause.saturating_sub(octets);
        if self.is_measuring || self.pause > 0 {
            return false;
        }
        (self.is_measuring, self.has_grown) = (true, false);
        self.number = self.number.wrapping_add(1);
        self.began = Some(now);
        true
    }

    /// Whether what is passed on now is passed on within one round trip.
    fn counts(&self, now: Instant) -> bool {
        let passed =
            self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.is_measuring
            && self.shortest.is_none_or(|shortest| passed <= shortest.saturating_mul(2))
    }

    /// The PING is answered.
    fn end(&mut self, now: Instant) {
        self.is_measuring = false;
        let took = self.began.map(|began| now.saturating_duration_since(began));
        // The way may become longer.
        let before =
            self.shortest.map(|it| it.saturating_add(it.checked_div(4).unwrap_or_default()));
        self.shortest = [took, before].into_iter().flatten().min();
        let (first, longest) = PAUSE;
        self.last_pause = match self.has_grown {
            true => 0,
            false => self.last_pause.saturating_mul(2).clamp(first, longest),
        };
        self.pause = self.last_pause;
    }
}

impl Stream {
    /// Octets were passed on in this round trip. Says whether so many were that the window must
    /// have been what limited the stream; once in each round trip.
    fn is_limited(&mut self, octets: u32, trip: u32) -> bool {
        if self.trip != trip {
            (self.trip, self.passed) = (trip, 0);
        }
        let before = self.passed;
        self.passed = before.saturating_add(octets);
        let half = self.earned_window() / 2;
        before < half && self.passed >= half
    }

    /// Whether so much is owed that it goes back: so great a part of the window.
    fn owes(&self, part: NonZeroU32) -> bool {
        self.owed >= (self.earned_window() / part).max(PIECE_MIN)
    }

    /// What is owed and so much more can be sent from now on. Says how much that is.
    fn repay(&mut self, more: u32) -> u32 {
        let grant = std::mem::take(&mut self.owed).saturating_add(more);
        self.receive = self.receive.saturating_add(i64::from(grant));
        grant
    }

    /// The window that the stream has, in octets.
    fn earned_window(&self) -> u32 {
        WINDOW_FLOOR.saturating_add(self.extra)
    }
}

impl Connection {
    /// So many octets of a stream's DATA have left for good (uploads): its credit goes back, and
    /// its window may grow to `most` octets.
    pub fn left(&mut self, id: StreamId, octets: u32, most: u32, now: Instant) {
        let budget = most.saturating_mul(SHARE).saturating_sub(self.extra);
        let Some(stream) = self.streams.find_mut(id) else { return };
        if stream.peer_ended {
            return;
        }
        stream.owed = stream.owed.saturating_add(octets);
        let window = stream.earned_window();
        let factor = if window < FAST_MAX { 4 } else { 2 };
        // The way is as long for this stream as for those before it.
        let trips = self.trips.get_or_insert_default();
        let next = window.saturating_mul(factor).max(trips.widest).min(most);
        let more = next.saturating_sub(window).min(budget);
        let begins = more > 0 && trips.begins(octets, now);
        stream.passed_all = stream.passed_all.saturating_add(octets);
        // Streams side by side get equal windows, or what they share would go by their windows.
        let common = trips.widest.max(COMMON).min(most);
        let is_behind = window < common && stream.passed_all >= window;
        let is_limited = trips.counts(now) && stream.is_limited(octets, trips.number);
        let more = match (is_limited, is_behind) {
            (true, _) => more,
            (false, true) => more.min(common.saturating_sub(window)),
            (false, false) => 0,
        };
        let grows = more > 0;
        trips.has_grown |= grows;
        trips.widest = trips.widest.max(window.saturating_add(more));
        self.is_owing |= stream.owes(PART_ASLEEP);
        if grows || stream.owes(PART_BUSY) {
            stream.extra = stream.extra.saturating_add(more);
            stream.passed_all = if grows { 0 } else { stream.passed_all };
            self.extra = self.extra.saturating_add(more);
            let grant = stream.repay(more);
            self.window_update(id, grant);
        }
        if begins {
            self.frame(Kind::Ping, Flags::NONE, StreamId::CONNECTION, PROBE);
        }
    }

    /// The connection will sleep: what is owed to uploads goes back, unless it is next to nothing
    /// or the client is near. Says whether anything was.
    pub fn repay_uploads(&mut self) -> bool {
        if !std::mem::take(&mut self.is_owing) || self.is_near() {
            return false;
        }
        let before = self.out.len();
        let Self { streams, out, .. } = self;
        for (id, stream) in streams.iter_mut() {
            if !stream.peer_ended && stream.owes(PART_ASLEEP) {
                write_window_update(out, id, stream.repay(0));
            }
        }
        self.out.len() > before
    }

    fn is_near(&self) -> bool {
        self.trips.as_ref().and_then(|trips| trips.shortest).is_some_and(|it| it < NEAR)
    }

    /// The peer has ended a stream: its window is of no use any more.
    pub(in crate::wire) fn give_up_window(&mut self, id: StreamId) {
        if self.extra == 0 {
            return;
        }
        let extra = self.streams.find_mut(id).map_or(0, |stream| std::mem::take(&mut stream.extra));
        self.extra = self.extra.saturating_sub(extra);
    }

    /// Octets of windows that uploads which go on have earned beyond their first ones.
    #[must_use]
    pub fn earned(&self) -> u32 {
        self.extra
    }

    /// A PING that measured a round trip is answered. Says whether there was one.
    pub(in crate::wire) fn round_trip_ended(&mut self, now: Instant) -> bool {
        let Some(trips) = self.trips.as_mut().filter(|trips| trips.is_measuring) else {
            return false;
        };
        trips.end(now);
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;
    use crate::wire::connection::Role;
    use crate::wire::connection::tests::{POST, Peer, drink, offer};

    fn frames() -> Peer {
        let mut peer = Peer::server();
        peer.octets.clear();
        peer
    }

    /// A connection to which 49,152 octets of an upload have come.
    fn uploading(now: Instant) -> Connection {
        let mut connection = Connection::new(Role::Server, offer(), now);
        let mut peer = Peer::client().headers(1, POST, false);
        for _ in 0..3 {
            peer = peer.data(1, &[0; 16_384], false);
        }
        drink(&mut connection, &peer.octets, 1_000, now).unwrap();
        connection
    }

    #[test]
    fn an_upload_that_moves_earns_a_larger_window_and_one_that_stands_does_not() {
        let now = Instant::now();
        let mut connection = uploading(now);
        let id = StreamId::new(1);
        assert_eq!(connection.granted(id), 65_535 - 49_152);
        connection.left(id, 49_152, 1 << 20, now);
        assert_eq!(connection.granted(id), 4 * 65_535);
        connection.left(id, 10, 0, now);
        assert_eq!(connection.granted(id), 4 * 65_535);
    }

    /// An upload that passes on `octets` of its window in each of so many round trips, evenly:
    /// the window, in octets, that it has at the end. How long each takes is up to `takes`.
    fn earned_in(
        octets: impl Fn(u32) -> u32,
        trips: usize,
        takes: impl Fn(usize) -> Duration,
    ) -> u32 {
        let mut now = Instant::now();
        let mut connection = Connection::new(Role::Server, offer(), now);
        let peer = Peer::client().headers(1, POST, false);
        drink(&mut connection, &peer.octets, 1_000, now).unwrap();
        let id = StreamId::new(1);
        let mut window = 65_535;
        for trip in 0..trips {
            let all = octets(window);
            let mut left = all;
            while left > 0 {
                let piece = left.min(16_384);
                now += takes(trip) * piece / all;
                let size = usize::try_from(piece).unwrap();
                drink(
                    &mut connection,
                    &frames().data(1, &vec![0; size], false).octets,
                    100_000,
                    now,
                )
                .unwrap();
                connection.left(id, piece, 4 << 20, now);
                left -= piece;
                let trips = connection.trips.as_ref().filter(|trips| trips.is_measuring);
                if trips.is_some_and(|it| it.began.is_some_and(|at| now >= at + takes(trip))) {
                    let pong = frames().frame(Kind::Ping, Flags::ACK, 0, PROBE);
                    drink(&mut connection, &pong.octets, 100, now).unwrap();
                }
            }
            window = connection.streams.find(id).unwrap().extra + 65_535;
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
        let mut connection = Connection::new(Role::Server, offer(), now);
        let peer = Peer::client().headers(1, POST, false);
        drink(&mut connection, &peer.octets, 1_000, now).unwrap();
        let id = StreamId::new(1);
        let send = |connection: &mut Connection, octets: u32| {
            let data = vec![0; usize::try_from(octets).unwrap()];
            drink(connection, &frames().data(1, &data, false).octets, 100_000, now).unwrap();
            connection.left(id, octets, 0, now);
        };
        assert!(!connection.repay_uploads());
        for _ in 0..2 {
            send(&mut connection, 10_000);
        }
        assert_eq!(connection.granted(id), 65_535 - 20_000);
        assert!(connection.repay_uploads());
        assert_eq!(connection.granted(id), 65_535);
        assert!(!connection.repay_uploads());
        for _ in 0..4 {
            send(&mut connection, 10_000);
        }
        assert_eq!(connection.granted(id), 65_535, "half of the window goes back at once");
    }

    #[test]
    fn a_client_that_is_near_gets_its_credit_back_in_halves_of_its_window() {
        for (trip, repays) in [(900, false), (1_000, true)] {
            let began = Instant::now();
            let mut connection = uploading(began);
            let id = StreamId::new(1);
            connection.left(id, 49_152, 1 << 20, began);
            let pong = frames().frame(Kind::Ping, Flags::ACK, 0, PROBE);
            let now = began + Duration::from_micros(trip);
            drink(&mut connection, &pong.octets, 100, now).unwrap();
            connection.repay_uploads();
            let window = connection.granted(id);
            for _ in 0..4 {
                drink(&mut connection, &frames().data(1, &[0; 16_000], false).octets, 1_000, now)
                    .unwrap();
                connection.left(id, 16_000, 0, now);
            }
            assert_eq!(connection.repay_uploads(), repays, "{trip} us");
            assert_eq!(connection.granted(id) == window, repays, "{trip} us");
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
            connection.left(StreamId::new(1), 49_152, 1 << 20, now);
            assert!(connection.earned() > 0);
            drink(&mut connection, &end(frames()).octets, 100_000, now).unwrap();
            assert_eq!(connection.earned(), 0);
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
