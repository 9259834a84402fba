//! Stamp: the verified caller is written into every message that goes up.
//!
//! What came before the call was admitted was parked as it came, and is stamped then. Where no room
//! asks who calls, nobody is written into anything.

use std::ops::Range;
use std::rc::Rc;

use sconce_filters::{EndReason, Identity, Refusal};

use crate::grpc::user_context::{Insertion, OutputChunk, UserContextField, UserContextWriter};
use crate::proxy::relay::Relay;
use crate::proxy::stream::expiry::TokenExpiry;
use crate::proxy::stream::grace::TokenStanding;
use crate::proxy::stream::{ActiveStream, PendingRewrite};
use crate::telemetry::PeerSide;

/// So many of the longest inflated messages may be kept for one connection before no more are
/// begun: what a client sends grows a thousandfold, so its windows alone are no bound.
const CONNECTION_INFLATED_MAX: usize = 4;
/// And so many for all connections of a thread, since each client may have many connections.
const WORKER_INFLATED_MAX: usize = 64;

/// Where octets lie that are to be stamped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkSource {
    /// In the thread's buffer, out of which they can be written.
    ReadBuffer,
    /// In memory of their own, which they are copied from.
    Owned,
}

/// What a stamper makes of octets that came.
struct NextChunk {
    /// `None` when they are used up.
    chunk: Option<OutputChunk>,
    /// How many of them are in it.
    taken: usize,
    /// Whether nothing comes behind it.
    last: bool,
}

impl Relay {
    /// From now on the verified caller is written into the messages of this call.
    pub(super) fn begin_user_context(&mut self, tag: usize) {
        let Some(exchange) = self.streams.get(tag) else { return };
        let Some(caller) = exchange.call.attributes().identity.clone() else { return };
        let encoding = exchange.request.as_ref().map(|asked| asked.encoding);
        let (policy, tail) = (exchange.snapshot.user_context, self.user_context_field(&caller));
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let slack = exchange.snapshot.token_leeway;
        let stamper = UserContextWriter::new(policy, tail, encoding.unwrap_or_default());
        exchange.token_standing = TokenStanding::of(&exchange.call, slack);
        exchange.user_context = Some(stamper);
        exchange.token_expiry = TokenExpiry::of(&exchange.call, slack);
        let until = exchange.token_expiry.as_ref().map(|lease| lease.expires_at);
        let octets = std::mem::take(&mut exchange.upload.buffered);
        let end = std::mem::take(&mut exchange.is_upload_ended);
        exchange.pending_rewrite = PendingRewrite { octets, end };
        if let Some(until) = until {
            self.schedule(until);
        }
        self.resume_upload(tag);
    }

    /// The stamp of a caller: the last one's, if that is the same.
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

    /// Passes on what the stamper makes of octets that were read just now, as far as the driver
    /// takes it. The others wait.
    pub(super) fn rewrite(
        &mut self,
        tag: usize,
        (octets, end): (Range<usize>, bool),
        scratch: &mut [u8],
    ) {
        // An end without octets needs no window, and the call does not begin without it.
        let is_end = octets.is_empty()
            && !self.streams.get(tag).is_some_and(ActiveStream::has_buffered_upload);
        let rest = match self.must_buffer(tag) && !is_end {
            true => Some(octets),
            false => self.rewrite_some(tag, (octets, end), scratch, ChunkSource::ReadBuffer),
        };
        if let (Some(rest), Some(exchange)) = (rest, self.streams.get_mut(tag)) {
            let octets = scratch.get(rest).unwrap_or_default();
            exchange.pending_rewrite.octets.push(octets);
            exchange.pending_rewrite.end |= end;
        }
    }

    /// Goes on with at most so much of what waits for its stamp. Says whether there was any.
    pub(super) fn resume_rewrite(&mut self, tag: usize, most: usize) -> bool {
        let Some(exchange) = self.streams.get_mut(tag) else { return false };
        let PendingRewrite { mut octets, end } = std::mem::take(&mut exchange.pending_rewrite);
        if octets.is_empty() && !end {
            return false;
        }
        let piece = octets.len().min(most);
        let is_last = piece == octets.len();
        let rest =
            self.rewrite_some(tag, (0..piece, end && is_last), &mut octets, ChunkSource::Owned);
        let Some(exchange) = self.streams.get_mut(tag) else { return false };
        octets.advance(rest.as_ref().map_or(piece, |rest| rest.start));
        let end = end && (rest.is_some() || !is_last);
        exchange.pending_rewrite = PendingRewrite { octets, end };
        true
    }

    /// Passes on what the stamper makes of these octets until the driver takes no more: those that
    /// are left then.
    fn rewrite_some(
        &mut self,
        tag: usize,
        (mut rest, end): (Range<usize>, bool),
        octets: &mut [u8],
        source: ChunkSource,
    ) -> Option<Range<usize>> {
        // The head of a frame is written before what it carries: there is a place for the first,
        // and after that only what was lent a moment ago.
        let mut is_copied = source == ChunkSource::Owned;
        loop {
            let next = match self.next_chunk(tag, (&mut rest, end), octets) {
                Ok(next) => next?,
                Err(refusal) => {
                    self.refuse(tag, &refusal, EndReason::Refused);
                    return None;
                }
            };
            let NextChunk { chunk: piece, taken, last } = next;
            match piece {
                Some(piece) => {
                    let is_lent = matches!(piece, OutputChunk::Forward(_)) && !is_copied;
                    self.send_chunk(tag, (piece, taken, last), octets, is_lent)?;
                    is_copied |= is_lent;
                }
                None => {
                    self.account_rewrite(tag, taken, 0);
                    if last {
                        self.send_upload(tag, rest.clone(), true, octets);
                    }
                    break;
                }
            }
            if last {
                break;
            }
            let exchange = self.streams.get(tag)?;
            if !rest.is_empty() && !exchange.upload.buffered.is_empty() {
                return Some(rest);
            }
        }
        let exchange = self.streams.get(tag)?;
        if exchange.inflated_bytes() > 0 {
            self.refuse_if_over_inflated_limit(tag);
        }
        None
    }

