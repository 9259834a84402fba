//! RFC 7541: every malformed header block ends the connection, and no compression bomb costs
//! memory.

use crate::support::client::Verdict::Goaway;
use crate::support::client::{Client, SOON};
use crate::support::fields::{
    self, Request, huffman, indexed, indexing, literal, never, string, table_size,
};
use crate::support::frame::{self, COMPRESSION_ERROR, frame as raw};
use crate::support::runner::Cases;
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("hpack");
    errors(cases);
    honest_blocks(cases);
    shared_table(cases);
    bombs(cases);
}

/// A valid request, then these octets in the same block.
fn with_tail(tail: &[u8]) -> Vec<u8> {
    [Request::new("stray").block(), tail.to_vec()].concat()
}

fn errors(cases: &mut Cases) {
    let name = string(b"x-odd");
    let coded = |octets: &[u8]| [&[0x00][..], &name, &huffman(octets)].concat();
    for (what, tail) in [
        ("index_0", indexed(0)),
        ("index_62_of_an_empty_table", indexed(62)),
        ("an_index_of_a_million", indexed(1_000_000)),
        ("a_name_index_out_of_range", [fields::integer(0x40, 6, 99), string(b"v")].concat()),
        (
            "a_name_index_out_of_range_without_indexing",
            [fields::integer(0, 4, 99), string(b"v")].concat(),
        ),
        (
            "a_never_indexed_name_out_of_range",
            [fields::integer(0x10, 4, 99), string(b"v")].concat(),
        ),
        ("an_integer_of_eleven_octets", [&[0xff][..], &[0xff; 10], &[0x0f]].concat()),
        ("an_integer_of_endless_zeros", [&[0xff][..], &[0x80; 40], &[0x00]].concat()),
        ("an_integer_that_is_cut", vec![0xff, 0x80]),
        ("a_string_length_that_is_cut", vec![0x00, 0x7f]),
        ("a_string_length_beyond_the_block", vec![0x00, 0x05, b'a', b'b']),
        ("a_string_of_4_gigabytes", [&[0x00][..], &[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f]].concat()),
        ("a_literal_without_a_value", [&[0x00][..], &name].concat()),
        ("huffman_padding_of_zeros", coded(&[0b0001_1000])),
        ("huffman_padding_of_a_whole_octet", coded(&[0b0001_1111, 0xff])),
        ("huffman_end_of_string_inside", coded(&[0xff, 0xff, 0xff, 0xff])),
        ("huffman_end_of_string_after_a_letter", coded(&[0x1f, 0xff, 0xff, 0xff, 0xff])),
        ("huffman_that_ends_inside_a_long_code", coded(&[0xff, 0xff, 0xf8])),
        ("a_table_size_update_after_a_field", table_size(0)),
        ("a_table_size_update_that_is_cut", vec![0x3f]),
    ] {
        let block = with_tail(&tail);
        cases.add(format!("{what}_is_a_compression_error"), move |world| {
            let mut client = world.client();
            client.send(&frame::headers(1, true, &block));
            client.expect(1, &[Goaway(COMPRESSION_ERROR)]);
        });
    }
    cases.add("a_table_size_beyond_the_setting_is_a_compression_error", |world| {
        let mut client = world.client();
        client.round_trip();
        let limit = client.peer.get(&frame::HEADER_TABLE_SIZE).copied().unwrap_or(4096);
        let block = [table_size(limit as usize + 1), client.request().block()].concat();
        client.send(&frame::headers(1, true, &block));
        client.expect(1, &[Goaway(COMPRESSION_ERROR)]);
    });
    cases.add("an_entry_that_was_evicted_is_a_compression_error", |world| {
        let mut client = world.client();
        let block = [client.request().block(), indexing(b"x-kept", b"1")].concat();
        client.send(&frame::headers(client.next_id, true, &block));
        client.next_id += 2;
        client.must_work();
        let block =
            [table_size(0), table_size(4096), client.request().block(), indexed(62)].concat();
        client.send(&frame::headers(client.next_id, true, &block));
        client.expect(client.next_id, &[Goaway(COMPRESSION_ERROR)]);
    });
    cases.add("an_entry_larger_than_the_table_empties_it", |world| {
        let mut client = world.client();
        let block =
            [client.request().block(), indexing(b"x-kept", b"1"), indexing(b"x", &[b'v'; 4096])];
        client.send(&frame::headers(1, true, &block.concat()));
        client.next_id = 3;
        client.must_work();
        let block = [client.request().block(), indexed(62)].concat();
        client.send(&frame::headers(5, true, &block));
        client.expect(5, &[Goaway(COMPRESSION_ERROR)]);
    });
    cases.add("a_broken_block_in_trailers_is_a_compression_error", |world| {
        let mut client = world.client();
        let request = client.request().script("hold");
        let id = client.start(&request, false);
        client.send(&frame::headers(id, true, &indexed(0)));
        client.expect(id, &[Goaway(COMPRESSION_ERROR)]);
    });
    cases.add("a_broken_block_on_a_refused_stream_is_a_compression_error", |world| {
        let mut client = world.client();
        let request = client.request().with("X-Upper", "1");
        let id = client.start(&request, false);
        client.send(&frame::headers(id, true, &indexed(0)));
        client.expect(0, &[Goaway(COMPRESSION_ERROR)]);
    });
}

