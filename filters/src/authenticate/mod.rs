//! `authenticate`: authenticates the caller by a JWT, a static token or a client certificate.
//!
//! Each worker verifies a signature once for each token; validity period and key are checked at
//! every call. A call with an unknown key may wait for one refresh of the provider's JWKS.
//!
//! Must not admit an unauthenticated call, and must not reveal more to it than what is wrong.

mod algorithm;
mod authenticator;
mod certificates;
mod claims;
mod details;
mod error;
mod factory;
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
pub use factory::Factory;
pub use filter::Authenticate;
pub use jwks_cache::{JwksCache, RefreshCooldown};
pub use key_set::{DOCUMENT_MAX, KEYS_MAX, KeySet, KeySetError};
pub use reserved_prefixes::{ReservedPrefixes, has_prefix};
pub use settings::{CertificateSettings, ClaimSettings, IssuerSettings, Settings, StaticToken};
pub use waiters::WAITERS_MAX;

/// The name in config.
pub const NAME: &str = "authenticate";
