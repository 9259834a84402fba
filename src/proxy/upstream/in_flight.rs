//! In flight: request octets in the write buffer of an upstream connection, in order. They are
//! released to the client when they have left.

use std::collections::VecDeque;

use crate::proxy::keys::StreamKey;
use crate::wire::frame::StreamId;

/// Octets in one entry, above which the next octets of the same stream get an entry of their own.
const ENTRY_MAX: u32 = 16 * 1024;

/// Request octets in the write buffer of one upstream connection.
#[derive(Default)]
pub(crate) struct InFlight(VecDeque<Entry>);

/// Octets of one stream, next to each other in the write buffer.
struct Entry {
    flushed: Flushed,
    /// Their end in the write buffer, see `WriteBuffer::end_offset`.
    end: u64,
}

/// Octets that have left, and are to be released to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// The client's stream.
    pub(crate) id: StreamId,
    pub(crate) key: StreamKey,
    pub(crate) octets: u32,
}

impl InFlight {
    /// Records octets that end at this offset of the write buffer.
    pub(crate) fn record(&mut self, octets: Flushed, end: u64) {
        match self.0.back_mut().filter(|last| last.flushed.id == octets.id) {
            Some(last) if last.flushed.octets < ENTRY_MAX => {
                last.flushed.octets = last.flushed.octets.saturating_add(octets.octets);
                last.end = end;
            }
            Some(_) | None => self.0.push_back(Entry { flushed: octets, end }),
        }
    }

    /// Whether octets have left that are not released yet. `has_left` tells for an offset of the
    /// write buffer whether the octets before it have left.
    pub(crate) fn has_flushed(&self, has_left: impl Fn(u64) -> bool) -> bool {
        self.0.front().is_some_and(|first| has_left(first.end))
    }

    /// Removes the next octets that have left.
    pub(crate) fn pop_flushed(&mut self, has_left: impl Fn(u64) -> bool) -> Option<Flushed> {
        self.0.pop_front_if(|first| has_left(first.end)).map(|first| first.flushed)
    }

    /// Whether octets of a stream are in the write buffer.
    pub(crate) fn contains(&self, id: StreamId) -> bool {
        self.0.iter().any(|entry| entry.flushed.id == id)
    }

    /// Releases memory. Must be called on idle connections only.
    pub(crate) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::keys::Key;

    fn octets(id: u32, octets: u32) -> Flushed {
        let id = StreamId::new(id);
        Flushed { id, key: StreamKey::from_index(0), octets }
    }

    #[test]
    fn octets_are_released_in_order_once_they_have_left() {
        let mut in_flight = InFlight::default();
        in_flight.record(octets(1, 10), 100);
        in_flight.record(octets(3, 20), 200);
        in_flight.record(octets(1, 30), 300);
        let left = |written: u64| move |end: u64| end <= written;
        assert!(!in_flight.has_flushed(left(99)));
        assert_eq!(in_flight.pop_flushed(left(99)), None);
        assert!(in_flight.has_flushed(left(250)));
        assert_eq!(in_flight.pop_flushed(left(250)), Some(octets(1, 10)));
        assert_eq!(in_flight.pop_flushed(left(250)), Some(octets(3, 20)));
        assert_eq!(in_flight.pop_flushed(left(250)), None);
        assert!(in_flight.contains(StreamId::new(1)) && !in_flight.contains(StreamId::new(3)));
    }

    #[test]
    fn consecutive_octets_of_one_stream_share_an_entry_up_to_its_limit() {
        let mut in_flight = InFlight::default();
        in_flight.record(octets(1, ENTRY_MAX - 1), 1);
        in_flight.record(octets(1, 5), 2);
        in_flight.record(octets(1, 7), 3);
        assert_eq!(in_flight.pop_flushed(|_| true), Some(octets(1, ENTRY_MAX + 4)));
        assert_eq!(in_flight.pop_flushed(|_| true), Some(octets(1, 7)));
    }
}
