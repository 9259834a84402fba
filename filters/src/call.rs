//! One RPC as the rooms of the chain see it.
//!
//! What came with the call (method, metadata, peer, deadline) is fixed. What the rooms find out
//! goes into slots, which are empty at first. Slots are the only thing that two rooms share.
//!
//! Must never happen here: decoding a header value that no room asked for.

use crate::{
    Certificate, EnvironmentName, Identity, Method, Notes, Refusal, Revoked, TeamName,
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
    fn all(&self, name: &str, each: &mut dyn FnMut(&[u8]));

    /// What tells the only value of these headers from others without decoding it; `None` where
    /// not exactly one of them is there, once, or nobody knows.
    fn mark(&self, names: &[&str]) -> Option<Mark<'_>> {
        let _ = names;
        None
    }

    /// What rooms have noted on these headers, where calls may share them.
    fn notes(&self) -> Option<&Notes> {
        None
    }
}

/// A value as it came. Equal marks are equal values; the reverse does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The octets on the wire.
    pub octets: &'a [u8],
    /// Whether they are Huffman-coded (RFC 7541, 5.2).
    pub is_coded: bool,
}

/// One RPC on its way through the chain. It belongs to one worker.
pub struct Call {
    method: Method,
    metadata: Rc<dyn Metadata>,
    peer: SocketAddr,
    opened_at: Instant,
    wall: Option<SystemTime>,
    deadline: Option<Instant>,
    certificate: Option<Rc<Certificate>>,
    slots: Slots,
    /// How many rooms have admitted this call and not yet heard its outcome; kept by the chain.
    pub(crate) admitted: usize,
}

/// What a room may find out about a call and a later room may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The team that the call belongs to.
    Team,
    /// The environment of that team.
    Environment,
    /// Who calls.
    Identity,
}

impl Slot {
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
pub struct Slots {
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

impl Slots {
    /// Whether a slot holds a value.
    pub fn is_full(&self, slot: Slot) -> bool {
        match slot {
            Slot::Team => self.team.is_some(),
            Slot::Environment => self.environment.is_some(),
            Slot::Identity => self.identity.is_some(),
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
        let slots = Slots::default();
        Self { method, metadata, peer, opened_at, wall, deadline, certificate, slots, admitted: 0 }
    }

    /// The same call with the deadline that its `grpc-timeout` set.
    #[must_use]
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same call with the time of day at which it was opened.
    #[must_use]
    pub fn with_wall(self, wall: SystemTime) -> Self {
        Self { wall: Some(wall), ..self }
    }

    /// The same call on a connection whose client has proved this certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Rc<Certificate>>) -> Self {
        Self { certificate, ..self }
    }

    /// A copy of this call as it would be if it were opened now; no room has admitted it.
    #[must_use]
    pub fn again(&self, wall: SystemTime) -> Self {
        Self {
            method: self.method.clone(),
            metadata: Rc::clone(&self.metadata),
            peer: self.peer,
            opened_at: self.opened_at,
            wall: Some(wall),
            deadline: self.deadline,
            certificate: self.certificate.clone(),
            slots: self.slots.clone(),
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
    pub fn wall(&self) -> Option<SystemTime> {
        self.wall
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
        self.slots.team.as_ref().ok_or_else(|| empty(Slot::Team))
    }

    /// The environment of this call.
    ///
    /// # Errors
    /// As for [`Call::team`].
    pub fn environment(&self) -> Result<&EnvironmentName, Refusal> {
        self.slots.environment.as_ref().ok_or_else(|| empty(Slot::Environment))
    }

    /// Who calls.
    ///
    /// # Errors
    /// As for [`Call::team`].
    pub fn identity(&self) -> Result<&Rc<Identity>, Refusal> {
        self.slots.identity.as_ref().ok_or_else(|| empty(Slot::Identity))
    }

    /// What the rooms have found out so far.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The place of this call was removed, or is there after all.
    pub fn set_revoked(&mut self, revoked: Option<Rc<Revoked>>) {
        self.slots.revoked = revoked;
    }

    /// Fills the slots that hold a value in `found`, and leaves the others alone.
    pub fn fill(&mut self, found: Slots) {
        let Slots { team, environment, identity, revoked } = found;
        if team.is_some() {
            self.slots.team = team;
            self.slots.revoked = revoked;
        }
        if environment.is_some() {
            self.slots.environment = environment;
        }
        if identity.is_some() {
            self.slots.identity = identity;
        }
    }
}

fn empty(slot: Slot) -> Refusal {
    Refusal::new(Code::Internal, "chain.empty", format!("no room has filled {}", slot.name()))
}

impl fmt::Debug for Call {
    /// Without metadata: it may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("peer", &self.peer)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// Headers kept as a plain list: for tests, and for `sconce explain`.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl Listed {
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

impl Metadata for Listed {
    fn authority(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.authority)
    }

    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(Cow::Borrowed(value))
    }

    fn all(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| key == name).for_each(|(_, value)| each(value));
    }

    fn mark(&self, names: &[&str]) -> Option<Mark<'_>> {
        let mut all = self.headers.iter().filter(|(key, _)| names.contains(&key.as_str()));
        match (all.next(), all.next()) {
            (Some((_, octets)), None) => Some(Mark { octets, is_coded: false }),
            (None | Some(_), _) => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;

    fn call() -> Call {
        let metadata = Rc::new(Listed::new("a:1").with("X-Key", "secret").with("x-key", "two"));
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
        call.fill(Slots { team: TeamName::parse("ads").ok(), ..Slots::default() });
        let environment = EnvironmentName::parse("prod").ok();
        call.fill(Slots { environment, ..Slots::default() });
        assert_eq!(call.team().unwrap().as_str(), "ads");
        assert_eq!(call.environment().unwrap().as_str(), "prod");
    }

    #[test]
    fn metadata_is_found_by_lower_case_name_in_order() {
        let call = call();
        let mut seen = Vec::new();
        call.metadata().all("x-key", &mut |value| seen.push(value.to_vec()));
        assert_eq!(seen, [&b"secret"[..], b"two"]);
        assert_eq!(call.metadata().first("x-key").as_deref(), Some(&b"secret"[..]));
    }

    #[test]
    fn the_debug_form_of_a_call_shows_no_metadata() {
        assert!(!format!("{:?}", call()).contains("secret"));
    }
}
