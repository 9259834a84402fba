//! Memory is bounded: data that peers send or do not read does not accumulate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Manners, SOON};
use crate::support::fields::{Request, indexed, indexing, literal};
use crate::support::frame::{self, frame as raw};
use crate::support::proof::{self, ANN};
use crate::support::protobuf::{self, flagged};
use crate::support::runner::{Cases, note};
use crate::support::signer::{Signer, claims_but, jwks};
use crate::support::world::{Spec, World};

const MEGABYTE: i64 = 1 << 20;

/// Warms the process up, then runs; resident memory may have grown by so much.
fn grows_by(world: &World, what: &str, bound: i64, attack: impl FnOnce() -> Vec<Client>) {
    grows_as_by(world, Client::request, what, bound, attack);
}

/// The same where a call that works looks like this.
fn grows_as_by(
    world: &World,
    honest: impl Fn(&Client) -> Request,
    what: &str,
    bound: i64,
    attack: impl FnOnce() -> Vec<Client>,
) {
    let mut warm = world.client();
    let work = |client: &mut Client| {
        let request = honest(client);
        client.must_succeed(&request);
    };
    (0..50).for_each(|_| work(&mut warm));
    let before = world.process().map(|process| process.resident());
    let clients = attack();
    if let (Some(process), Some(before)) = (world.process(), before) {
        let grown = process.resident() - before;
        note(format!("{what}: resident memory grew by {} KiB", grown / 1024));
        assert!(grown <= bound, "{what}: grew by {grown}, bound {bound}");
    }
    work(&mut world.client());
    drop(clients);
}

pub fn cases(cases: &mut Cases) {
    cases.suite("memory");
    stamped(cases);
    cases.alone(
        "five_hundred_unread_downloads_pull_little_and_hold_little",
        Spec::default(),
        |world| {
            let log = world.driver.lock().unwrap().log.clone();
            let before = log.sent.load(Ordering::Relaxed);
            grows_by(world, "500 downloads nobody reads", 32 * MEGABYTE, || {
                let clients = (0..5)
                    .map(|_| {
                        let manners = Manners {
                            settings: vec![(frame::INITIAL_WINDOW_SIZE, 4_194_304)],
                            connection_bump: 1 << 30,
                            receive_buffer: Some(32_768),
                            ..Manners::default()
                        };
                        open_streams(world, manners, 99, "end;h;d4000000;t0", true)
                    })
                    .collect();
                std::thread::sleep(Duration::from_millis(1500));
                clients
            });
            let pulled = (log.sent.load(Ordering::Relaxed) - before) >> 20;
            note(format!("500 downloads nobody reads: {pulled} MiB pulled from the driver"));
            assert!(pulled <= 32, "{pulled} MiB were pulled for streams that nobody reads");
        },
    );
    cases.alone("four_hundred_stalled_uploads_hold_little", Spec::default(), |world| {
        grows_by(world, "400 uploads the driver does not read", 32 * MEGABYTE, || {
            let clients: Vec<Client> = (0..4).map(|_| stalled(world)).collect();
            assert!(clients.iter().all(|client| turned_away(client) == 0));
            std::thread::sleep(Duration::from_millis(300));
            clients
        });
    });
    let name = "a_thousand_uploads_that_no_driver_takes_are_bounded_and_leave_small_calls_alone";
    let mut spec = Spec::default();
    spec.config.timeouts.push(("body_progress", "5m"));
    cases.alone(name, spec, |world| {
        // The read buffers of the workers are no part of what an attack costs.
        for _ in 0..4 {
            let mut warm = world.client();
            let id = warm.start(&warm.request(), false);
            assert!(warm.upload(id, 2_000_000, true), "an upload before the attack stands still");
            assert_eq!(warm.finish(id).status(), Some(0));
        }
        let mut away = 0;
        // 26 MiB of buffers, and what their streams and the allocator add.
        grows_by(world, "1,500 uploads the driver does not read", 36 * MEGABYTE, || {
            let mut clients: Vec<Client> = (0..15).map(|_| stalled(world)).collect();
            // Until so few are left that none of them has to go.
            loop {
                clients.iter_mut().for_each(|client| {
                    client.pump(|_| false, Duration::from_millis(150));
                });
                let before = std::mem::replace(&mut away, clients.iter().map(turned_away).sum());
                if before == away {
                    return clients;
                }
            }
        });
        if let Some(sconce) = &world.sconce {
            assert!(away > 100, "{away} were turned away");
            let guards = sconce.lock().unwrap().guards();
            assert_eq!(guards, [format!("limit=\"parked\",side=\"downstream\" {away}")]);
        }
        let mut other = world.client();
        let id = other.start(&other.request(), false);
        assert!(other.upload(id, 3_000_000, true), "an honest upload stands still");
        assert_eq!(other.finish(id).status(), Some(0));
    });
    let name = "requests_of_which_a_driver_leaves_little_hold_little";
    let mut spec = Spec::default();
    spec.driver.connection_bump = 200_000;
    spec.driver.settings = vec![(frame::INITIAL_WINDOW_SIZE, 57_000)];
    cases.alone(name, spec, |world| {
        grows_by(world, "500 requests of which little is left", 20 * MEGABYTE, || {
            (0..5).map(|_| nearly_taken(world)).collect()
        });
    });
    cases.alone("four_thousand_open_streams_hold_two_kilobytes_each", Spec::default(), |world| {
        grows_by(world, "4000 streams nobody answers", 4000 * 2048 + 40 * 12 * 1024, || {
            let clients: Vec<Client> = (0..40)
                .map(|_| open_streams(world, Manners::default(), 100, "end;hold", true))
                .collect();
            let log = world.driver.lock().unwrap().log.clone();
            crate::support::probe::eventually("all are open", Duration::from_secs(10), || {
                log.live.load(Ordering::SeqCst) >= 4000 || !world.is_sconce()
            });
            clients
        });
    });
    cases.alone("a_thousand_idle_connections_hold_little", Spec::default(), |world| {
        grows_by(world, "1000 idle connections", 1000 * 16 * 1024, || {
            let clients = (0..1000).map(|_| world.client()).collect();
            std::thread::sleep(Duration::from_millis(200));
            clients
        });
    });
    bombs(cases);
    rounds(cases);
}

