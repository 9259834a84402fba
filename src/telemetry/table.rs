//! A lock-free map that only grows, up to a limit.
//!
//! Open addressing over slots that are set once. A look-up costs one acquire load and one
//! comparison for each visited slot. Rows are never removed: a counter that vanishes looks like a
//! restart.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHasher;

/// The map. Memory: two to four slots of two words for each possible row, and the existing rows.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    /// A power of two of slots.
    slots: Box<[Slot<K, V>]>,
    rows: AtomicUsize,
    rows_max: usize,
}

type Slot<K, V> = OnceLock<Box<Row<K, V>>>;

#[derive(Debug)]
struct Row<K, V> {
    key: K,
    value: V,
}

impl<K, V: Default> Table<K, V> {
    /// An empty table for at most `rows_max` rows.
    pub(super) fn new(rows_max: usize) -> Self {
        let slots = rows_max.saturating_mul(2).next_power_of_two();
        let slots = (0..slots).map(|_| OnceLock::new()).collect();
        Self { slots, rows: AtomicUsize::new(0), rows_max }
    }

    /// The value of the key that `is` recognises, or a new row with `key()`. `None` if the table is
    /// full. `hashed` is the hash input of the key.
    pub(super) fn get_or_insert(
        &self,
        hashed: impl Hash,
        is: impl Fn(&K) -> bool,
        key: impl Fn() -> K,
    ) -> Option<&V> {
        self.slot_or_insert(hashed, is, key).map(|(_, value)| value)
    }

    /// The same, with the index of the row's slot, which never changes.
    pub(super) fn slot_or_insert(
        &self,
        hashed: impl Hash,
        is: impl Fn(&K) -> bool,
        key: impl Fn() -> K,
    ) -> Option<(usize, &V)> {
        let first = self.first_slot(hashed);
        for passed in 0..self.slots.len() {
            let at = first.wrapping_add(passed) & self.last_slot();
            let slot = self.slots.get(at)?;
            let row = match slot.get() {
                Some(row) => row,
                None if self.reserve_row() => {
                    slot.get_or_init(|| Box::new(Row { key: key(), value: V::default() }))
                }
                None => return None,
            };
            if is(&row.key) {
                return Some((at, &row.value));
            }
        }
        None
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The key in a slot.
    pub(super) fn key(&self, slot: usize) -> Option<&K> {
        self.slots.get(slot)?.get().map(|row| &row.key)
    }

    /// All existing rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().filter_map(OnceLock::get).map(|row| (&row.key, &row.value))
    }

    fn first_slot(&self, hashed: impl Hash) -> usize {
        let mut hasher = FxHasher::default();
        hashed.hash(&mut hasher);
        let last = u64::try_from(self.last_slot()).unwrap_or(u64::MAX);
        usize::try_from(hasher.finish() & last).unwrap_or(0)
    }

    fn last_slot(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// Reserves one more row. Two threads that race for one slot may reserve two: the table then
    /// holds fewer rows than its limit, never more.
    fn reserve_row(&self) -> bool {
        self.rows.fetch_add(1, Ordering::Relaxed) < self.rows_max || {
            self.rows.fetch_sub(1, Ordering::Relaxed);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn count(table: &Table<u64, AtomicU64>, key: u64) -> bool {
        let row = table.get_or_insert(key, |known| *known == key, || key);
        row.map(|value| value.fetch_add(1, Ordering::Relaxed)).is_some()
    }

    #[test]
    fn a_key_finds_its_own_row_again() {
        let table = Table::new(64);
        assert!((0..3).all(|_| (0..64).all(|key| count(&table, key))));
        assert_eq!(table.rows().count(), 64);
        assert!(table.rows().all(|(_, value)| value.load(Ordering::Relaxed) == 3));
    }

    #[test]
    fn a_full_table_rejects_new_keys_and_keeps_the_old_ones() {
        let table = Table::new(8);
        assert!((0..8).all(|key| count(&table, key)));
        assert!((8..10_000).all(|key| !count(&table, key)));
        assert!((0..8).all(|key| count(&table, key)));
        assert_eq!(table.rows().count(), 8);
    }

    #[test]
    fn threads_that_race_lose_no_count() {
        let table = Table::new(32);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1000).for_each(|_| assert!((0..8).all(|key| count(&table, key))))
                });
            }
        });
        assert!(table.rows().all(|(_, value)| value.load(Ordering::Relaxed) == 4000));
        assert_eq!(table.rows().count(), 8);
    }
}
