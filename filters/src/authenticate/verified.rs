//! What a proof has shown, kept so that it need not be shown again.
//!
//! A signature is verified once; whether its key still counts, and whether it is the right time, is
//! asked at every call. Must never be kept for a credential that proved nobody: a flood of wrong
//! ones would push out those that are right.

use super::{KeyRing, claims::Window, key::Key, ring::Standing};
use crate::{Identity, Slots, call::Mark};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

/// The most tokens that a worker remembers, all rooms together, and as many values of headers of
/// either kind.
pub(super) const REMEMBERED_MAX: usize = 1024;

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

thread_local! {
    static TOKENS: RefCell<Memory> = RefCell::default();
    static PLAIN: RefCell<Memory> = RefCell::default();
    static CODED: RefCell<Memory> = RefCell::default();
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
    shown.with(|memory, octets| memory.recall(room, octets))?
}

/// Remembers a credential that a room has verified.
pub(super) fn remember(room: u64, shown: Shown<'_>, verified: &Rc<Verified>) {
    let _ = shown.with(|memory, octets| memory.remember(room, octets, Rc::clone(verified)));
}

/// Tokens that were used lately, in two halves. When the young half is full it becomes the old one,
/// and what nobody has used since then is forgotten.
///
/// The rooms of a reload share it with those they replace: a token is remembered for the room that
/// verified it last. The map's hash is keyed, since tokens are chosen by others.
#[derive(Default)]
struct Memory {
    young: Half,
    old: Half,
}

type Half = HashMap<Box<[u8]>, (u64, Rc<Verified>)>;

impl Memory {
    fn recall(&mut self, room: u64, token: &[u8]) -> Option<Rc<Verified>> {
        let is_ours = |(owner, _): &&(u64, Rc<Verified>)| *owner == room;
        if let Some((_, verified)) = self.young.get(token).filter(is_ours) {
            return Some(Rc::clone(verified));
        }
        self.old.get(token).filter(is_ours)?;
        let (token, (_, verified)) = self.old.remove_entry(token)?;
        self.keep(token, room, Rc::clone(&verified));
        Some(verified)
    }

    fn remember(&mut self, room: u64, token: &[u8], verified: Rc<Verified>) {
        self.old.remove(token);
        self.keep(token.into(), room, verified);
    }

    fn keep(&mut self, token: Box<[u8]>, room: u64, verified: Rc<Verified>) {
        if self.young.len() >= REMEMBERED_MAX / 2 && !self.young.contains_key(&token) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, (room, verified));
    }
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
        let mut memory = Memory::default();
        memory.remember(1, b"a", somebody("ann"));
        assert_eq!(memory.recall(1, b"a").unwrap().identity.user(), "ann");
        assert!(memory.recall(2, b"a").is_none());
        assert!(memory.recall(1, b"ab").is_none());
        memory.remember(2, b"a", somebody("bob"));
        assert_eq!(memory.recall(2, b"a").unwrap().identity.user(), "bob");
        assert!(memory.recall(1, b"a").is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let mut memory = Memory::default();
        memory.remember(1, b"used", somebody("ann"));
        for round in 0..5 * REMEMBERED_MAX {
            memory.remember(1, format!("once {round}").as_bytes(), somebody("bob"));
            assert!(memory.recall(1, b"used").is_some());
            assert!(memory.young.len() + memory.old.len() <= REMEMBERED_MAX);
        }
        assert!(memory.recall(1, b"once 0").is_none());
    }
}
