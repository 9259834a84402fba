//! The verified certificate of a client connection: its names and its end.
//!
//! Must not be constructed from a certificate that was not verified: filters trust it.

use crate::HeadCache;
use std::{cell::Cell, time::Duration};

/// The names in the verified certificate of a client connection. All its calls share it.
#[derive(Debug, Default)]
pub struct Certificate {
    names: Vec<(NameKind, String)>,
    not_after: Duration,
    cache: HeadCache,
    is_untrusted: Cell<bool>,
}

/// The field of a certificate that contains a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A URI of the subject alternative names, such as a SPIFFE ID.
    Uri,
    /// An e-mail address of the subject alternative names.
    Email,
    /// A DNS name of the subject alternative names.
    Dns,
    /// The common name of the subject.
    CommonName,
}

impl NameKind {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uri => "URI",
            Self::Email => "e-mail address",
            Self::Dns => "DNS name",
            Self::CommonName => "common name",
        }
    }
}

impl Certificate {
    /// A certificate with these names, in their order. `not_after` is a time since the Unix epoch.
    pub fn new(names: Vec<(NameKind, String)>, ends: Duration) -> Self {
        Self { names, not_after: ends, cache: HeadCache::default(), is_untrusted: Cell::new(false) }
    }

    /// The end of its validity, since the Unix epoch. A connection may outlive it.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }

    /// The names of one kind.
    pub fn names(&self, kind: NameKind) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(other, _)| *other == kind).map(|(_, name)| &**name)
    }

    /// Marks the certificate as untrusted: a reload has removed its authority.
    pub fn mark_untrusted(&self) {
        self.is_untrusted.set(true);
    }

    /// Whether a reload has removed its authority.
    pub fn is_untrusted(&self) -> bool {
        self.is_untrusted.get()
    }

    /// The cached results of filters for this certificate.
    pub fn cache(&self) -> &HeadCache {
        &self.cache
    }
}
