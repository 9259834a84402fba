//! The certificate that a client proved to own, reduced to the names in it.
//!
//! Must never be made of a certificate that nobody verified: rooms trust what stands here.

use crate::Notes;

/// The names in the verified certificate of a client's connection, shared by all its calls.
#[derive(Debug, Default)]
pub struct Certificate {
    names: Vec<(NameKind, String)>,
    notes: Notes,
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
    /// A certificate with these names, in their order.
    pub fn new(names: Vec<(NameKind, String)>) -> Self {
        Self { names, notes: Notes::default() }
    }

    /// The names of one kind.
    pub fn names(&self, kind: NameKind) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(other, _)| *other == kind).map(|(_, name)| &**name)
    }

    /// What rooms have noted on it.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }
}
