//! The mark of a call whose team, environment or membership a reload has removed recently.

use crate::Refusal;

/// A call has this mark if the configuration before a reload would have admitted it. The proxy lets
/// it continue only if its session had an open execution at the reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The configuration generation that the reload created.
    pub generation: u64,
    /// The refusal of a call that may not continue.
    pub refusal: Refusal,
}
