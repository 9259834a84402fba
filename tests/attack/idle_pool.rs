//! Upstream connections that one client leaves to the next: only clean ones, without a trace of the
//! first client.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame;
use crate::support::probe::eventually;
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

/// How long another proxy takes to see that a client has gone, and more.
const A_WHILE: Duration = Duration::from_millis(60);
/// How long a driver takes to spoil a connection that its script spoils in 30 ms, and more.
const SPOILING: Duration = Duration::from_millis(300);
const TURNS: usize = 8;
/// One for each worker.
const FEW: usize = 2;

pub fn cases(cases: &mut Cases) {
    cases.suite("idle_pool");
    lent(cases);
    kept_back(cases);
    spoilt_while_nobody_looks(cases);
}

fn connections(world: &World) -> usize {
    world.driver.lock().unwrap().log.connections.load(Ordering::SeqCst)
}

/// One client after the other does this and goes; how many connections its driver has got.
fn in_turn(world: &World, turn: impl Fn(&mut Client)) -> usize {
    if world.is_sconce() {
        // Or the first clients would be taken for it, see `leave`.
        eventually("the canary has come", SOON, || {
            figure(world, "downstream_connections_active") == 1
        });
    }
    let before = connections(world);
    for _ in 0..TURNS {
        let mut client = world.client();
        turn(&mut client);
        leave(world, client);
    }
    connections(world) - before
}

/// A client goes, and sconce has seen that.
fn leave(world: &World, client: Client) {
    drop(client);
    // The canary has a connection too.
    match &world.sconce {
        Some(_) => eventually("the client has gone", SOON, || {
            figure(world, "downstream_connections_active") < 2
        }),
        None => sleep(A_WHILE),
    }
}

/// A metric of sconce's that has no labels.
fn figure(world: &World, name: &str) -> usize {
    let metrics = world.sconce.as_ref().unwrap().lock().unwrap().metrics();
    let line = metrics.lines().find_map(|it| it.strip_prefix(&format!("sconce_{name} ")));
    line.unwrap().parse().unwrap()
}

fn lent(cases: &mut Cases) {
    cases.own("a_connection_in_good_order_is_left_to_the_next_client", Spec::default(), |world| {
        let opened = in_turn(world, |client| {
            let own = client.case.clone();
            let name = format!("x-of-{own}");
            let request = client.request().with(&name, &own);
            client.must_succeed(&request);
            client.must_succeed(&request);
            let seen = world.driver_sees(&own, SOON, |served| served.ended);
            let named = |(name, _): &&(String, String)| name.starts_with("x-of-");
            let expected = (name.clone(), own.clone());
            assert_eq!(seen.headers.iter().filter(named).collect::<Vec<_>>(), [&expected]);
            // The driver may grant credit behind its answer, and with unread frames a connection
            // is left to nobody.
            client.pump(|_| false, A_WHILE);
        });
        if world.is_sconce() {
            assert!(opened <= FEW, "{opened} connections for {TURNS} clients, one after the other");
            assert_eq!(figure(world, "upstream_connections_reused_total"), TURNS - opened);
        }
    });
    cases.own("clients_at_one_time_never_share_a_connection", Spec::default(), |world| {
        let call = |client: &mut Client| client.must_work();
        in_turn(world, call);
        let before = connections(world);
        let mut clients: Vec<Client> = (0..TURNS).map(|_| world.client()).collect();
        clients.iter_mut().for_each(call);
        if world.is_sconce() {
            assert!(connections(world) - before >= TURNS - FEW);
        }
        clients.iter_mut().for_each(call);
    });
    cases.own("a_client_with_a_small_window_gets_a_connection_that_keeps_it", Spec::default(), {
        |world| {
            for window in [65_535, 1 << 20, 5, 70_000, 1, 65_535] {
                let settings = vec![(frame::INITIAL_WINDOW_SIZE, window)];
                let mut client = world.client_with(Manners { settings, ..Manners::default() });
                let reply = client.must_succeed(&client.request().script("end;h;d3000;t0"));
                assert_eq!(reply.body.len(), 3_005);
                assert_eq!(client.faults, Vec::<String>::new());
                leave(world, client);
            }
        }
    });
    cases.own("a_client_that_takes_shorter_header_lists_is_obeyed", Spec::default(), |world| {
        for most in [1 << 20, 300, 1 << 20, 300] {
            let settings = vec![(frame::MAX_HEADER_LIST_SIZE, most)];
            let mut client = world.client_with(Manners { settings, ..Manners::default() });
            client.must_work();
            leave(world, client);
        }
        if world.is_sconce() {
            let opened = connections(world);
            assert!((2..=2 * FEW).contains(&opened), "{opened} connections for two kinds of them");
        }
    });
    cases.own("a_connection_that_nobody_takes_is_closed", Spec::default(), |world| {
        in_turn(world, Client::must_work);
        if world.is_sconce() {
            // The canary has one.
            assert!(figure(world, "upstream_connections_active") > 1);
            let patience = Duration::from_secs(9);
            eventually("only one is open", patience, || {
                figure(world, "upstream_connections_active") == 1
            });
        }
    });
}

