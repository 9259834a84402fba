//! The keeper: fetches keys when they are due, or when a call has met one that it does not know.

use crate::config::keys::{Book, Source, fetch};
use crate::telemetry::ControlMetrics;
use sconce_filters::authenticate::KeyRing;
use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};
use tokio::{task::JoinSet, time};

/// No provider is asked again sooner, however many unknown keys are met.
const FLOOR: Duration = Duration::from_secs(10);
/// How long to wait after the first failure in a row; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(10);
/// How long a ring that no plan uses any more may live on.
const SLICE: Duration = Duration::from_secs(30);

/// Keeps the rings of a book filled. Never ends.
pub async fn keep(book: Book, metrics: ControlMetrics) {
    let mut tasks = JoinSet::new();
    loop {
        for (source, ring) in book.take() {
            let ring = Arc::downgrade(&ring);
            tasks.spawn(fill(book.clone(), source, ring, metrics.clone()));
        }
        tokio::select! {
            () = book.added() => {}
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Fetches the keys of all sources once; what went wrong, for those that could not be fetched.
pub async fn fill_once(book: &Book) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for (source, ring) in book.take() {
        tasks.spawn(async move {
            let fetched = fetch(&source).await.map(|(keys, _)| ring.replace(keys));
            fetched.map_err(|what| {
                ring.settled();
                format!("the keys of {} are not there: {what}", source.issuer)
            })
        });
    }
    tasks.join_all().await.into_iter().filter_map(Result::err).collect()
}

/// Fills one ring until nobody uses it any more.
async fn fill(book: Book, source: Source, ring: Weak<KeyRing>, metrics: ControlMetrics) {
    let told = metrics.issuer(&source.issuer);
    let mut failures = 0_u32;
    let mut is_tried = false;
    while let Some(live) = ring.upgrade() {
        // Calls that come before the first keys wait for them.
        live.open();
        let fetched = fetch(&source).await;
        metrics.keys_fetched(fetched.is_ok());
        failures = match fetched {
            Ok((keys, passed_over)) => {
                let (issuer, count) = (&source.issuer, keys.count());
                tracing::debug!(%issuer, count, ?passed_over, "keys fetched");
                live.replace(keys);
                told.fetched(SystemTime::now());
                0
            }
            Err(what) => {
                let issuer = &source.issuer;
                tracing::warn!(%issuer, %what, "keys not fetched: those there are stay");
                live.settled();
                failures.saturating_add(1)
            }
        };
        if !std::mem::replace(&mut is_tried, true) {
            book.tried();
        }
        drop(live);
        rest(&ring, pause(source.refresh, failures)).await;
    }
    if !is_tried {
        book.tried();
    }
}

fn pause(refresh: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => refresh,
        Some(more) => BACKOFF.saturating_mul(1 << more.min(6)).min(refresh),
    }
}

/// Waits for so long, or until a call asks for other keys, which none may before the floor.
async fn rest(ring: &Weak<KeyRing>, pause: Duration) {
    time::sleep(FLOOR.min(pause)).await;
    let mut left = pause.saturating_sub(FLOOR);
    while !left.is_zero() {
        // In slices, and not held between them: a ring that no plan uses any more is let go.
        let Some(live) = ring.upgrade() else { return };
        let slice = left.min(SLICE);
        live.open();
        if time::timeout(slice, live.wanted()).await.is_ok() {
            return;
        }
        left = left.saturating_sub(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_tried_again_ever_more_slowly_but_no_more_so_than_in_good_times() {
        let refresh = Duration::from_secs(600);
        let pauses: Vec<_> = (0..9).map(|failures| pause(refresh, failures).as_secs()).collect();
        assert_eq!(pauses, [600, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}
