//! JWKS of identity providers: the providers of the live configuration, and their refresh.
//!
//! [`JwksProviders`] has the providers of the live configuration, so that a reload keeps fetched
//! keys. [`refresh_loop`] fills the caches on the control plane: a slow, dead or misconfigured
//! provider does not affect cached keys.
//!
//! Must not happen here: a fetch without a time limit, or the removal of cached keys because a
//! fetch failed.

mod fetch;
mod providers;
mod refresh;

pub use fetch::fetch;
pub(super) use fetch::is_loopback;
pub use providers::{JwksLocation, JwksProvider, JwksProviders, JwksSource};
pub use refresh::{FetchReport, fetch_all_once, refresh_loop};
