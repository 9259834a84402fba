//! Compressed messages: forwarded inflated and with the verified user, or refused, at bounded cost.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::support::client::{Client, SOON};
use crate::support::fields::Request;
use crate::support::frame;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED};
use crate::support::proof::{UNIMPLEMENTED, add, of};
use crate::support::protobuf::{self, context, field, flagged, framed};
use crate::support::reply::Reply;
use crate::support::runner::{self, Cases};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("user_context");
    passes(cases);
    refused(cases);
    bounded(cases);
    shared(cases);
}

pub fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn zlib(octets: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// Octets that do not get shorter.
fn noise(octets: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..octets).map(|_| next()).collect()
}

fn message(plan: impl AsRef<[u8]>) -> Vec<u8> {
    [field(1, "ids"), context("eve", "Eve"), field(3, plan)].concat()
}

/// A world whose drivers take 64 KiB before they read any.
fn narrow(more: &str) -> Spec {
    let mut spec = proof::spec(more);
    spec.driver.settings.clear();
    spec.driver.connection_bump = 0;
    spec
}

/// A world whose driver takes `window` octets of each stream, so that every stream waits for itself.
fn shallow(more: &str, window: u32) -> Spec {
    let mut spec = proof::spec(more);
    spec.driver.settings = vec![(frame::INITIAL_WINDOW_SIZE, window)];
    spec.driver.connection_bump = 256 << 20;
    spec
}

type Squeeze = fn(&[u8]) -> Vec<u8>;

fn passes(cases: &mut Cases) {
    let squeezes: [(&str, Squeeze); 2] = [("gzip", gzip), ("deflate", zlib)];
    let narrow = || narrow("");
    for (encoding, squeeze) in squeezes {
        let small = vec![message("plan"), Vec::new(), message(vec![7; 3000])];
        let large = vec![message(noise(700_000)), message(vec![0; 3_000_000]), message("x")];
        for (what, spec, messages, most) in [
            ("messages", proof::spec(""), small.clone(), 16_384),
            ("messages_octet_by_octet", proof::spec(""), small, 1),
            ("large_messages", proof::spec(""), large.clone(), 16_384),
            ("large_messages_to_a_narrow_driver", narrow(), large, 16_384),
        ] {
            add(cases, format!("{what}_by_{encoding}_arrive_inflated"), spec, move |world| {
                let body: Vec<u8> =
                    messages.iter().flat_map(|it| flagged(1, &squeeze(it))).collect();
                arrives(world, encoding, (&body, most), &messages);
            });
        }
        let name = format!("messages_by_{encoding}_and_plain_ones_arrive_in_order");
        add(cases, name, proof::spec(""), move |world| {
            let messages: Vec<Vec<u8>> = (0..40).map(|n| message(n.to_string())).collect();
            let written = messages.iter().enumerate();
            let written = written.flat_map(|(n, it)| match n % 3 {
                0 => framed(it),
                _ => flagged(1, &squeeze(it)),
            });
            let body: Vec<u8> = written.collect();
            arrives(world, encoding, (&body, 50), &messages);
        });
    }
}

fn arrives(world: &World, encoding: &str, (body, most): (&[u8], usize), messages: &[Vec<u8>]) {
    let mut client = world.client();
    let id = client.start(&of(&client, &ANN).with("grpc-encoding", encoding), false);
    assert!(client.speak(id, body, most, true), "the windows stay shut");
    let reply = client.finish_within(id, Duration::from_secs(15));
    assert_eq!(reply.status(), Some(0), "{reply:?}");
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    let arrived = protobuf::messages(&served.body);
    assert_eq!(arrived.len(), messages.len());
    for (sent, arrived) in messages.iter().zip(&arrived) {
        protobuf::assert_stamped(sent, arrived, ANN.names());
    }
}

const COMPRESSED: &str = "envelope.compressed";
const INFLATED: &str = "envelope.inflated";

