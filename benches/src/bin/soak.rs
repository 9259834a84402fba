//! The client of the soak: calls on every cluster, each judged by what is allowed just then.
//!
//! Orders come by standard input, see `sconce_benches::soak::orders`; what is wrong is told on
//! standard output at once, as `wrong` and JSON. It ends when its input does.

use std::io::{BufRead, stdin};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sconce_benches::soak::cluster::{Cluster, World};
use sconce_benches::soak::fleet::{Fleet, Size};
use sconce_benches::soak::orders::Desk;
use tokio::sync::mpsc;

/// Orders that may wait.
const ORDERS_MAX: usize = 64;

/// Loads sconce and judges every call.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where sconce listens.
    #[arg(long)]
    target: SocketAddr,
    /// A cluster that calls are made on, as team/environment; one or more.
    #[arg(long, required = true)]
    cluster: Vec<String>,
    /// Connections that last.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// The mean time between two calls of a lane, in milliseconds.
    #[arg(long, default_value_t = 60)]
    pause: u64,
    /// What the calls are drawn by.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { target, cluster, connections, pause, seed } = arguments;
    let clusters = cluster.iter().map(|name| name.parse::<Cluster>().map(Arc::new));
    let world = Arc::new(World::new(target.into(), clusters.collect::<Result<_, _>>()?));
    let fleet = Fleet::new(Arc::clone(&world), Size { connections, pause, seed });
    let mut desk = Desk::new(world, fleet);
    let (tell, mut orders) = mpsc::channel(ORDERS_MAX);
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while let Some(line) = orders.recv().await {
            desk.obey(&line).await?;
        }
        Ok(())
    })
}
