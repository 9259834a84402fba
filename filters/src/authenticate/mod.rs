//! Authenticate: who calls, by a signed token, a listed token or a client certificate.
//!
//! A signature is verified once for each token and worker; its time and its key are asked about at
//! every call. A token whose key is not known may let its call wait for one attempt to fetch the
//! provider's keys.
//!
//! Must never admit a call that proves nobody, and never say more to it than what was wrong.

mod algorithm;
mod authenticator;
mod certificates;
mod claims;
mod details;
mod error;
mod filter;
mod json;
mod jwks_cache;
mod key;
mod key_set;
mod rejections;
mod release;
mod reserved_prefixes;
mod settings;
mod static_tokens;
#[cfg(test)]
mod tests;
mod token;
mod verified;
mod waiters;

pub use algorithm::Algorithm;
pub use error::token_expired;
pub use filter::Authenticate;
pub use jwks_cache::{JwksCache, RefreshCooldown};
pub use key_set::{DOCUMENT_MAX, KEYS_MAX, KeySet, KeySetError};
pub use reserved_prefixes::{ReservedPrefixes, has_prefix};
pub use settings::{CertificateSettings, ClaimSettings, IssuerSettings, Settings, StaticToken};
pub use waiters::WAITERS_MAX;

/// The name of this room in config.
pub const NAME: &str = "authenticate";
