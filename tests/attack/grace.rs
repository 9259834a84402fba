//! Grace: an expired token continues sessions that began with it, and begins none.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::compression::gzip;
use crate::support::client::{Client, SOON};
use crate::support::fields::SERVICE;
use crate::support::probe::eventually;
use crate::support::proof::{self, UNAUTHENTICATED, add};
use crate::support::protobuf::{self, context, field, flagged, framed};
use crate::support::runner::Cases;
use crate::support::signer::{Signer, claims_but, jwks, now};
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("grace");
    goes_on(cases);
    begins_nothing(cases);
    belongs(cases);
    compressed(cases);
    without(cases);
    crowds(cases);
}

/// A message that names a session.
fn of(session: &str) -> Vec<u8> {
    [field(1, session), context("eve", "Eve")].concat()
}

/// How many messages of a call with this token have come to the driver; `None` if it is refused
/// since the token has expired.
fn heard(world: &World, client: &mut Client, token: &str, body: &[u8]) -> Option<usize> {
    client.case = world.mark();
    let request = proof::bare(client).with("authorization", format!("Bearer {token}"));
    let request = request.with("grpc-encoding", "gzip");
    let id = proof::ask(client, &request.block(), body);
    let reply = client.finish(id);
    if reply.status() == Some(UNAUTHENTICATED) {
        assert_eq!(reply.message(), proof::EXPIRED);
        return None;
    }
    assert_eq!(proof::answerer(&reply), "ads");
    let served = world.driver_sees(&client.case, SOON, |served| served.ended);
    Some(protobuf::messages(&served.body).len())
}

/// The time since the epoch, with its fraction.
fn clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

type Deed = fn(&World, &Signer, &str);

/// Somebody's token ends soon, and so much later its grace: what is done `before` and `after`.
fn ending(cases: &mut Cases, name: &str, grace: &'static str, [before, after]: [Deed; 2]) {
    let one = Signer::new("one");
    let mut spec = proof::spec_with_keys(jwks(&[one.jwk()]));
    let lines = format!("  skew: 0s\n  grace: {grace}\n");
    spec.config.extra = spec.config.extra.replace("  skew: 0s\n", &lines);
    add(cases, name, spec, move |world| {
        let end = Duration::from_secs(now() + 3);
        let token = one.sign(&claims_but(&json!({"exp": end.as_secs()})));
        before(world, &one, &token);
        assert!(clock() < end, "the machine is too slow for this case");
        std::thread::sleep(end.saturating_sub(clock()) + Duration::from_millis(20));
        after(world, &one, &token);
    });
}

fn one_begins(world: &World, _: &Signer, token: &str) {
    assert_eq!(heard(world, &mut world.client(), token, &framed(&of("one"))), Some(1));
}

fn goes_on(cases: &mut Cases) {
    let name = "a_session_that_began_in_time_goes_on_and_no_other_begins";
    let after: Deed = |world, _, token| {
        for _ in 0..3 {
            let mut client = world.client();
            assert_eq!(heard(world, &mut client, token, &framed(&of("one"))), Some(1));
            assert_eq!(heard(world, &mut client, token, &framed(&of("two"))), None);
            let both = [framed(&of("one")), framed(&of("one"))].concat();
            assert_eq!(heard(world, &mut client, token, &both), Some(2));
        }
    };
    ending(cases, name, "1m", [one_begins, after]);
}

fn begins_nothing(cases: &mut Cases) {
    let after: Deed = |world, _, token| {
        let disguises = [
            framed(&[of("one"), field(1, "two")].concat()),
            framed(&[of("one"), field(1, "")].concat()),
            framed(&field(3, field(1, "one"))),
            framed(&field(2, field(1, "one"))),
            framed(&field(1, "one\0")),
            framed(&field(1, "one".repeat(20))),
            framed(&[]),
            [framed(&of("one")), framed(&of("two"))].concat(),
        ];
        let mut client = world.client();
        for body in disguises {
            assert_eq!(heard(world, &mut client, token, &body), None, "{body:02x?}");
        }
        let hidden = [field(1, "two"), of("one")].concat();
        assert_eq!(heard(world, &mut client, token, &framed(&hidden)), Some(1));
    };
    ending(cases, "nothing_begins_in_disguise", "1m", [one_begins, after]);
}

