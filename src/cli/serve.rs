//! `sconce serve`: builds every layer from the bottom up, then waits for signals.
//!
//! The first SIGTERM or SIGINT starts the drain. A second one terminates immediately, with its own
//! exit status if calls were open. SIGHUP reloads the configuration.

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

/// Exit status after a second signal that terminated open calls.
const CALLS_TERMINATED: u8 = 3;
/// Maximum number of teams in the log line about terminated calls.
const TEAMS_LISTED_MAX: usize = 20;

/// Serves until SIGTERM or SIGINT. The exit status is 0 after a drain, 1 if the start failed, and 3
/// if a second signal terminated open calls.
pub(super) fn run(file: &Path, filters: &FilterRegistry) -> ExitCode {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let providers = JwksProviders::default();
    let context = LoadContext { filters: filters.clone(), jwks: providers.clone() };
    let (mut reloader, snapshots) = match Reloader::start(file, &context, metrics.control()) {
        Ok(started) => started,
        Err(errors) => {
            for error in errors {
                terminal::print_error(error);
            }
            return ExitCode::FAILURE;
        }
    };
    let config = reloader.config().clone();
    let format = match config.log.format {
        Format::Json => LogFormat::Json,
        Format::Pretty => LogFormat::Pretty,
    };
    let (_log, level) =
        match log::start(format, config.log.level.level_filter(), &metrics.control()) {
            Ok(started) => started,
            Err(error) => return fail(&error),
        };
    reloader.set_log_level(level);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let served = runtime.block_on(serve(&config, reloader, snapshots, (providers, metrics)));
    runtime.shutdown_background();
    match served {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        Ok(Exit::Terminated) => ExitCode::from(CALLS_TERMINATED),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn Display) -> ExitCode {
    terminal::print_error(format_args!("sconce: {error}"));
    ExitCode::FAILURE
}

/// Result of a run.
enum Exit {
    Drained,
    /// A second signal terminated open calls.
    Terminated,
}

async fn serve(
    config: &Config,
    reloader: Reloader,
    snapshots: SnapshotHandle,
    (providers, metrics): (JwksProviders, Metrics),
) -> io::Result<Exit> {
    let mut signals = Signals::new()?;
    let (address, backlog) = (config.listen.address, config.listen.backlog);
    let listener = explain_bind_error("listen.address", address, proxy::listen(address, backlog))?;
    let admin_listener = TcpListener::bind(config.admin).await;
    let admin_listener = explain_bind_error("admin.address", config.admin, admin_listener)?;
    let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
    let options = Options { workers: config.workers.count() };
    let proxy = Proxy::start(&options, listener, &snapshots, &metrics)?;
    let mut background = JoinSet::new();
    background.spawn(keys::refresh_loop(providers.clone(), metrics.control()));
    let control = metrics.control();
    let state = Arc::new(admin::State::new(metrics, providers.clone()));
    background.spawn(reloader.run());
    background.spawn(log_limit::report());
    background.spawn(proxy::probe::unreachable_drivers(snapshots.clone()));
    background.spawn(reload_on_hangup(signal(SignalKind::hangup())?, snapshots.clone()));
    background.spawn({
        let state = Arc::clone(&state);
        async move { match admin::serve(admin_listener, state).await {} }
    });
    tracing::info!(%address, admin = %admin_address, workers = options.workers, "listening");
    // In a rolling update, an instance without keys must not replace one with keys. But an
    // unreachable provider must not block callers of other providers forever, hence the timeout.
    let first_keys = tokio::time::timeout(config.initial_fetch_timeout, providers.all_fetched());
    if unless_signalled(&mut signals, first_keys).await.is_some() {
        for issuer in providers.issuers_without_keys() {
            tracing::warn!(%issuer, "ready without the keys of an issuer; refusing its tokens");
        }
        state.set_ready();
        signals.next().await;
    }
    state.set_draining();
    let drain = snapshots.load().drain;
    tracing::info!(delay = ?drain.delay, grace = ?drain.grace, "draining");
    let mut end = Exit::Drained;
    if unless_signalled(&mut signals, drain_connections(&proxy, drain, &control)).await.is_none() {
        let (calls, teams) = open_calls(&control);
        tracing::warn!(calls, teams, "second signal; terminating open calls");
        if calls > 0 {
            end = Exit::Terminated;
        }
    }
    tracing::info!("stopped");
    Ok(end)
}

/// Number of open calls, and the number for each environment: `ads/prod 7, ml/lab 1`.
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

/// Reloads the configuration at each SIGHUP. sconce also reloads when files change, but without
/// this handler SIGHUP would end the process.
async fn reload_on_hangup(mut hangup: Signal, snapshots: SnapshotHandle) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reloading the configuration");
        snapshots.request_reload();
    }
}

/// Drains: accepts connections during the delay, sends GOAWAY, and terminates open calls after the
/// grace period.
async fn drain_connections(proxy: &Proxy, drain: Drain, control: &ControlMetrics) {
    tokio::time::sleep(drain.delay).await;
    proxy.shutdown(Shutdown::Drain);
    if tokio::time::timeout(drain.grace, proxy.wait_closed()).await.is_err() {
        let (calls, teams) = open_calls(control);
        tracing::warn!(calls, teams, "drain grace period expired; terminating open calls");
        proxy.shutdown(Shutdown::Terminate);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, proxy.wait_closed()).await;
    }
}

/// Time to write the last responses of a drain.
const FLUSH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// The result of `work`; `None` if a signal arrives first.
async fn unless_signalled<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = signals.next() => None,
    }
}

fn explain_bind_error<T>(key: &str, address: SocketAddr, listener: io::Result<T>) -> io::Result<T> {
    listener.map_err(|error| {
        let is = |kind| error.kind() == kind;
        let help = if is(io::ErrorKind::AddrInUse) {
            "stop the process that uses this port, or set another port"
        } else if is(io::ErrorKind::PermissionDenied) {
            "set a port of 1024 or higher, or grant CAP_NET_BIND_SERVICE"
        } else if is(io::ErrorKind::AddrNotAvailable) {
            "set an address of this host, or 0.0.0.0"
        } else {
            "set another address"
        };
        let what = format!("{key}: cannot listen on {address}: {error}; {help}");
        io::Error::new(error.kind(), what)
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
