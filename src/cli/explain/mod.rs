//! `sconce explain`: how a call would be routed, filter by filter.
//!
//! It runs the filter chain and the route table that `serve` would use.

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

/// Exit status for invalid arguments, the same as clap's.
const USAGE_ERROR: u8 = 2;
/// Exit status for a call that would be refused, or whose driver is unreachable.
const REFUSED: u8 = 3;

/// Prints the decision of each filter and the driver of the call.
pub(super) fn run(args: &ExplainArgs, filters: &FilterRegistry) -> ExitCode {
    let request = match args.request(env::var(TOKEN_VARIABLE).ok()) {
        Ok(request) => request,
        Err(what) => {
            terminal::print_error(format_args!("error: {what}"));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let context = LoadContext { filters: filters.clone(), ..LoadContext::default() };
    let mut loaded = config::read(&args.file.config, &context, None);
    let errors = std::mem::take(&mut loaded.team_errors);
    let errors = errors.into_values().flat_map(|errors| errors.errors);
    let config = match loaded.config {
        Ok(config) => config,
        Err(mut main_errors) => {
            main_errors.extend(errors);
            terminal::print(main_errors);
            return ExitCode::FAILURE;
        }
    };
    // Errors in team files affect only those teams.
    errors.for_each(terminal::print_error);
    context.jwks.set_live(&config.providers);
    let providers = dial::fetch_keys(&context.jwks);
    for error in providers.iter().filter_map(dial::FetchReport::error) {
        terminal::print_error(format_args!("sconce: {error}"));
    }
    let ExplainResult { mut lines, cluster } = explain(args, &request, &config);
    let mut is_good = cluster.is_ok();
    if args.dial {
        is_good &= dial::report_providers(&mut lines, &providers);
        if let Ok(cluster) = &cluster {
            is_good &= dial::report_driver(&mut lines, cluster, config.timeouts.connect);
        }
    }
    terminal::print(lines);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

/// The result for one call.
struct ExplainResult {
    lines: Vec<String>,
    cluster: Result<Arc<Cluster>, Refusal>,
}

fn explain(args: &ExplainArgs, request: &SimulatedRequest, config: &Config) -> ExplainResult {
    let mut lines = Vec::new();
    let cluster = trace_call(&mut lines, args, request, config);
    ExplainResult { lines, cluster }
}

/// Runs the steps of a call up to its cluster, and adds a line for each.
fn trace_call(
    lines: &mut Vec<String>,
    args: &ExplainArgs,
    request: &SimulatedRequest,
    config: &Config,
) -> Result<Arc<Cluster>, Refusal> {
    let mut call = simulated_call(args, request);
    let dialled = match &*request.authority {
        "" => "(no host)",
        authority => authority,
    };
    push_line(lines, "call", &format!("{} to {dialled}{}", args.method, request.token_origin));
    if let Err(what) = request.check(&args.method) {
        push_line(lines, "sconce", &format!("rejects the request headers: {what}"));
        return Err(Refusal::new(Code::Internal, "request", what));
    }
    if let Some(file) = &args.certificate {
        match client_certificate::read(file, config, call.wall_time()) {
            Ok((certificate, text)) => {
                push_line(lines, "TLS", &text);
                call = call.with_certificate(certificate);
            }
            Err(what) => {
                push_line(lines, "TLS", &format!("refuses the certificate: {what}"));
                return Err(Refusal::new(Code::Unavailable, "tls", what));
            }
        }
    }
    check_path(&args.method)
        .inspect_err(|refusal| push_line(lines, "sconce", &refusal_text(refusal)))?;
    for Explanation { filter, summary, details, result: verdict } in
        config.filters.chain().explain(&mut call)
    {
        let text = match (&verdict, summary) {
            (Ok(()), Some(summary)) => format!("admits: {summary}"),
            (Ok(()), None) => "admits".to_owned(),
            (Err(refusal), _) => refusal_text(refusal),
        };
        push_line(lines, filter, &text);
        details.iter().for_each(|detail| push_line(lines, "", detail));
        verdict?;
    }
    let cluster = find_cluster(&call, config)?;
    let file = config.teams.get(cluster.team()).map(|team| team.file.display().to_string());
    let (driver, file) = (cluster.driver(), file.unwrap_or_default());
    push_line(lines, "goes to", &format!("{cluster}, driver {driver} ({file})"));
    Ok(cluster)
}

fn refusal_text(Refusal { code, label, message, .. }: &Refusal) -> String {
    format!("refuses: {code} ({}), {label}: {message}", code.number())
}

fn simulated_call(args: &ExplainArgs, request: &SimulatedRequest) -> Call {
    let listed = StaticMetadata::new(request.authority.clone());
    let all = request.headers.iter();
    let metadata = all.fold(listed, |listed, (key, value)| listed.with(key, value.as_str()));
    #[expect(clippy::disallowed_methods, reason = "the made-up call is made now")]
    let (now, wall) = (Instant::now(), SystemTime::now());
    let peer = (Ipv4Addr::LOCALHOST, 0).into();
    Call::new(Method::from_path(&args.method), Rc::new(metadata), peer, now).with_wall_time(wall)
}

fn find_cluster(call: &Call, config: &Config) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (call.team()?, call.environment()?);
    let nowhere = || {
        Refusal::new(
            Code::Internal,
            "route.missing",
            "internal error: no cluster serves this team and environment",
        )
    };
    let table = Table::new(&config.teams, None);
    table.cluster(team, environment).map(Arc::clone).ok_or_else(nowhere)
}

fn push_line(lines: &mut Vec<String>, what: &str, text: &str) {
    lines.push(format!("{what:<12} {text}"));
}
