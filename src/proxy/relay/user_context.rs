//! User context: writes the authenticated user into every message of a request.
//!
//! Octets that came before the call was admitted were buffered as they came, and are rewritten
//! then. Without an authenticated user nothing is rewritten.

use std::ops::Range;
use std::rc::Rc;

use sconce_filters::{EndReason, Identity, Refusal};

use crate::grpc::user_context::{Insertion, OutputChunk, UserContextField, UserContextWriter};
use crate::proxy::keys::StreamKey;
use crate::proxy::relay::Relay;
use crate::proxy::stream::expiry::TokenExpiry;
use crate::proxy::stream::grace::TokenStanding;
use crate::proxy::stream::{ActiveStream, PendingRewrite};
use crate::telemetry::PeerSide;

/// Limit for one connection, in multiples of the largest inflated message: compressed octets grow a
/// thousandfold, so windows alone are no limit.
const CONNECTION_INFLATED_MAX: usize = 4;
/// Limit per worker, in multiples of the largest inflated message; a client can open many
/// connections.
const WORKER_INFLATED_MAX: usize = 64;

/// The location of octets to rewrite.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkSource {
    /// In the worker's read buffer, from which they can be written without a copy.
    ReadBuffer,
    /// In a buffer of the stream, from which they are copied.
    Owned,
}

/// The next step of a rewrite.
struct NextChunk {
    /// `None` when the input is used up.
    chunk: Option<OutputChunk>,
    /// Input octets that it consumes.
    taken: usize,
    /// Whether it is the last one of the request.
    last: bool,
}

impl Relay {
    /// Begins to write the authenticated user into the messages of this call.
    pub(super) fn begin_user_context(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let Some(caller) = stream.call.attributes().identity.clone() else { return };
        let encoding = stream.request.as_ref().map(|request| request.encoding);
        let (policy, tail) = (stream.snapshot.user_context, self.user_context_field(&caller));
        let Some(stream) = self.streams.get_mut(key) else { return };
        let leeway = stream.snapshot.token_leeway;
        let writer = UserContextWriter::new(policy, tail, encoding.unwrap_or_default());
        stream.token_standing = TokenStanding::of(&stream.call, leeway);
        stream.user_context = Some(writer);
        stream.token_expiry = TokenExpiry::of(&stream.call, leeway);
        let until = stream.token_expiry.as_ref().map(TokenExpiry::expires_at);
        let octets = stream.upload.take_buffered();
        let end = std::mem::take(&mut stream.is_upload_ended);
        stream.pending_rewrite = PendingRewrite { octets, end };
        if let Some(until) = until {
            self.schedule(until);
        }
        self.resume_upload(key);
    }

    /// The encoded user context of a caller. Cached for the last caller.
    fn user_context_field(&mut self, caller: &Rc<Identity>) -> UserContextField {
        if let Some((known, tail)) = &self.last_caller
            && Rc::ptr_eq(known, caller)
        {
            return tail.clone();
        }
        let tail = UserContextField::new(caller.user(), caller.display_name());
        self.last_caller = Some((Rc::clone(caller), tail.clone()));
        tail
    }

    /// Rewrites octets that were read just now and forwards them, as far as the upstream accepts
    /// them. Buffers the others.
    pub(super) fn rewrite(
        &mut self,
        key: StreamKey,
        (octets, end): (Range<usize>, bool),
        scratch: &mut [u8],
    ) {
        // An end without octets needs no window, and the call does not begin without it.
        let is_end = octets.is_empty()
            && !self.streams.get(key).is_some_and(ActiveStream::has_buffered_upload);
        let rest = match self.must_buffer(key) && !is_end {
            true => Some(octets),
            false => self.rewrite_some(key, (octets, end), scratch, ChunkSource::ReadBuffer),
        };
        if let (Some(rest), Some(stream)) = (rest, self.streams.get_mut(key)) {
            let octets = scratch.get(rest).unwrap_or_default();
            stream.pending_rewrite.octets.push(octets);
            stream.pending_rewrite.end |= end;
        }
    }

