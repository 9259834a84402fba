//! Streams: the states of RFC 9113, 5.1, and their credit.
//!
//! A stream that is closed is forgotten but for a short memory of how it ended, which decides
//! whether a late frame is an honest crossing or a fault.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::wire::frame::StreamId;

/// Closed streams that are remembered.
const MEMORY: usize = 128;

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
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(in crate::wire) struct Streams {
    open: FxHashMap<StreamId, Stream>,
    ended: VecDeque<(StreamId, Ended)>,
    /// Whether any stream ended otherwise than by both sides.
    any_reset: bool,
}

impl Streams {
    pub(in crate::wire) fn open(&mut self, id: StreamId, stream: Stream) {
        self.open.insert(id, stream);
    }

    pub(in crate::wire) fn find(&self, id: StreamId) -> Option<&Stream> {
        self.open.get(&id)
    }

    pub(in crate::wire) fn find_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.open.get_mut(&id)
    }

    pub(in crate::wire) fn count(&self) -> usize {
        self.open.len()
    }

    pub(in crate::wire) fn close(&mut self, id: StreamId, how: Ended) -> Option<Stream> {
        let stream = self.open.remove(&id);
        self.remember(id, how);
        stream
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

    /// Whether there is no stream, and there was none that did not end by both sides.
    pub(in crate::wire) fn are_spotless(&self) -> bool {
        self.open.is_empty() && !self.any_reset
    }

    pub(in crate::wire) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.open.values_mut()
    }

    /// Takes credit from every stream that was opened before the one given.
    pub(in crate::wire) fn shrink_windows(&mut self, before: StreamId, by: i64) {
        for (id, stream) in &mut self.open {
            if *id < before {
                stream.receive = stream.receive.saturating_sub(by);
            }
        }
    }

    pub(in crate::wire) fn ids(&self) -> impl Iterator<Item = (StreamId, u32)> {
        self.open.iter().map(|(id, stream)| (*id, stream.tag))
    }

    /// Gives memory back that an idle connection does not need.
    pub(in crate::wire) fn shrink(&mut self) {
        if self.open.is_empty() {
            self.open = FxHashMap::default();
            self.ended.truncate(MEMORY);
            self.ended.shrink_to_fit();
        }
    }
}
