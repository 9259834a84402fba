//! Opens many connections at once and prints, as one line of JSON, how long they waited for the
//! server's SETTINGS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sconce_benches::storm;
use sconce_benches::target::Target;

/// Opens many connections at once; times are from `connect()` to SETTINGS.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    /// Speak TLS, and trust whom this certificate in PEM has signed.
    #[arg(long)]
    authority: Option<PathBuf>,
    /// Connections to open at once. Both sides need that many descriptors.
    #[arg(long, default_value_t = 3000)]
    connections: usize,
    /// Seconds that a connection may take.
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("connect_storm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let target = match &arguments.authority {
        None => arguments.target.into(),
        Some(authority) => Target::secure(arguments.target, authority)?,
    };
    let patience = Duration::try_from_secs_f64(arguments.patience)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(storm::run(&target, arguments.connections, patience))?;
    Ok(serde_json::to_string(&outcome)?)
}
