//! Header blocks for the peer (RFC 7541 3.1).
//!
//! A relay's encoder: values go out in the octets they came in, Huffman-coded or not. Must never
//! index a credential, nor what another hop did not want indexed.

use crate::wire::hpack::decode::{SIZE_INITIAL, octets};
use crate::wire::hpack::fields::{Field, Indexing};
use crate::wire::hpack::integer;
use crate::wire::hpack::statics::Found;
use crate::wire::hpack::table::{Name, Table, size_of};
use crate::wire::hpack::text::Text;

/// The most of the peer's memory that we use, whatever it offers. Octets.
const SIZE_MAX: u32 = SIZE_INITIAL;

/// Encodes what goes to one peer.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: Table,
    /// The smallest size since the last block, if there was a change.
    smallest: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// A table of 4,096 octets, until the peer's SETTINGS say otherwise.
    pub fn new() -> Self {
        Self { table: Table::new(octets(SIZE_INITIAL)), smallest: None }
    }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE, of which no more than 4,096 is used. The next
    /// block begins by saying so (RFC 7541 4.2).
    pub fn limit_table(&mut self, peer_max: u32) {
        let size = octets(peer_max.min(SIZE_MAX));
        if size == self.table.size_max() && self.smallest.is_none() {
            return;
        }
        self.smallest = Some(self.smallest.map_or(size, |smallest| smallest.min(size)));
        self.table.resize(size);
    }

    /// Another number after each change of the table: fields that met an equal generation, and
    /// left it so, are equal blocks.
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// Appends one whole block.
    pub fn encode<'f>(&mut self, fields: impl IntoIterator<Item = Field<'f>>, out: &mut Vec<u8>) {
        self.announce(out);
        for field in fields {
            match plan(&field, self.table.size_max()) {
                Plan::Table => self.tabled(&field, out),
                Plan::Without => self.literal(&field, 0x00, out),
                Plan::Never => self.literal(&field, 0x10, out),
            }
        }
    }

    fn announce(&mut self, out: &mut Vec<u8>) {
        let Some(smallest) = self.smallest.take() else { return };
        self.table.renew();
        let size = self.table.size_max();
        if smallest < size {
            integer::write(out, 0x20, 5, smallest);
        }
        integer::write(out, 0x20, 5, size);
    }

    fn tabled(&mut self, field: &Field<'_>, out: &mut Vec<u8>) {
        let name = match self.table.find(field.name, Some(&field.value)) {
            Found::Field(index) => return integer::write(out, 0x80, 7, index),
            Found::Name(index) => {
                integer::write(out, 0x40, 6, index);
                Name::At(index)
            }
            Found::Nothing => {
                out.push(0x40);
                string(out, &Text::raw(field.name));
                Name::Given(Text::raw(field.name))
            }
        };
        string(out, &field.value);
        let inserted = self.table.insert(name, field.value);
        debug_assert!(inserted.is_ok(), "the name was found a moment ago");
    }

    fn literal(&self, field: &Field<'_>, flags: u8, out: &mut Vec<u8>) {
        match self.table.find(field.name, None) {
            Found::Field(index) | Found::Name(index) => integer::write(out, flags, 4, index),
            Found::Nothing => {
                out.push(flags);
                string(out, &Text::raw(field.name));
            }
        }
        string(out, &field.value);
    }
}

/// How a field goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// By its index, or as a literal that gets one.
    Table,
    Without,
    Never,
}

fn plan(field: &Field<'_>, size_max: usize) -> Plan {
    match field.indexing {
        Indexing::Never => return Plan::Never,
        Indexing::Without => {
            return if is_credential(field.name) { Plan::Never } else { Plan::Without };
        }
        Indexing::Indexed | Indexing::Incremental => {}
    }
    if is_credential(field.name) {
        return Plan::Never;
    }
    // Above three quarters of the table, an entry drives nearly everything out.
    let size = size_of(field.name.len(), field.value.decoded_len());
    let large = size > size_max.saturating_sub(size_max >> 2);
    if large || varies(field.name) { Plan::Without } else { Plan::Table }
}

fn is_credential(name: &[u8]) -> bool {
    name == b"authorization"
}

/// Names whose value is another one with each call: an entry would never be used.
fn varies(name: &[u8]) -> bool {
    matches!(
        name,
        b"grpc-timeout"
            | b"grpc-message"
            | b"grpc-status-details-bin"
            | b"content-length"
            | b"traceparent"
            | b"tracestate"
            | b"x-request-id"
    )
}

fn string(out: &mut Vec<u8>, text: &Text<'_>) {
    let flags = if text.is_huffman() { 0x80 } else { 0x00 };
    integer::write(out, flags, 7, text.encoded().len());
    out.extend_from_slice(text.encoded());
}
