//! The verified user in every message to a driver, and all other octets unchanged.

use std::time::Duration;

use crate::support::client::{Client, SOON};
use crate::support::fields::{self, METHODS};
use crate::support::frame;
use crate::support::proof::{self, ANN, INVALID_ARGUMENT, add, of};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("user_context");
    methods(cases);
    shapes(cases);
    amounts(cases);
    odd(cases);
    malformed(cases);
    ends(cases);
}

/// What clients may claim, honest ones and others.
fn claims() -> Vec<Vec<u8>> {
    let (ids, plan) = (field(1, "0c9d-ids"), field(3, vec![0x12; 300]));
    let odd_context = [field(1, "eve"), field(1, "root"), field(2, "Eve"), field(2, "root")];
    vec![
        [ids.clone(), context("eve", "Eve"), plan.clone()].concat(),
        [ids.clone(), plan.clone()].concat(),
        [ids.clone(), field(2, ""), plan.clone()].concat(),
        [plan.clone(), ids.clone(), context("eve", "Eve")].concat(),
        [ids.clone(), field(2, field(2, "Eve"))].concat(),
        [ids.clone(), field(2, field(1, ""))].concat(),
        [ids.clone(), field(2, odd_context.concat()), plan.clone(), field(536_870_911, "x")]
            .concat(),
        [vec![0x92, 0x00, 0x05], field(1, "eve"), vec![0x59; 1], vec![7; 8], plan].concat(),
        [ids, field(3, context("eve", "Eve")), field(2, field(1, context("eve", "Eve")))].concat(),
        Vec::new(),
    ]
}

fn methods(cases: &mut Cases) {
    // The last one is of no version yet.
    for method in METHODS.into_iter().chain(["ExecuteAnythingAsRoot2"]) {
        add(
            cases,
            format!("every_claim_is_overruled_in_{method}"),
            proof::spec(""),
            move |world| {
                for claim in claims() {
                    let mut client = world.client();
                    let request =
                        of(&client, &ANN).set(":path", [fields::SERVICE, method].concat());
                    let id = proof::ask(&mut client, &request.block(), &framed(&claim));
                    assert_eq!(proof::answerer(&client.finish(id)), "ads");
                    assert_arrived(world, &client, &[claim]);
                }
            },
        );
    }
}

/// The driver has got these messages, each with its stamp, and then the end.
fn assert_arrived(world: &World, client: &Client, sent: &[Vec<u8>]) {
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    assert_eq!(served.received, served.body.len(), "more than what is kept");
    let arrived = protobuf::messages(&served.body);
    assert_eq!(arrived.len(), sent.len(), "messages at the driver");
    for (sent, arrived) in sent.iter().zip(&arrived) {
        protobuf::assert_stamped(sent, arrived, ANN.names());
    }
}

fn body(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| framed(message)).collect()
}

