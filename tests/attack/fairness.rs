//! Four streams of one connection share a bottleneck: each gets a quarter of the octets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::compression::gzip;
use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::{Request, SERVICE};
use crate::support::frame;
use crate::support::proof::{self, ANN};
use crate::support::protobuf::{field, flagged, framed};
use crate::support::runner::{Cases, note};
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("fairness");
    uploads(cases);
    inflated(cases);
    downloads(cases);
    others(cases);
    teams(cases);
}

const STREAMS: usize = 4;
/// Octets that arrive before the shares are counted.
const START: usize = 8 << 20;
/// Octets of which the shares are counted.
const COUNTED: usize = 4 << 20;
/// Octets that the bottleneck lets through at a time.
const STEP: usize = 16_384;
/// The same where it is no multiple of a frame.
const ODD_STEP: u32 = 20_000;

/// Each stream got 25 % of the octets, give or take 5 %.
fn assert_fair(what: &str, before: &[usize], after: &[usize]) {
    let octets: Vec<usize> = before.iter().zip(after).map(|(from, to)| to - from).collect();
    let all: usize = octets.iter().sum();
    let shares: Vec<usize> = octets.iter().map(|it| it * 1000 / all).collect();
    note(format!("{what}: of 1000 octets the streams got {shares:?}"));
    let is_fair = shares.iter().all(|share| (200..=300).contains(share));
    assert!(is_fair, "of 1000 octets the streams got {shares:?}, of {all} in all");
}

/// An endless request body: the same message over and over.
struct Body {
    message: Vec<u8>,
    at: usize,
}

impl Body {
    /// Sends as much as the windows allow.
    fn feed(&mut self, client: &mut Client, id: u32) {
        let over = client.streams.get(&id).filter(|reply| reply.is_over());
        assert!(over.is_none(), "the call has ended: {over:?}");
        loop {
            let window = usize::try_from(client.window_of(id)).unwrap_or(0);
            let now = window.min(self.message.len() - self.at).min(8192);
            if now == 0 {
                return;
            }
            client.spend(id, now);
            client.send(&frame::data(id, false, &self.message[self.at..self.at + now]));
            self.at = (self.at + now) % self.message.len();
        }
    }
}

/// Four endless uploads of one client.
struct Uploads {
    driver: Upstream,
    client: Client,
    request: Request,
    ids: [u32; STREAMS],
    streams: [u32; STREAMS],
    bodies: [Body; STREAMS],
}

impl Uploads {
    fn begin(world: &World, offer: Offer, request: fn(&Client) -> Request) -> Self {
        let mut driver = Upstream::replace(world, offer);
        let mut client = world.client();
        let request = request(&client);
        driver.meet_with(&mut client, &request);
        let ids = [(); STREAMS].map(|()| client.start(&request, false));
        let streams = ids.map(|_| driver.await_stream());
        let bodies = ids.map(|_| Body { message: artifact(), at: 0 });
        Self { driver, client, request, ids, streams, bodies }
    }

    fn feed(&mut self) {
        for (body, id) in self.bodies.iter_mut().zip(self.ids) {
            body.feed(&mut self.client, id);
        }
    }

    /// One step of the driver. Says whether anything came of the uploads.
    fn step(&mut self, step: fn(&mut Upstream)) -> bool {
        let earlier = self.all();
        self.feed();
        step(&mut self.driver);
        self.client.pump(|_| false, Duration::from_millis(1));
        self.all() > earlier
    }

    fn counts(&self) -> Vec<usize> {
        self.streams.iter().map(|id| self.driver.received(*id)).collect()
    }

    fn all(&self) -> usize {
        self.counts().iter().sum()
    }

    /// Steps until so much has come of all.
    fn run(&mut self, octets: usize, step: fn(&mut Upstream)) {
        let mut still = 0;
        while self.all() < octets {
            // A step may end within a frame.
            still = if self.step(step) { 0 } else { still + 1 };
            assert!(still < 10, "nothing more comes: {:?}", self.counts());
        }
    }
}

/// A message as AddArtifacts sends it, with a user context that is replaced.
fn artifact() -> Vec<u8> {
    framed(&[field(1, "ids"), field(2, ""), field(3, vec![7; 32 << 10])].concat())
}

