//! The whole filter: routes and refusals.

#![expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]

use super::*;
use crate::{
    Attribute, Attributes, Call, Code, Decision, EnvironmentName, Filter, Identity, Method,
    Refusal, TeamName,
    call::StaticMetadata,
    identity::{IdentitySource, RawIdentity},
};
use std::{rc::Rc, time::Instant};

fn settings() -> Settings {
    let team = |name| TeamName::parse(name).unwrap();
    let environment = |name| EnvironmentName::parse(name).unwrap();
    let host = |name| Authority::parse(name).unwrap();
    Settings {
        teams: [
            (team("ads"), ["prod", "dev"].map(environment).into()),
            (team("ml"), ["lab"].map(environment).into()),
        ]
        .into(),
        authorities: [(host("ads.example.com"), (team("ads"), environment("prod")))].into(),
        ..Settings::default()
    }
}

fn with_defaults() -> Settings {
    Settings {
        default_team: TeamName::parse("ads").ok(),
        default_environment: EnvironmentName::parse("prod").ok(),
        ..settings()
    }
}

fn call_of(metadata: StaticMetadata) -> Call {
    let peer = ([127, 0, 0, 1], 1).into();
    Call::new(Method::Config, Rc::new(metadata), peer, Instant::now())
}

pub(super) fn ask(settings: Settings, metadata: StaticMetadata) -> Result<String, Refusal> {
    let mut call = call_of(metadata);
    match Team::new(settings).admit(&mut call) {
        Decision::Admitted => Ok(format!("{}/{}", call.team()?, call.environment()?)),
        Decision::Refused(refusal) => Err(refusal),
        Decision::Pending(_) => panic!("this filter has its answer at hand"),
    }
}

pub(super) fn anyone() -> StaticMetadata {
    StaticMetadata::new("10.0.0.1:15009")
}

#[test]
fn metadata_names_team_and_environment() {
    let metadata = anyone().with(TEAM, "ads").with(ENVIRONMENT, "dev");
    assert_eq!(ask(settings(), metadata).unwrap(), "ads/dev");
}

#[test]
fn a_configured_host_selects_team_and_environment_in_any_case_and_port() {
    for host in ["ads.example.com", "ADS.example.com:443"] {
        assert_eq!(ask(settings(), StaticMetadata::new(host)).unwrap(), "ads/prod");
    }
}

#[test]
fn metadata_takes_precedence_over_host_and_host_over_defaults() {
    let defaults = Settings { default_team: TeamName::parse("ml").ok(), ..settings() };
    let host = StaticMetadata::new("ads.example.com");
    assert_eq!(ask(defaults.clone(), host.clone()).unwrap(), "ads/prod");
    let metadata = host.with(TEAM, "ml").with(ENVIRONMENT, "lab");
    assert_eq!(ask(defaults, metadata).unwrap(), "ml/lab");
}

#[test]
fn the_team_may_come_from_the_host_and_the_environment_from_metadata() {
    let metadata = StaticMetadata::new("ads.example.com").with(ENVIRONMENT, "dev");
    assert_eq!(ask(settings(), metadata).unwrap(), "ads/dev");
}

#[test]
fn the_environment_of_a_host_is_not_used_for_another_team() {
    let mut settings = settings();
    let team = TeamName::parse("web").unwrap();
    settings
        .teams
        .insert(team, ["lab", "test"].map(|it| EnvironmentName::parse(it).unwrap()).into());
    let refusal =
        ask(settings, StaticMetadata::new("ads.example.com").with(TEAM, "web")).unwrap_err();
    assert_eq!(refusal.label, "team.environment_missing");
}

#[test]
fn calls_without_names_use_the_defaults() {
    assert_eq!(ask(with_defaults(), anyone()).unwrap(), "ads/prod");
}

#[test]
fn an_unknown_team_never_falls_back_to_the_default() {
    let refusal = ask(with_defaults(), anyone().with(TEAM, "sales")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::NotFound, "team.unknown"));
    assert_eq!(
        refusal.message,
        "there is no team 'sales' here: correct ;x-sconce-team=<team> in the sc:// URL"
    );
}

#[test]
fn a_call_without_a_team_gets_the_url_parameter_to_add() {
    let refusal = ask(settings(), anyone()).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.missing"));
    assert_eq!(
        refusal.message,
        "the call names no team: add ;x-sconce-team=<team> to the sc:// URL, for example \
         sc://host:port/;x-sconce-team=ads;x-sconce-env=prod"
    );
}

