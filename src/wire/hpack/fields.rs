//! A list of fields in two pieces of memory, made to be used again for the next block.
//!
//! Must never show a value by accident: `Debug` tells sizes only, since values are credentials.

use crate::wire::hpack::decode::Limits;
use crate::wire::hpack::table::size_of;
use crate::wire::hpack::text::{Marks, Text};

/// How a field stood, or shall stand, in its block (RFC 7541 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// It came from a table.
    Indexed,
    /// A literal that entered the table.
    Incremental,
    /// A literal that did not enter the table.
    Without,
    /// A literal that must not enter any table, on any hop (RFC 7541 7.1.3).
    Never,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name, always decoded.
    pub name: &'a [u8],
    /// The value, as it stood on the wire.
    pub value: Text<'a>,
    /// How it stood in its block.
    pub indexing: Indexing,
}

/// Which limit a list went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// [`Limits::octets`].
    Octets,
    /// [`Limits::count`].
    Count,
}

/// Fields that a new list has room for.
const SLOTS_MIN: usize = 12;
/// Octets that a list has room for beyond those of its block: what tables and Huffman add to it.
const OCTETS_MORE: usize = 256;
/// Octets that a list has room for in any case: a block of a few octets can name a long token.
const OCTETS_MIN: usize = 1024;

/// A list of fields.
#[derive(Clone, Default)]
pub struct Fields {
    /// Name and value of each slot, in order.
    octets: Vec<u8>,
    slots: Vec<Slot>,
    size: usize,
    overflow: Option<Overflow>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Where its name begins.
    at: u32,
    name: u32,
    value: u32,
    value_decoded: u32,
    marks: Marks,
    indexing: Indexing,
}

impl Fields {
    /// Empties the list; its memory stays.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.slots.clear();
        self.size = 0;
        self.overflow = None;
    }

    /// Makes room for what a block of so many octets may well hold, if there is none yet.
    pub(super) fn reserve(&mut self, block: usize) {
        if self.octets.capacity() == 0 {
            self.octets.reserve(block.saturating_add(OCTETS_MORE).max(OCTETS_MIN));
            self.slots.reserve(SLOTS_MIN);
        }
    }

    /// How many fields are stored.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no field is stored.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.slots.iter().filter_map(|slot| self.field(slot))
    }

    /// The name of the last field.
    pub(super) fn last_name(&self) -> Option<&[u8]> {
        self.slots.last().and_then(|slot| self.field(slot)).map(|field| field.name)
    }

    /// The fields of this name with their places in the list, in their order.
    pub fn named(&self, name: &[u8]) -> impl Iterator<Item = (usize, Field<'_>)> {
        let of_length = |(_, slot): &(usize, &Slot)| widen(slot.name) == name.len();
        let slots = self.slots.iter().enumerate().filter(of_length);
        slots.filter_map(move |(place, slot)| {
            self.field(slot).filter(|field| field.name == name).map(|field| (place, field))
        })
    }

    fn field(&self, slot: &Slot) -> Option<Field<'_>> {
        let octets = self.octets.get(widen(slot.at)..)?;
        let (name, octets) = octets.split_at_checked(widen(slot.name))?;
        let value = octets.get(..widen(slot.value))?;
        let value = Text::stored(value, widen(slot.value_decoded), slot.marks);
        Some(Field { name, value, indexing: slot.indexing })
    }

    /// Appends a field of our own; `value` is not Huffman-coded.
    pub fn push(&mut self, name: &[u8], value: &[u8], indexing: Indexing) {
        self.push_field(Field { name, value: Text::raw(value), indexing });
    }

    /// Appends a copy of a field.
    pub fn push_field(&mut self, field: Field<'_>) {
        let name =
            Text::stored(field.name, field.name.len(), Marks { huffman: false, clean: true });
        self.push_limited(name, field.value, field.indexing, UNLIMITED);
    }

    /// The list's size as HPACK counts it, of decoded lengths (RFC 7541 4.1, RFC 9113 6.5.2).
    pub fn size(&self) -> usize {
        self.size
    }

    /// The limit that the block went over, if any: the list then holds what came before.
    pub fn overflow(&self) -> Option<Overflow> {
        self.overflow
    }

    /// Gives back the memory that the list does not use.
    pub fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    /// Appends a field, or notes that it went over a limit. From then on nothing is copied.
    pub(super) fn push_limited(
        &mut self,
        name: Text<'_>,
        value: Text<'_>,
        indexing: Indexing,
        limits: Limits,
    ) {
        if self.overflow.is_some() {
            return;
        }
        let size = self.size.saturating_add(size_of(name.decoded_len(), value.decoded_len()));
        if size > limits.octets {
            self.overflow = Some(Overflow::Octets);
        } else if self.slots.len() >= limits.count {
            self.overflow = Some(Overflow::Count);
        } else if let Some(slot) = Slot::new(self.octets.len(), &name, &value, indexing) {
            self.size = size;
            self.slots.push(slot);
            name.append_decoded(&mut self.octets);
            self.octets.extend_from_slice(value.encoded());
        } else {
            self.overflow = Some(Overflow::Octets);
        }
    }
}

/// For lists of our own.
const UNLIMITED: Limits = Limits { octets: usize::MAX, count: usize::MAX };

impl Slot {
    /// `None` if a place or a length does not fit 32 bits.
    fn new(at: usize, name: &Text<'_>, value: &Text<'_>, indexing: Indexing) -> Option<Self> {
        Some(Self {
            at: u32::try_from(at).ok()?,
            name: u32::try_from(name.decoded_len()).ok()?,
            value: u32::try_from(value.encoded().len()).ok()?,
            value_decoded: u32::try_from(value.decoded_len()).ok()?,
            marks: value.marks(),
            indexing,
        })
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { octets: _, slots, size, overflow } = self;
        out.debug_struct("Fields")
            .field("len", &slots.len())
            .field("size", size)
            .field("overflow", overflow)
            .finish_non_exhaustive()
    }
}

fn widen(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_and_size() {
        let mut fields = Fields::default();
        assert!(fields.is_empty());
        fields.push(b"a", b"", Indexing::Never);
        fields.push(b"", b"12", Indexing::Without);
        let seen: Vec<_> = fields.iter().map(|f| (f.name, f.value.encoded(), f.indexing)).collect();
        assert_eq!(seen, [(&b"a"[..], &b""[..], Indexing::Never), (b"", b"12", Indexing::Without)]);
        assert_eq!((fields.len(), fields.size(), fields.overflow()), (2, 67, None));
        let places: Vec<_> = fields.named(b"").map(|(place, _)| place).collect();
        assert_eq!((places, fields.named(b"b").count()), (vec![1], 0));
    }

    #[test]
    fn a_copy_is_equal_and_a_cleared_list_is_as_new() {
        let mut fields = Fields::default();
        fields.push(b"name", b"value", Indexing::Without);
        let mut copy = Fields::default();
        fields.iter().for_each(|field| copy.push_field(field));
        assert_eq!(copy.octets, fields.octets);
        fields.clear();
        fields.shrink();
        assert_eq!((fields.len(), fields.size(), fields.octets.capacity()), (0, 0, 0));
        assert_eq!(copy.iter().next().map(|field| field.name), Some(&b"name"[..]));
    }

    #[test]
    fn debug_shows_no_value() {
        let mut fields = Fields::default();
        fields.push(b"authorization", b"secret", Indexing::Never);
        let shown = format!("{fields:?} {:?}", fields.iter().next());
        assert!(!shown.contains("secret") && !shown.contains(&format!("{:?}", b"secret")));
    }
}
