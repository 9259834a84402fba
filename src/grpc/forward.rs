//! Forward: which fields of a request travel on to a driver.
//!
//! A client's credential ends here, and so does everything that is said to sconce alone. Drivers
//! answer a header list over 8,192 octets by closing streams, and one over 10,240 octets by
//! closing the whole connection (grpc-java), so what travels on has a limit of its own.

use crate::wire::hpack::{Field, Fields};

/// Prefix of the fields that speak to sconce and not to drivers.
const OWN: &[u8] = b"x-sconce-";
/// A credential whose name can be written in two ways.
const PROXY_CREDENTIAL: &[u8] = b"proxy-authorization";

/// The fields that travel on, in the order in which they came.
pub fn fields(head: &Fields) -> impl Iterator<Item = Field<'_>> {
    head.iter().filter(|field| travels(field.name))
}

/// Octets of the list that travels on, as HPACK counts (RFC 7541, 4.1).
#[must_use]
pub fn size(head: &Fields) -> usize {
    fields(head).map(|field| field.name.len() + field.value.decoded_len() + 32).sum()
}

fn travels(name: &[u8]) -> bool {
    match name {
        b"authorization" | b"cookie" | b"host" | b"expect" => false,
        // It was held against the body already, and a stamp makes that longer.
        b"content-length" => false,
        _ => !begins_with(name, OWN) && !is_twin(name, PROXY_CREDENTIAL),
    }
}

fn begins_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|front| is_twin(front, prefix))
}

/// `_` and `-` are one to many servers behind: the twin of a name is that name.
fn is_twin(name: &[u8], of: &[u8]) -> bool {
    let same = |(octet, own): (&u8, &u8)| octet == own || (*octet == b'_' && *own == b'-');
    name.len() == of.len() && name.iter().zip(of).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::Indexing;

    #[test]
    fn credentials_and_words_to_sconce_stay_behind() {
        let mut head = Fields::default();
        for name in [
            ":path",
            "authorization",
            "x-sconce-team",
            "x_sconce_team",
            "x-sconce_env",
            "proxy-authorization",
            "proxy_authorization",
            "te",
            "cookie",
            "x-sconc",
            "host",
            "content-length",
            "user-agent",
        ] {
            head.push(name.as_bytes(), b"v", Indexing::Without);
        }
        let names: Vec<_> = fields(&head).map(|field| field.name.to_vec()).collect();
        assert_eq!(names, [&b":path"[..], b"te", b"x-sconc", b"user-agent"]);
        assert_eq!(size(&head), 5 + 2 + 7 + 10 + 4 * 33);
    }
}
