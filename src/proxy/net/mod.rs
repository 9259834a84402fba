//! Net: HTTP/2 connections on sockets, with or without TLS, and the budget of one poll.

pub(super) mod certificate;
pub(super) mod h2_connection;
pub(super) mod header_cache;
pub(super) mod poll_budget;
pub(super) mod poll_epoch;
pub(super) mod socket;
pub mod tls;
pub(super) mod tls_records;
