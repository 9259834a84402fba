//! Reuse: a connection to a driver goes on for somebody else, as if it were new.

use crate::wire::connection::{Connection, ParseState};
use crate::wire::settings::Settings;

impl Connection {
    /// What we told the peer, or are about to.
    #[must_use]
    pub fn local_settings(&self) -> &Settings {
        &self.local_config.settings
    }

    /// Whether nothing that happened so far can still have an effect: every stream was ended by
    /// both sides, whatever was asked was answered, and nothing is under way (client role).
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_reusable_once_flushed() && self.write_buffer.is_empty()
    }

    /// The same while an answer to a PING may wait to be written.
    #[must_use]
    pub fn is_reusable_once_flushed(&self) -> bool {
        self.settings_received
            && self.can_open_stream()
            && self.streams.none_open_or_reset()
            && self.parse == ParseState::FrameHeader
            && self.partial_frame_since().is_none()
            && self.unacked_settings.is_empty()
            && self.unanswered_pings == 0
    }

    /// Nothing that was sent so far has an influence on the header blocks to come (RFC 7541, 7.1:
    /// what two people send does not belong into one table).
    pub fn clear_encoder_table(&mut self) {
        self.encoder.clear_table();
    }
}
