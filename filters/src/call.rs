//! One RPC as the rooms of the chain see it.
//!
//! What came with the call (method, metadata, peer, deadline) is fixed. What the rooms find out
//! goes into slots, which are empty at first. Slots are the only thing that two rooms share.
//!
//! Must never happen here: decoding a header value that no room asked for.

use crate::{
    Certificate, EnvironmentName, HeadCache, Identity, Method, Refusal, Revoked, TeamName,
    refusal::Code,
};
use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::{Instant, SystemTime},
};

/// The request headers of a call, looked up by need.
///
/// Names are given in lower case, as they stand in HTTP/2. Values are octets, decoded by each
/// look-up.
pub trait Metadata {
    /// The `:authority` of the call, as the client wrote it; empty when it sent none.
    fn authority(&self) -> Cow<'_, str>;

    /// The first value of a header.
    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>>;

    /// Hands over every value of a header, in the order in which they came.
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8]));

    /// What tells the only value of these headers from others without decoding it; `None` where
    /// not exactly one of them is there, once, or nobody knows.
    fn raw_value(&self, names: &[&str]) -> Option<RawValue<'_>> {
        let _ = names;
        None
    }

    /// What rooms have noted on these headers, where calls may share them.
    fn cache(&self) -> Option<&HeadCache> {
        None
    }
}

/// A value as it came. Equal marks are equal values; the reverse does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'a> {
    /// The octets on the wire.
    pub bytes: &'a [u8],
    /// Whether they are Huffman-coded (RFC 7541, 5.2).
    pub is_huffman_coded: bool,
}

/// One RPC on its way through the chain. It belongs to one worker.
pub struct Call {
    method: Method,
    metadata: Rc<dyn Metadata>,
    peer: SocketAddr,
    opened_at: Instant,
    wall_time: Option<SystemTime>,
    deadline: Option<Instant>,
    certificate: Option<Rc<Certificate>>,
    attributes: Attributes,
    /// How many rooms have admitted this call and not yet heard its outcome; kept by the chain.
    pub(crate) admitted: usize,
}

/// What a room may find out about a call and a later room may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The team that the call belongs to.
    Team,
    /// The environment of that team.
    Environment,
    /// Who calls.
    Identity,
}

impl Attribute {
    /// The slot's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Environment => "environment",
            Self::Identity => "identity",
        }
    }
}

/// The values of the slots, each empty until a room fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// See [`Slot::Team`].
    pub team: Option<TeamName>,
    /// See [`Slot::Environment`].
    pub environment: Option<EnvironmentName>,
    /// See [`Slot::Identity`]. Shared, since a proof is good for many calls.
    pub identity: Option<Rc<Identity>>,
    /// Of a call whose team, environment or membership a reload has removed a short while ago.
    /// Whoever places the call must see to it that its session may go on.
    pub revoked: Option<Rc<Revoked>>,
}

impl Attributes {
    /// Whether a slot holds a value.
    pub fn is_set(&self, slot: Attribute) -> bool {
        match slot {
            Attribute::Team => self.team.is_some(),
            Attribute::Environment => self.environment.is_some(),
            Attribute::Identity => self.identity.is_some(),
        }
    }
}

impl Call {
    /// A call as it was opened: every slot empty, no deadline, no time of day, no certificate.
    /// `opened_at` is when its header block was complete.
    pub fn new(
        method: Method,
        metadata: Rc<dyn Metadata>,
        peer: SocketAddr,
        opened_at: Instant,
    ) -> Self {
        let (wall, deadline, certificate) = (None, None, None);
        let slots = Attributes::default();
        Self {
            method,
            metadata,
            peer,
            opened_at,
            wall_time: wall,
            deadline,
            certificate,
            attributes: slots,
            admitted: 0,
        }
    }

    /// The same call with the deadline that its `grpc-timeout` set.
    #[must_use]
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same call with the time of day at which it was opened.
    #[must_use]
    pub fn with_wall_time(self, wall: SystemTime) -> Self {
        Self { wall_time: Some(wall), ..self }
    }

