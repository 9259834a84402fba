//! Stream states (RFC 9113, 5.1) and flow-control windows.
//!
//! The state of a closed stream is dropped. For the latest closed streams the cause of closing is
//! kept: it decides whether a late frame is legal or an error.

use std::collections::VecDeque;

use slab::Slab;

use crate::wire::frame::StreamId;

/// Maximum number of closed streams whose cause of closing is kept.
const RECENTLY_CLOSED_MAX: usize = 128;
/// Minimum number of hash chains in a table with streams; a power of two.
const CHAINS_MIN: usize = 16;
/// Marks the end of a hash chain.
const CHAIN_END: u32 = u32::MAX;

/// One open stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Stream {
    /// The identifier that the owner of the connection gave this stream.
    pub(in crate::wire) tag: u32,
    /// Octets of DATA that may be sent; negative after the peer reduced its initial window.
    pub(in crate::wire) send_window: i64,
    /// Octets of DATA that the peer may still send.
    pub(in crate::wire) recv_window: i64,
    /// Octets of the body still to come according to `content-length`.
    pub(in crate::wire) content_length_left: Option<u64>,
    /// Whether the peer has sent END_STREAM.
    pub(in crate::wire) remote_closed: bool,
    /// Whether END_STREAM was sent to the peer.
    pub(in crate::wire) local_closed: bool,
    /// Whether the owner knows this stream, from an event or because it opened it.
    pub(in crate::wire) known_to_owner: bool,
    /// Whether the final response head has arrived (client role).
    pub(in crate::wire) response_received: bool,
    /// Number of informational responses.
    pub(in crate::wire) informational_count: u8,
    /// Octets consumed but not yet returned to the peer by WINDOW_UPDATE.
    pub(in crate::wire) unreleased: u32,
    /// Growth of the window beyond its initial size, in octets.
    pub(in crate::wire) earned: u32,
    /// The latest measured round trip in which octets were forwarded.
    pub(in crate::wire) round_trip: u32,
    /// Octets forwarded in that round trip.
    pub(in crate::wire) forwarded_in_round_trip: u32,
    /// Octets forwarded since the window last grew.
    pub(in crate::wire) forwarded_since_growth: u32,
}

impl Stream {
    pub(in crate::wire) fn new(send: u32, receive: u32) -> Self {
        Self {
            tag: 0,
            send_window: i64::from(send),
            recv_window: i64::from(receive),
            content_length_left: None,
            remote_closed: false,
            local_closed: false,
            known_to_owner: false,
            response_received: false,
            informational_count: 0,
            unreleased: 0,
            earned: 0,
            round_trip: 0,
            forwarded_in_round_trip: 0,
            forwarded_since_growth: 0,
        }
    }
}

/// The cause of closing of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum ClosedBy {
    /// END_STREAM in both directions: no frame may follow.
    EndStream,
    /// RST_STREAM from the peer: no frame may follow.
    RemoteReset,
    /// RST_STREAM sent to the peer: frames already in flight are legal.
    LocalReset,
    /// A malformed request, answered before its end: RST_STREAM follows at END_STREAM.
    ResetPending,
}

/// The streams of one connection.
///
/// A hash table with chaining. Stream identifiers are consecutive, so their low bits spread them
/// evenly over the chains. A peer that skips identifiers can put all of its streams into one chain;
/// MAX_CONCURRENT_STREAMS then limits the length of a search.
#[derive(Debug, Default)]
pub(in crate::wire) struct Streams {
    entries: Slab<Entry>,
    /// The first entry of each chain; the length is zero or a power of two.
    chains: Vec<u32>,
    recently_closed: VecDeque<(StreamId, ClosedBy)>,
    /// Whether any stream was closed otherwise than by END_STREAM in both directions.
    any_reset: bool,
}

/// A stream and the next entry of its chain.
#[derive(Debug)]
struct Entry {
    id: StreamId,
    next: u32,
    stream: Stream,
}

impl Streams {
    pub(in crate::wire) fn open(&mut self, id: StreamId, stream: Stream) {
        if self.entries.len() >= self.chains.len() {
            self.grow();
        }
        let key = self.entries.insert(Entry { id, next: CHAIN_END, stream });
        self.link(key, id);
    }

    pub(in crate::wire) fn find(&self, id: StreamId) -> Option<&Stream> {
        let mut at = *self.chains.get(self.chain(id))?;
        loop {
            let link = self.entries.get(slab_key(at))?;
            if link.id == id {
                return Some(&link.stream);
            }
            at = link.next;
        }
    }

