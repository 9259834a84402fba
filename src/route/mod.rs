//! The live snapshot: which call goes where, right now.
//!
//! All that a call needs to know of the configuration is in one immutable [`Snapshot`] behind one
//! pointer. A call takes the latest one and keeps it to its end, so a reload can neither tear nor
//! lose a call. There is one publisher, the [`Steward`]; everybody else holds a [`Live`] and reads.
//!
//! Must never happen here: a snapshot that changes, a second publisher, a bad edit that empties the
//! routes.

mod cert_expiry;
mod error_report;
mod reachability;
mod reload;
mod removal;
mod snapshot;
mod stable_read;
mod table;
#[cfg(test)]
mod tests;

pub use reload::{
    ReloadOutcome, ReloadStatus, Reloader, Restart, SnapshotHandle, SnapshotReader, SnapshotRef,
};
pub use removal::Removal;
pub use snapshot::Snapshot;
pub use table::{Cluster, Table};