fn belongs(cases: &mut Cases) {
    let after: Deed = |world, signer, token| {
        let mut client = world.client();
        let body = framed(&of("one"));
        let kay = |end: u64| signer.sign(&claims_but(&json!({"sub": "kay", "exp": end})));
        let expired = kay(now() - 1);
        assert_eq!(heard(world, &mut client, &expired, &body), None, "it is somebody else's");
        assert_eq!(heard(world, &mut client, &kay(now() + 60), &body), Some(1));
        assert_eq!(heard(world, &mut client, &expired, &body), Some(1), "now it is hers too");
        assert_eq!(heard(world, &mut client, token, &body), Some(1));
    };
    ending(cases, "a_session_belongs_to_who_began_it", "1m", [one_begins, after]);
}

fn compressed(cases: &mut Cases) {
    let before: Deed = |world, _, token| {
        let body = flagged(1, &gzip(&of("one")));
        assert_eq!(heard(world, &mut world.client(), token, &body), Some(1));
    };
    let after: Deed = |world, _, token| {
        let mut client = world.client();
        for (session, expected) in [("one", Some(1)), ("two", None)] {
            let body = flagged(1, &gzip(&of(session)));
            assert_eq!(heard(world, &mut client, token, &body), expected, "{session}");
        }
        assert_eq!(heard(world, &mut client, token, &framed(&of("one"))), Some(1));
    };
    ending(cases, "a_compressed_message_names_its_session_too", "1m", [before, after]);
}

fn without(cases: &mut Cases) {
    let spec = proof::spec_with_keys(jwks(&[Signer::new("one").jwk()]));
    add(cases, "a_start_without_a_grace_says_so_in_the_log", spec, |world| {
        let log = || world.sconce.as_ref().unwrap().lock().unwrap().log();
        let said = "a session ends when its token expires";
        eventually("it is logged", SOON, || log().iter().any(|line| line.contains(said)));
    });
    let after: Deed = |world, _, token| {
        let mut client = world.client();
        assert_eq!(heard(world, &mut client, token, &framed(&of("one"))), Some(1));
        std::thread::sleep(Duration::from_millis(2_100));
        assert_eq!(heard(world, &mut client, token, &framed(&of("one"))), None);
    };
    ending(cases, "a_grace_ends", "2s", [one_begins, after]);
    let after: Deed = |world, _, token| {
        assert_eq!(heard(world, &mut world.client(), token, &framed(&of("one"))), None);
    };
    ending(cases, "without_a_grace_nothing_goes_on", "0s", [one_begins, after]);
}

/// One stream of messages that each name another session.
fn name_many(world: &World, signer: &Signer, count: usize) {
    let token = signer.sign(&claims_but(&json!({"sub": "kay"})));
    let mut client = world.client();
    let request = proof::bare(&client).with("authorization", format!("Bearer {token}"));
    let request = request.set(":path", format!("{SERVICE}AddArtifacts"));
    let id = client.start(&request, false);
    let messages: Vec<u8> =
        (0..count).flat_map(|at| framed(&field(1, format!("{at:05}")))).collect();
    assert!(client.speak(id, &messages, 16_384, true));
    assert_eq!(client.finish(id).status(), Some(0));
}

fn crowds(cases: &mut Cases) {
    let before: Deed = |world, signer, token| {
        one_begins(world, signer, token);
        name_many(world, signer, 20_000);
    };
    let after: Deed = |world, _, token| {
        let mut client = world.client();
        assert_eq!(heard(world, &mut client, token, &framed(&of("one"))), Some(1));
    };
    let name = "a_user_who_names_a_crowd_of_sessions_ends_nobody_else_s_grace";
    ending(cases, name, "1m", [before, after]);
    let before: Deed = |world, _, token| {
        let mut client = world.client();
        let request = proof::bare(&client).with("authorization", format!("Bearer {token}"));
        let id = client.start(&request.script("end;o5"), false);
        assert!(client.speak(id, &framed(&of("refused")), 16_384, true));
        assert_eq!(client.finish(id).status(), Some(5));
        let both = [framed(&of("first")), framed(&of("second"))].concat();
        assert_eq!(heard(world, &mut client, token, &both), Some(2));
    };
    let after: Deed = |world, _, token| {
        let mut client = world.client();
        for (session, expected) in [("refused", None), ("second", None), ("first", Some(1))] {
            assert_eq!(heard(world, &mut client, token, &framed(&of(session))), expected);
        }
    };
    let name = "a_session_begins_once_its_driver_has_answered_and_a_stream_begins_one";
    ending(cases, name, "1m", [before, after]);
}
