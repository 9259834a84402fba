//! The static table (RFC 7541, appendix A).

use crate::wire::hpack::text::Text;

/// Number of entries; the indices of the dynamic table follow.
pub(super) const COUNT: usize = FIELDS.len();

static FIELDS: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The entry at `index`, from 1.
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    FIELDS.get(index.checked_sub(1)?).copied()
}

/// The result of a table look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The index of an equal field.
    Field(usize),
    /// The index of a field with the same name.
    Name(usize),
    /// No field with this name.
    NotFound,
}

/// Searches for a field, or for its name if `value` is `None`.
pub(super) fn find(name: &[u8], value: Option<&Text<'_>>) -> Lookup {
    let mut found = Lookup::NotFound;
    for &index in of_length(name.len()) {
        let Some((_, text)) = get(index).filter(|&(known, _)| known == name) else { continue };
        if value.is_some_and(|value| value.equals(text)) {
            return Lookup::Field(index);
        }
        if found == Lookup::NotFound {
            found = Lookup::Name(index);
        }
    }
    found
}

/// The indices of all names of this length.
fn of_length(length: usize) -> &'static [usize] {
    match length {
        3 => &[21, 60],
        4 => &[33, 34, 37, 38, 45, 59],
        5 => &[4, 5, 22, 50],
        6 => &[19, 32, 35, 54],
        7 => &[2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 36, 51, 52],
        8 => &[39, 42, 46],
        10 => &[1, 55, 58],
        11 => &[53],
        12 => &[31, 47],
        13 => &[18, 23, 24, 30, 41, 44],
        14 => &[15, 28],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[40, 57],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for index in 1..=COUNT {
            let (name, value) = get(index).unwrap();
            let first = (1..=COUNT).find(|&index| get(index).unwrap().0 == name).unwrap();
            assert_eq!(find(name, None), Lookup::Name(first));
            assert_eq!(find(name, Some(&Text::raw(value))), Lookup::Field(index));
            assert_eq!(find(name, Some(&Text::raw(b"other"))), Lookup::Name(first));
        }
    }

    #[test]
    fn unknown_names_and_indices_are_not_found() {
        assert!(get(0).is_none() && get(COUNT + 1).is_none());
        for name in [&b""[..], b"via-", b"viA", b"x-request-id", &[b'a'; 300]] {
            assert_eq!(find(name, None), Lookup::NotFound);
        }
    }
}
