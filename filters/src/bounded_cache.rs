//! Lately: a bounded memory, which keeps what is used and forgets what nobody has used for long.
//!
//! Two halves: when the young one is full it becomes the old one, and what has not been asked for
//! since then is forgotten with it. Keys may be chosen by strangers: the hash is keyed.

use std::collections::HashMap;

/// What was used lately, by octets that it is known by.
#[derive(Debug)]
pub struct BoundedCache<V> {
    young: Half<V>,
    old: Half<V>,
    capacity: usize,
}

/// A half, and the sum of the weights in it.
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
    /// A memory of entries that weigh at most so much together: entries that are remembered without
    /// a weight weigh 1 each. Of this at least half is what was used last.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { young: Half::default(), old: Half::default(), capacity: most }
    }

    /// What is remembered under this key, if it is what is wanted. That is a use.
    pub fn get_if(&mut self, key: &[u8], is_wanted: impl Fn(&V) -> bool) -> Option<V> {
        if let Some(Entry { value, .. }) = self.young.entries.get(key) {
            return is_wanted(value).then(|| value.clone());
        }
        self.old.entries.get(key).filter(|entry| is_wanted(&entry.value))?;
        let (key, entry) = self.old.remove(key)?;
        let value = entry.value.clone();
        self.insert_young(key, entry);
        Some(value)
    }

    /// Remembers it, instead of what was known by this key.
    pub fn insert(&mut self, key: &[u8], value: V) {
        self.insert_weighted(key, value, 1);
    }

    /// The same for an entry of this weight. One that weighs more than half of what there may be is
    /// not remembered.
    pub fn insert_weighted(&mut self, key: &[u8], value: V, weight: usize) {
        self.old.remove(key);
        if weight > self.capacity / 2 {
            self.young.remove(key);
        } else {
            self.insert_young(key.into(), Entry { value, weight });
        }
    }

    /// What is remembered under this key, to be changed; `None` for what is not known. That is a
    /// use.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        if !self.young.entries.contains_key(key) {
            let (key, entry) = self.old.remove(key)?;
            self.insert_young(key, entry);
        }
        self.young.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// The same, and of what is not known the default.
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
    fn what_is_remembered_is_recalled_if_it_is_what_is_wanted() {
        let mut memory = BoundedCache::new(4);
        memory.insert(b"a", 1);
        assert_eq!(memory.get_if(b"a", |it| *it == 1), Some(1));
        assert_eq!(memory.get_if(b"a", |it| *it == 2), None);
        assert_eq!(memory.get_if(b"ab", |_| true), None);
        memory.insert(b"a", 2);
        assert_eq!(memory.get_if(b"a", |_| true), Some(2));
    }

    #[test]
    fn what_is_newly_remembered_counts_wherever_the_former_one_lies() {
        let mut memory = BoundedCache::new(4);
        for (key, value) in [(b"a", 1), (b"b", 1), (b"c", 1), (b"a", 2)] {
            memory.insert(key, value);
        }
        assert_eq!(memory.get_if(b"a", |_| true), Some(2));
    }

    #[test]
    fn what_is_changed_in_place_is_used_wherever_it_lies() {
        let mut memory = BoundedCache::<u8>::new(4);
        assert_eq!(memory.get_mut(b"a"), None);
        *memory.entry(b"a") = 1;
        for key in [b"b", b"c", b"a", b"d", b"e"] {
            *memory.entry(key) += 1;
        }
        assert_eq!(memory.get_mut(b"a"), Some(&mut 2));
        assert_eq!(memory.get_mut(b"b"), None);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let most = 100;
        let mut memory = BoundedCache::new(most);
        memory.insert(b"used", 0);
        for round in 0..5 * most {
            memory.insert(format!("once {round}").as_bytes(), round);
            assert_eq!(memory.get_if(b"used", |_| true), Some(0));
            assert!(memory.young.entries.len() + memory.old.entries.len() <= most);
        }
        assert_eq!(memory.get_if(b"once 0", |_| true), None);
        assert!(memory.get_if(format!("once {}", 5 * most - 1).as_bytes(), |_| true).is_some());
    }

    #[test]
    fn what_is_heavy_takes_the_place_of_much_that_is_light() {
        let mut memory = BoundedCache::new(100);
        memory.insert_weighted(b"heavy", 0, 50);
        assert_eq!(memory.get_if(b"heavy", |_| true), Some(0));
        memory.insert_weighted(b"next", 1, 50);
        memory.insert_weighted(b"last", 2, 1);
        assert_eq!(memory.get_if(b"heavy", |_| true), None);
        assert_eq!(memory.get_if(b"next", |_| true), Some(1));
        memory.insert_weighted(b"next", 3, 51);
        assert_eq!(memory.get_if(b"next", |_| true), None, "neither this one nor the former");
        for at in 0_u16..1_000 {
            memory.insert_weighted(&(at % 7).to_ne_bytes(), 4, usize::from(at % 50));
            let weighed = |half: &Half<i32>| half.entries.values().map(|it| it.weight).sum();
            let [young, old]: [usize; 2] = [weighed(&memory.young), weighed(&memory.old)];
            assert_eq!((young, old), (memory.young.weight, memory.old.weight));
            assert!(young <= 50 && old <= 50);
        }
    }
}
