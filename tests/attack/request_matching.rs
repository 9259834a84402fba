//! Exact matching of Spark Connect requests, and the answers to all other requests.

use crate::support::client::SOON;
use crate::support::fields::{METHODS, SERVICE};
use crate::support::probe::valid;
use crate::support::runner::Cases;

const UNIMPLEMENTED: u32 = 12;

pub fn cases(cases: &mut Cases) {
    cases.suite("request_matching");
    paths(cases);
    content_types(cases);
    methods(cases);
}

fn paths(cases: &mut Cases) {
    for (what, path) in [
        ("of_another_service", "/grpc.health.v1.Health/Check".to_string()),
        ("of_reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_string()),
        ("of_the_root", "/".to_string()),
        ("without_a_method", SERVICE.to_string()),
        ("without_a_method_and_slash", "/spark.connect.SparkConnectService".to_string()),
        ("with_two_slashes_before", format!("/{SERVICE}Config")),
        ("with_two_slashes_inside", "/spark.connect.SparkConnectService//Config".to_string()),
        ("with_a_slash_behind", format!("{SERVICE}Config/")),
        ("with_one_part_more", format!("{SERVICE}Config/x")),
        ("with_a_coded_slash", "/spark.connect.SparkConnectService%2FConfig".to_string()),
        (
            "with_a_coded_slash_in_lower_case",
            "/spark.connect.SparkConnectService%2fConfig".to_string(),
        ),
        ("with_a_coded_letter", "/spark.connect.SparkConnectServic%65/Config".to_string()),
        ("with_dots_before", format!("/x/..{SERVICE}Config")),
        ("with_one_dot_before", format!("/.{SERVICE}Config")),
        ("with_dots_behind", format!("{SERVICE}Config/..")),
        ("with_coded_dots", format!("/x/%2e%2e{SERVICE}Config")),
        ("with_a_parameter", format!("{SERVICE}Config;v=1")),
        ("with_a_query", format!("{SERVICE}Config?v=1")),
        ("with_an_empty_query", format!("{SERVICE}Config?")),
        ("with_a_fragment", format!("{SERVICE}Config#a")),
        ("in_upper_case", "/SPARK.CONNECT.SPARKCONNECTSERVICE/Config".to_string()),
        ("with_another_case", "/spark.connect.SparkconnectService/Config".to_string()),
        ("with_a_back_slash", "/spark.connect.SparkConnectService\\Config".to_string()),
        ("with_a_prefix", format!("/api{SERVICE}Config")),
        ("of_a_similar_service", "/spark.connect.SparkConnectServiceX/Config".to_string()),
        ("of_an_absolute_uri", format!("http://spark.example.com{SERVICE}Config")),
        ("of_8000_octets", format!("{SERVICE}{}", "C".repeat(7000))),
    ] {
        cases.add(format!("a_path_{what}_is_unimplemented_or_refused"), move |world| {
            let mut client = world.client();
            let request = client.request().set(":path", &path);
            let id = client.call(&request);
            let reply = client.finish(id);
            // Refused as malformed where RFC 9113 allows no such path, by its status else.
            if !(path.starts_with("http") && reply.reset.is_some()) {
                reply.assert_trailers_only();
                if path.len() < 4096 {
                    assert_eq!(reply.status(), Some(UNIMPLEMENTED), "{reply:?}");
                }
            }
            assert_eq!(world.asked(&client.case), 0, "it reached the driver");
            client.must_work();
        });
    }
    for method in METHODS {
        valid(cases, &format!("{method}_is_served"), None, move |r| {
            r.set(":path", format!("{SERVICE}{method}"))
        });
    }
    cases.add("the_path_reaches_the_driver_as_it_was", |world| {
        let mut client = world.client();
        client.must_work();
        let served = world.driver_sees(&client.case, SOON, |_| true);
        let path = format!("{SERVICE}Config");
        assert!(served.headers.contains(&(":path".to_string(), path)));
    });
}

fn content_types(cases: &mut Cases) {
    for (what, value) in [
        ("json", "application/json"),
        ("text", "text/plain"),
        ("grpc_web", "application/grpc-web"),
        ("grpc_web_text", "application/grpc-web-text"),
        ("a_longer_word", "application/grpcx"),
        ("a_shorter_word", "application/grp"),
        ("a_form", "application/x-www-form-urlencoded"),
        ("nothing", ""),
    ] {
        cases.add(format!("a_content_type_of_{what}_is_415"), move |world| {
            let mut client = world.client();
            let request = client.request().set("content-type", value);
            assert_415(world, &mut client, &request);
        });
    }
    cases.add("no_content_type_is_415", |world| {
        let mut client = world.client();
        let request = client.request().without("content-type");
        assert_415(world, &mut client, &request);
    });
    for value in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let name = format!("{}_is_served", value.replace(['/', '+', ';', '=', '-'], "_"));
        valid(cases, &name, None, move |r| r.set("content-type", value));
    }
}

fn assert_415(
    world: &crate::support::world::World,
    client: &mut crate::support::client::Client,
    request: &crate::support::fields::Request,
) {
    let id = client.call(request);
    let reply = client.finish(id);
    assert_eq!(reply.http_status(), Some("415"), "{reply:?}");
    assert!(reply.ended, "no end: {reply:?}");
    assert_eq!(world.asked(&client.case), 0, "it reached the driver");
    client.must_work();
}

fn methods(cases: &mut Cases) {
    for method in [
        "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "post", "PRI", "POSTX",
        "PO ST",
    ] {
        let name = format!("method_{}_never_reaches_the_driver", method.replace(' ', "_"));
        cases.add(
            if method == "post" {
                "method_post_in_lower_case_never_reaches_the_driver".into()
            } else {
                name
            },
            move |world| {
                let mut client = world.client();
                let id = client.call(&client.request().set(":method", method));
                let reply = client.finish(id);
                assert!(reply.is_over(), "no answer, goaway {:?}", client.goaway);
                assert_ne!(reply.status(), Some(0), "{reply:?}");
                let success = reply.http_status() == Some("200") && reply.status().is_none();
                assert!(!success || reply.reset.is_some(), "200 without a status: {reply:?}");
                assert_eq!(world.asked(&client.case), 0, "it reached the driver");
                client.must_work();
            },
        );
    }
    cases.add("a_connect_never_opens_a_tunnel", |world| {
        let mut client = world.client();
        let request =
            client.request().set(":method", "CONNECT").without(":path").without(":scheme");
        let id = client.start(&request, false);
        let reply = client.finish(id);
        assert!(reply.is_over() && reply.status() != Some(0), "{reply:?}");
        assert_eq!(world.asked(&client.case), 0, "it reached the driver");
        client.must_work();
    });
    valid(cases, "scheme_https_is_served", None, |r| r.set(":scheme", "https"));
}
