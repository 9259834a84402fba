//! Results that filters keep for one request head.
//!
//! Consecutive requests with equal headers share one head. Must not hold results that depend on
//! time, on the peer, or on other calls.

use std::{
    any::Any,
    cell::RefCell,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

/// Entries of one head: a few filters, over a few reloads.
const ENTRIES_MAX: usize = 8;

/// Identifies a filter instance in the cache. The instance that a reload builds has another key.
#[derive(Debug)]
pub struct CacheKey(u64);

impl CacheKey {
    /// A new key, unique in this process.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number of the key, for caches outside of a head.
    pub fn id(&self) -> u64 {
        self.0
    }
}

impl Default for CacheKey {
    fn default() -> Self {
        Self::new()
    }
}

/// The cached results of one head.
#[derive(Default)]
pub struct HeadCache(RefCell<Vec<(u64, Rc<dyn Any>)>>);

impl HeadCache {
    /// The value of this key, if it has this type.
    pub fn get<T: Any>(&self, key: &CacheKey) -> Option<Rc<T>> {
        let entries = self.0.try_borrow().ok()?;
        let (_, value) = entries.iter().find(|(known, _)| *known == key.0)?;
        Rc::clone(value).downcast().ok()
    }

    /// Sets the value of this key.
    pub fn insert<T: Any>(&self, key: &CacheKey, value: T) {
        let Ok(mut entries) = self.0.try_borrow_mut() else { return };
        entries.retain(|(known, _)| *known != key.0);
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.push((key.0, Rc::new(value)));
    }
}

impl std::fmt::Debug for HeadCache {
    /// Without the values: they may contain credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_latest_value() {
        let (entries, one, other) = (HeadCache::default(), CacheKey::new(), CacheKey::new());
        entries.insert(&one, 1_u8);
        entries.insert(&one, 2_u8);
        entries.insert(&other, "three");
        assert_eq!(entries.get::<u8>(&one).as_deref(), Some(&2));
        assert_eq!(entries.get::<&str>(&other).as_deref(), Some(&"three"));
        assert_eq!(entries.get::<u8>(&CacheKey::new()), None);
        assert_eq!(entries.get::<u16>(&one), None);
    }

    #[test]
    fn the_number_of_entries_is_limited() {
        let entries = HeadCache::default();
        for _ in 0..1_000 {
            entries.insert(&CacheKey::new(), ());
        }
        assert!(entries.0.borrow().len() <= ENTRIES_MAX);
    }
}
