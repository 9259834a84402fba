//! What the room is built from: whose word counts, and for whom.

use super::{Algorithm, JwksCache, ReservedPrefixes};
use crate::{Identity, NameKind};
use std::{fmt, sync::Arc, time::Duration};

/// Whose word counts. With nothing in it, every call is refused.
///
/// Whoever fills this in has checked that issuers differ, and that each has an audience and an
/// algorithm: the room takes the first issuer that fits, and refuses what no audience or algorithm
/// allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The identity providers whose tokens count.
    pub issuers: Vec<IssuerSettings>,
    /// Tokens that are listed one by one.
    pub tokens: Vec<StaticToken>,
    /// How a client certificate names its user; without it no certificate proves anything.
    pub certificates: Option<CertificateSettings>,
    /// The prefixes that only the names of their own issuer may begin with. Listed tokens were held
    /// against them by whoever fills this in.
    pub reserved: ReservedPrefixes,
    /// How far clocks may be apart: a token counts from so long before its beginning until so long
    /// after its end.
    pub skew: Duration,
    /// How long after its end, and after the skew, a token is still admitted. For clients that
    /// cannot put a fresh token into a session that runs: whoever knows the sessions must see to
    /// it that it counts for those alone that began before.
    pub grace: Duration,
    /// How long after its end, and after the skew, a token is good for calls that end what its user
    /// has begun: see [`Method::is_release`](crate::Method::is_release).
    pub release_grace: Duration,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// What its tokens say in `iss`, octet for octet.
    pub issuer: Arc<str>,
    /// What its tokens must be meant for: one of these must stand in `aud`.
    pub audiences: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Where its tokens say who their owner is.
    pub claims: ClaimSettings,
    /// Its keys, which somebody else replaces.
    pub jwks: Arc<JwksCache>,
}

/// Where tokens say who their owner is.
///
/// Each is the name of a claim. One that no claim has is taken as a path whose steps are parted by
/// dots, such as `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSettings {
    /// The user: a text that must be there.
    pub user: String,
    /// What is put in front of it, so that one issuer's users are no other's.
    pub user_prefix: String,
    /// Whether a token must say that the user's e-mail address is verified (`email_verified`).
    pub require_verified_email: bool,
    /// The user's display name: the first of these that is there.
    pub display_name: Vec<String>,
    /// The groups: a list of texts, or one text that is one group.
    pub groups: String,
    /// What is put in front of each.
    pub groups_prefix: String,
    /// The teams, in the same form; without it tokens admit to none by themselves.
    pub teams: Option<String>,
}

impl Default for ClaimSettings {
    /// As OpenID Connect has them, and `groups` as most providers do.
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

/// A token that is listed, and known by its hash alone.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticToken {
    /// The SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Whom it proves; its source bears the token's name.
    pub identity: Identity,
}

impl fmt::Debug for StaticToken {
    /// Without the hash: a short token could be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticToken").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// How a client certificate names its user: exactly one of its names must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Which of the names counts.
    pub user: NameKind,
    /// What the name must begin with; the user is what follows.
    pub prefix: String,
}