    /// Sends a piece, or parks it. `None` if the call is turned away instead.
    fn send_chunk(
        &mut self,
        tag: usize,
        (piece, taken, last): (OutputChunk, usize, bool),
        octets: &mut [u8],
        is_lent: bool,
    ) -> Option<()> {
        match piece {
            OutputChunk::Forward(range) => {
                self.account_rewrite(tag, taken, range.len());
                if is_lent {
                    self.send_upload(tag, range, last, octets);
                } else {
                    self.send_upload_copied(
                        tag,
                        [octets.get(range).unwrap_or_default(), &[]],
                        last,
                    );
                }
            }
            OutputChunk::ForwardWithUserContext(range, tail) => {
                let message = octets.get(range).unwrap_or_default();
                let stamp = tail.octets();
                self.account_rewrite(tag, taken, message.len().saturating_add(stamp.len()));
                self.send_upload_copied(tag, [message, stamp], last);
            }
            OutputChunk::Insert(added) => {
                let is_inflated = matches!(added, Insertion::Message(_));
                if is_inflated && self.refuse_if_over_inflated_limit(tag) {
                    return None;
                }
                self.account_rewrite(tag, taken, added.len());
                self.send_upload_copied(tag, [&added, &[]], last);
                if is_inflated {
                    self.update_inflated();
                }
            }
        }
        Some(())
    }

    /// The next piece of what came, judged.
    fn next_chunk(
        &mut self,
        tag: usize,
        (rest, end): (&mut Range<usize>, bool),
        scratch: &mut [u8],
    ) -> Result<Option<NextChunk>, Refusal> {
        let Some(exchange) = self.streams.get_mut(tag) else { return Ok(None) };
        let Some(stamper) = exchange.user_context.as_mut() else { return Ok(None) };
        let before = rest.len();
        let piece = stamper.next_chunk(scratch, rest)?;
        if piece.as_ref().is_some_and(OutputChunk::ends_message) {
            self.check_complete_message(tag)?;
        }
        let Some(exchange) = self.streams.get_mut(tag) else { return Ok(None) };
        let Some(stamper) = exchange.user_context.as_mut() else { return Ok(None) };
        let taken = before.saturating_sub(rest.len());
        let last = end && rest.start >= rest.end && !stamper.expects_more();
        if last {
            stamper.end()?;
            self.recheck(tag)?;
        }
        Ok(Some(NextChunk { chunk: piece, taken, last }))
    }

    /// Turns a call away whose inflated message would come on top of more than may be kept for
    /// drivers: of this connection, or of all that this thread has.
    fn refuse_if_over_inflated_limit(&mut self, tag: usize) -> bool {
        let Some(exchange) = self.streams.get(tag) else { return false };
        let most = exchange.snapshot.user_context.compressed.buffer_max();
        let kept = self.inflated_bytes();
        self.ctx.inflated.set(&mut self.inflated, kept);
        let (guard, refusal) = if kept > most.saturating_mul(CONNECTION_INFLATED_MAX) {
            ("inflated", UserContextWriter::over_connection_limit())
        } else if self.ctx.inflated.get() > most.saturating_mul(WORKER_INFLATED_MAX) {
            ("inflated_worker", UserContextWriter::over_worker_limit())
        } else {
            return false;
        };
        self.ctx.metrics.abuse_limit_exceeded(guard, PeerSide::Downstream);
        self.refuse(tag, &refusal, EndReason::Refused);
        true
    }

    /// Sees to it that the worker knows how much is kept for drivers.
    pub(super) fn update_inflated(&mut self) {
        let kept = self.inflated_bytes();
        self.ctx.inflated.set(&mut self.inflated, kept);
    }

    fn inflated_bytes(&self) -> usize {
        let kept = self.streams.iter().map(|(_, exchange)| {
            exchange.inflated_bytes().saturating_add(exchange.upload.buffered.len())
        });
        kept.fold(0, usize::saturating_add)
    }

    /// So many octets came, and so many go on in their place. What is added gives no credit back
    /// when it leaves; what is held back gives it at once, since it will not leave as it came.
    fn account_rewrite(&mut self, tag: usize, came: usize, goes: usize) {
        let Some(exchange) = self.streams.get_mut(tag) else { return };
        let goes = exchange.upload.surplus.saturating_add(goes);
        exchange.upload.surplus = goes.saturating_sub(came);
        let held = came.saturating_sub(goes);
        if held > 0 {
            let octets = u32::try_from(held).unwrap_or(u32::MAX);
            self.downstream.wire.release_stream_capacity(exchange.id, octets, 0, self.now);
        }
    }
}
