//! RFC 9113, sections 8.2 and 8.3: rules for request heads, checked before anything is forwarded.

use crate::support::client::SOON;
use crate::support::client::Verdict::{Goaway, Reset};
use crate::support::fields::Request;
use crate::support::frame::{self, PROTOCOL_ERROR};
use crate::support::probe::{malformed, refused, valid};
use crate::support::runner::Cases;

pub fn cases(cases: &mut Cases) {
    cases.suite("header_rules");
    names(cases);
    values(cases);
    connection_specific(cases);
    pseudo(cases);
    authority(cases);
    content_length(cases);
}

fn names(cases: &mut Cases) {
    for (what, name) in [
        ("in_upper_case", &b"X-Upper"[..]),
        ("with_one_upper_case_letter", b"x-caseD"),
        ("with_a_blank_inside", b"x odd"),
        ("with_a_blank_before", b" x-odd"),
        ("with_a_blank_behind", b"x-odd "),
        ("with_a_tab", b"x-odd\t"),
        ("with_a_nul", b"x-odd\0"),
        ("with_a_carriage_return", b"x-odd\r"),
        ("with_a_line_feed", b"x-odd\nx"),
        ("with_a_colon_inside", b"x:odd"),
        ("with_a_colon_behind", b"x-odd:"),
        ("with_delete", b"x-odd\x7f"),
        ("with_octet_128", b"x-odd\x80"),
        ("with_octet_255", b"x-odd\xff"),
        ("in_utf8", "x-ödd".as_bytes()),
        ("with_octet_1", b"\x01x-odd"),
        ("of_nothing", b""),
    ] {
        malformed(cases, &format!("a_name_{what}_is_malformed"), move |r| r.with(name, "1"));
    }
    valid(cases, "a_name_with_an_underscore_is_no_error", None, |r| r.with("x_odd", "1"));
    valid(cases, "a_name_of_every_token_character_is_fine", None, |r| {
        r.with("!#$%&'*+-.^_`|~09az", "1")
    });
}

fn values(cases: &mut Cases) {
    for (what, value) in [
        ("with_a_nul", &b"a\0b"[..]),
        ("with_a_carriage_return", b"a\rb"),
        ("with_a_line_feed", b"a\nb"),
        ("with_a_smuggled_header", b"a\r\nx-team: other"),
        ("with_a_blank_before", b" a"),
        ("with_a_blank_behind", b"a "),
        ("with_a_tab_before", b"\ta"),
        ("with_a_tab_behind", b"a\t"),
        ("of_one_blank", b" "),
    ] {
        malformed(cases, &format!("a_value_{what}_is_malformed"), move |r| r.with("x-odd", value));
    }
    malformed(cases, "a_line_feed_in_the_path_is_malformed", |r| r.set(":path", "/a\nb"));
    malformed(cases, "a_nul_in_the_authority_is_malformed", |r| r.set(":authority", "a\0b"));
    malformed(cases, "a_line_break_in_the_method_is_malformed", |r| {
        r.set(":method", "POST\r\nx: y")
    });
    malformed(cases, "a_line_break_in_the_scheme_is_malformed", |r| {
        r.set(":scheme", "http\r\nx: y")
    });
    valid(cases, "an_empty_value_is_fine", Some(("x-odd", "")), |r| r.with("x-odd", ""));
    valid(cases, "blanks_inside_a_value_are_fine", Some(("x-odd", "a \t b")), |r| {
        r.with("x-odd", "a \t b")
    });
    valid(cases, "high_octets_in_a_value_are_fine", Some(("x-odd", "grüße")), |r| {
        r.with("x-odd", "grüße")
    });
    let long = "v".repeat(4000);
    valid(cases, "a_value_of_4000_octets_is_fine", None, move |r| r.with("x-odd", &long));
}

fn connection_specific(cases: &mut Cases) {
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-case"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "websocket"),
    ] {
        let title = format!("{name}_{value}_is_malformed").replace(['-', '='], "_");
        malformed(cases, &title, move |r| r.with(name, value));
    }
    for value in ["gzip", "trailers, deflate", "Trailers;q=1", ""] {
        let title = format!("te_{value}_is_malformed").replace([',', ';', '='], "_");
        malformed(cases, &title, move |r| r.set("te", value));
    }
    valid(cases, "te_trailers_is_fine", None, |r| r);
}

/// Moves a field to the end of the list.
fn last(request: Request, name: &str) -> Request {
    let value = request.0.iter().find(|(have, _)| have == name.as_bytes()).unwrap().1.clone();
    request.without(name).with(name, value)
}

