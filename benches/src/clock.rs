//! The one place of the benches that reads the clock.

use std::time::Instant;

/// The time now, monotonic.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a bench owns its loops, and measuring is its trade")]
pub fn now() -> Instant {
    Instant::now()
}