/// Adds a case that sends messages in its own way, all of which must arrive.
fn sends(
    cases: &mut Cases,
    name: impl Into<String>,
    (spec, script): (Spec, &'static str),
    messages: Vec<Vec<u8>>,
    send: impl Fn(&mut Client, u32, &[u8]) + Send + Sync + 'static,
) {
    add(cases, name, spec, move |world| {
        let mut client = world.client();
        let request = of(&client, &ANN);
        let request = if script.is_empty() { request } else { request.script(script) };
        let id = client.start(&request, false);
        send(&mut client, id, &body(&messages));
        let reply = client.finish_within(id, Duration::from_secs(15));
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        assert_arrived(world, &client, &messages);
    });
}

fn usual() -> (Spec, &'static str) {
    (proof::spec(""), "")
}

fn shapes(cases: &mut Cases) {
    sends(cases, "messages_that_come_octet_by_octet", usual(), claims(), |client, id, body| {
        assert!(client.speak(id, body, 1, true));
    });
    sends(cases, "several_messages_in_one_frame", usual(), claims(), |client, id, body| {
        assert!(client.speak(id, body, 16_384, true));
    });
    for most in [2, 3, 4, 6, 7, 311] {
        let name = format!("messages_that_come_in_pieces_of_{most}");
        sends(cases, name, usual(), claims(), move |client, id, body| {
            assert!(client.speak(id, body, most, true));
        });
    }
    for cut in 1..5 {
        let name = format!("a_prefix_that_is_cut_after_{cut}_and_comes_late");
        sends(cases, name, usual(), vec![claims().swap_remove(0)], move |client, id, body| {
            assert!(client.speak(id, &body[..cut], 16_384, false));
            assert!(client.round_trip());
            assert!(client.speak(id, &body[cut..], 16_384, true));
        });
    }
    sends(cases, "empty_messages", usual(), vec![Vec::new(); 20], |client, id, body| {
        assert!(client.speak(id, body, 5, true));
    });
    for pad in [0, 1, 255] {
        let name = format!("messages_with_padding_of_{pad}");
        sends(cases, name, usual(), claims(), move |client, id, body| {
            let pieces: Vec<&[u8]> = body.chunks(100).collect();
            for (n, piece) in pieces.iter().enumerate() {
                client.spend(id, piece.len() + usize::from(pad) + 1);
                client.send(&frame::padded_data(id, n + 1 == pieces.len(), piece, pad));
            }
        });
    }
    sends(cases, "an_end_on_an_empty_frame", usual(), claims(), |client, id, body| {
        assert!(client.speak(id, body, 16_384, false));
        client.send(&frame::data(id, true, &[]));
    });
    sends(
        cases,
        "an_end_on_an_empty_frame_that_comes_late",
        usual(),
        claims(),
        |client, id, body| {
            assert!(client.speak(id, body, 16_384, false));
            assert!(client.round_trip());
            client.send(&frame::data(id, true, &[]));
        },
    );
    sends(cases, "an_end_by_trailers", usual(), claims(), |client, id, body| {
        assert!(client.speak(id, body, 16_384, false));
        client.send(&frame::headers(id, true, &fields::literal(b"x-end", b"1")));
    });
    sends(cases, "an_end_without_any_message", usual(), Vec::new(), |client, id, _| {
        client.send(&frame::data(id, true, &[]));
    });
    add(cases, "an_end_on_the_headers", proof::spec(""), |world| {
        let mut client = world.client();
        let id = client.start(&of(&client, &ANN), true);
        assert_eq!(proof::answerer(&client.finish(id)), "ads");
        assert_arrived(world, &client, &[]);
    });
}

/// A message of so many octets.
fn large(octets: usize) -> Vec<u8> {
    let plan: Vec<u8> = (0..octets).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    [field(1, "ids"), context("eve", "Eve"), field(3, plan)].concat()
}

/// A world whose driver grants no more than HTTP/2 does by itself.
fn narrow() -> Spec {
    let mut spec = proof::spec("");
    spec.driver.settings.clear();
    spec.driver.connection_bump = 0;
    spec
}

fn amounts(cases: &mut Cases) {
    let many = || (0..300).map(|n| large(n % 7)).collect::<Vec<_>>();
    sends(cases, "three_hundred_messages_in_a_frame_each", usual(), many(), |client, id, body| {
        let count = 300;
        let mut rest = body;
        for n in 1..=count {
            let length = 5 + u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            assert!(client.speak(id, &rest[..length], 16_384, n == count));
            rest = &rest[length..];
        }
    });
    sends(cases, "three_hundred_messages_in_one_write", usual(), many(), |client, id, body| {
        assert!(client.speak(id, body, 16_384, true));
    });
    let speak = |client: &mut Client, id: u32, body: &[u8]| {
        assert!(client.speak(id, body, 16_384, true), "the windows stay shut");
    };
    let two_mib = || vec![large(2 << 20)];
    sends(cases, "two_mib_to_a_narrow_driver", (narrow(), ""), two_mib(), speak);
    let slow = "nocredit;sip16000x2;h;d2;t0";
    sends(cases, "two_mib_to_a_slow_driver", (narrow(), slow), two_mib(), speak);
    sends(cases, "two_mib_to_a_usual_driver", usual(), two_mib(), speak);
    let artifacts = || (0..40).map(|n| large((32 << 10) + n)).collect::<Vec<_>>();
    sends(cases, "forty_artifacts_to_a_usual_driver", usual(), artifacts(), speak);
    sends(cases, "forty_artifacts_to_a_slow_driver", (narrow(), slow), artifacts(), speak);
    for (what, spec) in [("usual", proof::spec("")), ("narrow", narrow())] {
        let name = format!("five_megabytes_of_small_messages_to_a_{what}_driver_cost_no_credit");
        add(cases, name, spec, |world| {
            let mut client = world.client();
            assert!(client.round_trip());
            let before = client.budget;
            let messages: Vec<Vec<u8>> = (0..25_000).map(|n| large(150 + n % 50)).collect();
            let id = client.start(&of(&client, &ANN), false);
            assert!(client.speak(id, &body(&messages), 16_384, false), "the windows stay shut");
            assert!(client.open_window(id).is_some(), "no credit is left");
            client.send(&frame::data(id, true, &[]));
            let reply = client.finish_within(id, Duration::from_secs(15));
            assert_eq!(reply.status(), Some(0), "{reply:?}");
            assert_arrived(world, &client, &messages);
            assert!(client.round_trip());
            let left = client.budget;
            assert!(before / 2 <= left && left <= before, "of {before} octets of credit {left}");
        });
    }
    add(cases, "a_thousand_calls_cost_no_credit", proof::spec(""), |world| {
        let mut client = world.client();
        assert!(client.round_trip());
        let before = client.budget;
        for _ in 0..1000 {
            let block = of(&client, &ANN).block();
            let id = proof::ask(&mut client, &block, &framed(&large(400)));
            assert_eq!(client.finish(id).status(), Some(0));
            client.streams.clear();
        }
        assert!(client.round_trip());
        let left = client.budget;
        assert!(before / 2 <= left && left <= before, "of {before} octets of credit {left}");
    });
}

fn twice() -> Vec<u8> {
    [field(1, "ids"), context("eve", "Eve"), field(3, "plan"), context("eve", "")].concat()
}

fn extended() -> Vec<u8> {
    [field(1, "ids"), field(2, [field(1, "eve"), field(999, "any")].concat())].concat()
}

/// A user context with fields that no version of Spark has yet.
fn unknown() -> Vec<u8> {
    let fields = [
        field(1, "eve"),
        field(7, "kept"),
        vec![0x48, 0x96, 0x01],
        field(2, "Eve"),
        vec![0x55, 1, 2, 3, 4],
        field(3, context("root", "")),
    ];
    [field(1, "ids"), field(2, fields.concat()), field(3, "plan")].concat()
}

fn odd(cases: &mut Cases) {
    for (what, label, message) in [
        ("two_user_contexts_are", "envelope.repeated", twice()),
        ("two_empty_user_contexts_are", "envelope.repeated", vec![0x12, 0, 0x12, 0]),
        ("extensions_are", "envelope.extensions", extended()),
        ("unknown_fields_of_the_user_context_are", "envelope.unknown", unknown()),
        ("an_unknown_number_in_it_is", "envelope.unknown", field(2, [0x18, 1])),
    ] {
        for most in [1, 16_384] {
            let (name, body) = (format!("{what}_refused_in_pieces_of_{most}"), framed(&message));
            add(cases, name, proof::spec(""), move |world| refused(world, (&body, most), label));
        }
    }
    for (what, more, message) in [
        ("two_user_contexts", "user_context: { repeated: pass }\n", twice()),
        ("extensions", "user_context: { extensions: pass }\n", extended()),
        ("unknown_fields", "user_context: { unknown: pass }\n", unknown()),
    ] {
        let name = format!("{what}_pass_where_config_says_so_and_are_overruled");
        let world = (proof::spec(more), "");
        sends(cases, name, world, vec![message; 3], |client, id, body| {
            assert!(client.speak(id, body, 16_384, true));
        });
    }
}

/// The call is refused while the driver has heard of it, and it never hears that the request ended.
fn refused(world: &World, (body, most): (&[u8], usize), label: &str) {
    let mut client = world.client();
    let id = client.start(&of(&client, &ANN).script("end;h;d2;t0"), false);
    world.driver_sees(&client.case, SOON, |_| true);
    client.speak(id, body, most, true);
    let reply = client.finish(id);
    proof::assert_refused(world, &reply, INVALID_ARGUMENT, label);
    let served = world.driver_sees(&client.case, SOON, |served| served.is_dropped());
    assert_eq!(served.reset, Some(frame::CANCEL));
    assert!(!served.ended, "the driver took the request for whole");
    client.case = world.mark();
    let block = of(&client, &ANN).block();
    let id = proof::ask(&mut client, &block, &frame::message(0));
    assert_eq!(proof::answerer(&client.finish(id)), "ads");
}

fn malformed(cases: &mut Cases) {
    const MALFORMED: &str = "envelope.malformed";
    let long_varint = [&[0x20][..], &[0xff; 10], &[0]].concat();
    let wide_varint = [&[0x20][..], &[0xff; 9], &[2]].concat();
    let table: [(&str, Vec<u8>); 13] = [
        ("a_user_context_that_is_a_number", vec![0x10, 1]),
        ("a_user_context_of_four_octets", vec![0x15, 1, 2, 3, 4]),
        ("a_user_context_that_is_a_group", vec![0x13, 0x14]),
        ("a_user_id_that_is_a_number", vec![0x12, 2, 0x08, 1]),
        ("a_varint_of_eleven_octets", long_varint),
        ("a_varint_of_more_than_64_bits", wide_varint),
        ("a_field_beyond_its_message", vec![0x0a, 9, b'x']),
        ("a_user_context_beyond_its_message", vec![0x12, 0x7f, 0x0a, 3, b'e', b'v', b'e']),
        ("a_user_id_beyond_its_context", vec![0x12, 2, 0x0a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a_length_of_more_than_32_bits", vec![0x12, 0x80, 0x80, 0x80, 0x80, 0x10]),
        ("a_message_that_stops_in_a_tag", vec![0x0a, 1, b'x', 0x92]),
        ("a_field_with_the_number_0", vec![0x02, 0]),
        ("an_end_of_a_group_that_never_began", vec![0x0a, 1, b'x', 0x0c]),
    ];
    for (what, message) in table {
        for (way, first) in [("alone", Vec::new()), ("behind_a_good_one", framed(&large(10)))] {
            let body = [first, framed(&message)].concat();
            add(cases, format!("{what}_{way}_is_refused"), proof::spec(""), move |world| {
                refused(world, (&body, 16_384), MALFORMED);
            });
        }
    }
    let whole = framed(&large(100));
    for cut in [1, 4, 5, 6, 30, whole.len() - 1] {
        for (way, front) in [("alone", Vec::new()), ("behind_a_good_one", whole.clone())] {
            let body = [front, whole[..cut].to_vec()].concat();
            let name = format!("a_message_that_ends_after_{cut}_octets_{way}_is_refused");
            add(cases, name, proof::spec(""), move |world| {
                refused(world, (&body, 16_384), MALFORMED);
            });
        }
    }
}

/// Ends that come while a driver's connection is full.
fn ends(cases: &mut Cases) {
    for (what, by_trailers) in [("an_empty_frame", false), ("trailers", true)] {
        let mut spec = proof::spec("");
        spec.driver.settings = vec![(frame::INITIAL_WINDOW_SIZE, 16 << 20)];
        spec.driver.connection_bump = 64 << 20;
        let name = format!("an_end_by_{what}_is_not_lost_behind_a_full_connection");
        add(cases, name, spec, move |world| {
            let mut client = world.client();
            let early = client.start(&of(&client, &ANN), false);
            client.spend(early, 5);
            client.send(&frame::data(early, false, &frame::message(0)));
            world.driver_sees(&client.case, SOON, |served| served.received > 5);
            let request = of(&client, &ANN);
            let sleeper = client.start(&request.clone().script("nap1500;end;h;d2;t0"), true);
            client.pump(|_| false, Duration::from_millis(200));
            let plan = framed(&field(3, vec![7; 60_000]));
            let mut others = Vec::new();
            for _ in 0..90 {
                let id = client.start(&request, false);
                assert!(client.speak(id, &plan, 16_384, true), "the windows stay shut");
                others.push(id);
            }
            match by_trailers {
                true => client.send(&frame::headers(early, true, &fields::literal(b"x", b"1"))),
                false => client.send(&frame::data(early, true, &[])),
            }
            for id in others.into_iter().chain([early, sleeper]) {
                let reply = client.finish(id);
                assert_eq!(reply.status(), Some(0), "stream {id}: {reply:?}");
            }
        });
    }
}
