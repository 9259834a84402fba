//! What answers: identity providers, whose keys are fetched anyway, and the driver.

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

/// Fetches the keys of identity providers, once each.
pub(super) fn fetch_keys(book: &JwksProviders) -> Vec<FetchReport> {
    runtime().map_or_else(Vec::new, |runtime| runtime.block_on(keys::fetch_all_once(book)))
}

/// Says how the providers have answered; whether all are well.
pub(super) fn report_providers(told: &mut Vec<String>, all: &[FetchReport]) -> bool {
    for provider in all {
        let FetchReport { issuer, duration: took, keys } = provider;
        let said = match keys {
            Ok(count) => {
                format!("{issuer} delivers its keys: {count}, in {}", format_millis(*took))
            }
            Err(_) => format!("{issuer} does not deliver its keys"),
        };
        push_line(told, "provider", &said);
    }
    all.iter().all(|provider| provider.keys.is_ok())
}

/// Connects to the driver and waits for its SETTINGS; whether they came.
pub(super) fn report_driver(told: &mut Vec<String>, cluster: &Cluster, patience: Duration) -> bool {
    let Some(runtime) = runtime() else { return false };
    let address = cluster.driver();
    let (found, took) = runtime.block_on(probe::timed(address, patience));
    let said = match found {
        Ok(()) => format!("{address} is reachable and speaks HTTP/2, in {}", format_millis(took)),
        Err(reason) => {
            format!("{address} is unreachable ({reason}), after {}", format_millis(took))
        }
    };
    push_line(told, "driver", &said);
    found.is_ok()
}

fn format_millis(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

fn runtime() -> Option<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.inspect_err(|fault| terminal::print_error(format_args!("sconce: {fault}"))).ok()
}
