//! Which ring belongs to which source of keys.

use rustls::pki_types::CertificateDer;
use sconce_filters::authenticate::{KeyRing, KeySet};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Where the keys of one provider come from. Equal sources share a ring.
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
}

/// Where keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum At {
    /// Where the provider's own document says (OpenID Connect Discovery 1.0, 4).
    Discovery,
    /// At a URL.
    Url(String),
    /// Here: the text of a file.
    Text(String),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The rings of all sources that some plan uses. A clone is the same book.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Pages>);

#[derive(Debug)]
struct Pages {
    entries: Mutex<Vec<Entry>>,
    /// Says that there is a new entry.
    added: Notify,
    /// How many sources nobody has tried to fetch yet.
    untried: watch::Sender<usize>,
}

#[derive(Debug)]
struct Entry {
    source: Source,
    ring: Weak<KeyRing>,
    is_kept: bool,
}

impl Default for Pages {
    fn default() -> Self {
        let (entries, added, untried) = Default::default();
        Self { entries, added, untried: watch::Sender::new(untried) }
    }
}

impl Book {
    /// The ring of a source: the one that is in use already, or a new one without keys, for which
    /// calls wait.
    pub fn ring(&self, source: &Source) -> Arc<KeyRing> {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.ring.strong_count() > 0);
        let known = entries.iter().find(|entry| entry.source == *source);
        if let Some(ring) = known.and_then(|entry| entry.ring.upgrade()) {
            return ring;
        }
        let ring = Arc::new(KeyRing::new());
        let is_kept = match &source.at {
            At::Discovery | At::Url(_) => {
                // A call may come before whoever fetches has heard of the ring: it waits.
                ring.open();
                false
            }
            At::Text(text) => {
                // Whoever wrote the source down has seen that there are keys in it.
                let _ = KeySet::from_jwks(text).map(|(keys, _)| ring.replace(keys));
                true
            }
        };
        let (source, weak) = (source.clone(), Arc::downgrade(&ring));
        entries.push(Entry { source, ring: weak, is_kept });
        if !is_kept {
            self.0.untried.send_modify(|untried| *untried = untried.saturating_add(1));
            self.0.added.notify_one();
        }
        ring
    }

    /// Sources whose keys nobody fetches yet; from now on somebody does.
    pub(super) fn take(&self) -> Vec<(Source, Arc<KeyRing>)> {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let free = entries.iter_mut().filter(|entry| !entry.is_kept);
        let taken = free.filter_map(|entry| {
            entry.is_kept = true;
            entry.ring.upgrade().map(|ring| (entry.source.clone(), ring))
        });
        taken.collect()
    }

    /// Ends when there may be a source to take.
    pub(super) async fn added(&self) {
        self.0.added.notified().await;
    }

    /// A source was tried for the first time.
    pub(super) fn tried(&self) {
        self.0.untried.send_modify(|untried| *untried = untried.saturating_sub(1));
    }

    /// Ends when each source has been tried once, for good or ill.
    pub async fn settled(&self) {
        let mut untried = self.0.untried.subscribe();
        // The sender is `self`: the channel cannot be closed meanwhile.
        let _ = untried.wait_for(|untried| *untried == 0).await;
    }
}
