//! Which ring belongs to which provider.
//!
//! A ring is known by its issuer: how often its keys are fetched, and from where, may change while
//! calls use it. Must never happen here: keys that change, come or go by a reading of the files
//! which nobody has made the live plan.

use rustls::pki_types::CertificateDer;
use sconce_filters::authenticate::{Algorithm, KeyRing, KeySet, Rest};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Where the keys of one provider come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The provider, as its tokens spell it.
    pub issuer: String,
    /// Where its keys are.
    pub at: At,
    /// Whom to trust when it is asked by TLS; whom the system trusts, if nobody is named.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// How often they are fetched.
    pub refresh: Duration,
    /// What its tokens may be signed with; all that is known, if nothing is named.
    pub algorithms: Vec<Algorithm>,
}

/// Where keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum At {
    /// Where the provider's own document says (OpenID Connect Discovery 1.0, 4).
    Discovery,
    /// At a URL.
    Url(String),
    /// Here: they stood in a file.
    Here(KeySet),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A source of keys, and the ring that they are put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Where they come from.
    pub source: Source,
    /// Where they go.
    pub ring: Arc<KeyRing>,
}

/// The providers of the live plan. A clone is the same book.
#[derive(Clone, Debug)]
pub struct Book(Arc<watch::Sender<Vec<Page>>>);

#[derive(Clone, Debug)]
struct Page {
    provider: Provider,
    /// Whether keys that fit its algorithms have come once; true where they stood in a file.
    has_keys: bool,
}

impl Default for Book {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Book {
    /// The provider of a source: the live one of its issuer has its ring already; another gets one
    /// for which calls wait, unless the source brings the keys along. Nothing becomes live by this.
    pub fn provider(&self, source: Source) -> Provider {
        let live = self.0.borrow();
        let known = live.iter().find(|page| page.provider.source.issuer == source.issuer);
        if let Some(page) = known {
            return Provider { source, ring: Arc::clone(&page.provider.ring) };
        }
        let ring = Arc::new(KeyRing::new());
        match &source.at {
            // A call may come before whoever fetches has heard of the ring: it waits.
            At::Discovery | At::Url(_) => ring.open(),
            At::Here(keys) => ring.replace(keys.clone()),
        }
        Provider { source, ring }
    }

    /// Makes these the providers of the live plan. Keys that are to be fetched from another place
    /// replace those there are once they have come, and those of a file at once.
    pub fn follow(&self, providers: &[Provider]) {
        self.0.send_modify(|live| {
            let gone = live.iter().filter(|page| {
                let is_its = |provider: &Provider| provider.ring == page.provider.ring;
                !providers.iter().any(is_its)
            });
            // Nobody fetches for those calls any more that still know it.
            gone.for_each(|page| page.provider.ring.settled());
            let pages = providers.iter().map(|provider| {
                let known = live.iter().find(|page| page.provider.ring == provider.ring);
                let has_keys = match (&provider.source.at, known) {
                    (At::Here(keys), Some(page)) if page.provider != *provider => {
                        provider.ring.replace(keys.clone());
                        true
                    }
                    (At::Here(_), _) => true,
                    (At::Discovery | At::Url(_), page) => page.is_some_and(|page| page.has_keys),
                };
                Page { provider: provider.clone(), has_keys }
            });
            *live = pages.collect();
        });
    }

    /// Who is told of the providers whose keys are fetched.
    pub(super) fn reader(&self) -> Reader {
        Reader(self.0.subscribe())
    }

    /// What came of an attempt to fetch the keys of a provider, and how long it is until the next
    /// one, if there will be one. It counts for nothing if the source is not the live one any more.
    pub(super) fn tried(&self, provider: &Provider, keys: Option<KeySet>, rest: Option<Rest>) {
        self.0.send_if_modified(|live| {
            let mut pages = live.iter_mut();
            let Some(page) = pages.find(|page| page.provider == *provider) else { return false };
            let algorithms = &page.provider.source.algorithms;
            let fits = |keys: &KeySet| algorithms.is_empty() || keys.fits(algorithms);
            let has_keys = page.has_keys || keys.as_ref().is_some_and(fits);
            match (keys, rest) {
                (keys, Some(rest)) => provider.ring.ended(keys, rest),
                (Some(keys), None) => provider.ring.replace(keys),
                (None, None) => provider.ring.settled(),
            }
            std::mem::replace(&mut page.has_keys, has_keys) != has_keys
        });
    }

    /// Ends when usable keys of each live provider have come once.
    pub async fn delivered(&self) {
        let mut live = self.0.subscribe();
        // The sender is `self`: the channel cannot be closed meanwhile.
        let _ = live.wait_for(|live| live.iter().all(|page| page.has_keys)).await;
    }

