//! Lately: a bounded memory, which keeps what is used and forgets what nobody has used for long.
//!
//! Two halves: when the young one is full it becomes the old one, and what has not been asked for
//! since then is forgotten with it. Keys may be chosen by strangers: the hash is keyed.

use std::collections::HashMap;

/// What was used lately, by octets that it is known by.
#[derive(Debug)]
pub struct Lately<V> {
    young: Half<V>,
    old: Half<V>,
    most: usize,
}

type Half<V> = HashMap<Box<[u8]>, V>;

impl<V: Clone> Lately<V> {
    /// A memory of at most so many entries, of which at least half are those used last.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { young: Half::new(), old: Half::new(), most }
    }

    /// What is remembered under this key, if it is what is wanted. That is a use.
    pub fn recall(&mut self, key: &[u8], is_wanted: impl Fn(&V) -> bool) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return is_wanted(value).then(|| value.clone());
        }
        self.old.get(key).filter(|value| is_wanted(value))?;
        let (key, value) = self.old.remove_entry(key)?;
        self.keep(key, value.clone());
        Some(value)
    }

    /// Remembers it, instead of what was known by this key.
    pub fn remember(&mut self, key: &[u8], value: V) {
        self.old.remove(key);
        self.keep(key.into(), value);
    }

    /// What is remembered under this key, to be changed; `None` for what is not known. That is a
    /// use.
    pub fn find(&mut self, key: &[u8]) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.keep(key, value);
        }
        self.young.get_mut(key)
    }

    /// The same, and of what is not known the default.
    pub fn entry(&mut self, key: &[u8]) -> &mut V
    where
        V: Default,
    {
        if !self.young.contains_key(key) {
            let (key, value) =
                self.old.remove_entry(key).unwrap_or_else(|| (key.into(), V::default()));
            self.keep(key, value);
        }
        self.young.entry(key.into()).or_default()
    }

    fn keep(&mut self, key: Box<[u8]>, value: V) {
        if self.young.len() >= self.most / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_recalled_if_it_is_what_is_wanted() {
        let mut memory = Lately::new(4);
        memory.remember(b"a", 1);
        assert_eq!(memory.recall(b"a", |it| *it == 1), Some(1));
        assert_eq!(memory.recall(b"a", |it| *it == 2), None);
        assert_eq!(memory.recall(b"ab", |_| true), None);
        memory.remember(b"a", 2);
        assert_eq!(memory.recall(b"a", |_| true), Some(2));
    }

    #[test]
    fn what_is_newly_remembered_counts_wherever_the_former_one_lies() {
        let mut memory = Lately::new(4);
        for (key, value) in [(b"a", 1), (b"b", 1), (b"c", 1), (b"a", 2)] {
            memory.remember(key, value);
        }
        assert_eq!(memory.recall(b"a", |_| true), Some(2));
    }

    #[test]
    fn what_is_changed_in_place_is_used_wherever_it_lies() {
        let mut memory = Lately::<u8>::new(4);
        assert_eq!(memory.find(b"a"), None);
        *memory.entry(b"a") = 1;
        for key in [b"b", b"c", b"a", b"d", b"e"] {
            *memory.entry(key) += 1;
        }
        assert_eq!(memory.find(b"a"), Some(&mut 2));
        assert_eq!(memory.find(b"b"), None);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let most = 100;
        let mut memory = Lately::new(most);
        memory.remember(b"used", 0);
        for round in 0..5 * most {
            memory.remember(format!("once {round}").as_bytes(), round);
            assert_eq!(memory.recall(b"used", |_| true), Some(0));
            assert!(memory.young.len() + memory.old.len() <= most);
        }
        assert_eq!(memory.recall(b"once 0", |_| true), None);
        assert!(memory.recall(format!("once {}", 5 * most - 1).as_bytes(), |_| true).is_some());
    }
}
