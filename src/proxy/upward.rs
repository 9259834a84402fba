//! Upward: what a client's frames mean for its exchanges, and bodies on their way to drivers.

use std::ops::Range;

use bytes::Buf;
use sconce_filters::{Code, Ending};

use crate::proxy::driver::{Driver, Line};
use crate::proxy::exchange::Exchange;
use crate::proxy::leg::Leg;
use crate::proxy::relay::Relay;
use crate::wire::connection::Event;
use crate::wire::fault;
use crate::wire::frame::StreamId;

/// Octets that may wait in a leg's outbox; what comes on top is parked with its stream.
const OUT_MAX: usize = 256 * 1024;
/// Octets that are taken from a parked body at one time.
pub(super) const PIECE: usize = 16 * 1024;

impl Relay {
    /// Answers one event of the client; `from` is where its octets begin in `scratch`. Says
    /// whether more may follow.
    pub(super) fn on_client(&mut self, event: Event, from: usize, scratch: &mut [u8]) -> bool {
        match event {
            Event::Starved => return false,
            Event::Settings => self.pass_settings(),
            Event::Opened { stream, end } => self.open(stream, end),
            Event::Data { tag, octets, end } => {
                self.upload(key(tag), behind(from, &octets), end, scratch);
            }
            Event::Trailers { tag } => self.upload(key(tag), from..from, true, scratch),
            Event::Reset { tag, .. } | Event::Broken { tag, .. } => {
                self.drop_exchange(key(tag), Code::Cancelled, Ending::Cancelled);
            }
            Event::Credit { tag: Some(tag) } => {
                self.sync_window(key(tag));
                self.resume_download(key(tag));
            }
            Event::Credit { tag: None } => self.resume_downloads(),
            Event::Pong => self.hear_crossing(),
            Event::Answered { .. } | Event::Interim { .. } | Event::GoAway { .. } => {}
        }
        true
    }

    /// The client's stream windows are passed through to its drivers, changes included.
    fn pass_settings(&mut self) {
        let window = self.client.wire.theirs().window;
        let now = self.now;
        for (_, driver) in &mut self.drivers {
            if let Some(leg) = driver.leg() {
                leg.wire.retune(window, now);
            }
        }
        self.resume_downloads();
    }

    fn upload(&mut self, tag: usize, octets: Range<usize>, end: bool, scratch: &mut [u8]) {
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        if exchange.end.is_some() {
            return;
        }
        exchange.up.octets = exchange.up.octets.saturating_add(length(octets.len()));
        match exchange.stamper {
            None => self.send_up(tag, octets, end, scratch),
            Some(_) => self.stamp(tag, (octets, end), scratch),
        }
        self.mind_parked(tag);
    }

    /// Passes on octets of the buffer, or parks them.
    pub(super) fn send_up(
        &mut self,
        tag: usize,
        mut rest: Range<usize>,
        end: bool,
        scratch: &mut [u8],
    ) {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.uploaded |= end;
        if let Some(redactor) = &mut exchange.redactor {
            redactor.hear(scratch.get(rest.clone()).unwrap_or_default());
        }
        if let Some((departing, leg, stream)) = line(drivers, exchange)
            && exchange.up.parked.is_empty()
            // An end without octets cannot be parked, and comes once for each stream.
            && (rest.is_empty() || leg.wire.out.len() < OUT_MAX)
        {
            let taken = rest.len().min(leg.wire.room(stream));
            let whole = taken == rest.len();
            if taken > 0 || (end && whole) {
                let now = rest.start..rest.start.saturating_add(taken);
                rest.start = now.end;
                leg.wire.data_in_place(stream, scratch, now, end && whole);
                depart(departing, (tag, taken), exchange);
            }
            if whole {
                return;
            }
        }
        exchange.up.parked.extend_from_slice(scratch.get(rest).unwrap_or_default());
    }

    /// Passes on octets by copying, or parks them: these, and those behind them.
    pub(super) fn add_up(&mut self, tag: usize, [octets, behind]: [&[u8]; 2], end: bool) {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.uploaded |= end;
        if let Some(redactor) = &mut exchange.redactor {
            [octets, behind].into_iter().for_each(|octets| redactor.hear(octets));
        }
        if let Some((departing, leg, stream)) = line(drivers, exchange)
            && exchange.up.parked.is_empty()
            && leg.wire.out.len() < OUT_MAX
            && leg.wire.room(stream) >= octets.len().saturating_add(behind.len())
        {
            leg.wire.data_joined(stream, [octets, behind], end);
            let octets = octets.len().saturating_add(behind.len());
            return depart(departing, (tag, octets), exchange);
        }
        exchange.up.parked.extend_from_slice(octets);
        exchange.up.parked.extend_from_slice(behind);
        while self.send_parked(tag) {}
    }

