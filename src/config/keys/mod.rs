//! The keys of identity providers: which are wanted, and the one who fetches them.
//!
//! A plan names providers; [`Book`] knows those of the live one, so that a reload finds their keys
//! in place. [`keep`] fills the rings, beside the way of the calls: a provider that is slow, dead
//! or lying changes nothing about the keys there are.
//!
//! Must never happen here: an attempt without an end, or keys that go because none came.

mod fetch;
mod providers;
mod refresh;

pub use fetch::fetch;
pub(super) use fetch::is_loopback;
pub use providers::{JwksLocation, JwksProvider, JwksProviders, JwksSource};
pub use refresh::{FetchReport, fetch_all_once, refresh_loop};
