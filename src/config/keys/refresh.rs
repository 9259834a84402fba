//! Refreshes JWKS caches: at intervals, and when a call has an unknown key.

use crate::config::keys::{JwksProvider, JwksProviders, fetch};
use crate::telemetry::{ControlMetrics, IssuerMetrics};
use sconce_filters::authenticate::{JwksCache, KeySet, RefreshCooldown};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{task::JoinSet, time};

/// Minimum interval between two fetches of a provider, however many unknown keys arrive.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Delay after the first failed fetch; each further failure doubles it.
const BACKOFF_MIN: Duration = Duration::from_secs(10);

/// The log message of a failed fetch if no earlier one has succeeded.
const NO_KEYS: &str = "JWKS refresh failed; no keys are cached, tokens of this issuer are refused";

/// A provider and the task that refreshes its keys. Dropping it stops the task.
struct RefreshTask {
    provider: JwksProvider,
    metrics: Arc<IssuerMetrics>,
    _task: JoinSet<()>,
}

/// Refreshes the caches of all live providers. Never returns.
pub async fn refresh_loop(providers: JwksProviders, metrics: ControlMetrics) {
    let mut live = providers.subscribe();
    let mut tasks: Vec<RefreshTask> = Vec::new();
    loop {
        let mut running = tasks;
        let start = |provider: JwksProvider| {
            let known = running.iter().position(|it| it.provider.jwks == provider.jwks);
            let issuer_metrics = match known.map(|at| running.swap_remove(at)) {
                Some(same) if same.provider == provider => return same,
                Some(other) => other.metrics,
                None => metrics.register_issuer(&provider.source.issuer),
            };
            issuer_metrics.set_refresh_interval(provider.source.refresh);
            let mut task = JoinSet::new();
            task.spawn(refresh_provider(
                providers.clone(),
                provider.clone(),
                Arc::clone(&issuer_metrics),
                metrics.clone(),
            ));
            RefreshTask { provider, metrics: issuer_metrics, _task: task }
        };
        tasks = live.remote_providers().into_iter().map(start).collect();
        live.changed().await;
    }
}

/// The result of one fetch.
#[derive(Clone, Debug)]
pub struct FetchReport {
    /// The issuer.
    pub issuer: String,
    /// The duration of the fetch.
    pub duration: Duration,
    /// The number of keys, or the error.
    pub keys: Result<usize, String>,
}

impl FetchReport {
    /// The error in one sentence.
    pub fn error(&self) -> Option<String> {
        let error = self.keys.as_ref().err()?;
        Some(format!("no keys of {}: {error}", self.issuer))
    }
}

/// Fetches the keys of all providers once, except for keys in files.
#[expect(clippy::disallowed_methods, reason = "measures the fetch")]
pub async fn fetch_all_once(providers: &JwksProviders) -> Vec<FetchReport> {
    let mut tasks = JoinSet::new();
    for provider in providers.subscribe().remote_providers() {
        let providers = providers.clone();
        tasks.spawn(async move {
            let began = Instant::now();
            let fetched = fetch(&provider.source).await.map(|(keys, _)| keys);
            let keys = fetched.as_ref().map(KeySet::count).map_err(Clone::clone);
            let (issuer, duration) = (provider.source.issuer.clone(), began.elapsed());
            providers.record_fetch(&provider, fetched.ok(), None);
            FetchReport { issuer, duration, keys }
        });
    }
    tasks.join_all().await
}

/// Refreshes the cache of one provider. Never returns.
#[expect(clippy::disallowed_methods, reason = "this is a loop that owns its clock")]
async fn refresh_provider(
    providers: JwksProviders,
    provider: JwksProvider,
    issuer_metrics: Arc<IssuerMetrics>,
    metrics: ControlMetrics,
) {
    let JwksProvider { source, jwks } = &provider;
    let issuer = &source.issuer;
    let (mut failures, mut known_skipped) = (0_u32, Vec::new());
    loop {
        // Calls that arrive before the first keys wait for them.
        jwks.allow_refresh();
        jwks.fetch_started();
        let fetched = fetch(source).await;
        metrics.jwks_fetched(fetched.is_ok());
        let keys = match fetched {
            Ok((keys, skipped)) => {
                let count = keys.count();
                tracing::debug!(%issuer, count, "JWKS fetched");
                if failures > 0 {
                    tracing::info!(%issuer, count, failures, "JWKS refresh succeeded again");
                }
                // Most fetches skip the same keys: only a change is logged.
                if skipped != known_skipped && !skipped.is_empty() {
                    tracing::warn!(%issuer, ?skipped, "JWKS keys skipped");
                }
                known_skipped = skipped;
                issuer_metrics.record_fetch(SystemTime::now());
                failures = 0;
                Some(keys)
            }
            Err(error) => {
                if jwks.has_keys() {
                    tracing::warn!(%issuer, %error, "JWKS refresh failed; keeping the cached keys");
                } else {
                    tracing::warn!(%issuer, %error, "{NO_KEYS}");
                }
                failures = failures.saturating_add(1);
                None
            }
        };
        let delay = delay_after(source.refresh, failures);
        let cooldown =
            RefreshCooldown { started_at: Instant::now(), duration: FETCH_INTERVAL_MIN.min(delay) };
        providers.record_fetch(&provider, keys, Some(cooldown));
        wait_for_refresh(jwks, delay).await;
    }
}

fn delay_after(refresh: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => refresh,
        Some(more) => BACKOFF_MIN.saturating_mul(1 << more.min(6)).min(refresh),
    }
}

/// Waits for the delay, or until a call requests a refresh after the minimum interval.
async fn wait_for_refresh(jwks: &JwksCache, delay: Duration) {
    time::sleep(FETCH_INTERVAL_MIN.min(delay)).await;
    let left = delay.saturating_sub(FETCH_INTERVAL_MIN);
    if !left.is_zero() {
        jwks.allow_refresh();
        // Both the delay and a request lead to a fetch.
        let _ = time::timeout(left, jwks.refresh_requested()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_back_off_up_to_the_refresh_interval() {
        let refresh = Duration::from_secs(600);
        let delays: Vec<_> =
            (0..9).map(|failures| delay_after(refresh, failures).as_secs()).collect();
        assert_eq!(delays, [600, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}
