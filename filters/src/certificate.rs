//! The certificate that a client proved to own, reduced to the names in it and to its end.
//!
//! Must never be made of a certificate that nobody verified: rooms trust what stands here.

use crate::HeadCache;
use std::{cell::Cell, time::Duration};

/// The names in the verified certificate of a client's connection, shared by all its calls.
#[derive(Debug, Default)]
pub struct Certificate {
    names: Vec<(NameKind, String)>,
    not_after: Duration,
    cache: HeadCache,
    is_untrusted: Cell<bool>,
}

/// Where in a certificate a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A URI among the subject's alternative names, such as a SPIFFE ID.
    Uri,
    /// An e-mail address among them.
    Email,
    /// A DNS name among them.
    Dns,
    /// The common name of the subject.
    CommonName,
}

impl NameKind {
    /// The word for it in messages.
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
    /// A certificate with these names, in their order, which is good until then, since the Unix
    /// epoch.
    pub fn new(names: Vec<(NameKind, String)>, ends: Duration) -> Self {
        Self { names, not_after: ends, cache: HeadCache::default(), is_untrusted: Cell::new(false) }
    }

    /// Until when it is good, in time since the Unix epoch: a connection may outlive it.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }

    /// The names of one kind.
    pub fn names(&self, kind: NameKind) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(other, _)| *other == kind).map(|(_, name)| &**name)
    }

    /// Nobody who is trusted vouches for it any more: from now on it proves nothing.
    pub fn mark_untrusted(&self) {
        self.is_untrusted.set(true);
    }

    /// Whether it proves nothing any more.
    pub fn is_untrusted(&self) -> bool {
        self.is_untrusted.get()
    }

    /// What rooms have noted on it.
    pub fn cache(&self) -> &HeadCache {
        &self.cache
    }
}
