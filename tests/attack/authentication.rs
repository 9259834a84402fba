//! Authentication: no call without proof of identity, and none under another identity.

use crate::support::client::{Client, SOON};
use crate::support::fields::{self, Request};
use crate::support::frame;
use crate::support::proof::{self, ANN, BOB, EVE, Person, UNAUTHENTICATED, UNIMPLEMENTED, add, of};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    without_proof(cases);
    forms(cases);
    credentials(cases);
}

type Bend = fn(Request) -> Request;

fn without_proof(cases: &mut Cases) {
    const MISSING: &str = "authenticate.missing";
    const MALFORMED: &str = "authenticate.malformed";
    const DUPLICATE: &str = "authenticate.duplicate";
    let table: [(&str, &str, Bend); 26] = [
        ("without_a_token", MISSING, |r| r),
        ("with_a_token_in_proxy_authorization", MISSING, |r| {
            r.with("proxy-authorization", ANN.bearer())
        }),
        ("with_a_token_in_a_cookie", MISSING, |r| {
            r.with("cookie", format!("authorization={}", ANN.bearer()))
        }),
        ("with_a_token_in_a_header_of_ours", MISSING, |r| r.with("x-sconce-token", ANN.token)),
        ("with_a_user_in_a_header_of_ours", MISSING, |r| r.with("x-sconce-user", "ann")),
        ("with_a_token_in_x_authorization", MISSING, |r| r.with("x-authorization", ANN.bearer())),
        ("with_the_name_of_its_team_alone", MISSING, |r| r.with("x-sconce-team", "ads")),
        ("with_two_tokens", DUPLICATE, |r| {
            r.with("authorization", ANN.bearer()).with("authorization", BOB.bearer())
        }),
        ("with_the_same_token_twice", DUPLICATE, |r| {
            r.with("authorization", ANN.bearer()).with("authorization", ANN.bearer())
        }),
        ("with_a_token_first_and_last", DUPLICATE, |r| {
            let mut fields = r.with("authorization", ANN.bearer()).0;
            fields.insert(4, (b"authorization".to_vec(), BOB.bearer().into_bytes()));
            Request(fields)
        }),
        ("with_a_token_and_an_empty_one", DUPLICATE, |r| {
            r.with("authorization", ANN.bearer()).with("authorization", "")
        }),
        ("with_an_empty_value", MALFORMED, |r| r.with("authorization", "")),
        ("with_a_scheme_alone", MALFORMED, |r| r.with("authorization", "Bearer")),
        ("with_a_bare_token", MALFORMED, |r| r.with("authorization", ANN.token)),
        ("with_another_scheme", MALFORMED, |r| {
            r.with("authorization", ANN.bearer().replace("Bearer", "Token"))
        }),
        ("with_a_scheme_that_only_begins_so", MALFORMED, |r| {
            r.with("authorization", ANN.bearer().replace("Bearer", "Bearerx"))
        }),
        ("with_basic_credentials", MALFORMED, |r| r.with("authorization", "Basic YW5uOmFubg==")),
        ("with_two_tokens_and_a_comma", MALFORMED, |r| {
            r.with("authorization", format!("{},{}", ANN.bearer(), BOB.bearer()))
        }),
        ("with_a_token_and_a_comma", MALFORMED, |r| {
            r.with("authorization", format!("{},", ANN.bearer()))
        }),
        ("with_a_token_and_another_behind_a_blank", MALFORMED, |r| {
            r.with("authorization", format!("{} {}", ANN.bearer(), BOB.token))
        }),
        ("with_a_tab_in_front_of_the_token", MALFORMED, |r| {
            r.with("authorization", format!("Bearer\t{}", ANN.token))
        }),
        ("with_octets_above_ascii", MALFORMED, |r| {
            r.with("authorization", [ANN.bearer().as_bytes(), &[0xff]].concat())
        }),
        ("with_a_token_of_9_kib", MALFORMED, |r| {
            r.with("authorization", format!("Bearer {}", "a".repeat(9 << 10)))
        }),
        ("with_a_token_that_is_a_part_of_a_good_one", MALFORMED, |r| {
            r.with("authorization", &ANN.bearer()[..ANN.bearer().len() - 1])
        }),
        ("with_a_good_token_and_one_letter_more", MALFORMED, |r| {
            r.with("authorization", format!("{}x", ANN.bearer()))
        }),
        ("with_a_good_token_in_upper_case", MALFORMED, |r| {
            r.with("authorization", format!("Bearer {}", ANN.token.to_uppercase()))
        }),
    ];
    for (what, label, bend) in table {
        add(cases, format!("a_call_{what}_is_refused"), proof::spec(""), move |world| {
            let mut client = world.client();
            let id = client.call(&bend(proof::bare(&client)));
            let reply = client.finish(id);
            proof::assert_refused(world, &reply, UNAUTHENTICATED, label);
            proof::assert_unasked(world, &client.case);
            must_be(&mut client, &ANN);
        });
    }
    add(cases, "a_token_in_the_path_is_refused", proof::spec(""), |world| {
        let mut client = world.client();
        let path = format!("{}Config?token={}", fields::SERVICE, ANN.token);
        let id = client.call(&proof::bare(&client).set(":path", path));
        let reply = client.finish(id);
        proof::assert_refused(world, &reply, UNIMPLEMENTED, "request.unimplemented");
        proof::assert_unasked(world, &client.case);
    });
    add(cases, "a_token_in_trailers_is_refused", proof::spec(""), |world| {
        let mut client = world.client();
        let id = client.take_id();
        let trailers = fields::literal(b"authorization", ANN.bearer().as_bytes());
        let head = frame::headers(id, false, &proof::bare(&client).block());
        let body = frame::data(id, false, &frame::message(2));
        client.budget -= 7;
        client.send(&[head, body, frame::headers(id, true, &trailers)].concat());
        let reply = client.finish(id);
        proof::assert_refused(world, &reply, UNAUTHENTICATED, "authenticate.missing");
        proof::assert_unasked(world, &client.case);
    });
    let broken: [(&str, Bend); 5] = [
        ("that_is_a_part_of_the_authority", |r| {
            r.set(":authority", format!("{}@spark.example.com", ANN.token))
        }),
        ("whose_name_is_in_upper_case", |r| r.with("Authorization", ANN.bearer())),
        ("with_a_nul", |r| r.with("authorization", format!("{}\0", ANN.bearer()))),
        ("with_a_line_feed", |r| r.with("authorization", format!("{}\n", ANN.bearer()))),
        ("with_a_blank_behind_it", |r| r.with("authorization", format!("{} ", ANN.bearer()))),
    ];
    for (what, bend) in broken {
        add(
            cases,
            format!("authorization_{what}_breaks_its_stream"),
            proof::spec(""),
            move |world| {
                let mut client = world.client();
                let id = client.call(&bend(proof::bare(&client)));
                client.pump(|c| c.streams.get(&id).is_some_and(|reply| reply.is_over()), SOON);
                let reset = client.streams.get(&id).and_then(|reply| reply.reset);
                assert_eq!(reset, Some(frame::PROTOCOL_ERROR), "{:?}", client.streams.get(&id));
                proof::assert_unasked(world, &client.case);
                must_be(&mut client, &ANN);
            },
        );
    }
}

