//! What a proof has shown, kept so that it need not be shown again.
//!
//! A signature is verified once; whether its key still counts, and whether it is the right time, is
//! asked at every call. Must never be kept for a credential that proved nobody: a flood of wrong
//! ones would push out those that are right.

use super::{KeyRing, claims::Window, key::Key, ring::Standing};
use crate::{Identity, Lately, Slots, call::Mark};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// The most octets of memory that a worker has for tokens, all rooms together, and as many for the
/// values of headers of either kind. A token counts with who it proves.
pub(super) const REMEMBERED_MAX: usize = 8 << 20;
/// What an entry costs beside its key and the names in it: the places of both in their tables.
const ENTRY_COST: usize = 512;

/// Somebody, and for how long.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) identity: Rc<Identity>,
    pub(super) window: Window,
    /// `None` where no key is needed.
    proof: Option<Proof>,
}

/// The key that has verified a signature.
#[derive(Debug)]
pub(super) struct Proof {
    ring: Arc<KeyRing>,
    key: Arc<Key>,
    /// The keys among which it was seen last.
    generation: Cell<u64>,
}

impl Verified {
    /// Of a credential that counts as long as the room does.
    pub(super) fn lasting(identity: Identity) -> Self {
        Self { identity: Rc::new(identity), window: Window::ALWAYS, proof: None }
    }

    /// Of a signed token.
    pub(super) fn signed(identity: Identity, window: Window, proof: Proof) -> Self {
        Self { identity: Rc::new(identity), window, proof: Some(proof) }
    }

    /// Whether the key that verified it is still one of the provider's.
    pub(super) fn stands(&self) -> bool {
        self.proof.as_ref().is_none_or(Proof::stands)
    }

    /// Whether a signature has shown it.
    pub(super) fn is_signed(&self) -> bool {
        self.proof.is_some()
    }

    /// The slot that it fills.
    pub(super) fn slots(&self) -> Slots {
        Slots { identity: Some(Rc::clone(&self.identity)), ..Slots::default() }
    }
}

impl Proof {
    /// By this key, which is one of these.
    pub(super) fn new(ring: &Arc<KeyRing>, standing: &Standing, key: &Arc<Key>) -> Self {
        let generation = Cell::new(standing.generation);
        Self { ring: Arc::clone(ring), key: Arc::clone(key), generation }
    }

    fn stands(&self) -> bool {
        if self.ring.generation() == self.generation.get() {
            return true;
        }
        let standing = self.ring.standing();
        let has = standing.has(&self.key);
        if has {
            self.generation.set(standing.generation);
        }
        has
    }
}

/// What a credential is known by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown<'a> {
    /// The token itself.
    Token(&'a str),
    /// The value of the header that it stands in, undecoded. One token can be shown in many ways,
    /// so that these have a memory of their own: they push no token out.
    Value(Mark<'a>),
}

/// The rooms of a reload share it with those they replace: a token is remembered for the room, by
/// its number, that verified it last.
type Memory = Lately<(u64, Rc<Verified>)>;

thread_local! {
    static TOKENS: RefCell<Memory> = RefCell::new(Memory::new(REMEMBERED_MAX));
    static PLAIN: RefCell<Memory> = RefCell::new(Memory::new(REMEMBERED_MAX));
    static CODED: RefCell<Memory> = RefCell::new(Memory::new(REMEMBERED_MAX));
}

impl Shown<'_> {
    /// Calls with the memory of such credentials, and the octets by which it knows them. `None`
    /// for a worker that ends: it has lost its memory already.
    fn with<T>(self, ask: impl FnOnce(&mut Memory, &[u8]) -> T) -> Option<T> {
        let (memory, octets) = match self {
            Self::Token(token) => (&TOKENS, token.as_bytes()),
            Self::Value(Mark { octets, is_coded: false }) => (&PLAIN, octets),
            Self::Value(Mark { octets, is_coded: true }) => (&CODED, octets),
        };
        memory.try_with(|it| Some(ask(&mut *it.try_borrow_mut().ok()?, octets))).ok()?
    }
}

/// What this worker remembers of a credential, if a room with this number has verified it.
pub(super) fn recall(room: u64, shown: Shown<'_>) -> Option<Rc<Verified>> {
    shown.with(|memory, octets| {
        let known = memory.recall(octets, |(owner, _)| *owner == room);
        known.map(|(_, verified)| verified)
    })?
}

/// Remembers a credential that a room has verified.
pub(super) fn remember(room: u64, shown: Shown<'_>, verified: &Rc<Verified>) {
    let _ = shown.with(|memory, octets| {
        let weight = octets.len().saturating_add(verified.identity.weight());
        let weight = weight.saturating_add(ENTRY_COST);
        memory.remember_weighing(octets, (room, Rc::clone(verified)), weight);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Claimed, Source};

    fn somebody(user: &str) -> Rc<Verified> {
        let claimed = Claimed { user: user.to_owned(), ..Claimed::default() };
        Rc::new(Verified::lasting(Identity::new(claimed, Source::Certificate, None).unwrap()))
    }

    #[test]
    fn a_room_recalls_what_it_has_verified_and_no_other_does() {
        let (one, other) = (Shown::Token("a"), Shown::Token("ab"));
        let user = |room, shown| recall(room, shown).map(|it| it.identity.user().to_owned());
        remember(1, one, &somebody("ann"));
        assert_eq!(user(1, one).as_deref(), Some("ann"));
        assert_eq!((user(2, one), user(1, other)), (None, None));
        remember(2, one, &somebody("bob"));
        assert_eq!(user(2, one).as_deref(), Some("bob"));
        assert_eq!(user(1, one), None);
    }

    #[test]
    fn long_tokens_and_those_of_many_groups_leave_no_more_than_their_share() {
        let groups = |count: usize| (0..count).map(|at| format!("{at:0>200}")).collect();
        let claimed = Claimed { user: "u".to_owned(), groups: groups(1_000), ..Claimed::default() };
        let identity = Identity::new(claimed, Source::Certificate, None).unwrap();
        let (short, heavy) = (somebody("ann"), Rc::new(Verified::lasting(identity)));
        let known = |room, most: usize| {
            (0..most)
                .filter(move |at| recall(room, Shown::Token(&format!("{room}/{at}"))).is_some())
        };
        for at in 0..100 {
            remember(7, Shown::Token(&format!("7/{at}")), &heavy);
        }
        assert!(known(7, 100).count() * 1_000 * 200 <= REMEMBERED_MAX);
        let long = "x".repeat(REMEMBERED_MAX / 2);
        remember(8, Shown::Token(&long), &short);
        assert!(recall(8, Shown::Token(&long)).is_none());
    }
}
