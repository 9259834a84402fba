//! A cache of bounded size that evicts the least recently used entries.
//!
//! It has two generations: when the young one is full it becomes the old one, and entries that were
//! not used since then are evicted with it. Peers may choose the keys, so the hash is keyed.

use std::collections::HashMap;

/// A cache by keys of bytes.
#[derive(Debug)]
pub struct BoundedCache<V> {
    young: Half<V>,
    old: Half<V>,
    capacity: usize,
}

/// One generation, and the sum of the weights in it.
#[derive(Debug)]
struct Half<V> {
    entries: HashMap<Box<[u8]>, Entry<V>>,
    weight: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
}

impl<V> Default for Half<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), weight: 0 }
    }
}

impl<V> Half<V> {
    fn insert(&mut self, key: Box<[u8]>, entry: Entry<V>) {
        self.weight = self.weight.saturating_add(entry.weight);
        if let Some(before) = self.entries.insert(key, entry) {
            self.weight = self.weight.saturating_sub(before.weight);
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<(Box<[u8]>, Entry<V>)> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.weight = self.weight.saturating_sub(entry.weight);
        Some((key, entry))
    }
}

impl<V: Clone> BoundedCache<V> {
    /// A cache whose entries weigh at capacity `capacity` together; [`BoundedCache::insert`] adds
    /// entries of weight 1. At least half of the capacity holds the capacity recently used entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: Half::default(), old: Half::default(), capacity }
    }

    /// The value of a key, if it satisfies the condition. Counts as a use.
    pub fn get_if(&mut self, key: &[u8], condition: impl Fn(&V) -> bool) -> Option<V> {
        if let Some(Entry { value, .. }) = self.young.entries.get(key) {
            return condition(value).then(|| value.clone());
        }
        self.old.entries.get(key).filter(|entry| condition(&entry.value))?;
        let (key, entry) = self.old.remove(key)?;
        let value = entry.value.clone();
        self.insert_young(key, entry);
        Some(value)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: &[u8], value: V) {
        self.insert_weighted(key, value, 1);
    }

    /// Sets the value of a key with a weight. A value that weighs more than half of the capacity is
    /// not kept.
    pub fn insert_weighted(&mut self, key: &[u8], value: V, weight: usize) {
        self.old.remove(key);
        if weight > self.capacity / 2 {
            self.young.remove(key);
        } else {
            self.insert_young(key.into(), Entry { value, weight });
        }
    }

    /// The value of a key, to be changed. Counts as a use.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        if !self.young.entries.contains_key(key) {
            let (key, entry) = self.old.remove(key)?;
            self.insert_young(key, entry);
        }
        self.young.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// The value of a key, to be changed; the default if there is none. Counts as a use.
    pub fn entry(&mut self, key: &[u8]) -> &mut V
    where
        V: Default,
    {
        let new = || Entry { value: V::default(), weight: 1 };
        if !self.young.entries.contains_key(key) {
            let (key, entry) = self.old.remove(key).unwrap_or_else(|| (key.into(), new()));
            self.insert_young(key, entry);
        }
        &mut self.young.entries.entry(key.into()).or_insert_with(new).value
    }

    fn insert_young(&mut self, key: Box<[u8]>, entry: Entry<V>) {
        let before = self.young.entries.get(&key).map_or(0, |before| before.weight);
        let weight = self.young.weight.saturating_sub(before).saturating_add(entry.weight);
        if weight > self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_value_is_found_if_it_satisfies_the_condition() {
        let mut cache = BoundedCache::new(4);
        cache.insert(b"a", 1);
        assert_eq!(cache.get_if(b"a", |it| *it == 1), Some(1));
        assert_eq!(cache.get_if(b"a", |it| *it == 2), None);
        assert_eq!(cache.get_if(b"ab", |_| true), None);
        cache.insert(b"a", 2);
        assert_eq!(cache.get_if(b"a", |_| true), Some(2));
    }

    #[test]
    fn an_insert_replaces_the_value_in_both_generations() {
        let mut cache = BoundedCache::new(4);
        for (key, value) in [(b"a", 1), (b"b", 1), (b"c", 1), (b"a", 2)] {
            cache.insert(key, value);
        }
        assert_eq!(cache.get_if(b"a", |_| true), Some(2));
    }

    #[test]
    fn get_mut_counts_as_a_use_in_both_generations() {
        let mut cache = BoundedCache::<u8>::new(4);
        assert_eq!(cache.get_mut(b"a"), None);
        *cache.entry(b"a") = 1;
        for key in [b"b", b"c", b"a", b"d", b"e"] {
            *cache.entry(key) += 1;
        }
        assert_eq!(cache.get_mut(b"a"), Some(&mut 2));
        assert_eq!(cache.get_mut(b"b"), None);
    }

    #[test]
    fn it_has_a_limit_and_keeps_recently_used_entries() {
        let capacity = 100;
        let mut cache = BoundedCache::new(capacity);
        cache.insert(b"used", 0);
        for round in 0..5 * capacity {
            cache.insert(format!("once {round}").as_bytes(), round);
            assert_eq!(cache.get_if(b"used", |_| true), Some(0));
            assert!(cache.young.entries.len() + cache.old.entries.len() <= capacity);
        }
        assert_eq!(cache.get_if(b"once 0", |_| true), None);
        assert!(cache.get_if(format!("once {}", 5 * capacity - 1).as_bytes(), |_| true).is_some());
    }

    #[test]
    fn a_heavy_entry_replaces_many_light_ones() {
        let mut cache = BoundedCache::new(100);
        cache.insert_weighted(b"heavy", 0, 50);
        assert_eq!(cache.get_if(b"heavy", |_| true), Some(0));
        cache.insert_weighted(b"next", 1, 50);
        cache.insert_weighted(b"last", 2, 1);
        assert_eq!(cache.get_if(b"heavy", |_| true), None);
        assert_eq!(cache.get_if(b"next", |_| true), Some(1));
        cache.insert_weighted(b"next", 3, 51);
        assert_eq!(cache.get_if(b"next", |_| true), None, "neither this one nor the former");
        for at in 0_u16..1_000 {
            cache.insert_weighted(&(at % 7).to_ne_bytes(), 4, usize::from(at % 50));
            let weighed = |half: &Half<i32>| half.entries.values().map(|it| it.weight).sum();
            let [young, old]: [usize; 2] = [weighed(&cache.young), weighed(&cache.old)];
            assert_eq!((young, old), (cache.young.weight, cache.old.weight));
            assert!(young <= 50 && old <= 50);
        }
    }
}
