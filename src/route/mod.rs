//! The live configuration snapshot and the route table.
//!
//! One immutable [`Snapshot`] behind one pointer contains the configuration for calls. A call takes
//! the latest snapshot and keeps it to its end, so a reload never affects a running call. The
//! [`Reloader`] publishes snapshots; all other code reads them with a [`SnapshotHandle`].
//!
//! Must never happen here: a change of a published snapshot, a second publisher, an empty route
//! table after a config error.

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

pub(crate) use reload::{ReloadOutcome, Reloader, SnapshotHandle, SnapshotReader, SnapshotRef};
pub(crate) use removal::Removal;
pub(crate) use snapshot::Snapshot;
pub(crate) use table::{Cluster, Table};