/// Lets the driver take a step at a time. Says what came of each.
fn upload(
    world: &World,
    offer: Offer,
    request: fn(&Client) -> Request,
    step: fn(&mut Upstream),
) -> [Vec<usize>; 2] {
    let mut uploads = Uploads::begin(world, offer, request);
    uploads.run(START, step);
    let before = uploads.counts();
    uploads.run(START + COUNTED, step);
    [before, uploads.counts()]
}

/// Opens the connection's window by one step, and waits until it is used.
fn grant(driver: &mut Upstream) {
    driver.grant(0, u32::try_from(STEP).unwrap());
    driver.pump(|u| u.allowed == 0, SOON);
}

/// The same by a step that is no multiple of a frame.
fn grant_odd(driver: &mut Upstream) {
    driver.grant(0, ODD_STEP);
    driver.pump(|u| u.allowed == 0, SOON);
}

/// Reads one step from the socket.
fn read(driver: &mut Upstream) {
    let mut left = STEP;
    while left > 0 {
        let count = driver.sip(left, SOON);
        assert!(count > 0, "nothing can be read");
        left -= count;
    }
}

fn plain(client: &Client) -> Request {
    client.request().set(":path", format!("{SERVICE}AddArtifacts"))
}

fn stamped(client: &Client) -> Request {
    proof::of(client, &ANN).set(":path", format!("{SERVICE}AddArtifacts"))
}

fn uploads(cases: &mut Cases) {
    let window = Offer { initial: Some(16 << 20), ..Offer::default() };
    let socket = Offer { initial: Some(16 << 20), connection_bump: 64 << 20, ..Offer::default() };
    let small = |mut spec: Spec| {
        // Less than three segments of the loopback interface makes the kernel wait.
        spec.driver.receive_buffer = Some(200 << 10);
        spec
    };
    type Ask = fn(&Client) -> Request;
    type Step = fn(&mut Upstream);
    let table: [(&str, Spec, Ask, Offer, Step); 6] = [
        (
            "uploads_share_a_connection_window_that_opens_by_odd_steps",
            Spec::default(),
            plain,
            window.clone(),
            grant_odd,
        ),
        (
            "stamped_uploads_share_a_connection_window_that_opens_by_odd_steps",
            proof::spec(""),
            stamped,
            window.clone(),
            grant_odd,
        ),
        (
            "uploads_share_the_connection_window_of_the_driver",
            Spec::default(),
            plain,
            window.clone(),
            grant,
        ),
        (
            "stamped_uploads_share_the_connection_window_of_the_driver",
            proof::spec(""),
            stamped,
            window,
            grant,
        ),
        (
            "uploads_share_the_socket_of_a_driver_that_reads_slowly",
            small(Spec::default()),
            plain,
            socket.clone(),
            read,
        ),
        (
            "stamped_uploads_share_the_socket_of_a_driver_that_reads_slowly",
            small(proof::spec("")),
            stamped,
            socket,
            read,
        ),
    ];
    for (name, spec, request, offer, step) in table {
        cases.own(name, spec, move |world| {
            let [before, after] = upload(world, offer.clone(), request, step);
            assert_fair(name, &before, &after);
        });
    }
}

/// A message that sconce inflates is long at once, and takes its turn for it as the others do.
fn inflated(cases: &mut Cases) {
    let window = Offer { initial: Some(16 << 20), ..Offer::default() };
    let socket = Offer { initial: Some(16 << 20), connection_bump: 64 << 20, ..Offer::default() };
    let mut small = proof::spec("");
    small.driver.receive_buffer = Some(200 << 10);
    type Step = fn(&mut Upstream);
    let table: [(&str, Spec, Offer, Step); 2] =
        [("connection_window", proof::spec(""), window, grant), ("socket", small, socket, read)];
    for (what, spec, offer, step) in table {
        let name = format!("a_compressed_upload_shares_the_{what}_of_the_driver");
        proof::add(cases, name.clone(), spec, move |world| {
            let mut uploads = Uploads::begin(world, offer.clone(), stamped);
            let request = uploads.request.clone().with("grpc-encoding", "gzip");
            let [id, ..] = &mut uploads.ids;
            uploads.client.send(&frame::rst(*id, frame::CANCEL));
            *id = uploads.client.start(&request, false);
            uploads.streams[0] = uploads.driver.await_stream();
            let message = [field(1, "ids"), field(2, ""), field(3, vec![7; 512 << 10])].concat();
            let message = flagged(1, &gzip(&message));
            uploads.bodies[0] = Body { message, at: 0 };
            uploads.run(START, step);
            let before = uploads.counts();
            uploads.run(START + COUNTED, step);
            assert_fair(&name, &before, &uploads.counts());
        });
    }
}

