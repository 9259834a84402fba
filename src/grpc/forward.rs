//! Forward: which fields of a request travel on to a driver.
//!
//! A client's credential ends here, and so does everything that is said to sconce alone; a driver's
//! own takes its place. Drivers
//! answer a header list over 8,192 octets by closing streams, and one over 10,240 octets by
//! closing the whole connection (grpc-java), so what travels on has a limit of its own.

use crate::grpc::credential::Credential;
use crate::wire::hpack::{Field, Fields, Indexing, Text};

/// Prefix of the fields that speak to sconce and not to drivers.
const OWN_PREFIX: &[u8] = b"x-sconce-";
/// A field is a credential of the client if one of these stands in its name between `-` or `_`:
/// `authorization`, `proxy-authorization`, `x_authorization`, and `authentication`, in which
/// Spark's JVM clients up to 4.0.x send their token.
const CREDENTIALS: [&[u8]; 2] = [AUTHORIZATION, b"authentication"];

/// The field in which a credential stands.
const AUTHORIZATION: &[u8] = b"authorization";
/// The field in which a client says which compression it understands.
const ACCEPT_ENCODING: &[u8] = b"grpc-accept-encoding";

/// What a driver is told in another way than its client said it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions<'a> {
    /// What the driver wants to see before it takes a call.
    pub credential: Option<&'a Credential>,
    /// Whether the answer must come uncompressed, since it will be read.
    pub uncompressed_response: bool,
}

/// The fields that travel on, in the order in which they came, and what is added to them.
///
/// A driver is told the authority in `:authority`, also where the client said it in `host` alone
/// (RFC 9113, 8.3.1).
pub fn fields<'a>(head: &'a Fields, onward: ForwardOptions<'a>) -> impl Iterator<Item = Field<'a>> {
    let goes =
        move |field: &Field<'_>| !(onward.uncompressed_response && field.name == ACCEPT_ENCODING);
    let added = onward.credential.map(|credential| Field {
        name: AUTHORIZATION,
        value: Text::raw(credential.value()),
        indexing: Indexing::Never,
    });
    let travelling = head.iter().filter(|field| is_forwarded(field.name)).filter(goes);
    authority_from_host(head).into_iter().chain(travelling).chain(added)
}

/// The `:authority` that a head has in its `host` alone.
fn authority_from_host(head: &Fields) -> Option<Field<'_>> {
    if head.named(b":authority").next().is_some() {
        return None;
    }
    let (_, host) = head.named(b"host").next()?;
    Some(Field { name: b":authority", ..host })
}

/// Octets of the list that travels on, as HPACK counts (RFC 7541, 4.1), without what is added.
#[must_use]
pub fn size(head: &Fields) -> usize {
    fields(head, ForwardOptions::default())
        .map(|field| field_size(field.name, field.value.decoded_len()))
        .sum()
}

/// Octets that a credential adds to that list.
#[must_use]
pub fn credential_size(credential: Option<&Credential>) -> usize {
    credential.map_or(0, |credential| field_size(AUTHORIZATION, credential.value().len()))
}

fn field_size(name: &[u8], value: usize) -> usize {
    name.len().saturating_add(value).saturating_add(32)
}

fn is_forwarded(name: &[u8]) -> bool {
    match name {
        b"cookie" | b"cookie2" | b"host" | b"expect" => false,
        // It was held against the body already, and a stamp makes that longer.
        b"content-length" => false,
        _ => !has_prefix(name, OWN_PREFIX) && !is_credential(name),
    }
}

/// `_` and `-` part the words of a name alike, and so they do for many servers behind.
fn is_credential(name: &[u8]) -> bool {
    name.len() >= AUTHORIZATION.len()
        && name.split(|octet| matches!(octet, b'-' | b'_')).any(|word| CREDENTIALS.contains(&word))
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|front| is_alias(front, prefix))
}

/// `_` and `-` are one to many servers behind: the twin of a name is that name.
fn is_alias(name: &[u8], of: &[u8]) -> bool {
    let same = |(octet, own): (&u8, &u8)| octet == own || (*octet == b'_' && *own == b'-');
    name.len() == of.len() && name.iter().zip(of).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            "x_authorization",
            "authorization_",
            "authentication",
            "proxy-authentication",
            "x-forwarded_authentication-y",
            "te",
            "cookie",
            "cookie2",
            "x-sconc",
            ":authority",
            "authorizations",
            "x-authorized-by",
            "host",
            "content-length",
            "user-agent",
        ] {
            head.push(name.as_bytes(), b"v", Indexing::Without);
        }
        let onward = ForwardOptions::default();
        let expected = [
            &b":path"[..],
            b"te",
            b"x-sconc",
            b":authority",
            b"authorizations",
            b"x-authorized-by",
            b"user-agent",
        ];
        let names: Vec<_> = fields(&head, onward).map(|field| field.name.to_vec()).collect();
        assert_eq!(names, expected);
        assert_eq!(size(&head), 5 + 2 + 7 + 10 + 14 + 15 + 10 + 7 * 33);
    }

    #[test]
    fn a_host_without_an_authority_travels_on_as_authority_and_one_beside_it_stays_behind() {
        for (names, wanted) in [
            (&[":path", "te", "host"][..], &[":authority", ":path", "te"][..]),
            (&[":path", ":authority", "host"], &[":path", ":authority"]),
            (&[":path", "te"], &[":path", "te"]),
        ] {
            let mut head = Fields::default();
            names.iter().for_each(|name| head.push(name.as_bytes(), b"h:1", Indexing::Without));
            let all = fields(&head, ForwardOptions::default());
            let names: Vec<_> = all.map(|field| field.name.to_vec()).collect();
            assert_eq!(names, wanted.iter().map(|it| it.as_bytes()).collect::<Vec<_>>());
            assert_eq!(size(&head), wanted.iter().map(|name| name.len() + 3 + 32).sum::<usize>());
        }
    }

    #[test]
    fn a_driver_sees_its_own_credential_and_nobody_else_s() {
        let mut head = Fields::default();
        head.push(b"authorization", b"Bearer client", Indexing::Incremental);
        head.push(b"grpc-accept-encoding", b"gzip", Indexing::Incremental);
        let credential = Credential::from_token("own");
        let onward =
            ForwardOptions { credential: credential.as_ref(), uncompressed_response: true };
        let all: Vec<_> = fields(&head, onward).collect();
        let [field] = &all[..] else { panic!("one field, not {all:?}") };
        assert_eq!((field.name, field.indexing), (AUTHORIZATION, Indexing::Never));
        assert_eq!(field.value.encoded(), b"Bearer own");
        assert_eq!(credential_size(credential.as_ref()), 13 + 10 + 32);
        assert_eq!(fields(&head, ForwardOptions::default()).count(), 1);
    }
}
