//! Client certificate authorities that are removed at a reload, and streams that outlive a client
//! certificate.

use std::time::Duration;

use crate::certificate_expiry::told;
use crate::support::bridge::{Authority, How, Paper};
use crate::support::client::{Client, SOON};
use crate::support::fields::SERVICE;
use crate::support::probe::eventually;
use crate::support::proof::UNAUTHENTICATED;
use crate::support::protobuf::{field, framed};
use crate::support::runner::Cases;
use crate::support::signer::now;
use crate::support::world::{Spec, World};
use crate::tls::{client, paper, with};

pub fn cases(cases: &mut Cases) {
    cases.suite("client_authorities");
    taken_out(cases);
    without_grace(cases);
}

const DAY: u64 = 24 * 3600;

/// A world that takes certificates of these authorities for users of team `ads`.
fn spec(authorities: &[&Authority], settings: &str) -> Spec {
    let mut spec = with(vec![("client_authorities", "ca.crt"), ("client_certificate", "optional")]);
    spec.config.files = vec![("ca.crt", bundle(authorities))];
    spec.config.members = vec![("ads", "{ users: [ann, bob] }")];
    spec.config.extra = format!(
        "chain: [authenticate, team]\nauthenticate:\n  skew: 0s\n{settings}  certificates: {{ \
         user: dns }}\n"
    );
    spec
}

fn bundle(authorities: &[&Authority]) -> String {
    authorities.iter().map(|it| it.paper.certificate.as_str()).collect()
}

fn authority() -> Authority {
    Authority::new(now() - DAY..now() + DAY)
}

fn comes_with(world: &World, own: Option<&Paper>) -> Client {
    let how = How { shows: own, ..How::default() };
    client(world, paper(world, |paper| paper.client(&how)))
}

/// Puts another set of authorities in place, and waits until it is live.
fn trust(world: &World, authorities: &[&Authority]) {
    let before = told(world, &["configuration applied"]);
    let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
    std::fs::write(home.join("new"), bundle(authorities)).unwrap();
    std::fs::rename(home.join("new"), home.join("ca.crt")).unwrap();
    eventually("the edit is live", SOON, || told(world, &["configuration applied"]) > before);
}

fn taken_out(cases: &mut Cases) {
    let (old, new) = (authority(), authority());
    let name = "an_authority_that_is_taken_out_ends_the_connections_that_it_vouched_for";
    cases.own(name, spec(&[&old, &new], ""), move |world| {
        let ann = old.sign("ann", now() - DAY..now() + DAY);
        let bob = new.sign("bob", now() - DAY..now() + DAY);
        let (mut idle, mut busy) = (comes_with(world, Some(&ann)), comes_with(world, Some(&ann)));
        let (mut other, mut bare) = (comes_with(world, Some(&bob)), comes_with(world, None));
        idle.must_work();
        other.must_work();
        let running = busy.call(&busy.request().script("end;h;z1500;d5;t0"));
        world.driver_sees(&busy.case, SOON, |served| served.ended);
        trust(world, &[&new]);
        assert!(idle.pump(|client| client.closed, SOON), "an idle connection stays open");
        assert_eq!(idle.goaway.map(|(_, code)| code), Some(0));
        assert!(busy.pump(|client| client.goaways > 0, SOON), "no GOAWAY");
        assert_eq!(busy.finish(running).status(), Some(0), "what runs may finish");
        other.must_work();
        assert_eq!((other.goaways, bare.goaways), (0, 0));
        assert!(bare.round_trip());
        let mut again = comes_with(world, Some(&bob));
        again.must_work();
    });
    let (old, new) = (authority(), authority());
    let name =
        "a_certificate_of_an_authority_that_is_taken_out_proves_nothing_on_an_open_connection";
    cases.own(name, spec(&[&old], ""), move |world| {
        let ann = old.sign("ann", now() - DAY..now() + DAY);
        let mut clients: Vec<_> = (0..5).map(|_| comes_with(world, Some(&ann))).collect();
        clients.iter_mut().for_each(Client::must_work);
        let mut begun = comes_with(world, Some(&ann));
        let id = begun.start(&begun.request(), false);
        let body = framed(&field(3, vec![b'p'; 2_000]));
        assert!(begun.speak(id, &body[..1_100], 16_384, false) && begun.round_trip());
        trust(world, &[&new]);
        for client in &mut clients {
            // A stream behind the last that counts has no answer at all.
            let id = client.call(&client.request());
            let status = client.finish_within(id, Duration::from_millis(500)).status();
            assert!(status.is_none_or(|status| status == UNAUTHENTICATED), "{status:?}");
        }
        begun.speak(id, &body[1_100..], 16_384, true);
        assert_eq!(begun.finish(id).status(), Some(UNAUTHENTICATED), "its request was not whole");
    });
}

fn without_grace(cases: &mut Cases) {
    let authority = authority();
    let name = "a_stream_of_a_certificate_s_user_has_no_grace";
    cases.own(name, spec(&[&authority], "  grace: 1h\n"), move |world| {
        let own = authority.sign("ann", now() - DAY..now() + 4);
        let mut client = comes_with(world, Some(&own));
        let request = client.request().set(":path", format!("{SERVICE}ExecutePlan"));
        let id = client.start(&request.script("end;h;hold"), false);
        let options = field(5, [0x0a, 2, 8, 1]);
        let plan = framed(&[field(1, "ids"), field(3, "plan"), options].concat());
        assert!(client.speak(id, &plan, 16_384, true));
        let reply = client.finish_within(id, SOON + Duration::from_secs(4));
        assert_eq!(reply.status(), Some(0), "it goes on: {reply:?}");
    });
}
