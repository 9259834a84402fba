//! Redact: values of Spark's configuration that a driver's answers to Config do not show.
//!
//! An answer is changed where it lies, and keeps its length: nothing of it is kept back, and what
//! frames and prefixes say of it stays true. A value that is hidden loses the number of its field,
//! so that the key looks as if it had no value (as Spark 4.1 and later answer for keys that its own
//! `spark.redaction.regex` matches), and its octets.
//!
//! A driver strips the prefix that a client asks for off the keys (GetAll), so a key is hidden if a
//! hidden one ends with it: what was asked for is not known here, and cannot be lied about.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod answer;
#[cfg(test)]
mod tests;

pub use answer::{Redactor, Unreadable};

use std::sync::Arc;

/// Octets of the longest key that can be hidden.
pub const KEY_MAX: usize = 256;

/// The keys whose values clients do not see. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(Arc<[Box<str>]>);

impl Hidden {
    /// These keys.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = String>) -> Self {
        Self(keys.into_iter().map(String::into_boxed_str).collect())
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hides(&self, key: &[u8]) -> bool {
        self.0.iter().any(|hidden| hidden.as_bytes().ends_with(key))
    }
}