#[test]
fn teams_are_listed_only_if_configured() {
    let open = Settings { list_teams: ListTeams::Always, ..settings() };
    for metadata in [anyone(), anyone().with(TEAM, "sales")] {
        assert!(!ask(settings(), metadata.clone()).unwrap_err().message.contains("ml"));
        let message = ask(open.clone(), metadata).unwrap_err().message;
        assert!(message.ends_with("; teams here: ads, ml"), "{message}");
    }
}

#[test]
fn a_call_without_an_environment_gets_the_list_of_its_team() {
    let refusal = ask(settings(), anyone().with(TEAM, "ads")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.environment_missing"));
    assert_eq!(
        refusal.message,
        "the call names no environment of team 'ads': add ;x-sconce-env=<environment> to the \
         sc:// URL, for example sc://host:port/;x-sconce-team=ads;x-sconce-env=dev; its \
         environments: dev, prod"
    );
}

#[test]
fn the_only_environment_of_a_team_need_not_be_named() {
    assert_eq!(ask(settings(), anyone().with(TEAM, "ml")).unwrap(), "ml/lab");
    let only = Settings { default_team: TeamName::parse("ml").ok(), ..settings() };
    assert_eq!(ask(only, anyone()).unwrap(), "ml/lab");
    let call = call_of(anyone().with(TEAM, "ml"));
    assert_eq!(
        Team::new(settings()).explain(&call).as_deref(),
        Some(
            "team 'ml' by metadata x-sconce-team, environment 'lab' by the only environment \
             of the team"
        )
    );
    // Names in the call or in the configuration take precedence.
    let refusal = ask(settings(), anyone().with(TEAM, "ml").with(ENVIRONMENT, "prod")).unwrap_err();
    assert_eq!(refusal.label, "team.environment_unknown");
    let refusal = ask(with_defaults(), anyone().with(TEAM, "ml")).unwrap_err();
    assert_eq!(refusal.label, "team.environment_unknown");
}

#[test]
fn a_refused_call_has_its_team_if_known() {
    let known = |settings: Settings, metadata: StaticMetadata| {
        let mut call = call_of(metadata);
        assert!(matches!(Team::new(settings).admit(&mut call), Decision::Refused(_)));
        assert_eq!(call.attributes().environment, None);
        call.attributes().team.as_ref().map(|team| team.as_str().to_owned())
    };
    let ads = || anyone().with(TEAM, "ads");
    assert_eq!(known(settings(), ads()).as_deref(), Some("ads"));
    assert_eq!(known(settings(), ads().with(ENVIRONMENT, "test")).as_deref(), Some("ads"));
    assert_eq!(known(settings(), anyone().with(TEAM, "sales")), None);
    assert_eq!(known(settings(), anyone()), None);
}

#[test]
fn an_unknown_environment_is_refused_with_the_existing_ones() {
    let metadata = anyone().with(TEAM, "ads").with(ENVIRONMENT, "test");
    let refusal = ask(settings(), metadata).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::NotFound, "team.environment_unknown"));
    assert_eq!(
        refusal.message,
        "team 'ads' has no environment 'test': correct ;x-sconce-env=<environment> in the sc:// \
         URL; its environments: dev, prod"
    );
}

#[test]
fn a_missing_default_environment_is_reported_as_the_default() {
    let refusal = ask(with_defaults(), anyone().with(TEAM, "ml")).unwrap_err();
    assert_eq!(
        refusal.message,
        "team 'ml' has no environment 'prod', which is the default: add \
         ;x-sconce-env=<environment> to the sc:// URL; its environments: lab"
    );
}

#[test]
fn invalid_names_are_escaped_and_explained() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "'', which cannot be a name, since a name has at least one letter"),
        (b"Ads", "'Ads', which cannot be a name, since a name has only a to z, 0 to 9 and '-'"),
        (b"ads,ads", "'ads,ads', which"),
        (b"\x1b[31m\xff", "'?[31m?', which"),
        (&[b'a'; 4000], "a...', which cannot be a name, since a name has at most 63 characters"),
    ];
    for (value, expected) in cases {
        for header in [TEAM, ENVIRONMENT] {
            let metadata = StaticMetadata::new("ads.example.com").with(header, value);
            let refusal = ask(settings(), metadata).unwrap_err();
            assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.malformed"));
            assert!(refusal.message.contains(expected), "{}", refusal.message);
            assert!(refusal.message.contains(header), "{}", refusal.message);
            assert!(refusal.message.len() < 300);
        }
    }
}