fn pseudo(cases: &mut Cases) {
    for name in [":method", ":scheme", ":path", ":authority"] {
        let title = |what: &str| format!("{}_{what}_is_malformed", &name[1..]);
        malformed(cases, &title("after_a_regular_field"), move |r| last(r, name));
        malformed(cases, &title("twice"), move |r| {
            let value = r.0.iter().find(|(n, _)| n == name.as_bytes()).unwrap().1.clone();
            r.first(name, value)
        });
        malformed(cases, &title("that_is_empty"), move |r| r.set(name, ""));
    }
    for name in [":method", ":scheme", ":path"] {
        let title = format!("a_request_without_{}_is_malformed", &name[1..]);
        malformed(cases, &title, move |r| r.without(name));
    }
    malformed(cases, "two_different_paths_are_malformed", |r| r.first(":path", "/other"));
    malformed(cases, "two_different_authorities_are_malformed", |r| r.first(":authority", "other"));
    malformed(cases, "an_unknown_pseudo_header_is_malformed", |r| r.first(":odd", "1"));
    malformed(cases, "the_name_of_a_lone_colon_is_malformed", |r| r.first(":", "1"));
    malformed(cases, "a_response_pseudo_header_is_malformed", |r| r.first(":status", "200"));
    malformed(cases, "a_pseudo_header_in_upper_case_is_malformed", |r| {
        r.without(":path").first(":Path", "/")
    });
    malformed(cases, "protocol_without_extended_connect_is_malformed", |r| {
        r.first(":protocol", "websocket")
    });
    malformed(cases, "extended_connect_is_malformed", |r| {
        r.set(":method", "CONNECT").first(":protocol", "websocket")
    });
    malformed(cases, "connect_with_a_path_is_malformed", |r| r.set(":method", "CONNECT"));
    refused(cases, "a_path_without_a_slash_is_refused", |r| {
        r.set(":path", "spark.connect.SparkConnectService/Config")
    });
    refused(cases, "a_path_with_a_blank_is_refused", |r| r.set(":path", "/a b"));
    refused(cases, "a_star_is_no_path_for_post", |r| r.set(":path", "*"));
    malformed(cases, "only_pseudo_headers_of_a_response_are_malformed", |_| {
        Request(vec![]).with(":status", "200")
    });
    malformed(cases, "an_empty_header_block_is_malformed", |_| Request(vec![]));
    valid(cases, "pseudo_headers_in_any_order_are_fine", None, |r| {
        let path = "/spark.connect.SparkConnectService/Config";
        r.without(":path").first(":path", path).without(":method").first(":method", "POST")
    });
}

fn authority(cases: &mut Cases) {
    malformed(cases, "userinfo_in_the_authority_is_malformed", |r| {
        r.set(":authority", "me@spark.example.com")
    });
    malformed(cases, "userinfo_with_a_password_is_malformed", |r| {
        r.set(":authority", "me:pw@spark.example.com")
    });
    malformed(cases, "a_host_that_differs_from_the_authority_is_malformed", |r| {
        r.with("host", "other.example.com")
    });
    malformed(cases, "two_hosts_are_malformed", |r| {
        r.without(":authority").with("host", "spark.example.com").with("host", "other")
    });
    refused(cases, "neither_authority_nor_host_is_refused", |r| r.without(":authority"));
    refused(cases, "a_path_in_the_authority_is_refused", |r| r.set(":authority", "a/b"));
    refused(cases, "a_blank_in_the_authority_is_refused", |r| r.set(":authority", "a b"));
    valid(cases, "a_host_equal_to_the_authority_is_fine", None, |r| {
        r.with("host", "spark.example.com")
    });
    let shown = Some((":authority", "spark.example.com:15009"));
    valid(cases, "host_in_place_of_the_authority_reaches_the_driver_as_authority", shown, |r| {
        r.without(":authority").with("host", "spark.example.com:15009")
    });
    for (scheme, port) in [("https", ":443"), ("http", ":80")] {
        let with_port = format!("spark.example.com{port}");
        let (one, other) = (with_port.clone(), with_port.clone());
        let title = format!("a_host_without_the_port_of_{scheme}_is_the_authority_with_it");
        valid(cases, &title, None, move |r| {
            r.set(":scheme", scheme).set(":authority", &one).with("host", "spark.example.com")
        });
        let title = format!("a_host_with_the_port_of_{scheme}_is_the_authority_without_it");
        valid(cases, &title, None, move |r| r.set(":scheme", scheme).with("host", &other));
        let title = format!("a_host_with_the_port_of_{scheme}_is_malformed_beside_another_scheme");
        malformed(cases, &title, move |r| {
            let scheme = if scheme == "http" { "https" } else { "http" };
            r.set(":scheme", scheme).with("host", &with_port)
        });
    }
    for (what, authority) in [
        ("of_two_ports", "a:b:c"),
        ("of_a_bare_ipv6", "::1"),
        ("of_a_port_alone", ":15009"),
        ("whose_bracket_does_not_close", "[::1"),
        ("whose_bracket_does_not_open", "::1]"),
        ("with_more_behind_its_bracket", "[::1]x"),
    ] {
        malformed(cases, &format!("an_authority_{what}_is_malformed"), move |r| {
            r.set(":authority", authority)
        });
        malformed(cases, &format!("a_host_{what}_is_malformed"), move |r| {
            r.without(":authority").with("host", authority)
        });
    }
    for (what, scheme) in
        [("with_a_blank", "java script"), ("that_begins_with_a_digit", "4ttp"), ("of_a_uri", "h:/")]
    {
        malformed(cases, &format!("a_scheme_{what}_is_malformed"), move |r| {
            r.set(":scheme", scheme)
        });
    }
    valid(cases, "an_authority_with_a_port_is_fine", None, |r| {
        r.set(":authority", "127.0.0.1:15009")
    });
    valid(cases, "an_authority_in_ipv6_is_fine", None, |r| r.set(":authority", "[::1]:15009"));
}