    /// Rewrites at most `most` buffered octets. Returns false if there were none.
    pub(super) fn resume_rewrite(&mut self, key: StreamKey, most: usize) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let PendingRewrite { mut octets, end } = std::mem::take(&mut stream.pending_rewrite);
        if octets.is_empty() && !end {
            return false;
        }
        let piece = octets.len().min(most);
        let is_last = piece == octets.len();
        let rest =
            self.rewrite_some(key, (0..piece, end && is_last), &mut octets, ChunkSource::Owned);
        let Some(stream) = self.streams.get_mut(key) else { return false };
        octets.advance(rest.as_ref().map_or(piece, |rest| rest.start));
        let end = end && (rest.is_some() || !is_last);
        stream.pending_rewrite = PendingRewrite { octets, end };
        true
    }

    /// Rewrites and forwards these octets until the upstream accepts no more. Returns the octets
    /// that are left.
    fn rewrite_some(
        &mut self,
        key: StreamKey,
        (mut rest, end): (Range<usize>, bool),
        octets: &mut [u8],
        source: ChunkSource,
    ) -> Option<Range<usize>> {
        // A frame header is written in front of its payload: the first frame has headroom for it,
        // and each next one only the octets that were borrowed just before. So only the first chunk
        // may be borrowed.
        let mut is_copied = source == ChunkSource::Owned;
        loop {
            let next = match self.next_chunk(key, (&mut rest, end), octets) {
                Ok(next) => next?,
                Err(refusal) => {
                    self.refuse(key, &refusal, EndReason::Refused);
                    return None;
                }
            };
            let NextChunk { chunk: piece, taken, last } = next;
            match piece {
                Some(piece) => {
                    let is_lent = matches!(piece, OutputChunk::Forward(_)) && !is_copied;
                    self.send_chunk(key, (piece, taken, last), octets, is_lent)?;
                    is_copied |= is_lent;
                }
                None => {
                    self.account_rewrite(key, taken, 0);
                    if last {
                        self.send_upload(key, rest.clone(), true, octets);
                    }
                    break;
                }
            }
            if last {
                break;
            }
            let stream = self.streams.get(key)?;
            if !rest.is_empty() && stream.upload.has_buffered() {
                return Some(rest);
            }
        }
        let stream = self.streams.get(key)?;
        if stream.inflated_bytes() > 0 {
            self.refuse_if_over_inflated_limit(key);
        }
        None
    }

    /// Forwards a chunk, or buffers it. `None` if the call is refused instead.
    fn send_chunk(
        &mut self,
        key: StreamKey,
        (piece, taken, last): (OutputChunk, usize, bool),
        octets: &mut [u8],
        is_lent: bool,
    ) -> Option<()> {
        match piece {
            OutputChunk::Forward(range) => {
                self.account_rewrite(key, taken, range.len());
                if is_lent {
                    self.send_upload(key, range, last, octets);
                } else {
                    self.send_upload_copied(
                        key,
                        [octets.get(range).unwrap_or_default(), &[]],
                        last,
                    );
                }
            }
            OutputChunk::ForwardWithUserContext(range, tail) => {
                let message = octets.get(range).unwrap_or_default();
                let stamp = tail.octets();
                self.account_rewrite(key, taken, message.len().saturating_add(stamp.len()));
                self.send_upload_copied(key, [message, stamp], last);
            }
            OutputChunk::Insert(added) => {
                let is_inflated = matches!(added, Insertion::Message(_));
                if is_inflated && self.refuse_if_over_inflated_limit(key) {
                    return None;
                }
                self.account_rewrite(key, taken, added.len());
                self.send_upload_copied(key, [&added, &[]], last);
                if is_inflated {
                    self.update_inflated();
                }
            }
        }
        Some(())
    }

    /// The writer of a stream that is being rewritten.
    fn writer(&mut self, key: StreamKey) -> Option<&mut UserContextWriter> {
        let writer = self.streams.get_mut(key).and_then(|stream| stream.user_context.as_mut());
        if writer.is_none() {
            self.ctx.internal_error("writer_missing");
        }
        writer
    }

    /// The next chunk of the input, after the authorization checks.
    fn next_chunk(
        &mut self,
        key: StreamKey,
        (rest, end): (&mut Range<usize>, bool),
        scratch: &mut [u8],
    ) -> Result<Option<NextChunk>, Refusal> {
        let Some(writer) = self.writer(key) else { return Ok(None) };
        let before = rest.len();
        let piece = writer.next_chunk(scratch, rest)?;
        if piece.as_ref().is_some_and(OutputChunk::ends_message) {
            self.check_complete_message(key)?;
        }
        let Some(writer) = self.writer(key) else { return Ok(None) };
        let taken = before.saturating_sub(rest.len());
        let last = end && rest.start >= rest.end && !writer.expects_more();
        if last {
            writer.end()?;
            self.recheck(key)?;
        }
        Ok(Some(NextChunk { chunk: piece, taken, last }))
    }

    /// Refuses a call whose inflated message would exceed the limit of the connection or of the
    /// worker. Returns true if it was refused.
    fn refuse_if_over_inflated_limit(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get(key) else { return false };
        let most = stream.snapshot.user_context.compressed.buffer_max();
        let inflated = self.inflated_bytes();
        self.ctx.inflated.set(&mut self.inflated, inflated);
        let (guard, refusal) = if inflated > most.saturating_mul(CONNECTION_INFLATED_MAX) {
            ("inflated", UserContextWriter::over_connection_limit())
        } else if self.ctx.inflated.get() > most.saturating_mul(WORKER_INFLATED_MAX) {
            ("inflated_worker", UserContextWriter::over_worker_limit())
        } else {
            return false;
        };
        self.ctx.metrics.abuse_limit_exceeded(guard, PeerSide::Downstream);
        self.refuse(key, &refusal, EndReason::Refused);
        true
    }

    /// Updates the inflated octets of this connection in the worker's total.
    pub(super) fn update_inflated(&mut self) {
        let inflated = self.inflated_bytes();
        self.ctx.inflated.set(&mut self.inflated, inflated);
    }

    fn inflated_bytes(&self) -> usize {
        let inflated = self.streams.iter().map(|(_, stream)| {
            stream.inflated_bytes().saturating_add(stream.upload.buffered().len())
        });
        inflated.fold(0, usize::saturating_add)
    }

    /// Accounts for `came` input octets that became `goes` output octets. Nothing is released for
    /// inserted octets; octets that are held back are released at once, since they will not leave
    /// as they came.
    fn account_rewrite(&mut self, key: StreamKey, came: usize, goes: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let held = stream.upload.rewritten(came, goes);
        if held > 0 {
            let octets = u32::try_from(held).unwrap_or(u32::MAX);
            self.downstream.wire.release_stream_capacity(stream.id, octets, 0, self.now);
        }
    }
}
