//! A list of fields in two allocations, reusable for the next block.
//!
//! `Debug` shows sizes only, since values may be credentials.

use crate::wire::hpack::decode::Limits;
use crate::wire::hpack::table::size_of;
use crate::wire::hpack::text::{Marks, Text};

/// The representation of a field in its block (RFC 7541, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// An index into a table.
    Indexed,
    /// A literal with incremental indexing.
    Incremental,
    /// A literal without indexing.
    Without,
    /// A literal that must not be indexed on any hop (RFC 7541, 7.1.3).
    Never,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The decoded name.
    pub name: &'a [u8],
    /// The value in its original encoding.
    pub value: Text<'a>,
    /// Its representation.
    pub indexing: Indexing,
}

/// The exceeded limit of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// [`Limits::octets`].
    Octets,
    /// [`Limits::count`].
    Count,
}

/// Initial capacity in fields.
const SLOTS_MIN: usize = 12;
/// Initial capacity in octets beyond the length of the block, for expansion by tables and Huffman.
const OCTETS_MORE: usize = 256;
/// Minimum initial capacity in octets: a few octets can reference a long token.
const OCTETS_MIN: usize = 1024;

/// A list of fields.
#[derive(Clone, Default)]
pub struct Fields {
    /// Names and values of all slots, in order.
    octets: Vec<u8>,
    slots: Vec<Slot>,
    size: usize,
    overflow: Option<Overflow>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Offset of the name.
    at: u32,
    name: u32,
    value: u32,
    value_decoded: u32,
    marks: Marks,
    indexing: Indexing,
}

impl Fields {
    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.slots.clear();
        self.size = 0;
        self.overflow = None;
    }

    /// Allocates the initial capacity for a block of this length.
    pub(super) fn reserve(&mut self, block_len: usize) {
        if self.octets.capacity() == 0 {
            self.octets.reserve(block_len.saturating_add(OCTETS_MORE).max(OCTETS_MIN));
            self.slots.reserve(SLOTS_MIN);
        }
    }

    /// Number of stored fields.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the list has no fields.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.slots.iter().filter_map(|slot| self.field(slot))
    }

    /// The name of the last field.
    pub(super) fn last_name(&self) -> Option<&[u8]> {
        self.slots.last().and_then(|slot| self.field(slot)).map(|field| field.name)
    }

    /// The fields with this name, with their index in the list, in order.
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

    /// Appends a field; `value` is not Huffman-coded.
    pub fn push(&mut self, name: &[u8], value: &[u8], indexing: Indexing) {
        self.push_field(Field { name, value: Text::raw(value), indexing });
    }

    /// Appends a copy of a field.
    pub fn push_field(&mut self, field: Field<'_>) {
        let name =
            Text::stored(field.name, field.name.len(), Marks { huffman: false, clean: true });
        self.push_limited(name, field.value, field.indexing, UNLIMITED);
    }

    /// The size of the list in octets as HPACK counts them (RFC 7541, 4.1; RFC 9113, 6.5.2).
    pub fn size(&self) -> usize {
        self.size
    }

    /// The limit that the block exceeds, if any: the list then has only the fields before.
    pub fn overflow(&self) -> Option<Overflow> {
        self.overflow
    }

    /// Appends a field, or notes the exceeded limit. After that, no field is stored.
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

/// The limits of lists that do not come from a peer.
const UNLIMITED: Limits = Limits { octets: usize::MAX, count: usize::MAX };

impl Slot {
    /// `None`: an offset or a length does not fit into 32 bits.
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
    fn fields_are_stored_in_order_with_their_size() {
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
    fn a_copied_list_is_equal_and_a_cleared_list_is_empty() {
        let mut fields = Fields::default();
        fields.push(b"name", b"value", Indexing::Without);
        let mut copy = Fields::default();
        fields.iter().for_each(|field| copy.push_field(field));
        assert_eq!(copy.octets, fields.octets);
        fields.clear();
        assert_eq!((fields.len(), fields.size()), (0, 0));
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