    /// The issuers whose usable keys have not come yet.
    pub fn missing(&self) -> Vec<String> {
        let live = self.0.borrow();
        let missing = live.iter().filter(|page| !page.has_keys);
        missing.map(|page| page.provider.source.issuer.clone()).collect()
    }
}

/// Who is told whenever the live providers change.
pub(super) struct Reader(watch::Receiver<Vec<Page>>);

impl Reader {
    /// The live providers whose keys are fetched.
    pub(super) fn fetched(&mut self) -> Vec<Provider> {
        let live = self.0.borrow_and_update();
        let providers = live.iter().map(|page| &page.provider);
        providers.filter(|it| !matches!(it.source.at, At::Here(_))).cloned().collect()
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

    fn source(issuer: &str, at: At, refresh: Duration) -> Source {
        let (issuer, algorithms) = (issuer.to_owned(), vec![Algorithm::parse("EdDSA").unwrap()]);
        Source { issuer, at, authorities: None, refresh, algorithms }
    }

    fn at(url: &str) -> Source {
        source("a", At::Url(url.to_owned()), SECOND)
    }

    /// What a ring holds, as a person would see it.
    fn held(ring: &KeyRing) -> String {
        format!("{ring:?}")
    }

    #[test]
    fn a_provider_keeps_its_keys_however_often_and_from_where_they_are_fetched() {
        let book = Book::default();
        let first = book.provider(at("one"));
        book.follow(std::slice::from_ref(&first));
        book.tried(&first, Some(keys("k")), None);
        for other in
            [at("two"), source("a", At::Discovery, SECOND), source("a", At::Discovery, SECOND * 9)]
        {
            let provider = book.provider(other);
            book.follow(std::slice::from_ref(&provider));
            assert_eq!(provider.ring, first.ring);
            assert!(held(&provider.ring).contains('k'));
            assert_eq!(book.reader().fetched(), [provider]);
        }
        let stranger = book.provider(source("b", At::Discovery, SECOND));
        assert_ne!(stranger.ring, first.ring);
    }

    #[test]
    fn a_reading_that_does_not_become_live_changes_nothing() {
        let book = Book::default();
        let live = book.provider(source("a", At::Here(keys("old")), SECOND));
        book.follow(std::slice::from_ref(&live));
        let before = held(&live.ring);
        book.provider(source("a", At::Here(keys("new")), SECOND));
        book.provider(at("one"));
        assert_eq!(held(&live.ring), before);
        assert!(book.reader().fetched().is_empty());
    }

    #[test]
    fn the_keys_of_a_file_count_at_once_and_those_of_a_url_once_they_have_come() {
        let book = Book::default();
        let follow = |source| {
            let provider = book.provider(source);
            book.follow(std::slice::from_ref(&provider));
            provider
        };
        let holds = |provider: &Provider, kid: &str| held(&provider.ring).contains(kid);
        let file = follow(source("a", At::Here(keys("file")), SECOND));
        assert!(holds(&file, "file"));
        let url = follow(at("url"));
        book.tried(&url, None, None);
        assert!(holds(&url, "file"), "none have come");
        book.tried(&url, Some(keys("web")), None);
        assert!(holds(&url, "web") && !holds(&url, "file"));
        let file = follow(source("a", At::Here(keys("file")), SECOND));
        assert!(holds(&file, "file") && !holds(&file, "web"));
        book.tried(&url, Some(keys("web")), None);
        assert!(holds(&file, "file"), "an attempt that ends late counts for nothing");
    }

    #[test]
    fn an_issuer_is_missing_until_keys_that_fit_its_algorithms_have_come_once() {
        let book = Book::default();
        let file = book.provider(source("file", At::Here(keys("k")), SECOND));
        let ours = book.provider(at("one"));
        let other = Algorithm::parse("RS256").unwrap();
        let unfit = Source { algorithms: vec![other], ..source("b", At::Discovery, SECOND) };
        let unfit = book.provider(unfit);
        book.follow(&[file.clone(), ours.clone(), unfit.clone()]);
        assert_eq!(book.missing(), ["a", "b"]);
        book.tried(&ours, None, None);
        assert_eq!(book.missing(), ["a", "b"], "an attempt that failed is none");
        book.tried(&ours, Some(keys("k")), None);
        book.tried(&unfit, Some(keys("k")), None);
        assert_eq!(book.missing(), ["b"], "no token of b could be verified");
        book.tried(&ours, None, None);
        book.follow(&[file, book.provider(at("two"))]);
        assert_eq!(book.missing(), [""; 0], "once is enough, and who is gone is not waited for");
    }

    #[test]
    fn a_provider_that_no_live_plan_names_is_not_fetched_though_a_call_knows_it() {
        let book = Book::default();
        let gone = book.provider(at("one"));
        book.follow(std::slice::from_ref(&gone));
        book.follow(&[]);
        assert!(book.reader().fetched().is_empty());
        assert_ne!(book.provider(at("one")).ring, gone.ring);
    }
}
