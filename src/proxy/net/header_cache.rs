//! Header block cache: a header list is encoded once while the dynamic table is the same.

use std::rc::Rc;

use crate::wire::connection::Connection;
use crate::wire::hpack::{Field, Fields};

/// Capacity in octets that most blocks fit in.
const BLOCK_MIN: usize = 192;

/// The last header list of one kind on a connection, encoded.
#[derive(Default)]
pub(crate) struct HeaderBlockCache {
    /// `None` if the encoded block cannot be repeated, since it changed the table.
    fields: Option<Rc<Fields>>,
    generation: u64,
    octets: Vec<u8>,
}

impl HeaderBlockCache {
    /// The encoded block of `fields`; `what` selects the forwarded ones. It must be sent next on
    /// `wire`.
    pub(crate) fn block<'f, W>(
        &mut self,
        wire: &mut Connection,
        fields: &'f Rc<Fields>,
        what: impl FnOnce(&'f Fields) -> W,
    ) -> &[u8]
    where
        W: Iterator<Item = Field<'f>>,
    {
        let before = wire.encoder_generation();
        let same = self.fields.as_ref().is_some_and(|known| Rc::ptr_eq(known, fields));
        if !same || self.generation != before {
            self.octets.clear();
            self.octets.reserve(BLOCK_MIN);
            wire.encode(what(fields), &mut self.octets);
            self.generation = wire.encoder_generation();
            self.fields = (self.generation == before).then(|| Rc::clone(fields));
        }
        &self.octets
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wire::connection::{LocalConfig, Role};
    use crate::wire::hpack::{Decoder, Indexing, Limits};
    use crate::wire::settings::Settings;

    const LIMITS: Limits = Limits { octets: 10_000, count: 100 };

    fn list(name: &[u8], value: &[u8]) -> Rc<Fields> {
        let mut fields = Fields::default();
        fields.push(name, value, Indexing::Incremental);
        Rc::new(fields)
    }

    #[test]
    fn a_cached_block_decodes_to_its_fields_whatever_was_sent_between() {
        let offer = LocalConfig { settings: Settings::INITIAL, window: 65_535, headers: LIMITS };
        let mut wire = Connection::new(Role::Server, offer, Instant::now());
        let mut decoder = Decoder::new(4_096);
        let (mut echo, mut other) = (HeaderBlockCache::default(), HeaderBlockCache::default());
        let (one, two) = (list(b"one", b"1"), list(b"two", b"2"));
        let mut lengths = Vec::new();
        let order = [(&one, true), (&one, true), (&one, true), (&two, false), (&one, true)];
        for (fields, first) in order.into_iter().chain([(&two, true), (&one, true)]) {
            let echo = if first { &mut echo } else { &mut other };
            let block = echo.block(&mut wire, fields, Fields::iter);
            let mut read = Fields::default();
            decoder.decode(block, LIMITS, &mut read).unwrap();
            let name = |fields: &Fields| fields.iter().next().map(|field| field.name.to_vec());
            assert_eq!(name(&read), name(fields));
            lengths.push(block.len());
        }
        assert_eq!(lengths, [7, 1, 1, 7, 1, 1, 1]);
    }
}
