//! Reuse of an idle upstream connection for another downstream connection.

use crate::wire::connection::{Connection, ParseState};
use crate::wire::settings::Settings;

impl Connection {
    /// The local settings, sent or about to be sent.
    #[must_use]
    pub fn local_settings(&self) -> &Settings {
        &self.local_config.settings
    }

    /// Whether no earlier event can affect later streams: every stream was closed by END_STREAM,
    /// every PING and SETTINGS is acknowledged, and nothing is unread or unwritten (client role).
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_reusable_once_flushed() && self.write_buffer.is_empty()
    }

    /// Like [`Connection::is_reusable`], but the write buffer may have octets, such as a PING ACK.
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

    /// Evicts all entries of the encoder's table: two users must not share one (RFC 7541, 7.1).
    pub fn clear_encoder_table(&mut self) {
        self.encoder.clear_table();
    }
}
