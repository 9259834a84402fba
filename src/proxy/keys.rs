//! Keys: typed indices of streams and upstream connections, and the slab that they index.
//!
//! A key says nothing of whether its entry is still there: a look-up with a key that is out of date
//! finds nothing, or the entry that took its place. So no key may be kept across the end of its
//! entry.

use std::marker::PhantomData;

use slab::Slab;

/// The key of an open stream of one client connection. It is the tag of that stream in the HTTP/2
/// connections on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamKey(usize);

/// The key of an upstream connection of one client connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UpstreamKey(usize);

/// A key of a [`KeyedSlab`].
pub(super) trait Key: Copy {
    /// The key of this index.
    fn from_index(index: usize) -> Self;
    /// The index in the slab.
    fn index(self) -> usize;
}

impl Key for StreamKey {
    fn from_index(index: usize) -> Self {
        Self(index)
    }

    fn index(self) -> usize {
        self.0
    }
}

impl Key for UpstreamKey {
    fn from_index(index: usize) -> Self {
        Self(index)
    }

    fn index(self) -> usize {
        self.0
    }
}

impl StreamKey {
    pub(super) fn from_tag(tag: u32) -> Self {
        Self(usize::try_from(tag).unwrap_or(usize::MAX))
    }

    pub(super) fn tag(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// A slab with typed keys.
pub(super) struct KeyedSlab<K, T> {
    slab: Slab<T>,
    key: PhantomData<K>,
}

impl<K: Key, T> KeyedSlab<K, T> {
    /// An empty slab without memory.
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), key: PhantomData }
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { slab: Slab::with_capacity(capacity), key: PhantomData }
    }

    /// Inserts an entry. The first one allocates memory for one alone: most client connections have
    /// one open call.
    pub(super) fn insert(&mut self, entry: T) -> K {
        if self.slab.capacity() == 0 {
            self.slab.reserve_exact(1);
        }
        K::from_index(self.slab.insert(entry))
    }

    pub(super) fn get(&self, key: K) -> Option<&T> {
        self.slab.get(key.index())
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.slab.get_mut(key.index())
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.slab.contains(key.index())
    }

    pub(super) fn try_remove(&mut self, key: K) -> Option<T> {
        self.slab.try_remove(key.index())
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.slab.drain()
    }

    /// The key of the first entry with this property.
    pub(super) fn find_key(&self, has: impl Fn(&T) -> bool) -> Option<K> {
        self.slab.iter().find(|(_, entry)| has(entry)).map(|(index, _)| K::from_index(index))
    }

    /// All entries, in the order of their keys.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &T)> {
        self.slab.iter().map(|(index, entry)| (K::from_index(index), entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (K, &mut T)> {
        self.slab.iter_mut().map(|(index, entry)| (K::from_index(index), entry))
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_entry_until_it_is_removed() {
        let mut slab = KeyedSlab::<StreamKey, &str>::new();
        let [one, two] = ["one", "two"].map(|entry| slab.insert(entry));
        assert_eq!(StreamKey::from_tag(two.tag()), two);
        assert_eq!((slab.get(one), slab.get(two), slab.len()), (Some(&"one"), Some(&"two"), 2));
        assert_eq!(slab.try_remove(one), Some("one"));
        assert_eq!(slab.get(one), None);
        assert_eq!(slab.try_remove(one), None);
        assert_eq!(slab.find_key(|entry| *entry == "two"), Some(two));
        assert_eq!(slab.iter().map(|(key, _)| key).collect::<Vec<_>>(), [two]);
    }

    #[test]
    fn the_first_entry_allocates_memory_for_one_alone() {
        let mut slab = KeyedSlab::<UpstreamKey, [u8; 100]>::new();
        slab.insert([0; 100]);
        assert_eq!(slab.slab.capacity(), 1);
    }
}
