//! Redact: values of Spark's configuration that a driver's answers to Config do not show.
//!
//! An answer is changed where it lies, and keeps its length: nothing of it is kept back, and what
//! frames and prefixes say of it stays true. The octets of a value that is hidden are overwritten.
//! Its field stays, since clients take it for granted that a key they are told has a value.
//!
//! What is hidden goes by the request, since answers do not say what they answer: where a driver
//! may have stripped a prefix off the keys (GetAll), a key is hidden if a hidden one ends with it,
//! and whether a key can be changed (IsModifiable) is told of every key.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod answer;
mod question;
#[cfg(test)]
mod tests;

pub use answer::{Redactor, Unreadable};

use crate::grpc::redact::question::About;
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

    /// Whether the value of a key is hidden, in an answer about this. Without a key it could be
    /// that of any.
    fn hides(&self, about: About, key: Option<&[u8]>) -> bool {
        match (about, key) {
            (About::Modifiable, _) => false,
            (About::Values | About::Unclear, None) => true,
            (About::Values, Some(key)) => self.0.iter().any(|hidden| hidden.as_bytes() == key),
            (About::Unclear, Some(key)) => {
                self.0.iter().any(|hidden| hidden.as_bytes().ends_with(key))
            }
        }
    }
}
