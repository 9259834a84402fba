//! Malformed responses: an unambiguous one is repaired, and a driver's own status is kept where the
//! rest of its response cannot be forwarded.

use crate::support::client::{Manners, SOON};
use crate::support::fields::{self, indexed, indexing, literal};
use crate::support::frame;
use crate::support::reply::Reply;
use crate::support::runner::Cases;
use crate::support::script::{answer_block, headers_op};
use crate::support::world::{Spec, World};

const INTERNAL: u32 = 13;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNAVAILABLE: u32 = 14;

pub fn cases(cases: &mut Cases) {
    cases.suite("response_repair");
    repaired(cases);
    kept(cases);
    rejected(cases);
}

/// What a client gets of an answer with these fields in its head and these in its trailers.
fn reply(world: &World, head: &[u8], trailers: &[u8]) -> Reply {
    let head = headers_op(false, &[&answer_block()[..], head].concat());
    let script = format!("end;{head};d10;{}", headers_op(true, trailers));
    let mut client = world.client();
    let id = client.call(&client.request().script(&script));
    let reply = client.finish_within(id, SOON);
    client.must_work();
    reply
}

/// The same of an answer of trailers only.
fn reply_at_once(world: &World, fields: &[u8]) -> Reply {
    let script = format!("end;{}", headers_op(true, &[&answer_block()[..], fields].concat()));
    let mut client = world.client();
    let id = client.call(&client.request().script(&script));
    let reply = client.finish_within(id, SOON);
    client.must_work();
    reply
}

fn status(code: &str) -> Vec<u8> {
    literal(b"grpc-status", code.as_bytes())
}

fn repaired(cases: &mut Cases) {
    for (name, sent, encoded, text) in [
        ("that_ends_with_a_space", "x ", "x%20", "x "),
        ("that_begins_with_a_space", " x y", "%20x y", " x y"),
        ("that_ends_with_a_tab", "x\t", "x%09", "x\t"),
        ("of_spaces", "  ", "%20%20", "  "),
    ] {
        let title = format!("a_grpc_message_{name}_reaches_the_client_percent_encoded");
        cases.add(title, move |world| {
            let message = literal(b"grpc-message", sent.as_bytes());
            for reply in [
                reply(world, &[], &[status("13"), message.clone()].concat()),
                reply_at_once(world, &[status("13"), message.clone()].concat()),
            ] {
                assert_eq!(reply.status(), Some(13), "{reply:?}");
                assert_eq!(reply.last("grpc-message"), Some(encoded));
                assert_eq!(reply.message(), text);
            }
        });
    }
    cases.add("a_huffman_coded_message_that_ends_with_a_space_is_repaired", |world| {
        // "x " in Huffman code.
        let message =
            [&[0][..], &fields::string(b"grpc-message"), &fields::huffman(&[0xf2, 0xa7])].concat();
        let reply = reply(world, &[], &[status("13"), message].concat());
        assert_eq!((reply.status(), reply.message().as_str()), (Some(13), "x "), "{reply:?}");
    });
    cases.add("a_repaired_list_is_no_longer_than_the_client_takes", |world| {
        let most: u32 = 2_000;
        let settings = vec![(frame::ENABLE_PUSH, 0), (frame::MAX_HEADER_LIST_SIZE, most)];
        let mut client = world.client_with(Manners { settings, ..Manners::default() });
        let message = [&[b'x'][..], &[b' '; 1_500]].concat();
        let block = [status("13"), literal(b"grpc-message", &message)].concat();
        // With a status of its own, and one that must be kept from a list that is rejected.
        for block in [block.clone(), [block, literal(b"X-Meta", b"a")].concat()] {
            let script = format!("end;h;d10;{}", headers_op(true, &block));
            let id = client.call(&client.request().script(&script));
            let reply = client.finish(id);
            assert_eq!((reply.status(), reply.message().as_str()), (Some(13), "x"), "{reply:?}");
            let size = |(name, value): &(String, String)| name.len() + value.len() + 32;
            let sizes = reply.heads.iter().map(|head| head.iter().map(size).sum::<usize>());
            assert!(sizes.max() <= usize::try_from(most).ok(), "{reply:?}");
        }
    });
    for (name, sent) in [("spaces", " v w "), ("tabs", "\tv w\t")] {
        cases.add(format!("{name}_around_any_other_value_are_removed"), move |world| {
            let meta = literal(b"x-meta", sent.as_bytes());
            let reply = reply(world, &meta, &[status("0"), meta.clone()].concat());
            assert_eq!(reply.status(), Some(0), "{reply:?}");
            for head in &reply.heads {
                assert_eq!(fields::find(head, "x-meta"), Some("v w"), "{reply:?}");
            }
        });
    }
    cases.add("a_grpc_status_with_spaces_is_repaired", |world| {
        assert_eq!(reply(world, &[], &status(" 0 ")).status(), Some(0));
        assert_eq!(reply_at_once(world, &status("5 ")).status(), Some(5));
    });
    cases.add("a_status_and_a_content_type_with_spaces_are_repaired", |world| {
        let kind = literal(b"content-type", b" application/grpc ");
        let head = [literal(b":status", b"200 "), kind].concat();
        let script = format!("end;{};d10;t0", headers_op(false, &head));
        let mut client = world.client();
        let id = client.call(&client.request().script(&script));
        let reply = client.finish(id);
        assert_eq!((reply.status(), reply.http_status()), (Some(0), Some("200")), "{reply:?}");
    });
    cases.add("fields_of_http1_that_mean_nothing_are_left_out", |world| {
        let fields = [
            literal(b"keep-alive", b"timeout=5"),
            literal(b"proxy-connection", b"close"),
            literal(b"te", b"gzip"),
        ];
        let trailers = [&fields.concat()[..], &literal(b"content-length", b"x"), &status("0")];
        let reply = reply(world, &fields.concat(), &trailers.concat());
        assert_eq!(reply.status(), Some(0), "{reply:?}");
        let names = ["keep-alive", "proxy-connection", "te", "content-length"];
        let all = reply.heads.iter().flatten();
        assert!(all.clone().all(|(name, _)| !names.contains(&name.as_str())), "{reply:?}");
    });
    cases.own("the_same_block_is_repaired_every_time", Spec::default(), |world| {
        let mut client = world.client();
        // The second one names the entry of the first.
        let first = [status("13"), indexing(b"grpc-message", b" x ")].concat();
        for block in [first, [status("13"), indexed(62)].concat()] {
            let block = [&block[..], &literal(b"x-a", b"b ")].concat();
            let script = format!("end;h;d2;{}", headers_op(true, &block));
            for _ in 0..3 {
                let id = client.call(&client.request().script(&script));
                let reply = client.finish(id);
                assert_eq!((reply.status(), reply.message().as_str()), (Some(13), " x "));
                assert_eq!(reply.last("x-a"), Some("b"), "{reply:?}");
            }
        }
    });
}

