//! `sconce explain`: where a call would go, room by room, and why.
//!
//! It asks the very chain and table that `serve` would use, so what it says is what would happen.

mod args;
mod client_certificate;
mod dial;
#[cfg(test)]
mod tests;

pub(super) use args::ExplainArgs;

use crate::{
    cli::terminal,
    config::{self, Config, LoadContext},
    route::{Cluster, Table},
};
use args::{SimulatedRequest, TOKEN_VARIABLE, check_path};
use sconce_filters::{
    Call, Code, Explanation, FilterRegistry, Method, Refusal, call::StaticMetadata,
};
use std::{
    env,
    net::Ipv4Addr,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// The status for words that cannot be read, as clap has it.
const USAGE_ERROR: u8 = 2;
/// The status for a call that would be refused, or whose driver cannot be reached.
const REFUSED: u8 = 3;

/// Prints what each room says and where the call goes.
pub(super) fn run(question: &ExplainArgs, filters: &FilterRegistry) -> ExitCode {
    let asked = match question.request(env::var(TOKEN_VARIABLE).ok()) {
        Ok(asked) => asked,
        Err(what) => {
            terminal::print_error(format_args!("error: {what}"));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let context = LoadContext { filters: filters.clone(), ..LoadContext::default() };
    let mut reading = config::read(&question.file.config, &context, None);
    let errors = std::mem::take(&mut reading.team_errors);
    let errors = errors.into_values().flat_map(|errors| errors.errors);
    let plan = match reading.config {
        Ok(plan) => plan,
        Err(mut complaints) => {
            complaints.extend(errors);
            terminal::print(complaints);
            return ExitCode::FAILURE;
        }
    };
    // They concern their own teams alone, which `serve` would refuse.
    errors.for_each(terminal::print_error);
    context.jwks.set_live(&plan.providers);
    let providers = dial::fetch_keys(&context.jwks);
    for fault in providers.iter().filter_map(dial::FetchReport::error) {
        terminal::print_error(format_args!("sconce: {fault}"));
    }
    let ExplainResult { lines: mut told, cluster: place } = explain(question, &asked, &plan);
    let mut is_good = place.is_ok();
    if question.dial {
        is_good &= dial::report_providers(&mut told, &providers);
        if let Ok(cluster) = &place {
            is_good &= dial::report_driver(&mut told, cluster, plan.timeouts.connect);
        }
    }
    terminal::print(told);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

/// What was found out about a call.
struct ExplainResult {
    lines: Vec<String>,
    cluster: Result<Arc<Cluster>, Refusal>,
}

fn explain(question: &ExplainArgs, asked: &SimulatedRequest, plan: &Config) -> ExplainResult {
    let mut told = Vec::new();
    let place = trace_call(&mut told, question, asked, plan);
    ExplainResult { lines: told, cluster: place }
}

/// The way of the call, step by step, up to its cluster.
fn trace_call(
    told: &mut Vec<String>,
    question: &ExplainArgs,
    asked: &SimulatedRequest,
    plan: &Config,
) -> Result<Arc<Cluster>, Refusal> {
    let mut call = simulated_call(question, asked);
    let dialled = match &*asked.authority {
        "" => "nowhere in particular",
        authority => authority,
    };
    push_line(told, "call", &format!("{} to {dialled}{}", question.method, asked.token_origin));
    if let Err(what) = asked.check(&question.method) {
        push_line(told, "sconce", &format!("rejects its head: {what}"));
        return Err(Refusal::new(Code::Internal, "request", what));
    }
    if let Some(file) = &question.certificate {
        match client_certificate::read(file, plan, call.wall_time()) {
            Ok((certificate, said)) => {
                push_line(told, "TLS", &said);
                call = call.with_certificate(certificate);
            }
            Err(what) => {
                push_line(told, "TLS", &format!("refuses the certificate: {what}"));
                return Err(Refusal::new(Code::Unavailable, "tls", what));
            }
        }
    }
    check_path(&question.method)
        .inspect_err(|refusal| push_line(told, "sconce", &refusal_text(refusal)))?;
    for Explanation { filter: room, summary: sentence, details, result: verdict } in
        plan.filters.chain().explain(&mut call)
    {
        let said = match (&verdict, sentence) {
            (Ok(()), Some(sentence)) => format!("admits: {sentence}"),
            (Ok(()), None) => "admits".to_owned(),
            (Err(refusal), _) => refusal_text(refusal),
        };
        push_line(told, room, &said);
        details.iter().for_each(|detail| push_line(told, "", detail));
        verdict?;
    }
    let cluster = find_cluster(&call, plan)?;
    let file = plan.teams.get(cluster.team()).map(|team| team.file.display().to_string());
    let (driver, file) = (cluster.driver(), file.unwrap_or_default());
    push_line(told, "goes to", &format!("{cluster}, driver {driver} ({file})"));
    Ok(cluster)
}

fn refusal_text(Refusal { code, label, message, .. }: &Refusal) -> String {
    format!("refuses: {code} ({}), {label}: {message}", code.number())
}

fn simulated_call(question: &ExplainArgs, asked: &SimulatedRequest) -> Call {
    let listed = StaticMetadata::new(asked.authority.clone());
    let all = asked.headers.iter();
    let metadata = all.fold(listed, |listed, (key, value)| listed.with(key, value.as_str()));
    #[expect(clippy::disallowed_methods, reason = "the made-up call is made now")]
    let (now, wall) = (Instant::now(), SystemTime::now());
    let peer = (Ipv4Addr::LOCALHOST, 0).into();
    Call::new(Method::from_path(&question.method), Rc::new(metadata), peer, now)
        .with_wall_time(wall)
}

fn find_cluster(call: &Call, plan: &Config) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (call.team()?, call.environment()?);
    let nowhere = || Refusal::new(Code::Internal, "route.missing", "no cluster is known for it");
    let table = Table::new(&plan.teams, None);
    table.cluster(team, environment).map(Arc::clone).ok_or_else(nowhere)
}

fn push_line(told: &mut Vec<String>, what: &str, said: &str) {
    told.push(format!("{what:<12} {said}"));
}
