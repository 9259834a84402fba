//! What a proof has shown, kept so that it need not be shown again.
//!
//! A signature is verified once; whether its key still counts, and whether it is the right time, is
//! asked at every call. Must never be kept for a credential that proved nobody: a flood of wrong
//! ones would push out those that are right.

use super::{JwksCache, claims::ValidityWindow, jwks_cache::KeySnapshot, key::Key};
use crate::{Attributes, BoundedCache, Identity, call::RawValue};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// The most octets of memory that a worker has for tokens, all rooms together, and as many for the
/// values of headers of either kind. A token counts with who it proves.
pub(super) const CACHE_BYTES_MAX: usize = 8 << 20;
/// What an entry costs beside its key and the names in it: the places of both in their tables.
const ENTRY_OVERHEAD: usize = 512;

/// Somebody, and for how long.
#[derive(Debug)]
pub(super) struct VerifiedCredential {
    pub(super) identity: Rc<Identity>,
    pub(super) validity: ValidityWindow,
    /// `None` where no key is needed.
    key_proof: Option<KeyProof>,
}

/// The key that has verified a signature.
#[derive(Debug)]
pub(super) struct KeyProof {
    jwks: Arc<JwksCache>,
    key: Arc<Key>,
    /// The keys among which it was seen last.
    generation: Cell<u64>,
}

impl VerifiedCredential {
    /// Of a credential that counts as long as the room does.
    pub(super) fn permanent(identity: Identity) -> Self {
        Self { identity: Rc::new(identity), validity: ValidityWindow::ALWAYS, key_proof: None }
    }

    /// Of a signed token.
    pub(super) fn signed(identity: Identity, window: ValidityWindow, proof: KeyProof) -> Self {
        Self { identity: Rc::new(identity), validity: window, key_proof: Some(proof) }
    }

    /// Whether the key that verified it is still one of the provider's.
    pub(super) fn is_still_trusted(&self) -> bool {
        self.key_proof.as_ref().is_none_or(KeyProof::is_still_trusted)
    }

    /// Whether a signature has shown it.
    pub(super) fn is_signed(&self) -> bool {
        self.key_proof.is_some()
    }

    /// The slot that it fills.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes { identity: Some(Rc::clone(&self.identity)), ..Attributes::default() }
    }
}

impl KeyProof {
    /// By this key, which is one of these.
    pub(super) fn new(ring: &Arc<JwksCache>, standing: &KeySnapshot, key: &Arc<Key>) -> Self {
        let generation = Cell::new(standing.generation);
        Self { jwks: Arc::clone(ring), key: Arc::clone(key), generation }
    }

    fn is_still_trusted(&self) -> bool {
        if self.jwks.generation() == self.generation.get() {
            return true;
        }
        let standing = self.jwks.snapshot();
        let has = standing.contains(&self.key);
        if has {
            self.generation.set(standing.generation);
        }
        has
    }
}

/// What a credential is known by.
#[derive(Clone, Copy, Debug)]
pub(super) enum CredentialKey<'a> {
    /// The token itself.
    Token(&'a str),
    /// The value of the header that it stands in, undecoded. One token can be shown in many ways,
    /// so that these have a memory of their own: they push no token out.
    Value(RawValue<'a>),
}

/// The rooms of a reload share it with those they replace: a token is remembered for the room, by
/// its number, that verified it last.
type VerifiedCache = BoundedCache<(u64, Rc<VerifiedCredential>)>;

thread_local! {
    static TOKENS: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
    static PLAIN: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
    static CODED: RefCell<VerifiedCache> = RefCell::new(VerifiedCache::new(CACHE_BYTES_MAX));
}

impl CredentialKey<'_> {
    /// Calls with the memory of such credentials, and the octets by which it knows them. `None`
    /// for a worker that ends: it has lost its memory already.
    fn with_cache<T>(self, ask: impl FnOnce(&mut VerifiedCache, &[u8]) -> T) -> Option<T> {
        let (memory, octets) = match self {
            Self::Token(token) => (&TOKENS, token.as_bytes()),
            Self::Value(RawValue { bytes: octets, is_huffman_coded: false }) => (&PLAIN, octets),
            Self::Value(RawValue { bytes: octets, is_huffman_coded: true }) => (&CODED, octets),
        };
        memory.try_with(|it| Some(ask(&mut *it.try_borrow_mut().ok()?, octets))).ok()?
    }
}

/// What this worker remembers of a credential, if a room with this number has verified it.
pub(super) fn get(room: u64, shown: CredentialKey<'_>) -> Option<Rc<VerifiedCredential>> {
    shown.with_cache(|memory, octets| {
        let known = memory.get_if(octets, |(owner, _)| *owner == room);
        known.map(|(_, verified)| verified)
    })?
}

/// Remembers a credential that a room has verified.
pub(super) fn insert(room: u64, shown: CredentialKey<'_>, verified: &Rc<VerifiedCredential>) {
    let _ = shown.with_cache(|memory, octets| {
        let weight = octets.len().saturating_add(verified.identity.memory_size());
        let weight = weight.saturating_add(ENTRY_OVERHEAD);
        memory.insert_weighted(octets, (room, Rc::clone(verified)), weight);
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
    fn a_room_recalls_what_it_has_verified_and_no_other_does() {
        let (one, other) = (CredentialKey::Token("a"), CredentialKey::Token("ab"));
        let user = |room, shown| get(room, shown).map(|it| it.identity.user().to_owned());
        insert(1, one, &somebody("ann"));
        assert_eq!(user(1, one).as_deref(), Some("ann"));
        assert_eq!((user(2, one), user(1, other)), (None, None));
        insert(2, one, &somebody("bob"));
        assert_eq!(user(2, one).as_deref(), Some("bob"));
        assert_eq!(user(1, one), None);
    }

    #[test]
    fn long_tokens_and_those_of_many_groups_leave_no_more_than_their_share() {
        let groups = |count: usize| (0..count).map(|at| format!("{at:0>200}")).collect();
        let claimed =
            RawIdentity { user: "u".to_owned(), groups: groups(1_000), ..RawIdentity::default() };
        let identity = Identity::new(claimed, IdentitySource::Certificate, None).unwrap();
        let (short, heavy) = (somebody("ann"), Rc::new(VerifiedCredential::permanent(identity)));
        let known = |room, most: usize| {
            (0..most).filter(move |at| {
                get(room, CredentialKey::Token(&format!("{room}/{at}"))).is_some()
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