fn kept(cases: &mut Cases) {
    for (name, field) in [
        ("a_line_break_in_another_value", literal(b"x-meta", b"a\r\nb: c")),
        ("a_nul_in_another_value", literal(b"x-meta", b"a\0b")),
        ("an_upper_case_name", literal(b"X-Meta", b"a")),
        ("a_connection_field", literal(b"connection", b"close")),
        ("a_transfer_encoding", literal(b"transfer-encoding", b"chunked")),
    ] {
        cases.add(format!("a_driver_s_own_error_survives_{name}"), move |world| {
            let details = literal(b"grpc-status-details-bin", b"CAUSAXg");
            let message = literal(b"grpc-message", b"no such table");
            let block = [status("5"), message, details, field.clone()].concat();
            for reply in [reply(world, &[], &block), reply_at_once(world, &block)] {
                assert_eq!(reply.status(), Some(5), "{reply:?}");
                assert_eq!(reply.message(), "no such table");
                assert_eq!(reply.last("grpc-status-details-bin"), Some("CAUSAXg"));
                let odd = ["x-meta", "X-Meta", "connection", "transfer-encoding"];
                let all = reply.heads.iter().flatten();
                assert!(all.clone().all(|(name, _)| !odd.contains(&name.as_str())), "{reply:?}");
            }
        });
    }
    cases.add("of_a_message_with_a_line_break_its_clean_beginning_is_kept", |world| {
        let block = [status("13"), literal(b"grpc-message", b"no such\r\ngrpc-status: 0")].concat();
        let reply = reply(world, &[], &block);
        assert_eq!((reply.status(), reply.message().as_str()), (Some(13), "no such"), "{reply:?}");
    });
    cases.add("an_error_behind_a_body_that_is_too_short_is_kept", |world| {
        let reply = reply(world, &literal(b"content-length", b"99"), &status("5"));
        assert_eq!(reply.status(), Some(5), "{reply:?}");
    });
    cases.add("an_own_error_comes_behind_what_the_client_has_not_read_yet", |world| {
        let manners = crate::support::client::Manners { credit: false, ..Default::default() };
        let mut client = world.client_with(manners);
        let block = [status("5"), literal(b"x-meta", b"a\0b")].concat();
        let script = format!("end;h;d65000;d60000;{}", headers_op(true, &block));
        // More than the window of the connection.
        let id = client.call(&client.request().script(&script));
        client.pump(|c| c.streams.get(&id).is_some_and(|r| r.body.len() >= 65_535), SOON);
        client.grant(0, 100_000);
        client.grant(id, 100_000);
        let reply = client.finish(id);
        assert_eq!((reply.status(), reply.body.len()), (Some(5), 125_010), "{reply:?}");
    });
}

