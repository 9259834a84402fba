//! The tables of one direction (RFC 7541 2.3): the static one, and the dynamic one behind it.
//!
//! An idle connection keeps two of these, so that an entry costs its octets and twenty more, and an
//! empty table nothing. Values stay as they stood on the wire, but sizes are those of the *decoded*
//! texts (RFC 7541 4.1): anything else would put us out of step with the peer.
//!
//! Memory: at most three times the table's size, and twenty octets an entry.

use std::collections::VecDeque;

use crate::wire::hpack::DecodeError;
use crate::wire::hpack::static_table::{self, Lookup};
use crate::wire::hpack::text::{Marks, Text};

/// What an entry counts on top of its name and value (RFC 7541 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;
/// Octets of memory that a table grows by, at least: the first request brings a dozen entries.
const GROWTH_MIN: usize = 512;
/// Entries that a table has room for from the first one on.
const ENTRIES_MIN: usize = 16;

/// A name to insert: given, or that of another entry.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Literal(Text<'a>),
    Indexed(usize),
}

/// Both tables of one direction.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// Name and value of each entry, in order; `dead` octets of evicted ones are before them.
    octets: Vec<u8>,
    evicted: usize,
    /// What [`Entry::at`] calls the first of `octets`.
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

    /// Another number after every change.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Marks a change that is not in the table itself.
    pub(super) fn bump_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The entry at `index`, counted from 1, the static table first.
    pub(super) fn get(&self, index: usize) -> Result<(&[u8], Text<'_>), DecodeError> {
        if let Some((name, value)) = static_table::get(index) {
            return Ok((name, Text::stored(value, value.len(), PLAIN)));
        }
        self.dynamic(index).and_then(|entry| self.view(entry)).ok_or(match index {
            0 => DecodeError::IndexZero,
            1.. => DecodeError::IndexBeyond,
        })
    }

    /// Where `name` stands with this very `value`, or the name alone.
    pub(super) fn find(&self, name: &[u8], value: Option<&Text<'_>>) -> Lookup {
        let mut found = static_table::find(name, value);
        if matches!(found, Lookup::Field(_)) || (found != Lookup::NotFound && value.is_none()) {
            return found;
        }
        // No hash: an entry is looked at closely only if its lengths agree, and all octets of all
        // entries together are no more than the table's size.
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

    /// Changes the size, and evicts what no longer fits (RFC 7541 4.3).
    pub(super) fn resize(&mut self, size_max: usize) {
        self.bump_generation();
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            *self = Self { generation: self.generation, ..Self::new(size_max) };
        }
    }

    /// Inserts an entry, and evicts what it displaces (RFC 7541 4.4): everything, and the entry is
    /// not inserted either, if it is larger than the table.
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
        // A value of rare octets may be longer in Huffman code: stored decoded, a table never
        // outgrows its size.
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
        // Only now: the name may be that of an entry which goes.
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

    /// Makes room for `need` octets: in place of the dead ones once they are half of all, so that
    /// each octet is moved once at most for each that came; else by growing, no more than needed
    /// or half.
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

    /// Gives back the memory that no entry uses.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn free(&self) -> usize {
        self.octets.capacity().saturating_sub(self.octets.len())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { return };
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

/// The marks of the static table's values.
const PLAIN: Marks = Marks { huffman: false, clean: true };

/// The size of a field as HPACK counts it (RFC 7541 4.1).
pub(super) fn size_of(name: usize, value: usize) -> usize {
    name.saturating_add(value).saturating_add(ENTRY_OVERHEAD)
}

/// All lengths in a table are below its size, which is 32 bits.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn widen(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
