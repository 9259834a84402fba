//! The identity providers of the live configuration, and their JWKS caches.
//!
//! A cache belongs to an issuer: refresh interval and location may change while calls use it. A
//! configuration that is not live must not change, add or remove keys.

use rustls::pki_types::CertificateDer;
use sconce_filters::authenticate::{Algorithm, JwksCache, KeySet, RefreshCooldown};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The source of the keys of one provider.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksSource {
    /// The issuer, as its tokens spell it.
    pub issuer: String,
    /// The location of its keys.
    pub location: JwksLocation,
    /// Trusted certificate authorities for its TLS; `None` for those of the system.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// The refresh interval.
    pub refresh: Duration,
    /// The signature algorithms of its tokens; empty for all supported algorithms.
    pub algorithms: Vec<Algorithm>,
}

/// The location of keys.
#[derive(Clone, PartialEq, Eq)]
pub enum JwksLocation {
    /// The `jwks_uri` of the provider's discovery document (OpenID Connect Discovery 1.0, 4).
    Discovery,
    /// A URL.
    Url(String),
    /// The keys of a file; never fetched.
    Static(KeySet),
}

impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A source of keys, and the cache for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksProvider {
    /// The source.
    pub source: JwksSource,
    /// The cache.
    pub jwks: Arc<JwksCache>,
}

/// The providers of the live configuration. A clone shares them.
#[derive(Clone, Debug)]
pub struct JwksProviders(Arc<watch::Sender<Vec<ProviderEntry>>>);

#[derive(Clone, Debug)]
struct ProviderEntry {
    provider: JwksProvider,
    /// Whether usable keys have been fetched once; always true for the keys of a file.
    has_keys: bool,
}

impl Default for JwksProviders {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl JwksProviders {
    /// The provider of a source: with the cache of the live provider of its issuer, or with a new
    /// cache. Calls wait for the keys of a new cache, unless the source has keys itself. The live
    /// providers do not change.
    pub fn provider(&self, source: JwksSource) -> JwksProvider {
        let live = self.0.borrow();
        let known = live.iter().find(|entry| entry.provider.source.issuer == source.issuer);
        if let Some(entry) = known {
            return JwksProvider { source, jwks: Arc::clone(&entry.provider.jwks) };
        }
        let jwks = Arc::new(JwksCache::new());
        match &source.location {
            // A call may arrive before the first fetch begins: it waits.
            JwksLocation::Discovery | JwksLocation::Url(_) => jwks.allow_refresh(),
            JwksLocation::Static(keys) => jwks.replace(keys.clone()),
        }
        JwksProvider { source, jwks }
    }

    /// Makes these the live providers. Keys of a new location replace the cached keys when they
    /// have been fetched, keys of a file immediately.
    pub fn set_live(&self, providers: &[JwksProvider]) {
        self.0.send_modify(|live| {
            let removed = live.iter().filter(|entry| {
                let has_cache = |provider: &JwksProvider| provider.jwks == entry.provider.jwks;
                !providers.iter().any(has_cache)
            });
            // Calls of the previous configuration may still use the cache.
            removed.for_each(|entry| entry.provider.jwks.close());
            let entries = providers.iter().map(|provider| {
                let known = live.iter().find(|entry| entry.provider.jwks == provider.jwks);
                let has_keys = match (&provider.source.location, known) {
                    (JwksLocation::Static(keys), Some(entry)) if entry.provider != *provider => {
                        provider.jwks.replace(keys.clone());
                        true
                    }
                    (JwksLocation::Static(_), _) => true,
                    (JwksLocation::Discovery | JwksLocation::Url(_), entry) => {
                        entry.is_some_and(|entry| entry.has_keys)
                    }
                };
                ProviderEntry { provider: provider.clone(), has_keys }
            });
            *live = entries.collect();
        });
    }

    /// A receiver of the providers whose keys are fetched.
    pub(super) fn subscribe(&self) -> ProvidersReceiver {
        ProvidersReceiver(self.0.subscribe())
    }

    /// Records the result of a fetch, and the cooldown if a further fetch will follow. Ignored if
    /// the source is not live any more.
    pub(super) fn record_fetch(
        &self,
        provider: &JwksProvider,
        keys: Option<KeySet>,
        cooldown: Option<RefreshCooldown>,
    ) {
        self.0.send_if_modified(|live| {
            let mut entries = live.iter_mut();
            let Some(entry) = entries.find(|entry| entry.provider == *provider) else {
                return false;
            };
            let algorithms = &entry.provider.source.algorithms;
            let fits = |keys: &KeySet| algorithms.is_empty() || keys.supports_any(algorithms);
            let has_keys = entry.has_keys || keys.as_ref().is_some_and(fits);
            match (keys, cooldown) {
                (keys, Some(cooldown)) => provider.jwks.fetch_finished(keys, cooldown),
                (Some(keys), None) => provider.jwks.replace(keys),
                (None, None) => provider.jwks.close(),
            }
            std::mem::replace(&mut entry.has_keys, has_keys) != has_keys
        });
    }

    /// Completes when usable keys of all live providers have been fetched once.
    pub async fn all_fetched(&self) {
        let mut live = self.0.subscribe();
        // `self` has the sender, so the channel cannot be closed meanwhile.
        let _ = live.wait_for(|live| live.iter().all(|entry| entry.has_keys)).await;
    }

