//! Two teams on one connection never mix; a call without a team reaches none.

use crate::support::client::Client;
use crate::support::fields::Request;
use crate::support::frame;
use crate::support::runner::Cases;
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("team_isolation");
    add(cases, "five_hundred_calls_of_two_teams_on_one_connection_never_mix", |world, client| {
        for round in 0..10 {
            let teams = ["ads", "web", "calm"];
            let ids: Vec<(u32, &str)> = (0..50)
                .map(|n| {
                    let team = teams[(n * 7 + round) % 3];
                    (client.call(&client.request().team(team)), team)
                })
                .collect();
            for (id, team) in ids {
                let reply = client.finish(id);
                assert_eq!(reply.status(), Some(0), "{reply:?}");
                assert_eq!(&reply.body[5..], team.as_bytes(), "another team answered");
            }
            client.streams.clear();
        }
        assert!(world.asked(&client.case) > 100);
    });
    add(cases, "a_dead_driver_of_one_team_leaves_the_other_alone", |_, client| {
        let dying = client.request().script("end;slam");
        let id = client.call(&dying);
        let web = client.request().team("web");
        client.must_succeed(&web);
        client.finish(id).assert_no_success();
        client.must_succeed(&web);
    });
    add(cases, "goaway_of_one_driver_leaves_the_other_alone", |_, client| {
        let going = client.request().script("end;F7.0.0.000000000000000b;close");
        let id = client.call(&going);
        let web = client.request().team("web");
        let held = client.call(&web.clone().script("end;z200;h;d2;t0"));
        client.finish(id).assert_no_success();
        assert_eq!(client.finish(held).status(), Some(0));
        assert_eq!(client.goaway, None);
    });
    type Bend = fn(Request) -> Request;
    let table: [(&str, Bend); 10] = [
        ("an_unknown_team", |r| r.team("nobody")),
        ("an_unknown_environment", |r| r.set("x-sconce-env", "moon")),
        ("no_team", |r| r.without("x-sconce-team").without("x-sconce-env")),
        ("an_empty_team", |r| r.team("")),
        ("a_team_in_upper_case", |r| r.team("ADS")),
        ("a_team_with_a_path", |r| r.team("../ads")),
        ("a_team_of_a_thousand_letters", |r| r.team(&"a".repeat(1000))),
        ("two_teams", |r| r.with("x-sconce-team", "web")),
        ("two_environments", |r| r.with("x-sconce-env", "dev")),
        ("two_teams_in_one_value", |r| r.team("ads, web")),
    ];
    for (what, bend) in table {
        add(cases, &format!("{what}_is_refused_in_the_shape_of_grpc"), move |world, client| {
            let id = client.call(&bend(client.request()));
            let reply = client.finish(id);
            reply.assert_trailers_only();
            assert_ne!(reply.status(), Some(0));
            assert!(!reply.message().is_empty(), "a refusal without a word");
            assert_eq!(world.asked(&client.case), 0, "it reached a driver");
            client.case = world.mark();
            client.must_work();
        });
    }
    add(cases, "the_same_team_said_twice_is_served", |_, client| {
        let request = client.request().with("x-sconce-team", "ads");
        let id = client.call(&request);
        let reply = client.finish(id);
        assert!(reply.status().is_some(), "{reply:?}");
    });
    add(cases, "a_refused_call_with_a_large_body_leaves_the_connection_whole", |_, client| {
        let id = client.start(&client.request().team("nobody"), false);
        for _ in 0..30 {
            client.upload_now(id, 8192);
            client.poll();
        }
        client.send(&frame::data(id, true, &[]));
        let reply = client.finish(id);
        assert_ne!(reply.status(), Some(0));
        for _ in 0..20 {
            client.must_work();
        }
    });
    add(cases, "refused_bodies_give_their_connection_credit_back", |_, client| {
        for _ in 0..40 {
            let id = client.start(&client.request().team("nobody"), false);
            client.pump(|c| c.budget >= 8192, crate::support::client::SOON);
            assert!(client.budget >= 8192, "the connection window leaks");
            client.upload_now(id, 8192);
            client.finish(id);
        }
        client.must_work();
    });
}

/// Adds a case that needs more than one team, so sconce itself.
fn add(cases: &mut Cases, name: &str, run: impl Fn(&World, &mut Client) + Send + Sync + 'static) {
    cases.add(name, move |world| {
        if world.is_sconce() {
            run(world, &mut world.client());
        }
    });
}
