//! Which ring belongs to which provider.
//!
//! A ring is known by its issuer: how often its keys are fetched, and from where, may change while
//! calls use it. Must never happen here: keys that change, come or go by a reading of the files
//! which nobody has made the live plan.

use rustls::pki_types::CertificateDer;
use sconce_filters::authenticate::{Algorithm, JwksCache, KeySet, RefreshCooldown};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Where the keys of one provider come from.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksSource {
    /// The provider, as its tokens spell it.
    pub issuer: String,
    /// Where its keys are.
    pub location: JwksLocation,
    /// Whom to trust when it is asked by TLS; whom the system trusts, if nobody is named.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// How often they are fetched.
    pub refresh: Duration,
    /// What its tokens may be signed with; all that is known, if nothing is named.
    pub algorithms: Vec<Algorithm>,
}

/// Where keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum JwksLocation {
    /// Where the provider's own document says (OpenID Connect Discovery 1.0, 4).
    Discovery,
    /// At a URL.
    Url(String),
    /// Here: they stood in a file.
    Static(KeySet),
}

impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A source of keys, and the ring that they are put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksProvider {
    /// Where they come from.
    pub source: JwksSource,
    /// Where they go.
    pub jwks: Arc<JwksCache>,
}

/// The providers of the live plan. A clone is the same book.
#[derive(Clone, Debug)]
pub struct JwksProviders(Arc<watch::Sender<Vec<ProviderEntry>>>);

#[derive(Clone, Debug)]
struct ProviderEntry {
    provider: JwksProvider,
    /// Whether keys that fit its algorithms have come once; true where they stood in a file.
    has_keys: bool,
}

impl Default for JwksProviders {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl JwksProviders {
    /// The provider of a source: the live one of its issuer has its ring already; another gets one
    /// for which calls wait, unless the source brings the keys along. Nothing becomes live by this.
    pub fn provider(&self, source: JwksSource) -> JwksProvider {
        let live = self.0.borrow();
        let known = live.iter().find(|page| page.provider.source.issuer == source.issuer);
        if let Some(page) = known {
            return JwksProvider { source, jwks: Arc::clone(&page.provider.jwks) };
        }
        let ring = Arc::new(JwksCache::new());
        match &source.location {
            // A call may come before whoever fetches has heard of the ring: it waits.
            JwksLocation::Discovery | JwksLocation::Url(_) => ring.allow_refresh(),
            JwksLocation::Static(keys) => ring.replace(keys.clone()),
        }
        JwksProvider { source, jwks: ring }
    }

    /// Makes these the providers of the live plan. Keys that are to be fetched from another place
    /// replace those there are once they have come, and those of a file at once.
    pub fn set_live(&self, providers: &[JwksProvider]) {
        self.0.send_modify(|live| {
            let gone = live.iter().filter(|page| {
                let is_its = |provider: &JwksProvider| provider.jwks == page.provider.jwks;
                !providers.iter().any(is_its)
            });
            // Nobody fetches for those calls any more that still know it.
            gone.for_each(|page| page.provider.jwks.close());
            let pages = providers.iter().map(|provider| {
                let known = live.iter().find(|page| page.provider.jwks == provider.jwks);
                let has_keys = match (&provider.source.location, known) {
                    (JwksLocation::Static(keys), Some(page)) if page.provider != *provider => {
                        provider.jwks.replace(keys.clone());
                        true
                    }
                    (JwksLocation::Static(_), _) => true,
                    (JwksLocation::Discovery | JwksLocation::Url(_), page) => {
                        page.is_some_and(|page| page.has_keys)
                    }
                };
                ProviderEntry { provider: provider.clone(), has_keys }
            });
            *live = pages.collect();
        });
    }

    /// Who is told of the providers whose keys are fetched.
    pub(super) fn subscribe(&self) -> ProvidersReceiver {
        ProvidersReceiver(self.0.subscribe())
    }

    /// What came of an attempt to fetch the keys of a provider, and how long it is until the next
    /// one, if there will be one. It counts for nothing if the source is not the live one any more.
    pub(super) fn record_fetch(
        &self,
        provider: &JwksProvider,
        keys: Option<KeySet>,
        rest: Option<RefreshCooldown>,
    ) {
        self.0.send_if_modified(|live| {
            let mut pages = live.iter_mut();
            let Some(page) = pages.find(|page| page.provider == *provider) else { return false };
            let algorithms = &page.provider.source.algorithms;
            let fits = |keys: &KeySet| algorithms.is_empty() || keys.supports_any(algorithms);
            let has_keys = page.has_keys || keys.as_ref().is_some_and(fits);
            match (keys, rest) {
                (keys, Some(rest)) => provider.jwks.fetch_finished(keys, rest),
                (Some(keys), None) => provider.jwks.replace(keys),
                (None, None) => provider.jwks.close(),
            }
            std::mem::replace(&mut page.has_keys, has_keys) != has_keys
        });
    }

    /// Ends when usable keys of each live provider have come once.
    pub async fn all_fetched(&self) {
        let mut live = self.0.subscribe();
        // The sender is `self`: the channel cannot be closed meanwhile.
        let _ = live.wait_for(|live| live.iter().all(|page| page.has_keys)).await;
    }