/// A client with so many streams open, whose settings were answered before.
fn open_streams(world: &World, manners: Manners, count: u32, script: &str, end: bool) -> Client {
    open_on(world.client_with(manners), count, script, end)
}

fn open_on(mut client: Client, count: u32, script: &str, end: bool) -> Client {
    let block = client.request().script(script).block();
    let ids = (0..count).map(|n| client.next_id + 2 * n);
    let out: Vec<u8> = ids.flat_map(|id| frame::headers(id, end, &block)).collect();
    client.send(&out);
    client.next_id += 2 * count;
    client
}

fn bombs(cases: &mut Cases) {
    type Block = fn() -> Vec<u8>;
    let table: [(&str, Block); 3] = [
        ("of_indexed_references", || {
            [indexing(b"x", &[b'v'; 4000]), indexed(62).repeat(16_000)].concat()
        }),
        ("of_cookie_crumbs", || {
            [indexing(b"cookie", &[b'c'; 4000]), indexed(62).repeat(16_000)].concat()
        }),
        ("of_empty_fields", || literal(b"x", b"").repeat(5000)),
    ];
    for (what, block) in table {
        cases.alone(
            format!("two_hundred_header_bombs_{what}_hold_little"),
            Spec::default(),
            move |world| {
                grows_by(world, &format!("200 header bombs {what}"), 8 * MEGABYTE, || {
                    (0..200)
                        .map(|_| {
                            let mut client = world.client_with(Manners {
                                settings: vec![(frame::INITIAL_WINDOW_SIZE, 0)],
                                ..Manners::default()
                            });
                            let whole = [client.request().block(), block()].concat();
                            let parts: Vec<&[u8]> = whole.chunks(16_384).collect();
                            for (at, part) in parts.iter().enumerate() {
                                let last =
                                    if at + 1 == parts.len() { frame::END_HEADERS } else { 0 };
                                let (kind, first) = if at == 0 {
                                    (frame::HEADERS, 0)
                                } else {
                                    (frame::CONTINUATION, 0)
                                };
                                client.send(&raw(kind, last | first, 1, part));
                            }
                            client.poll();
                            client
                        })
                        .collect()
                });
            },
        );
    }
    cases.alone("header_blocks_that_never_end_hold_little", Spec::default(), |world| {
        grows_by(world, "200 header blocks that never end", 200 * 64 * 1024, || {
            (0..200)
                .map(|_| {
                    let mut client = world.client();
                    client.send(&raw(frame::HEADERS, 0, 1, &literal(b"x", &[b'v'; 16_000])));
                    client.poll();
                    client
                })
                .collect()
        });
    });
    cases.alone("half_frames_hold_little", Spec::default(), |world| {
        grows_by(world, "200 connections with half a frame", 200 * 48 * 1024, || {
            (0..200)
                .map(|_| {
                    let mut client = world.client();
                    let whole = frame::data(1, false, &[0; 16_384]);
                    client.send(&frame::headers(
                        1,
                        false,
                        &client.request().script("hold").block(),
                    ));
                    client.send(&whole[..16_000]);
                    client.poll();
                    client
                })
                .collect()
        });
    });
}

