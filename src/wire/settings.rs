//! Settings: what each side told the other (RFC 9113, 6.5).

use crate::wire::fault::{Code, Fault};
use crate::wire::frame::SIZE_FLOOR;

/// The window that every stream and every connection begins with, in octets.
pub const WINDOW_FLOOR: u32 = 65_535;
/// The largest window there is, in octets.
pub const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Settings in one frame that are more than anybody needs; known ones are six.
const ENTRIES_MAX: usize = 64;
/// Octets of a payload that changes all known ones.
const PAYLOAD_MAX: usize = 36;

/// One side's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Octets of the dynamic table that encodes for this side.
    pub header_table: u32,
    /// Streams that the other side may have open at one time.
    pub streams: u32,
    /// Credit that each new stream begins with.
    pub window: u32,
    /// Octets of the largest payload that this side takes.
    pub frame: u32,
    /// Octets of the largest header list that this side takes, as HPACK counts.
    pub header_list: u32,
    /// Whether this side takes pushes.
    pub push: bool,
}

impl Settings {
    /// What holds before anybody says anything.
    pub const INITIAL: Self = Self {
        header_table: 4_096,
        streams: u32::MAX,
        window: WINDOW_FLOOR,
        frame: SIZE_FLOOR,
        header_list: u32::MAX,
        push: true,
    };

    /// Octets of the largest header list that this side takes, as a size in memory.
    #[must_use]
    pub fn header_list_octets(&self) -> usize {
        usize::try_from(self.header_list).unwrap_or(usize::MAX)
    }

    /// Takes over what a SETTINGS payload says.
    ///
    /// # Errors
    /// The connection errors that RFC 9113, 6.5.2 names.
    pub fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), Fault> {
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::new(Code::FrameSizeError, "SETTINGS of odd length"));
        }
        if entries.len() > ENTRIES_MAX {
            return Err(Fault::new(Code::EnhanceYourCalm, "too many settings in one frame"));
        }
        for &[i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            self.set(u16::from_be_bytes([i0, i1]), value, from_server)?;
        }
        Ok(())
    }

    /// The smallest SETTINGS_HEADER_TABLE_SIZE in a payload, which may name several.
    #[must_use]
    pub fn smallest_table(payload: &[u8]) -> Option<u32> {
        let (entries, _) = payload.as_chunks::<6>();
        let sizes = entries.iter().filter_map(|entry| match *entry {
            [0, 1, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        });
        sizes.min()
    }

    fn set(&mut self, id: u16, value: u32, from_server: bool) -> Result<(), Fault> {
        match id {
            0x1 => self.header_table = value,
            0x2 if value > 1 || (from_server && value == 1) => {
                return Err(Fault::new(Code::ProtocolError, "ENABLE_PUSH out of range"));
            }
            0x2 => self.push = value == 1,
            0x3 => self.streams = value,
            0x4 if value > WINDOW_MAX => {
                return Err(Fault::new(Code::FlowControlError, "INITIAL_WINDOW_SIZE too large"));
            }
            0x4 => self.window = value,
            0x5 if !(SIZE_FLOOR..=0x00ff_ffff).contains(&value) => {
                return Err(Fault::new(Code::ProtocolError, "MAX_FRAME_SIZE out of range"));
            }
            0x5 => self.frame = value,
            0x6 => self.header_list = value,
            _ => {}
        }
        Ok(())
    }

    /// The payload that turns `before` into these settings.
    pub fn payload_since(&self, before: &Self, out: &mut Vec<u8>) {
        out.reserve(PAYLOAD_MAX);
        let mut put = |id: u16, value: u32| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        };
        if self.header_table != before.header_table {
            put(0x1, self.header_table);
        }
        if self.push != before.push {
            put(0x2, u32::from(self.push));
        }
        if self.streams != before.streams {
            put(0x3, self.streams);
        }
        if self.window != before.window {
            put(0x4, self.window);
        }
        if self.frame != before.frame {
            put(0x5, self.frame);
        }
        if self.header_list != before.header_list {
            put(0x6, self.header_list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_they_were_written() {
        let wanted = Settings { window: 1 << 20, streams: 7, push: false, ..Settings::INITIAL };
        let mut payload = Vec::new();
        wanted.payload_since(&Settings::INITIAL, &mut payload);
        let mut read = Settings::INITIAL;
        read.apply(&payload, false).unwrap();
        assert_eq!(read, wanted);
    }

    #[test]
    fn each_value_out_of_range_has_its_own_error() {
        let code = |id: u16, value: u32, server| {
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend(value.to_be_bytes());
            Settings::INITIAL.clone().apply(&payload, server).unwrap_err().code
        };
        assert_eq!(code(2, 2, false), Code::ProtocolError);
        assert_eq!(code(2, 1, true), Code::ProtocolError);
        assert_eq!(code(4, 1 << 31, false), Code::FlowControlError);
        assert_eq!(code(5, 16_383, false), Code::ProtocolError);
        assert_eq!(code(5, 1 << 24, false), Code::ProtocolError);
    }

    #[test]
    fn unknown_settings_are_ignored() {
        let mut read = Settings::INITIAL;
        read.apply(&[0xfe, 0x03, 0, 0, 0, 1], false).unwrap();
        assert_eq!(read, Settings::INITIAL);
    }
}
