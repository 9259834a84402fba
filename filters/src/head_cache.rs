//! What rooms remember of a head.
//!
//! Equal requests in a row share one head, and what a room finds in metadata alone is the same for
//! all of them. Must never hold what depends on time, on the peer, or on other calls.

use std::{
    any::Any,
    cell::RefCell,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

/// Notes that one head may have: a few rooms, over a few reloads.
const ENTRIES_MAX: usize = 8;

/// Who writes a note. Each room has its own; the room that a reload puts in its place has another.
#[derive(Debug)]
pub struct CacheKey(u64);

impl CacheKey {
    /// One that was never there before.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// What tells this one from all others, for a room that remembers outside of any head.
    pub fn id(&self) -> u64 {
        self.0
    }
}

impl Default for CacheKey {
    fn default() -> Self {
        Self::new()
    }
}

/// The notes on one head.
#[derive(Default)]
pub struct HeadCache(RefCell<Vec<(u64, Rc<dyn Any>)>>);

impl HeadCache {
    /// What this author has noted, if it is of this type.
    pub fn get<T: Any>(&self, author: &CacheKey) -> Option<Rc<T>> {
        let notes = self.0.try_borrow().ok()?;
        let (_, note) = notes.iter().find(|(known, _)| *known == author.0)?;
        Rc::clone(note).downcast().ok()
    }

    /// Keeps a note for the next call with this head.
    pub fn insert<T: Any>(&self, author: &CacheKey, note: T) {
        let Ok(mut notes) = self.0.try_borrow_mut() else { return };
        notes.retain(|(known, _)| *known != author.0);
        if notes.len() >= ENTRIES_MAX {
            notes.clear();
        }
        notes.push((author.0, Rc::new(note)));
    }
}

impl std::fmt::Debug for HeadCache {
    /// Without the notes: they may tell of credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_author_reads_its_own_latest_note() {
        let (notes, one, other) = (HeadCache::default(), CacheKey::new(), CacheKey::new());
        notes.insert(&one, 1_u8);
        notes.insert(&one, 2_u8);
        notes.insert(&other, "three");
        assert_eq!(notes.get::<u8>(&one).as_deref(), Some(&2));
        assert_eq!(notes.get::<&str>(&other).as_deref(), Some(&"three"));
        assert_eq!(notes.get::<u8>(&CacheKey::new()), None);
        assert_eq!(notes.get::<u16>(&one), None);
    }

    #[test]
    fn notes_do_not_pile_up() {
        let notes = HeadCache::default();
        for _ in 0..1_000 {
            notes.insert(&CacheKey::new(), ());
        }
        assert!(notes.0.borrow().len() <= ENTRIES_MAX);
    }
}
