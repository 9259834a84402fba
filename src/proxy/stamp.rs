//! Stamp: the verified caller is written into every message that goes up.
//!
//! What came before the call was admitted was parked as it came, and is stamped then. Where no room
//! asks who calls, nobody is written into anything.

use std::ops::Range;
use std::rc::Rc;

use sconce_filters::{Ending, Identity, Refusal};

use crate::grpc::stamp::{Addition, Piece, Stamper, Tail};
use crate::proxy::exchange::{Exchange, Unstamped};
use crate::proxy::lease::Lease;
use crate::proxy::relay::Relay;
use crate::proxy::tenure::Tenure;
use crate::telemetry::Guarded;

/// So many of the longest inflated messages may be kept for one connection before no more are
/// begun: what a client sends grows a thousandfold, so its windows alone are no bound.
const INFLATED_MAX: usize = 4;
/// And so many for all connections of a thread, since each client may have many connections.
const WORKER_INFLATED_MAX: usize = 64;

/// Where octets lie that are to be stamped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In the thread's buffer, out of which they can be written.
    Read,
    /// In memory of their own, which they are copied from.
    Kept,
}

/// What a stamper makes of octets that came.
struct Next {
    /// `None` when they are used up.
    piece: Option<Piece>,
    /// How many of them are in it.
    taken: usize,
    /// Whether nothing comes behind it.
    last: bool,
}

impl Relay {
    /// From now on the verified caller is written into the messages of this call.
    pub(super) fn begin_stamp(&mut self, tag: usize) {
        let Some(exchange) = self.exchanges.get(tag) else { return };
        let Some(caller) = exchange.call.slots().identity.clone() else { return };
        let encoding = exchange.asked.as_ref().map(|asked| asked.encoding);
        let (policy, tail) = (exchange.snapshot.stamp, self.tail(&caller));
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        let slack = exchange.snapshot.slack;
        let stamper = Stamper::new(policy, tail, encoding.unwrap_or_default());
        exchange.tenure = Tenure::of(&exchange.call, slack);
        exchange.stamper = Some(stamper);
        exchange.lease = Lease::of(&exchange.call, slack);
        let until = exchange.lease.as_ref().map(|lease| lease.until);
        let octets = std::mem::take(&mut exchange.up.parked);
        let end = std::mem::take(&mut exchange.uploaded);
        exchange.unstamped = Unstamped { octets, end };
        if let Some(until) = until {
            self.wake_by(until);
        }
        self.resume_upload(tag);
    }

    /// The stamp of a caller: the last one's, if that is the same.
    fn tail(&mut self, caller: &Rc<Identity>) -> Tail {
        if let Some((known, tail)) = &self.last_caller
            && Rc::ptr_eq(known, caller)
        {
            return tail.clone();
        }
        let tail = Tail::new(caller.user(), caller.display_name());
        self.last_caller = Some((Rc::clone(caller), tail.clone()));
        tail
    }

    /// Passes on what the stamper makes of octets that were read just now, as far as the driver
    /// takes it. The others wait.
    pub(super) fn stamp(
        &mut self,
        tag: usize,
        (octets, end): (Range<usize>, bool),
        scratch: &mut [u8],
    ) {
        // An end without octets needs no window, and the call does not begin without it.
        let is_end = octets.is_empty() && !self.exchanges.get(tag).is_some_and(Exchange::is_behind);
        let rest = match self.must_wait(tag) && !is_end {
            true => Some(octets),
            false => self.stamp_some(tag, (octets, end), scratch, Source::Read),
        };
        if let (Some(rest), Some(exchange)) = (rest, self.exchanges.get_mut(tag)) {
            let octets = scratch.get(rest).unwrap_or_default();
            exchange.unstamped.octets.push(octets);
            exchange.unstamped.end |= end;
        }
    }

