//! Connections for `explain`: JWKS fetches from identity providers, and `--dial` to the driver.

use super::push_line;
use crate::{
    cli::terminal,
    config::keys::{self, JwksProviders},
    proxy::probe,
    route::Cluster,
};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

pub(super) use crate::config::keys::FetchReport;

/// Fetches the keys of each identity provider once.
pub(super) fn fetch_keys(jwks: &JwksProviders) -> Vec<FetchReport> {
    runtime().map_or_else(Vec::new, |runtime| runtime.block_on(keys::fetch_all_once(jwks)))
}

/// Adds a line for each provider. Returns whether all fetches succeeded.
pub(super) fn report_providers(lines: &mut Vec<String>, all: &[FetchReport]) -> bool {
    for provider in all {
        let FetchReport { issuer, duration: elapsed, keys } = provider;
        let text = match keys {
            Ok(count) => {
                format!("{issuer}: {count} keys fetched in {}", format_millis(*elapsed))
            }
            Err(_) => format!("{issuer}: cannot fetch the keys"),
        };
        push_line(lines, "provider", &text);
    }
    all.iter().all(|provider| provider.keys.is_ok())
}

/// Connects to the driver and waits for its SETTINGS. Returns whether they arrived.
pub(super) fn report_driver(lines: &mut Vec<String>, cluster: &Cluster, timeout: Duration) -> bool {
    let Some(runtime) = runtime() else { return false };
    let address = cluster.driver();
    let (found, elapsed) = runtime.block_on(probe::timed(address, timeout));
    let text = match found {
        Ok(()) => format!("{address} is reachable over HTTP/2, in {}", format_millis(elapsed)),
        Err(reason) => {
            format!("{address} is unreachable ({reason}), after {}", format_millis(elapsed))
        }
    };
    push_line(lines, "driver", &text);
    found.is_ok()
}

fn format_millis(elapsed: Duration) -> String {
    format!("{} ms", elapsed.as_millis())
}

fn runtime() -> Option<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.inspect_err(|error| terminal::print_error(format_args!("sconce: {error}"))).ok()
}
