//! Memos: the header blocks that came last. Equal ones in a row are decoded and judged once.

use std::rc::Rc;

use crate::wire::connection::{Connection, Role};
use crate::wire::head::{self, Malformed, Promise};
use crate::wire::hpack::Fields;

/// Blocks that are remembered: requests alternate between two methods, answers between heads and
/// trailers.
const MEMOS: usize = 2;

thread_local! {
    static NONE: Rc<Fields> = Rc::default();
}

/// The fields of a connection that has none, which those of a thread share.
pub(in crate::wire) fn none() -> Rc<Fields> {
    NONE.with(Rc::clone)
}

/// A block that did not touch the table: the same octets, while the table is the same, are the
/// same fields.
#[derive(Debug)]
pub(in crate::wire) struct Memo {
    octets: Vec<u8>,
    generation: u64,
    fields: Rc<Fields>,
    /// As what it was held against the rules and found good.
    judged: Option<(Part, Promise)>,
}

/// The blocks that are remembered.
#[derive(Debug, Default)]
pub(in crate::wire) struct Memos {
    all: Vec<Memo>,
    /// Which of them holds the latest fields.
    latest: Option<usize>,
}

/// What a header block is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Part {
    Request,
    Answer,
    Trailers,
}

impl Connection {
    /// Takes the fields that the same octets gave before, if nothing has changed since.
    pub(in crate::wire) fn recall(&mut self, octets: &[u8]) -> bool {
        let generation = self.decoder.generation();
        let same = |memo: &Memo| memo.generation == generation && memo.octets == octets;
        let memos = self.memos.get_or_insert_default();
        memos.latest = memos.all.iter().position(same);
        let Some(memo) = memos.latest.and_then(|at| memos.all.get(at)) else {
            return false;
        };
        self.fields = Rc::clone(&memo.fields);
        true
    }

    /// Remembers the block of the latest fields in place of the oldest one.
    pub(in crate::wire) fn remember(&mut self, octets: &[u8], generation: u64) {
        let fields = Rc::clone(&self.fields);
        let mut memo = Memo { octets: Vec::new(), generation, fields, judged: None };
        let memos = self.memos.get_or_insert_default();
        let all = &mut memos.all;
        if all.len() >= MEMOS {
            memo.octets = all.remove(0).octets;
            memo.octets.clear();
        }
        memo.octets.extend_from_slice(octets);
        memos.latest = Some(all.len());
        all.push(memo);
    }

    /// Holds the latest fields against the rules, unless the same block was found good before. A
    /// response that can be repaired is, and the memo keeps it so.
    pub(in crate::wire) fn judge(&mut self, part: Part) -> Result<Promise, Malformed> {
        let memos = self.memos.as_mut();
        let memo = memos.and_then(|memos| memos.latest.and_then(|at| memos.all.get_mut(at)));
        if let Some(Memo { judged: Some((known, promise)), .. }) = &memo
            && *known == part
        {
            return Ok(*promise);
        }
        let mut verdict = part.judge(&self.fields);
        if verdict.is_err()
            && self.role == Role::Client
            && let Some(repaired) = head::repaired(
                &self.fields,
                part == Part::Trailers,
                self.offer.settings.header_list_octets(),
            )
        {
            verdict = part.judge(&repaired);
            self.fields = Rc::new(repaired);
        }
        if let (Ok(promise), Some(memo)) = (verdict, memo) {
            memo.judged = Some((part, promise));
            memo.fields = Rc::clone(&self.fields);
        }
        verdict
    }
}

impl Part {
    fn judge(self, fields: &Fields) -> Result<Promise, Malformed> {
        match self {
            Self::Request => head::request(fields),
            Self::Answer => head::answer(fields),
            Self::Trailers => head::trailers(fields).map(|()| Promise::default()),
        }
    }
}
