//! Downward: what a driver's frames mean for the exchanges on it, and answers on their way to the
//! client.

use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use sconce_filters::{Code, Ending, Refusal};
use slab::Slab;

use crate::grpc::status::{self, Meaning};
use crate::proxy::admit::whole;
use crate::proxy::buffer::Buffer;
use crate::proxy::driver::{Driver, Echoes, PARKED_MAX, allowance};
use crate::proxy::exchange::{AnswerEnd, Exchange, Unstamped};
use crate::proxy::leg::Leg;
use crate::proxy::relay::Relay;
use crate::proxy::rotation::TURN;
use crate::proxy::upward::{behind, key, length};
use crate::wire::connection::Event;
use crate::wire::fault;
use crate::wire::frame::StreamId;
use crate::wire::hpack::Fields;

/// What is said of an answer that does not tell how it ended.
const NO_STATUS: &str = "it ended the answer without one clear grpc-status";

impl Relay {
    /// Answers one event of a driver; `from` is where its octets begin in `scratch`. Says
    /// whether more may follow.
    pub(super) fn on_driver(
        &mut self,
        driver: usize,
        event: Event,
        from: usize,
        scratch: &mut [u8],
    ) -> bool {
        match event {
            Event::Starved => return false,
            Event::Settings => {
                if let Some(driver) = self.drivers.get(driver) {
                    driver.cluster.reached(self.now);
                }
                self.start_queued(driver);
                self.resume_uploads(driver);
            }
            Event::Answered { tag, status, end } => self.answer(driver, key(tag), status, end),
            Event::Data { tag, octets, end } => {
                self.download(driver, key(tag), behind(from, &octets), scratch);
                if end {
                    self.end_without_status(key(tag));
                }
            }
            Event::Trailers { tag } => self.trailers(driver, key(tag)),
            Event::Reset { tag, code } => self.driver_reset(key(tag), code),
            Event::MalformedAnswer { tag, fault, end } => {
                self.reject_answer(driver, key(tag), fault, end);
            }
            Event::Broken { tag, fault } => {
                // A list that is too long once will be so again: no client should try again.
                let is_long = fault.code == fault::Code::EnhanceYourCalm;
                let code = if is_long { Code::ResourceExhausted } else { Code::Unavailable };
                self.fail_exchange(key(tag), code, "driver.malformed", fault.what);
            }
            Event::WindowsShrunk => self.sync_windows(driver),
            Event::Credit { tag: Some(tag) } => {
                match self.drivers.get(driver).is_some_and(|driver| driver.is_contended) {
                    true => self.resume_uploads(driver),
                    false => self.resume_upload(key(tag)),
                }
            }
            Event::Credit { tag: None } => self.resume_uploads(driver),
            Event::GoAway { last, .. } => self.driver_leaves(driver, last),
            Event::Interim { .. }
            | Event::Opened { .. }
            | Event::MalformedRequest { .. }
            | Event::Pong => {}
        }
        self.drivers.contains(driver)
    }

