//! Redaction of Spark configuration values in the responses to Config.
//!
//! A response is changed in place and keeps its length, so that frame lengths and message prefixes
//! stay valid and nothing is buffered. Hidden values are overwritten with `*`; their fields stay,
//! since clients expect a value for each key.
//!
//! The rule depends on the operation of the request, which the response does not contain. For
//! GetAll with a prefix, the driver strips the prefix from the keys: a key is hidden if any hidden
//! key ends with it. Responses to IsModifiable contain no values and are not redacted.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use response::{Redactor, UnreadableResponse};

use crate::grpc::redact::request::ConfigOperation;
use std::sync::Arc;

/// Maximum length of a hidden key, in octets.
pub const KEY_MAX: usize = 256;

/// The configuration keys with hidden values. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HiddenKeys(Arc<[Box<str>]>);

impl HiddenKeys {
    /// Hides these keys.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = String>) -> Self {
        Self(keys.into_iter().map(String::into_boxed_str).collect())
    }

    /// Whether no key is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value of a key is hidden in the response to an operation. A value without a key
    /// could belong to any key.
    fn hides(&self, operation: ConfigOperation, key: Option<&[u8]>) -> bool {
        match (operation, key) {
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
