//! SETTINGS of one endpoint (RFC 9113, 6.5).

use crate::wire::error::{ConnectionError, ErrorCode};
use crate::wire::frame::DEFAULT_MAX_FRAME_SIZE;

/// The initial flow-control window of streams and connections, in octets (RFC 9113, 6.9.2).
pub const DEFAULT_INITIAL_WINDOW_SIZE: u32 = 65_535;
/// The largest flow-control window, in octets (RFC 9113, 6.9.1).
pub const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Maximum number of settings in one frame; the RFC defines six.
const ENTRIES_MAX: usize = 64;
/// Length of a payload with all six settings, in octets.
const PAYLOAD_MAX: usize = 36;

/// The settings that one endpoint has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Maximum size of the HPACK table that the other endpoint encodes with, in octets.
    pub header_table_size: u32,
    /// Maximum number of open streams initiated by the other endpoint.
    pub max_concurrent_streams: u32,
    /// Initial window of each new stream, in octets.
    pub initial_window_size: u32,
    /// Maximum payload of a frame, in octets.
    pub max_frame_size: u32,
    /// Maximum size of a header list, in octets as HPACK counts them.
    pub max_header_list_size: u32,
    /// Whether server push is allowed.
    pub enable_push: bool,
}

impl Settings {
    /// The values before the first SETTINGS frame.
    pub const INITIAL: Self = Self {
        header_table_size: 4_096,
        max_concurrent_streams: u32::MAX,
        initial_window_size: DEFAULT_INITIAL_WINDOW_SIZE,
        max_frame_size: DEFAULT_MAX_FRAME_SIZE,
        max_header_list_size: u32::MAX,
        enable_push: true,
    };

    /// `max_header_list_size` as `usize`.
    #[must_use]
    pub fn max_header_list_octets(&self) -> usize {
        usize::try_from(self.max_header_list_size).unwrap_or(usize::MAX)
    }

    /// Applies the payload of a SETTINGS frame.
    ///
    /// # Errors
    /// A connection error of RFC 9113, 6.5.2, or more than 64 settings in one frame.
    pub fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), ConnectionError> {
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ConnectionError::new(
                ErrorCode::FrameSizeError,
                "SETTINGS payload is not a multiple of 6 octets",
            ));
        }
        if entries.len() > ENTRIES_MAX {
            return Err(ConnectionError::new(
                ErrorCode::EnhanceYourCalm,
                "more than 64 settings in one SETTINGS frame",
            ));
        }
        for &[i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            self.set(u16::from_be_bytes([i0, i1]), value, from_server)?;
        }
        Ok(())
    }

    /// The smallest SETTINGS_HEADER_TABLE_SIZE of a payload; the setting may occur repeatedly.
    #[must_use]
    pub fn smallest_header_table_size(payload: &[u8]) -> Option<u32> {
        let (entries, _) = payload.as_chunks::<6>();
        let sizes = entries.iter().filter_map(|entry| match *entry {
            [0, 1, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        });
        sizes.min()
    }

    fn set(&mut self, id: u16, value: u32, from_server: bool) -> Result<(), ConnectionError> {
        match id {
            0x1 => self.header_table_size = value,
            0x2 if value > 1 || (from_server && value == 1) => {
                return Err(ConnectionError::new(
                    ErrorCode::ProtocolError,
                    "SETTINGS_ENABLE_PUSH is out of range",
                ));
            }
            0x2 => self.enable_push = value == 1,
            0x3 => self.max_concurrent_streams = value,
            0x4 if value > WINDOW_MAX => {
                return Err(ConnectionError::new(
                    ErrorCode::FlowControlError,
                    "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31 - 1",
                ));
            }
            0x4 => self.initial_window_size = value,
            0x5 if !(DEFAULT_MAX_FRAME_SIZE..=0x00ff_ffff).contains(&value) => {
                return Err(ConnectionError::new(
                    ErrorCode::ProtocolError,
                    "SETTINGS_MAX_FRAME_SIZE is out of range",
                ));
            }
            0x5 => self.max_frame_size = value,
            0x6 => self.max_header_list_size = value,
            _ => {}
        }
        Ok(())
    }

    /// Appends a SETTINGS payload with every value that differs from `before`.
    pub fn encode_changes(&self, before: &Self, out: &mut Vec<u8>) {
        out.reserve(PAYLOAD_MAX);
        let mut put = |id: u16, value: u32| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        };
        if self.header_table_size != before.header_table_size {
            put(0x1, self.header_table_size);
        }
        if self.enable_push != before.enable_push {
            put(0x2, u32::from(self.enable_push));
        }
        if self.max_concurrent_streams != before.max_concurrent_streams {
            put(0x3, self.max_concurrent_streams);
        }
        if self.initial_window_size != before.initial_window_size {
            put(0x4, self.initial_window_size);
        }
        if self.max_frame_size != before.max_frame_size {
            put(0x5, self.max_frame_size);
        }
        if self.max_header_list_size != before.max_header_list_size {
            put(0x6, self.max_header_list_size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_encoding_and_applying() {
        let wanted = Settings {
            initial_window_size: 1 << 20,
            max_concurrent_streams: 7,
            enable_push: false,
            ..Settings::INITIAL
        };
        let mut payload = Vec::new();
        wanted.encode_changes(&Settings::INITIAL, &mut payload);
        let mut read = Settings::INITIAL;
        read.apply(&payload, false).unwrap();
        assert_eq!(read, wanted);
    }

    #[test]
    fn each_value_out_of_range_is_the_connection_error_of_the_rfc() {
        let code = |id: u16, value: u32, server| {
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend(value.to_be_bytes());
            Settings::INITIAL.clone().apply(&payload, server).unwrap_err().code
        };
        assert_eq!(code(2, 2, false), ErrorCode::ProtocolError);
        assert_eq!(code(2, 1, true), ErrorCode::ProtocolError);
        assert_eq!(code(4, 1 << 31, false), ErrorCode::FlowControlError);
        assert_eq!(code(5, 16_383, false), ErrorCode::ProtocolError);
        assert_eq!(code(5, 1 << 24, false), ErrorCode::ProtocolError);
    }

    #[test]
    fn unknown_settings_are_ignored() {
        let mut read = Settings::INITIAL;
        read.apply(&[0xfe, 0x03, 0, 0, 0, 1], false).unwrap();
        assert_eq!(read, Settings::INITIAL);
    }
}
