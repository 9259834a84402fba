//! Verified credentials, and the cache of them.
//!
//! A signature is verified once; trust in its key and the validity period are checked at every
//! call. Must not cache rejected credentials: a flood of them would evict valid ones.

use super::{JwksCache, claims::ValidityWindow, jwks_cache::KeySnapshot, key::Key};
use crate::{Attributes, BoundedCache, Identity, call::RawValue};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// Maximum cache of a worker for tokens, in bytes, all filter instances together, and as much for
/// header values of either encoding. An entry includes its identity.
pub(super) const CACHE_BYTES_MAX: usize = 8 << 20;
/// Memory of an entry in addition to its key and the identity's texts, in bytes.
const ENTRY_OVERHEAD: usize = 512;

/// A verified identity and its validity period.
#[derive(Debug)]
pub(super) struct VerifiedCredential {
    pub(super) identity: Rc<Identity>,
    pub(super) validity: ValidityWindow,
    /// `None` if no key is involved.
    key_proof: Option<KeyProof>,
}

/// The key that has verified the signature.
#[derive(Debug)]
pub(super) struct KeyProof {
    jwks: Arc<JwksCache>,
    key: Arc<Key>,
    /// The generation of the JWKS cache that last contained the key.
    generation: Cell<u64>,
}

impl VerifiedCredential {
    /// A credential that is valid as long as the filter exists.
    pub(super) fn permanent(identity: Identity) -> Self {
        Self { identity: Rc::new(identity), validity: ValidityWindow::ALWAYS, key_proof: None }
    }

    /// A verified JWT.
    pub(super) fn signed(identity: Identity, window: ValidityWindow, proof: KeyProof) -> Self {
        Self { identity: Rc::new(identity), validity: window, key_proof: Some(proof) }
    }

    /// Whether the provider still publishes its key.
    pub(super) fn is_still_trusted(&self) -> bool {
        self.key_proof.as_ref().is_none_or(KeyProof::is_still_trusted)
    }

    /// Whether it is a JWT.
    pub(super) fn is_signed(&self) -> bool {
        self.key_proof.is_some()
    }

    /// The attribute that it sets.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes { identity: Some(Rc::clone(&self.identity)), ..Attributes::default() }
    }
}

impl KeyProof {
    /// The proof by a key of this snapshot.
    pub(super) fn new(jwks: &Arc<JwksCache>, snapshot: &KeySnapshot, key: &Arc<Key>) -> Self {
        let generation = Cell::new(snapshot.generation);
        Self { jwks: Arc::clone(jwks), key: Arc::clone(key), generation }
    }

    fn is_still_trusted(&self) -> bool {
        if self.jwks.generation() == self.generation.get() {
            return true;
        }
        let snapshot = self.jwks.snapshot();
        let has = snapshot.contains(&self.key);
        if has {
            self.generation.set(snapshot.generation);
        }
        has
    }
}

/// The key of a credential in the cache.
#[derive(Clone, Copy, Debug)]
pub(super) enum CredentialKey<'a> {
    /// The token.
    Token(&'a str),
    /// The raw value of its header. One token has many such values, so that they have caches of
    /// their own, and evict no token.
    Value(RawValue<'a>),
}

/// Instances before and after a reload share a cache: an entry belongs to the instance, by its ID,
/// that verified it last.
type VerifiedCache = BoundedCache<(u64, Rc<VerifiedCredential>)>;

thread_local! {
    static TOKENS: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
    static PLAIN: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
    static CODED: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
}

impl CredentialKey<'_> {
    /// Calls `ask` with the cache for this kind of key, and the key's bytes. `None` for a worker
    /// that ends, which has dropped its cache already.
    fn with_cache<T>(self, ask: impl FnOnce(&mut VerifiedCache, &[u8]) -> T) -> Option<T> {
        let (cache, bytes) = match self {
            Self::Token(token) => (&TOKENS, token.as_bytes()),
            Self::Value(RawValue { bytes, is_huffman_coded: false }) => (&PLAIN, bytes),
            Self::Value(RawValue { bytes, is_huffman_coded: true }) => (&CODED, bytes),
        };
        cache.try_with(|it| Some(ask(&mut *it.try_borrow_mut().ok()?, bytes))).ok()?
    }
}

/// The cached credential, if the instance with this ID has verified it.
pub(super) fn get(filter_id: u64, key: CredentialKey<'_>) -> Option<Rc<VerifiedCredential>> {
    key.with_cache(|cache, bytes| {
        let known = cache.get_if(bytes, |(owner, _)| *owner == filter_id);
        known.map(|(_, verified)| verified)
    })?
}

/// Caches a verified credential.
pub(super) fn insert(filter_id: u64, key: CredentialKey<'_>, verified: &Rc<VerifiedCredential>) {
    let _ = key.with_cache(|cache, bytes| {
        let weight = bytes.len().saturating_add(verified.identity.memory_size());
        let weight = weight.saturating_add(ENTRY_OVERHEAD);
        cache.insert_weighted(bytes, (filter_id, Rc::clone(verified)), weight);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IdentitySource, RawIdentity};

    fn somebody(user: &str) -> Rc<VerifiedCredential> {
        let claimed = RawIdentity { user: user.to_owned(), ..RawIdentity::default() };
        Rc::new(VerifiedCredential::permanent(
            Identity::new(claimed, IdentitySource::Certificate, None).unwrap(),
        ))
    }

    #[test]
    fn each_filter_instance_finds_only_its_own_entries() {
        let (one, other) = (CredentialKey::Token("a"), CredentialKey::Token("ab"));
        let user = |filter_id, key| get(filter_id, key).map(|it| it.identity.user().to_owned());
        insert(1, one, &somebody("ann"));
        assert_eq!(user(1, one).as_deref(), Some("ann"));
        assert_eq!((user(2, one), user(1, other)), (None, None));
        insert(2, one, &somebody("bob"));
        assert_eq!(user(2, one).as_deref(), Some("bob"));
        assert_eq!(user(1, one), None);
    }

    #[test]
    fn long_tokens_and_many_groups_stay_within_the_cache_limit() {
        let groups = |count: usize| (0..count).map(|at| format!("{at:0>200}")).collect();
        let claimed =
            RawIdentity { user: "u".to_owned(), groups: groups(1_000), ..RawIdentity::default() };
        let identity = Identity::new(claimed, IdentitySource::Certificate, None).unwrap();
        let (short, heavy) = (somebody("ann"), Rc::new(VerifiedCredential::permanent(identity)));
        let known = |filter_id, capacity: usize| {
            (0..capacity).filter(move |at| {
                get(filter_id, CredentialKey::Token(&format!("{filter_id}/{at}"))).is_some()
            })
        };
        for at in 0..100 {
            insert(7, CredentialKey::Token(&format!("7/{at}")), &heavy);
        }
        assert!(known(7, 100).count() * 1_000 * 200 <= CACHE_BYTES_MAX);
        let long = "x".repeat(CACHE_BYTES_MAX / 2);
        insert(8, CredentialKey::Token(&long), &short);
        assert!(get(8, CredentialKey::Token(&long)).is_none());
    }
}