/// A plain call of this person, which that person's team must answer.
pub fn must_be(client: &mut Client, person: &Person) {
    let block = of(client, person).block();
    let id = proof::ask(client, &block, &framed(&field(1, "s")));
    let team = if person.teams == "web" { "web" } else { "ads" };
    assert_eq!(proof::answerer(&client.finish(id)), team);
}

/// The value of `authorization` in every form that HPACK has for a literal.
fn forms_of(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let (name, plain) = (b"authorization", fields::string(value.as_bytes()));
    let coded = proof::huffman(value);
    let known = |high: u8, bits| [fields::integer(high, bits, 23), plain.clone()].concat();
    vec![
        ("a_literal", fields::literal(name, value.as_bytes())),
        ("a_literal_never_to_be_indexed", fields::never(name, value.as_bytes())),
        ("a_literal_that_is_indexed", fields::indexing(name, value.as_bytes())),
        ("a_literal_behind_a_known_name", known(0x00, 4)),
        ("a_literal_never_to_be_indexed_behind_a_known_name", known(0x10, 4)),
        ("a_literal_that_is_indexed_behind_a_known_name", known(0x40, 6)),
        (
            "a_huffman_coded_literal",
            [fields::integer(0x10, 4, 23), fields::huffman(&coded)].concat(),
        ),
        (
            "a_huffman_coded_literal_that_is_indexed",
            [fields::integer(0x40, 6, 23), fields::huffman(&coded)].concat(),
        ),
    ]
}

