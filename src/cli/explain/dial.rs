//! What answers: identity providers, whose keys are fetched anyway, and the driver.

use super::line;
use crate::{
    cli::terminal,
    config::keys::{self, Book},
    proxy::probe,
    route::Cluster,
};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

pub(super) use crate::config::keys::Delivered;

/// Fetches the keys of identity providers, once each.
pub(super) fn fetch(book: &Book) -> Vec<Delivered> {
    runtime().map_or_else(Vec::new, |runtime| runtime.block_on(keys::fill_once(book)))
}

/// Says how the providers have answered; whether all are well.
pub(super) fn providers(told: &mut Vec<String>, all: &[Delivered]) -> bool {
    for provider in all {
        let Delivered { issuer, took, keys } = provider;
        let said = match keys {
            Ok(count) => format!("{issuer} delivers its keys: {count}, in {}", spell(*took)),
            Err(_) => format!("{issuer} does not deliver its keys"),
        };
        line(told, "provider", &said);
    }
    all.iter().all(|provider| provider.keys.is_ok())
}

/// Connects to the driver and waits for its SETTINGS; whether they came.
pub(super) fn driver(told: &mut Vec<String>, cluster: &Cluster, patience: Duration) -> bool {
    let Some(runtime) = runtime() else { return false };
    let address = cluster.driver();
    let (found, took) = runtime.block_on(probe::timed(address, patience));
    let said = match found {
        Ok(()) => format!("{address} is reachable and speaks HTTP/2, in {}", spell(took)),
        Err(reason) => format!("{address} is unreachable ({reason}), after {}", spell(took)),
    };
    line(told, "driver", &said);
    found.is_ok()
}

fn spell(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

fn runtime() -> Option<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.inspect_err(|fault| terminal::complain(format_args!("sconce: {fault}"))).ok()
}
