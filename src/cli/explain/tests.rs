//! The output of `explain`.

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
    let ads = "team: ads\nenvironments:\n  prod:\n    driver: 127.0.0.1:15002\n    authorities: \
               [ads.example.com]\n";
    fs::create_dir(home.path().join("t")).unwrap();
    fs::write(home.path().join("t/ads.yaml"), ads).unwrap();
    fs::write(&main, "teams: { directory: t, default_environment: prod }\n").unwrap();
    let config = config::load(&main).unwrap();
    let words = ["explain"].iter().chain(words);
    let question = Typed::parse_from(words).question;
    let request = question.request(token.map(str::to_owned)).unwrap();
    let ExplainResult { lines, cluster: place } = explain(&question, &request, &config);
    let end = place.map(drop);
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    (lines.replace(&format!("{}/", home.path().display()), ""), end)
}

#[test]
fn the_output_names_the_team_the_rule_and_the_driver() {
    let (lines, end) = ask(&["--header", "x-sconce-team=ads", "--authority", "h:1"]);
    assert!(end.is_ok());
    assert_eq!(
        lines,
        "call         /spark.connect.SparkConnectService/ExecutePlan to h:1\n\
         team         admits: team 'ads' by metadata x-sconce-team, environment 'prod' by the \
         default\n\
         goes to      ads/prod, driver 127.0.0.1:15002 (t/ads.yaml)\n"
    );
}

#[test]
fn a_url_is_equivalent_to_the_flags() {
    let (lines, end) = ask(&["sc://10.0.0.1:1/;x-sconce-team=ads"]);
    assert!(end.is_ok() && lines.contains("to 10.0.0.1:1\n"), "{lines}");
    let (lines, end) = ask(&["sc://ads.example.com"]);
    assert!(end.is_ok() && lines.contains("by the dialled host"), "{lines}");
}

#[test]
fn a_call_that_would_be_refused_shows_the_refusal() {
    let (lines, end) = ask(&["--header", "x-sconce-team=ml", "--method", "Config"]);
    assert_eq!(end.unwrap_err().label, "team.unknown");
    assert_eq!(
        lines,
        "call         /spark.connect.SparkConnectService/Config to (no host)\n\
         team         refuses: NOT_FOUND (5), team.unknown: there is no team 'ml' here: \
         correct ;x-sconce-team=<team> in the sc:// URL\n"
    );
}

#[test]
fn a_path_of_another_service_is_refused_as_by_serve() {
    let (lines, end) = ask(&["--header", "x-sconce-team=ads", "--method", "/a/B"]);
    assert_eq!(end.unwrap_err().code, Code::Unimplemented);
    assert_eq!(
        lines,
        "call         /a/B to (no host)\n\
         sconce       refuses: UNIMPLEMENTED (12), request.unimplemented: only methods of \
         /spark.connect.SparkConnectService/ are served here\n"
    );
}

#[test]
fn the_token_of_the_environment_is_mentioned_and_not_shown() {
    let (lines, _) = ask_with(&["sc://h/;x-sconce-team=ads"], Some("SEKRET"));
    assert!(lines.contains("AUTHENTICATE_TOKEN\n") && !lines.contains("SEKRET"), "{lines}");
}

#[test]
fn malformed_request_headers_end_the_explanation() {
    let (lines, end) = ask(&["sc://h/;x-sconce-team=ads%20"]);
    assert!(end.is_err());
    assert_eq!(
        lines,
        "call         /spark.connect.SparkConnectService/ExecutePlan to h:15002\n\
         sconce       rejects the request headers: the value of x-sconce-team ends with a space: \
         remove it\n"
    );
}
