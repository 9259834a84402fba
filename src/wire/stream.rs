//! Streams: the states of RFC 9113, 5.1, and their credit.
//!
//! A stream that is closed is forgotten but for a short memory of how it ended, which decides
//! whether a late frame is an honest crossing or a fault.

use std::collections::VecDeque;

use slab::Slab;

use crate::wire::frame::StreamId;

/// Closed streams that are remembered.
const MEMORY: usize = 128;
/// Chains of a table that holds any streams at all, at least; a power of two.
const CHAINS_MIN: usize = 16;
/// The end of a chain.
const NOBODY: u32 = u32::MAX;

/// One open stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Stream {
    /// What the owner of the connection calls this stream.
    pub(in crate::wire) tag: u32,
    /// Octets of DATA that we may send; negative after the peer shrank its window.
    pub(in crate::wire) send: i64,
    /// Octets of DATA that the peer may send.
    pub(in crate::wire) receive: i64,
    /// Octets that `content-length` still promises.
    pub(in crate::wire) promised: Option<u64>,
    /// Whether the peer has ended its side.
    pub(in crate::wire) peer_ended: bool,
    /// Whether we have ended ours.
    pub(in crate::wire) we_ended: bool,
    /// Whether the owner knows of this stream: it was told, or opened it itself.
    pub(in crate::wire) known: bool,
    /// Whether the final answer has come (client role).
    pub(in crate::wire) answered: bool,
    /// Informational answers that came.
    pub(in crate::wire) interims: u8,
    /// Octets whose credit the peer has not got back yet.
    pub(in crate::wire) owed: u32,
    /// Credit beyond the floor that this stream has earned.
    pub(in crate::wire) extra: u32,
    /// The latest round trip in which octets were passed on.
    pub(in crate::wire) trip: u32,
    /// Octets that were passed on in it.
    pub(in crate::wire) passed: u32,
    /// Octets that were passed on since the window last grew.
    pub(in crate::wire) passed_all: u32,
}

impl Stream {
    pub(in crate::wire) fn new(send: u32, receive: u32) -> Self {
        Self {
            tag: 0,
            send: i64::from(send),
            receive: i64::from(receive),
            promised: None,
            peer_ended: false,
            we_ended: false,
            known: false,
            answered: false,
            interims: 0,
            owed: 0,
            extra: 0,
            trip: 0,
            passed: 0,
            passed_all: 0,
        }
    }
}

/// How a stream ended that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Ended {
    /// Both sides ended it: nothing may follow.
    Done,
    /// The peer reset it: nothing may follow.
    PeerReset,
    /// We reset it: frames that crossed our RST_STREAM are honest.
    WeReset,
    /// We have answered a malformed request before it was whole, and reset it once it is.
    Rejected,
}

/// The streams of one connection.
///
/// Numbers are given out in a row, so their last bits place them evenly into chains, of one stream
/// each as a rule. A peer that skips numbers can put all of its streams into one chain: a search
/// takes as many steps, then, as it may have streams.
#[derive(Debug, Default)]
pub(in crate::wire) struct Streams {
    open: Slab<Link>,
    /// Where each chain begins; as many as a power of two, or none.
    chains: Vec<u32>,
    ended: VecDeque<(StreamId, Ended)>,
    /// Whether any stream ended otherwise than by both sides.
    any_reset: bool,
}

/// A stream in its chain.
#[derive(Debug)]
struct Link {
    id: StreamId,
    next: u32,
    stream: Stream,
}

impl Streams {
    pub(in crate::wire) fn open(&mut self, id: StreamId, stream: Stream) {
        if self.open.len() >= self.chains.len() {
            self.grow();
        }
        let key = self.open.insert(Link { id, next: NOBODY, stream });
        self.link(key, id);
    }

    pub(in crate::wire) fn find(&self, id: StreamId) -> Option<&Stream> {
        let mut at = *self.chains.get(self.chain(id))?;
        loop {
            let link = self.open.get(place(at))?;
            if link.id == id {
                return Some(&link.stream);
            }
            at = link.next;
        }
    }

