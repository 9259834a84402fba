//! Upward: what a client's frames mean for its exchanges, and bodies on their way to drivers.

use std::collections::VecDeque;
use std::ops::Range;

use sconce_filters::{Code, Ending};

use crate::proxy::admit::whole;
use crate::proxy::driver::{Departing, Driver, Line};
use crate::proxy::exchange::Exchange;
use crate::proxy::leg::Leg;
use crate::proxy::relay::Relay;
use crate::wire::connection::Event;
use crate::wire::fault;
use crate::wire::frame::StreamId;

/// Octets that are taken from a parked body at one time.
pub(super) const PIECE: usize = 16 * 1024;

impl Relay {
    /// Answers one event of the client; `from` is where its octets begin in `scratch`. Says
    /// whether more may follow.
    pub(super) fn on_client(&mut self, event: Event, from: usize, scratch: &mut [u8]) -> bool {
        match event {
            Event::Starved => return false,
            Event::Settings => self.pass_settings(),
            Event::Opened { stream, .. } | Event::MalformedRequest { stream, .. }
                if self.client.lacks_tls() =>
            {
                self.answer_cleartext(stream);
            }
            Event::Opened { stream, end } => self.open(stream, end),
            Event::MalformedRequest { stream, fault } => self.reject_request(stream, fault),
            Event::Data { tag, octets, end } => {
                self.upload(key(tag), behind(from, &octets), end, scratch);
            }
            Event::Trailers { tag } => self.upload(key(tag), from..from, true, scratch),
            Event::Broken { tag, fault } => {
                self.note_rejected("malformed.stream", Some(fault.what));
                self.drop_exchange(key(tag), Code::Cancelled, Ending::Cancelled);
            }
            Event::Reset { tag, .. } => {
                self.drop_exchange(key(tag), Code::Cancelled, Ending::Cancelled);
            }
            Event::Credit { tag: Some(tag) } => {
                self.sync_window(key(tag));
                self.resume_download(key(tag));
            }
            Event::Credit { tag: None } => self.resume_downloads(),
            Event::Pong => self.hear_crossing(),
            Event::Answered { .. }
            | Event::MalformedAnswer { .. }
            | Event::Interim { .. }
            | Event::GoAway { .. }
            | Event::WindowsShrunk => {}
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
        self.pause.note(tag);
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
        let must_wait = self.must_wait(tag);
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.uploaded |= end;
        if let Some(redactor) = &mut exchange.redactor {
            redactor.hear(scratch.get(rest.clone()).unwrap_or_default());
        }
        if let Some(Upload { departing, leg, stream, has_space }) = line(drivers, exchange)
            // An end without octets cannot be parked, and comes once for each stream.
            && ((rest.is_empty() && exchange.up.parked.is_empty()) || (has_space && !must_wait))
        {
            let taken = rest.len().min(leg.wire.room(stream));
            let is_whole = taken == rest.len();
            if taken > 0 || (end && is_whole) {
                let now = rest.start..rest.start.saturating_add(taken);
                rest.start = now.end;
                leg.wire.data_in_place(stream, scratch, now, end && is_whole);
                depart(departing, leg.wire.out.end(), (tag, taken), exchange);
            }
            if is_whole {
                return;
            }
        }
        exchange.up.parked.push(scratch.get(rest).unwrap_or_default());
        self.note_contention(tag);
    }

    /// Something of a body waits. If not for the window of its own stream, then for what it shares
    /// with other bodies.
    fn note_contention(&mut self, tag: usize) {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get(tag) else { return };
        let is_shared = line(drivers, exchange)
            .is_some_and(|Upload { leg, stream, .. }| leg.wire.stream_credit(stream) > 0);
        if let (true, Some(driver)) =
            (is_shared, exchange.driver.and_then(|it| drivers.get_mut(it)))
        {
            driver.is_contended = true;
        }
    }

    /// Whether what comes of a body now has to wait behind what came before, of this body or of
    /// others on the way to the same driver.
    pub(super) fn must_wait(&self, tag: usize) -> bool {
        self.exchanges.get(tag).is_some_and(Exchange::is_behind) || self.is_contended(tag)
    }

    /// Whether bodies on the way to the same driver are served in turn.
    fn is_contended(&self, tag: usize) -> bool {
        let driver = self.exchanges.get(tag).and_then(|exchange| exchange.driver);
        driver.and_then(|key| self.drivers.get(key)).is_some_and(|driver| driver.is_contended)
    }

    /// Passes on octets by copying, or parks them: these, and those behind them.
    pub(super) fn add_up(&mut self, tag: usize, [octets, behind]: [&[u8]; 2], end: bool) {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        exchange.uploaded |= end;
        if let Some(redactor) = &mut exchange.redactor {
            [octets, behind].into_iter().for_each(|octets| redactor.hear(octets));
        }
        let size = octets.len().saturating_add(behind.len());
        if let Some(Upload { departing, leg, stream, has_space }) = line(drivers, exchange)
            && exchange.up.parked.is_empty()
            && has_space
            && leg.wire.room(stream) >= size
            // What was inflated is long: it goes in pieces, and in turn.
            && size <= PIECE.saturating_mul(2)
        {
            leg.wire.data_joined(stream, [octets, behind], end);
            return depart(departing, leg.wire.out.end(), (tag, size), exchange);
        }
        exchange.up.parked.push(octets);
        exchange.up.parked.push(behind);
        // Where bodies are served in turn, it waits for its own.
        while !self.is_contended(tag) && self.send_parked(tag, PIECE) {}
        if self.exchanges.get(tag).is_some_and(Exchange::is_behind) {
            self.note_contention(tag);
        }
    }

    /// Passes on what waits of a body, as far as the driver has room.
    pub(super) fn resume_upload(&mut self, tag: usize) {
        while self.resume_piece(tag, PIECE) {}
        if self.exchanges.get(tag).is_some_and(Exchange::is_behind) {
            self.note_contention(tag);
        }
    }

    /// Passes on so many octets of what waits of a body, as far as the driver has room. Says how
    /// many.
    fn resume_turn(&mut self, tag: usize, most: usize) -> usize {
        let before = self.connection_credit_of(tag);
        let mut sent = 0;
        while sent < most && self.resume_piece(tag, most.saturating_sub(sent)) {
            let octets = before.saturating_sub(self.connection_credit_of(tag));
            sent = usize::try_from(octets).unwrap_or(0);
        }
        sent
    }

    /// What the driver of a body takes of all bodies now, by its connection's window.
    fn connection_credit_of(&self, tag: usize) -> i64 {
        let driver = self.exchanges.get(tag).and_then(|exchange| exchange.driver);
        let leg = driver.and_then(|key| self.drivers.get(key)).and_then(Driver::leg_ref);
        leg.map_or(0, |leg| leg.wire.connection_credit())
    }

    /// Passes on at most so much of what waits of a body. Says whether anything moved.
    fn resume_piece(&mut self, tag: usize, most: usize) -> bool {
        if !self.may_go_on(tag) {
            return false;
        }
        let Some(exchange) = self.exchanges.get(tag) else { return false };
        match exchange.up.parked.is_empty() {
            true => self.stamp_rest(tag, most),
            false => self.send_parked(tag, most),
        }
    }

    /// Passes on at most so much of what is parked of a body, if the driver has room. Says whether
    /// it has.
    fn send_parked(&mut self, tag: usize, most: usize) -> bool {
        let Self { exchanges, drivers, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return false };
        let Some(Upload { departing, leg, stream, has_space }) = line(drivers, exchange) else {
            return false;
        };
        let taken = exchange.up.parked.len().min(leg.wire.room(stream)).min(most);
        if taken == 0 || !has_space {
            return false;
        }
        let end = exchange.uploaded && taken == exchange.up.parked.len();
        leg.wire.data(stream, exchange.up.parked.get(..taken).unwrap_or_default(), end);
        exchange.up.parked.advance(taken);
        depart(departing, leg.wire.out.end(), (tag, taken), exchange);
        true
    }

    /// Bodies that have left for a driver give their credit back to the client, and those that
    /// wait for its outbox go on. Says whether any did.
    pub(super) fn credit_uploads(&mut self) -> bool {
        let mut resume = Vec::new();
        for (key, driver) in &mut self.drivers {
            if driver.may_resume() {
                resume.push(key);
            }
            let may_grow = self.worker.pool.may_grow(&self.earned, self.user.as_deref());
            while driver.has_left()
                && let Some(Departing { stream, tag, octets, .. }) = driver.departing.pop_front()
            {
                // While some of it waits here, more on its way would only wait as well.
                let grows = |exchange: &&Exchange| may_grow && !exchange.is_behind();
                let exchange = self.exchanges.get(tag).filter(grows);
                let most = exchange.map_or(0, |exchange| exchange.snapshot.limits.upload_window);
                self.client.wire.left(stream, octets, most, self.now);
            }
        }
        self.count_earned();
        let has_resumed = !resume.is_empty();
        for key in resume {
            self.resume_uploads(key);
        }
        has_resumed
    }

    /// Passes on what waits for a driver, in turn, as long as it has room.
    pub(super) fn resume_uploads(&mut self, key: usize) {
        let waits = |exchange: &Exchange| exchange.driver == Some(key) && exchange.is_behind();
        let waiting = self.tags(waits);
        let Some(driver) = self.drivers.get(key) else { return };
        let rotation = self.in_turn(waiting, driver.uploads, Self::resume_turn);
        if let Some(driver) = self.drivers.get_mut(key) {
            driver.uploads = rotation;
        }
        let Self { exchanges, drivers, .. } = self;
        let is_contended = exchanges.iter().any(|(_, exchange)| {
            waits(exchange)
                && line(drivers, exchange)
                    .is_some_and(|Upload { leg, stream, .. }| leg.wire.stream_credit(stream) > 0)
        });
        if let Some(driver) = drivers.get_mut(key) {
            driver.is_contended = is_contended;
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

/// Notes octets that are on their way to a driver; those of one stream in a row are one note, up
/// to a piece.
fn depart(
    departing: &mut VecDeque<Departing>,
    end: u64,
    (tag, left): (usize, usize),
    exchange: &mut Exchange,
) {
    let octets = u32::try_from(exchange.up.repay(left)).unwrap_or(u32::MAX);
    match departing.back_mut().filter(|it| it.stream == exchange.stream) {
        Some(last) if whole(last.octets) < PIECE => {
            last.octets = last.octets.saturating_add(octets);
            last.end = end;
        }
        Some(_) | None => {
            departing.push_back(Departing { stream: exchange.stream, tag, octets, end });
        }
    }
}

/// Where the body of an exchange goes.
struct Upload<'a> {
    departing: &'a mut VecDeque<Departing>,
    leg: &'a mut Leg,
    stream: StreamId,
    /// Whether more may wait in the outbox: what comes on top is parked with its stream.
    has_space: bool,
}

/// The leg and the stream that an exchange is on.
fn line<'a>(drivers: &'a mut slab::Slab<Driver>, exchange: &Exchange) -> Option<Upload<'a>> {
    let stream = exchange.driver_stream?;
    let Driver { line, departing, batch, .. } = drivers.get_mut(exchange.driver?)?;
    match line {
        Line::Up(leg) => {
            let has_space = leg.wire.out.len() < batch.octets();
            Some(Upload { departing, leg, stream, has_space })
        }
        Line::Dialing(_) => None,
    }
}
