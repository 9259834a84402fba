//! Teams and hosts that are known but not served: the refusal for each caller.

use crate::call::StaticMetadata;
use crate::{
    Code, TeamName,
    team::{
        Authority, ENVIRONMENT, Members, Settings, TEAM, Unserved, UnservedReason,
        tests::{ann, anyone, ask, ask_of, bob, proven},
    },
};

/// The settings of `proven`, and teams that are not served: ann was a member of sales; the members
/// of ops are unknown.
fn with_unserved() -> Settings {
    let team = |name| TeamName::parse(name).unwrap();
    let host = |name| Authority::parse(name).unwrap();
    let had = Members { users: ["ann".to_owned()].into(), ..Members::default() };
    let removed = Unserved { reason: UnservedReason::Removed, members: had };
    let broken = Unserved { reason: UnservedReason::Misconfigured, members: Members::default() };
    Settings {
        default_team: TeamName::parse("ads").ok(),
        unserved: [(team("sales"), removed), (team("ops"), broken)].into(),
        unserved_authorities: [
            (host("sales.example.com"), UnservedReason::Removed),
            (host("ops.example.com"), UnservedReason::Misconfigured),
        ]
        .into(),
        ..proven()
    }
}

#[test]
fn only_former_members_learn_that_a_team_was_removed() {
    let label = |claimed, team: &str| {
        ask_of(with_unserved(), claimed, anyone().with(TEAM, team)).unwrap_err().label
    };
    assert_eq!(label(ann(&[], &[]), "sales"), "team.removed");
    assert_eq!(label(bob(&["ml"]), "sales"), "team.not_member");
    assert_eq!(label(bob(&["ml", "sales"]), "sales"), "team.removed", "by what proves him");
    assert_eq!(label(bob(&[]), "sales"), "team.no_membership");
    let open = Settings { members: None, ..with_unserved() };
    let refusal = ask(open, anyone().with(TEAM, "sales")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::NotFound, "team.removed"));
}

#[test]
fn callers_of_a_misconfigured_team_are_sent_to_the_operators() {
    for claimed in [ann(&[], &[]), bob(&[])] {
        let refusal = ask_of(with_unserved(), claimed, anyone().with(TEAM, "ops")).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::FailedPrecondition, "team.misconfigured"));
    }
    let refusal = ask_of(with_unserved(), bob(&[]), anyone()).unwrap_err();
    assert_eq!(refusal.label, "team.no_membership");
    assert!(refusal.message.ends_with("yours may be one of them"), "{}", refusal.message);
    let refusal = ask_of(with_unserved(), bob(&["ops"]), anyone()).unwrap_err();
    assert_eq!(refusal.label, "team.misconfigured", "what proves him names it");
}

#[test]
fn an_unserved_host_never_falls_back_to_another_team() {
    let open = Settings { members: None, ..with_unserved() };
    for (host, label) in
        [("sales.example.com", "team.removed"), ("OPS.example.com:1", "team.misconfigured")]
    {
        let dialled = || StaticMetadata::new(host);
        for metadata in [dialled(), dialled().with(TEAM, "ads"), dialled().with(ENVIRONMENT, "dev")]
        {
            assert_eq!(ask(open.clone(), metadata).unwrap_err().label, label);
        }
        let named = dialled().with(TEAM, "ads").with(ENVIRONMENT, "dev");
        assert_eq!(ask(open.clone(), named).unwrap(), "ads/dev");
    }
}
