//! Memos: the header blocks that came last. Equal ones in a row are decoded and judged once.

use std::rc::Rc;

use crate::wire::connection::{Connection, Role};
use crate::wire::head::{self, MalformedHead, Promise};
use crate::wire::hpack::Fields;

/// Blocks that are remembered: requests alternate between two methods, answers between heads and
/// trailers.
const BLOCKS_MAX: usize = 2;

thread_local! {
    static NONE: Rc<Fields> = Rc::default();
}

/// The fields of a connection that has none, which those of a thread share.
pub(in crate::wire) fn empty_fields() -> Rc<Fields> {
    NONE.with(Rc::clone)
}

/// A block that did not touch the table: the same octets, while the table is the same, are the
/// same fields.
#[derive(Debug)]
pub(in crate::wire) struct CachedBlock {
    octets: Vec<u8>,
    generation: u64,
    fields: Rc<Fields>,
    /// As what it was held against the rules and found good.
    validated_as: Option<(BlockKind, Promise)>,
}

/// The blocks that are remembered.
#[derive(Debug, Default)]
pub(in crate::wire) struct BlockCache {
    blocks: Vec<CachedBlock>,
    /// Which of them holds the latest fields.
    latest: Option<usize>,
}

/// What a header block is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum BlockKind {
    Request,
    Response,
    Trailers,
}

impl Connection {
    /// Takes the fields that the same octets gave before, if nothing has changed since.
    pub(in crate::wire) fn find_cached_block(&mut self, octets: &[u8]) -> bool {
        let generation = self.decoder.generation();
        let same = |memo: &CachedBlock| memo.generation == generation && memo.octets == octets;
        let memos = self.block_cache.get_or_insert_default();
        memos.latest = memos.blocks.iter().position(same);
        let Some(memo) = memos.latest.and_then(|at| memos.blocks.get(at)) else {
            return false;
        };
        self.fields = Rc::clone(&memo.fields);
        true
    }

    /// Remembers the block of the latest fields in place of the oldest one.
    pub(in crate::wire) fn cache_block(&mut self, octets: &[u8], generation: u64) {
        let fields = Rc::clone(&self.fields);
        let mut memo = CachedBlock { octets: Vec::new(), generation, fields, validated_as: None };
        let memos = self.block_cache.get_or_insert_default();
        let all = &mut memos.blocks;
        if all.len() >= BLOCKS_MAX {
            memo.octets = all.remove(0).octets;
            memo.octets.clear();
        }
        memo.octets.extend_from_slice(octets);
        memos.latest = Some(all.len());
        all.push(memo);
    }

    /// Holds the latest fields against the rules, unless the same block was found good before. A
    /// response that can be repaired is, and the memo keeps it so.
    pub(in crate::wire) fn validate_fields(
        &mut self,
        part: BlockKind,
    ) -> Result<Promise, MalformedHead> {
        let memos = self.block_cache.as_mut();
        let memo = memos.and_then(|memos| memos.latest.and_then(|at| memos.blocks.get_mut(at)));
        if let Some(CachedBlock { validated_as: Some((known, promise)), .. }) = &memo
            && *known == part
        {
            return Ok(*promise);
        }
        let mut verdict = part.validate(&self.fields);
        if verdict.is_err()
            && self.role == Role::Client
            && let Some(repaired) = head::repaired(
                &self.fields,
                part == BlockKind::Trailers,
                self.local_config.settings.max_header_list_octets(),
            )
        {
            verdict = part.validate(&repaired);
            self.fields = Rc::new(repaired);
        }
        if let (Ok(promise), Some(memo)) = (verdict, memo) {
            memo.validated_as = Some((part, promise));
            memo.fields = Rc::clone(&self.fields);
        }
        verdict
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