/// The same again and again: memory and descriptors stay where they are.
fn rounds(cases: &mut Cases) {
    cases.alone(
        "ten_rounds_of_abuse_leave_memory_and_descriptors_flat",
        Spec::default(),
        |world| {
            let Some(process) = world.process() else { return };
            let mut sizes = Vec::new();
            let mut descriptors = Vec::new();
            for _ in 0..10 {
                for _ in 0..10 {
                    let mut client =
                        open_streams(world, Manners::default(), 90, "end;h;d20000;hold", true);
                    client.pump(|c| c.streams.len() == 90, SOON);
                }
                let log = world.driver.lock().unwrap().log.clone();
                log.wait_for_live(0, Duration::from_secs(3));
                sizes.push(process.resident() / 1024);
                descriptors.push(process.descriptors());
            }
            note(format!("ten rounds: KiB {sizes:?}, descriptors {descriptors:?}"));
            assert!(sizes[9] <= sizes[2] + 4096, "resident memory grows: {sizes:?}");
            assert!(descriptors[9] <= descriptors[0] + 10, "descriptors grow: {descriptors:?}");
        },
    );
}

/// A client whose hundred uploads fill their windows before a driver that takes nothing.
fn stalled(world: &World) -> Client {
    fill(open_streams(world, Manners::default(), 99, "starve;hold", false))
}

/// The same before a driver that takes nearly all of them.
fn nearly_taken(world: &World) -> Client {
    let mut client = world.client();
    // From then on the driver's windows are known.
    client.must_work();
    let client = open_on(client, 99, "nocredit;hold", false);
    let mut client = fill(client);
    let log = world.driver.lock().unwrap().log.clone();
    crate::support::probe::eventually("nearly all have left", 5 * SOON, || {
        client.poll();
        let entries = log.entries(&client.case);
        entries.iter().skip(1).all(|it| it.0.lock().unwrap().received >= 57_000)
    });
    client
}

fn fill(mut client: Client) -> Client {
    for n in 1..=99 {
        let id = client.next_id - 2 * n;
        for _ in 0..16 {
            client.pump(|c| c.budget > 8192, Duration::from_millis(50));
            if client.budget <= 8192 || !client.upload_now(id, 8192) {
                break;
            }
        }
    }
    assert!(client.round_trip());
    client
}

/// How many calls were told to come later.
fn turned_away(client: &Client) -> usize {
    let told = client.streams.values().filter_map(|reply| reply.status());
    told.inspect(|status| assert_eq!(*status, 8)).count()
}