    pub(in crate::wire) fn find_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let mut at = *self.chains.get(self.chain(id))?;
        while self.entries.get(slab_key(at))?.id != id {
            at = self.entries.get(slab_key(at))?.next;
        }
        self.entries.get_mut(slab_key(at)).map(|link| &mut link.stream)
    }

    pub(in crate::wire) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::wire) fn close(&mut self, id: StreamId, how: ClosedBy) -> Option<Stream> {
        let stream = self.unlink(id);
        self.record_closed(id, how);
        stream
    }

    /// The index of the chain of a stream.
    fn chain(&self, id: StreamId) -> usize {
        slab_key(id.number() >> 1) & self.chains.len().wrapping_sub(1)
    }

    /// Inserts a stream at the front of its chain.
    fn link(&mut self, key: usize, id: StreamId) {
        let chain = self.chain(id);
        let (Some(front), Some(link)) = (self.chains.get_mut(chain), self.entries.get_mut(key))
        else {
            debug_assert!(false, "the chain or the entry of a new stream is missing");
            return;
        };
        link.next = *front;
        *front = u32::try_from(key).unwrap_or(CHAIN_END);
    }

    /// Removes a stream from its chain.
    fn unlink(&mut self, id: StreamId) -> Option<Stream> {
        let chain = self.chain(id);
        let at = *self.chains.get(chain)?;
        let mut before = None;
        let mut key = slab_key(at);
        while self.entries.get(key)?.id != id {
            before = Some(key);
            key = slab_key(self.entries.get(key)?.next);
        }
        let Entry { next, stream, .. } = self.entries.try_remove(key)?;
        match before {
            Some(before) => self.entries.get_mut(before)?.next = next,
            None => *self.chains.get_mut(chain)? = next,
        }
        Some(stream)
    }

    /// Doubles the number of chains.
    fn grow(&mut self) {
        let most = self.chains.len().saturating_mul(2).max(CHAINS_MIN);
        self.chains.clear();
        self.chains.resize(most, CHAIN_END);
        let all: Vec<_> = self.entries.iter().map(|(key, link)| (key, link.id)).collect();
        for (key, id) in all {
            self.link(key, id);
        }
    }

    /// Records the cause of closing, also of a stream that was refused before it opened.
    pub(in crate::wire) fn record_closed(&mut self, id: StreamId, how: ClosedBy) {
        self.any_reset |= how != ClosedBy::EndStream;
        if self.recently_closed.len() >= RECENTLY_CLOSED_MAX {
            self.recently_closed.pop_front();
        }
        self.recently_closed.push_back((id, how));
    }

    pub(in crate::wire) fn closed_by(&self, id: StreamId) -> Option<ClosedBy> {
        self.recently_closed.iter().rev().find(|(ended, _)| *ended == id).map(|(_, how)| *how)
    }

    /// Changes [`ClosedBy::ResetPending`] to [`ClosedBy::LocalReset`]; `false` if none is pending.
    pub(in crate::wire) fn take_pending_reset(&mut self, id: StreamId) -> bool {
        let mut rejected = self.recently_closed.iter_mut().rev().filter(|(ended, _)| *ended == id);
        match rejected.next() {
            Some((_, how @ ClosedBy::ResetPending)) => {
                *how = ClosedBy::LocalReset;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether no stream is open, and every stream so far was closed by END_STREAM on both sides.
    pub(in crate::wire) fn none_open_or_reset(&self) -> bool {
        self.entries.is_empty() && !self.any_reset
    }

    /// Reduces the receive window of every stream with an identifier below `before`.
    pub(in crate::wire) fn shrink_windows(&mut self, before: StreamId, by: i64) {
        for (_, link) in &mut self.entries {
            if link.id < before {
                link.stream.recv_window = link.stream.recv_window.saturating_sub(by);
            }
        }
    }

    pub(in crate::wire) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.entries.iter_mut().map(|(_, link)| (link.id, &mut link.stream))
    }

    /// Frees memory that an idle connection does not need.
    pub(in crate::wire) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = Slab::new();
            self.chains = Vec::new();
            self.recently_closed.truncate(RECENTLY_CLOSED_MAX);
            self.recently_closed.shrink_to_fit();
        }
    }
}

/// The slab key of a chain link; [`CHAIN_END`] has no entry.
fn slab_key(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn stream(tag: u32) -> Stream {
        Stream { tag, ..Stream::new(1, 1) }
    }

    proptest! {
        /// Consecutive identifiers, and identifiers that all fall into one chain.
        #[test]
        fn the_table_of_streams_behaves_like_a_map(
            steps in prop::collection::vec((0_u32..90, prop::bool::ANY), 0..300),
        ) {
            let mut streams = Streams::default();
            let mut map = BTreeMap::new();
            for (tag, (number, is_far)) in (0..).zip(steps) {
                let factor = if is_far { 1_024 } else { 1 };
                let id = StreamId::new(number * factor * 2 + 1);
                if map.remove(&id).is_some() {
                    prop_assert!(streams.close(id, ClosedBy::EndStream).is_some());
                } else {
                    streams.open(id, stream(tag));
                    map.insert(id, tag);
                }
                prop_assert_eq!(streams.find(id).map(|it| it.tag), map.get(&id).copied());
                prop_assert_eq!(streams.find_mut(id).map(|it| it.tag), map.get(&id).copied());
                prop_assert_eq!(streams.count(), map.len());
            }
            let all: BTreeMap<_, _> =
                streams.iter_mut().map(|(id, stream)| (id, stream.tag)).collect();
            prop_assert_eq!(&all, &map);
            for (id, tag) in map {
                prop_assert_eq!(streams.close(id, ClosedBy::EndStream).map(|it| it.tag), Some(tag));
                prop_assert!(streams.close(id, ClosedBy::EndStream).is_none());
            }
            streams.shrink();
            prop_assert!(streams.find(StreamId::new(1)).is_none());
        }
    }
}
