//! Certificates that are expired or not yet valid: handshakes, log lines and metrics.

use std::time::Duration;

use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
use rustls::{CertificateError, Error};

use crate::support::bridge::{Authority, How, Paper};
use crate::support::client::SOON;
use crate::support::probe::eventually;
use crate::support::proof::UNAUTHENTICATED;
use crate::support::runner::Cases;
use crate::support::signer::now;
use crate::support::world::{Spec, World};
use crate::tls::{Line, await_let_in, client, is_let_in, line, paper, replace, with};

pub fn cases(cases: &mut Cases) {
    cases.suite("certificate_expiry");
    replaced(cases);
    refused(cases);
    authorities(cases);
    callers(cases);
}

/// Long enough for a start on a machine that is busy.
const LIFE: Duration = Duration::from_secs(12);
/// How every line about a certificate begins.
const HEADLINE: &str = "\"message\":\"a certificate ";
const DAY: u64 = 24 * 3600;

/// A lasting one from a year ago.
fn lasting(until: u64) -> Paper {
    Paper::lasting("localhost", now() - 365 * DAY..until)
}

fn with_life(life: Duration) -> Spec {
    let mut spec = with(Vec::new());
    spec.config.life = Some(life);
    spec
}

fn metrics(world: &World) -> String {
    world.sconce.as_ref().unwrap().lock().unwrap().metrics()
}

