//! Floods: each ends with GOAWAY(ENHANCE_YOUR_CALM), at bounded cost, without harm to other
//! clients.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::client::{Client, SOON};
use crate::support::fields::{Request, literal};
use crate::support::frame::{self, ENHANCE_YOUR_CALM, frame as raw};
use crate::support::runner::{Cases, note};
use crate::support::world::{Spec, World};

/// CPU that a hundred thousand hostile frames may cost. Our own build for debugging is allowed its
/// slowness; `ATTACK_BIN` names one for release.
fn price_max() -> Duration {
    let is_debug = cfg!(debug_assertions) && std::env::var("ATTACK_BIN").is_err();
    Duration::from_millis(if is_debug { 4000 } else { 300 })
}

pub fn cases(cases: &mut Cases) {
    cases.suite("floods");
    resets(cases);
    provoked_resets(cases);
    control_frames(cases);
    continuations(cases);
    nuisances(cases);
}

/// Sends `round(n)` until cut or `rounds` are over; frames sent, and the price.
fn flood(world: &World, client: &mut Client, rounds: u32, round: impl Fn(u32) -> Vec<u8>) -> u32 {
    let before = world.process().map(|process| process.cpu());
    let mut sent = 0;
    while sent < rounds && !client.closed && client.goaway.is_none() {
        let batch: Vec<u8> = (sent..(sent + 50).min(rounds)).flat_map(&round).collect();
        sent = (sent + 50).min(rounds);
        client.send(&batch);
        client.poll();
    }
    client.pump(|c| c.closed || c.goaway.is_some(), Duration::from_millis(500));
    if let (Some(process), Some(before)) = (world.process(), before) {
        let spent = process.cpu().saturating_sub(before);
        let price = spent * 100_000 / sent.max(1);
        note(format!("{sent} rounds of a flood cost {spent:?} of CPU, canary included"));
        if sent > 20_000 {
            assert!(price < price_max(), "{price:?} for 100,000 rounds");
        }
    }
    sent
}

/// The connection was told to calm down and is closed, and the metrics say which budget it overran.
fn assert_cut(world: &World, client: &mut Client, sent: u32, budget: &str) {
    let code = client.goaway.map(|(_, code)| code);
    assert_eq!(code, Some(ENHANCE_YOUR_CALM), "after {sent} rounds, closed {}", client.closed);
    assert!(client.pump(|c| c.closed, SOON), "the connection is still open after GOAWAY");
    if let Some(sconce) = &world.sconce {
        let fired = sconce.lock().unwrap().guards();
        assert_eq!(fired, [format!("limit=\"{budget}\",side=\"downstream\" 1")]);
    }
}

/// A flood that must be cut within so many rounds.
fn cut(
    cases: &mut Cases,
    name: &str,
    rounds: u32,
    budget: &'static str,
    round: fn(u32) -> Vec<u8>,
) {
    cases.alone(format!("{name}_is_cut"), Spec::default(), move |world| {
        let mut client = world.client();
        client.round_trip();
        let sent = flood(world, &mut client, rounds, round);
        assert_cut(world, &mut client, sent, budget);
        world.client().must_work();
    });
}

/// A flood of calls that must be cut before the driver has had many of them.
fn spared(
    cases: &mut Cases,
    name: &str,
    budget: &'static str,
    streams: usize,
    round: fn(u32) -> Vec<u8>,
) {
    cases.alone(format!("{name}_is_cut_and_the_driver_spared"), Spec::default(), move |world| {
        let mut client = world.client();
        client.round_trip();
        let sent = flood(world, &mut client, 20_000, round);
        assert_cut(world, &mut client, sent, budget);
        assert_driver_spared(world, streams);
    });
}

fn call(case: &str, script: &str) -> Vec<u8> {
    Request::new(case).script(script).block()
}

/// Live streams at the driver stay within the limit, are gone soon after, and few were ever begun.
fn assert_driver_spared(world: &World, streams: usize) {
    let log = world.driver.lock().unwrap().log.clone();
    let peak = log.live_peak.load(Ordering::SeqCst);
    let opened = log.opened.load(Ordering::SeqCst);
    note(format!("{opened} streams reached the driver, {peak} alive at once"));
    assert!(peak <= streams, "{peak} streams alive at the driver at once");
    assert!(opened <= 1000 + streams, "{opened} streams reached the driver before the cut");
    log.wait_for_live(0, Duration::from_secs(2));
}

