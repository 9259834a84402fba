//! Unambiguous repairs of malformed responses.
//!
//! Example: an error message of user code that ends with a space must not fail the call. A list
//! that two recipients could interpret differently is never repaired.

use crate::wire::hpack::{Fields, Indexing};

/// The field with percent-encoded text, which can keep spaces at its ends (gRPC over HTTP/2,
/// "Responses").
const PERCENT_ENCODED: &[u8] = b"grpc-message";

/// The list without spaces and tabs at the ends of values, and without fields that have no meaning
/// here. `None`: nothing to repair. In `grpc-message` such spaces are percent-encoded, unless the
/// list would exceed `size_max`; then they are removed too.
#[must_use]
pub fn repaired(fields: &Fields, are_trailers: bool, size_max: usize) -> Option<Fields> {
    let mut repaired = Fields::default();
    let mut growth_left = size_max.saturating_sub(fields.size());
    let mut has_changed = false;
    let mut scratch = Vec::new();
    for field in fields.iter() {
        if is_ignorable(field.name, are_trailers) {
            has_changed = true;
        } else if field.value.is_clean() {
            repaired.push_field(field);
        } else {
            let value = field.value.decode(&mut scratch);
            let encoded = (field.name == PERCENT_ENCODED).then(|| percent_encoded_ends(value));
            let growth = |encoded: &Vec<u8>| encoded.len().saturating_sub(value.len());
            let encoded = encoded.filter(|encoded| growth(encoded) <= growth_left);
            growth_left = growth_left.saturating_sub(encoded.as_ref().map_or(0, growth));
            let value = encoded.unwrap_or_else(|| trimmed(value).to_vec());
            has_changed |= value.len() != field.value.decoded_len();
            repaired.push(field.name, &value, reindexed(field.indexing));
        }
    }
    has_changed.then_some(repaired)
}

/// The indexing of a repaired value, which differs from the value in the table.
const fn reindexed(indexing: Indexing) -> Indexing {
    match indexing {
        Indexing::Indexed | Indexing::Incremental => Indexing::Incremental,
        Indexing::Without => Indexing::Without,
        Indexing::Never => Indexing::Never,
    }
}

/// Fields without an effect in a response: harmless HTTP/1.1 connection fields, `te`, and
/// `content-length` in trailers.
fn is_ignorable(name: &[u8], are_trailers: bool) -> bool {
    match name {
        b"keep-alive" | b"proxy-connection" | b"te" => true,
        b"content-length" => are_trailers,
        _ => false,
    }
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The value without spaces and tabs at its ends.
fn trimmed(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|octet| !is_blank(*octet)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|octet| !is_blank(*octet))
        .map_or(begin, |last| last.saturating_add(1));
    value.get(begin..end).unwrap_or_default()
}

/// The value with spaces and tabs at its ends as `%20` and `%09`.
fn percent_encoded_ends(value: &[u8]) -> Vec<u8> {
    let inside = trimmed(value);
    let begin = value.iter().position(|octet| !is_blank(*octet)).unwrap_or(value.len());
    let end = begin.saturating_add(inside.len());
    let mut encoded = Vec::with_capacity(value.len().saturating_mul(3));
    for (at, octet) in value.iter().enumerate() {
        match octet {
            b' ' if at < begin || at >= end => encoded.extend_from_slice(b"%20"),
            b'\t' if at < begin || at >= end => encoded.extend_from_slice(b"%09"),
            octet => encoded.push(*octet),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::{Decoder, Limits, Text};

    fn values(fields: &Fields) -> Vec<(String, String)> {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let value = |value: Text<'_>| text(value.decode(&mut Vec::new()));
        fields.iter().map(|field| (text(field.name), value(field.value))).collect()
    }

    fn repaired_to(name: &str, value: &str, are_trailers: bool) -> Option<Vec<String>> {
        let mut fields = Fields::default();
        fields.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
        let repaired = repaired(&fields, are_trailers, usize::MAX)?;
        Some(values(&repaired).into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn spaces_and_tabs_at_the_ends_of_a_value_are_removed() {
        for (value, wanted) in
            [(" v ", "v"), ("v\t", "v"), ("\t v w \t", "v w"), (" ", ""), (" a\rb", "a\rb")]
        {
            assert_eq!(repaired_to("x-meta", value, false).unwrap(), [wanted], "{value:?}");
        }
        assert_eq!(repaired_to("x-meta", "v w", false), None);
        assert_eq!(repaired_to("x-meta", "a\rb", false), None);
    }

    #[test]
    fn spaces_and_tabs_at_the_ends_of_grpc_message_are_percent_encoded() {
        for (value, wanted) in [
            ("x ", "x%20"),
            (" x y", "%20x y"),
            ("x\t", "x%09"),
            ("\t x \t", "%09%20x%20%09"),
            ("  ", "%20%20"),
        ] {
            assert_eq!(repaired_to("grpc-message", value, true).unwrap(), [wanted], "{value:?}");
        }
    }

    #[test]
    fn spaces_in_grpc_message_are_removed_if_the_list_would_exceed_the_size_limit() {
        let sized = |value: &str, more: usize| {
            let mut fields = Fields::default();
            fields.push(b"grpc-message", value.as_bytes(), Indexing::Without);
            let most = fields.size() + more;
            let repaired = repaired(&fields, true, most).unwrap();
            assert!(repaired.size() <= most, "{value:?}");
            values(&repaired).remove(0).1
        };
        assert_eq!(sized(" x ", 4), "%20x%20");
        assert_eq!(sized(" x ", 3), "x");
        assert_eq!(sized(&" ".repeat(1_000), 1_999), "");
    }

    #[test]
    fn ignorable_fields_are_removed_and_content_length_only_from_trailers() {
        for name in ["keep-alive", "proxy-connection", "te"] {
            assert_eq!(repaired_to(name, "x", false).unwrap(), [""; 0], "{name}");
        }
        assert_eq!(repaired_to("content-length", "x", true).unwrap(), [""; 0]);
        assert_eq!(repaired_to("content-length", "x", false), None);
        for name in ["connection", "transfer-encoding", "upgrade"] {
            assert_eq!(repaired_to(name, "x", false), None, "{name}");
        }
    }

    #[test]
    fn a_huffman_coded_value_is_repaired_and_other_values_are_unchanged() {
        // The value of `a` is "x " in Huffman code.
        let block = [0x00, 1, b'a', 0x82, 0xf2, 0xa7, 0x00, 1, b'b', 1, b'c'];
        let mut fields = Fields::default();
        let limits = Limits { octets: 1_000, count: 9 };
        Decoder::new(0).decode(&block, limits, &mut fields).unwrap();
        let both = [("a", "x"), ("b", "c")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(values(&repaired(&fields, false, usize::MAX).unwrap()), both);
    }
}
