//! Teams and members that are removed while queries run: their sessions are served for the removal
//! delay, and no others are.

use std::time::{Duration, Instant};

use crate::support::client::{Client, SOON};
use crate::support::fields::{Request, SERVICE};
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, EVE, PERMISSION_DENIED, Person, ZOE, add};
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("team_removals");
    kinds(cases);
    finished(cases);
    strangers(cases);
    completion(cases);
    reloads(cases);
    unproved(cases);
    at_once(cases);
    many(cases);
}

const NOT_FOUND: u32 = 5;
const UNAVAILABLE: u32 = 14;

/// How long sessions go on.
const DELAY: Duration = Duration::from_secs(3);

fn spec() -> Spec {
    proof::spec("  removal_delay: 3s\n")
}

/// The same where nobody is asked who they are.
fn open_spec() -> Spec {
    let mut spec = spec();
    spec.config.extra = "  removal_delay: 3s\n".to_string();
    spec.config.members = Vec::new();
    spec.config.proof = None;
    spec
}

fn file(world: &World) -> std::path::PathBuf {
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    home.join("teams/ads.yaml")
}

/// Puts one text in the place of another in the file of `ads`.
fn edit(world: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(file(world)).unwrap();
    assert!(text.contains(from), "{from:?} is not there: {text}");
    std::fs::write(file(world).with_extension("new"), text.replacen(from, to, 1)).unwrap();
    std::fs::rename(file(world).with_extension("new"), file(world)).unwrap();
}

fn request(client: &Client, person: &Person, method: &str) -> Request {
    let request = proof::bare(client).with("authorization", person.bearer());
    request.with("x-sconce-team", "ads").set(":path", format!("{SERVICE}{method}"))
}

/// How the call of a method ends, of somebody's session.
fn asks(client: &mut Client, request: &Request, session: &str) -> Option<u32> {
    let id = proof::ask(client, &request.block(), &framed(&field(1, session)));
    client.finish(id).status()
}

/// An execution of a session that runs until its client goes away, or as long as the script says.
fn runs(world: &World, client: &mut Client, request: &Request, session: &str) -> u32 {
    client.case = world.mark();
    let request = request.clone().set("x-case", client.case.clone());
    let id = proof::ask(client, &request.block(), &framed(&field(1, session)));
    world.driver_sees(&client.case, SOON, |served| served.ended);
    id
}

/// Waits until somebody's session that runs nothing is refused so.
fn takes_effect(world: &World, request: &Request, status: u32) -> Instant {
    let mut client = world.client();
    eventually("the removal is live", SOON, || asks(&mut client, request, "idle") == Some(status));
    Instant::now()
}

fn warned(world: &World, what: &str) -> bool {
    let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
    let is_it = |line: &&String| line.contains("\"WARN\"") && line.contains(what);
    log.iter().find(is_it).is_some_and(|line| line.contains("\"ads\""))
}

type Remove = fn(&World);

fn kinds(cases: &mut Cases) {
    let kinds: [(&str, Person, Remove, u32, &str); 3] = [
        (
            "team",
            ANN,
            |world| std::fs::remove_file(file(world)).unwrap(),
            NOT_FOUND,
            "a team was removed",
        ),
        (
            "member",
            ZOE,
            |world| edit(world, "users: [zoe]", "users: [zoe-b]"),
            PERMISSION_DENIED,
            "members of a team were removed",
        ),
        (
            "environment",
            ANN,
            |world| edit(world, "prod:", "lab:"),
            NOT_FOUND,
            "environments of a team were removed",
        ),
    ];
    for (what, person, remove, status, line) in kinds {
        let name = format!("a_session_that_runs_when_its_{what}_is_removed_goes_on_for_a_while");
        add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let execute = request(&client, &person, "ExecutePlan").script("h;hold");
            runs(world, &mut client, &execute, "one");
            let config = request(&client, &person, "Config");
            let mut elsewhere = world.client();
            assert_eq!(asks(&mut elsewhere, &config, "one"), Some(0));
            remove(world);
            let since = takes_effect(world, &config, status);
            for method in ["Config", "AnalyzePlan", "ReattachExecute", "Interrupt"] {
                let ask = request(&client, &person, method);
                assert_eq!(asks(&mut client, &ask, "one"), Some(0), "{method}");
                assert_eq!(asks(&mut elsewhere, &ask, "one"), Some(0), "{method}");
                assert_eq!(asks(&mut client, &ask, "two"), Some(status), "{method}");
            }
            assert!(warned(world, line));
            std::thread::sleep(DELAY.saturating_sub(since.elapsed()));
            for client in [&mut client, &mut elsewhere, &mut world.client()] {
                assert_eq!(asks(client, &config, "one"), Some(status), "its time is over");
            }
        });
    }
}