/// What is added to messages, and what is kept of compressed ones, is bounded like all else.
fn stamped(cases: &mut Cases) {
    cases.alone("heads_of_gzip_without_an_end_are_not_kept", proof::spec(""), |world| {
        // FEXTRA, FNAME and FCOMMENT, each as long as can be, and the last one without an end.
        let mut head = vec![0x1f, 0x8b, 8, 4 | 8 | 16, 0, 0, 0, 0, 0, 255, 255, 255];
        head.extend([b'e'; 65_535]);
        head.extend([b'n'; 65_535]);
        head.push(0);
        head.extend([b'c'; 65_000]);
        let whole = [&head[..], &vec![b'c'; 4 << 20]].concat();
        let body = flagged(1, &whole[..4 << 20])[..head.len()].to_vec();
        let honest = |client: &Client| proof::of(client, &ANN);
        grows_as_by(world, honest, "270 heads of gzip", 16 * MEGABYTE, || {
            let mut clients: Vec<Client> = (0..3).map(|_| world.client()).collect();
            for client in &mut clients {
                for _ in 0..90 {
                    let request = proof::of(client, &ANN).with("grpc-encoding", "gzip");
                    let id = client.start(&request.script("starve;hold"), false);
                    client.speak(id, &body, 16_384, false);
                }
            }
            clients
        });
    });
    let one = Signer::new("one");
    let mut spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    spec.driver.settings.clear();
    spec.driver.connection_bump = 0;
    cases.alone("stamps_do_not_pile_up_before_a_driver_that_does_not_read", spec, move |world| {
        let names = json!({"sub": "u".repeat(250), "name": "n".repeat(250)});
        let bearer = format!("Bearer {}", one.sign(&claims_but(&names)));
        let honest = |client: &Client| proof::of(client, &ANN);
        grows_as_by(world, honest, "60 x 13,000 messages of nothing", 16 * MEGABYTE, || {
            let mut client = world.client();
            for _ in 0..60 {
                let request = proof::bare(&client).with("authorization", bearer.clone());
                let id = client.start(&request.script("starve;hold"), false);
                client.speak(id, &vec![0; 65_000], 16_384, false);
            }
            assert!(client.round_trip());
            vec![client]
        });
    });
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    cases.alone(
        "a_stream_of_a_hundred_thousand_messages_of_nothing_is_stamped",
        spec,
        move |world| {
            let mut client = world.client();
            let bearer = format!("Bearer {}", one.sign(&claims_but(&json!({}))));
            let request = proof::bare(&client).with("authorization", bearer);
            let id = client.start(&request, false);
            for part in 0..10 {
                assert!(client.speak(id, &vec![0; 50_000], 16_384, part == 9), "part {part}");
            }
            let reply = client.finish_within(id, Duration::from_secs(20));
            assert_eq!(proof::answerer(&reply), "ads");
            let served = world.driver_sees(&client.case, SOON, |served| served.ended);
            let messages = protobuf::messages(&served.body);
            assert_eq!(messages.len(), 100_000);
            assert!(
                messages.iter().all(|message| *message == messages[0]),
                "not all are stamped alike"
            );
        },
    );
    let one = Signer::new("one");
    let spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    cases.alone("a_token_in_many_spellings_is_remembered_once", spec, move |world| {
        let token = one.sign(&claims_but(&json!({})));
        let honest = |client: &Client| proof::of(client, &ANN);
        grows_as_by(world, honest, "2,400 spellings of a token", 4 * MEGABYTE, || {
            for _ in 0..4 {
                let mut client = world.client();
                for blanks in 14_000..14_600 {
                    let value = format!("bearer{}{token}", " ".repeat(blanks));
                    let id = client.call(&proof::bare(&client).with("authorization", value));
                    assert_eq!(client.finish(id).status(), Some(0));
                    client.streams.clear();
                }
            }
            Vec::new()
        });
    });
}
