//! The settings of the filter: trusted issuers, static tokens and client certificates.

use super::{Algorithm, JwksCache, ReservedPrefixes};
use crate::{Identity, NameKind};
use std::{fmt, sync::Arc, time::Duration};

/// The trusted credentials. With none, every call is refused.
///
/// The caller has checked that issuers differ, and that each has an audience and an algorithm: the
/// filter takes the first matching issuer, and refuses tokens without a matching audience or
/// algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The trusted identity providers.
    pub issuers: Vec<IssuerSettings>,
    /// Static tokens.
    pub tokens: Vec<StaticToken>,
    /// The user name in client certificates; without it, certificates authenticate nobody.
    pub certificates: Option<CertificateSettings>,
    /// Prefixes that are reserved for the names of one issuer. The caller has checked static tokens
    /// against them.
    pub reserved: ReservedPrefixes,
    /// Tolerated clock skew: a token is accepted this long before its start and after its expiry.
    pub skew: Duration,
    /// How long after its expiry, plus skew, a token is still admitted, for clients that cannot
    /// replace the token of a running session. The proxy admits such tokens only for sessions that
    /// began before the expiry.
    pub grace: Duration,
    /// How long after its expiry, plus skew, a token is accepted for release calls: see
    /// [`Method::is_release`](crate::Method::is_release).
    pub release_grace: Duration,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The exact value of `iss`.
    pub issuer: Arc<str>,
    /// Accepted audiences: one of them must be in `aud`.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The claims with the identity.
    pub claims: ClaimSettings,
    /// The JWKS cache, which the control plane fills.
    pub jwks: Arc<JwksCache>,
}

/// The names of the claims with the identity.
///
/// A name that no claim has is a path with dots between the steps, such as `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSettings {
    /// The user: a required string.
    pub user: String,
    /// A prefix for the user, so that users of different issuers differ.
    pub user_prefix: String,
    /// Whether a token must have `email_verified`.
    pub require_verified_email: bool,
    /// The display name: the first of these claims that exists.
    pub display_name: Vec<String>,
    /// The groups: a list of strings, or one string.
    pub groups: String,
    /// A prefix for each group.
    pub groups_prefix: String,
    /// The teams, in the same form; without it, tokens grant no team by themselves.
    pub teams: Option<String>,
}

impl Default for ClaimSettings {
    /// The claims of OpenID Connect, and `groups` as most providers have it.
    fn default() -> Self {
        Self {
            user: "sub".to_owned(),
            user_prefix: String::new(),
            require_verified_email: false,
            display_name: vec!["name".to_owned(), "preferred_username".to_owned()],
            groups: "groups".to_owned(),
            groups_prefix: String::new(),
            teams: None,
        }
    }
}

/// A static token: only its hash is known.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticToken {
    /// The SHA-256 of the token.
    pub sha256: [u8; 32],
    /// The identity. Its source has the name of the token.
    pub identity: Identity,
}

impl fmt::Debug for StaticToken {
    /// Without the hash: a short token could be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticToken").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// How a client certificate names its user: exactly one name must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// The field with the user.
    pub user: NameKind,
    /// The required prefix of the name; the user is the rest.
    pub prefix: String,
}
