//! `sconce serve`: builds every layer from the bottom up, then waits for signals.
//!
//! The first SIGTERM or SIGINT drains, a second one ends at once, with a status of its own if that
//! cut calls. SIGHUP has the files read.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use sconce_filters::FilterRegistry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin;
use crate::cli::terminal;
use crate::config::keys::{self, JwksProviders};
use crate::config::{Config, Drain, Format, LoadContext};
use crate::proxy::{self, Options, Proxy, Shutdown};
use crate::route::{Reloader, SnapshotHandle};
use crate::telemetry::log::{self, LogFormat};
use crate::telemetry::log_limit;
use crate::telemetry::{ControlMetrics, Metrics};

/// The status when a second signal has cut calls.
const CALLS_TERMINATED: u8 = 3;
/// Teams that are named when calls are cut.
const TEAMS_LISTED_MAX: usize = 20;

/// Serves until told to stop. The status is 0 after a drain, 1 when there was nothing to serve or
/// no way to, and 3 when a second signal has cut calls.
pub(super) fn run(file: &Path, filters: &FilterRegistry) -> ExitCode {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let book = JwksProviders::default();
    let context = LoadContext { filters: filters.clone(), jwks: book.clone() };
    let (mut steward, live) = match Reloader::start(file, &context, metrics.control()) {
        Ok(started) => started,
        Err(complaints) => {
            for complaint in complaints {
                terminal::print_error(complaint);
            }
            return ExitCode::FAILURE;
        }
    };
    let plan = steward.config().clone();
    let format = match plan.log.format {
        Format::Json => LogFormat::Json,
        Format::Pretty => LogFormat::Pretty,
    };
    let (_log, level) = match log::start(format, plan.log.level.level_filter(), &metrics.control())
    {
        Ok(started) => started,
        Err(fault) => return fail(&fault),
    };
    steward.set_log_level(level);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(&fault),
    };
    let served = runtime.block_on(serve(&plan, steward, live, (book, metrics)));
    runtime.shutdown_background();
    match served {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        Ok(Exit::Terminated) => ExitCode::from(CALLS_TERMINATED),
        Err(fault) => fail(&fault),
    }
}

fn fail(fault: &dyn Display) -> ExitCode {
    terminal::print_error(format_args!("sconce: {fault}"));
    ExitCode::FAILURE
}

/// How it ended.
enum Exit {
    Drained,
    /// Calls were cut by a second signal.
    Terminated,
}

async fn serve(
    plan: &Config,
    steward: Reloader,
    live: SnapshotHandle,
    (book, metrics): (JwksProviders, Metrics),
) -> io::Result<Exit> {
    let mut signals = Signals::new()?;
    let (address, backlog) = (plan.listen.address, plan.listen.backlog);
    let listener = explain_bind_error("listen.address", address, proxy::listen(address, backlog))?;
    let admin_listener = TcpListener::bind(plan.admin).await;
    let admin_listener = explain_bind_error("admin.address", plan.admin, admin_listener)?;
    let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
    let options = Options { workers: plan.workers.count() };
    let proxy = Proxy::start(&options, listener, &live, &metrics)?;
    let mut background = JoinSet::new();
    background.spawn(keys::refresh_loop(book.clone(), metrics.control()));
    let control = metrics.control();
    let state = Arc::new(admin::State::new(metrics, book.clone()));
    background.spawn(steward.run());
    background.spawn(log_limit::report());
    background.spawn(proxy::probe::unreachable_drivers(live.clone()));
    background.spawn(reload_on_hangup(signal(SignalKind::hangup())?, live.clone()));
    background.spawn({
        let state = Arc::clone(&state);
        async move { match admin::serve(admin_listener, state).await {} }
    });
    tracing::info!(%address, admin = %admin_address, workers = options.workers, "listening");
    // Who is ready without keys replaces others that have them in a rolling update. But a provider
    // that stays away must not keep those out for ever whose proof needs no keys of it.
    let first_keys = tokio::time::timeout(plan.initial_fetch_timeout, book.all_fetched());
    if unless_signalled(&mut signals, first_keys).await.is_some() {
        for issuer in book.issuers_without_keys() {
            tracing::warn!(%issuer, "ready without the keys of an issuer: its tokens are refused");
        }
        state.set_ready();
        signals.next().await;
    }
    state.set_draining();
    let drain = live.load().drain;
    tracing::info!(delay = ?drain.delay, grace = ?drain.grace, "draining");
    let mut end = Exit::Drained;
    if unless_signalled(&mut signals, drain_connections(&proxy, drain, &control)).await.is_none() {
        let (calls, teams) = open_calls(&control);
        tracing::warn!(calls, teams, "a second signal: ending now");
        if calls > 0 {
            end = Exit::Terminated;
        }
    }
    tracing::info!("ended");
    Ok(end)
}

/// How many calls are open, and whose: `ads/prod 7, ml/lab 1`.
fn open_calls(control: &ControlMetrics) -> (u64, String) {
    let open = control.open_calls();
    let calls = open.iter().map(|of| of.calls).sum();
    let named = open.iter().take(TEAMS_LISTED_MAX);
    let named = named.map(|of| format!("{}/{} {}", of.team, of.environment, of.calls));
    let mut teams = named.collect::<Vec<_>>().join(", ");
    if open.len() > TEAMS_LISTED_MAX {
        teams.push_str(", and others");
    }
    (calls, teams)
}

/// Has the files read at each signal. They are read anyway when they change, but who is used to
/// asking must not end the process.
async fn reload_on_hangup(mut hangup: Signal, live: SnapshotHandle) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading the configuration");
        live.request_reload();
    }
}

/// Drains: connections are taken for a while, then asked to go, then ended.
async fn drain_connections(proxy: &Proxy, drain: Drain, control: &ControlMetrics) {
    tokio::time::sleep(drain.delay).await;
    proxy.shutdown(Shutdown::Drain);
    if tokio::time::timeout(drain.grace, proxy.wait_closed()).await.is_err() {
        let (calls, teams) = open_calls(control);
        tracing::warn!(calls, teams, "the grace is over: ending the calls that are left");
        proxy.shutdown(Shutdown::Terminate);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, proxy.wait_closed()).await;
    }
}

/// How long the last answers of a drain may take to be written.
const FLUSH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// `None` when a signal came first.
async fn unless_signalled<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = signals.next() => None,
    }
}

fn explain_bind_error<T>(key: &str, address: SocketAddr, listener: io::Result<T>) -> io::Result<T> {
    listener.map_err(|fault| {
        let is = |kind| fault.kind() == kind;
        let remedy = if is(io::ErrorKind::AddrInUse) {
            "stop what listens there, or write another port"
        } else if is(io::ErrorKind::PermissionDenied) {
            "write a port of 1024 or more, or allow sconce the port (CAP_NET_BIND_SERVICE)"
        } else if is(io::ErrorKind::AddrNotAvailable) {
            "write an address of this machine, or 0.0.0.0"
        } else {
            "write another address"
        };
        let what = format!("{key}: {address} cannot be listened on: {fault}; {remedy}");
        io::Error::new(fault.kind(), what)
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
