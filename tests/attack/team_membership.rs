//! Team membership: no call reaches the driver of a team that its caller does not belong to.

use std::time::Duration;

use crate::support::client::{Client, SOON};
use crate::support::fields::Request;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, BOB, EVE, PERMISSION_DENIED, Person, TOM, ZOE, add, of};
use crate::support::protobuf::{self, context, field, framed};
use crate::support::runner::Cases;
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    strangers(cases);
    own(cases);
    changes(cases);
    crowds(cases);
}

/// How a call names a team.
type Ask = fn(Request, &str) -> Request;

const WAYS: [(&str, Ask); 2] = [
    ("by_metadata", |request, team| request.with("x-sconce-team", team)),
    ("by_authority", |request, team| {
        let host = format!("{team}.spark.example.com:443");
        request.without("x-sconce-env").set(":authority", host)
    }),
];

/// Names the hosts of all teams in their files, as soon as the world is there.
fn name_hosts(world: &World) {
    // The last is asked about: once its host is known, so are those of the others.
    for (team, members) in [("web", None), ("calm", None), ("ads", Some("{ users: [zoe] }"))] {
        write_team(world, team, members);
    }
    let mut client = world.client();
    // Of two teams: where no host is known, hers is not either.
    let asked = |client: &Client| WAYS[1].1(of(client, &EVE), "ads");
    eventually("the hosts are known", SOON, || {
        let id = client.call(&asked(&client));
        client.finish(id).status() == Some(0)
    });
}

fn write_team(world: &World, team: &str, members: Option<&str>) {
    let ads = world.driver.lock().unwrap().address;
    let all = [("ads", ads), ("web", world.web.address), ("calm", world.calm.address)];
    let driver = all.into_iter().find(|(name, _)| *name == team).unwrap().1;
    let members = members.map(|who| format!("members: {who}\n")).unwrap_or_default();
    let text = format!(
        "team: {team}\n{members}environments:\n  prod:\n    driver: {driver}\n    authorities: \
         [{team}.spark.example.com]\n"
    );
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().join("teams");
    std::fs::write(home.join(".new"), text).unwrap();
    std::fs::rename(home.join(".new"), home.join(format!("{team}.yaml"))).unwrap();
}

fn strangers(cases: &mut Cases) {
    for (way, ask) in WAYS {
        for (person, team) in
            [(ANN, "web"), (ANN, "calm"), (BOB, "ads"), (ZOE, "web"), (EVE, "calm")]
        {
            let name = format!("{}_who_asks_for_{team}_{way}_is_refused", person.user);
            add(cases, name, proof::spec(""), move |world| {
                name_hosts(world);
                let mut client = world.client();
                let id = client.call(&ask(of(&client, &person), team));
                let reply = client.finish(id);
                proof::assert_turned_away(&reply, PERMISSION_DENIED);
                proof::assert_no_secret(world, &reply);
                let counted = proof::refusals(world);
                let label = "team.not_member".to_string();
                assert!(counted.contains(&(label, 1)), "of the metrics: {counted:?}");
                proof::assert_unasked(world, &client.case);
                let own = if person == ZOE { "ads" } else { person.teams };
                let told = reply.message();
                assert!(told.ends_with(&format!("your teams: {own}")), "{told}");
                let rest = told.replace(own, "").replace(&format!("'{team}'"), "");
                for other in ["ads", "web", "calm"] {
                    assert!(!rest.contains(&format!(" {other}")), "it tells of {other}: {told}");
                }
            });
        }
    }
    add(
        cases,
        "a_team_that_is_not_there_reads_as_one_that_is_not_theirs",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            let mut told = |team: &str| {
                let id = client.call(&of(&client, &ANN).with("x-sconce-team", team));
                let reply = client.finish(id);
                proof::assert_turned_away(&reply, PERMISSION_DENIED);
                reply.message().replace(team, "?")
            };
            assert_eq!(told("web"), told("moon"));
        },
    );
    add(cases, "who_is_in_no_team_is_refused_whatever_they_ask_for", proof::spec(""), |world| {
        let mut client = world.client();
        let bare = of(&client, &TOM);
        let asked = [bare.clone(), bare.clone().with("x-sconce-team", "ads")];
        for request in asked.into_iter().chain([bare.with("x-sconce-team", "moon")]) {
            let id = client.call(&request);
            let reply = client.finish(id);
            proof::assert_turned_away(&reply, PERMISSION_DENIED);
            for team in ["ads", "web", "calm"] {
                assert!(!reply.message().contains(team), "{reply:?}");
            }
        }
        proof::assert_unasked(world, &client.case);
    });
    let claimed = "a_team_or_user_that_only_the_message_claims_counts_for_nothing";
    add(cases, claimed, proof::spec(""), |world| {
        let mut client = world.client();
        let request = of(&client, &TOM).with("x-sconce-team", "ads").with("x-sconce-user", "ann");
        let message = framed(&context("ann", "Ann A."));
        let id = proof::ask(&mut client, &request.block(), &message);
        proof::assert_turned_away(&client.finish(id), PERMISSION_DENIED);
        proof::assert_unasked(world, &client.case);
    });
}

