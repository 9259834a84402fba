//! Valid and malformed heads.

use proptest::prelude::*;

use super::*;
use crate::wire::hpack::Indexing;

fn list(fields: &[(&str, &str)]) -> Fields {
    let mut list = Fields::default();
    for (name, value) in fields {
        list.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
    }
    list
}

fn good_and(more: &[(&str, &str)]) -> Fields {
    let mut all =
        vec![(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "h")];
    all.extend_from_slice(more);
    list(&all)
}

#[test]
fn a_valid_request_is_accepted() {
    let fields = good_and(&[("te", "trailers"), ("content-length", "7"), ("host", "H")]);
    assert_eq!(check_request(&fields).unwrap().content_length, Some(7));
}

#[test]
fn every_malformed_request_is_refused() {
    for more in [
        ("Upper", "x"),
        ("b lank", "x"),
        ("", "x"),
        ("caf\u{e9}", "x"),
        ("x", "a\rb"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", " a"),
        ("x", "a\t"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("te", "gzip"),
        (":path", "/b"),
        (":protocol", "ws"),
        ("content-length", "+1"),
        ("content-length", "-1"),
        ("content-length", ""),
        ("host", "other"),
        ("x:y", "z"),
    ] {
        assert!(check_request(&good_and(&[more])).is_err(), "{more:?} passed");
    }
    let twice = good_and(&[("content-length", "1"), ("content-length", "2")]);
    assert!(check_request(&twice).is_err());
}

#[test]
fn all_pseudo_header_fields_are_mandatory_first_and_unique() {
    let bad: [&[(&str, &str)]; 10] = [
        &[(":method", "POST"), (":scheme", "http"), (":path", "/")],
        &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "")],
        &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a/b")],
        &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
        &[(":method", "POST"), (":scheme", "http")],
        &[(":method", "POST"), (":scheme", "http"), (":path", "")],
        &[(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", "/")],
        &[(":method", "POST"), ("x", "y"), (":scheme", "http"), (":path", "/")],
        &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":status", "200")],
        &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "u@h")],
    ];
    for fields in bad {
        assert!(check_request(&list(fields)).is_err(), "{fields:?} passed");
    }
}

fn with(scheme: &str, authority: &str) -> [Result<Promise, MalformedHead>; 2] {
    ["host", ":authority"].map(|name| {
        let fields = [(":method", "POST"), (":path", "/"), (":scheme", scheme), (name, authority)];
        check_request(&list(&fields))
    })
}

#[test]
fn a_scheme_and_an_authority_have_the_syntax_of_a_uri() {
    for scheme in ["http", "HTTPS", "grpc+tls", "a.b-2"] {
        assert!(with(scheme, "h").iter().all(Result::is_ok), "{scheme}");
    }
    for scheme in ["java script", "4ttp", "+http", "http:", "ht_tp", "ht\u{e9}"] {
        assert!(with(scheme, "h").iter().all(Result::is_err), "{scheme}");
    }
    for authority in ["h", "h:80", "h:", "h:https", "127.0.0.1:9", "[::1]", "[::1]:9", "%5B"] {
        assert!(with("http", authority).iter().all(Result::is_ok), "{authority}");
    }
    for authority in [
        "a:b:c",
        "::1",
        ":80",
        "[::1",
        "::1]",
        "[::1]9",
        "[[::1]]",
        "a[::1]",
        "[::1]:9:9",
        "[::1]]",
        "a:[",
        "u@h",
        "h/",
        "a b",
        "",
    ] {
        assert!(with("http", authority).iter().all(Result::is_err), "{authority}");
    }
}

#[test]
fn a_response_has_one_status_of_three_digits() {
    assert_eq!(check_response(&list(&[(":status", "200")])).unwrap().status, 200);
    let bad: [&[(&str, &str)]; 6] = [
        &[],
        &[(":status", "20")],
        &[(":status", "2e2")],
        &[(":status", "200"), (":status", "200")],
        &[("x", "y"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
    ];
    for fields in bad {
        assert!(check_response(&list(fields)).is_err(), "{fields:?} passed");
    }
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    assert!(check_trailers(&list(&[("grpc-status", "0")])).is_ok());
    assert!(check_trailers(&list(&[(":status", "200")])).is_err());
}

#[test]
fn host_and_authority_are_equal_apart_from_case_and_the_default_port() {
    let both = |scheme: &str, authority: &str, host: &str| {
        let fields = [
            (":method", "POST"),
            (":path", "/"),
            (":scheme", scheme),
            (":authority", authority),
            ("host", host),
        ];
        check_request(&list(&fields)).map(|_| ()).map_err(|error| error.rule)
    };
    for (scheme, one, other) in [
        ("https", "h", "H"),
        ("https", "h:443", "h"),
        ("HTTPS", "h:443", "h"),
        ("http", "h:80", "h"),
        ("http", "h:80", "h:"),
        ("https", "[::1]:443", "[::1]"),
        ("grpc", "h:443", "h:443"),
    ] {
        assert_eq!(both(scheme, one, other), Ok(()), "{scheme} {one} {other}");
        assert_eq!(both(scheme, other, one), Ok(()), "{scheme} {other} {one}");
    }
    for (scheme, one, other) in [
        ("https", "h:80", "h"),
        ("http", "h:443", "h"),
        ("https", "h:443", "h:80"),
        ("https", "h:0443", "h"),
        ("https", "h:4430", "h"),
        ("grpc", "h:443", "h"),
        ("https", "h:443", "g"),
        ("https", "[::1]:443", "[::2]"),
    ] {
        assert_eq!(both(scheme, one, other), Err(Rule::Host), "{scheme} {one} {other}");
        assert_eq!(both(scheme, other, one), Err(Rule::Host), "{scheme} {other} {one}");
    }
}

/// Names of repaired fields, of ignorable fields, and others.
const NAMES: &str = "[a-c]{1,2}|grpc-message|te|keep-alive|content-length";

proptest! {
    /// A repaired list has no repairable errors; an unrepaired list had none.
    #[test]
    fn a_repair_is_complete_and_idempotent(
        fields in prop::collection::vec((NAMES, "[ \t\ra]{0,5}"), 0..6),
    ) {
        let all: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let fields = list(&all);
        for are_trailers in [false, true] {
            let check = |fields: &Fields| match are_trailers {
                true => check_trailers(fields),
                false => check_response(fields).map(|_| ()),
            };
            let rule = |fields: &Fields| check(fields).err().map(|error| error.rule);
            let Some(repaired) = repaired(&fields, are_trailers, usize::MAX) else {
                prop_assert!(!matches!(rule(&fields), Some(Rule::Space | Rule::Te)));
                continue;
            };
            prop_assert!(!matches!(rule(&repaired), Some(Rule::Space | Rule::Te)));
            prop_assert!(super::repaired(&repaired, are_trailers, usize::MAX).is_none());
        }
    }
}