/// Four endless downloads from a driver that serves its streams in turn, and a client that takes a
/// step at a time. Says what came of each.
fn download(world: &World, manners: Manners, step: fn(&mut Client)) -> [Vec<usize>; 2] {
    let mut driver = Upstream::replace(world, Offer::default());
    let mut client = world.client_with(manners);
    driver.meet(&mut client);
    let ids = [(); STREAMS].map(|()| client.start(&client.request(), true));
    let streams = ids.map(|_| driver.await_stream());
    streams.iter().for_each(|id| driver.answer(*id));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let message = frame::message(4091);
            while !is_over.load(Ordering::SeqCst) && !driver.is_closed {
                for id in streams {
                    if driver.room(id) >= message.len() {
                        driver.speak(id, &message);
                    }
                }
                driver.poll();
            }
        });
        let counted = count(&mut client, &ids, step);
        is_over.store(true, Ordering::SeqCst);
        // A driver that waits for its socket is not waited for.
        drop(client);
        driver.join().unwrap();
        counted
    })
}

fn count(client: &mut Client, ids: &[u32], step: fn(&mut Client)) -> [Vec<usize>; 2] {
    let body = |c: &Client, id: &u32| c.streams.get(id).map_or(0, |reply| reply.body.len());
    let counts = |c: &Client| ids.iter().map(|id| body(c, id)).collect::<Vec<usize>>();
    let mut before = None;
    loop {
        let earlier = counts(client).iter().sum::<usize>();
        step(client);
        let more = |c: &Client| counts(c).iter().sum::<usize>() > earlier;
        let now = if client.pump(more, SOON) { counts(client) } else { Vec::new() };
        let all = now.iter().sum::<usize>();
        assert!(all > earlier, "nothing more comes after {earlier} octets: {now:?}");
        if before.is_none() && all >= START {
            before = Some(now.clone());
        }
        if let Some(before) = before.take_if(|_| all >= START + COUNTED) {
            return [before, now];
        }
    }
}

/// The connection's window is scarce.
fn window() -> Manners {
    let settings = vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 16 << 20)];
    Manners { settings, credit: false, ..Manners::default() }
}

/// The socket is scarce.
fn socket() -> Manners {
    Manners { connection_bump: 64 << 20, receive_buffer: Some(128 << 10), ..window() }
}

/// Opens the connection's window by one step.
fn open(client: &mut Client) {
    client.grant(0, u32::try_from(STEP).unwrap());
}

fn downloads(cases: &mut Cases) {
    type Step = fn(&mut Client);
    let table: [(&str, Manners, Step); 3] = [
        ("downloads_share_the_connection_window_of_the_client", window(), open),
        ("downloads_share_a_connection_window_that_opens_by_odd_steps", window(), |client| {
            client.grant(0, ODD_STEP);
        }),
        ("downloads_share_the_socket_of_a_client_that_reads_slowly", socket(), |_| {
            std::thread::sleep(Duration::from_millis(2));
        }),
    ];
    for (name, manners, step) in table {
        cases.own(name, Spec::default(), move |world| {
            let [before, after] = download(world, manners.clone(), step);
            assert_fair(name, &before, &after);
        });
    }
}

/// Steps of 16 KiB within which a small message comes through beside four large ones.
const STEPS_MAX: usize = 10;