#[test]
fn a_repeated_header_must_have_equal_values() {
    let twice = |other| anyone().with(ENVIRONMENT, "dev").with(TEAM, "ads").with(TEAM, other);
    assert_eq!(ask(settings(), twice("ads")).unwrap(), "ads/dev");
    let refusal = ask(settings(), twice("ml")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.conflicting_headers"));
    assert_eq!(
        refusal.message,
        "x-sconce-team is given more than once, as 'ads' and as 'ml': keep one \
         ;x-sconce-team=... in the sc:// URL"
    );
}

/// Ann is a member of ads by her user name, and of ml by a group; bob is a member of ml by his
/// credential.
pub(super) fn proven() -> Settings {
    let team = |name| TeamName::parse(name).unwrap();
    let ads = Members { users: ["ann".to_owned()].into(), ..Members::default() };
    let ml = Members { groups: ["science".to_owned()].into(), ..Members::default() };
    Settings { members: Some([(team("ads"), ads), (team("ml"), ml)].into()), ..settings() }
}

fn ask_as(claimed: RawIdentity, metadata: StaticMetadata) -> Result<String, Refusal> {
    ask_of(proven(), claimed, metadata)
}

pub(super) fn ask_of(
    settings: Settings,
    claimed: RawIdentity,
    metadata: StaticMetadata,
) -> Result<String, Refusal> {
    let mut call = call_of(metadata);
    let identity = Identity::new(claimed, IdentitySource::Certificate, None).unwrap();
    call.set_attributes(Attributes { identity: Some(Rc::new(identity)), ..Attributes::default() });
    match Team::new(settings).admit(&mut call) {
        Decision::Admitted => Ok(format!("{}/{}", call.team()?, call.environment()?)),
        Decision::Refused(refusal) => Err(refusal),
        Decision::Pending(_) => panic!("this filter has its answer at hand"),
    }
}

pub(super) fn ann(groups: &[&str], teams: &[&str]) -> RawIdentity {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (groups, teams) = (owned(groups), owned(teams));
    RawIdentity { user: "ann".to_owned(), display_name: None, groups, teams }
}

pub(super) fn bob(teams: &[&str]) -> RawIdentity {
    RawIdentity { user: "bob".to_owned(), ..ann(&[], teams) }
}

#[test]
fn a_caller_with_one_team_need_not_name_it() {
    let dev = || anyone().with(ENVIRONMENT, "dev");
    let lab = || anyone().with(ENVIRONMENT, "lab");
    assert_eq!(ask_as(ann(&[], &[]), dev()).unwrap(), "ads/dev");
    assert_eq!(ask_as(bob(&["ml", "ml-of-another-house"]), lab()).unwrap(), "ml/lab");
}

#[test]
fn a_caller_with_several_teams_must_name_one() {
    let refusal = ask_as(ann(&["science"], &[]), anyone()).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.ambiguous"));
    assert_eq!(
        refusal.message,
        "you belong to several teams and the call names none: add ;x-sconce-team=<team> to the \
         sc:// URL, for example sc://host:port/;x-sconce-team=ads; your teams: ads, ml"
    );
    let lab = anyone().with(TEAM, "ml").with(ENVIRONMENT, "lab");
    assert_eq!(ask_as(ann(&["science"], &[]), lab).unwrap(), "ml/lab");
    let host = StaticMetadata::new("ads.example.com");
    assert_eq!(ask_as(ann(&["science"], &[]), host).unwrap(), "ads/prod");
}

#[test]
fn a_team_counts_once_per_caller_and_must_exist() {
    let everywhere = || Members {
        users: ["ann".to_owned()].into(),
        groups: ["science".to_owned(), "all".to_owned()].into(),
    };
    let team = |name| TeamName::parse(name).unwrap();
    let members = |names: &[&'static str]| {
        let members = names.iter().map(|name| (team(name), everywhere())).collect();
        Settings { members: Some(members), ..settings() }
    };
    let claimed = || ann(&["all", "science", "all"], &["ml", "gone"]);
    let refusal = ask_of(members(&["ml", "ads"]), claimed(), anyone()).unwrap_err();
    assert!(refusal.message.ends_with("your teams: ads, ml"), "{}", refusal.message);
    let lab = anyone().with(ENVIRONMENT, "lab");
    assert_eq!(ask_of(members(&["ml", "gone"]), claimed(), lab).unwrap(), "ml/lab");
}

#[test]
fn another_team_is_refused_like_a_nonexistent_one() {
    for team in ["ml", "nobody-s"] {
        let refusal = ask_as(ann(&[], &[]), anyone().with(TEAM, team)).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::PermissionDenied, "team.not_member"));
        assert_eq!(
            refusal.message,
            format!(
                "you do not belong to team '{team}': correct ;x-sconce-team=<team> in the sc:// \
                 URL; your teams: ads"
            )
        );
    }
    let host = StaticMetadata::new("ads.example.com");
    assert_eq!(ask_as(bob(&["ml"]), host).unwrap_err().label, "team.not_member");
}