    /// The same call on a connection whose client has proved this certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Rc<Certificate>>) -> Self {
        Self { certificate, ..self }
    }

    /// A copy of this call as it would be if it were opened now; no room has admitted it.
    #[must_use]
    pub fn copy_for_recheck(&self, wall: SystemTime) -> Self {
        Self {
            method: self.method.clone(),
            metadata: Rc::clone(&self.metadata),
            peer: self.peer,
            opened_at: self.opened_at,
            wall_time: Some(wall),
            deadline: self.deadline,
            certificate: self.certificate.clone(),
            attributes: self.attributes.clone(),
            admitted: 0,
        }
    }

    /// The RPC that is called.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The `:authority` that the client dialled, as it wrote it.
    pub fn authority(&self) -> Cow<'_, str> {
        self.metadata.authority()
    }

    /// The request headers.
    pub fn metadata(&self) -> &dyn Metadata {
        &*self.metadata
    }

    /// The client's address, as the socket or a trusted proxy says.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When the call's header block was complete.
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// The time of day when the call was opened; `None` where nobody told. A room that needs it
    /// refuses such a call: no other time would be right.
    pub fn wall_time(&self) -> Option<SystemTime> {
        self.wall_time
    }

    /// The verified certificate of the client's connection.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// When the client stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The team of this call.
    ///
    /// # Errors
    /// An `INTERNAL` refusal while no room has filled the slot; the contract checked when a chain
    /// is built keeps rooms from ever seeing it.
    pub fn team(&self) -> Result<&TeamName, Refusal> {
        self.attributes.team.as_ref().ok_or_else(|| unset_attribute(Attribute::Team))
    }

    /// The environment of this call.
    ///
    /// # Errors
    /// As for [`Call::team`].
    pub fn environment(&self) -> Result<&EnvironmentName, Refusal> {
        self.attributes.environment.as_ref().ok_or_else(|| unset_attribute(Attribute::Environment))
    }

    /// Who calls.
    ///
    /// # Errors
    /// As for [`Call::team`].
    pub fn identity(&self) -> Result<&Rc<Identity>, Refusal> {
        self.attributes.identity.as_ref().ok_or_else(|| unset_attribute(Attribute::Identity))
    }

    /// What the rooms have found out so far.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The place of this call was removed, or is there after all.
    pub fn set_revoked(&mut self, revoked: Option<Rc<Revoked>>) {
        self.attributes.revoked = revoked;
    }

    /// Fills the slots that hold a value in `found`, and leaves the others alone.
    pub fn set_attributes(&mut self, found: Attributes) {
        let Attributes { team, environment, identity, revoked } = found;
        if team.is_some() {
            self.attributes.team = team;
            self.attributes.revoked = revoked;
        }
        if environment.is_some() {
            self.attributes.environment = environment;
        }
        if identity.is_some() {
            self.attributes.identity = identity;
        }
    }
}

fn unset_attribute(slot: Attribute) -> Refusal {
    Refusal::new(Code::Internal, "chain.empty", format!("no room has filled {}", slot.name()))
}

impl fmt::Debug for Call {
    /// Without metadata: it may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("peer", &self.peer)
            .field("slots", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// Headers kept as a plain list: for tests, and for `sconce explain`.
#[derive(Clone, Debug, Default)]
pub struct StaticMetadata {
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl StaticMetadata {
    /// No headers at all but an `:authority`.
    pub fn new(authority: impl Into<String>) -> Self {
        Self { authority: authority.into(), headers: Vec::new() }
    }

    /// One header more; its name is put in lower case.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

impl Metadata for StaticMetadata {
    fn authority(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.authority)
    }

    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(Cow::Borrowed(value))
    }

    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| key == name).for_each(|(_, value)| each(value));
    }

    fn raw_value(&self, names: &[&str]) -> Option<RawValue<'_>> {
        let mut all = self.headers.iter().filter(|(key, _)| names.contains(&key.as_str()));
        match (all.next(), all.next()) {
            (Some((_, octets)), None) => Some(RawValue { bytes: octets, is_huffman_coded: false }),
            (None | Some(_), _) => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;

    fn call() -> Call {
        let metadata =
            Rc::new(StaticMetadata::new("a:1").with("X-Key", "secret").with("x-key", "two"));
        Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now())
    }

    #[test]
    fn an_empty_slot_is_an_internal_refusal() {
        let refusal = call().team().unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::Internal, "chain.empty"));
    }

    #[test]
    fn filling_one_slot_leaves_the_other_alone() {
        let mut call = call();
        call.set_attributes(Attributes {
            team: TeamName::parse("ads").ok(),
            ..Attributes::default()
        });
        let environment = EnvironmentName::parse("prod").ok();
        call.set_attributes(Attributes { environment, ..Attributes::default() });
        assert_eq!(call.team().unwrap().as_str(), "ads");
        assert_eq!(call.environment().unwrap().as_str(), "prod");
    }

    #[test]
    fn metadata_is_found_by_lower_case_name_in_order() {
        let call = call();
        let mut seen = Vec::new();
        call.metadata().for_each_value("x-key", &mut |value| seen.push(value.to_vec()));
        assert_eq!(seen, [&b"secret"[..], b"two"]);
        assert_eq!(call.metadata().first("x-key").as_deref(), Some(&b"secret"[..]));
    }

    #[test]
    fn the_debug_form_of_a_call_shows_no_metadata() {
        assert!(!format!("{:?}", call()).contains("secret"));
    }
}
