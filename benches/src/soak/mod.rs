//! The soak's client: a steady load that knows at any time how its calls may end.
//!
//! Whoever disturbs a cluster says so first, and takes it back when the cluster works again; see
//! [`ledger`]. Any call that ends otherwise, or does not end, is told as wrong. Must never retry,
//! and never judge by the clock what an order of events can tell.

pub mod cluster;
pub mod dice;
pub mod fleet;
pub mod ledger;
pub mod orders;
pub mod plan;
pub mod verdict;
