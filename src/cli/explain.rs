//! `sconce explain`: where a call would go, room by room, and why.
//!
//! It asks the very chain and table that `serve` would use, so what it says is what would happen.

use crate::{
    cli::{File, terminal, url},
    config::{
        self, Plan,
        keys::{self, Book},
    },
    grpc::request::{self, Unserved},
    route::Table,
    wire::hpack::{Fields, Indexing},
};
use clap::Args;
use sconce_filters::{Account, Call, Code, Method, Refusal, call::Listed, method::SERVICE};
use std::{
    env,
    net::Ipv4Addr,
    process::ExitCode,
    rc::Rc,
    time::{Instant, SystemTime},
};

/// The status for a call that would be refused.
const REFUSED: u8 = 2;

/// A call that somebody might make.
#[derive(Args, Debug)]
pub(super) struct Question {
    #[command(flatten)]
    file: File,
    /// The URL that a client would be given: says authority and headers at once
    #[arg(value_name = "sc://…", value_parser = url::read)]
    url: Option<url::Url>,
    /// The host that the client dials, as in its :authority
    #[arg(long, value_name = "HOST[:PORT]")]
    authority: Option<String>,
    /// A header of the call; may be given several times
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The RPC: its name, or the whole of its :path
    #[arg(
        long,
        value_name = "NAME|PATH",
        value_parser = path,
        default_value = "ExecutePlan"
    )]
    method: String,
}

/// Where clients look for their token when the URL holds none (PySpark 4.0 and later).
const TOKEN: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";

/// Prints what each room says and where the call goes.
pub(super) fn run(question: &Question) -> ExitCode {
    let book = Book::default();
    match config::read(&question.file.config, &book).plan {
        Err(complaints) => {
            terminal::print(complaints);
            ExitCode::FAILURE
        }
        Ok(plan) => {
            book.follow(&plan.providers);
            for what in fetch(&book) {
                terminal::complain(format_args!("sconce: {what}"));
            }
            let (told, end) = explain(question, &plan, env::var(TOKEN).ok());
            terminal::print(told);
            if end.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
        }
    }
}

/// Fetches the keys of identity providers, once each; what went wrong.
fn fetch(book: &Book) -> Vec<String> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(keys::fill_once(book)),
        Err(fault) => vec![format!("no keys can be fetched: {fault}")],
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    let token = |o: u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&o);
    match !key.is_empty() && key.bytes().all(token) {
        true => Ok((key.to_ascii_lowercase(), value.to_owned())),
        false => Err(format!("'{key}' cannot be the name of a header")),
    }
}

/// The whole path of a method of Spark's service; a path stays as it is.
fn path(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Ok(text.to_owned()),
        false => Ok(format!("/{SERVICE}/{text}")),
    }
}

fn explain(
    question: &Question,
    plan: &Plan,
    token: Option<String>,
) -> (Vec<String>, Result<(), Refusal>) {
    let mut told = Vec::new();
    let (headers, origin) = headers(question, token);
    let mut call = made_up(question, &headers);
    let authority = call.authority();
    let dialled = if authority.is_empty() { "nowhere in particular" } else { &*authority };
    line(&mut told, "call", &format!("{} to {dialled}{origin}", call.method()));
    if let Err(refusal) = served(&question.method) {
        line(&mut told, "sconce", &refuses(&refusal));
        return (told, Err(refusal));
    }
    let accounts = plan.rooms.chain().explain(&mut call);
    let mut end = Ok(());
    for Account { room, sentence, verdict } in accounts {
        let said = match (&verdict, sentence) {
            (Ok(()), Some(sentence)) => format!("admits: {sentence}"),
            (Ok(()), None) => "admits".to_owned(),
            (Err(refusal), _) => refuses(refusal),
        };
        line(&mut told, room, &said);
        end = verdict;
    }
    let placed = end.and_then(|()| place(&call, plan));
    if let Ok(place) = &placed {
        line(&mut told, "goes to", place);
    }
    (told, placed.map(drop))
}