    /// Passes on what waits of a body, as far as the driver has room.
    pub(super) fn resume_upload(&mut self, tag: usize) {
        while self.resume_piece(tag) {}
    }

    /// Passes on one piece of what waits of a body. Says whether anything moved.
    fn resume_piece(&mut self, tag: usize) -> bool {
        let Some(exchange) = self.exchanges.get(tag) else { return false };
        if exchange.up.parked.is_empty() { self.stamp_rest(tag) } else { self.send_parked(tag) }
    }

    /// Passes on one piece of what is parked of a body, if the driver has room. Says whether it has.
    fn send_parked(&mut self, tag: usize) -> bool {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return false };
        let Some((departing, leg, stream)) = line(drivers, exchange) else { return false };
        let taken = exchange.up.parked.len().min(leg.wire.room(stream)).min(PIECE);
        if taken == 0 || leg.wire.out.len() >= OUT_MAX {
            return false;
        }
        let end = exchange.uploaded && taken == exchange.up.parked.len();
        leg.wire.data(stream, exchange.up.parked.get(..taken).unwrap_or_default(), end);
        exchange.up.parked.advance(taken);
        depart(departing, (tag, taken), exchange);
        if exchange.up.parked.is_empty() {
            exchange.up.parked = bytes::BytesMut::new();
        }
        true
    }

    /// Bodies that have left for a driver give their credit back to the client.
    pub(super) fn credit_uploads(&mut self) {
        let mut resume = Vec::new();
        for (key, driver) in &mut self.drivers {
            let Line::Up(leg) = &driver.line else { continue };
            if !leg.wire.out.is_empty() || driver.departing.is_empty() {
                continue;
            }
            for (stream, tag, octets) in driver.departing.drain(..) {
                let ceiling = self
                    .exchanges
                    .get(tag)
                    .and_then(|exchange| exchange.driver_stream)
                    .map_or(0, |stream| leg.wire.stream_credit(stream));
                self.client.wire.left(stream, octets, u32::try_from(ceiling).unwrap_or(0));
            }
            resume.push(key);
        }
        for key in resume {
            self.resume_uploads(key);
        }
    }

    /// Passes on what waits for a driver: one piece of each body in turn, beginning behind the body
    /// that was served last, as long as the driver has room.
    pub(super) fn resume_uploads(&mut self, key: usize) {
        let waits = |exchange: &Exchange| exchange.driver == Some(key) && exchange.is_behind();
        let waiting = self.exchanges.iter().filter(|(_, exchange)| waits(exchange));
        let mut waiting: Vec<usize> = waiting.map(|(tag, _)| tag).collect();
        let Some(driver) = self.drivers.get(key) else { return };
        let first = waiting.partition_point(|tag| *tag <= driver.last_upload);
        waiting.rotate_left(first);
        while !waiting.is_empty() {
            waiting.retain(|tag| {
                let has_moved = self.resume_piece(*tag);
                if let (true, Some(driver)) = (has_moved, self.drivers.get_mut(key)) {
                    driver.last_upload = *tag;
                }
                has_moved
            });
        }
    }

    /// The client gave up, or broke the stream: the driver hears it at once.
    pub(super) fn drop_exchange(&mut self, tag: usize, code: Code, how: Ending) {
        self.release_driver(tag, fault::Code::Cancel);
        self.settle(tag, code, how);
    }
}

/// The slab key of a tag.
pub(super) fn key(tag: u32) -> usize {
    usize::try_from(tag).unwrap_or(usize::MAX)
}

/// A range of what was read, as a range of the buffer.
pub(super) fn behind(from: usize, octets: &Range<usize>) -> Range<usize> {
    octets.start.saturating_add(from)..octets.end.saturating_add(from)
}

pub(super) fn length(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}

type Departing = Vec<(StreamId, usize, u32)>;

/// Notes octets that are on their way to a driver; those of one stream in a row are one note.
fn depart(departing: &mut Departing, (tag, left): (usize, usize), exchange: &mut Exchange) {
    let octets = u32::try_from(exchange.up.repay(left)).unwrap_or(u32::MAX);
    match departing.last_mut() {
        Some((last, _, noted)) if *last == exchange.stream => *noted = noted.saturating_add(octets),
        Some(_) | None => departing.push((exchange.stream, tag, octets)),
    }
}

/// The leg and the stream that an exchange is on.
fn line<'a>(
    drivers: &'a mut slab::Slab<Driver>,
    exchange: &Exchange,
) -> Option<(&'a mut Departing, &'a mut Leg, StreamId)> {
    let stream = exchange.driver_stream?;
    let driver = drivers.get_mut(exchange.driver?)?;
    match &mut driver.line {
        Line::Up(leg) => Some((&mut driver.departing, leg, stream)),
        Line::Dialing(_) => None,
    }
}
