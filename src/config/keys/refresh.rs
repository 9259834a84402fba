//! The keeper: fetches keys when they are due, or when a call has met one that it does not know.

use crate::config::keys::{JwksProvider, JwksProviders, fetch};
use crate::telemetry::{ControlMetrics, IssuerMetrics};
use sconce_filters::authenticate::{JwksCache, KeySet, RefreshCooldown};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{task::JoinSet, time};

/// No provider is asked again sooner, however many unknown keys are met.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// How long to wait after the first failure in a row; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_secs(10);

/// A provider whose keys are fetched, until this is dropped.
struct RefreshTask {
    provider: JwksProvider,
    metrics: Arc<IssuerMetrics>,
    _task: JoinSet<()>,
}

/// Keeps the rings of a book filled. Never ends.
pub async fn refresh_loop(book: JwksProviders, metrics: ControlMetrics) {
    let mut live = book.subscribe();
    let mut kept: Vec<RefreshTask> = Vec::new();
    loop {
        let mut before = kept;
        let keep = |provider: JwksProvider| {
            let known = before.iter().position(|it| it.provider.jwks == provider.jwks);
            let told = match known.map(|at| before.swap_remove(at)) {
                Some(same) if same.provider == provider => return same,
                Some(other) => other.metrics,
                None => metrics.register_issuer(&provider.source.issuer),
            };
            told.set_refresh_interval(provider.source.refresh);
            let mut task = JoinSet::new();
            task.spawn(refresh_provider(
                book.clone(),
                provider.clone(),
                Arc::clone(&told),
                metrics.clone(),
            ));
            RefreshTask { provider, metrics: told, _task: task }
        };
        kept = live.remote_providers().into_iter().map(keep).collect();
        live.changed().await;
    }
}

/// How a provider has answered.
#[derive(Clone, Debug)]
pub struct FetchReport {
    /// The provider, as its tokens spell it.
    pub issuer: String,
    /// How long that took.
    pub duration: Duration,
    /// How many keys there are, or what went wrong.
    pub keys: Result<usize, String>,
}

impl FetchReport {
    /// What went wrong, in a sentence.
    pub fn error(&self) -> Option<String> {
        let what = self.keys.as_ref().err()?;
        Some(format!("the keys of {} are not there: {what}", self.issuer))
    }
}

/// Fetches the keys of all providers once, but for those in files.
#[expect(clippy::disallowed_methods, reason = "whoever asks wants to know the time")]
pub async fn fetch_all_once(book: &JwksProviders) -> Vec<FetchReport> {
    let mut tasks = JoinSet::new();
    for provider in book.subscribe().remote_providers() {
        let book = book.clone();
        tasks.spawn(async move {
            let began = Instant::now();
            let fetched = fetch(&provider.source).await.map(|(keys, _)| keys);
            let keys = fetched.as_ref().map(KeySet::count).map_err(Clone::clone);
            let (issuer, took) = (provider.source.issuer.clone(), began.elapsed());
            book.record_fetch(&provider, fetched.ok(), None);
            FetchReport { issuer, duration: took, keys }
        });
    }
    tasks.join_all().await
}

/// Fills the ring of a provider. Never ends.
#[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
async fn refresh_provider(
    book: JwksProviders,
    provider: JwksProvider,
    told: Arc<IssuerMetrics>,
    metrics: ControlMetrics,
) {
    let JwksProvider { source, jwks: ring } = &provider;
    let issuer = &source.issuer;
    let (mut failures, mut known_unfit) = (0_u32, Vec::new());
    loop {
        // Calls that come before the first keys wait for them.
        ring.allow_refresh();
        ring.fetch_started();
        let fetched = fetch(source).await;
        metrics.jwks_fetched(fetched.is_ok());
        let keys = match fetched {
            Ok((keys, passed_over)) => {
                let count = keys.count();
                tracing::debug!(%issuer, count, "keys fetched");
                if failures > 0 {
                    tracing::info!(%issuer, count, failures, "keys fetched again");
                }
                // They are much the same each time: only what is new is worth a warning.
                if passed_over != known_unfit && !passed_over.is_empty() {
                    tracing::warn!(%issuer, ?passed_over, "some of the keys cannot be used");
                }
                known_unfit = passed_over;
                told.record_fetch(SystemTime::now());
                failures = 0;
                Some(keys)
            }
            Err(what) => {
                if ring.has_keys() {
                    tracing::warn!(%issuer, %what, "keys not fetched: those there are stay");
                } else {
                    let said = "keys not fetched: there are none yet, calls are refused";
                    tracing::warn!(%issuer, %what, "{said}");
                }
                failures = failures.saturating_add(1);
                None
            }
        };
        let pause = delay_after(source.refresh, failures);
        let shut =
            RefreshCooldown { started_at: Instant::now(), duration: FETCH_INTERVAL_MIN.min(pause) };
        book.record_fetch(&provider, keys, Some(shut));
        wait_for_refresh(ring, pause).await;
    }
}

fn delay_after(refresh: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => refresh,
        Some(more) => BACKOFF_MIN.saturating_mul(1 << more.min(6)).min(refresh),
    }
}

/// Waits for so long, or until a call asks for other keys, which none may before the floor.
async fn wait_for_refresh(ring: &JwksCache, pause: Duration) {
    time::sleep(FETCH_INTERVAL_MIN.min(pause)).await;
    let left = pause.saturating_sub(FETCH_INTERVAL_MIN);
    if !left.is_zero() {
        ring.allow_refresh();
        // Either is a reason to fetch.
        let _ = time::timeout(left, ring.refresh_requested()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_tried_again_ever_more_slowly_but_no_more_so_than_in_good_times() {
        let refresh = Duration::from_secs(600);
        let pauses: Vec<_> =
            (0..9).map(|failures| delay_after(refresh, failures).as_secs()).collect();
        assert_eq!(pauses, [600, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}
