//! TLS records: their sizes, and how they are filled.

use std::io::IoSlice;

use rustls::Error;
use rustls::unbuffered::{EncodeError, EncodeTlsData};

/// Plaintext octets of one record (RFC 8446, 5.1).
const RECORD_MAX: usize = 16 * 1024;
/// Octets that a record adds to its plaintext, in TLS 1.3 and 1.2.
pub(crate) const RECORD_OVERHEAD: usize = 64;
/// Octets of a record header.
const RECORD_HEADER: usize = 5;
/// Octets of the authentication tag in TLS 1.3, of any cipher.
const RECORD_TAG: usize = 16;

/// Whether a record is an alert: in clear text by its type, in TLS 1.3 by its length, since nothing
/// else has two octets (RFC 8446, 5.2: header, alert, content type, tag).
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

/// The slice that fills records without being copied: the only one, or the first one except its
/// last partial record, which the next slice may fill.
pub(crate) fn whole_records<'s>(slices: &'s [IoSlice<'_>]) -> Option<&'s [u8]> {
    match slices {
        [only] => Some(only),
        [first, ..] if first.len() >= RECORD_MAX => {
            first.get(..first.len().saturating_sub(first.len() % RECORD_MAX))
        }
        _ => None,
    }
}

/// Concatenates slices into a buffer, as far as they fit.
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