/// Sends one block as a call and returns what the driver saw of `name`.
fn driver_saw(world: &World, client: &mut Client, block: &[u8], name: &str) -> Vec<String> {
    let before = world.asked(&client.case);
    let id = client.take_id();
    client.send(
        &[frame::headers(id, false, block), frame::data(id, true, &frame::message(2))].concat(),
    );
    assert_eq!(client.finish(id).status(), Some(0), "goaway {:?}", client.goaway);
    crate::support::probe::eventually("asked", SOON, || world.asked(&client.case) > before);
    let served = world.driver_sees(&client.case, SOON, |_| true);
    served.headers.into_iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect()
}

fn honest_blocks(cases: &mut Cases) {
    type Tail = fn() -> Vec<u8>;
    let table: [(&str, Tail, &str); 9] = [
        ("a_huffman_coded_field", huffman_field, "custom-value"),
        ("a_never_indexed_field", || never(b"custom-key", b"custom-value"), "custom-value"),
        ("an_indexing_field", || indexing(b"custom-key", b"custom-value"), "custom-value"),
        ("an_entry_used_in_its_own_block", own_entry, "custom-value custom-value"),
        ("an_integer_with_needless_zeros", padded_length, "custom-value"),
        (
            "an_empty_huffman_string",
            || [&[0][..], &string(b"custom-key"), &huffman(&[])].concat(),
            "",
        ),
        ("a_huffman_string_with_7_bits_of_padding", seven_bits, "00000"),
        ("an_evicting_run_of_entries", evicting, "last"),
        (
            "a_value_of_every_visible_octet",
            visible,
            "!\"#$%&'()*+,-./0123456789:;<=>?@AZ[\\]^_`az{|}~",
        ),
    ];
    for (what, tail, expected) in table {
        cases.add(format!("{what}_reaches_the_driver"), move |world| {
            let mut client = world.client();
            let block = [client.request().block(), tail()].concat();
            let seen = driver_saw(world, &mut client, &block, "custom-key").join(" ");
            assert_eq!(seen, expected);
            client.must_work();
        });
    }
    cases.add("two_table_size_updates_at_the_start_are_fine", |world| {
        let mut client = world.client();
        let head = [table_size(0), table_size(4096)].concat();
        let block = [head, client.request().with("custom-key", "v").block()].concat();
        assert_eq!(driver_saw(world, &mut client, &block, "custom-key"), ["v"]);
        client.must_work();
    });
}

fn huffman_field() -> Vec<u8> {
    let name = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
    let value = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
    [&[0x40][..], &huffman(&name), &huffman(&value)].concat()
}