fn content_length(cases: &mut Cases) {
    for (what, value) in [
        ("that_is_no_number", "abc"),
        ("with_a_sign", "+7"),
        ("below_zero", "-1"),
        ("of_nothing", ""),
        ("with_a_list", "7, 7x"),
        ("beyond_64_bits", "99999999999999999999999"),
        ("in_hex", "0x7"),
    ] {
        malformed(cases, &format!("a_content_length_{what}_is_malformed"), move |r| {
            r.with("content-length", value)
        });
    }
    malformed(cases, "two_content_lengths_that_differ_are_malformed", |r| {
        r.with("content-length", "7").with("content-length", "8")
    });
    valid(cases, "a_content_length_that_is_right_is_fine", None, |r| r.with("content-length", "7"));
    cases.add("a_content_length_without_a_body_is_malformed", |world| {
        let mut client = world.client();
        let request = client.request().with("content-length", "7");
        let id = client.start(&request, true);
        crate::support::probe::assert_malformed(world, &mut client, id);
    });
    for (name, length, sizes) in [
        ("a_body_longer_than_its_content_length_is_malformed", "5", vec![7]),
        ("a_body_shorter_than_its_content_length_is_malformed", "9", vec![7]),
        ("a_body_longer_by_its_second_frame_is_malformed", "7", vec![7, 1]),
        ("a_body_shorter_after_two_frames_is_malformed", "20", vec![7, 7]),
    ] {
        cases.add(name, move |world| {
            let mut client = world.client();
            let request = client.request().with("content-length", length).script("end;h;d2;t0");
            let id = client.start(&request, false);
            client.round_trip();
            for (at, size) in sizes.iter().enumerate() {
                client.send(&frame::data(id, at + 1 == sizes.len(), &vec![0; *size]));
            }
            let mark = std::mem::replace(&mut client.case, world.mark());
            client.expect(id, &[Reset(PROTOCOL_ERROR), Goaway(PROTOCOL_ERROR)]);
            let reply = client.streams[&id].clone();
            assert_ne!(reply.status(), Some(0), "success for a malformed request");
            if world.asked(&mark) > 0 {
                let served = world.driver_sees(&mark, SOON, |served| served.is_dropped());
                assert!(!served.ended, "the driver was told that the request was whole");
            }
        });
    }
    cases.add("a_body_shorter_because_of_trailers_is_malformed", |world| {
        let mut client = world.client();
        let request = client.request().with("content-length", "9").script("end;h;d2;t0");
        let id = client.start(&request, false);
        client.send(&frame::data(id, false, &[0; 7]));
        client.send(&frame::headers(id, true, &crate::support::fields::literal(b"x-tail", b"1")));
        client.expect(id, &[Reset(PROTOCOL_ERROR)]);
        assert_ne!(client.streams[&id].status(), Some(0));
    });
}