    /// Goes on with at most so much of what waits for its stamp. Says whether there was any.
    pub(super) fn stamp_rest(&mut self, tag: usize, most: usize) -> bool {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return false };
        let Unstamped { mut octets, end } = std::mem::take(&mut exchange.unstamped);
        if octets.is_empty() && !end {
            return false;
        }
        let piece = octets.len().min(most);
        let is_last = piece == octets.len();
        let rest = self.stamp_some(tag, (0..piece, end && is_last), &mut octets, Source::Kept);
        let Some(exchange) = self.exchanges.get_mut(tag) else { return false };
        octets.advance(rest.as_ref().map_or(piece, |rest| rest.start));
        let end = end && (rest.is_some() || !is_last);
        exchange.unstamped = Unstamped { octets, end };
        true
    }

    /// Passes on what the stamper makes of these octets until the driver takes no more: those that
    /// are left then.
    fn stamp_some(
        &mut self,
        tag: usize,
        (mut rest, end): (Range<usize>, bool),
        octets: &mut [u8],
        source: Source,
    ) -> Option<Range<usize>> {
        // The head of a frame is written before what it carries: there is a place for the first,
        // and after that only what was lent a moment ago.
        let mut is_copied = source == Source::Kept;
        loop {
            let next = match self.next_piece(tag, (&mut rest, end), octets) {
                Ok(next) => next?,
                Err(refusal) => {
                    self.refuse(tag, &refusal, Ending::Refused);
                    return None;
                }
            };
            let Next { piece, taken, last } = next;
            match piece {
                Some(piece) => {
                    let is_lent = matches!(piece, Piece::Pass(_)) && !is_copied;
                    self.send_piece(tag, (piece, taken, last), octets, is_lent)?;
                    is_copied |= is_lent;
                }
                None => {
                    self.exchange_credit(tag, taken, 0);
                    if last {
                        self.send_up(tag, rest.clone(), true, octets);
                    }
                    break;
                }
            }
            if last {
                break;
            }
            let exchange = self.exchanges.get(tag)?;
            if !rest.is_empty() && !exchange.up.parked.is_empty() {
                return Some(rest);
            }
        }
        let exchange = self.exchanges.get(tag)?;
        if exchange.held() > 0 {
            self.is_crowded(tag);
        }
        None
    }

    /// Sends a piece, or parks it. `None` if the call is turned away instead.
    fn send_piece(
        &mut self,
        tag: usize,
        (piece, taken, last): (Piece, usize, bool),
        octets: &mut [u8],
        is_lent: bool,
    ) -> Option<()> {
        match piece {
            Piece::Pass(range) => {
                self.exchange_credit(tag, taken, range.len());
                if is_lent {
                    self.send_up(tag, range, last, octets);
                } else {
                    self.add_up(tag, [octets.get(range).unwrap_or_default(), &[]], last);
                }
            }
            Piece::Stamped(range, tail) => {
                let message = octets.get(range).unwrap_or_default();
                let stamp = tail.octets();
                self.exchange_credit(tag, taken, message.len().saturating_add(stamp.len()));
                self.add_up(tag, [message, stamp], last);
            }
            Piece::Add(added) => {
                let is_inflated = matches!(added, Addition::Message(_));
                if is_inflated && self.is_crowded(tag) {
                    return None;
                }
                self.exchange_credit(tag, taken, added.len());
                self.add_up(tag, [&added, &[]], last);
                if is_inflated {
                    self.count_inflated();
                }
            }
        }
        Some(())
    }

    /// The next piece of what came, judged.
    fn next_piece(
        &mut self,
        tag: usize,
        (rest, end): (&mut Range<usize>, bool),
        scratch: &mut [u8],
    ) -> Result<Option<Next>, Refusal> {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return Ok(None) };
        let Some(stamper) = exchange.stamper.as_mut() else { return Ok(None) };
        let before = rest.len();
        let piece = stamper.next(scratch, rest)?;
        if piece.as_ref().is_some_and(Piece::ends_message) {
            self.complete(tag)?;
        }
        let Some(exchange) = self.exchanges.get_mut(tag) else { return Ok(None) };
        let Some(stamper) = exchange.stamper.as_mut() else { return Ok(None) };
        let taken = before.saturating_sub(rest.len());
        let last = end && rest.start >= rest.end && !stamper.owes();
        if last {
            stamper.end()?;
            self.recheck(tag)?;
        }
        Ok(Some(Next { piece, taken, last }))
    }

    /// Turns a call away whose inflated message would come on top of more than may be kept for
    /// drivers: of this connection, or of all that this thread has.
    fn is_crowded(&mut self, tag: usize) -> bool {
        let Some(exchange) = self.exchanges.get(tag) else { return false };
        let most = exchange.snapshot.stamp.compressed.kept_max();
        let kept = self.kept_for_drivers();
        self.worker.inflated.change(&mut self.inflated, kept);
        let (guard, refusal) = if kept > most.saturating_mul(INFLATED_MAX) {
            ("inflated", Stamper::crowded())
        } else if self.worker.inflated.get() > most.saturating_mul(WORKER_INFLATED_MAX) {
            ("inflated_worker", Stamper::crowded_out())
        } else {
            return false;
        };
        self.worker.metrics.guard_fired(guard, Guarded::Client);
        self.refuse(tag, &refusal, Ending::Refused);
        true
    }

    /// Sees to it that the worker knows how much is kept for drivers.
    pub(super) fn count_inflated(&mut self) {
        let kept = self.kept_for_drivers();
        self.worker.inflated.change(&mut self.inflated, kept);
    }

    fn kept_for_drivers(&self) -> usize {
        let kept = self
            .exchanges
            .iter()
            .map(|(_, exchange)| exchange.held().saturating_add(exchange.up.parked.len()));
        kept.fold(0, usize::saturating_add)
    }

    /// So many octets came, and so many go on in their place. What is added gives no credit back
    /// when it leaves; what is held back gives it at once, since it will not leave as it came.
    fn exchange_credit(&mut self, tag: usize, came: usize, goes: usize) {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        let goes = exchange.up.surplus.saturating_add(goes);
        exchange.up.surplus = goes.saturating_sub(came);
        let held = came.saturating_sub(goes);
        if held > 0 {
            let octets = u32::try_from(held).unwrap_or(u32::MAX);
            self.client.wire.left(exchange.stream, octets, 0, self.now);
        }
    }
}
