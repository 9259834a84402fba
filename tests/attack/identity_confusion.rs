//! Several callers on one connection, with similar header blocks: no call gets another caller's
//! identity.

use crate::authentication::must_be;
use crate::support::client::{Client, SOON};
use crate::support::fields;
use crate::support::frame;
use crate::support::proof::{self, ANN, BOB, Person, UNAUTHENTICATED, UNIMPLEMENTED, add, of};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    table(cases);
    memory(cases);
}

/// Calls as somebody with a message that says so, and claims to be Eve.
fn call_as(client: &mut Client, block: &[u8], person: &Person, round: usize) {
    let session = format!("{}-{round}", person.user);
    let message = [field(1, session), context("eve", "Eve")].concat();
    let id = proof::ask(client, block, &framed(&message));
    let team = if *person == BOB { "web" } else { "ads" };
    assert_eq!(proof::answerer(&client.finish(id)), team, "in round {round}");
    client.streams.clear();
}

/// Every message of the case came to the right driver with the right names in it.
fn assert_each_is_who_it_says(world: &World, case: &str, count: usize) {
    let ads = world.driver.lock().unwrap().log.entries(case);
    let web = world.web.log.entries(case);
    assert_eq!(ads.len() + web.len(), count);
    for (entries, person) in [(ads, ANN), (web, BOB)] {
        for entry in entries {
            let served = entry.0.lock().unwrap();
            for message in protobuf::messages(&served.body) {
                let merged = protobuf::merged(&message);
                let session = String::from_utf8(merged.others[2..].to_vec()).unwrap();
                assert!(session.starts_with(person.user), "{session} at {}", person.user);
                assert_eq!(merged.user_id.as_deref(), Some(person.user), "in {session}");
                assert_eq!(merged.user_name.as_deref(), Some(person.display), "in {session}");
            }
        }
    }
}

const ROUNDS: usize = 200;

/// Blocks whose octets are the same every time, and mean somebody else every time.
fn table(cases: &mut Cases) {
    add(cases, "two_tokens_in_the_table_are_two_callers", proof::spec(""), |world| {
        let mut client = world.client();
        let bare = proof::bare(&client).block();
        let index =
            |person: &Person| fields::indexing(b"authorization", person.bearer().as_bytes());
        call_as(&mut client, &[bare.clone(), index(&ANN)].concat(), &ANN, 0);
        call_as(&mut client, &[bare.clone(), index(&BOB)].concat(), &BOB, 1);
        for round in 2..ROUNDS {
            let (person, at) = if round % 3 == 0 { (ANN, 63) } else { (BOB, 62) };
            let block = [bare.clone(), fields::indexed(at)].concat();
            call_as(&mut client, &block, &person, round);
        }
        assert_each_is_who_it_says(world, &client.case, ROUNDS);
    });
    add(cases, "one_index_whose_meaning_changes_is_another_caller", proof::spec(""), |world| {
        let mut client = world.client();
        let bare = proof::bare(&client).block();
        let same = [bare.clone(), fields::indexed(62)].concat();
        for round in 0..ROUNDS / 2 {
            let person = if round % 2 == 0 { ANN } else { BOB };
            let value = person.bearer();
            let fresh = [bare.clone(), fields::indexing(b"authorization", value.as_bytes())];
            call_as(&mut client, &fresh.concat(), &person, 2 * round);
            call_as(&mut client, &same, &person, 2 * round + 1);
        }
        assert_each_is_who_it_says(world, &client.case, ROUNDS);
    });
    add(cases, "one_index_of_an_emptied_table_is_another_caller", proof::spec(""), |world| {
        let mut client = world.client();
        let bare = proof::bare(&client).block();
        let same = [bare.clone(), fields::indexed(62)].concat();
        let emptied = [fields::table_size(0), fields::table_size(4096)].concat();
        for round in 0..ROUNDS / 2 {
            let person = if round % 2 == 0 { ANN } else { BOB };
            let value = person.bearer();
            let fresh = fields::indexing(b"authorization", value.as_bytes());
            let fresh = [emptied.clone(), bare.clone(), fresh].concat();
            call_as(&mut client, &fresh, &person, 2 * round);
            call_as(&mut client, &same, &person, 2 * round + 1);
        }
        assert_each_is_who_it_says(world, &client.case, ROUNDS);
    });
    add(
        cases,
        "an_index_that_is_changed_by_a_refused_call_is_another_caller",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            let bare = proof::bare(&client).block();
            let same = [bare.clone(), fields::indexed(62)].concat();
            for round in 0..40 {
                let person = if round % 2 == 0 { ANN } else { BOB };
                let value = fields::indexing(b"authorization", person.bearer().as_bytes());
                let path = fields::literal(b":path", b"/grpc.health.v1.Health/Check");
                let other = proof::bare(&client).without(":path").block();
                let other = [path, other, value].concat();
                let id = proof::ask(&mut client, &other, &frame::message(0));
                assert_eq!(client.finish(id).status(), Some(UNIMPLEMENTED));
                call_as(&mut client, &same, &person, round);
            }
            assert_each_is_who_it_says(world, &client.case, 40);
        },
    );
}

/// What sconce remembers of heads and tokens must not outlive them.
fn memory(cases: &mut Cases) {
    add(
        cases,
        "two_callers_on_one_connection_at_one_time_are_not_mixed",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            for round in 0..20 {
                let mut ids = Vec::new();
                for n in 0..20 {
                    let person = if (n * 7 + round) % 3 == 0 { ANN } else { BOB };
                    let message = field(1, format!("{}-{n}", person.user));
                    let block = of(&client, &person).block();
                    ids.push((proof::ask(&mut client, &block, &framed(&message)), person));
                }
                for (id, person) in ids {
                    assert_eq!(proof::answerer(&client.finish(id)), person.teams);
                }
                client.streams.clear();
            }
            assert_each_is_who_it_says(world, &client.case, 400);
        },
    );
    add(
        cases,
        "a_good_token_does_not_vouch_for_the_next_call_without_one",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            must_be(&mut client, &ANN);
            let mark = std::mem::replace(&mut client.case, world.mark());
            for _ in 0..5 {
                let id = client.call(&proof::bare(&client));
                let reply = client.finish(id);
                proof::assert_turned_away(&reply, UNAUTHENTICATED);
            }
            assert_eq!(world.asked(&mark), 1);
            proof::assert_unasked(world, &client.case);
        },
    );
    add(cases, "a_refused_token_does_not_spoil_the_next_call", proof::spec(""), |world| {
        let mut client = world.client();
        for _ in 0..20 {
            let wrong = proof::bare(&client).with("authorization", "Bearer wrong");
            let id = client.call(&wrong);
            proof::assert_turned_away(&client.finish(id), UNAUTHENTICATED);
            must_be(&mut client, &ANN);
            must_be(&mut client, &BOB);
        }
    });
    add(
        cases,
        "a_refused_upload_without_proof_leaves_the_connection_whole",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            for _ in 0..40 {
                let id = client.start(&proof::bare(&client), false);
                client.pump(|c| c.budget >= 8192, SOON);
                assert!(client.budget >= 8192, "the connection window leaks");
                client.upload_now(id, 8192);
                proof::assert_turned_away(&client.finish(id), UNAUTHENTICATED);
            }
            must_be(&mut client, &ANN);
        },
    );
}