/// When the certificate ends, as the metrics tell it.
fn end(world: &World) -> u64 {
    let page = metrics(world);
    let name = "sconce_certificate_expiry_timestamp_seconds{use=\"server\",";
    let mut lines = page.lines().filter(|line| line.starts_with(name));
    let line = lines.next().expect("no metric tells of the certificate");
    assert!(line.contains("/server.crt\"} ") && lines.next().is_none(), "{page}");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// How often a line of the log has all of these words.
pub fn told(world: &World, words: &[&str]) -> usize {
    let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// What the client itself finds wrong with the certificate that it is shown.
fn finds(mut line: Line) -> Option<CertificateError> {
    let fault = line.conn.complete_io(&mut line.sock).err()?;
    match *fault.into_inner()?.downcast().ok()? {
        Error::InvalidCertificate(fault) => Some(fault),
        _ => None,
    }
}

fn replaced(cases: &mut Cases) {
    cases.own("a_certificate_that_expires_and_is_replaced", with_life(LIFE), |world| {
        let trusting = || paper(world, |paper| paper.client(&How::default()));
        let mut open = client(world, trusting());
        open.must_work();
        let last = end(world);
        assert!((now()..=now() + LIFE.as_secs()).contains(&last), "ends at {last}");
        eventually("its end is told before it comes", LIFE, || {
            told(world, &["a certificate expires soon", "/server.crt", "expires on 20"]) == 1
        });
        assert_eq!(told(world, &[HEADLINE]), 1);
        assert!(now() <= last, "told too late");
        assert!(is_let_in(&mut line(world, trusting(), "localhost")), "refused before its end");
        eventually("its end is told when it has come", LIFE + SOON, || {
            told(world, &["a certificate has expired", "/server.crt", "expired on 20"]) == 1
        });
        assert!(now() > last, "told too early");
        let found = finds(line(world, trusting(), "localhost"));
        assert!(matches!(found, Some(Expired | ExpiredContext { .. })), "{found:?}");
        assert_eq!(end(world), last);
        for _ in 0..5 {
            open.must_work();
        }
        assert_eq!(told(world, &["configuration applied"]), 0);
        let new = lasting(now() + 365 * DAY);
        replace(world, &new);
        await_let_in(world, &new);
        assert_eq!(told(world, &["configuration applied"]), 1);
        assert_eq!(told(world, &[HEADLINE]), 2, "the new one is good");
        assert!(end(world) > last + 300 * DAY);
        open.must_work();
        client(world, new.client(&How::default())).must_work();
    });
    cases.own("a_certificate_that_ends_within_days_is_told_at_once", with(vec![]), |world| {
        let new = lasting(now() + 29 * DAY);
        replace(world, &new);
        await_let_in(world, &new);
        eventually("it is told", SOON, || told(world, &["a certificate expires soon"]) == 1);
    });
    cases.own("a_certificate_whose_time_has_not_come_is_told_and_shown", with(vec![]), |world| {
        let new = Paper::lasting("localhost", now() + 3600..now() + 365 * DAY);
        replace(world, &new);
        let early = ["a certificate is not valid yet", "/server.crt", "is not valid before 20"];
        eventually("it is told", SOON, || told(world, &early) == 1);
        let found = finds(line(world, new.client(&How::default()), "localhost"));
        assert!(matches!(found, Some(NotValidYet | NotValidYetContext { .. })), "{found:?}");
    });
}

fn refused(cases: &mut Cases) {
    cases.own("an_expired_certificate_takes_no_place_of_a_good_one", with(vec![]), |world| {
        let trusting = || paper(world, |paper| paper.client(&How::default()));
        let good = end(world);
        replace(world, &lasting(now() - 5));
        eventually("it is refused", SOON, || {
            told(world, &["configuration error", "/server.crt expired on 20"]) == 1
        });
        assert!(metrics(world).contains("sconce_config_errors{team=\"-\"} 1\n"));
        assert_eq!(end(world), good);
        client(world, trusting()).must_work();
        assert_eq!(told(world, &[HEADLINE]), 0, "what is live is good");
        let new = lasting(now() + 365 * DAY);
        replace(world, &new);
        await_let_in(world, &new);
        assert!(metrics(world).contains("sconce_config_errors{team=\"-\"} 0\n"));
    });
}

fn authorities(cases: &mut Cases) {
    let authority = Authority::new(now() - 60 * DAY..now() - DAY);
    let shown = authority.sign("client", now() - DAY..now() + DAY);
    let mut spec = with(vec![("client_authorities", "ca.crt"), ("client_certificate", "required")]);
    spec.config.files = vec![("ca.crt", authority.paper.certificate)];
    let name = "an_authority_that_has_expired_is_told_and_what_it_has_signed_is_taken_still";
    cases.own(name, spec, move |world| {
        let over = [
            "a certificate has expired",
            "/ca.crt",
            "the certificate authority ",
            "are still accepted",
        ];
        eventually("it is told at the start", SOON, || told(world, &over) == 1);
        let page = metrics(world);
        assert!(page.contains("{use=\"client_authority\",file="), "{page}");
        let how = How { shows: Some(&shown), ..How::default() };
        client(world, paper(world, |paper| paper.client(&how))).must_work();
        let bare = paper(world, |paper| paper.client(&How::default()));
        assert!(!is_let_in(&mut line(world, bare, "localhost")));
    });
}

fn callers(cases: &mut Cases) {
    let authority = Authority::new(now() - DAY..now() + DAY);
    let mut spec = with(vec![("client_authorities", "ca.crt"), ("client_certificate", "optional")]);
    spec.config.files = vec![("ca.crt", authority.paper.certificate.clone())];
    spec.config.members = vec![("ads", "{ users: [ann] }")];
    spec.config.extra =
        "chain: [authenticate, team]\nauthenticate:\n  skew: 0s\n  certificates: { user: dns }\n"
            .to_owned();
    let name = "a_client_s_certificate_that_expires_ends_on_the_connection_that_it_opened";
    cases.own(name, spec, move |world| {
        let end = now() + 4;
        let own = authority.sign("ann", now() - DAY..end);
        let how = How { shows: Some(&own), ..How::default() };
        let mut open = client(world, paper(world, |paper| paper.client(&how)));
        open.must_work();
        let mut refused = None;
        eventually("it is refused", SOON + LIFE, || {
            let id = open.call(&open.request());
            refused = Some(open.finish(id)).filter(|reply| reply.status() != Some(0));
            refused.is_some()
        });
        assert!(now() >= end, "refused before its end");
        let refused = refused.unwrap();
        assert_eq!(refused.status(), Some(UNAUTHENTICATED), "{refused:?}");
        assert!(refused.message().contains("the client certificate has expired"), "{refused:?}");
    });
}
