//! One RPC as the filters see it.
//!
//! Method, metadata, peer and deadline are fixed. Filters set [`Attributes`], which are unset at
//! first; they are the only state that two filters share.
//!
//! Must not happen here: decoding a header value that no filter reads.

use crate::{
    Attribute, Attributes, CallAttribute, Certificate, EnvironmentName, HeadCache, Identity,
    Method, Refusal, Revoked, TeamName, refusal::Code,
};
use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::{Instant, SystemTime},
};

/// The request headers of a call, decoded at each look-up.
///
/// Names are lower case, as in HTTP/2.
pub trait Metadata {
    /// The `:authority` of the call, as the client sent it; empty if there is none.
    fn authority(&self) -> Cow<'_, str>;

    /// The first value of a header.
    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>>;

    /// Calls `each` with every value of a header, in the order in which they arrived.
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8]));

    /// The raw value of these headers, without decoding; `None` unless exactly one of them occurs
    /// exactly once.
    fn raw_value(&self, names: &[&str]) -> Option<RawValue<'_>> {
        let _ = names;
        None
    }

    /// The cache for this head, if calls share it.
    fn cache(&self) -> Option<&HeadCache> {
        None
    }
}

/// A header value as it arrived. Equal raw values are equal values; the reverse does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'a> {
    /// The encoded bytes.
    pub bytes: &'a [u8],
    /// Whether they are Huffman-coded (RFC 7541, 5.2).
    pub is_huffman_coded: bool,
}

/// One RPC in the filter chain. It belongs to one worker.
pub struct Call {
    method: Method,
    metadata: Rc<dyn Metadata>,
    peer: SocketAddr,
    opened_at: Instant,
    wall_time: Option<SystemTime>,
    deadline: Option<Instant>,
    certificate: Option<Rc<Certificate>>,
    attributes: Attributes,
    /// Number of filters that have admitted this call and expect its outcome; kept by the chain.
    pub(crate) admitted: usize,
}

impl Call {
    /// A call without attributes, deadline, wall-clock time and certificate. `opened_at` is the end
    /// of its header block.
    pub fn new(
        method: Method,
        metadata: Rc<dyn Metadata>,
        peer: SocketAddr,
        opened_at: Instant,
    ) -> Self {
        Self {
            method,
            metadata,
            peer,
            opened_at,
            wall_time: None,
            deadline: None,
            certificate: None,
            attributes: Attributes::default(),
            admitted: 0,
        }
    }

    /// The same call with the deadline of its `grpc-timeout`.
    #[must_use]
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same call with the wall-clock time at which it was opened.
    #[must_use]
    pub fn with_wall_time(self, wall_time: SystemTime) -> Self {
        Self { wall_time: Some(wall_time), ..self }
    }

    /// The same call with the verified certificate of its connection.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Rc<Certificate>>) -> Self {
        Self { certificate, ..self }
    }

    /// A copy of this call as if it were opened now. No filter has admitted it.
    #[must_use]
    pub fn copy_for_recheck(&self, wall_time: SystemTime) -> Self {
        Self {
            method: self.method,
            metadata: Rc::clone(&self.metadata),
            peer: self.peer,
            opened_at: self.opened_at,
            wall_time: Some(wall_time),
            deadline: self.deadline,
            certificate: self.certificate.clone(),
            attributes: self.attributes.clone(),
            admitted: 0,
        }
    }

    /// The RPC.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The `:authority` of the call, as the client sent it.
    pub fn authority(&self) -> Cow<'_, str> {
        self.metadata.authority()
    }

    /// The request headers.
    pub fn metadata(&self) -> &dyn Metadata {
        &*self.metadata
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The time at which the header block was complete.
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// The wall-clock time at which the call was opened; `None` if it is unknown. A filter that
    /// needs it must refuse such a call.
    pub fn wall_time(&self) -> Option<SystemTime> {
        self.wall_time
    }

    /// The verified certificate of the client's connection.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// The time at which the client stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The team of this call.
    ///
    /// # Errors
    /// An `INTERNAL` refusal if no filter has set it. The chain checks
    /// [`Filter::requires`](crate::Filter::requires), so that a filter that declares it never sees
    /// this error.
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

    /// The authenticated caller.
    ///
    /// # Errors
    /// As for [`Call::team`].
    pub fn identity(&self) -> Result<&Rc<Identity>, Refusal> {
        self.attributes.identity.as_ref().ok_or_else(|| unset_attribute(Attribute::Identity))
    }

    /// All attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Sets or clears the mark of a removed route.
    pub fn set_revoked(&mut self, revoked: Option<Rc<Revoked>>) {
        self.attributes.revoked = revoked;
    }

    /// Sets the attributes that are set in `found`, and keeps the others.
    pub fn set_attributes(&mut self, found: Attributes) {
        self.attributes.merge(found);
    }

    /// The attribute of this type, if a filter has set it.
    pub fn get<T: CallAttribute>(&self) -> Option<&T> {
        self.attributes.custom.get()
    }

    /// Sets the attribute of this type.
    pub fn set<T: CallAttribute>(&mut self, value: T) {
        self.attributes.custom.set(value);
    }
}

fn unset_attribute(attribute: Attribute) -> Refusal {
    let name = attribute.name();
    let message = format!(
        "internal error: no filter set the {name} of this call; report this to the operators"
    );
    Refusal::new(Code::Internal, "chain.attribute_unset", message)
}

impl fmt::Debug for Call {
    /// Without metadata: it may contain credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("peer", &self.peer)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// Headers in a list: for tests, and for `sconce explain`.
#[derive(Clone, Debug, Default)]
pub struct StaticMetadata {
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl StaticMetadata {
    /// An `:authority` and no headers.
    pub fn new(authority: impl Into<String>) -> Self {
        Self { authority: authority.into(), headers: Vec::new() }
    }

    /// The same metadata with one header more; its name is converted to lower case.
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
            (Some((_, bytes)), None) => Some(RawValue { bytes, is_huffman_coded: false }),
            (None | Some(_), _) => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes calls at the current time")]
mod tests {
    use super::*;

    fn call() -> Call {
        let metadata =
            Rc::new(StaticMetadata::new("a:1").with("X-Key", "secret").with("x-key", "two"));
        Call::new(Method::Config, metadata, ([127, 0, 0, 1], 1).into(), Instant::now())
    }

    #[test]
    fn an_unset_attribute_is_an_internal_error() {
        let refusal = call().team().unwrap_err();
        assert_eq!((refusal.code, refusal.label), (Code::Internal, "chain.attribute_unset"));
    }

    #[test]
    fn setting_one_attribute_keeps_the_others() {
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
        let mut values = Vec::new();
        call.metadata().for_each_value("x-key", &mut |value| values.push(value.to_vec()));
        assert_eq!(values, [&b"secret"[..], b"two"]);
        assert_eq!(call.metadata().first("x-key").as_deref(), Some(&b"secret"[..]));
    }

    #[test]
    fn debug_output_of_a_call_has_no_metadata() {
        assert!(!format!("{:?}", call()).contains("secret"));
    }
}
