//! Downstream: the client's side of a relay.

pub(super) mod handshakes;
pub(super) mod read_pause;
pub(super) mod unauthenticated;

use std::time::Instant;

/// How far a client connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownstreamState {
    /// Everything goes.
    Open,
    /// The client was asked to go elsewhere; what is under way may finish. The second GOAWAY,
    /// which names the last stream, follows at this time.
    Draining(Option<Instant>),
    /// The last words are in the outbox, and must be written by then.
    Closing(Instant),
    /// The last words are written; read on until the client hangs up or this time comes.
    Lingering(Instant),
    /// Nothing is left to do.
    Closed,
}