fn forms(cases: &mut Cases) {
    for (at, (form, _)) in forms_of("-").into_iter().enumerate() {
        add(cases, format!("a_token_as_{form}_is_verified"), proof::spec(""), move |world| {
            let mut client = world.client();
            let bare = proof::bare(&client).block();
            let written = |value: &str| [bare.clone(), forms_of(value).swap_remove(at).1].concat();
            for (person, team) in [(ANN, "ads"), (BOB, "web"), (ANN, "ads")] {
                let id = proof::ask(&mut client, &written(&person.bearer()), &frame::message(0));
                assert_eq!(proof::answerer(&client.finish(id)), team);
            }
            let wrong = proof::ask(&mut client, &written("Bearer ann-0"), &frame::message(0));
            let reply = client.finish(wrong);
            proof::assert_refused(world, &reply, UNAUTHENTICATED, "authenticate.malformed");
        });
    }
    for (what, bend) in [
        ("lower", (|it| it.replace("Bearer", "bearer")) as fn(String) -> String),
        ("upper", |it| it.replace("Bearer", "BEARER")),
    ] {
        add(cases, format!("the_scheme_may_be_in_{what}_case"), proof::spec(""), move |world| {
            let mut client = world.client();
            let id = client.call(&proof::bare(&client).with("authorization", bend(ANN.bearer())));
            assert_eq!(proof::answerer(&client.finish(id)), "ads");
        });
    }
}

/// No credential of the client goes further than here.
fn credentials(cases: &mut Cases) {
    let table: [(&str, Bend); 6] = [
        ("authorization", |r| r),
        ("proxy_authorization", |r| r.with("proxy-authorization", "Basic c2VjcmV0")),
        ("cookies", |r| r.with("cookie", "a=c2VjcmV0").with("cookie", "b=c2VjcmV0")),
        ("words_to_sconce", |r| {
            r.with("x-sconce-user", "c2VjcmV0").with("x-sconce-token", "c2VjcmV0")
        }),
        ("twins_of_words_to_sconce", |r| {
            r.with("x_sconce_user", "c2VjcmV0").with("x-sconce_team", "c2VjcmV0")
        }),
        ("twins_of_credentials", |r| r.with("proxy_authorization", "Basic c2VjcmV0")),
    ];
    for (what, bend) in table {
        add(
            cases,
            format!("no_{what}_of_a_client_reach_a_driver"),
            proof::spec(""),
            move |world| {
                let mut client = world.client();
                let blocks = forms_of(&ANN.bearer());
                let count = blocks.len();
                for (_, form) in blocks {
                    let block = [bend(proof::bare(&client)).block(), form].concat();
                    let id = proof::ask(&mut client, &block, &frame::message(0));
                    assert_eq!(proof::answerer(&client.finish(id)), "ads");
                }
                let entries = world.driver.lock().unwrap().log.entries(&client.case);
                assert_eq!(entries.len(), count);
                for entry in entries {
                    let headers = entry.0.lock().unwrap().headers.clone();
                    let secret =
                        |value: &str| value.contains(ANN.token) || value.contains("c2VjcmV0");
                    let told = headers.iter().find(|(name, value)| {
                        secret(value) || name.replace('_', "-").starts_with("x-sconce-")
                    });
                    assert_eq!(told, None, "the driver was told");
                }
            },
        );
    }
    add(cases, "no_trailers_of_a_client_reach_a_driver", proof::spec(""), |world| {
        let mut client = world.client();
        let id = client.start(&of(&client, &ANN), false);
        let trailers = [
            fields::literal(b"authorization", EVE.bearer().as_bytes()),
            fields::literal(b"x-sconce-user", b"eve"),
        ];
        client.spend(id, 5);
        client.send(&frame::data(id, false, &frame::message(0)));
        client.send(&frame::headers(id, true, &trailers.concat()));
        assert_eq!(proof::answerer(&client.finish(id)), "ads");
        let served = world.driver_sees(&client.case, SOON, |served| served.ended);
        assert_eq!(served.trailers, [], "the driver was told");
    });
}
