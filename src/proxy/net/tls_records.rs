//! Records of TLS: what they hold, and how they are filled.

use std::io::IoSlice;

use rustls::Error;
use rustls::unbuffered::{EncodeError, EncodeTlsData};

/// Octets that one record seals at most (RFC 8446, 5.1).
const RECORD_MAX: usize = 16 * 1024;
/// Octets that a record adds at most to its plaintext, in TLS 1.3 and 1.2.
pub(crate) const RECORD_OVERHEAD: usize = 64;
/// Octets of a record's head.
const RECORD_HEADER: usize = 5;
/// Octets that seal a record in TLS 1.3, whatever the cipher.
const RECORD_TAG: usize = 16;

/// Whether a record is an alert: in clear text by its kind, in TLS 1.3 by its length, since nothing
/// else has two octets (RFC 8446, 5.2: a head, the alert, its kind, and the tag).
pub(crate) const fn is_alert(record: &[u8]) -> bool {
    match record {
        [21, ..] => true,
        [23, ..] => record.len() == RECORD_HEADER + 2 + 1 + RECORD_TAG,
        _ => false,
    }
}

pub(crate) fn copy(from: &[u8], into: &mut [u8], at: usize) -> usize {
    let end = at.saturating_add(from.len());
    if let Some(place) = into.get_mut(at..end) {
        place.copy_from_slice(from);
    }
    end
}

pub(crate) fn encode<D>(mut data: EncodeTlsData<'_, D>, into: &mut Vec<u8>) -> Result<(), Error> {
    let at = into.len();
    let mut size = RECORD_OVERHEAD;
    loop {
        into.resize(at.saturating_add(size), 0);
        match data.encode(into.get_mut(at..).unwrap_or_default()) {
            Ok(length) => {
                into.truncate(at.saturating_add(length));
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needs)) if needs.required_size > size => {
                size = needs.required_size;
            }
            Err(_) => return Err(Error::General("a record cannot be encoded".to_owned())),
        }
    }
}

/// What fills records by itself, without being copied first: the only slice, or of a long one all
/// but the last record, which what is behind it may fill.
pub(crate) fn whole_records<'s>(slices: &'s [IoSlice<'_>]) -> Option<&'s [u8]> {
    match slices {
        [only] => Some(only),
        [first, ..] if first.len() >= RECORD_MAX => {
            first.get(..first.len().saturating_sub(first.len() % RECORD_MAX))
        }
        _ => None,
    }
}

/// Copies slices next to each other, as far as there is room.
pub(crate) fn gather(slices: &[IoSlice<'_>], into: &mut [u8]) -> usize {
    let mut filled = 0_usize;
    for slice in slices {
        let free = into.get_mut(filled..).unwrap_or_default();
        let length = slice.len().min(free.len());
        copy(slice.get(..length).unwrap_or_default(), free, 0);
        filled = filled.saturating_add(length);
    }
    filled
}
