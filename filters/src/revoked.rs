//! Revoked: the mark of a call whose team, environment or membership was removed a short while ago.

use crate::Refusal;

/// A call is admitted with this mark if it would have been admitted before a reload. It may go on
/// only if its session had an open execution at that moment, which its bearer must ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Which reload it was.
    pub generation: u64,
    /// The refusal of a call that may not go on.
    pub refusal: Refusal,
}