fn own_entry() -> Vec<u8> {
    [indexing(b"custom-key", b"custom-value"), indexed(62)].concat()
}

/// A length in one octet more than it needs: RFC 7541, section 5.1, does not forbid it.
fn padded_length() -> Vec<u8> {
    let value = [b'v'; 127 + 1];
    let mut out = [&[0][..], &string(b"x-filler"), &[0x7f, 0x81, 0x00][..], &value].concat();
    out.extend(literal(b"custom-key", b"custom-value"));
    out
}

/// Five times '0' of five bits each, and padding of ones.
fn seven_bits() -> Vec<u8> {
    [&[0][..], &string(b"custom-key"), &huffman(&[0, 0, 0, 0x7f])].concat()
}

fn evicting() -> Vec<u8> {
    let mut out: Vec<u8> =
        (0..60).flat_map(|n| indexing(b"x-filler", format!("{n:0>60}").as_bytes())).collect();
    out.extend(indexing(b"custom-key", b"last"));
    out
}

fn visible() -> Vec<u8> {
    literal(b"custom-key", b"!\"#$%&'()*+,-./0123456789:;<=>?@AZ[\\]^_`az{|}~")
}

fn shared_table(cases: &mut Cases) {
    let enters = indexing(b"custom-key", b"kept");
    cases.add("entries_serve_later_requests", |world| {
        let mut client = world.client();
        let first = [client.request().block(), indexing(b"custom-key", b"kept")].concat();
        driver_saw(world, &mut client, &first, "custom-key");
        for _ in 0..20 {
            let block = [client.request().block(), indexed(62)].concat();
            assert_eq!(driver_saw(world, &mut client, &block, "custom-key"), ["kept"]);
        }
    });
    let malformed_first = enters.clone();
    cases.add("entries_of_a_malformed_request_serve_later_requests", move |world| {
        let mut client = world.client();
        let id = client.take_id();
        let block = [literal(b"X-Upper", b"1"), malformed_first.clone()].concat();
        client.send(&frame::headers(id, true, &block));
        let block = [client.request().block(), indexed(62)].concat();
        assert_eq!(driver_saw(world, &mut client, &block, "custom-key"), ["kept"]);
    });
    let trailing = enters.clone();
    cases.add("entries_of_trailers_of_a_refused_stream_serve_later_requests", move |world| {
        let mut client = world.client();
        let id = client.take_id();
        let mut out = frame::headers(id, false, &literal(b"X-Upper", b"1"));
        out.extend(frame::headers(id, true, &trailing));
        client.send(&out);
        let block = [client.request().block(), indexed(62)].concat();
        assert_eq!(driver_saw(world, &mut client, &block, "custom-key"), ["kept"]);
    });
    cases.add("entries_of_a_request_too_large_serve_later_requests", move |world| {
        let mut client = world.client();
        let id = client.take_id();
        let large = literal(b"x-large", &[b'v'; 9000]);
        let block = [client.request().block(), large, enters.clone()].concat();
        client.send(&frame::headers(id, true, &block));
        let reply = client.finish(id);
        assert_ne!(reply.status(), Some(0), "9,000 octets were let through");
        let block = [client.request().block(), indexed(62)].concat();
        assert_eq!(driver_saw(world, &mut client, &block, "custom-key"), ["kept"]);
    });
    cases.add("answers_stay_readable_when_the_client_changes_its_table", |world| {
        let mut client = world.client();
        for size in [4096, 0, 4096, 65_536, 100, 4096] {
            client.change(&[(frame::HEADER_TABLE_SIZE, size)]);
            client.round_trip();
            (0..5).for_each(|_| client.must_work());
        }
    });
    cases.add("a_client_without_a_table_gets_no_index_into_it", |world| {
        let manners = crate::support::client::Manners {
            settings: vec![(frame::HEADER_TABLE_SIZE, 0)],
            ..Default::default()
        };
        let mut client = world.client_with(manners);
        client.round_trip();
        (0..20).for_each(|_| client.must_work());
    });
}

