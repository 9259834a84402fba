//! Four streams of one connection share whatever is scarce: each gets a quarter of the octets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::{Request, SERVICE};
use crate::support::frame;
use crate::support::proof::{self, ANN};
use crate::support::protobuf::{field, framed};
use crate::support::runner::{Cases, note};
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.room("fairness");
    uploads(cases);
    downloads(cases);
}

const STREAMS: usize = 4;
/// Octets that arrive before the shares are counted.
const START: usize = 8 << 20;
/// Octets of which the shares are counted.
const COUNTED: usize = 6 << 20;
/// Octets that the bottleneck lets through at a time.
const STEP: usize = 16_384;

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

/// Four endless uploads, of which the driver takes a step at a time. Says what came of each.
fn upload(
    world: &World,
    offer: Offer,
    request: fn(&Client) -> Request,
    step: fn(&mut Upstream),
) -> [Vec<usize>; 2] {
    let mut driver = Upstream::replace(world, offer);
    let mut client = world.client();
    let request = request(&client);
    driver.meet_with(&mut client, &request);
    let ids = [(); STREAMS].map(|()| client.start(&request, false));
    let streams = ids.map(|_| driver.await_stream());
    // As AddArtifacts sends them, with a user context that is replaced.
    let message = framed(&[field(1, "ids"), field(2, ""), field(3, vec![7; 32 << 10])].concat());
    let mut bodies = ids.map(|_| Body { message: message.clone(), at: 0 });
    let counts = |driver: &Upstream| streams.map(|id| driver.received(id)).to_vec();
    let (mut before, mut still) = (None, 0);
    loop {
        for (body, id) in bodies.iter_mut().zip(ids) {
            body.feed(&mut client, id);
        }
        let earlier = counts(&driver).iter().sum::<usize>();
        step(&mut driver);
        client.pump(|_| false, Duration::from_millis(1));
        let now = counts(&driver);
        let all = now.iter().sum::<usize>();
        // A step may end within a frame.
        still = if all > earlier { 0 } else { still + 1 };
        assert!(still < 10, "nothing more comes after {all} octets: {now:?}");
        if before.is_none() && all >= START {
            before = Some(now.clone());
        }
        if let Some(before) = before.take_if(|_| all >= START + COUNTED) {
            return [before, now];
        }
    }
}

/// Opens the connection's window by one step, and waits until it is used.
fn grant(driver: &mut Upstream) {
    driver.grant(0, u32::try_from(STEP).unwrap());
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
    let socket = Offer {
        initial: Some(16 << 20),
        connection_bump: 64 << 20,
        receive_buffer: Some(32 << 10),
        ..Offer::default()
    };
    type Ask = fn(&Client) -> Request;
    type Step = fn(&mut Upstream);
    let table: [(&str, Spec, Ask, Offer, Step); 4] = [
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
            Spec::default(),
            plain,
            socket.clone(),
            read,
        ),
        (
            "stamped_uploads_share_the_socket_of_a_driver_that_reads_slowly",
            proof::spec(""),
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

fn downloads(cases: &mut Cases) {
    let settings = vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, 16 << 20)];
    let window = Manners { settings: settings.clone(), credit: false, ..Manners::default() };
    let socket = Manners {
        settings,
        connection_bump: 64 << 20,
        receive_buffer: Some(32 << 10),
        credit: false,
        ..Manners::default()
    };
    type Step = fn(&mut Client);
    let table: [(&str, Manners, Step); 2] = [
        ("downloads_share_the_connection_window_of_the_client", window, |client| {
            client.grant(0, u32::try_from(STEP).unwrap());
        }),
        ("downloads_share_the_socket_of_a_client_that_reads_slowly", socket, |_| {
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