fn team_of(client: &mut Client, request: &Request) -> String {
    let id = client.call(request);
    proof::answerer(&client.finish(id))
}

fn own(cases: &mut Cases) {
    add(cases, "who_is_in_two_teams_chooses_by_either_way", proof::spec(""), |world| {
        name_hosts(world);
        let mut client = world.client();
        for _ in 0..20 {
            for (_, ask) in WAYS {
                for team in ["ads", "web"] {
                    let request = ask(of(&client, &EVE), team);
                    assert_eq!(team_of(&mut client, &request), team);
                }
            }
        }
    });
    add(
        cases,
        "two_callers_on_one_connection_come_to_their_own_drivers",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            for round in 0..100 {
                let (person, team) = [(ANN, "ads"), (BOB, "web"), (ZOE, "ads")][round * 7 % 3];
                let request = of(&client, &person);
                assert_eq!(team_of(&mut client, &request), team);
            }
        },
    );
}

fn changes(cases: &mut Cases) {
    add(
        cases,
        "who_is_taken_out_of_a_team_is_refused_at_the_next_call",
        proof::spec(""),
        |world| {
            let mut client = world.client();
            let zoe = of(&client, &ZOE);
            for _ in 0..5 {
                assert_eq!(team_of(&mut client, &zoe), "ads");
            }
            let open = client.call(&zoe.clone().script("end;h;z1500;d2;t0"));
            world.driver_sees(&client.case, SOON, |served| served.ended);
            write_team(world, "ads", None);
            let id = eventually_refused(&mut client, &zoe);
            proof::assert_turned_away(&id, PERMISSION_DENIED);
            client.case = world.mark();
            let other = of(&client, &ZOE);
            for _ in 0..20 {
                let id = client.call(&other);
                proof::assert_turned_away(&client.finish(id), PERMISSION_DENIED);
            }
            proof::assert_unasked(world, &client.case);
            assert_eq!(client.finish(open).status(), Some(0), "a call that was admitted goes on");
            let ann = of(&client, &ANN);
            assert_eq!(team_of(&mut client, &ann), "ads");
        },
    );
    add(cases, "who_is_put_into_a_team_is_served_at_the_next_call", proof::spec(""), |world| {
        let mut client = world.client();
        let tom = of(&client, &TOM);
        let id = client.call(&tom);
        proof::assert_turned_away(&client.finish(id), PERMISSION_DENIED);
        write_team(world, "web", Some("{ users: [tom] }"));
        eventually("he is let in", SOON, || {
            let id = client.call(&tom);
            client.finish(id).status() == Some(0)
        });
        assert_eq!(team_of(&mut client, &tom), "web");
    });
}