fn resets(cases: &mut Cases) {
    type Round = fn(u32) -> Vec<u8>;
    let table: [(&str, Round); 3] = [
        ("rapid_reset", |n| {
            let id = 2 * n + 1;
            [frame::headers(id, true, &call("flood", "end;hold")), frame::rst(id, 8)].concat()
        }),
        ("rapid_reset_of_open_streams", |n| {
            let id = 2 * n + 1;
            [frame::headers(id, false, &call("flood", "hold")), frame::rst(id, 8)].concat()
        }),
        ("rapid_reset_with_a_message", |n| {
            let id = 2 * n + 1;
            let open = frame::headers(id, false, &call("flood", "end;hold"));
            [open, frame::data(id, true, &frame::message(10)), frame::rst(id, 8)].concat()
        }),
    ];
    for (name, round) in table {
        spared(cases, name, "resets", 101, round);
    }
    cases.alone(
        "rapid_reset_on_many_connections_leaves_nothing_behind",
        Spec::default(),
        |world| {
            for _ in 0..20 {
                let mut client = world.client();
                for n in 0..90 {
                    let id = 2 * n + 1;
                    client.send(&frame::headers(id, true, &call("flood", "end;hold")));
                    client.send(&frame::rst(id, frame::CANCEL));
                }
                client.round_trip();
            }
            let log = world.driver.lock().unwrap().log.clone();
            log.wait_for_live(0, Duration::from_secs(2));
        },
    );
    cut(cases, "a_flood_of_resets_on_one_dead_stream", 100_000, "resets", |n| {
        if n == 0 {
            return [frame::headers(1, true, &call("flood", "hold")), frame::rst(1, 8)].concat();
        }
        frame::rst(1, 8)
    });
}

/// Resets that sconce is made to send count as well: MadeYouReset.
fn provoked_resets(cases: &mut Cases) {
    type Round = fn(u32) -> Vec<u8>;
    let table: [(&str, Round); 6] = [
        ("by_window_updates_of_0", |n| {
            let id = 2 * n + 1;
            [frame::headers(id, true, &call("flood", "end;hold")), frame::window_update(id, 0)]
                .concat()
        }),
        ("by_window_overflow", |n| {
            let id = 2 * n + 1;
            let over = frame::window_update(id, 0x7fff_ffff);
            [frame::headers(id, true, &call("flood", "end;hold")), over].concat()
        }),
        ("by_content_length", |n| {
            let id = 2 * n + 1;
            let block = [call("flood", "hold"), literal(b"content-length", b"1")].concat();
            [frame::headers(id, false, &block), frame::data(id, false, b"too long")].concat()
        }),
        ("by_data_after_the_end", |n| {
            let id = 2 * n + 1;
            [frame::headers(id, true, &call("flood", "end;hold")), frame::data(id, true, b"x")]
                .concat()
        }),
        ("by_trailers_that_do_not_end", |n| {
            let id = 2 * n + 1;
            let again = frame::headers(id, false, &literal(b"x-again", b"1"));
            [frame::headers(id, false, &call("flood", "hold")), again].concat()
        }),
        ("by_malformed_headers", |n| frame::headers(2 * n + 1, true, &literal(b"X-Bad", b"1"))),
    ];
    for (name, round) in table {
        spared(cases, &format!("made_you_reset_{name}"), "provoked_resets", 101, round);
    }
    spared(cases, "opening_streams_beyond_the_limit", "provoked_resets", 100, |n| {
        frame::headers(2 * n + 1, true, &call("flood", "end;hold"))
    });
}

