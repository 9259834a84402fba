//! A cache of the latest header blocks: repeated blocks are decoded and validated once.

use std::rc::Rc;

use crate::wire::connection::{Connection, Role};
use crate::wire::head::{self, MalformedHead, Promise};
use crate::wire::hpack::Fields;

/// Maximum number of cached blocks: requests alternate between two methods, responses between
/// heads and trailers.
const BLOCKS_MAX: usize = 2;

/// A header block that left the HPACK table unchanged: with the same table, equal octets decode to
/// equal fields.
#[derive(Debug)]
pub(in crate::wire) struct CachedBlock {
    octets: Vec<u8>,
    generation: u64,
    fields: Rc<Fields>,
    /// The kind of block that its fields are valid for.
    validated_as: Option<(BlockKind, Promise)>,
}

/// The latest header blocks.
#[derive(Debug, Default)]
pub(in crate::wire) struct BlockCache {
    blocks: Vec<CachedBlock>,
    /// Index of the block with the current fields.
    latest: Option<usize>,
}

/// The kind of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum BlockKind {
    Request,
    Response,
    Trailers,
}

impl Connection {
    /// Makes the fields of an equal cached block current. `false`: no such block.
    pub(in crate::wire) fn find_cached_block(&mut self, octets: &[u8]) -> bool {
        let generation = self.decoder.generation();
        let same = |block: &CachedBlock| block.generation == generation && block.octets == octets;
        let cache = self.block_cache.get_or_insert_default();
        cache.latest = cache.blocks.iter().position(same);
        let Some(block) = cache.latest.and_then(|index| cache.blocks.get(index)) else {
            return false;
        };
        self.fields = Rc::clone(&block.fields);
        true
    }

    /// Caches the block of the current fields in place of the oldest one.
    pub(in crate::wire) fn cache_block(&mut self, octets: &[u8], generation: u64) {
        let fields = Rc::clone(&self.fields);
        let mut block = CachedBlock { octets: Vec::new(), generation, fields, validated_as: None };
        let cache = self.block_cache.get_or_insert_default();
        let blocks = &mut cache.blocks;
        if blocks.len() >= BLOCKS_MAX {
            block.octets = blocks.remove(0).octets;
            block.octets.clear();
        }
        block.octets.extend_from_slice(octets);
        cache.latest = Some(blocks.len());
        blocks.push(block);
    }

    /// Validates the current fields, unless the cached block was validated before. A repairable
    /// response is repaired, in the cache too.
    pub(in crate::wire) fn validate_fields(
        &mut self,
        kind: BlockKind,
    ) -> Result<Promise, MalformedHead> {
        let cache = self.block_cache.as_mut();
        let block =
            cache.and_then(|cache| cache.latest.and_then(|index| cache.blocks.get_mut(index)));
        if let Some(CachedBlock { validated_as: Some((known, promise)), .. }) = &block
            && *known == kind
        {
            return Ok(*promise);
        }
        let mut result = kind.validate(&self.fields);
        if result.is_err()
            && self.role == Role::Client
            && let Some(repaired) = head::repaired(
                &self.fields,
                kind == BlockKind::Trailers,
                self.local_config.settings.max_header_list_octets(),
            )
        {
            result = kind.validate(&repaired);
            self.fields = Rc::new(repaired);
        }
        if let (Ok(promise), Some(block)) = (result, block) {
            block.validated_as = Some((kind, promise));
            block.fields = Rc::clone(&self.fields);
        }
        result
    }
}

impl BlockKind {
    fn validate(self, fields: &Fields) -> Result<Promise, MalformedHead> {
        match self {
            Self::Request => head::check_request(fields),
            Self::Response => head::check_response(fields),
            Self::Trailers => head::check_trailers(fields).map(|()| Promise::default()),
        }
    }
}
