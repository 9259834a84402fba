//! Downstream: the client's side of a relay.

pub(super) mod handshakes;
pub(super) mod read_pause;
pub(super) mod unauthenticated;

use std::time::Instant;

/// The state of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownstreamState {
    /// Accepts streams.
    Open,
    /// The first GOAWAY was sent; open calls may finish. The final GOAWAY, with the last stream
    /// identifier, follows at this time, unless it has been sent (`None`).
    Draining(Option<Instant>),
    /// The last frames are in the write buffer, and must be written by this time.
    Closing(Instant),
    /// The last frames are written. The socket is read until the client closes it, or until this
    /// time.
    Lingering(Instant),
    /// Closed.
    Closed,
}