fn refuses(Refusal { code, label, message, .. }: &Refusal) -> String {
    format!("refuses: {code} ({}), {label}: {message}", code.number())
}

/// Whether `serve` would let any room hear of this path.
fn served(path: &str) -> Result<(), Refusal> {
    let mut head = Fields::default();
    let fields = [(":method", "POST"), (":path", path), ("content-type", "application/grpc")];
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
    }
    match request::read(&head) {
        Ok(_) => Ok(()),
        Err(Unserved::Refused(refusal)) => Err(refusal),
        Err(Unserved::NotGrpc) => Err(Refusal::new(Code::Internal, "request", "is no gRPC")),
    }
}

/// The headers of the call, and where its token comes from if it is from the environment: where
/// neither the URL nor a header holds one, clients look there.
fn headers(question: &Question, token: Option<String>) -> (Vec<(String, String)>, String) {
    let from_url = question.url.iter().flat_map(|url| &url.headers);
    let mut headers: Vec<_> = from_url.chain(&question.headers).cloned().collect();
    let shown = headers.iter().any(|(key, _)| key == "authorization");
    match token.filter(|token| !shown && !token.is_empty()) {
        Some(token) => {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
            (headers, format!(", with the token of {TOKEN}"))
        }
        None => (headers, String::new()),
    }
}

fn made_up(question: &Question, headers: &[(String, String)]) -> Call {
    let Question { url, authority, method, .. } = question;
    let from_url = url.as_ref().map(|url| url.authority.clone());
    let listed = Listed::new(authority.clone().or(from_url).unwrap_or_default());
    let all = headers.iter();
    let metadata = all.fold(listed, |listed, (key, value)| listed.with(key, value.as_str()));
    #[expect(clippy::disallowed_methods, reason = "the made-up call is made now")]
    let (now, wall) = (Instant::now(), SystemTime::now());
    let peer = (Ipv4Addr::LOCALHOST, 0).into();
    Call::new(Method::of(method), Rc::new(metadata), peer, now).with_wall(wall)
}

fn place(call: &Call, plan: &Plan) -> Result<String, Refusal> {
    let (team, environment) = (call.team()?, call.environment()?);
    let nowhere = || Refusal::new(Code::Internal, "route.missing", "no cluster is known for it");
    let table = Table::of(&plan.teams, None);
    let cluster = table.cluster(team, environment).ok_or_else(nowhere)?;
    let file =
        plan.teams.get(team).map_or_else(String::new, |team| team.file.display().to_string());
    Ok(format!("{cluster}, driver {} ({file})", cluster.driver()))
}

fn line(told: &mut Vec<String>, what: &str, said: &str) {
    told.push(format!("{what:<12} {said}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        question: Question,
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
        let (told, end) =
            explain(&Asked::parse_from(words).question, &plan, token.map(str::to_owned));
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
        assert!(end.is_ok() && told.contains("by the host that was dialled"), "{told}");
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
    fn a_token_of_the_environment_is_shown_by_who_has_no_other() {
        let kept = |words: &[&str]| {
            let words = ["explain"].iter().chain(words);
            let question = Asked::parse_from(words).question;
            let (headers, origin) = headers(&question, Some("t".to_owned()));
            (headers.last().unwrap().1.clone(), origin)
        };
        let origin = ", with the token of SPARK_CONNECT_AUTHENTICATE_TOKEN".to_owned();
        assert_eq!(kept(&["sc://h"]), ("Bearer t".to_owned(), origin));
        assert_eq!(kept(&["sc://h/;token=u"]), ("Bearer u".to_owned(), String::new()));
        assert_eq!(kept(&["--header", "Authorization=x"]), ("x".to_owned(), String::new()));
        let (told, _) = ask_with(&["sc://h/;x-sconce-team=ads"], Some("SEKRET"));
        assert!(told.contains("AUTHENTICATE_TOKEN\n") && !told.contains("SEKRET"), "{told}");
    }

    #[test]
    fn a_header_has_a_name_that_http_allows() {
        assert_eq!(header("A=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(header("a").is_err() && header("=b").is_err() && header("a b=c").is_err());
    }
}