fn refused(cases: &mut Cases) {
    let refuses = || proof::spec("user_context: { compressed: refuse }\n");
    let small = || proof::spec("user_context: { inflated: 2048 }\n");
    let usual = || proof::spec("");
    let good = gzip(&message("plan"));
    let twice = [message("plan"), context("root", "")].concat();
    let extended = field(2, field(999, "any"));
    let flip = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        bad
    };
    type Row = (&'static str, Spec, &'static [&'static str], Vec<u8>, u32, &'static str);
    let table: Vec<Row> = vec![
        (
            "where_config_says_so",
            refuses(),
            &["gzip"],
            flagged(1, &good),
            UNIMPLEMENTED,
            COMPRESSED,
        ),
        ("in_an_unknown_way", usual(), &["snappy"], flagged(1, &good), UNIMPLEMENTED, COMPRESSED),
        ("in_two_ways", usual(), &["gzip", "gzip"], flagged(1, &good), UNIMPLEMENTED, COMPRESSED),
        (
            "in_a_list_of_ways",
            usual(),
            &["gzip, gzip"],
            flagged(1, &good),
            UNIMPLEMENTED,
            COMPRESSED,
        ),
        ("in_upper_case", usual(), &["GZIP"], flagged(1, &good), UNIMPLEMENTED, COMPRESSED),
        ("in_a_way_that_is_not_said", usual(), &[], flagged(1, &good), INTERNAL, COMPRESSED),
        (
            "though_it_is_said_not_to_be",
            usual(),
            &["identity"],
            flagged(1, &good),
            INTERNAL,
            COMPRESSED,
        ),
        ("with_an_unknown_flag", usual(), &["gzip"], flagged(2, &good), INTERNAL, COMPRESSED),
        ("with_the_highest_flag", usual(), &["gzip"], flagged(0x81, &good), INTERNAL, COMPRESSED),
        (
            "in_another_way_than_is_said",
            usual(),
            &["deflate"],
            flagged(1, &good),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        ("and_is_garbage", usual(), &["gzip"], flagged(1, &noise(99)), INVALID_ARGUMENT, INFLATED),
        ("and_is_empty", usual(), &["gzip"], flagged(1, &[]), INVALID_ARGUMENT, INFLATED),
        (
            "and_is_cut",
            usual(),
            &["gzip"],
            flagged(1, &good[..good.len() - 9]),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        (
            "and_lacks_its_last_octet",
            usual(),
            &["gzip"],
            flagged(1, &good[..good.len() - 1]),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        (
            "with_a_wrong_sum",
            usual(),
            &["gzip"],
            flagged(1, &flip(good.len() - 6)),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        (
            "with_garbage_behind_it",
            usual(),
            &["gzip"],
            flagged(1, &[&good[..], &[0; 9]].concat()),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        (
            "in_a_thousand_members",
            usual(),
            &["gzip"],
            flagged(1, &gzip(&[]).repeat(1000)),
            INVALID_ARGUMENT,
            INFLATED,
        ),
        (
            "and_hides_two_user_contexts",
            usual(),
            &["gzip"],
            flagged(1, &gzip(&twice)),
            INVALID_ARGUMENT,
            "envelope.repeated",
        ),
        (
            "and_hides_a_second_user_context_in_a_second_member",
            usual(),
            &["gzip"],
            flagged(1, &[gzip(&message("plan")), gzip(&context("root", ""))].concat()),
            INVALID_ARGUMENT,
            "envelope.repeated",
        ),
        (
            "and_hides_extensions",
            usual(),
            &["gzip"],
            flagged(1, &gzip(&extended)),
            INVALID_ARGUMENT,
            "envelope.extensions",
        ),
        (
            "and_hides_what_is_malformed",
            usual(),
            &["gzip"],
            flagged(1, &gzip(&[0x12, 9])),
            INVALID_ARGUMENT,
            "envelope.malformed",
        ),
        (
            "and_is_cut_by_the_end",
            usual(),
            &["gzip"],
            flagged(1, &good)[..20].to_vec(),
            INVALID_ARGUMENT,
            "envelope.malformed",
        ),
        (
            "and_is_longer_than_it_may_be",
            small(),
            &["gzip"],
            flagged(1, &gzip(&message(noise(4000)))),
            RESOURCE_EXHAUSTED,
            INFLATED,
        ),
        (
            "and_inflates_to_more_than_it_may",
            small(),
            &["gzip"],
            flagged(1, &gzip(&message(vec![0; 4000]))),
            RESOURCE_EXHAUSTED,
            INFLATED,
        ),
    ];
    for (what, spec, encodings, body, code, label) in table {
        for most in [7, 16_384] {
            let name =
                format!("a_message_that_is_compressed_{what}_is_refused_in_pieces_of_{most}");
            let body = body.clone();
            add(cases, name, spec.clone(), move |world| {
                let mut client = world.client();
                let request = of(&client, &ANN).script("end;h;d2;t0");
                let named = |it: Request, encoding: &&str| it.with("grpc-encoding", *encoding);
                let id = client.start(&encodings.iter().fold(request, named), false);
                world.driver_sees(&client.case, SOON, |_| true);
                client.speak(id, &body, most, true);
                let reply = client.finish(id);
                proof::assert_refused(world, &reply, code, label);
                let served = world.driver_sees(&client.case, SOON, |it| it.is_dropped());
                assert!(!served.ended, "the driver took the request for whole");
                assert_eq!(served.received, 0, "a part of it was passed on");
            });
        }
    }
}

/// A gzip of so many MiB of zeros, a thousand times shorter.
fn bomb(mib: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..mib {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

/// Octets of an inflated message in worlds whose bounds are to be met soon.
const SMALL: usize = 64 << 10;

/// A call after which sconce knows the settings of the driver: until then its windows are HTTP/2's.
fn meet(client: &mut Client) {
    let request = of(client, &ANN);
    client.must_succeed(&request);
}

/// Clients with three calls each to a driver that takes little of their messages, which is within
/// what one connection may keep; and how many of their calls were refused.
fn hoard(world: &World, count: usize) -> (Vec<Client>, usize) {
    let message = flagged(1, &gzip(&field(3, vec![0; SMALL - 100])));
    let mut clients: Vec<Client> = (0..count).map(|_| world.client()).collect();
    let mut refused = 0;
    for client in &mut clients {
        meet(client);
        for _ in 0..3 {
            let request = of(client, &ANN).with("grpc-encoding", "gzip").script("starve;hold");
            let id = client.start(&request, false);
            world.driver_sees(&client.case, SOON, |_| true);
            client.speak(id, &message, 16_384, false);
            assert!(client.round_trip());
            let status = client.streams.get(&id).and_then(Reply::status);
            assert!(matches!(status, None | Some(RESOURCE_EXHAUSTED)), "{status:?}");
            refused += usize::from(status.is_some());
        }
    }
    (clients, refused)
}

/// What fits into one connection many times over fits into a worker only so often.
fn shared(cases: &mut Cases) {
    let spec = || shallow(&format!("user_context: {{ inflated: {SMALL} }}\n"), 1000);
    cases.alone("messages_inflated_on_many_connections_are_bounded", spec(), |world| {
        let Some(sconce) = &world.sconce else { return };
        // Twice 64 messages, each with a decoder, fit into the two workers there are.
        let (clients, refused) = hoard(world, 100);
        assert!((30..110).contains(&refused), "{refused} calls were refused");
        let guards = sconce.lock().unwrap().guards();
        assert_eq!(guards, [format!("limit=\"inflated_worker\",side=\"downstream\" {refused}")]);
        let mut other = world.client();
        let plain = of(&other, &ANN);
        assert_eq!(other.must_succeed(&plain).status(), Some(0));
        // Who goes takes along what was kept for him.
        drop(clients);
        let body = flagged(1, &gzip(&message("plan")));
        eventually("there is room again", SOON, || {
            let id = other.start(&of(&other, &ANN).with("grpc-encoding", "gzip"), false);
            other.speak(id, &body, 16_384, true);
            other.finish(id).status() == Some(0)
        });
    });
    add(cases, "messages_inflated_on_some_connections_are_kept", spec(), |world| {
        let (_clients, refused) = hoard(world, 20);
        assert_eq!(refused, 0);
        assert!(world.sconce.as_ref().unwrap().lock().unwrap().guards().is_empty());
        let mut other = world.client();
        let id = other.start(&of(&other, &ANN).with("grpc-encoding", "gzip"), false);
        other.speak(id, &flagged(1, &gzip(&message("plan"))), 16_384, true);
        assert_eq!(other.finish(id).status(), Some(0));
    });
    add(cases, "messages_that_drivers_take_are_never_too_many", spec(), |world| {
        let mut client = world.client();
        meet(&mut client);
        let message = flagged(1, &gzip(&field(3, vec![0; SMALL - 100])));
        for _ in 0..200 {
            let id = client.start(&of(&client, &ANN).with("grpc-encoding", "gzip"), false);
            client.speak(id, &message, 16_384, true);
            assert_eq!(client.finish(id).status(), Some(0));
        }
        assert!(world.sconce.as_ref().unwrap().lock().unwrap().guards().is_empty());
    });
}

const AT_ONCE: Duration = Duration::from_millis(100);

fn bounded(cases: &mut Cases) {
    cases.alone("messages_inflated_on_many_streams_are_bounded", shallow("", 1000), |world| {
        let Some(process) = world.process() else { return };
        let before = process.resident();
        let mut client = world.client();
        meet(&mut client);
        let message = flagged(1, &gzip(&field(3, vec![0; (4 << 20) - 100])));
        let (mut most, mut ids) = (0, Vec::new());
        for round in 0..40 {
            let request = of(&client, &ANN).with("grpc-encoding", "gzip").script("starve;hold");
            let id = client.start(&request, false);
            // Whole ones, or one that never gets its last octet.
            let (count, length) = [(10, message.len()), (1, message.len() - 1)][round % 2];
            for _ in 0..count {
                client.poll();
                if client.window_of(id) > 5000 {
                    client.speak(id, &message[..length], 16_384, false);
                }
            }
            ids.push(id);
            most = most.max(process.resident() - before);
        }
        let ends = ids.into_iter().map(|id| client.finish_within(id, AT_ONCE).status());
        let ends: Vec<Option<u32>> = ends.collect();
        let refused = ends.iter().filter(|it| **it == Some(RESOURCE_EXHAUSTED)).count();
        most = most.max(process.resident() - before);
        runner::note(format!("inflated on many streams: {} KiB", most / 1024));
        assert!(most < 64 << 20, "{most} octets more");
        assert!(refused > 20, "only {refused} calls were refused: {ends:?}");
    });
    cases.alone("bombs_are_refused_and_cost_little_memory", proof::spec(""), |world| {
        let Some(process) = world.process() else { return };
        let before = process.resident();
        let bomb = flagged(1, &bomb(256));
        let mut most = 0;
        for _ in 0..20 {
            let mut client = world.client();
            let id = client.start(&of(&client, &ANN).with("grpc-encoding", "gzip"), false);
            client.speak(id, &bomb, 16_384, true);
            let reply = client.finish(id);
            proof::assert_turned_away(&reply, RESOURCE_EXHAUSTED);
            most = most.max(process.resident() - before);
        }
        runner::note(format!("bombs: {} KiB", most / 1024));
        assert!(most < 24 << 20, "{most} octets more");
    });
    // All but the last octet of a message has given its credit back when that one comes.
    for (what, split) in [("whole", false), ("but_for_their_last_octet", true)] {
        let name = format!("messages_inflated_for_a_driver_that_reads_nothing_are_bounded_{what}");
        cases.alone(name, proof::spec(""), move |world| {
            let Some(process) = world.process() else { return };
            let before = process.resident();
            let mut client = world.client();
            let request = of(&client, &ANN).with("grpc-encoding", "gzip").script("starve;hold");
            let id = client.start(&request, false);
            world.driver_sees(&client.case, SOON, |_| true);
            let plan = field(3, vec![0; (4 << 20) - 100]);
            let message = flagged(1, &gzip(&plan));
            let cut = if split { message.len() - 1 } else { message.len() };
            let (mut most, began) = (0, Instant::now());
            for _ in 0..100 {
                let open = client.speak(id, &message[..cut], 16_384, false)
                    && client.speak(id, &message[cut..], 16_384, false);
                client.poll();
                most = most.max(process.resident() - before);
                if !open || began.elapsed() > Duration::from_secs(20) {
                    break;
                }
            }
            client.send(&frame::rst(id, frame::CANCEL));
            runner::note(format!("inflated and parked ({what}): {} KiB", most / 1024));
            assert!(most < 48 << 20, "{most} octets more");
        });
    }
}
