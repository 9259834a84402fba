//! The request fields that are forwarded to a driver.
//!
//! Credentials of the client and `x-sconce-` fields are removed; the credential of the driver is
//! added. grpc-java closes streams with a header list above 8,192 octets, and the connection above
//! 10,240 octets, so the forwarded list has a limit: see [`size`].

use crate::grpc::credential::Credential;
use crate::wire::hpack::{Field, Fields, Indexing, Text};

/// Prefix of the fields that configure sconce and are not forwarded.
const OWN_PREFIX: &[u8] = b"x-sconce-";
/// A field is a client credential if its name, split at `-` and `_`, contains one of these words:
/// `authorization`, `proxy-authorization`, `x_authorization`, and `authentication`, the token field
/// of Spark's JVM clients up to 4.0.x.
const CREDENTIALS: [&[u8]; 2] = [AUTHORIZATION, b"authentication"];

/// The field of a credential.
const AUTHORIZATION: &[u8] = b"authorization";
/// The field with the compression algorithms that the client accepts.
const ACCEPT_ENCODING: &[u8] = b"grpc-accept-encoding";

/// Changes to the forwarded fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions<'a> {
    /// The credential that the driver expects.
    pub credential: Option<&'a Credential>,
    /// Whether the response must be uncompressed, because sconce parses it.
    pub uncompressed_response: bool,
}

/// The forwarded fields in their order, followed by added ones.
///
/// A `host` without `:authority` is forwarded as `:authority` (RFC 9113, 8.3.1).
pub fn fields<'a>(
    head: &'a Fields,
    options: ForwardOptions<'a>,
) -> impl Iterator<Item = Field<'a>> {
    let keeps =
        move |field: &Field<'_>| !(options.uncompressed_response && field.name == ACCEPT_ENCODING);
    let added = options.credential.map(|credential| Field {
        name: AUTHORIZATION,
        value: Text::raw(credential.value()),
        indexing: Indexing::Never,
    });
    let forwarded = head.iter().filter(|field| is_forwarded(field.name)).filter(keeps);
    authority_from_host(head).into_iter().chain(forwarded).chain(added)
}

/// `host` as `:authority`, for a head without `:authority`.
fn authority_from_host(head: &Fields) -> Option<Field<'_>> {
    if head.named(b":authority").next().is_some() {
        return None;
    }
    let (_, host) = head.named(b"host").next()?;
    Some(Field { name: b":authority", ..host })
}

/// The size of the forwarded list without added fields, in octets as HPACK counts them (RFC 7541,
/// 4.1).
#[must_use]
pub fn size(head: &Fields) -> usize {
    fields(head, ForwardOptions::default())
        .map(|field| field_size(field.name, field.value.decoded_len()))
        .sum()
}

/// The size that a credential adds to the list, in octets as HPACK counts them.
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
        // It is validated already, and the appended `user_context` makes the body longer.
        b"content-length" => false,
        _ => !has_prefix(name, OWN_PREFIX) && !is_credential(name),
    }
}

/// `_` separates words like `-`, as it does for many servers.
fn is_credential(name: &[u8]) -> bool {
    name.len() >= AUTHORIZATION.len()
        && name.split(|octet| matches!(octet, b'-' | b'_')).any(|word| CREDENTIALS.contains(&word))
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|front| is_alias(front, prefix))
}

/// Whether the names are equal when `_` counts as `-`, as it does for many servers.
fn is_alias(name: &[u8], of: &[u8]) -> bool {
    let same = |(octet, own): (&u8, &u8)| octet == own || (*octet == b'_' && *own == b'-');
    name.len() == of.len() && name.iter().zip(of).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn client_credentials_and_fields_for_sconce_are_not_forwarded() {
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
        let options = ForwardOptions::default();
        let expected = [
            &b":path"[..],
            b"te",
            b"x-sconc",
            b":authority",
            b"authorizations",
            b"x-authorized-by",
            b"user-agent",
        ];
        let names: Vec<_> = fields(&head, options).map(|field| field.name.to_vec()).collect();
        assert_eq!(names, expected);
        assert_eq!(size(&head), 5 + 2 + 7 + 10 + 14 + 15 + 10 + 7 * 33);
    }

    #[test]
    fn host_is_forwarded_as_authority_only_if_authority_is_missing() {
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
    fn a_driver_gets_its_own_credential_and_no_other() {
        let mut head = Fields::default();
        head.push(b"authorization", b"Bearer client", Indexing::Incremental);
        head.push(b"grpc-accept-encoding", b"gzip", Indexing::Incremental);
        let credential = Credential::from_token("own");
        let options =
            ForwardOptions { credential: credential.as_ref(), uncompressed_response: true };
        let all: Vec<_> = fields(&head, options).collect();
        let [field] = &all[..] else { panic!("one field, not {all:?}") };
        assert_eq!((field.name, field.indexing), (AUTHORIZATION, Indexing::Never));
        assert_eq!(field.value.encoded(), b"Bearer own");
        assert_eq!(credential_size(credential.as_ref()), 13 + 10 + 32);
        assert_eq!(fields(&head, ForwardOptions::default()).count(), 1);
    }
}