fn finished(cases: &mut Cases) {
    let name = "a_query_that_ends_after_the_removal_brings_its_result_and_its_session_goes_on";
    add(cases, name, spec(), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan").script("end;z1200;h;d2;t0");
        let id = runs(world, &mut client, &execute, "one");
        edit(world, "users: [zoe]", "users: []");
        let config = request(&client, &ZOE, "Config");
        takes_effect(world, &config, PERMISSION_DENIED);
        assert_eq!(client.finish(id).status(), Some(0));
        assert_eq!(asks(&mut client, &config, "one"), Some(0));
        assert_eq!(asks(&mut world.client(), &config, "one"), Some(0));
    });
    let name = "a_session_whose_query_has_ended_before_the_removal_does_not_go_on";
    add(cases, name, spec(), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan");
        assert_eq!(asks(&mut client, &execute, "one"), Some(0));
        let config = request(&client, &ZOE, "Config");
        assert_eq!(asks(&mut client, &config, "one"), Some(0));
        edit(world, "users: [zoe]", "users: []");
        takes_effect(world, &config, PERMISSION_DENIED);
        assert_eq!(asks(&mut client, &config, "one"), Some(PERMISSION_DENIED));
    });
}

fn strangers(cases: &mut Cases) {
    let name = "a_session_goes_on_for_its_own_user_alone_and_in_no_disguise";
    add(cases, name, spec(), |world| {
        let mut client = world.client();
        let execute = request(&client, &ANN, "ExecutePlan").script("h;hold");
        runs(world, &mut client, &execute, "one");
        let mut other = world.client();
        let execute = request(&client, &EVE, "ExecutePlan").script("h;hold");
        runs(world, &mut other, &execute, "hers");
        std::fs::remove_file(file(world)).unwrap();
        let config = request(&client, &ANN, "Config");
        takes_effect(world, &config, NOT_FOUND);
        assert_eq!(asks(&mut other, &request(&client, &EVE, "Config"), "hers"), Some(0));
        for (person, session, expected) in [
            (&EVE, "one", NOT_FOUND),
            (&ANN, "hers", NOT_FOUND),
            (&proof::BOB, "one", PERMISSION_DENIED),
        ] {
            let status = asks(&mut client, &request(&other, person, "Config"), session);
            assert_eq!(status, Some(expected), "{} {session}", person.user);
        }
        for body in [
            framed(&[field(1, "one"), field(1, "two")].concat()),
            framed(&field(3, field(1, "one"))),
            framed(&[]),
            [framed(&field(1, "one")), framed(&field(1, "two"))].concat(),
        ] {
            client.case = world.mark();
            let request = config.clone().set("x-case", client.case.clone());
            let id = proof::ask(&mut client, &request.block(), &body);
            assert_eq!(client.finish(id).status(), Some(NOT_FOUND), "{body:02x?}");
            let entries = world.driver.lock().unwrap().log.entries(&client.case);
            assert!(entries.iter().all(|entry| !entry.0.lock().unwrap().ended), "{body:02x?}");
        }
    });
}

fn completion(cases: &mut Cases) {
    for (session, expected) in [("one", 0), ("two", PERMISSION_DENIED)] {
        let name =
            format!("a_message_of_session_{session}_that_ends_after_the_removal_is_judged_so");
        add(cases, name, spec(), move |world| {
            let mut client = world.client();
            let execute = request(&client, &ZOE, "ExecutePlan").script("h;hold");
            runs(world, &mut client, &execute, "one");
            let upload = request(&client, &ZOE, "AddArtifacts");
            let upload = upload.set("x-case", world.mark());
            let id = client.start(&upload, false);
            let first = framed(&field(1, session));
            let body = framed(&[field(1, session), field(3, vec![b'p'; 2_000])].concat());
            let (front, rest) = body.split_at(1_100);
            assert!(client.speak(id, &[&first, front].concat(), 16_384, false));
            assert!(client.round_trip());
            edit(world, "users: [zoe]", "users: [zoe-b]");
            takes_effect(world, &request(&client, &ZOE, "Config"), PERMISSION_DENIED);
            client.speak(id, rest, 16_384, true);
            assert_eq!(client.finish(id).status(), Some(expected));
        });
    }
}

