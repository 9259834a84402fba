//! Streams: the states of RFC 9113, 5.1, and their credit.
//!
//! A stream that is closed is forgotten but for a short memory of how it ended, which decides
//! whether a late frame is an honest crossing or a fault.

use std::collections::VecDeque;

use slab::Slab;

use crate::wire::frame::StreamId;

/// Closed streams that are remembered.
const RECENTLY_CLOSED_MAX: usize = 128;
/// Chains of a table that holds any streams at all, at least; a power of two.
const CHAINS_MIN: usize = 16;
/// The end of a chain.
const CHAIN_END: u32 = u32::MAX;

/// One open stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Stream {
    /// What the owner of the connection calls this stream.
    pub(in crate::wire) tag: u32,
    /// Octets of DATA that we may send; negative after the peer shrank its window.
    pub(in crate::wire) send_window: i64,
    /// Octets of DATA that the peer may send.
    pub(in crate::wire) recv_window: i64,
    /// Octets that `content-length` still promises.
    pub(in crate::wire) content_length_left: Option<u64>,
    /// Whether the peer has ended its side.
    pub(in crate::wire) remote_closed: bool,
    /// Whether we have ended ours.
    pub(in crate::wire) local_closed: bool,
    /// Whether the owner knows of this stream: it was told, or opened it itself.
    pub(in crate::wire) known_to_owner: bool,
    /// Whether the final answer has come (client role).
    pub(in crate::wire) response_received: bool,
    /// Informational answers that came.
    pub(in crate::wire) informational_count: u8,
    /// Octets whose credit the peer has not got back yet.
    pub(in crate::wire) unreleased: u32,
    /// Credit beyond the floor that this stream has earned.
    pub(in crate::wire) earned: u32,
    /// The latest round trip in which octets were passed on.
    pub(in crate::wire) round_trip: u32,
    /// Octets that were passed on in it.
    pub(in crate::wire) forwarded_in_round_trip: u32,
    /// Octets that were passed on since the window last grew.
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

/// How a stream ended that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum ClosedBy {
    /// Both sides ended it: nothing may follow.
    EndStream,
    /// The peer reset it: nothing may follow.
    RemoteReset,
    /// We reset it: frames that crossed our RST_STREAM are honest.
    LocalReset,
    /// We have answered a malformed request before it was whole, and reset it once it is.
    ResetPending,
}

/// The streams of one connection.
///
/// Numbers are given out in a row, so their last bits place them evenly into chains, of one stream
/// each as a rule. A peer that skips numbers can put all of its streams into one chain: a search
/// takes as many steps, then, as it may have streams.
#[derive(Debug, Default)]
pub(in crate::wire) struct Streams {
    entries: Slab<Entry>,
    /// Where each chain begins; as many as a power of two, or none.
    chains: Vec<u32>,
    recently_closed: VecDeque<(StreamId, ClosedBy)>,
    /// Whether any stream ended otherwise than by both sides.
    any_reset: bool,
}

/// A stream in its chain.
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

    /// The chain of a number.
    fn chain(&self, id: StreamId) -> usize {
        slab_key(id.number() >> 1) & self.chains.len().wrapping_sub(1)
    }

    /// Puts a stream at the front of its chain.
    fn link(&mut self, key: usize, id: StreamId) {
        let chain = self.chain(id);
        let (Some(front), Some(link)) = (self.chains.get_mut(chain), self.entries.get_mut(key))
        else {
            return;
        };
        link.next = *front;
        *front = u32::try_from(key).unwrap_or(CHAIN_END);
    }

    /// Takes a stream out of its chain.
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

    /// Makes twice as many chains.
    fn grow(&mut self) {
        let most = self.chains.len().saturating_mul(2).max(CHAINS_MIN);
        self.chains.clear();
        self.chains.resize(most, CHAIN_END);
        let all: Vec<_> = self.entries.iter().map(|(key, link)| (key, link.id)).collect();
        for (key, id) in all {
            self.link(key, id);
        }
    }

    /// Remembers a stream that never opened because we refused it at once.
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

    /// Whether a stream was [`Ended::Rejected`]; it counts as reset from now on.
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

    /// Whether there is no stream, and there was none that did not end by both sides.
    pub(in crate::wire) fn none_open_or_reset(&self) -> bool {
        self.entries.is_empty() && !self.any_reset
    }

    /// Takes credit from every stream that was opened before the one given.
    pub(in crate::wire) fn shrink_windows(&mut self, before: StreamId, by: i64) {
        for (_, link) in &mut self.entries {
            if link.id < before {
                link.stream.recv_window = link.stream.recv_window.saturating_sub(by);
            }
        }
    }

    pub(in crate::wire) fn ids(&self) -> impl Iterator<Item = (StreamId, u32)> {
        self.entries.iter().map(|(_, link)| (link.id, link.stream.tag))
    }

    pub(in crate::wire) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.entries.iter_mut().map(|(_, link)| (link.id, &mut link.stream))
    }

    /// Gives memory back that an idle connection does not need.
    pub(in crate::wire) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = Slab::new();
            self.chains = Vec::new();
            self.recently_closed.truncate(RECENTLY_CLOSED_MAX);
            self.recently_closed.shrink_to_fit();
        }
    }
}

/// A place in a table; that of nobody is not there.
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
        /// Numbers in a row, and numbers that all fall into one chain.
        #[test]
        fn streams_are_found_as_in_a_map(
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
            let all: BTreeMap<_, _> = streams.ids().collect();
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
