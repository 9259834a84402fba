//! The filter alone: no server.

#![expect(clippy::disallowed_methods, reason = "a test makes calls at the current time")]

use super::{Config, CostCenter, Factory};
use sconce_filters::{Call, Decision, FilterFactory, Method, StaticMetadata, StaticSection};
use std::{rc::Rc, time::Instant};

fn config() -> Config {
    StaticSection::default().with("allowed", &["cc-100", "cc-200"]).parse(&Factory).unwrap()
}

fn decide(metadata: StaticMetadata) -> (Call, Decision) {
    let peer = ([127, 0, 0, 1], 1).into();
    let mut call = Call::new(Method::Config, Rc::new(metadata), peer, Instant::now());
    let decision = Factory.build(&config()).admit(&mut call);
    (call, decision)
}

#[test]
fn an_allowed_cost_center_becomes_an_attribute_of_the_call() {
    let (call, decision) = decide(StaticMetadata::new("a").with("x-cost-center", "cc-200"));
    assert!(matches!(decision, Decision::Admitted));
    assert_eq!(call.get::<CostCenter>(), Some(&CostCenter("cc-200".to_owned())));
}

#[test]
fn a_call_without_an_allowed_cost_center_is_refused() {
    let label = |metadata| match decide(metadata).1 {
        Decision::Refused(refusal) => refusal.label,
        Decision::Admitted | Decision::Pending(_) => "admitted",
    };
    assert_eq!(label(StaticMetadata::new("a")), "cost_center.missing");
    let other = StaticMetadata::new("a").with("x-cost-center", "cc-300");
    assert_eq!(label(other), "cost_center.not_allowed");
}

#[test]
fn errors_in_the_section_say_what_to_write() {
    let section = StaticSection::default().with("header", &["X-Cost"]);
    let errors = section.parse(&Factory).unwrap_err();
    let expected = [
        "header: is not a metadata key; write a to z, 0 to 9 and '-', for example x-cost-center",
        "allowed: allows no call; list at least one cost center, for example [cc-100]",
    ];
    assert_eq!(errors, expected);
}
