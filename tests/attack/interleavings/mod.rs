//! Random interleavings of everything that opens, closes or uses a flow-control window, on both
//! sides at once: DATA, WINDOW_UPDATE, SETTINGS, RST_STREAM, and of the driver GOAWAY or the end of
//! its connection. The driver limits its streams at times.
//!
//! A seed makes the steps of one connection. The peers obey the windows that sconce grants; a model
//! of both sides is compared whenever they stand still. Four things must hold:
//!
//! 1. Nothing waits in sconce while the receiver's windows, of the stream and of the connection,
//!    are open: neither octets nor what ends them.
//! 2. Nothing comes twice, out of order or beyond a window: octets tell where they belong.
//! 3. No credit is lost and none is given twice: what sconce grants is what the receiver takes.
//!    Credit may be held back as long as less than half of a window is.
//! 4. After GOAWAY the streams up to the last one end as they would have.
//!
//! The steps of a seed are always the same, the timing of the sockets is not. `ATTACK_SEEDS=40..200`
//! runs these seeds too.

use std::collections::VecDeque;
use std::time::Duration;

use crate::support::client::{Client, Manners};
use crate::support::fields::Request;
use crate::support::frame;
use crate::support::proof::{self, ANN, add};
use crate::support::runner::Cases;
use crate::support::upstream::{Offer, Upstream};
use crate::support::world::{Spec, World};

use model::Model;
use random::Random;

mod call;
mod due;
mod model;
mod random;
mod steps;

pub fn cases(cases: &mut Cases) {
    cases.suite("interleavings");
    for seed in seeds() {
        let name = format!("no_octet_waits_and_no_credit_is_lost_with_seed_{seed}");
        // A driver's socket takes little, at times.
        let receive_buffer = seed.is_multiple_of(4).then_some(8192);
        let mut spec = Spec::default();
        spec.driver.receive_buffer = receive_buffer;
        cases.own(name, spec, move |world| run(world, seed, false));
        if seed.is_multiple_of(2) {
            let name = format!("no_message_waits_for_its_stamp_with_seed_{seed}");
            let mut spec = proof::spec("");
            spec.driver.receive_buffer = receive_buffer;
            add(cases, name, spec, move |world| run(world, seed, true));
        }
    }
}

fn seeds() -> Vec<u64> {
    let more = std::env::var("ATTACK_SEEDS").unwrap_or_default();
    let range = more.split_once("..").map(|(from, to)| from.parse().unwrap()..to.parse().unwrap());
    (0..SEEDS).chain(range.unwrap_or(0..0).skip_while(|seed| *seed < SEEDS)).collect()
}

const SEEDS: u64 = 40;
const STEPS: usize = 400;
/// Calls that are under way at one time; a seed has one of these.
const CALLS_MAX: [usize; 3] = [3, 6, 12];
/// Octets by which a peer opens a window at most; a seed has one of these.
const WINDOW_MAX: [i64; 3] = [3_000, 30_000, 300_000];
/// SETTINGS frames of each peer; more of them are a flood.
const SETTINGS_MAX: usize = 60;
/// What sconce may buffer of the responses of one driver beyond the client's connection window.
const BUFFERED_MAX: i64 = 65_536;
/// The window that a client's stream has at least, and the largest one that it can earn.
const STREAM_WINDOW: [i64; 2] = [65_535, 4 << 20];
/// How long something that is due may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(6);

/// A request that is admitted.
fn request(client: &Client, is_stamped: bool) -> Request {
    if is_stamped { proof::of(client, &ANN) } else { client.request() }
}

fn run(world: &World, seed: u64, is_stamped: bool) {
    let mut random = Random(seed.wrapping_mul(0x00d1_342d_543d_e82e).wrapping_add(seed));
    let (calls_max, window_max) = (CALLS_MAX[random.below(3)], WINDOW_MAX[random.below(3)]);
    let [initial, other] = [random.initial_window(), random.initial_window()];
    let bump = u32::try_from(random.below(100_000)).unwrap();
    let offer = Offer { initial: Some(other), connection_bump: bump, ..Offer::default() };
    let mut driver = Upstream::replace(world, offer);
    let mut client = world.client_with(Manners {
        settings: vec![(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, initial)],
        connection_bump: u32::try_from(random.below(100_000)).unwrap(),
        credit: false,
        receive_buffer: random.one_in(4).then_some(8192),
        ..Manners::default()
    });
    let first = request(&client, is_stamped);
    driver.meet_with(&mut client, &first);
    assert!(client.round_trip());
    let granted = client.budget;
    let calls = Vec::new();
    let steps = VecDeque::new();
    let mut model = Model {
        seed,
        is_stamped,
        random,
        client,
        driver,
        calls,
        last: None,
        limit: usize::MAX,
        calls_max,
        window_max,
        has_reconnected: false,
        settings: [0; 2],
        granted,
        steps,
    };
    // How often the peers read: the less, the more is on its way.
    let reads = [2, 4, 10][model.random.below(3)];
    let leaves = (!model.random.one_in(3)).then(|| STEPS / 2 + model.random.below(STEPS / 2));
    for step in 0..STEPS {
        model.step();
        if model.random.one_in(reads) {
            model.client.poll();
        }
        if model.random.one_in(reads) {
            model.driver.poll();
        }
        if step % 50 == 49 {
            model.settle();
        }
        if leaves == Some(step) {
            if model.random.one_in(2) { model.leave() } else { model.close() }
        }
    }
    model.finish();
}
