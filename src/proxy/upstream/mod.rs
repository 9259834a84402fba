//! Upstream: connections to Spark drivers.

pub(super) mod connect;
pub(super) mod connection;
pub(super) mod pool;
