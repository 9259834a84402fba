//! The static and the dynamic table of one direction (RFC 7541, 2.3).
//!
//! Compact, since every idle connection has two: an entry needs its octets plus 20, an empty table
//! needs no allocation. Values keep their encoding, but sizes are of the *decoded* texts (RFC 7541,
//! 4.1), as the peer counts them.
//!
//! Memory: at most three times the table size, plus 20 octets per entry.

use std::collections::VecDeque;

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::static_table::{self, Lookup};
use crate::wire::hpack::text::{Marks, Text};

/// Overhead of an entry in addition to its name and value, in octets (RFC 7541, 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;
/// Minimum growth of the octets of a table: the first request has about 12 entries.
const GROWTH_MIN: usize = 512;
/// Initial capacity in entries.
const ENTRIES_MIN: usize = 16;

/// A name to insert: a literal, or the name of an entry.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Literal(Text<'a>),
    Indexed(usize),
}

/// Both tables of one direction.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The entries, oldest first.
    entries: VecDeque<Entry>,
    /// Names and values of all entries, in order, behind `evicted` unused octets.
    octets: Vec<u8>,
    evicted: usize,
    /// The value of [`Entry::at`] for the first element of `octets`.
    base: u32,
    size: usize,
    size_max: usize,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name: u32,
    value: u32,
    value_decoded: u32,
    marks: Marks,
}

impl Entry {
    fn size(&self) -> usize {
        size_of(widen(self.name), widen(self.value_decoded))
    }
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            octets: Vec::new(),
            evicted: 0,
            base: 0,
            size: 0,
            size_max,
            generation: 0,
        }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// A number that changes with every change.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes the generation.
    pub(super) fn bump_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The entry at `index`, from 1; the static table comes first.
    pub(super) fn get(&self, index: usize) -> Result<(&[u8], Text<'_>), DecodeError> {
        if let Some((name, value)) = static_table::get(index) {
            return Ok((name, Text::stored(value, value.len(), PLAIN)));
        }
        self.dynamic(index).and_then(|entry| self.view(entry)).ok_or(match index {
            0 => DecodeError::IndexZero,
            1.. => DecodeError::IndexBeyond,
        })
    }

    /// The index of the field `name` with `value`, or of the name alone.
    pub(super) fn find(&self, name: &[u8], value: Option<&Text<'_>>) -> Lookup {
        let mut found = static_table::find(name, value);
        if matches!(found, Lookup::Field(_)) || (found != Lookup::NotFound && value.is_none()) {
            return found;
        }
        // No hash: only entries with a name of equal length are compared, and all entries together
        // are limited by the table size.
        for (index, entry) in
            (static_table::COUNT.saturating_add(1)..).zip(self.entries.iter().rev())
        {
            if widen(entry.name) != name.len() {
                continue;
            }
            let Some((_, text)) = self.view(entry).filter(|&(known, _)| known == name) else {
                continue;
            };
            if value.is_some_and(|value| value.has_same_encoding(&text)) {
                return Lookup::Field(index);
            }
            if found == Lookup::NotFound {
                found = Lookup::Name(index);
            }
        }
        found
    }

    /// Changes the size and evicts entries that no longer fit (RFC 7541, 4.3).
    pub(super) fn resize(&mut self, size_max: usize) {
        self.bump_generation();
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            *self = Self { generation: self.generation, ..Self::new(size_max) };
        }
    }

    /// Inserts an entry and evicts others for its space (RFC 7541, 4.4). An entry larger than the
    /// table evicts all entries and is not inserted.
    pub(super) fn insert(&mut self, name: Name<'_>, value: Text<'_>) -> Result<(), DecodeError> {
        self.bump_generation();
        let name_len = match name {
            Name::Literal(text) => text.decoded_len(),
            Name::Indexed(index) => self.get(index)?.0.len(),
        };
        let size = size_of(name_len, value.decoded_len());
        let Some(others) = self.size_max.checked_sub(size) else {
            self.evict_to(0);
            return Ok(());
        };
        // A value of rare octets can be longer in Huffman code; it is stored decoded, so that the
        // table does not exceed its size.
        let plain = value.encoded().len() > value.decoded_len();
        let value_len = value.encoded().len().min(value.decoded_len());
        self.make_room(name_len.saturating_add(value_len));
        let at = self.base.wrapping_add(narrow(self.octets.len()));
        self.append_name(name);
        if plain {
            value.append_decoded(&mut self.octets)
        } else {
            self.append(value.encoded())
        }
        // Evict after copying: the name may belong to an evicted entry.
        self.evict_to(others);
        self.size = self.size.saturating_add(size);
        if self.entries.capacity() == 0 {
            self.entries.reserve(ENTRIES_MIN);
        }
        self.entries.push_back(Entry {
            at,
            name: narrow(name_len),
            value: narrow(value_len),
            value_decoded: narrow(value.decoded_len()),
            marks: Marks { huffman: value.is_huffman() && !plain, clean: value.is_clean() },
        });
        Ok(())
    }

    fn append_name(&mut self, name: Name<'_>) {
        match name {
            Name::Literal(text) => text.append_decoded(&mut self.octets),
            Name::Indexed(index) => {
                if let Some((name, _)) = static_table::get(index) {
                    self.append(name);
                } else if let Some((at, len)) = self.dynamic(index).map(|e| (e.at, e.name)) {
                    let start = self.offset(at);
                    let end = start.saturating_add(widen(len)).min(self.octets.len());
                    self.octets.extend_from_within(start.min(end)..end);
                }
            }
        }
    }

    fn append(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Makes room for `need` octets. Evicted octets are removed once they are half of all, so that
    /// moving is amortised; otherwise the memory grows by half or by `need`.
    fn make_room(&mut self, need: usize) {
        if self.free() >= need {
            return;
        }
        if self.evicted >= self.octets.len().saturating_sub(self.evicted) {
            self.octets.drain(..self.evicted);
            self.base = self.base.wrapping_add(narrow(self.evicted));
            self.evicted = 0;
        }
        if self.free() < need {
            self.octets.reserve_exact(need.max(self.octets.len() >> 1).max(GROWTH_MIN));
        }
    }

    /// Frees unused memory.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn free(&self) -> usize {
        self.octets.capacity().saturating_sub(self.octets.len())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else {
                debug_assert!(false, "the size of an empty table is {}", self.size);
                return;
            };
            self.size = self.size.saturating_sub(entry.size());
            let octets = widen(entry.name).saturating_add(widen(entry.value));
            self.evicted = self.evicted.saturating_add(octets);
        }
    }

    fn dynamic(&self, index: usize) -> Option<&Entry> {
        let age = index.checked_sub(static_table::COUNT)?;
        self.entries.get(self.entries.len().checked_sub(age)?)
    }

    fn view(&self, entry: &Entry) -> Option<(&[u8], Text<'_>)> {
        let rest = self.octets.get(self.offset(entry.at)..)?;
        let (name, rest) = rest.split_at_checked(widen(entry.name))?;
        let value = rest.get(..widen(entry.value))?;
        Some((name, Text::stored(value, widen(entry.value_decoded), entry.marks)))
    }

    fn offset(&self, at: u32) -> usize {
        widen(at.wrapping_sub(self.base))
    }
}

/// The marks of values in the static table.
const PLAIN: Marks = Marks { huffman: false, clean: true };

/// The size of a field in octets as HPACK counts them (RFC 7541, 4.1).
pub(super) fn size_of(name: usize, value: usize) -> usize {
    name.saturating_add(value).saturating_add(ENTRY_OVERHEAD)
}

/// Lengths in a table fit into 32 bits, like its size.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn widen(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
