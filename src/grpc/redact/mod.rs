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

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use response::{Redactor, UnreadableResponse};

use crate::grpc::redact::request::ConfigOperation;
use std::sync::Arc;

/// Octets of the longest key that can be hidden.
pub const KEY_MAX: usize = 256;

/// The keys whose values clients do not see. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HiddenKeys(Arc<[Box<str>]>);

impl HiddenKeys {
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
    fn hides(&self, about: ConfigOperation, key: Option<&[u8]>) -> bool {
        match (about, key) {
            (ConfigOperation::IsModifiable, _) => false,
            (ConfigOperation::ByKey | ConfigOperation::Unknown, None) => true,
            (ConfigOperation::ByKey, Some(key)) => {
                self.0.iter().any(|hidden| hidden.as_bytes() == key)
            }
            (ConfigOperation::Unknown, Some(key)) => {
                self.0.iter().any(|hidden| hidden.as_bytes().ends_with(key))
            }
        }
    }
}
