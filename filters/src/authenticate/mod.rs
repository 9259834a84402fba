//! Authenticate: who calls, by a signed token, a listed token or a client certificate.
//!
//! A signature is verified once for each token and worker; its time and its key are asked about at
//! every call. A token whose key is not known may let its call wait for one attempt to fetch the
//! provider's keys.
//!
//! Must never admit a call that proves nobody, and never say more to it than what was wrong.

mod algorithm;
mod certificates;
mod claims;
mod denial;
mod details;
mod json;
mod judge;
mod key;
mod keys;
mod refused;
mod release;
mod reserved;
mod ring;
mod room;
mod seats;
mod settings;
mod statics;
#[cfg(test)]
mod tests;
mod token;
mod verified;

pub use algorithm::Algorithm;
pub use denial::expired;
pub use keys::{DOCUMENT_MAX, KEYS_MAX, KeySet, KeysFault};
pub use reserved::{Reserved, begins_with};
pub use ring::{KeyRing, Rest};
pub use room::Authenticate;
pub use seats::WAITING_MAX;
pub use settings::{Certificates, ClaimSettings, IssuerSettings, Settings, StaticToken};

/// The name of this room in config.
pub const NAME: &str = "authenticate";
