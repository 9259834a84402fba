//! A probe: a stream in a known state, some octets, and what the RFC says must follow.

use std::time::Duration;

use super::client::{Client, SOON, Verdict};
use super::fields::Request;
use super::frame;
use super::runner::Cases;
use super::world::World;

/// The state of stream 1 when the octets are sent.
#[derive(Clone, Copy)]
pub enum Setup {
    /// Idle: nothing was sent but the greeting.
    Idle,
    /// Open: HEADERS were sent, the body is still to come.
    Open,
    /// Half-closed (remote): the request is whole, the answer has not begun.
    HalfClosed,
    /// Closed by END_STREAM from both sides.
    Done,
    /// Closed by our own RST_STREAM.
    Cancelled,
}

impl Setup {
    pub fn prepare(self, world: &World) -> Client {
        let mut client = world.client();
        match self {
            Self::Idle => return client,
            Self::Open => {
                let request = client.request().script("end;h;d2;t0");
                client.start(&request, false);
            }
            Self::HalfClosed => {
                let request = client.request().script("hold");
                client.start(&request, true);
            }
            Self::Done => {
                let request = client.request();
                client.must_succeed(&request);
            }
            Self::Cancelled => {
                let request = client.request().script("hold");
                client.start(&request, false);
                client.send(&frame::rst(1, frame::CANCEL));
            }
        }
        assert!(client.round_trip(), "no answer to a PING");
        client
    }
}

/// Adds a case that sends octets at stream 1 in a state, and knows the verdicts.
pub fn probe(cases: &mut Cases, name: &str, setup: Setup, octets: Vec<u8>, allowed: &[Verdict]) {
    let allowed = allowed.to_vec();
    cases.add(name, move |world| {
        let mut client = setup.prepare(world);
        client.send(&octets);
        if matches!(setup, Setup::Idle) {
            client.next_id = 1001;
        }
        client.expect(1, &allowed);
    });
}

/// Adds a case whose request is malformed: RST_STREAM(PROTOCOL_ERROR), never seen by the driver.
pub fn malformed(
    cases: &mut Cases,
    name: &str,
    bend: impl Fn(Request) -> Request + Send + Sync + 'static,
) {
    cases.add(name, move |world| {
        let mut client = world.client();
        let request = bend(client.request());
        let id = client.start(&request, false);
        client.send(&frame::data(id, true, &frame::message(2)));
        assert_malformed(world, &mut client, id);
    });
}

pub fn assert_malformed(world: &World, client: &mut Client, id: u32) {
    let mark = std::mem::replace(&mut client.case, world.mark());
    client.expect(id, &[Verdict::Reset(frame::PROTOCOL_ERROR)]);
    let reply = client.streams[&id].clone();
    assert_ne!(reply.status(), Some(0), "success for a malformed request: {reply:?}");
    assert_eq!(world.asked(&mark), 0, "a malformed request reached the driver");
}

/// Adds a case whose request is refused, by RST_STREAM(PROTOCOL_ERROR) or by an answer that says so.
pub fn refused(
    cases: &mut Cases,
    name: &str,
    bend: impl Fn(Request) -> Request + Send + Sync + 'static,
) {
    cases.add(name, move |world| {
        let mut client = world.client();
        let id = client.call(&bend(client.request()));
        let reply = client.finish(id);
        let answered = reply.status().is_some_and(|status| status != 0)
            || reply.http_status().is_some_and(|status| status.starts_with('4'));
        let reset = reply.reset == Some(frame::PROTOCOL_ERROR);
        assert!(answered || reset, "not refused: {reply:?}, goaway {:?}", client.goaway);
        assert_eq!(world.asked(&client.case), 0, "it reached the driver");
        client.case = world.mark();
        client.must_work();
    });
}

/// Adds a case whose request is odd but valid: it is answered, and the driver has seen `shows`.
pub fn valid(
    cases: &mut Cases,
    name: &str,
    shows: Option<(&'static str, &'static str)>,
    bend: impl Fn(Request) -> Request + Send + Sync + 'static,
) {
    cases.add(name, move |world| {
        let mut client = world.client();
        let request = bend(client.request());
        client.must_succeed(&request);
        let served = world.driver_sees(&client.case, SOON, |_| true);
        if let Some((name, value)) = shows {
            let seen: Vec<&str> =
                served.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(seen, [value], "of {name} at the driver");
        }
    });
}

/// Polls until a condition holds.
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + patience;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never so: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}