fn control_frames(cases: &mut Cases) {
    cut(cases, "a_flood_of_pings", 200_000, "pings", |n| frame::ping(u64::from(n).to_be_bytes()));
    cut(cases, "a_flood_of_ping_acks", 200_000, "unexpected_frames", |_| {
        raw(frame::PING, frame::ACK, 0, &[0; 8])
    });
    cut(cases, "a_flood_of_settings", 100_000, "settings", |n| {
        frame::settings(&[(4, 65_535 + n % 2)])
    });
    cut(cases, "a_flood_of_empty_settings", 100_000, "settings", |_| frame::settings(&[]));
    cut(cases, "a_flood_of_settings_acks", 100_000, "unexpected_frames", |_| frame::settings_ack());
    cut(cases, "a_flood_of_priority", 200_000, "priorities", |n| frame::priority(2 * n + 1, 0));
    cut(cases, "a_flood_of_unknown_frames", 200_000, "priorities", |_| raw(0xee, 0, 0, b""));
    cut(cases, "a_flood_of_connection_window_updates", 200_000, "window_updates", |_| {
        frame::window_update(0, 1)
    });
    cut(cases, "a_flood_of_stream_window_updates", 200_000, "window_updates", |n| match n {
        0 => frame::headers(1, true, &call("flood", "hold")),
        _ => frame::window_update(1, 1),
    });
    cut(
        cases,
        "a_flood_of_window_updates_on_a_dead_stream",
        200_000,
        "window_updates",
        |n| match n {
            0 => [frame::headers(1, true, &call("flood", "hold")), frame::rst(1, 8)].concat(),
            _ => frame::window_update(1, 1),
        },
    );
    cut(cases, "a_flood_of_empty_data", 200_000, "empty_data", |n| match n {
        0 => frame::headers(1, false, &call("flood", "hold")),
        _ => frame::data(1, false, &[]),
    });
    cut(cases, "a_flood_of_data_that_is_all_padding", 5_000, "empty_data", |n| match n {
        0 => frame::headers(1, false, &call("flood", "hold")),
        _ => raw(frame::DATA, frame::PADDED, 1, &[0]),
    });
    cut(cases, "a_flood_of_goaways", 100_000, "unexpected_frames", |_| frame::goaway(0, 0));
}

fn continuations(cases: &mut Cases) {
    let begun = || raw(frame::HEADERS, frame::END_STREAM, 1, &[0x82]);
    type Part = fn() -> Vec<u8>;
    let table: [(&str, Part); 4] = [
        ("of_nothing", || raw(frame::CONTINUATION, 0, 1, &[])),
        ("of_one_octet", || raw(frame::CONTINUATION, 0, 1, &[0x82])),
        ("of_16_kilobytes", || raw(frame::CONTINUATION, 0, 1, &literal(b"x", &[b'v'; 16_000]))),
        ("of_huffman", || {
            raw(frame::CONTINUATION, 0, 1, &[[0x00, 0x81, 0xff].as_slice(), &[0x81, 0x1f]].concat())
        }),
    ];
    for (name, part) in table {
        cases.alone(
            format!("a_flood_of_continuations_{name}_is_cut"),
            Spec::default(),
            move |world| {
                let mut client = world.client();
                client.round_trip();
                client.send(&begun());
                let resident = world.process().map(|process| process.resident());
                let sent = flood(world, &mut client, 20_000, |_| part());
                let code = client.goaway.map(|(_, code)| code);
                let fits = [ENHANCE_YOUR_CALM, frame::COMPRESSION_ERROR, frame::PROTOCOL_ERROR];
                assert!(
                    code.is_some_and(|code| fits.contains(&code)),
                    "{code:?} after {sent} frames"
                );
                assert!(sent <= 2000, "only after {sent} frames");
                if let (Some(process), Some(before)) = (world.process(), resident) {
                    let grown = process.resident() - before;
                    assert!(grown < 8 << 20, "memory grew by {grown}");
                }
            },
        );
    }
}

/// Floods that need not be cut, as long as they are cheap and hurt nobody.
fn nuisances(cases: &mut Cases) {
    cases.alone("connections_that_come_and_go_leave_nothing_behind", Spec::default(), |world| {
        let before = world.process().map(|process| process.descriptors());
        for n in 0..1000 {
            let mut client = world.stranger();
            if n % 2 == 0 {
                client.greet();
            }
        }
        if let (Some(process), Some(before)) = (world.process(), before) {
            crate::support::probe::eventually("descriptors are back", SOON, || {
                process.descriptors() <= before + 10
            });
        }
        world.client().must_work();
    });
    cases.alone("a_storm_of_unknown_teams_is_answered_each_time", Spec::default(), |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client();
        for _ in 0..300 {
            let request = client.request().team("nobody");
            let id = client.call(&request);
            let reply = client.finish(id);
            reply.assert_trailers_only();
            assert_ne!(reply.status(), Some(0));
        }
        client.must_work();
    });
    cases.alone(
        "calls_that_are_cancelled_after_their_answer_began_leave_nothing",
        Spec::default(),
        |world| {
            let mut client = world.client();
            for _ in 0..100 {
                let id = client.call(&client.request().script("end;h;d100;hold"));
                client.pump(|c| c.streams.get(&id).is_some_and(|r| !r.body.is_empty()), SOON);
                client.send(&frame::rst(id, frame::CANCEL));
            }
            let log = world.driver.lock().unwrap().log.clone();
            log.wait_for_live(0, Duration::from_secs(2));
            client.must_work();
        },
    );
}
