//! Reuse: a connection to a driver goes on for somebody else, as if it were new.

use crate::wire::connection::{Connection, Parse};
use crate::wire::settings::Settings;

impl Connection {
    /// What we told the peer, or are about to.
    #[must_use]
    pub fn ours(&self) -> &Settings {
        &self.offer.settings
    }

    /// Whether nothing that happened so far can still have an effect: every stream was ended by
    /// both sides, whatever was asked was answered, and nothing is under way (client role).
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        self.is_reusable() && self.out.is_empty()
    }

    /// The same while an answer to a PING may wait to be written.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.met
            && self.can_open()
            && self.streams.are_spotless()
            && self.parse == Parse::Head
            && self.mid_block_since().is_none()
            && self.unacked.is_empty()
            && self.pings == 0
    }

    /// Nothing that was sent so far has an influence on the header blocks to come (RFC 7541, 7.1:
    /// what two people send does not belong into one table).
    pub fn forget_sent(&mut self) {
        self.encoder.forget();
    }
}