    /// The issuers without usable keys.
    pub fn issuers_without_keys(&self) -> Vec<String> {
        let live = self.0.borrow();
        let missing = live.iter().filter(|entry| !entry.has_keys);
        missing.map(|entry| entry.provider.source.issuer.clone()).collect()
    }
}

/// Observes the live providers.
pub(super) struct ProvidersReceiver(watch::Receiver<Vec<ProviderEntry>>);

impl ProvidersReceiver {
    /// The live providers whose keys are fetched.
    pub(super) fn remote_providers(&mut self) -> Vec<JwksProvider> {
        let live = self.0.borrow_and_update();
        let providers = live.iter().map(|entry| &entry.provider);
        providers
            .filter(|it| !matches!(it.source.location, JwksLocation::Static(_)))
            .cloned()
            .collect()
    }

    /// Completes when the live providers may have changed since the last read.
    pub(super) async fn changed(&mut self) {
        // The reader has a sender as well, so the channel cannot be closed meanwhile.
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keys(kid: &str) -> KeySet {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let key = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#);
        KeySet::from_jwks(&format!(r#"{{"keys":[{key}]}}"#)).unwrap().0
    }

    fn source(issuer: &str, at: JwksLocation, refresh: Duration) -> JwksSource {
        let (issuer, algorithms) = (issuer.to_owned(), vec![Algorithm::parse("EdDSA").unwrap()]);
        JwksSource { issuer, location: at, authorities: None, refresh, algorithms }
    }

    fn at(url: &str) -> JwksSource {
        source("a", JwksLocation::Url(url.to_owned()), SECOND)
    }

    /// The keys of a cache in debug output.
    fn held(jwks: &JwksCache) -> String {
        format!("{jwks:?}")
    }

    #[test]
    fn a_provider_keeps_its_keys_when_interval_or_location_changes() {
        let providers = JwksProviders::default();
        let first = providers.provider(at("one"));
        providers.set_live(std::slice::from_ref(&first));
        providers.record_fetch(&first, Some(keys("k")), None);
        for other in [
            at("two"),
            source("a", JwksLocation::Discovery, SECOND),
            source("a", JwksLocation::Discovery, SECOND * 9),
        ] {
            let provider = providers.provider(other);
            providers.set_live(std::slice::from_ref(&provider));
            assert_eq!(provider.jwks, first.jwks);
            assert!(held(&provider.jwks).contains('k'));
            assert_eq!(providers.subscribe().remote_providers(), [provider]);
        }
        let stranger = providers.provider(source("b", JwksLocation::Discovery, SECOND));
        assert_ne!(stranger.jwks, first.jwks);
    }

    #[test]
    fn a_config_that_is_not_applied_changes_no_provider() {
        let providers = JwksProviders::default();
        let live = providers.provider(source("a", JwksLocation::Static(keys("old")), SECOND));
        providers.set_live(std::slice::from_ref(&live));
        let before = held(&live.jwks);
        providers.provider(source("a", JwksLocation::Static(keys("new")), SECOND));
        providers.provider(at("one"));
        assert_eq!(held(&live.jwks), before);
        assert!(providers.subscribe().remote_providers().is_empty());
    }

    #[test]
    fn keys_of_a_file_apply_at_once_and_keys_of_a_url_after_a_fetch() {
        let providers = JwksProviders::default();
        let follow = |source| {
            let provider = providers.provider(source);
            providers.set_live(std::slice::from_ref(&provider));
            provider
        };
        let holds = |provider: &JwksProvider, kid: &str| held(&provider.jwks).contains(kid);
        let file = follow(source("a", JwksLocation::Static(keys("file")), SECOND));
        assert!(holds(&file, "file"));
        let url = follow(at("url"));
        providers.record_fetch(&url, None, None);
        assert!(holds(&url, "file"), "none have come");
        providers.record_fetch(&url, Some(keys("web")), None);
        assert!(holds(&url, "web") && !holds(&url, "file"));
        let file = follow(source("a", JwksLocation::Static(keys("file")), SECOND));
        assert!(holds(&file, "file") && !holds(&file, "web"));
        providers.record_fetch(&url, Some(keys("web")), None);
        assert!(holds(&file, "file"), "an attempt that ends late counts for nothing");
    }

    #[test]
    fn an_issuer_has_no_keys_until_usable_keys_were_fetched() {
        let providers = JwksProviders::default();
        let file = providers.provider(source("file", JwksLocation::Static(keys("k")), SECOND));
        let ours = providers.provider(at("one"));
        let other = Algorithm::parse("RS256").unwrap();
        let unfit =
            JwksSource { algorithms: vec![other], ..source("b", JwksLocation::Discovery, SECOND) };
        let unfit = providers.provider(unfit);
        providers.set_live(&[file.clone(), ours.clone(), unfit.clone()]);
        assert_eq!(providers.issuers_without_keys(), ["a", "b"]);
        providers.record_fetch(&ours, None, None);
        assert_eq!(providers.issuers_without_keys(), ["a", "b"], "an attempt that failed is none");
        providers.record_fetch(&ours, Some(keys("k")), None);
        providers.record_fetch(&unfit, Some(keys("k")), None);
        assert_eq!(providers.issuers_without_keys(), ["b"], "no token of b could be verified");
        providers.record_fetch(&ours, None, None);
        providers.set_live(&[file, providers.provider(at("two"))]);
        assert_eq!(
            providers.issuers_without_keys(),
            [""; 0],
            "one fetch is enough, and a removed issuer does not count"
        );
    }

    #[test]
    fn a_removed_provider_is_not_fetched_while_a_call_uses_its_cache() {
        let providers = JwksProviders::default();
        let removed = providers.provider(at("one"));
        providers.set_live(std::slice::from_ref(&removed));
        providers.set_live(&[]);
        assert!(providers.subscribe().remote_providers().is_empty());
        assert_ne!(providers.provider(at("one")).jwks, removed.jwks);
    }
}