    /// The issuers whose usable keys have not come yet.
    pub fn issuers_without_keys(&self) -> Vec<String> {
        let live = self.0.borrow();
        let missing = live.iter().filter(|page| !page.has_keys);
        missing.map(|page| page.provider.source.issuer.clone()).collect()
    }
}

/// Who is told whenever the live providers change.
pub(super) struct ProvidersReceiver(watch::Receiver<Vec<ProviderEntry>>);

impl ProvidersReceiver {
    /// The live providers whose keys are fetched.
    pub(super) fn remote_providers(&mut self) -> Vec<JwksProvider> {
        let live = self.0.borrow_and_update();
        let providers = live.iter().map(|page| &page.provider);
        providers
            .filter(|it| !matches!(it.source.location, JwksLocation::Static(_)))
            .cloned()
            .collect()
    }

    /// Ends when they may have changed since they were asked for.
    pub(super) async fn changed(&mut self) {
        // Whoever reads holds the book as well: the channel cannot be closed meanwhile.
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

    /// What a ring holds, as a person would see it.
    fn held(ring: &JwksCache) -> String {
        format!("{ring:?}")
    }

    #[test]
    fn a_provider_keeps_its_keys_however_often_and_from_where_they_are_fetched() {
        let book = JwksProviders::default();
        let first = book.provider(at("one"));
        book.set_live(std::slice::from_ref(&first));
        book.record_fetch(&first, Some(keys("k")), None);
        for other in [
            at("two"),
            source("a", JwksLocation::Discovery, SECOND),
            source("a", JwksLocation::Discovery, SECOND * 9),
        ] {
            let provider = book.provider(other);
            book.set_live(std::slice::from_ref(&provider));
            assert_eq!(provider.jwks, first.jwks);
            assert!(held(&provider.jwks).contains('k'));
            assert_eq!(book.subscribe().remote_providers(), [provider]);
        }
        let stranger = book.provider(source("b", JwksLocation::Discovery, SECOND));
        assert_ne!(stranger.jwks, first.jwks);
    }

    #[test]
    fn a_reading_that_does_not_become_live_changes_nothing() {
        let book = JwksProviders::default();
        let live = book.provider(source("a", JwksLocation::Static(keys("old")), SECOND));
        book.set_live(std::slice::from_ref(&live));
        let before = held(&live.jwks);
        book.provider(source("a", JwksLocation::Static(keys("new")), SECOND));
        book.provider(at("one"));
        assert_eq!(held(&live.jwks), before);
        assert!(book.subscribe().remote_providers().is_empty());
    }

    #[test]
    fn the_keys_of_a_file_count_at_once_and_those_of_a_url_once_they_have_come() {
        let book = JwksProviders::default();
        let follow = |source| {
            let provider = book.provider(source);
            book.set_live(std::slice::from_ref(&provider));
            provider
        };
        let holds = |provider: &JwksProvider, kid: &str| held(&provider.jwks).contains(kid);
        let file = follow(source("a", JwksLocation::Static(keys("file")), SECOND));
        assert!(holds(&file, "file"));
        let url = follow(at("url"));
        book.record_fetch(&url, None, None);
        assert!(holds(&url, "file"), "none have come");
        book.record_fetch(&url, Some(keys("web")), None);
        assert!(holds(&url, "web") && !holds(&url, "file"));
        let file = follow(source("a", JwksLocation::Static(keys("file")), SECOND));
        assert!(holds(&file, "file") && !holds(&file, "web"));
        book.record_fetch(&url, Some(keys("web")), None);
        assert!(holds(&file, "file"), "an attempt that ends late counts for nothing");
    }

    #[test]
    fn an_issuer_is_missing_until_keys_that_fit_its_algorithms_have_come_once() {
        let book = JwksProviders::default();
        let file = book.provider(source("file", JwksLocation::Static(keys("k")), SECOND));
        let ours = book.provider(at("one"));
        let other = Algorithm::parse("RS256").unwrap();
        let unfit =
            JwksSource { algorithms: vec![other], ..source("b", JwksLocation::Discovery, SECOND) };
        let unfit = book.provider(unfit);
        book.set_live(&[file.clone(), ours.clone(), unfit.clone()]);
        assert_eq!(book.issuers_without_keys(), ["a", "b"]);
        book.record_fetch(&ours, None, None);
        assert_eq!(book.issuers_without_keys(), ["a", "b"], "an attempt that failed is none");
        book.record_fetch(&ours, Some(keys("k")), None);
        book.record_fetch(&unfit, Some(keys("k")), None);
        assert_eq!(book.issuers_without_keys(), ["b"], "no token of b could be verified");
        book.record_fetch(&ours, None, None);
        book.set_live(&[file, book.provider(at("two"))]);
        assert_eq!(
            book.issuers_without_keys(),
            [""; 0],
            "once is enough, and who is gone is not waited for"
        );
    }

    #[test]
    fn a_provider_that_no_live_plan_names_is_not_fetched_though_a_call_knows_it() {
        let book = JwksProviders::default();
        let gone = book.provider(at("one"));
        book.set_live(std::slice::from_ref(&gone));
        book.set_live(&[]);
        assert!(book.subscribe().remote_providers().is_empty());
        assert_ne!(book.provider(at("one")).jwks, gone.jwks);
    }
}