fn eventually_refused(client: &mut Client, request: &Request) -> crate::support::reply::Reply {
    for _ in 0..400 {
        let id = client.call(request);
        let reply = client.finish(id);
        if reply.status() != Some(0) {
            return reply;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still served");
}

const CLIENTS: usize = 20;
const CALLS: usize = 100;

/// A number that follows from the seed and the turn.
fn dice(seed: usize, turn: usize, sides: usize) -> usize {
    let mixed = (seed as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn as u64);
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 33).unwrap() % sides
}

/// One client: in turn all persons call, for teams of theirs and others, a few at one time.
fn crowd(world: &World, seed: usize, case: &str) -> usize {
    let mut client = world.client();
    client.case = case.to_string();
    let persons: [(Person, &[&str]); 5] =
        [(ANN, &["ads"]), (BOB, &["web"]), (EVE, &["ads", "web"]), (ZOE, &["ads"]), (TOM, &[])];
    let (mut served, mut open) = (0, Vec::new());
    for turn in 0..CALLS {
        let (person, own) = persons[dice(seed, turn, persons.len())];
        let team = ["ads", "web", "calm", "moon"][dice(seed + 77, turn, 4)];
        let other = persons[dice(seed + 99, turn, persons.len())].0;
        let session = format!("{}/{team}/{turn}", person.user);
        let message = framed(&[field(1, session), context(other.user, other.display)].concat());
        let block = of(&client, &person).with("x-sconce-team", team).block();
        open.push((proof::ask(&mut client, &block, &message), team, own.contains(&team)));
        if open.len() > dice(seed, turn, 8) {
            for (id, team, is_own) in open.drain(..) {
                let reply = client.finish(id);
                if is_own {
                    assert_eq!(proof::answerer(&reply), team);
                    served += 1;
                } else {
                    proof::assert_turned_away(&reply, PERMISSION_DENIED);
                }
            }
            client.streams.clear();
        }
    }
    for (id, ..) in open {
        served += usize::from(client.finish(id).status() == Some(0));
    }
    served
}

/// Passes on why a client gave up.
fn told(why: &(dyn std::any::Any + Send)) -> usize {
    let said = why.downcast_ref::<String>().map(String::as_str);
    panic!("{}", said.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("a client gave up"))
}

fn crowds(cases: &mut Cases) {
    add(
        cases,
        "in_a_crowd_nobody_arrives_as_another_or_at_another_driver",
        proof::spec(""),
        |world| {
            let case = world.mark();
            let served: usize = std::thread::scope(|scope| {
                let crowd = |seed| {
                    let case = &case;
                    scope.spawn(move || crowd(world, seed, case))
                };
                let all: Vec<_> = (0..CLIENTS).map(crowd).collect();
                all.into_iter().map(|client| client.join().unwrap_or_else(|why| told(&*why))).sum()
            });
            let ads = world.driver.lock().unwrap().log.entries(&case);
            let (web, calm) = (world.web.log.entries(&case), world.calm.log.entries(&case));
            assert_eq!((ads.len() + web.len(), calm.len()), (served, 0));
            assert!(served > CLIENTS * CALLS / 5, "only {served} calls were served");
            for (entries, team) in [(ads, "ads"), (web, "web")] {
                for entry in entries {
                    let served = entry.0.lock().unwrap();
                    let messages = protobuf::messages(&served.body);
                    assert_eq!(messages.len(), 1);
                    let merged = protobuf::merged(&messages[0]);
                    let session = String::from_utf8(merged.others[2..].to_vec()).unwrap();
                    let mut said = session.split('/');
                    let person =
                        said.next().and_then(|user| proof::ALL.iter().find(|it| it.user == user));
                    assert_eq!(merged.user_id.as_deref(), person.map(|it| it.user), "in {session}");
                    assert_eq!(merged.user_name.as_deref(), person.map(|it| it.display));
                    assert_eq!(said.next(), Some(team), "{session} at {team}");
                }
            }
        },
    );
}
