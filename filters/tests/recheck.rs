//! Rechecks by the filters that a reload has built.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test is read, not linked to"
)]
#![allow(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use sconce_filters::authenticate::{self, Authenticate, CertificateSettings, StaticToken};
use sconce_filters::call::StaticMetadata;
use sconce_filters::identity::{IdentitySource, RawIdentity};
use sconce_filters::team::{self, Members, Team};
use sconce_filters::{
    Call, Certificate, ChainStep, EnvironmentName, FilterChain, Identity, Method, NameKind,
    TeamName,
};

/// A chain with one static token of this user, and these teams with an environment `prod` and these
/// members.
fn chain(token: &str, user: &str, teams: &[(&str, &[&str])]) -> FilterChain {
    let claimed = RawIdentity { user: user.to_owned(), ..RawIdentity::default() };
    let source = IdentitySource::StaticToken { name: "listed".into() };
    let sha256 = digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap();
    let identity = Identity::new(claimed, source, None).unwrap();
    let tokens = vec![StaticToken { sha256, identity }];
    let certificates = Some(CertificateSettings { user: NameKind::Email, prefix: String::new() });
    let settings =
        authenticate::Settings { tokens, certificates, ..authenticate::Settings::default() };
    let prod = || [EnvironmentName::parse("prod").unwrap()].into();
    let name = |team: &str| TeamName::parse(team).unwrap();
    let members = teams.iter().map(|(team, users)| {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        (name(team), Members { users, ..Members::default() })
    });
    let team = team::Settings {
        teams: teams.iter().map(|(team, _)| (name(team), prod())).collect(),
        members: Some(members.collect::<BTreeMap<_, _>>()),
        default_environment: EnvironmentName::parse("prod").ok(),
        ..team::Settings::default()
    };
    FilterChain::new(vec![Arc::new(Authenticate::new(settings)), Arc::new(Team::new(team))])
        .unwrap()
}

fn call(metadata: StaticMetadata) -> Call {
    Call::new(Method::Config, Rc::new(metadata), ([127, 0, 0, 1], 1).into(), Instant::now())
        .with_wall_time(SystemTime::now())
}

fn admitted(chain: &FilterChain) -> Call {
    let mut call = call(StaticMetadata::new("a").with("authorization", "Bearer secret"));
    assert!(matches!(chain.admit(&mut call), ChainStep::Admitted));
    call
}

/// The label of a refusal.
fn again(chain: &FilterChain, call: &Call) -> Option<&'static str> {
    chain.recheck(call, SystemTime::now()).err().map(|refusal| refusal.label)
}

#[test]
fn removed_routes_are_refused_like_new_calls() {
    let call = admitted(&chain("secret", "ann", &[("ads", &["ann"])]));
    for (token, user, teams, label) in [
        ("secret", "ann", &[("ads", &["ann"][..])][..], None),
        ("secret", "ann", &[("ads", &["ann"]), ("web", &["ann"])], None),
        ("other", "ann", &[("ads", &["ann"])], Some("authenticate.malformed")),
        ("secret", "ina", &[("ads", &["ann", "ina"])], Some("authenticate.identity_changed")),
        ("secret", "ann", &[("ads", &["ina"])], Some("team.no_membership")),
        ("secret", "ann", &[("ads", &["ina"]), ("web", &["ann"])], Some("team.route_changed")),
        ("secret", "ann", &[("web", &["ann"])], Some("team.route_changed")),
        ("secret", "ann", &[("web", &["ina"])], Some("team.no_membership")),
    ] {
        assert_eq!(again(&chain(token, user, teams), &call), label, "{token} {user} {teams:?}");
    }
}

#[test]
fn recheck_time_covers_what_changes_with_time() {
    let ends = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let names = vec![(NameKind::Email, "ann".to_owned())];
    let certificate = Rc::new(Certificate::new(names, ends + Duration::from_secs(60)));
    let chain = chain("secret", "ina", &[("ads", &["ann"])]);
    let mut call = call(StaticMetadata::new("a")).with_certificate(Some(certificate));
    assert!(matches!(chain.admit(&mut call), ChainStep::Admitted));
    let at = |seconds| {
        let wall = SystemTime::now() + Duration::from_secs(seconds);
        chain.recheck_time(&call, wall).err().map(|refusal| refusal.label)
    };
    assert_eq!((at(0), at(70)), (None, Some("authenticate.certificate")));
}

#[test]
fn a_rechecked_call_keeps_its_attributes() {
    let chain = chain("secret", "ann", &[("ads", &["ann"])]);
    let call = admitted(&chain);
    let before = call.attributes().clone();
    assert_eq!(again(&chain, &call), None);
    assert_eq!(call.attributes(), &before);
}
