//! Upstream: connections to Spark drivers.

pub(super) mod connect;
pub(super) mod connection;
pub(super) mod header_caches;
pub(super) mod in_flight;
pub(super) mod keepalive;
pub(super) mod limits;
pub(super) mod pool;
pub(super) mod queue;
pub(super) mod timeouts;