/// Calls beside four endless ones.
fn others(cases: &mut Cases) {
    type Ask = fn(&Client) -> Request;
    let table: [(&str, Spec, Ask); 2] =
        [("plain", Spec::default(), plain), ("stamped", proof::spec(""), stamped)];
    for (what, spec, request) in table {
        let name = format!("a_small_{what}_request_is_served_in_turn_beside_four_uploads");
        cases.own(name, spec.clone(), move |world| {
            let offer = Offer { initial: Some(16 << 20), ..Offer::default() };
            let mut uploads = Uploads::begin(world, offer, request);
            uploads.run(START / 4, grant);
            let mut most = 0;
            for _ in 0..20 {
                uploads.feed();
                let request = uploads.request.clone();
                let id = uploads.client.start(&request, false);
                let message = framed(&[field(1, "ids"), field(3, "plan")].concat());
                assert!(uploads.client.speak(id, &message, 16_384, true));
                let stream = uploads.driver.await_stream();
                let mut steps = 0;
                while !uploads.driver.streams[&stream].ended {
                    assert!(steps < 200, "the request does not come");
                    uploads.step(grant);
                    steps += 1;
                }
                most = most.max(steps);
                uploads.driver.answer(stream);
                uploads.driver.finish(stream, 0);
                assert_eq!(uploads.client.finish(id).status(), Some(0));
            }
            note(format!("a small {what} request beside four uploads: {most} steps"));
            assert!(most <= STEPS_MAX, "a small request took {most} steps of 16 KiB");
        });
        let name = format!("a_{what}_upload_that_its_driver_stops_takes_no_share");
        cases.own(name, spec, move |world| {
            // The driver opens each stream but one.
            let offer = Offer { initial: Some(0), ..Offer::default() };
            let mut uploads = Uploads::begin(world, offer, request);
            let request = uploads.request.clone();
            let stopped = uploads.client.start(&request, false);
            uploads.driver.await_stream();
            Body { message: artifact(), at: 0 }.feed(&mut uploads.client, stopped);
            for id in uploads.streams {
                uploads.driver.grant(id, 64 << 20);
            }
            uploads.run(START, grant);
            let before = uploads.counts();
            uploads.run(START + COUNTED, grant);
            assert_fair("beside an upload that is stopped", &before, &uploads.counts());
        });
    }
    let name = "a_small_response_is_served_in_turn_beside_four_downloads";
    cases.own(name, Spec::default(), |world| {
        let mut driver = Upstream::replace(world, Offer::default());
        let mut client = world.client_with(Manners {
            settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 16 << 20)],
            credit: false,
            ..Manners::default()
        });
        driver.meet(&mut client);
        let ids = [(); STREAMS].map(|()| client.start(&client.request(), true));
        let streams = ids.map(|_| driver.await_stream());
        streams.iter().for_each(|id| driver.answer(*id));
        let piece = frame::message(4091);
        // A driver serves its streams in turn, and the small response as soon as there is a window.
        let step = |client: &mut Client, driver: &mut Upstream, small: Option<u32>| {
            client.grant(0, u32::try_from(STEP).unwrap());
            client.pump(|c| c.connection_open() == 0, Duration::from_millis(50));
            driver.poll();
            if let Some(stream) = small.filter(|id| driver.room(*id) >= 100) {
                driver.speak(stream, &frame::message(95));
                driver.finish(stream, 0);
                return true;
            }
            while streams.iter().all(|id| driver.room(*id) >= piece.len()) {
                streams.iter().for_each(|id| assert!(driver.speak(*id, &piece) > 0));
            }
            false
        };
        for _ in 0..50 {
            step(&mut client, &mut driver, None);
        }
        let mut most = 0;
        for _ in 0..20 {
            let id = client.start(&client.request(), true);
            let stream = driver.await_stream();
            driver.answer(stream);
            let (mut small, mut steps) = (Some(stream), 0);
            while !client.streams.get(&id).is_some_and(|reply| reply.is_over()) {
                assert!(steps < 200, "the response does not come");
                if step(&mut client, &mut driver, small) {
                    small = None;
                }
                steps += 1;
            }
            assert_eq!(client.streams[&id].status(), Some(0));
            most = most.max(steps);
        }
        note(format!("a small response beside four downloads: {most} steps"));
        assert!(most <= STEPS_MAX, "a small response took {most} steps of 16 KiB");
    });
}

/// A client has a connection to each driver, and these share its window.
fn teams(cases: &mut Cases) {
    let name = "downloads_of_three_teams_share_the_connection_window_of_the_client";
    // Alone: a driver that gets no processor has nothing to share.
    cases.alone(name, Spec::default(), move |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client_with(window());
        let request = client.request().script("end;h;d90000000;t0");
        let ids = ["ads", "web", "calm"].map(|team| request.clone().team(team));
        let ids = ids.map(|request| client.start(&request, true));
        let [before, after] = count(&mut client, &ids, open);
        let octets: Vec<usize> = before.iter().zip(&after).map(|(from, to)| to - from).collect();
        let shares: Vec<usize> = octets.iter().map(|it| it * 1000 / COUNTED).collect();
        note(format!("{name}: of 1000 octets the teams got {shares:?}"));
        let is_fair = shares.iter().all(|share| (270..=400).contains(share));
        assert!(is_fair, "of 1000 octets the teams got {shares:?}");
    });
}