/// What a client did, or its driver, after which nobody else gets the connection.
fn kept_back(cases: &mut Cases) {
    type Turn = fn(&World, &mut Client);
    let ends: [(&str, Turn); 5] = [
        ("a_call_was_cancelled", |world, client| {
            let id = client.call(&client.request().script("end;hold"));
            world.driver_sees(&client.case, SOON, |served| served.ended);
            client.send(&frame::rst(id, 8));
            client.must_work();
        }),
        ("the_client_went_away_in_a_call", |_, client| {
            client.must_work();
            client.call(&client.request().script("end;hold"));
            assert!(client.round_trip());
        }),
        ("a_request_was_never_ended", |_, client| {
            let id = client.start(&client.request().script("h;d2;t0"), false);
            assert_eq!(client.finish(id).status(), Some(0));
            client.must_work();
        }),
        ("a_driver_reset_a_call", |_, client| {
            let id = client.call(&client.request().script("end;h;r2"));
            client.finish(id).assert_no_success();
            client.must_work();
        }),
        ("an_answer_was_malformed", |_, client| {
            let id = client.call(&client.request().script("end;h;h;t0"));
            client.finish(id).assert_no_success();
            client.must_work();
        }),
    ];
    for (name, turn) in ends {
        let name = format!("a_connection_on_which_{name}_is_left_to_nobody");
        cases.own(name, Spec::default(), move |world| {
            let opened = in_turn(world, |client| turn(world, client));
            if world.is_sconce() {
                assert_eq!(opened, TURNS);
            }
            world.client().must_work();
        });
    }
}

/// What a driver does on a connection that no client has: the next client does not notice.
fn spoilt_while_nobody_looks(cases: &mut Cases) {
    for (name, op) in [
        ("is_closed", "close"),
        ("is_reset", "slam"),
        ("is_said_goodbye_on", "F7.0.0.7fffffff00000000"),
        ("is_said_goodbye_on_for_good", "F7.0.0.ssssssss00000000"),
        ("gets_part_of_a_ping", "X000008060000000000"),
        ("gets_settings", "F4.0.0.000300000001"),
        ("gets_garbage", "Xffffffffffffffffffffffffffffffff"),
        ("gets_an_answer_that_nobody_asked_for", "F0.1.s.0000000000"),
    ] {
        let name = format!("a_connection_that_{name}_while_nobody_has_it_is_left_to_nobody");
        cases.own(name, Spec::default(), move |world| {
            let script = format!("end;h;d2;t0;z30;{op}");
            let before = connections(world);
            for turn in 1..=TURNS {
                let mut client = world.client();
                let reply = client.must_succeed(&client.request().script(&script));
                assert_eq!(reply.body.len(), 7);
                leave(world, client);
                sleep(SPOILING);
                if world.is_sconce() {
                    assert_eq!(connections(world) - before, turn);
                }
            }
            world.client().must_work();
        });
    }
    for (name, op) in [
        ("is_granted_credit", "F8.0.0.00000005"),
        ("gets_a_ping", "F6.0.0.0000000000000000"),
        ("gets_a_ping_and_credit", "F6.0.0.0000000000000000;F8.0.0.00000005"),
    ] {
        let name = format!("a_connection_that_{name}_while_nobody_has_it_is_left_to_the_next");
        cases.own(name, Spec::default(), move |world| {
            let script = format!("end;h;d2;t0;z30;{op}");
            let opened = in_turn(world, |client| {
                // That of the client before has come.
                sleep(A_WHILE);
                client.must_succeed(&client.request().script(&script));
                client.must_work();
            });
            if world.is_sconce() {
                assert!(opened <= FEW, "{opened} connections");
            }
        });
    }
    cases.own("a_driver_that_was_started_anew_meanwhile_is_asked_anew", Spec::default(), |world| {
        in_turn(world, |client| {
            client.must_work();
            world.driver.lock().unwrap().kill();
            world.driver.lock().unwrap().revive();
        });
        for _ in 0..TURNS {
            world.client().must_work();
            world.driver.lock().unwrap().kill();
            world.driver.lock().unwrap().revive();
        }
    });
    cases.own("clients_that_come_and_go_at_one_time_all_get_answers", Spec::default(), |world| {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for turn in 0..40 {
                        let mut client = world.client();
                        let cancelled = client.call(&client.request().script("end;hold"));
                        client.must_work();
                        if turn % 3 > 0 {
                            client.send(&frame::rst(cancelled, 8));
                            client.must_work();
                        }
                    }
                });
                scope.spawn(|| {
                    for _ in 0..40 {
                        let mut client = world.client();
                        client.must_work();
                        client.must_work();
                    }
                });
            }
        });
    });
}