fn reloads(cases: &mut Cases) {
    let name = "further_reloads_neither_end_the_delay_nor_prolong_it";
    add(cases, name, spec(), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan").script("h;hold");
        runs(world, &mut client, &execute, "one");
        edit(world, "users: [zoe]", "users: [tom-b]");
        let config = request(&client, &ZOE, "Config");
        let since = takes_effect(world, &config, PERMISSION_DENIED);
        let applied = || {
            let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
            log.iter().filter(|line| line.contains("configuration applied")).count()
        };
        for user in ["tom-c", "tom-d", "tom-e"] {
            let before = applied();
            let text = std::fs::read_to_string(file(world)).unwrap();
            let from = &text[text.find("users: [").unwrap()..=text.find(']').unwrap()];
            edit(world, from, &format!("users: [{user}]"));
            eventually("the edit is live", SOON, || applied() > before);
            assert_eq!(asks(&mut client, &config, "one"), Some(0), "{user}");
        }
        std::thread::sleep(DELAY.saturating_sub(since.elapsed()));
        assert_eq!(asks(&mut client, &config, "one"), Some(PERMISSION_DENIED));
    });
    let name = "a_removed_member_stays_on_the_old_driver_though_the_team_has_another_one_now";
    add(cases, name, spec(), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan").script("h;hold");
        runs(world, &mut client, &execute, "one");
        let text = std::fs::read_to_string(file(world)).unwrap();
        let at = text.find("driver: ").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        let moved = format!("{}driver: 127.0.0.1:1{}", &text[..at], &text[end..]);
        std::fs::write(file(world).with_extension("new"), moved.replace("[zoe]", "[]")).unwrap();
        std::fs::rename(file(world).with_extension("new"), file(world)).unwrap();
        let config = request(&client, &ZOE, "Config");
        takes_effect(world, &config, PERMISSION_DENIED);
        for client in [&mut client, &mut world.client()] {
            for _ in 0..2 {
                assert_eq!(asks(client, &config, "one"), Some(0));
                let member = request(client, &ANN, "Config");
                assert_eq!(asks(client, &member, "one"), Some(UNAVAILABLE), "nobody is there");
            }
        }
    });
    let name = "a_team_that_comes_back_is_as_if_it_had_never_gone";
    add(cases, name, spec(), |world| {
        let config = request(&world.client(), &ANN, "Config");
        let text = std::fs::read_to_string(file(world)).unwrap();
        std::fs::remove_file(file(world)).unwrap();
        takes_effect(world, &config, NOT_FOUND);
        std::fs::write(file(world), text).unwrap();
        takes_effect(world, &config, 0);
    });
}

fn unproved(cases: &mut Cases) {
    let name = "where_nobody_proves_who_calls_a_connection_that_runs_something_goes_on";
    add(cases, name, open_spec(), |world| {
        let mut client = world.client();
        let config = client.request().set(":path", format!("{SERVICE}Config"));
        let execute = client.request().set(":path", format!("{SERVICE}ExecutePlan"));
        runs(world, &mut client, &execute.script("h;hold"), "one");
        std::fs::remove_file(file(world)).unwrap();
        let since = takes_effect(world, &config, NOT_FOUND);
        assert_eq!(asks(&mut client, &config, "one"), Some(0));
        assert_eq!(asks(&mut world.client(), &config, "one"), Some(NOT_FOUND));
        std::thread::sleep(DELAY.saturating_sub(since.elapsed()));
        assert_eq!(asks(&mut client, &config, "one"), Some(NOT_FOUND));
    });
}

fn at_once(cases: &mut Cases) {
    let name = "without_a_delay_a_removed_member_is_refused_at_once";
    add(cases, name, proof::spec("  removal_delay: 0s\n"), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan").script("h;hold");
        runs(world, &mut client, &execute, "one");
        edit(world, "users: [zoe]", "users: [zoe-b]");
        let config = request(&client, &ZOE, "Config");
        takes_effect(world, &config, PERMISSION_DENIED);
        assert_eq!(asks(&mut client, &config, "one"), Some(PERMISSION_DENIED));
        assert!(warned(world, "members of a team were removed"));
    });
}

fn many(cases: &mut Cases) {
    let name = "a_session_keeps_its_delay_though_many_reloads_take_something_away_meanwhile";
    add(cases, name, proof::spec("  removal_delay: 1m\n"), |world| {
        let mut client = world.client();
        let execute = request(&client, &ZOE, "ExecutePlan").script("h;hold");
        runs(world, &mut client, &execute, "one");
        edit(world, "users: [zoe]", "users: [zoe-0]");
        let config = request(&client, &ZOE, "Config");
        takes_effect(world, &config, PERMISSION_DENIED);
        for number in 0..20 {
            let before = generation(world);
            edit(world, &format!("[zoe-{number}]"), &format!("[zoe-{}]", number + 1));
            eventually("the edit is live", SOON, || generation(world) > before);
        }
        assert_eq!(asks(&mut client, &config, "one"), Some(0));
        assert_eq!(asks(&mut client, &config, "two"), Some(PERMISSION_DENIED));
    });
}

fn generation(world: &World) -> u64 {
    let page = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
    let line = page.lines().find_map(|line| line.strip_prefix("sconce_config_generation "));
    line.unwrap().parse().unwrap()
}