    pub(in crate::wire) fn find_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let mut at = *self.chains.get(self.chain(id))?;
        while self.open.get(place(at))?.id != id {
            at = self.open.get(place(at))?.next;
        }
        self.open.get_mut(place(at)).map(|link| &mut link.stream)
    }

    pub(in crate::wire) fn count(&self) -> usize {
        self.open.len()
    }

    pub(in crate::wire) fn close(&mut self, id: StreamId, how: Ended) -> Option<Stream> {
        let stream = self.take(id);
        self.remember(id, how);
        stream
    }

    /// The chain of a number.
    fn chain(&self, id: StreamId) -> usize {
        place(id.number() >> 1) & self.chains.len().wrapping_sub(1)
    }

    /// Puts a stream at the front of its chain.
    fn link(&mut self, key: usize, id: StreamId) {
        let chain = self.chain(id);
        let (Some(front), Some(link)) = (self.chains.get_mut(chain), self.open.get_mut(key)) else {
            return;
        };
        link.next = *front;
        *front = u32::try_from(key).unwrap_or(NOBODY);
    }

    /// Takes a stream out of its chain.
    fn take(&mut self, id: StreamId) -> Option<Stream> {
        let chain = self.chain(id);
        let at = *self.chains.get(chain)?;
        let mut before = None;
        let mut key = place(at);
        while self.open.get(key)?.id != id {
            before = Some(key);
            key = place(self.open.get(key)?.next);
        }
        let Link { next, stream, .. } = self.open.try_remove(key)?;
        match before {
            Some(before) => self.open.get_mut(before)?.next = next,
            None => *self.chains.get_mut(chain)? = next,
        }
        Some(stream)
    }

    /// Makes twice as many chains.
    fn grow(&mut self) {
        let most = self.chains.len().saturating_mul(2).max(CHAINS_MIN);
        self.chains.clear();
        self.chains.resize(most, NOBODY);
        let all: Vec<_> = self.open.iter().map(|(key, link)| (key, link.id)).collect();
        for (key, id) in all {
            self.link(key, id);
        }
    }

    /// Remembers a stream that never opened because we refused it at once.
    pub(in crate::wire) fn remember(&mut self, id: StreamId, how: Ended) {
        self.any_reset |= how != Ended::Done;
        if self.ended.len() >= MEMORY {
            self.ended.pop_front();
        }
        self.ended.push_back((id, how));
    }

    pub(in crate::wire) fn ended(&self, id: StreamId) -> Option<Ended> {
        self.ended.iter().rev().find(|(ended, _)| *ended == id).map(|(_, how)| *how)
    }

    /// Whether a stream was [`Ended::Rejected`]; it counts as reset from now on.
    pub(in crate::wire) fn settle_rejected(&mut self, id: StreamId) -> bool {
        let mut rejected = self.ended.iter_mut().rev().filter(|(ended, _)| *ended == id);
        match rejected.next() {
            Some((_, how @ Ended::Rejected)) => {
                *how = Ended::WeReset;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether there is no stream, and there was none that did not end by both sides.
    pub(in crate::wire) fn are_spotless(&self) -> bool {
        self.open.is_empty() && !self.any_reset
    }

    /// Takes credit from every stream that was opened before the one given.
    pub(in crate::wire) fn shrink_windows(&mut self, before: StreamId, by: i64) {
        for (_, link) in &mut self.open {
            if link.id < before {
                link.stream.receive = link.stream.receive.saturating_sub(by);
            }
        }
    }

    pub(in crate::wire) fn ids(&self) -> impl Iterator<Item = (StreamId, u32)> {
        self.open.iter().map(|(_, link)| (link.id, link.stream.tag))
    }

    pub(in crate::wire) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.open.iter_mut().map(|(_, link)| (link.id, &mut link.stream))
    }

    /// Gives memory back that an idle connection does not need.
    pub(in crate::wire) fn shrink(&mut self) {
        if self.open.is_empty() {
            self.open = Slab::new();
            self.chains = Vec::new();
            self.ended.truncate(MEMORY);
            self.ended.shrink_to_fit();
        }
    }
}

/// A place in a table; that of nobody is not there.
fn place(at: u32) -> usize {
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
                    prop_assert!(streams.close(id, Ended::Done).is_some());
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
                prop_assert_eq!(streams.close(id, Ended::Done).map(|it| it.tag), Some(tag));
                prop_assert!(streams.close(id, Ended::Done).is_none());
            }
            streams.shrink();
            prop_assert!(streams.find(StreamId::new(1)).is_none());
        }
    }
}