#[test]
fn callers_without_a_team_are_sent_to_the_operators() {
    for metadata in [anyone(), anyone().with(TEAM, "ads"), StaticMetadata::new("ads.example.com")] {
        let refusal = ask_as(bob(&["sales"]), metadata).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::PermissionDenied, "team.no_membership"));
    }
}

#[test]
fn teams_with_members_need_an_identity() {
    let refusal = ask(proven(), anyone().with(TEAM, "ads")).unwrap_err();
    assert_eq!(refusal.code, Code::Internal);
    assert_eq!(Team::new(proven()).requires(), [Attribute::Identity]);
    assert!(Team::new(settings()).requires().is_empty());
}

/// The recheck of a call that a filter with other settings has admitted.
fn recheck_after(
    before: Settings,
    after: Settings,
    metadata: StaticMetadata,
) -> Result<(), &'static str> {
    let mut call = call_of(metadata);
    let identity = Identity::new(ann(&[], &[]), IdentitySource::Certificate, None).unwrap();
    call.set_attributes(Attributes { identity: Some(Rc::new(identity)), ..Attributes::default() });
    assert!(matches!(Team::new(before).admit(&mut call), Decision::Admitted));
    Team::new(after).recheck(&mut call).map_err(|refusal| refusal.label)
}

#[test]
fn a_call_keeps_an_existing_route_if_new_calls_take_another() {
    let elsewhere =
        Settings { default_environment: EnvironmentName::parse("dev").ok(), ..settings() };
    let ads = || anyone().with(TEAM, "ads");
    assert_eq!(ask(elsewhere.clone(), ads()).unwrap(), "ads/dev");
    assert_eq!(recheck_after(with_defaults(), elsewhere, ads()), Ok(()));
    assert_eq!(recheck_after(proven(), proven(), ads().with(ENVIRONMENT, "dev")), Ok(()));
}

#[test]
fn a_call_whose_route_or_membership_was_removed_is_refused() {
    let without_prod = |settings: Settings| {
        let mut settings = settings;
        settings
            .teams
            .values_mut()
            .for_each(|environments| environments.retain(|it| it.as_str() != "prod"));
        settings
    };
    let without_members = Settings { members: Some([].into()), ..proven() };
    let prod = || anyone().with(TEAM, "ads").with(ENVIRONMENT, "prod");
    let unknown = Err("team.environment_unknown");
    assert_eq!(recheck_after(settings(), without_prod(settings()), prod()), unknown);
    assert_eq!(recheck_after(proven(), without_prod(proven()), prod()), unknown, "a member still");
    assert_eq!(
        recheck_after(proven(), without_members, prod()),
        Err("team.no_membership"),
        "the place is there"
    );
    let dev =
        Settings { default_environment: EnvironmentName::parse("dev").ok(), ..with_defaults() };
    assert_eq!(
        recheck_after(with_defaults(), without_prod(dev), anyone()),
        Err("team.route_changed")
    );
}

#[test]
fn a_call_without_a_route_is_not_rechecked() {
    let mut call = call_of(anyone());
    assert_eq!(
        Team::new(with_defaults()).recheck(&mut call).unwrap_err().label,
        "team.route_changed"
    );
}

#[test]
fn it_declares_its_name_and_attributes() {
    let filter = Team::new(settings());
    assert_eq!(
        (filter.name(), filter.provides()),
        ("team", &[Attribute::Team, Attribute::Environment][..])
    );
}

#[test]
fn it_explains_the_rule_for_team_and_environment() {
    let metadata = StaticMetadata::new("ads.example.com").with(ENVIRONMENT, "dev");
    let peer = ([127, 0, 0, 1], 1).into();
    let call = Call::new(Method::Config, Rc::new(metadata), peer, Instant::now());
    assert_eq!(
        Team::new(settings()).explain(&call).unwrap(),
        "team 'ads' by the dialled host (:authority), environment 'dev' by metadata \
         x-sconce-env"
    );
}
