//! The room tried from outside: which call goes where, and what the others are told.

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
        Decision::Pending(_) => panic!("this room has its answer at hand"),
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
fn a_listed_host_stands_for_both_whatever_its_case_and_port() {
    for host in ["ads.example.com", "ADS.example.com:443"] {
        assert_eq!(ask(settings(), StaticMetadata::new(host)).unwrap(), "ads/prod");
    }
}

#[test]
fn metadata_wins_over_the_host_and_the_host_over_defaults() {
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
fn the_environment_of_a_host_does_not_serve_another_team() {
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
fn defaults_take_the_calls_that_say_nothing() {
    assert_eq!(ask(with_defaults(), anyone()).unwrap(), "ads/prod");
}

#[test]
fn an_unknown_team_never_falls_back_on_the_default() {
    let refusal = ask(with_defaults(), anyone().with(TEAM, "sales")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::NotFound, "team.unknown"));
    assert_eq!(
        refusal.message,
        "there is no team 'sales' here: correct ;x-sconce-team=<team> in the sc:// URL"
    );
}

#[test]
fn a_call_that_names_no_team_is_told_what_to_put_in_the_url() {
    let refusal = ask(settings(), anyone()).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.missing"));
    assert_eq!(
        refusal.message,
        "the call names no team: add ;x-sconce-team=<team> to the sc:// URL, for example \
         sc://host:port/;x-sconce-team=ads;x-sconce-env=prod"
    );
}

#[test]
fn teams_are_listed_only_when_config_reveals_them() {
    let open = Settings { list_teams: ListTeams::Always, ..settings() };
    for metadata in [anyone(), anyone().with(TEAM, "sales")] {
        assert!(!ask(settings(), metadata.clone()).unwrap_err().message.contains("ml"));
        let message = ask(open.clone(), metadata).unwrap_err().message;
        assert!(message.ends_with("; teams here: ads, ml"), "{message}");
    }
}

#[test]
fn a_team_without_an_environment_is_told_its_own() {
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
        Some("team 'ml' by metadata x-sconce-team, environment 'lab' by the only one of the team")
    );
    // What the call or the configuration says counts all the same.
    let refusal = ask(settings(), anyone().with(TEAM, "ml").with(ENVIRONMENT, "prod")).unwrap_err();
    assert_eq!(refusal.label, "team.environment_unknown");
    let refusal = ask(with_defaults(), anyone().with(TEAM, "ml")).unwrap_err();
    assert_eq!(refusal.label, "team.environment_unknown");
}

#[test]
fn a_refused_call_whose_team_is_known_says_so() {
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
fn an_unknown_environment_names_those_there_are() {
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
fn a_default_environment_that_this_team_lacks_is_said_to_be_the_default() {
    let refusal = ask(with_defaults(), anyone().with(TEAM, "ml")).unwrap_err();
    assert_eq!(
        refusal.message,
        "team 'ml' has no environment 'prod', which is the default: add \
         ;x-sconce-env=<environment> to the sc:// URL; its environments: lab"
    );
}

#[test]
fn what_cannot_be_a_name_is_shown_harmlessly_with_the_reason() {
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
fn a_header_given_twice_must_say_the_same() {
    let twice = |other| anyone().with(ENVIRONMENT, "dev").with(TEAM, "ads").with(TEAM, other);
    assert_eq!(ask(settings(), twice("ads")).unwrap(), "ads/dev");
    let refusal = ask(settings(), twice("ml")).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.contradiction"));
    assert_eq!(
        refusal.message,
        "x-sconce-team is given more than once, as 'ads' and as 'ml': keep one \
         ;x-sconce-team=... in the sc:// URL"
    );
}

/// Ann is in ads by her name, and in ml by a group; bob in ml by what proves him.
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
        Decision::Pending(_) => panic!("this room has its answer at hand"),
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
fn who_belongs_to_one_team_need_not_name_it() {
    let dev = || anyone().with(ENVIRONMENT, "dev");
    let lab = || anyone().with(ENVIRONMENT, "lab");
    assert_eq!(ask_as(ann(&[], &[]), dev()).unwrap(), "ads/dev");
    assert_eq!(ask_as(bob(&["ml", "ml-of-another-house"]), lab()).unwrap(), "ml/lab");
}

#[test]
fn who_belongs_to_several_teams_chooses_one_of_them() {
    let refusal = ask_as(ann(&["science"], &[]), anyone()).unwrap_err();
    assert_eq!((refusal.code, refusal.label), (Code::InvalidArgument, "team.unsaid"));
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
fn a_team_counts_once_however_often_its_caller_is_in_it_and_only_if_it_exists() {
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
fn a_team_of_others_is_denied_like_one_that_does_not_exist() {
    for asked in ["ml", "nobody-s"] {
        let refusal = ask_as(ann(&[], &[]), anyone().with(TEAM, asked)).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::PermissionDenied, "team.not_member"));
        assert_eq!(
            refusal.message,
            format!(
                "you do not belong to team '{asked}': correct ;x-sconce-team=<team> in the sc:// \
                 URL; your teams: ads"
            )
        );
    }
    let host = StaticMetadata::new("ads.example.com");
    assert_eq!(ask_as(bob(&["ml"]), host).unwrap_err().label, "team.not_member");
}

#[test]
fn who_belongs_to_no_team_is_told_whom_to_ask() {
    for metadata in [anyone(), anyone().with(TEAM, "ads"), StaticMetadata::new("ads.example.com")] {
        let refusal = ask_as(bob(&["sales"]), metadata).unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::PermissionDenied, "team.none"));
    }
}

#[test]
fn without_a_proof_no_team_with_members_is_found() {
    let refusal = ask(proven(), anyone().with(TEAM, "ads")).unwrap_err();
    assert_eq!(refusal.code, Code::Internal);
    assert_eq!(Team::new(proven()).requires(), [Attribute::Identity]);
    assert!(Team::new(settings()).requires().is_empty());
}

/// What a room says to a call that one with other settings has admitted.
fn again(before: Settings, after: Settings, metadata: StaticMetadata) -> Result<(), &'static str> {
    let mut call = call_of(metadata);
    let identity = Identity::new(ann(&[], &[]), IdentitySource::Certificate, None).unwrap();
    call.set_attributes(Attributes { identity: Some(Rc::new(identity)), ..Attributes::default() });
    assert!(matches!(Team::new(before).admit(&mut call), Decision::Admitted));
    Team::new(after).recheck(&mut call).map_err(|refusal| refusal.label)
}