    fn answer(&mut self, driver: usize, tag: usize, http: u16, end: bool) {
        let Self { worker, now, exchanges, drivers, client, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some((fields, echoes)) = heard(drivers, driver, *now) else { return };
        let Meaning { is_grpc, code } = echoes.answers.read(&fields);
        if http != 200 || !is_grpc || (end && code.is_none()) {
            let grpc = if http == 200 { Code::Unknown } else { status::of_http(http) };
            let code = code.filter(|code| *code != Code::Ok).unwrap_or(grpc);
            let what = format!("it answered HTTP status {http} and no gRPC");
            return self.fail_exchange(tag, code, "driver.not_grpc", &what);
        }
        if end && status::refuses_credential(&fields) {
            return self.fail_credential(tag);
        }
        exchange.answered = true;
        if let Some(tenant) = exchange.tenant {
            let after = now.saturating_duration_since(exchange.call.opened_at());
            worker.metrics.call_answered(exchange.method, tenant, after);
        }
        if code.is_none_or(|code| code == Code::Ok) {
            worker.tenures.note(exchange.tenure.as_mut(), *now);
        }
        let block = echoes.answers.echo.block(&mut client.wire, &fields, Fields::iter);
        client.wire.head_encoded(exchange.stream, block, end);
        if end {
            self.finish(tag, code.unwrap_or(Code::Unknown), Ending::Answered);
        }
    }

    fn download(&mut self, driver: usize, tag: usize, octets: Range<usize>, scratch: &mut [u8]) {
        let Self { exchanges, drivers, client, detached, .. } = self;
        let Some(driver) = drivers.get_mut(driver) else { return };
        driver.asked = 0;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let mut rest = octets;
        let mut ends = false;
        if let Some(redactor) = &mut exchange.redactor
            && redactor.take(scratch.get_mut(rest.clone()).unwrap_or_default()).is_err()
        {
            let what = "its answer to Config cannot be read, and may hold what clients do not see";
            return self.fail_exchange(tag, Code::Internal, "driver.unreadable", what);
        }
        let came = scratch.get(rest.clone()).unwrap_or_default();
        if exchange.lease.as_ref().is_some_and(|lease| lease.is_over) {
            rest.end = rest.start.saturating_add(exchange.boundary.message(came));
            ends = exchange.boundary.is_between();
        } else {
            exchange.boundary.pass(came);
        }
        exchange.down.octets = exchange.down.octets.saturating_add(length(rest.len()));
        if exchange.down.parked.is_empty() {
            let taken = rest.len().min(client.wire.room(exchange.stream));
            let now = rest.start..rest.start.saturating_add(taken);
            rest.start = now.end;
            if taken > 0 {
                client.wire.data_in_place(exchange.stream, scratch, now, false);
            }
        }
        if !rest.is_empty() {
            driver.parked = driver.parked.saturating_add(rest.len());
            exchange.down.parked.push(scratch.get(rest).unwrap_or_default());
            if driver.parked.saturating_add(*detached) > whole(PARKED_MAX) {
                self.count_parked();
            }
        }
        if ends {
            self.suspend(tag);
        }
    }

    /// Passes on what is parked of an answer, as far as the client has room.
    pub(super) fn resume_download(&mut self, tag: usize) {
        while self.resume_answer(tag, TURN) > 0 {}
    }

    /// Passes on at most so many octets of what is parked of an answer, as far as there is room.
    /// Says how many.
    fn resume_answer(&mut self, tag: usize, most: usize) -> usize {
        let Self { exchanges, drivers, client, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return 0 };
        let taken = exchange.down.parked.len().min(client.wire.room(exchange.stream)).min(most);
        if taken == 0 {
            return 0;
        }
        let octets = exchange.down.parked.get(..taken).unwrap_or_default();
        client.wire.data(exchange.stream, octets, false);
        exchange.down.parked.advance(taken);
        match exchange.driver.and_then(|key| drivers.get_mut(key)) {
            Some(driver) => driver.parked = driver.parked.saturating_sub(taken),
            None => self.detached = self.detached.saturating_sub(taken),
        }
        if !exchange.down.parked.is_empty() {
            return taken;
        }
        if let Some(end) = exchange.end.take() {
            client.wire.head(exchange.stream, end.trailers.iter(), true);
            self.finish(tag, end.code, end.how);
        }
        taken
    }

    /// Ends an answer behind what is parked of it. Nothing more is wanted from the driver, so that
    /// whatever it does next cannot touch the answer.
    pub(super) fn end_behind_parked(&mut self, tag: usize, end: AnswerEnd) {
        if self.exchanges.get(tag).is_none_or(|exchange| exchange.end.is_some()) {
            // An answer ends once, by what came first.
            return;
        }
        self.release_driver(tag, fault::Code::Cancel);
        let Some(exchange) = self.exchanges.get_mut(tag) else { return };
        exchange.end = Some(Box::new(end));
        exchange.up.parked = Buffer::default();
        exchange.unstamped = Unstamped::default();
        exchange.asked = None;
        self.detached = self.detached.saturating_add(exchange.down.parked.len());
        if self.detached > whole(PARKED_MAX) {
            self.count_parked();
        }
    }

    /// Passes on what is parked of all answers, in turn, as long as the client has room.
    pub(super) fn resume_downloads(&mut self) {
        if self.detached == 0 && self.drivers.iter().all(|(_, driver)| driver.parked == 0) {
            return;
        }
        let parked = self.tags(|exchange| !exchange.down.parked.is_empty());
        self.downloads = self.in_turn(parked, self.downloads, Self::resume_answer);
    }

    /// Lets the drivers send what the client takes, now that what they have sent has left for it.
    /// Says whether one of them is to be told now.
    pub(super) fn credit_downloads(&mut self) -> bool {
        let allowance = allowance(&self.client.wire, self.detached);
        let mut is_due = false;
        for (_, driver) in &mut self.drivers {
            let parked = i64::try_from(driver.parked).unwrap_or(i64::MAX);
            let Some(leg) = driver.leg() else { continue };
            let wanted = allowance.saturating_sub(parked);
            let more = wanted.saturating_sub(leg.wire.granted_connection());
            // Also when there is no more: what is owed is told when little else is left.
            leg.wire.release(u32::try_from(more).unwrap_or(0));
            is_due |= !leg.wire.out.is_empty();
        }
        is_due
    }

    fn trailers(&mut self, driver: usize, tag: usize) {
        let Self { exchanges, drivers, client, now, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some((fields, echoes)) = heard(drivers, driver, *now) else { return };
        let Some(code) = echoes.trailers.read(&fields).code else {
            // The driver would end its answer so again: no client should ask for it.
            return self.fail_exchange(tag, Code::Internal, "driver.no_status", NO_STATUS);
        };
        if code == Code::Ok && !exchange.boundary.is_between() {
            let what = "it ended the answer in the middle of a message";
            return self.fail_exchange(tag, Code::Internal, "driver.malformed", what);
        }
        if exchange.down.parked.is_empty() {
            let block = echoes.trailers.echo.block(&mut client.wire, &fields, Fields::iter);
            client.wire.head_encoded(exchange.stream, block, true);
            self.finish(tag, code, Ending::Answered);
        } else {
            let end = AnswerEnd { trailers: fields, code, how: Ending::Answered };
            self.end_behind_parked(tag, end);
        }
    }

    /// An answer that just stops says nothing about success: it must not look like one.
    fn end_without_status(&mut self, tag: usize) {
        self.fail_exchange(tag, Code::Unavailable, "driver.no_status", NO_STATUS);
    }

    fn driver_reset(&mut self, tag: usize, code: fault::Code) {
        let what = format!("it reset the call ({code:?})");
        self.fail_exchange(tag, status::of_reset(code), "driver.reset", &what);
    }

    /// The driver takes no new calls, and has not begun those above `last`.
    fn driver_leaves(&mut self, driver: usize, last: StreamId) {
        let is_refused = |stream: Option<StreamId>| stream.is_none_or(|stream| stream > last);
        let refused = self
            .tags(|exchange| exchange.driver == Some(driver) && is_refused(exchange.driver_stream));
        for tag in refused {
            let Some(exchange) = self.exchanges.get(tag) else { continue };
            if exchange.driver != Some(driver) {
                // It was queued, and has gone to another leg meanwhile.
                continue;
            }
            if exchange.driver_stream.is_none() {
                self.redirect(tag);
            } else {
                let what = "it takes no new calls";
                self.fail_exchange(tag, Code::Unavailable, "driver.leaving", what);
            }
        }
        self.drop_driver_if_done(driver);
    }

    /// A driver has less credit than before: what its clients granted in the meantime is passed on.
    fn sync_windows(&mut self, driver: usize) {
        for tag in self.tags(|exchange| exchange.driver == Some(driver)) {
            self.sync_window(tag);
        }
    }

    /// Lets the driver send what the client allows, and no more.
    pub(super) fn sync_window(&mut self, tag: usize) {
        let Self { exchanges, drivers, client, .. } = self;
        let Some(exchange) = exchanges.get_mut(tag) else { return };
        let Some(leg) = exchange.driver.and_then(|key| drivers.get_mut(key)).and_then(Driver::leg)
        else {
            return;
        };
        pass_window(client, leg, exchange);
    }

    /// The driver does not take sconce for somebody who may call it.
    pub(super) fn fail_credential(&mut self, tag: usize) {
        let cluster = self.exchanges.get(tag).and_then(|exchange| exchange.driver);
        let cluster = cluster.and_then(|key| self.drivers.get(key)).map(|driver| &driver.cluster);
        if let Some(cluster) = cluster {
            cluster.rejected_token();
        }
        let what = match cluster.and_then(|cluster| cluster.credential()) {
            Some(_) => "it does not take the token that sconce has for it",
            None => "it asks for a token, and sconce has none for it",
        };
        let what = format!("{what}; that is not about yours: tell those who run sconce");
        self.fail_exchange(tag, Code::Internal, "driver.credential", &what);
    }

    /// Ends an exchange because of its driver: the client is told which cluster, and not where.
    pub(super) fn fail_exchange(
        &mut self,
        tag: usize,
        code: Code,
        label: &'static str,
        what: &str,
    ) {
        let Some(exchange) = self.exchanges.get(tag) else { return };
        let cluster = exchange
            .driver
            .and_then(|key| self.drivers.get(key))
            .map_or("", |driver| driver.cluster.name());
        let message = format!("the driver of cluster {cluster} failed this call: {what}");
        let refusal = Refusal::new(code, label, message);
        if exchange.down.parked.is_empty() {
            return self.refuse(tag, &refusal, Ending::DriverLost);
        }
        self.worker.metrics.refused(label);
        self.log_refused(tag, &refusal);
        let trailers = Rc::new(status::trailers(&refusal));
        self.end_behind_parked(tag, AnswerEnd { trailers, code, how: Ending::DriverLost });
    }
}

/// Lets the driver at the end of a leg send what the client allows for an exchange, and no more.
pub(super) fn pass_window(client: &Leg, leg: &mut Leg, exchange: &Exchange) {
    let Some(stream) = exchange.driver_stream else { return };
    let parked = i64::try_from(exchange.down.parked.len()).unwrap_or(i64::MAX);
    let wanted = client.wire.stream_credit(exchange.stream).saturating_sub(parked);
    let more = wanted.saturating_sub(leg.wire.granted(stream));
    if more > 0 {
        leg.wire.grant(stream, u32::try_from(more).unwrap_or(0));
    }
}

/// The header block that has just come from a driver, and where such blocks go out again. A driver
/// that answers is there.
fn heard(
    drivers: &mut Slab<Driver>,
    key: usize,
    now: Instant,
) -> Option<(Rc<Fields>, &mut Echoes)> {
    let driver = drivers.get_mut(key)?;
    driver.asked = 0;
    driver.cluster.reached(now);
    let fields = driver.leg()?.wire.fields();
    Some((fields, driver.echoes.get_or_insert_default()))
}
