//! What `explain` says of calls that somebody might make.

use super::*;
use clap::Parser;
use std::fs;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    question: ExplainArgs,
}

fn ask(words: &[&str]) -> (String, Result<(), Refusal>) {
    ask_with(words, None)
}

fn ask_with(words: &[&str], token: Option<&str>) -> (String, Result<(), Refusal>) {
    let home = tempfile::tempdir().unwrap();
    let main = home.path().join("sconce.yaml");
    let ads = "team: ads\nenvironments:\n  prod:\n    driver: 127.0.0.1:15002\n    \
               authorities: [ads.example.com]\n";
    fs::create_dir(home.path().join("t")).unwrap();
    fs::write(home.path().join("t/ads.yaml"), ads).unwrap();
    fs::write(&main, "teams: { directory: t, default_environment: prod }\n").unwrap();
    let plan = config::load(&main).unwrap();
    let words = ["explain"].iter().chain(words);
    let question = Typed::parse_from(words).question;
    let asked = question.request(token.map(str::to_owned)).unwrap();
    let ExplainResult { lines: told, cluster: place } = explain(&question, &asked, &plan);
    let end = place.map(drop);
    let told: String = told.into_iter().map(|line| line + "\n").collect();
    (told.replace(&format!("{}/", home.path().display()), ""), end)
}

#[test]
fn it_says_which_team_by_which_rule_and_which_driver() {
    let (told, end) = ask(&["--header", "x-sconce-team=ads", "--authority", "h:1"]);
    assert!(end.is_ok());
    assert_eq!(
        told,
        "call         /spark.connect.SparkConnectService/ExecutePlan to h:1\n\
         team         admits: team 'ads' by metadata x-sconce-team, environment 'prod' by the \
         default\n\
         goes to      ads/prod, driver 127.0.0.1:15002 (t/ads.yaml)\n"
    );
}

#[test]
fn a_url_says_as_much_as_the_flags() {
    let (told, end) = ask(&["sc://10.0.0.1:1/;x-sconce-team=ads"]);
    assert!(end.is_ok() && told.contains("to 10.0.0.1:1\n"), "{told}");
    let (told, end) = ask(&["sc://ads.example.com"]);
    assert!(end.is_ok() && told.contains("by the dialled host"), "{told}");
}

#[test]
fn a_call_that_would_be_refused_shows_the_refusal() {
    let (told, end) = ask(&["--header", "x-sconce-team=ml", "--method", "Config"]);
    assert_eq!(end.unwrap_err().label, "team.unknown");
    assert_eq!(
        told,
        "call         /spark.connect.SparkConnectService/Config to nowhere in particular\n\
         team         refuses: NOT_FOUND (5), team.unknown: there is no team 'ml' here: \
         correct ;x-sconce-team=<team> in the sc:// URL\n"
    );
}

#[test]
fn a_path_of_another_service_is_refused_as_serve_would() {
    let (told, end) = ask(&["--header", "x-sconce-team=ads", "--method", "/a/B"]);
    assert_eq!(end.unwrap_err().code, Code::Unimplemented);
    assert_eq!(
        told,
        "call         /a/B to nowhere in particular\n\
         sconce       refuses: UNIMPLEMENTED (12), request.unimplemented: only methods of \
         /spark.connect.SparkConnectService/ are served here\n"
    );
}

#[test]
fn a_token_of_the_environment_is_named_and_not_shown() {
    let (told, _) = ask_with(&["sc://h/;x-sconce-team=ads"], Some("SEKRET"));
    assert!(told.contains("AUTHENTICATE_TOKEN\n") && !told.contains("SEKRET"), "{told}");
}

#[test]
fn a_head_that_serve_would_reject_goes_no_further() {
    let (told, end) = ask(&["sc://h/;x-sconce-team=ads%20"]);
    assert!(end.is_err());
    assert_eq!(
        told,
        "call         /spark.connect.SparkConnectService/ExecutePlan to h:15002\n\
         sconce       rejects its head: the value of x-sconce-team ends with a space: remove it\n"
    );
}