/// The request is refused, by an answer or by the end of the connection, and never forwarded.
fn assert_bomb_refused(world: &World, client: &mut Client, id: u32) {
    client.pump(|c| c.goaway.is_some() || c.streams.contains_key(&id), SOON);
    let reply = client.finish(id);
    let refused = reply.is_over() || client.goaway.is_some();
    assert!(refused, "no reaction: {reply:?}");
    assert_ne!(reply.status(), Some(0), "let through");
    assert_ne!(reply.reset, Some(frame::NO_ERROR));
    if let Some((_, code)) = client.goaway {
        assert!(
            [frame::ENHANCE_YOUR_CALM, COMPRESSION_ERROR, frame::PROTOCOL_ERROR].contains(&code)
        );
    }
    assert_eq!(world.asked(&client.case), 0, "the driver was asked");
    world.client().must_work();
}

fn in_frames(id: u32, block: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = block.chunks(16_384).collect();
    let mut out = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let flags = if at + 1 == parts.len() { frame::END_HEADERS } else { 0 };
        let (kind, flags) =
            if at == 0 { (frame::HEADERS, flags | 1) } else { (frame::CONTINUATION, flags) };
        out.extend(raw(kind, flags, id, part));
    }
    out
}

fn bombs(cases: &mut Cases) {
    type Tail = fn() -> Vec<u8>;
    let table: [(&str, Tail); 8] = [
        ("one_entry_of_4000_octets_named_1000_times", || {
            [indexing(b"x", &[b'v'; 4000]), indexed(62).repeat(1000)].concat()
        }),
        ("one_cookie_crumb_named_16000_times", || {
            [indexing(b"cookie", &[b'c'; 4000]), indexed(62).repeat(16_000)].concat()
        }),
        ("an_empty_crumb_named_16000_times", || {
            [indexing(b"cookie", b""), indexed(62).repeat(16_000)].concat()
        }),
        ("a_static_entry_named_16000_times", || indexed(16).repeat(16_000)),
        ("two_thousand_literals", || literal(b"x", b"").repeat(2000)),
        ("one_value_of_100_kilobytes", || literal(b"x", &[b'v'; 100_000])),
        ("one_name_of_20_kilobytes", || literal(&[b'n'; 20_000], b"")),
        ("one_cookie_of_20_kilobytes", || literal(b"cookie", &[b'c'; 20_000])),
    ];
    for (what, tail) in table {
        cases.add(format!("{what}_never_reaches_the_driver"), move |world| {
            let mut client = world.client();
            let block = [client.request().block(), tail()].concat();
            client.send(&in_frames(1, &block));
            client.next_id = 3;
            assert_bomb_refused(world, &mut client, 1);
        });
    }
    for (what, count, size) in
        [("of_8300_octets", 1, 8300), ("of_150_fields", 150, 1), ("of_150_cookies", 150, 0)]
    {
        cases.add(format!("a_list_{what}_is_refused_alone"), move |world| {
            let mut client = world.client();
            let name = if size == 0 { "cookie" } else { "x-many" };
            let request = (0..count).fold(client.request(), |r, _| r.with(name, vec![b'v'; size]));
            let id = client.call(&request);
            let reply = client.finish(id);
            let status = reply.status();
            assert!(
                status.is_some_and(|s| s != 0) || reply.http_status() == Some("431"),
                "{reply:?}"
            );
            assert_eq!(world.asked(&client.case), 0, "the driver was asked");
            client.must_work();
        });
    }
    cases.add("a_list_just_below_what_a_driver_takes_passes", |world| {
        let mut client = world.client();
        let base = client.request();
        let request = base.clone().with("x-fill", vec![b'v'; 7900 - base.list_size()]);
        let id = client.call(&request);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_hundred_fields_pass", |world| {
        let mut client = world.client();
        let request = (0..100).fold(client.request(), |r, n| r.with(format!("x-{n}"), "v"));
        let id = client.call(&request);
        assert_eq!(client.finish(id).status(), Some(0));
    });
}