fn rejected(cases: &mut Cases) {
    for (name, trailers) in [
        ("an_ok_with_a_nul", [status("0"), literal(b"x-meta", b"a\0b")].concat()),
        ("two_statuses", [status("5"), status("5"), literal(b"x-meta", b"a\0b")].concat()),
        ("a_second_status_in_upper_case", [status("5"), literal(b"Grpc-Status", b"0")].concat()),
        ("a_status_of_two_meanings", [status("05"), literal(b"x-meta", b"a\0b")].concat()),
    ] {
        cases.add(format!("{name}_is_an_error_that_no_client_tries_again"), move |world| {
            for reply in [reply(world, &[], &trailers), reply_at_once(world, &trailers)] {
                assert_eq!(reply.status(), Some(INTERNAL), "{reply:?}");
                assert!(reply.message().contains("ads/prod"), "{reply:?}");
            }
        });
    }
    for (name, block) in [
        ("no_status", literal(b"x-meta", b"a")),
        ("two_statuses_and_no_other_fault", [status("5"), status("5")].concat()),
        ("a_status_of_two_digits_too_many", status("005")),
    ] {
        cases.add(format!("{name}_is_an_error_that_no_client_tries_again"), move |world| {
            assert_eq!(reply(world, &[], &block).status(), Some(INTERNAL));
        });
    }
    cases.add("a_body_longer_than_its_content_length_is_not_tried_again", |world| {
        let reply = reply(world, &literal(b"content-length", b"3"), &status("5"));
        assert_eq!(reply.status(), Some(INTERNAL), "{reply:?}");
        let wanted = "the length of the body differs from content-length";
        assert!(reply.message().ends_with(wanted), "{reply:?}");
    });
    cases.own(
        "a_body_that_ends_early_and_without_trailers_may_be_tried_again",
        Spec::default(),
        |world| {
            let length = [answer_block(), literal(b"content-length", b"99")].concat();
            let script = format!("end;{};F0.1.s.0000000000", headers_op(false, &length));
            let mut client = world.client();
            let id = client.call(&client.request().script(&script));
            let reply = client.finish_within(id, SOON);
            assert_eq!(reply.status(), Some(UNAVAILABLE), "{reply:?}");
            let sconce = world.sconce.as_ref().unwrap().lock().unwrap();
            assert_eq!(sconce.refusals("driver.no_status"), 1);
        },
    );
    cases.add("a_rejected_head_names_its_field_and_the_rule", |world| {
        let reply = reply(world, &literal(b"x-meta", b"a\rb"), &status("0"));
        assert_eq!(reply.status(), Some(INTERNAL), "{reply:?}");
        let wanted = "the value of x-meta contains NUL, CR or LF";
        assert!(reply.message().ends_with(wanted), "{reply:?}");
    });
    cases.add("trailers_that_are_too_long_are_an_error_that_no_client_tries_again", |world| {
        let long = indexing(b"x-meta", &[b'x'; 3_000]);
        let block = [status("5"), long, indexed(62).repeat(30)].concat();
        let script = format!("end;h;d2;{}", headers_op(true, &block));
        let mut client = world.client();
        let id = client.call(&client.request().script(&script));
        assert_eq!(client.finish(id).status(), Some(RESOURCE_EXHAUSTED));
    });
}