#[test]
fn a_call_whose_place_is_there_still_goes_on_though_a_new_one_would_go_elsewhere() {
    let elsewhere =
        Settings { default_environment: EnvironmentName::parse("dev").ok(), ..settings() };
    let ads = || anyone().with(TEAM, "ads");
    assert_eq!(ask(elsewhere.clone(), ads()).unwrap(), "ads/dev");
    assert_eq!(again(with_defaults(), elsewhere, ads()), Ok(()));
    assert_eq!(again(proven(), proven(), ads().with(ENVIRONMENT, "dev")), Ok(()));
}

#[test]
fn a_call_whose_place_or_membership_is_gone_is_refused() {
    let without_prod = |settings: Settings| {
        let mut settings = settings;
        settings.teams.values_mut().for_each(|theirs| theirs.retain(|it| it.as_str() != "prod"));
        settings
    };
    let without_members = Settings { members: Some([].into()), ..proven() };
    let prod = || anyone().with(TEAM, "ads").with(ENVIRONMENT, "prod");
    let unknown = Err("team.environment_unknown");
    assert_eq!(again(settings(), without_prod(settings()), prod()), unknown);
    assert_eq!(again(proven(), without_prod(proven()), prod()), unknown, "a member still");
    assert_eq!(again(proven(), without_members, prod()), Err("team.none"), "the place is there");
    let dev =
        Settings { default_environment: EnvironmentName::parse("dev").ok(), ..with_defaults() };
    assert_eq!(again(with_defaults(), without_prod(dev), anyone()), Err("team.moved"));
}

#[test]
fn a_call_that_was_led_nowhere_is_not_asked_about_again() {
    let mut call = call_of(anyone());
    assert_eq!(Team::new(with_defaults()).recheck(&mut call).unwrap_err().label, "team.moved");
}

#[test]
fn the_chain_is_told_its_name_and_what_it_fills() {
    let room = Team::new(settings());
    assert_eq!(
        (room.name(), room.provides()),
        ("team", &[Attribute::Team, Attribute::Environment][..])
    );
}

#[test]
fn it_explains_by_which_rule_it_found_each() {
    let metadata = StaticMetadata::new("ads.example.com").with(ENVIRONMENT, "dev");
    let peer = ([127, 0, 0, 1], 1).into();
    let call = Call::new(Method::Config, Rc::new(metadata), peer, Instant::now());
    assert_eq!(
        Team::new(settings()).explain(&call).unwrap(),
        "team 'ads' by the host that was dialled (:authority), environment 'dev' by metadata \
         x-sconce-env"
    );
}
