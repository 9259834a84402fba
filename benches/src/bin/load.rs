//! The load generator: one workload against one address, every answer checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sconce_benches::caller::Caller;
use sconce_benches::gate::Gate;
use sconce_benches::run::Run;
use sconce_benches::socket::Turn;
use sconce_benches::target::Target;
use sconce_benches::workload::{Parallel, Scale, Workload};

/// The environment of all calls.
const ENVIRONMENT: &str = "prod";

/// Runs one workload and prints its counts as one line of JSON.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to send the calls.
    #[arg(long)]
    target: SocketAddr,
    /// Speak TLS, and trust whom this certificate in PEM has signed.
    #[arg(long)]
    authority: Option<PathBuf>,
    /// The file of the token that the calls carry and that tells their team; without it they carry
    /// something like a token, and name their team.
    #[arg(long)]
    token: Option<PathBuf>,
    /// The team that calls name if they have no token.
    #[arg(long, default_value = "ads")]
    team: String,
    /// Read as `h2` does of its own, about 8 KiB at a time, and not from a buffer.
    #[arg(long)]
    plain: bool,
    /// Which workload.
    #[arg(long)]
    workload: Workload,
    /// Seconds to warm up, not measured.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Seconds of the measured part.
    #[arg(long, default_value_t = 3.0)]
    measure: f64,
    /// Connections of W4.
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    #[command(flatten)]
    parallel: Parallel,
    /// Print `begin` and `end` around the measured part and wait for a line after each.
    #[arg(long)]
    gated: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let measure = Duration::try_from_secs_f64(arguments.measure)?;
    let mut target = match &arguments.authority {
        None => arguments.target.into(),
        Some(authority) => Target::secure(arguments.target, authority)?,
    };
    if arguments.plain {
        target.turn = Turn::Plain;
    }
    let run = Run {
        target,
        caller: match &arguments.token {
            None => Caller::naming(&arguments.team, ENVIRONMENT),
            Some(file) => Caller::proving(std::fs::read_to_string(file)?.trim(), ENVIRONMENT),
        },
        workload: arguments.workload,
        scale: Scale { idle: arguments.idle, measure, parallel: arguments.parallel },
        warm: Duration::try_from_secs_f64(arguments.warm)?,
        gate: if arguments.gated { Gate::Kept } else { Gate::Open },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(serde_json::to_string(&runtime.block_on(run.go())?)?)
}
